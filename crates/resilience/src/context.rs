//! What a call brings along: until when, how much it matters, whether it may be repeated.
//!
//! Parsed once where a call comes in, handed on as 40 bytes, and printed once where it goes out. Headers are not looked at
//! in between.
//!
//! | header | gives | rule |
//! |---|---|---|
//! | `grpc-timeout`, `outrigger-timeout-ms`, `x-envoy-expected-rq-timeout-ms`, `x-request-timeout` | [`CallContext::deadline`] | what is *left*, as a duration, since clocks differ; the earliest of those present and the local limit |
//! | `outrigger-criticality` | [`CallContext::criticality`] | from outside it can only lower the class |
//! | `outrigger-cohort` | [`CallContext::cohort`] | 0 to 127 |
//! | `traceparent` | [`CallContext::caller`] | calls of one trace are kept or shed together, where no cohort is named |
//! | `outrigger-attempt`, `x-envoy-attempt-count`, `grpc-previous-rpc-attempts` | [`CallContext::attempt`] | of the hop before this one |
//! | `outrigger-hedge: 1` | [`CallContext::hedge`] | refused first, never hedged again |
//! | the method, `idempotency-key`, `outrigger-idempotent: 1` | [`CallContext::idempotency`] | whether an attempt of unknown outcome may be repeated |
//!
//! **Reserve.** Whoever passes a deadline on keeps something back, so that the answer "too late" still arrives in time:
//! half of what the way there and back takes, at least a millisecond ([`reserve`]).
//!
//! Sources: gRPC over HTTP/2 (`grpc-timeout`), Finagle's `Deadline` (earliest wins), the site reliability handbook of
//! Google (criticality).

mod wire;

pub use wire::{GrpcTimeout, Headers, parse_grpc_timeout, parse_request_timeout, parse_timeout_ms};

use crate::{Criticality, Rank};
use outrigger_kernel::{Deadline, Mono};
use std::time::Duration;

/// The names of the headers that carry a context.
pub mod header {
    /// What is left, in the notation of gRPC.
    pub const GRPC_TIMEOUT: &str = "grpc-timeout";
    /// What is left, in milliseconds.
    pub const TIMEOUT_MS: &str = "outrigger-timeout-ms";
    /// What is left, in milliseconds, as Envoy sends it.
    pub const ENVOY_TIMEOUT_MS: &str = "x-envoy-expected-rq-timeout-ms";
    /// What is left, in seconds or with a unit.
    pub const REQUEST_TIMEOUT: &str = "x-request-timeout";
    /// The attribute of an event that carries what was left when it was handed on, in milliseconds.
    pub const EVENT_TIMEOUT_MS: &str = "outriggertimeoutms";
    /// How much the call matters.
    pub const CRITICALITY: &str = "outrigger-criticality";
    /// Which crowd of users it belongs to.
    pub const COHORT: &str = "outrigger-cohort";
    /// The trace that the call belongs to, of W3C Trace Context.
    pub const TRACE: &str = "traceparent";
    /// Which attempt it is, from 1.
    pub const ATTEMPT: &str = "outrigger-attempt";
    /// The same as Envoy sends it.
    pub const ENVOY_ATTEMPT: &str = "x-envoy-attempt-count";
    /// How many attempts there were before, as gRPC sends it.
    pub const GRPC_ATTEMPTS: &str = "grpc-previous-rpc-attempts";
    /// `1` on the second copy of a call.
    pub const HEDGE: &str = "outrigger-hedge";
    /// The caller's name for what must happen once only.
    pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
    /// `1` if repeating does no harm.
    pub const IDEMPOTENT: &str = "outrigger-idempotent";
    /// What the callee says on trying again: `no`, `elsewhere` or `after=<ms>`.
    pub const RETRY: &str = "outrigger-retry";
    /// When to come back, of HTTP: seconds or a date.
    pub const RETRY_AFTER: &str = "retry-after";
    /// When to come back, of gRPC: milliseconds, negative for never.
    pub const GRPC_PUSHBACK: &str = "grpc-retry-pushback-ms";
}

/// Whether a call may be made again although it may have been carried out already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idempotency {
    /// Nobody says so. It is repeated only if it was never sent.
    #[default]
    Unknown,
    /// Its method means it: GET, HEAD, OPTIONS, TRACE, PUT, DELETE.
    Method,
    /// It carries a key by which the callee knows it again.
    Key,
    /// The caller or the configuration declares it.
    Declared,
}

