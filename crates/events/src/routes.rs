//! Routes: which of an app's paths an event goes to.
//!
//! Rules are looked at in order; the first whose condition holds names the path, and where none does the default is
//! taken. A condition that cannot be evaluated (the event lacks the field it asks for) does not hold.
//!
//! Conditions are written in CEL (the Common Expression Language) over the variable `event`, the envelope as a map:
//! `event.type == "order.created" && event.data.amount > 100`. They are compiled once, when somebody subscribes. The
//! crate behind them is known to this file only; what the rest of the house sees is [`Predicate`].

mod compile;

use crate::limits::{RULE_BYTES_MAX, RULE_DEPTH_MAX};
use cel::{Context, Env, Program, objects::Key};
use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
};

/// A condition on an event.
pub trait Predicate: fmt::Debug + Send + Sync {
    /// Whether it holds for `event`.
    fn holds(&self, event: &Event) -> bool;
}

/// An event in the shape that conditions look at; made once per event, however many rules there are.
#[derive(Debug)]
pub struct Event(cel::Value);

impl Event {
    /// The event whose envelope is `envelope`.
    #[must_use]
    pub fn new(envelope: &serde_json::Value) -> Self {
        Self(convert(envelope))
    }
}

/// Why a condition cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Nothing there.
    #[error("the rule is empty")]
    Empty,
    /// Too long.
    #[error("a rule of {bytes} bytes is longer than {max}", max = RULE_BYTES_MAX)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not CEL.
    #[error("the rule `{rule}` is not a CEL expression: {message}")]
    Syntax {
        /// The rule.
        rule: String,
        /// What is wrong, and where.
        message: String,
    },
    /// Nested too deeply to be evaluated safely.
    #[error("the rule `{rule}` is nested deeper than {max}", max = RULE_DEPTH_MAX)]
    TooDeep {
        /// The rule.
        rule: String,
    },
    /// It asks for a variable that is not there.
    #[error("the rule `{rule}` uses `{name}`; the only variable is `event`")]
    UnknownVariable {
        /// The rule.
        rule: String,
        /// The variable.
        name: String,
    },
}

/// Compiles a condition. Takes milliseconds, so it is done once.
///
/// # Errors
/// See [`RuleError`].
pub fn compile(rule: &str) -> Result<Box<dyn Predicate>, RuleError> {
    let rule = rule.trim();
    if rule.is_empty() {
        return Err(RuleError::Empty);
    }
    if rule.len() > RULE_BYTES_MAX {
        return Err(RuleError::TooLong { bytes: rule.len() });
    }
    let program = compile::apart(rule)?;
    Ok(Box::new(Cel { rule: rule.to_owned(), program }))
}

/// The rules of a subscription.
#[derive(Debug, Default)]
pub struct Routes {
    rules: Vec<(Box<dyn Predicate>, String)>,
    default: Option<String>,
}

impl Routes {
    /// The first of `rules` whose condition holds names the path; `default` does where none holds.
    #[must_use]
    pub fn new(rules: Vec<(Box<dyn Predicate>, String)>, default: Option<String>) -> Self {
        Self { rules, default }
    }

    /// Compiles `rules`, each a condition and a path. A rule with an empty condition takes everything that reaches it.
    ///
    /// # Errors
    /// The first [`RuleError`].
    pub fn compile<'a>(
        rules: impl IntoIterator<Item = (&'a str, &'a str)>,
        default: Option<String>,
    ) -> Result<Self, RuleError> {
        let mut compiled = Vec::new();
        for (condition, path) in rules {
            let predicate =
                if condition.trim().is_empty() { Box::new(Always) } else { compile(condition)? };
            compiled.push((predicate, path.to_owned()));
        }
        Ok(Self::new(compiled, default))
    }

    /// Everything to `path`.
    #[must_use]
    pub fn to(path: impl Into<String>) -> Self {
        Self { rules: Vec::new(), default: Some(path.into()) }
    }

    /// Whether [`Routes::pick`] looks at the event at all: where it does not, the envelope need not be parsed.
    #[must_use]
    pub fn depend_on_event(&self) -> bool {
        !self.rules.is_empty()
    }

    /// The path for the event whose envelope is `envelope`; `None` where no rule holds and there is no default.
    #[must_use]
    pub fn pick(&self, envelope: &serde_json::Value) -> Option<&str> {
        if self.depend_on_event() {
            let event = Event::new(envelope);
            if let Some((_, path)) = self.rules.iter().find(|(rule, _)| rule.holds(&event)) {
                return Some(path);
            }
        }
        self.default.as_deref()
    }
}

/// The condition that always holds.
#[derive(Debug)]
struct Always;

impl Predicate for Always {
    fn holds(&self, _: &Event) -> bool {
        true
    }
}

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

struct Cel {
    rule: String,
    program: Program,
}

impl Predicate for Cel {
    fn holds(&self, event: &Event) -> bool {
        let evaluate = || {
            let mut context = Context::with_env(Arc::clone(&ENV));
            context.add_variable_from_value("event", event.0.clone());
            self.program.execute(&context)
        };
        // As for the compiler: a panic for some event must not end the consumer.
        match catch_unwind(AssertUnwindSafe(evaluate)) {
            Ok(Ok(cel::Value::Bool(holds))) => holds,
            Ok(Ok(_)) => {
                tracing::debug!(
                    rule = self.rule,
                    "the rule gave something that is neither true nor false"
                );
                false
            }
            Ok(Err(error)) => {
                tracing::debug!(rule = self.rule, %error, "the rule could not be evaluated");
                false
            }
            Err(_) => {
                tracing::error!(rule = self.rule, "the rule made its evaluation panic");
                false
            }
        }
    }
}

impl fmt::Debug for Cel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cel({})", self.rule)
    }
}

/// JSON as CEL sees it. Whole numbers are integers as long as they fit.
fn convert(json: &serde_json::Value) -> cel::Value {
    match json {
        serde_json::Value::Null => cel::Value::Null,
        serde_json::Value::Bool(bool) => cel::Value::Bool(*bool),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => cel::Value::Int(integer),
            (None, Some(integer)) => cel::Value::UInt(integer),
            (None, None) => cel::Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => cel::Value::String(Arc::new(text.clone())),
        serde_json::Value::Array(items) => {
            cel::Value::List(Arc::new(items.iter().map(convert).collect()))
        }
        serde_json::Value::Object(fields) => {
            let key = |name: &String| Key::String(Arc::new(name.clone()));
            let map: HashMap<Key, cel::Value> =
                fields.iter().map(|(name, value)| (key(name), convert(value))).collect();
            cel::Value::Map(cel::objects::Map { map: Arc::new(map) })
        }
    }
}

#[cfg(test)]
mod tests;
