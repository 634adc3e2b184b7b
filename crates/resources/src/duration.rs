//! Durations as people write them: `1h2m3.5s`, `PT5S`.

use std::time::Duration;

/// Text that is not a duration, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a duration: {reason}")]
pub struct BadDuration {
    /// What was written.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Reads a duration in Go's form (`1h2m3.5s`, `500ms`, `1us`; units h, m, s, ms, us, ns) or in ISO 8601's (`PT5S`,
/// `P1DT2H`; weeks and days are 7 and 1 times 24 hours; years and months have no fixed length and are refused).
///
/// # Errors
/// [`BadDuration`] for anything else, negative durations included.
pub fn parse(text: &str) -> Result<Duration, BadDuration> {
    Err(BadDuration { text: text.into(), reason: "not read yet" })
}
