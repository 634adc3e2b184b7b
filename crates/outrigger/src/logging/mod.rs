//! Logs: one event per unit of work, as text for people or JSON lines for machines.
//!
//! The keys are the ones that collectors of the reference already know: `time`, `level`, `msg`, `scope`, `app_id`,
//! `instance`, `type`, `ver`; `trace_id`, `span_id` and `code` join where an event has them. Three shapes of the same
//! event: JSON lines, logfmt, and a short coloured line for `run`, where app output scrolls past beside it.
//!
//! Not here: the output of apps (see [`crate::supervise`]) and the answers of commands, which are data on stdout.

mod format;

use crate::failure::{Exit, Failure};
use format::Formatter;
use outrigger_kernel::World;
use std::{io::IsTerminal, sync::Arc};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// Events of this target are for the person at the terminal: `run` shows them whatever the level.
pub const NOTICE: &str = "outrigger::notice";

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One JSON object per line.
    Json,
    /// `key=value` pairs, `time` first.
    Logfmt,
    /// Short and, on a terminal, coloured.
    Short,
}

/// Where log lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Standard output: what a sidecar started by a tool writes to.
    Stdout,
    /// Standard error: what everything else writes to.
    Stderr,
}

/// What to log and how. Data only.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// `debug`, `info`, `warn`, `error`, `fatal`, or a filter such as `info,outrigger_events=debug`.
    pub level: String,
    /// A filter from `OUTRIGGER_LOG`, which wins over `level`.
    pub filter: Option<String>,
    /// The shape of a line.
    pub shape: Shape,
    /// Where lines go.
    pub sink: Sink,
    /// The app id for events that name none; empty when the process serves several.
    pub app_id: String,
    /// The instance, usually the host name.
    pub instance: String,
}

/// Chooses the shape from the settings `log.format` and `log.as-json`.
///
/// # Errors
/// When `format` is none of `auto`, `text`, `json`.
pub fn shape(format: &str, as_json: bool, text: Shape, sink: Sink) -> Result<Shape, Failure> {
    if as_json {
        return Ok(Shape::Json);
    }
    match format {
        "json" => Ok(Shape::Json),
        "text" => Ok(text),
        "auto" if text == Shape::Short || is_terminal(sink) => Ok(text),
        "auto" => Ok(Shape::Json),
        other => {
            Err(Failure::new("OUTR-0001", Exit::Usage, format!("{other:?} is not a log format"))
                .help("use --log-format auto, text or json"))
        }
    }
}

fn is_terminal(sink: Sink) -> bool {
    match sink {
        Sink::Stdout => std::io::stdout().is_terminal(),
        Sink::Stderr => std::io::stderr().is_terminal(),
    }
}

/// Whether to colour what goes to `sink`: only a terminal, and never against the reader's wish.
#[must_use]
pub fn coloured(sink: Sink) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !set("NO_COLOR") && !dumb && (is_terminal(sink) || set("CLICOLOR_FORCE"))
}

/// Installs the logger for the whole process.
///
/// # Errors
/// When the level or filter cannot be understood.
pub fn install(settings: &LogSettings, world: Arc<dyn World>) -> Result<(), Failure> {
    let filter = settings.filter.clone().unwrap_or_else(|| directives(&settings.level));
    let filter = EnvFilter::try_new(&filter).map_err(|error| {
        Failure::new("OUTR-0001", Exit::Usage, format!("{filter:?} is not a log filter"))
            .why(error)
            .help("use a level (debug, info, warn, error) or directives such as info,outrigger_events=debug")
    })?;
    let formatter = Formatter::new(settings, coloured(settings.sink), world);
    let layer = tracing_subscriber::fmt::layer().event_format(formatter);
    let layer = match settings.sink {
        Sink::Stdout => layer.with_writer(std::io::stdout).boxed(),
        Sink::Stderr => layer.with_writer(std::io::stderr).boxed(),
    };
    // A second install happens only in tests that run several nodes in one process; the first logger serves them all.
    drop(tracing_subscriber::registry().with(layer.with_filter(filter)).try_init());
    Ok(())
}

/// A level as a filter: our crates at that level, libraries no chattier than `warn`.
fn directives(level: &str) -> String {
    let level = match level {
        "fatal" => "error",
        "warning" => "warn",
        other => other,
    };
    if level.contains([',', '=']) || matches!(level, "off" | "error" | "warn") {
        return format!("{level},{NOTICE}=info");
    }
    let libraries = if level == "trace" { "info" } else { "warn" };
    let ours = [
        "outrigger",
        "outrigger_api",
        "outrigger_calls",
        "outrigger_engine_local",
        "outrigger_events",
        "outrigger_keyspace",
        "outrigger_resilience",
        "outrigger_resources",
        "outrigger_state",
        "dapr",
    ];
    ours.iter().fold(libraries.to_owned(), |all, name| format!("{all},{name}={level}"))
}

#[cfg(test)]
mod tests {
    use super::{Shape, Sink, directives, shape};
    use tracing_subscriber::EnvFilter;

    #[test]
    fn levels_become_filters() {
        for level in
            ["trace", "debug", "info", "warn", "warning", "error", "fatal", "info,h2=debug"]
        {
            assert!(EnvFilter::try_new(directives(level)).is_ok(), "{level}");
        }
        assert!(EnvFilter::try_new(directives("loud")).is_err());
    }

    #[test]
    fn the_old_flag_wins_and_nonsense_is_refused() {
        assert_eq!(shape("text", true, Shape::Logfmt, Sink::Stdout).unwrap(), Shape::Json);
        assert_eq!(shape("text", false, Shape::Logfmt, Sink::Stdout).unwrap(), Shape::Logfmt);
        assert_eq!(shape("auto", false, Shape::Short, Sink::Stderr).unwrap(), Shape::Short);
        assert!(shape("xml", false, Shape::Logfmt, Sink::Stdout).is_err());
    }
}
