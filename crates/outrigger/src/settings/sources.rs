//! The two layers that are not flags: a settings file and the environment.

use super::{
    Entry, Layers, Origin,
    catalogue::{CATALOGUE, Setting, Shape},
};
use crate::failure::{Exit, Failure};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Variables as pairs, so that tests need not touch the process's own.
#[derive(Clone, Debug, Default)]
pub struct Environment(Vec<(String, String)>);

impl Environment {
    /// The process's own variables; those that are not UTF-8 are left out.
    #[must_use]
    pub fn of_process() -> Self {
        let readable = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(readable).collect())
    }

    /// These variables and no others.
    #[must_use]
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// All of them.
    pub fn pairs(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.0.iter().cloned()
    }

    /// The value of `name`; empty counts as unset.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

/// Puts the variables of `environment` over `layers`.
///
/// # Errors
/// When a value has the wrong shape, or a variable begins with `OUTRIGGER__` and names no setting.
pub fn read_environment(layers: &mut Layers, environment: &Environment) -> Result<(), Failure> {
    for setting in CATALOGUE {
        let own = setting.variable();
        // The project's own spelling is the strongest, so it comes last.
        for name in setting.env.iter().copied().chain([own.as_str()]) {
            if let Some(value) = environment.get(name) {
                let entry = Entry {
                    values: split(setting, value),
                    origin: Origin::Variable(name.to_owned()),
                };
                layers.set(setting, entry)?;
            }
        }
    }
    let known = |name: &str| CATALOGUE.iter().any(|setting| setting.variable() == name);
    let stray =
        environment.0.iter().find(|(name, _)| name.starts_with("OUTRIGGER__") && !known(name));
    match stray {
        None => Ok(()),
        Some((name, _)) => {
            Err(Failure::new("OUTR-0002", Exit::Usage, format!("{name} names no setting"))
                .help("see `outrigger config` for all of them"))
        }
    }
}

fn split(setting: &Setting, value: &str) -> Vec<String> {
    if setting.shape == Shape::List {
        return value
            .split(',')
            .map(|part| part.trim().to_owned())
            .filter(|part| !part.is_empty())
            .collect();
    }
    vec![value.to_owned()]
}

/// The settings file to read: the one asked for, else the first that exists of `./outrigger.yaml`,
/// `$XDG_CONFIG_HOME/outrigger/outrigger.yaml` and `/etc/outrigger/outrigger.yaml`.
///
/// # Errors
/// When the file asked for cannot be read, or any found one is malformed.
pub fn read_file(
    layers: &mut Layers,
    asked: Option<&Path>,
    environment: &Environment,
) -> Result<Option<PathBuf>, Failure> {
    let Some(path) = asked.map(Path::to_owned).or_else(|| search(environment)) else {
        return Ok(None);
    };
    let failed = |reason: &dyn std::fmt::Display| {
        Failure::new("OUTR-0003", Exit::Usage, "the settings file cannot be used")
            .at(path.display())
            .why(reason)
    };
    let text = std::fs::read_to_string(&path).map_err(|error| failed(&error))?;
    if text.trim().is_empty() {
        return Ok(Some(path));
    }
    let tree: Value = serde_saphyr::from_str(&text).map_err(|error| failed(&error))?;
    let mut flat = Vec::new();
    flatten(&tree, String::new(), &mut flat).map_err(|reason| failed(&reason))?;
    for (key, values) in flat {
        let Some(setting) = CATALOGUE.iter().find(|setting| setting.key == key) else {
            let mut failure =
                Failure::new("OUTR-0002", Exit::Usage, format!("{key} names no setting"))
                    .at(path.display())
                    .help("see `outrigger config` for all of them");
            if let Some(near) = nearest(&key) {
                failure = failure.help(format!("did you mean {near}?"));
            }
            return Err(failure);
        };
        if setting.secret {
            return Err(failed(&format!(
                "{key} is a secret and does not belong into a file; set {}",
                setting.variable()
            )));
        }
        layers.set(setting, Entry { values, origin: Origin::File(path.clone()) })?;
    }
    Ok(Some(path))
}

fn search(environment: &Environment) -> Option<PathBuf> {
    let home = environment.get("HOME").map(|home| Path::new(home).join(".config"));
    let user = environment.get("XDG_CONFIG_HOME").map(PathBuf::from).or(home);
    let candidates = [
        Some(PathBuf::from("outrigger.yaml")),
        user.map(|folder| folder.join("outrigger/outrigger.yaml")),
        Some(PathBuf::from("/etc/outrigger/outrigger.yaml")),
    ];
    candidates.into_iter().flatten().find(|path| path.is_file())
}

fn flatten(tree: &Value, key: String, out: &mut Vec<(String, Vec<String>)>) -> Result<(), String> {
    match tree {
        Value::Null => Ok(()),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            flatten(value, key, out)
        }),
        Value::Array(items) => {
            let items = items
                .iter()
                .map(|item| plain(item).ok_or_else(|| format!("{key} is a list of plain values")));
            out.push((key.clone(), items.collect::<Result<_, _>>()?));
            Ok(())
        }
        value => {
            out.extend(plain(value).map(|text| (key, vec![text])));
            Ok(())
        }
    }
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The known key that shares the most with a misspelt one.
fn nearest(key: &str) -> Option<&'static str> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let wanted = last(key);
    CATALOGUE.iter().map(|setting| setting.key).find(|known| last(known) == wanted)
}

#[cfg(test)]
mod tests {
    use super::{Environment, read_environment, read_file};
    use crate::settings::{Layers, Origin};

    fn from_file(text: &str) -> Result<Layers, crate::failure::Failure> {
        let folder = crate::testing::folder();
        let path = folder.path().join("outrigger.yaml");
        std::fs::write(&path, text).unwrap();
        let mut layers = Layers::default();
        read_file(&mut layers, Some(&path), &Environment::default())?;
        Ok(layers)
    }

    #[test]
    fn nested_keys_and_lists() {
        let layers = from_file("http:\n  port: 3600\nresources:\n  paths: [a, b]\n").unwrap();
        assert_eq!(layers.port("http.port"), Some(3600));
        assert_eq!(layers.list("resources.paths"), ["a", "b"]);
    }

    #[test]
    fn strangers_and_secrets_are_refused() {
        let stranger = from_file("server:\n  port: 3600\n").unwrap_err();
        assert_eq!(stranger.code(), "OUTR-0002");
        assert!(stranger.to_string().contains("did you mean app.port?"), "{stranger}");
        assert_eq!(from_file("api:\n  token: x\n").unwrap_err().code(), "OUTR-0003");
        assert_eq!(from_file("a: [").unwrap_err().code(), "OUTR-0003");
    }

    #[test]
    fn our_own_variable_wins_over_the_shared_one() {
        let mut layers = Layers::default();
        let environment = Environment::of(&[("OUTRIGGER__APP__ID", "ours"), ("APP_ID", "theirs")]);
        read_environment(&mut layers, &environment).unwrap();
        assert_eq!(layers.text("app.id"), Some("ours"));
        let origin = layers.entry("app.id").unwrap().origin.clone();
        assert_eq!(origin, Origin::Variable("OUTRIGGER__APP__ID".into()));
        let stray = Environment::of(&[("OUTRIGGER__APP__IDD", "x")]);
        assert_eq!(read_environment(&mut layers, &stray).unwrap_err().code(), "OUTR-0002");
    }
}
