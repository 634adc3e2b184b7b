//! The context in headers.

use super::{CallContext, Idempotency, Incoming, header};
use crate::{Criticality, Pushback, Rank};
use outrigger_kernel::{Deadline, Mono, Wall};
use std::{
    fmt,
    time::{Duration, UNIX_EPOCH},
};

/// The longest timeout that is believed: a day. A longer one means "none".
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl CallContext {
    /// Reads the context of a call that came in at `now`. Whatever is not understood counts as not there.
    pub fn read<'a>(
        incoming: &Incoming<'_>,
        header: impl Fn(&str) -> Option<&'a str>,
        now: Mono,
    ) -> Self {
        let left = [
            header(header::GRPC_TIMEOUT).and_then(parse_grpc_timeout),
            header(header::TIMEOUT_MS).and_then(parse_timeout_ms),
            header(header::ENVOY_TIMEOUT_MS).and_then(parse_timeout_ms),
            header(header::REQUEST_TIMEOUT).and_then(parse_request_timeout),
        ];
        let left = left.into_iter().flatten().fold(incoming.limit, Duration::min);
        let says = |name| header(name).map(str::trim) == Some("1");
        let number = |name| header(name).and_then(|text| text.trim().parse::<u32>().ok());
        let attempt = number(header::ATTEMPT)
            .or_else(|| number(header::ENVOY_ATTEMPT))
            .or_else(|| number(header::GRPC_ATTEMPTS).map(|before| before.saturating_add(1)));
        let criticality =
            header(header::CRITICALITY).and_then(|word| Criticality::parse(word.trim()));
        let usual = Criticality::default();
        let cohort = number(header::COHORT).and_then(|cohort| u8::try_from(cohort).ok());
        Self {
            attempt: attempt.unwrap_or(1).max(1),
            criticality: match criticality {
                Some(class) if incoming.trusted => class,
                Some(class) => class.min(usual),
                None => usual,
            },
            caller: header(header::TRACE).map_or(0, trace_hash),
            cohort: cohort.filter(|cohort| *cohort < Rank::COHORTS),
            idempotency: if header(header::IDEMPOTENCY_KEY).is_some_and(|key| !key.is_empty()) {
                Idempotency::Key
            } else if says(header::IDEMPOTENT) {
                Idempotency::Declared
            } else {
                Idempotency::of_method(incoming.method)
            },
            hedge: says(header::HEDGE),
            ..Self::until(Deadline(now.plus(left)))
        }
    }
}

/// What the calls of one trace have in common: version, trace, span and flags, of which the second part; 0 for none.
fn trace_hash(header: &str) -> u64 {
    let trace = header.trim().split('-').nth(1).filter(|trace| trace.len() == 32);
    trace.map_or(0, |trace| crate::shard::hash(0, trace.as_bytes()))
}

impl Pushback {
    /// Reads what a callee says on trying again, at `wall`: `Retry-After` may be a date. Of several words the one that asks
    /// for less holds.
    ///
    /// ```
    /// use outrigger_kernel::Wall;
    /// use outrigger_resilience::Pushback;
    /// use std::time::Duration;
    /// let after = |seconds| move |name: &str| (name == "retry-after").then_some(seconds);
    /// assert_eq!(Pushback::read(after("3"), Wall(0)), Pushback::After(Duration::from_secs(3)));
    /// assert_eq!(Pushback::read(|name| (name == "outrigger-retry").then_some("no"), Wall(0)), Pushback::No);
    /// assert_eq!(Pushback::read(|_| None, Wall(0)), Pushback::None);
    /// ```
    pub fn read<'a>(header: impl Fn(&str) -> Option<&'a str>, wall: Wall) -> Self {
        let own = match header(header::RETRY).map(str::trim) {
            Some("no") => Self::No,
            Some("elsewhere") => Self::Elsewhere,
            Some(text) => match text.strip_prefix("after=").and_then(parse_timeout_ms) {
                Some(wait) => Self::After(wait),
                None => Self::None,
            },
            None => Self::None,
        };
        let grpc = match header(header::GRPC_PUSHBACK).map(str::trim) {
            // What cannot be read means "do not", by the gRPC specification of retries.
            Some(text) => parse_timeout_ms(text).map_or(Self::No, Self::After),
            None => Self::None,
        };
        let later = |text: &str| seconds(text).or_else(|| until_date(text, wall));
        let http = header(header::RETRY_AFTER).and_then(later).map_or(Self::None, Self::After);
        own.stricter(grpc).stricter(http)
    }

    /// Hands the header that says this to a caller to `set`, if there is something to say.
    pub fn print(self, mut set: impl FnMut(&'static str, fmt::Arguments<'_>)) {
        match self {
            Self::None => {}
            Self::No => set(header::RETRY, format_args!("no")),
            Self::Elsewhere => set(header::RETRY, format_args!("elsewhere")),
            Self::After(wait) => {
                set(header::RETRY, format_args!("after={}", wait.as_millis()));
                // For everybody else; a second early would be too early.
                let seconds = wait.as_millis().div_ceil(1_000);
                set(header::RETRY_AFTER, format_args!("{seconds}"));
            }
        }
    }

    fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::After(one), Self::After(two)) => Self::After(one.max(two)),
            (Self::None, other) => other,
            (own, Self::None | Self::Elsewhere) => own,
            (Self::Elsewhere, after @ Self::After(_)) => after,
        }
    }
}

