//! What a decision says in the headers of a response: `RateLimit` and `RateLimit-Policy` of the IETF's draft "RateLimit
//! header fields for HTTP", and `Retry-After` in whole seconds.
//!
//! ```text
//! RateLimit-Policy: "per-user";q=100;w=60        100 calls in 60 seconds
//! RateLimit: "per-user";r=37;t=23                37 are left; 23 seconds until all are there again
//! ```
//!
//! Seconds are rounded up: who waits as long as it says is not turned away again.

use super::{Decision, Quota};
use std::{fmt, time::Duration};

/// The value of `RateLimit`.
#[derive(Clone, Copy, Debug)]
pub struct RateLimitField<'a> {
    name: &'a str,
    decision: Decision,
}

/// The value of `RateLimit-Policy`.
#[derive(Clone, Copy, Debug)]
pub struct RateLimitPolicyField<'a> {
    name: &'a str,
    quota: Quota,
}

impl Decision {
    /// The value of the header `RateLimit`, for a limit of this name.
    ///
    /// ```
    /// use outrigger_kernel::Mono;
    /// use outrigger_resilience::{Algorithm, Quota, RateLimiter};
    /// use std::time::Duration;
    /// let quota = Quota::new(100, Duration::from_secs(60));
    /// let decision = RateLimiter::new(Algorithm::Gcra, quota).decide(1, Mono(0));
    /// assert_eq!(decision.field("per-user").to_string(), r#""per-user";r=99;t=1"#);
    /// assert_eq!(quota.field("per-user").to_string(), r#""per-user";q=100;w=60"#);
    /// ```
    #[must_use]
    pub fn field<'a>(&self, name: &'a str) -> RateLimitField<'a> {
        RateLimitField { name, decision: *self }
    }

    /// The value of the header `Retry-After`: whole seconds, at least one. `None` if the call is allowed, or can never be.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        self.retry_after.map(|wait| whole_seconds(wait).max(1))
    }
}

impl Quota {
    /// The value of the header `RateLimit-Policy`, for a limit of this name.
    #[must_use]
    pub fn field(self, name: &str) -> RateLimitPolicyField<'_> {
        RateLimitPolicyField { name, quota: self }
    }
}

impl fmt::Display for RateLimitField<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        quoted(f, self.name)?;
        let Decision { reset, .. } = self.decision;
        write!(f, ";r={};t={}", self.decision.remaining(), whole_seconds(reset))
    }
}

impl fmt::Display for RateLimitPolicyField<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        quoted(f, self.name)?;
        write!(f, ";q={};w={}", self.quota.calls(), whole_seconds(self.quota.per()))
    }
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// A string of structured fields: printable ASCII, with quote and backslash escaped. What does not fit is left out, so
/// that a name from elsewhere cannot end the header.
fn quoted(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    f.write_str("\"")?;
    for character in name.chars().filter(|character| matches!(character, ' '..='~')) {
        if matches!(character, '"' | '\\') {
            f.write_str("\\")?;
        }
        write!(f, "{character}")?;
    }
    f.write_str("\"")
}
