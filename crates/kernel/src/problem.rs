//! The shape in which an error crosses a border of the house.
//!
//! Inside, each operation has its own `thiserror` enum. At the border it becomes a [`Problem`]: a stable code, a
//! [`Kind`] named after the caller's next move, a sentence that says what happened and one that says what to do.

use std::fmt;

/// What the caller can do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is wrong; sending it again unchanged fails again.
    Invalid,
    /// The thing named does not exist.
    NotFound,
    /// Somebody else changed it first, or it exists already: read again, then decide.
    Conflict,
    /// The caller may not do this.
    Forbidden,
    /// Something must be configured before this can work.
    NotConfigured,
    /// This build or this component cannot do it.
    Unsupported,
    /// Too much at once or too large: send less, or later.
    Exhausted,
    /// Out of time; whether it took effect is unknown unless the message says otherwise.
    Timeout,
    /// Try again later; nothing took effect.
    Unavailable,
    /// Our fault.
    Internal,
}

/// An error as the outside sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable, upper-case, never reused for another meaning (`ERR_STATE_STORE_NOT_FOUND`).
    pub code: &'static str,
    /// The caller's next move.
    pub kind: Kind,
    /// What happened, naming the thing it happened to.
    pub message: String,
    /// What to do about it; empty when the message already says it.
    pub advice: String,
}

impl Problem {
    /// A problem without advice.
    #[must_use]
    pub fn new(code: &'static str, kind: Kind, message: impl Into<String>) -> Self {
        Self { code, kind, message: message.into(), advice: String::new() }
    }

    /// The same problem with a remedy.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.advice.is_empty() {
            write!(f, " ({})", self.advice)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}