/// Reads a `grpc-timeout`: up to eight digits and a unit of `H`, `M`, `S`, `m`, `u`, `n`.
///
/// ```
/// use outrigger_resilience::parse_grpc_timeout;
/// use std::time::Duration;
/// assert_eq!(parse_grpc_timeout("1500m"), Some(Duration::from_millis(1500)));
/// assert_eq!(parse_grpc_timeout("123456789m"), None, "nine digits");
/// ```
#[must_use]
pub fn parse_grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let amount = digits_only(digits)?;
    let left = match unit {
        "H" => Duration::from_secs(amount * 3_600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    };
    Some(left.min(TIMEOUT_MAX))
}

/// Reads a timeout in milliseconds: digits only.
#[must_use]
pub fn parse_timeout_ms(text: &str) -> Option<Duration> {
    Some(Duration::from_millis(digits_only(text.trim())?).min(TIMEOUT_MAX))
}

/// Reads `x-request-timeout`, for which there is no standard: seconds, or a number with `ms` or `s`.
#[must_use]
pub fn parse_request_timeout(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Some(ms) = text.strip_suffix("ms") {
        return parse_timeout_ms(ms);
    }
    seconds(text.strip_suffix('s').unwrap_or(text))
}

fn until_date(text: &str, wall: Wall) -> Option<Duration> {
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    let ms = date.duration_since(UNIX_EPOCH).ok()?.as_millis();
    let wait = Wall(u64::try_from(ms).ok()?).since(wall);
    Some(wait.min(TIMEOUT_MAX))
}

fn seconds(text: &str) -> Option<Duration> {
    Some(Duration::from_secs(digits_only(text.trim())?).min(TIMEOUT_MAX))
}

fn digits_only(text: &str) -> Option<u64> {
    // `parse` alone would take a sign as well.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A duration as `grpc-timeout` says it, without an allocation: rounded down, so a callee never has more than its caller.
///
/// ```
/// use outrigger_resilience::GrpcTimeout;
/// use std::time::Duration;
/// assert_eq!(GrpcTimeout::new(Duration::from_millis(1500)).as_str(), "1500000u");
/// assert_eq!(GrpcTimeout::new(Duration::from_secs(3600)).as_str(), "3600000m");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcTimeout {
    text: [u8; 9],
    length: u8,
}

impl GrpcTimeout {
    /// The finest notation that holds it.
    #[must_use]
    pub fn new(left: Duration) -> Self {
        let fits = |amount: u128| u32::try_from(amount).ok().filter(|fit| *fit < 100_000_000);
        let (amount, unit) = if let Some(us) = fits(left.as_micros()) {
            (us, b'u')
        } else if let Some(ms) = fits(left.as_millis()) {
            (ms, b'm')
        } else if let Some(seconds) = fits(left.as_secs().into()) {
            (seconds, b'S')
        } else {
            (99_999_999, b'S')
        };
        let mut text = [unit; 9];
        let digits = amount.checked_ilog10().unwrap_or(0) as usize + 1;
        let mut rest = amount;
        for place in text[..digits].iter_mut().rev() {
            *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        Self { text, length: u8::try_from(digits + 1).unwrap_or(9) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..self.length.into()]).unwrap_or_default()
    }
}

impl fmt::Display for GrpcTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an attempt says of itself to its callee; a name and a value at a time, the values as text.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    /// The context it is made in.
    pub context: CallContext,
    /// What is left for the callee.
    pub left: Duration,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// Whether it is a second copy.
    pub hedge: bool,
}

impl Headers {
    /// Hands every header that has something to say to `set`.
    pub fn print(&self, mut set: impl FnMut(&'static str, fmt::Arguments<'_>)) {
        set(header::GRPC_TIMEOUT, format_args!("{}", GrpcTimeout::new(self.left)));
        set(header::TIMEOUT_MS, format_args!("{}", self.left.as_millis().max(1)));
        if self.context.criticality != Criticality::default() {
            set(header::CRITICALITY, format_args!("{}", self.context.criticality.as_str()));
        }
        if let Some(cohort) = self.context.cohort {
            set(header::COHORT, format_args!("{cohort}"));
        }
        if self.attempt > 1 {
            set(header::ATTEMPT, format_args!("{}", self.attempt));
        }
        // A hedge's calls are hedges too: whoever has to choose drops them first, at every hop.
        if self.hedge || self.context.hedge {
            set(header::HEDGE, format_args!("1"));
        }
        if self.context.idempotency == Idempotency::Declared {
            set(header::IDEMPOTENT, format_args!("1"));
        }
    }
}