impl Idempotency {
    /// Whether an attempt of unknown outcome may be repeated.
    #[must_use]
    pub const fn repeatable(self) -> bool {
        !matches!(self, Self::Unknown)
    }

    /// What an HTTP method means by itself (RFC 9110, 9.2.2).
    ///
    /// ```
    /// use outrigger_resilience::Idempotency;
    /// assert!(Idempotency::of_method("PUT").repeatable());
    /// assert!(!Idempotency::of_method("POST").repeatable());
    /// ```
    #[must_use]
    pub fn of_method(method: &str) -> Self {
        match method {
            "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE" => Self::Method,
            _ => Self::Unknown,
        }
    }
}

/// What a call brings along.
///
/// ```
/// use outrigger_kernel::Mono;
/// use outrigger_resilience::{CallContext, Criticality, Incoming};
/// use std::time::Duration;
///
/// let headers = [("grpc-timeout", "250m"), ("outrigger-criticality", "sheddable")];
/// let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
/// let incoming = Incoming { method: "GET", limit: Duration::from_secs(10), trusted: false };
/// let context = CallContext::read(&incoming, header, Mono(0));
/// assert_eq!(context.deadline.remaining(Mono(0)), Duration::from_millis(250));
/// assert_eq!(context.criticality, Criticality::Sheddable);
/// assert!(context.idempotency.repeatable());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallContext {
    /// When its answer is of no use any more.
    pub deadline: Deadline,
    /// A hash of who calls, or of the trace that the call belongs to; 0 for nobody known.
    pub caller: u64,
    /// A hash of whom it is for; 0 for nobody known.
    pub tenant: u64,
    /// Which attempt of the hop before it is, from 1.
    pub attempt: u32,
    /// How much it matters.
    pub criticality: Criticality,
    /// Which of 128 crowds of users it belongs to, if it says so.
    pub cohort: Option<u8>,
    /// Whether it may be repeated.
    pub idempotency: Idempotency,
    /// Whether it is the second copy of a call.
    pub hedge: bool,
}

/// What is known of a call before its headers are read.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// Its method.
    pub method: &'a str,
    /// The longest it may take, which is also what it gets if it does not say.
    pub limit: Duration,
    /// Whether it comes from inside: outsiders cannot raise how much their calls matter.
    pub trusted: bool,
}

impl CallContext {
    /// A call of usual importance until `deadline`, of which nothing else is known.
    #[must_use]
    pub fn until(deadline: Deadline) -> Self {
        Self {
            deadline,
            caller: 0,
            tenant: 0,
            attempt: 1,
            criticality: Criticality::default(),
            cohort: None,
            idempotency: Idempotency::Unknown,
            hedge: false,
        }
    }

    /// The same, declared to be repeatable or not.
    #[must_use]
    pub fn idempotent(self, idempotency: Idempotency) -> Self {
        Self { idempotency, ..self }
    }

    /// What it is worth, where there is not enough for all. A call that names no cohort is in that of its caller, which is
    /// the same at every hop and for all calls of one trace; of one nothing is known of, it is in the middle of its class.
    #[must_use]
    pub fn rank(&self) -> Rank {
        match (self.cohort, self.caller) {
            (Some(cohort), _) => Rank::new(self.criticality, cohort),
            (None, 0) => Rank::new(self.criticality, Rank::COHORTS / 2),
            (None, caller) => Rank::of(self.criticality, 0, &caller.to_be_bytes()),
        }
    }

    /// What is left for a callee at `now`, when there and back takes `rtt`; `None` if that is nothing.
    #[must_use]
    pub fn onward(&self, now: Mono, rtt: Option<Duration>) -> Option<Duration> {
        let left = self.deadline.remaining(now).checked_sub(reserve(rtt))?;
        (!left.is_zero()).then_some(left)
    }
}

/// What a hop keeps back of a deadline it passes on.
#[must_use]
pub fn reserve(rtt: Option<Duration>) -> Duration {
    rtt.map_or(Duration::ZERO, |rtt| rtt / 2).max(RESERVE_MIN)
}

const RESERVE_MIN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;
