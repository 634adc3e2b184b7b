//! A circuit breaker: stop asking who does not answer, and find out cheaply when it does again.
//!
//! ```text
//!              trip says so, after a failure or a slow call
//!    CLOSED ------------------------------------------> OPEN <-------- an operator: forced open
//!      ^  (first `ramp`: 10, 25, 50 % are admitted)      | `timeout` has passed
//!      |                                                 v
//!      +--- `max_requests` successes in a row ------ HALF-OPEN --- any failure ---> OPEN
//!                                                    at most `max_requests` admitted
//! ```
//!
//! Every phase, and every interval of the closed one, is a *generation*. A [`Permit`] remembers the generation it was
//! given in; an outcome that arrives in a later one is dropped. Otherwise a slow call from before the outage could close
//! the breaker, or reopen it while the only real probe is still running.
//!
//! A permit that is dropped without an outcome is given back, so a cancelled probe does not leave the breaker waiting
//! for an answer that never comes. Whoever cancels because it took too long says so ([`Permit::cancel`]): of a target
//! that hangs, nothing else is ever heard.
//!
//! | setting | default | [`BreakerSettings::recommended`] | bound |
//! |---|---|---|---|
//! | probes (`max_requests`) | 1 | 3 | at least 1 |
//! | trip | more than 5 failures in a row | 5 in a row, or 50 % failed or 80 % slower than 2 s of 20 calls in 10 s | a window of at most 100 000 calls |
//! | open for (`timeout`) | 60 s | 5 s, doubling to 300 s, half of it random | a `Retry-After` counts up to 300 s |
//! | ramp | none | 10 s | |
//!
//! Where to put one: per endpoint, for whoever picks endpoints, and per dependency and method, for the fallback. How
//! breakers are named is the caller's business. One breaker for all replicas of a service is wrong at any threshold: with
//! one bad replica of ten it either never opens or cuts off nine good ones.
//!
//! The way through a closed breaker is two loads at admission and one atomic addition at the end; everything else takes
//! a short lock. Sources: the default machine is that of the Go library sony/gobreaker, plus the giving back; windows
//! of buckets as in Linkerd's and Resilience4j's breakers; growing open times with jitter as in Finagle's failure
//! accrual. Memory: some 500 bytes with a window of time.

mod machine;
mod past;
mod settings;
mod state;
pub(crate) mod window;

use machine::{Core, Ticket};
use outrigger_kernel::Mono;
pub use settings::{BreakerSettings, Rates, Trip, Window};
use std::{fmt, sync::Arc, time::Duration};

/// What happened in the present generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls admitted. Those still running are included while half-open, and for [`Trip::Custom`], which may ask for them;
    /// otherwise the closed phase counts calls that have ended.
    pub requests: u64,
    /// Calls that succeeded.
    pub total_successes: u64,
    /// Calls that failed.
    pub total_failures: u64,
    /// Successes since the last failure; not counted by [`Trip::Rates`] while closed.
    pub consecutive_successes: u64,
    /// Failures since the last success.
    pub consecutive_failures: u64,
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Everything is admitted.
    Closed,
    /// Nothing is.
    Open,
    /// A few probes are.
    HalfOpen,
}

/// What an operator made of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    /// Nothing is admitted until the operator lets go.
    Open,
    /// Everything is admitted and counted; nothing opens it.
    Closed,
    /// Everything is admitted, nothing is counted.
    Disabled,
}

/// A breaker as a metric or a console shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerStatus {
    /// Where it stands.
    pub phase: Phase,
    /// What happened since it stands there (or since the interval began, or within the window).
    pub counts: Counts,
    /// How often it has opened in its life.
    pub opened: u64,
    /// What an operator made of it.
    pub forced: Option<Forced>,
    /// Of how many calls in a thousand it admits, while it is ramping up.
    pub ramping: Option<u32>,
    /// How long it will go on refusing everything, while open.
    pub wait: Duration,
}

/// A call was not admitted. Retrying at once is pointless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Open {
    /// The target failed too often and is left alone.
    #[error("the circuit breaker is open for another {wait:?}")]
    Tripped {
        /// For how much longer.
        wait: Duration,
    },
    /// The target is being probed by others right now.
    #[error("the circuit breaker is half-open and its probes are under way")]
    Probing,
    /// The target has just recovered and is given a part of its calls.
    #[error("the circuit breaker has just closed and admits a part of the calls")]
    Ramping,
    /// An operator has opened it.
    #[error("the circuit breaker is held open by an operator")]
    Forced,
}

/// How a call ended, as far as a breaker is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered; a caller's own mistake (most 4xx) is an answer.
    Success,
    /// It was not, or with a failure of the other side.
    Failure {
        /// How long the other side asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// It was refused for overload or over a limit (429, `RESOURCE_EXHAUSTED`): counts for the share of failures and fails
    /// a probe, but is no failure in a row, because somebody is there.
    Refused {
        /// How long the other side asked to be left alone.
        retry_after: Option<Duration>,
    },
}

impl Outcome {
    /// A failure that said nothing about when to come back.
    pub const FAILURE: Self = Self::Failure { retry_after: None };
}

