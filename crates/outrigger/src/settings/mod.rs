//! Settings: data only, in four layers, each value with its origin.
//!
//! `default < outrigger.yaml < OUTRIGGER__SECTION__NAME < flag`. A [`Layers`] holds raw text by key and remembers who set
//! it, so that an error can name the flag, the variable or the file, and `outrigger config` can show where each value
//! comes from. [`app::AppSettings`] and [`node::NodeSettings`] are the typed views that the rest of the crate uses.
//!
//! The invariant: no socket, clock or client lives in here; two equal settings make two equal runtimes.

pub mod app;
pub mod catalogue;
pub mod data_dir;
pub mod flags;
pub mod node;
mod scalar;
mod sources;

use crate::failure::{Exit, Failure};
use catalogue::{CATALOGUE, Setting, Shape};
use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

pub use sources::{Environment, read_environment, read_file};

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: built in.
    Default,
    /// A settings file.
    File(PathBuf),
    /// A variable.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
    /// A multi-app file; the text names the entry.
    RunFile(String),
    /// Decided at start, for the reason given (`3500 is taken`).
    Chosen(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
            Self::RunFile(entry) => f.write_str(entry),
            Self::Chosen(reason) => f.write_str(reason),
        }
    }
}

/// A raw value and who set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value; more than one only for lists.
    pub values: Vec<String>,
    /// Who set it.
    pub origin: Origin,
}

/// Raw values by key, stronger layers over weaker ones.
#[derive(Clone, Debug)]
pub struct Layers(BTreeMap<&'static str, Entry>);

impl Default for Layers {
    fn default() -> Self {
        let defaults = CATALOGUE.iter().filter_map(|setting| {
            let values = vec![setting.default?.to_owned()];
            Some((setting.key, Entry { values, origin: Origin::Default }))
        });
        Self(defaults.collect())
    }
}

impl Layers {
    /// Sets `setting`, over whatever was there, after checking the shape of the values.
    ///
    /// # Errors
    /// When a value does not have the setting's shape; the failure names the origin.
    pub fn set(&mut self, setting: &'static Setting, entry: Entry) -> Result<(), Failure> {
        for value in &entry.values {
            scalar::check(setting.shape, value)
                .map_err(|reason| wrong(setting, value, &entry.origin, &reason))?;
        }
        self.0.insert(setting.key, entry);
        Ok(())
    }

    /// Sets a single value by key.
    ///
    /// # Errors
    /// As [`Layers::set`].
    pub fn put(
        &mut self,
        key: &str,
        value: impl Into<String>,
        origin: Origin,
    ) -> Result<(), Failure> {
        let setting = row(key);
        self.set(setting, Entry { values: vec![value.into()], origin })
    }

    /// Sets a list by key.
    ///
    /// # Errors
    /// As [`Layers::set`].
    pub fn put_list(
        &mut self,
        key: &str,
        values: Vec<String>,
        origin: Origin,
    ) -> Result<(), Failure> {
        self.set(row(key), Entry { values, origin })
    }

    /// The entry of `key`, if anybody set it.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.0.get(key)
    }

    /// Whether somebody set `key` on purpose.
    #[must_use]
    pub fn is_set(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|entry| entry.origin != Origin::Default)
    }

    /// Settings that somebody set and that have no effect in this build.
    #[must_use]
    pub fn without_effect(&self) -> Vec<(&'static Setting, &Entry)> {
        let rows = CATALOGUE.iter().filter(|setting| setting.inert);
        rows.filter_map(|setting| Some((setting, self.0.get(setting.key)?))).collect()
    }

    /// The text of `key`; empty counts as unset.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        let last = self.0.get(key)?.values.last()?;
        (!last.is_empty()).then_some(last.as_str())
    }

    /// The values of a list.
    #[must_use]
    pub fn list(&self, key: &str) -> Vec<String> {
        self.0.get(key).map(|entry| entry.values.clone()).unwrap_or_default()
    }

    /// The switch `key`; unset is off.
    #[must_use]
    pub fn switch(&self, key: &str) -> bool {
        self.text(key).and_then(|text| scalar::switch(text).ok()).unwrap_or_default()
    }

    /// The port `key`; unset, zero and negative are `None`.
    #[must_use]
    pub fn port(&self, key: &str) -> Option<u16> {
        let number = scalar::number(self.text(key)?).ok()?;
        u16::try_from(number).ok().filter(|port| *port != 0)
    }

    /// The number `key`.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<i64> {
        scalar::number(self.text(key)?).ok()
    }

    /// The size `key` in bytes.
    #[must_use]
    pub fn bytes(&self, key: &str) -> Option<u64> {
        scalar::bytes(self.text(key)?).ok()
    }

    /// The duration `key`.
    #[must_use]
    pub fn duration(&self, key: &str) -> Option<Duration> {
        let unit = if row(key).shape == Shape::Millis { scalar::MILLI } else { scalar::SECOND };
        scalar::duration(self.text(key)?, unit).ok()
    }

    /// The origin of `key`, for messages.
    #[must_use]
    pub fn origin(&self, key: &str) -> String {
        self.0.get(key).map_or_else(|| format!("setting {key}"), |entry| entry.origin.to_string())
    }
}

/// The row of a key that the code itself names.
fn row(key: &str) -> &'static Setting {
    catalogue::find(key).unwrap_or_else(|| {
        unreachable!("no setting {key}: the catalogue has it, or the code is wrong")
    })
}

fn wrong(setting: &Setting, value: &str, origin: &Origin, reason: &str) -> Failure {
    let shown = if setting.secret { "(hidden)" } else { value };
    Failure::new("OUTR-0001", Exit::Usage, format!("{} cannot be {shown:?}: {reason}", setting.key))
        .at(origin)
        .help(format!("--{}: {}", setting.flag, setting.help))
}

#[cfg(test)]
mod tests {
    use super::{CATALOGUE, Entry, Layers, Origin, catalogue};
    use std::time::Duration;

    #[test]
    fn defaults_have_their_own_shape() {
        let mut layers = Layers::default();
        for setting in CATALOGUE {
            if let Some(default) = setting.default {
                let entry = Entry { values: vec![default.to_owned()], origin: Origin::Default };
                layers.set(setting, entry).unwrap();
            }
        }
        assert_eq!(layers.port("http.port"), Some(3500));
        assert_eq!(layers.duration("shutdown.grace"), Some(Duration::from_secs(5)));
        assert_eq!(layers.duration("app.health.timeout"), Some(Duration::from_millis(500)));
        assert_eq!(layers.bytes("limits.body-size"), Some(4 << 20));
        assert_eq!(layers.number("app.max-concurrency"), Some(-1));
    }

    #[test]
    fn a_wrong_value_names_its_origin() {
        let mut layers = Layers::default();
        let failure =
            layers.put("http.port", "35x", Origin::Flag("dapr-http-port".into())).unwrap_err();
        let text = failure.to_string();
        assert!(text.contains("flag --dapr-http-port") && text.contains("35x"), "{text}");
        assert_eq!(layers.port("http.port"), Some(3500));
    }

    #[test]
    fn a_wrong_secret_is_not_shown() {
        let setting = catalogue::find("api.token").unwrap();
        let failure = super::wrong(setting, "s3cret", &Origin::Default, "no");
        assert!(!failure.to_string().contains("s3cret"));
    }
}
