//! Before clap sees the line: the name we were started under, and flags with one dash.

use crate::settings::catalogue::CATALOGUE;
use std::{ffi::OsString, path::Path};

/// The name we were started under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// Our own, or any other.
    Outrigger,
    /// The reference's CLI.
    Dapr,
    /// The reference's sidecar.
    Daprd,
}

impl Name {
    /// By the first word of the command line.
    #[must_use]
    pub fn of(program: Option<&OsString>) -> Self {
        match program.and_then(|word| Path::new(word).file_stem()?.to_str()) {
            Some("daprd") => Self::Daprd,
            Some("dapr") => Self::Dapr,
            _ => Self::Outrigger,
        }
    }
}

/// The line as clap reads it. `daprd` becomes `outrigger sidecar`; flags of the runtime written with one dash, as Go
/// programs take them, get their second one. Words after `--` belong to the app and are left alone.
pub(super) fn normalise(name: Name, arguments: Vec<OsString>) -> Vec<OsString> {
    let mut words = arguments.into_iter();
    let mut line: Vec<OsString> = words.next().into_iter().collect();
    if name == Name::Daprd {
        line.push("sidecar".into());
    }
    let mut runtime_flags = name == Name::Daprd;
    for word in words.by_ref() {
        if word == "--" {
            line.push(word);
            break;
        }
        if line.len() == 1 {
            runtime_flags |= word == "sidecar" || word == "daprd" || word == "run";
        }
        line.push(if runtime_flags { double_dash(word) } else { word });
    }
    line.extend(words);
    line
}

fn double_dash(word: OsString) -> OsString {
    let Some(rest) = word.to_str().and_then(|text| text.strip_prefix('-')) else {
        return word;
    };
    let flag = rest.split('=').next().unwrap_or_default();
    let of_catalogue = |flag: &str| {
        CATALOGUE.iter().any(|setting| setting.flag == flag || setting.aliases.contains(&flag))
    };
    let known = of_catalogue(flag) || ["version", "build-info", "wait", "help"].contains(&flag);
    if known { format!("--{rest}").into() } else { word }
}

#[cfg(test)]
mod tests {
    use super::{Name, normalise};
    use std::ffi::OsString;

    fn line(words: &[&str]) -> Vec<String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let name = Name::of(words.first());
        normalise(name, words).into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn the_sidecar_by_its_other_name() {
        assert_eq!(
            line(&[
                "/usr/bin/daprd",
                "-app-id",
                "a",
                "--dapr-http-port=1",
                "-enable-metrics=false"
            ]),
            [
                "/usr/bin/daprd",
                "sidecar",
                "--app-id",
                "a",
                "--dapr-http-port=1",
                "--enable-metrics=false"
            ]
        );
    }

    #[test]
    fn letters_values_and_the_app_are_left_alone() {
        assert_eq!(
            line(&["outrigger", "run", "-a", "x", "-app-port", "-1", "--", "app", "-app-id"]),
            ["outrigger", "run", "-a", "x", "--app-port", "-1", "--", "app", "-app-id"]
        );
        assert_eq!(line(&["outrigger", "invoke", "-config"]), ["outrigger", "invoke", "-config"]);
    }
}
