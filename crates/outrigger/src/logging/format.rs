//! One event in, one line out.

use super::{LogSettings, Shape};
use outrigger_kernel::{Wall, World};
use std::{fmt, sync::Arc};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Writes events in the shape the settings ask for.
pub(super) struct Formatter {
    shape: Shape,
    coloured: bool,
    app_id: String,
    instance: String,
    world: Arc<dyn World>,
}

impl Formatter {
    pub(super) fn new(settings: &LogSettings, coloured: bool, world: Arc<dyn World>) -> Self {
        Self {
            shape: settings.shape,
            coloured,
            app_id: settings.app_id.clone(),
            instance: settings.instance.clone(),
            world,
        }
    }

    fn line(
        &self,
        level: Level,
        target: &str,
        fields: Fields,
        out: &mut impl fmt::Write,
    ) -> fmt::Result {
        let Fields { message, mut rest } = fields;
        let scope = rest.take("scope").unwrap_or_else(|| scope(target).into());
        let app_id = rest.take("app_id").unwrap_or_else(|| self.app_id.clone().into());
        let time = rfc3339(self.world.wall());
        let level_name = level_name(level);
        match self.shape {
            Shape::Short => return self.short(level, &message, &app_id, rest, out),
            Shape::Json => {
                let mut line = serde_json::Map::new();
                line.insert("time".into(), time.into());
                line.insert("level".into(), level_name.into());
                line.insert("msg".into(), message.into());
                line.insert("scope".into(), scope);
                line.insert("app_id".into(), app_id);
                line.insert("instance".into(), self.instance.clone().into());
                line.insert("type".into(), "log".into());
                line.insert("ver".into(), env!("CARGO_PKG_VERSION").into());
                for (name, value) in rest.0 {
                    line.insert(name.into(), value);
                }
                let line = serde_json::to_string(&line).map_err(|_| fmt::Error)?;
                out.write_str(&line)?;
            }
            Shape::Logfmt => {
                write!(out, "time={} level={level_name} msg={}", quoted(&time), quoted(&message))?;
                pair(out, "app_id", &app_id)?;
                pair(out, "instance", &self.instance.clone().into())?;
                pair(out, "scope", &scope)?;
                out.write_str(" type=log ver=")?;
                out.write_str(env!("CARGO_PKG_VERSION"))?;
                for (name, value) in &rest.0 {
                    pair(out, name, value)?;
                }
            }
        }
        out.write_char('\n')
    }

    fn short(
        &self,
        level: Level,
        message: &str,
        app_id: &serde_json::Value,
        rest: Pairs,
        out: &mut impl fmt::Write,
    ) -> fmt::Result {
        let name = level_name(level);
        match (self.coloured, colour(level)) {
            (true, Some(colour)) => write!(out, "  \u{1b}[{colour}m{name:<5}\u{1b}[0m {message}")?,
            _ if level == Level::INFO => write!(out, "  {message}")?,
            _ => write!(out, "  {name:<5} {message}")?,
        }
        if app_id.as_str().is_some_and(|id| !id.is_empty() && id != self.app_id) {
            pair(out, "app_id", app_id)?;
        }
        for (name, value) in &rest.0 {
            pair(out, name, value)?;
        }
        out.write_char('\n')
    }
}

impl<S, N> FormatEvent<S, N> for Formatter
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        self.line(*metadata.level(), metadata.target(), fields, &mut writer)
    }
}

#[derive(Default)]
struct Pairs(Vec<(&'static str, serde_json::Value)>);

impl Pairs {
    fn take(&mut self, name: &str) -> Option<serde_json::Value> {
        let at = self.0.iter().position(|(key, _)| *key == name)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// The fields of an event; the message apart.
#[derive(Default)]
struct Fields {
    message: String,
    rest: Pairs,
}

impl Fields {
    fn keep(&mut self, field: &Field, value: serde_json::Value) {
        if field.name() == "message" {
            self.message = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        } else {
            self.rest.0.push((field.name(), value));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, value.into());
    }
}

/// `outrigger_events::deliver` is the scope `events.deliver`.
fn scope(target: &str) -> String {
    target.strip_prefix("outrigger_").unwrap_or(target).replace("::", ".")
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn colour(level: Level) -> Option<u8> {
    match level {
        Level::ERROR => Some(31),
        Level::WARN => Some(33),
        Level::DEBUG | Level::TRACE => Some(2),
        Level::INFO => None,
    }
}

fn pair(out: &mut impl fmt::Write, name: &str, value: &serde_json::Value) -> fmt::Result {
    match value {
        serde_json::Value::String(text) => write!(out, " {name}={}", quoted(text)),
        other => write!(out, " {name}={other}"),
    }
}

/// Quotes what a logfmt reader could not read bare.
fn quoted(text: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b"-._/@^+".contains(&b);
    if !text.is_empty() && text.bytes().all(bare) { text.to_owned() } else { format!("{text:?}") }
}

fn rfc3339(wall: Wall) -> String {
    let ms = i64::try_from(wall.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| wall.0.to_string(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::{Fields, Formatter, Pairs, Shape};
    use outrigger_sim::SimWorld;
    use tracing::Level;

    fn line(shape: Shape, message: &str, rest: Vec<(&'static str, serde_json::Value)>) -> String {
        let formatter = Formatter {
            shape,
            coloured: false,
            app_id: "orders".into(),
            instance: "host".into(),
            world: SimWorld::new(1),
        };
        let fields = Fields { message: message.into(), rest: Pairs(rest) };
        let mut out = String::new();
        formatter.line(Level::INFO, "outrigger_events::deliver", fields, &mut out).unwrap();
        out
    }

    #[tokio::test(start_paused = true)]
    async fn one_event_in_three_shapes() {
        let fields = || vec![("trace_id", "0af7".into()), ("count", 3.into())];
        assert_eq!(
            line(Shape::Json, "say \"hi\"", fields()),
            r#"{"app_id":"orders","count":3,"instance":"host","level":"info","msg":"say \"hi\"","scope":"events.deliver","time":"2026-01-01T00:00:00.000Z","trace_id":"0af7","type":"log","ver":"0.1.0"}"#
                .to_owned() + "\n"
        );
        assert_eq!(
            line(Shape::Logfmt, "say \"hi\"", fields()),
            "time=\"2026-01-01T00:00:00.000Z\" level=info msg=\"say \\\"hi\\\"\" app_id=orders instance=host \
             scope=events.deliver type=log ver=0.1.0 trace_id=0af7 count=3\n"
        );
        assert_eq!(line(Shape::Short, "hello", Vec::new()), "  hello\n");
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_may_name_its_app_and_scope() {
        let out = line(
            Shape::Logfmt,
            "m",
            vec![("app_id", "payments".into()), ("scope", "dapr.runtime".into())],
        );
        assert!(out.contains("app_id=payments") && out.contains("scope=dapr.runtime"), "{out}");
    }
}
