//! The catalogue as flags of a command: one clap argument per row.

use super::{
    Entry, Environment, Layers, Origin,
    catalogue::{CATALOGUE, Setting, Shape},
    read_environment, read_file,
};
use crate::failure::Failure;
use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, error::Result as ClapResult,
    parser::ValueSource,
};
use std::path::{Path, PathBuf};

/// What the flags said.
#[derive(Clone, Debug, Default)]
pub struct Flags(Vec<(&'static Setting, Vec<String>)>);

impl Flags {
    /// The layers under and including these flags, and the settings file that took part.
    ///
    /// # Errors
    /// When a value has the wrong shape or a file cannot be used.
    pub fn layers(
        &self,
        file: Option<&Path>,
        environment: &Environment,
    ) -> Result<(Layers, Option<PathBuf>), Failure> {
        let mut layers = Layers::default();
        let file = read_file(&mut layers, file, environment)?;
        read_environment(&mut layers, environment)?;
        for (setting, values) in &self.0 {
            let origin = Origin::Flag(setting.flag.to_owned());
            layers.set(setting, Entry { values: values.clone(), origin })?;
        }
        Ok((layers, file))
    }

    /// Flags that are set, by name; what `run -f` checks for those that belong to one app.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().map(|(setting, _)| setting.flag)
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        CATALOGUE.iter().fold(command, |command, setting| command.arg(argument(setting)))
    }
    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> ClapResult<Self> {
        let given = CATALOGUE.iter().filter_map(|setting| {
            let on_line = matches.value_source(setting.key) == Some(ValueSource::CommandLine);
            let values = on_line.then(|| matches.get_many::<String>(setting.key))??;
            Some((setting, values.cloned().collect()))
        });
        Ok(Self(given.collect()))
    }
    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> ClapResult<()> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn argument(setting: &'static Setting) -> Arg {
    let mut help = setting.help.to_owned();
    if let Some(default) = setting.default {
        help = format!("{help} [default: {default}]");
    }
    let argument = Arg::new(setting.key)
        .long(setting.flag)
        .visible_aliases(setting.aliases.iter().copied())
        .help(help)
        .hide(setting.inert)
        .value_name(value_name(setting.shape))
        .allow_hyphen_values(matches!(setting.shape, Shape::Port | Shape::Number))
        .action(ArgAction::Append);
    let argument = match setting.short {
        Some(letter) => argument.short(letter),
        None => argument,
    };
    match setting.shape {
        // As Go's flags: bare, or `=value`; a separate word is not its value.
        Shape::Switch => {
            argument.num_args(0..=1).require_equals(true).default_missing_value("true")
        }
        Shape::List => argument.value_delimiter(','),
        _ => argument,
    }
}

fn value_name(shape: Shape) -> &'static str {
    match shape {
        Shape::Text => "TEXT",
        Shape::Path | Shape::List => "PATH",
        Shape::Switch => "BOOL",
        Shape::Port => "PORT",
        Shape::Number => "N",
        Shape::Seconds | Shape::Millis => "DURATION",
        Shape::Bytes => "SIZE",
        Shape::OneOf(_) => "WORD",
    }
}

#[cfg(test)]
mod tests {
    use super::{Environment, Flags};
    use clap::{Args, Command, FromArgMatches};

    fn parse(line: &[&str]) -> Flags {
        let command = Flags::augment_args(Command::new("test"));
        Flags::from_arg_matches(&command.try_get_matches_from(line).unwrap()).unwrap()
    }

    #[test]
    fn flags_win_over_variables() {
        let flags = parse(&["test", "--app-id", "flagged", "-d", "a,b", "--resources-path=c"]);
        let environment = Environment::of(&[("APP_ID", "variable"), ("HOME", "/nonexistent")]);
        let (layers, _) = flags.layers(None, &environment).unwrap();
        assert_eq!(layers.text("app.id"), Some("flagged"));
        assert_eq!(layers.list("resources.paths"), ["a", "b", "c"]);
    }

    #[test]
    fn switches_as_go_reads_them() {
        let read = |line: &[&str]| {
            let (layers, _) = parse(line).layers(None, &Environment::default()).unwrap();
            layers.switch("metrics.enabled")
        };
        assert!(read(&["test"]));
        assert!(read(&["test", "--enable-metrics"]));
        assert!(!read(&["test", "--enable-metrics=false"]));
    }

    #[test]
    fn negative_numbers_are_values() {
        let flags = parse(&["test", "--app-max-concurrency", "-1", "--metrics-port", "-1"]);
        let (layers, _) = flags.layers(None, &Environment::default()).unwrap();
        assert_eq!(layers.port("metrics.port"), None);
        assert_eq!(layers.number("app.max-concurrency"), Some(-1));
    }
}
