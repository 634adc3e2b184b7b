//! The error of a layer that can refuse a call: its own refusal, or what the service behind it said.

use std::{error::Error, fmt};

/// A refusal by a layer, or an error from behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied<R, E> {
    /// The layer did not let the call through; the service never saw it.
    Refused(R),
    /// The call was made and failed.
    Failed(E),
}

impl<R: fmt::Display, E: fmt::Display> fmt::Display for Denied<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl<R: Error + 'static, E: Error + 'static> Error for Denied<R, E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Refused(refusal) => refusal.source(),
            Self::Failed(error) => error.source(),
        }
    }
}