/// A circuit breaker. Clones are the same breaker.
///
/// ```
/// use outrigger_kernel::Mono;
/// use outrigger_resilience::{Breaker, BreakerSettings, Open, Trip};
/// use std::time::Duration;
///
/// let breaker = Breaker::new(BreakerSettings {
///     timeout: Duration::from_secs(30),
///     trip: Trip::ConsecutiveFailures(1),
///     ..BreakerSettings::default()
/// });
/// let start = Mono(0);
/// for _ in 0..2 {
///     breaker.admit(start)?.record(false, start);
/// }
/// assert_eq!(breaker.admit(start).unwrap_err(), Open::Tripped { wait: Duration::from_secs(30) });
///
/// let later = start.plus(Duration::from_secs(30));
/// let probe = breaker.admit(later)?;
/// assert_eq!(breaker.admit(later).unwrap_err(), Open::Probing);
/// probe.record(true, later);
/// assert!(breaker.admit(later).is_ok());
/// # Ok::<(), Open>(())
/// ```
#[derive(Clone)]
pub struct Breaker(Arc<Core>);

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(settings: BreakerSettings) -> Self {
        Self::seeded(settings, 0)
    }

    /// The same, with a seed for the random part of the open times: breakers with different seeds probe at different
    /// times. Without [`BreakerSettings::timeout_max`] there is no random part.
    #[must_use]
    pub fn seeded(settings: BreakerSettings, seed: u64) -> Self {
        Self(Arc::new(Core::new(settings, seed)))
    }

    /// Asks whether a call may be made at `now`.
    ///
    /// # Errors
    /// [`Open`] when it may not.
    pub fn admit(&self, now: Mono) -> Result<Permit, Open> {
        let ticket = self.0.admit(now)?;
        Ok(Permit { breaker: self.clone(), ticket, settled: false })
    }

    /// The same for a caller that keeps the breaker in reach: saves the counting of one more owner.
    ///
    /// # Errors
    /// [`Open`] when it may not.
    #[inline]
    pub fn enter(&self, now: Mono) -> Result<Pass<'_>, Open> {
        let ticket = self.0.admit(now)?;
        Ok(Pass { core: &self.0, ticket, settled: false })
    }

    /// The same as [`Permit::record`].
    pub fn record(&self, permit: Permit, ok: bool, now: Mono) {
        permit.record(ok, now);
    }

    /// Whether a call at `at`, which may lie ahead, would be refused as things stand. Changes nothing.
    ///
    /// # Errors
    /// [`Open`] when it would be.
    pub fn peek(&self, at: Mono) -> Result<(), Open> {
        self.0.peek(at)
    }

    /// Where it stands at `now`.
    #[must_use]
    pub fn status(&self, now: Mono) -> BreakerStatus {
        self.0.status(now)
    }

    /// Takes the decision out of the breaker's hands, or gives it back (`None`): then it is closed, knows nothing, and
    /// ramps up if it was held open. Calls under way count for nothing any more.
    ///
    /// ```
    /// use outrigger_kernel::Mono;
    /// use outrigger_resilience::{Breaker, BreakerSettings, Forced, Open};
    /// let breaker = Breaker::new(BreakerSettings::default());
    /// breaker.force(Some(Forced::Open), Mono(0));
    /// assert_eq!(breaker.admit(Mono(0)).unwrap_err(), Open::Forced);
    /// breaker.force(None, Mono(0));
    /// assert!(breaker.admit(Mono(0)).is_ok());
    /// ```
    pub fn force(&self, forced: Option<Forced>, now: Mono) {
        self.0.force(forced, now);
    }

    /// From now on a call is slow that takes this long; zero for none is. Of use with [`Trip::Rates`].
    pub fn set_slow_after(&self, slow_after: Duration) {
        self.0.set_slow_after(slow_after);
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (phase, generation) = self.0.shown();
        write!(f, "Breaker({phase:?}, generation {generation})")
    }
}

/// Leave to make one call. Its outcome must be recorded; dropping it says there was none, and gives it back.
#[must_use = "a permit that is dropped at once admits nothing"]
pub struct Permit {
    breaker: Breaker,
    ticket: Ticket,
    settled: bool,
}

impl Permit {
    /// Records how the call ended.
    pub fn record(self, ok: bool, now: Mono) {
        self.report(if ok { Outcome::Success } else { Outcome::FAILURE }, now);
    }

    /// The same in more words.
    pub fn report(mut self, outcome: Outcome, now: Mono) {
        self.settled = true;
        self.breaker.0.settle(self.ticket, outcome, now);
    }

    /// The caller gave up. If it had waited as long as a slow call takes, that is recorded as a slow failure, else the
    /// permit is given back.
    pub fn cancel(mut self, now: Mono) {
        self.settled = self.breaker.0.cancelled(self.ticket, now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.settled {
            self.breaker.0.give_back(self.ticket);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit(generation {})", self.ticket.generation)
    }
}

/// A [`Permit`] that borrows its breaker.
#[must_use = "a pass that is dropped at once admits nothing"]
pub struct Pass<'a> {
    core: &'a Core,
    ticket: Ticket,
    settled: bool,
}

impl Pass<'_> {
    /// Records how the call ended.
    #[inline]
    pub fn report(mut self, outcome: Outcome, now: Mono) {
        self.settled = true;
        self.core.settle(self.ticket, outcome, now);
    }

    /// As [`Permit::cancel`].
    pub fn cancel(mut self, now: Mono) {
        self.settled = self.core.cancelled(self.ticket, now);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.core.give_back(self.ticket);
        }
    }
}

impl fmt::Debug for Pass<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pass(generation {})", self.ticket.generation)
    }
}

#[cfg(test)]
mod rates_tests;
#[cfg(test)]
mod tests;
