//! Whether to try again, and when.

use crate::{Backoff, Class, Matching};
use std::time::Duration;

/// Whether to try again, and when.
///
/// The default is the one of the resource format it is configured by: constant, 5 s, endless, any failure. An endless
/// retry still ends at the caller's deadline.
///
/// ```
/// use outrigger_resilience::{Backoff, Class, Matching, Retry};
/// use std::time::Duration;
///
/// let retry = Retry {
///     backoff: Backoff::Constant { delay: Duration::from_secs(1) },
///     max_retries: Some(2),
///     matching: Matching::parse("500-599", "")?,
/// };
/// assert_eq!(retry.next(2, Class::Http(503), 0), Some(Duration::from_secs(1)));
/// assert_eq!(retry.next(3, Class::Http(503), 0), None, "two retries are all there are");
/// assert_eq!(retry.next(1, Class::Http(404), 0), None, "not a status worth a retry");
/// # Ok::<(), outrigger_resilience::MatchingError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// How long to wait before each retry.
    pub backoff: Backoff,
    /// How many retries follow the first attempt at most; `None` for endless.
    pub max_retries: Option<u32>,
    /// Which failures are worth one.
    pub matching: Matching,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            backoff: Backoff::Constant { delay: Duration::from_secs(5) },
            max_retries: None,
            matching: Matching::default(),
        }
    }
}

impl Retry {
    /// The wait before retry number `attempt` (from 1) after an attempt that ended in `class`; `None` when it is to be
    /// the last.
    #[must_use]
    pub fn next(&self, attempt: u32, class: Class, random: u64) -> Option<Duration> {
        let allowed = self.max_retries.is_none_or(|max| attempt <= max);
        (allowed && self.matching.has(class)).then(|| self.backoff.delay(attempt, random))
    }
}
