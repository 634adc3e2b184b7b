//! A circuit breaker: stop asking who does not answer, and find out cheaply when it does again.
//!
//! ```text
//!              trip(counts) says so, after a failure
//!    CLOSED ------------------------------------------> OPEN
//!      ^  counts begin anew every `interval`             | `timeout` has passed
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
//! for an answer that never comes.
//!
//! Defaults: one probe, no interval, 60 s open, trips on more than 5 failures in a row. The machine is the one of the Go
//! library sony/gobreaker, plus the giving back.

use outrigger_kernel::Mono;
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How a breaker behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerSettings {
    /// How many calls a half-open breaker admits, and how many of them must succeed for it to close; 0 counts as 1.
    pub max_requests: u32,
    /// After how long a closed breaker forgets its counts; zero for never.
    pub interval: Duration,
    /// How long an open breaker refuses everything; zero counts as 60 s.
    pub timeout: Duration,
    /// When a closed breaker opens; asked after each failure.
    pub trip: Trip,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            max_requests: 1,
            interval: Duration::ZERO,
            timeout: TIMEOUT_DEFAULT,
            trip: Trip::ConsecutiveFailures(5),
        }
    }
}

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// When a closed breaker opens.
#[derive(Clone)]
pub enum Trip {
    /// On more than this many failures in a row.
    ConsecutiveFailures(u64),
    /// When the function says so. It is called with the breaker locked: it must be quick and not ask the breaker.
    Custom {
        /// The condition in words; two conditions of the same words are the same.
        condition: Arc<str>,
        /// The condition.
        says: Arc<dyn Fn(&Counts) -> bool + Send + Sync>,
    },
}

impl PartialEq for Trip {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::ConsecutiveFailures(own), Self::ConsecutiveFailures(other)) => own == other,
            (Self::Custom { condition: own, .. }, Self::Custom { condition: other, .. }) => {
                own == other
            }
            _ => false,
        }
    }
}

impl Trip {
    fn wants(&self, counts: &Counts) -> bool {
        match self {
            Self::ConsecutiveFailures(most) => counts.consecutive_failures > *most,
            Self::Custom { says, .. } => says(counts),
        }
    }
}

impl fmt::Debug for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures(most) => write!(f, "ConsecutiveFailures({most})"),
            Self::Custom { condition, .. } => write!(f, "Custom({condition})"),
        }
    }
}

/// What happened in the present generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls admitted, those still running included.
    pub requests: u64,
    /// Calls that succeeded.
    pub total_successes: u64,
    /// Calls that failed.
    pub total_failures: u64,
    /// Successes since the last failure.
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

/// A breaker as a metric or a console shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerStatus {
    /// Where it stands.
    pub phase: Phase,
    /// What happened since it stands there (or since the interval began).
    pub counts: Counts,
    /// How often it has opened in its life.
    pub opened: u64,
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
pub struct Breaker(Arc<Mutex<Machine>>);

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(settings: BreakerSettings) -> Self {
        Self(Arc::new(Mutex::new(Machine::new(settings))))
    }

    /// Asks whether a call may be made at `now`.
    ///
    /// # Errors
    /// [`Open`] when it may not.
    pub fn admit(&self, now: Mono) -> Result<Permit, Open> {
        let generation = self.machine().admit(now)?;
        Ok(Permit { breaker: self.clone(), generation, settled: false })
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
        self.machine().refusal(at).map_or(Ok(()), Err)
    }

    /// Where it stands at `now`.
    #[must_use]
    pub fn status(&self, now: Mono) -> BreakerStatus {
        let mut machine = self.machine();
        machine.settle(now);
        BreakerStatus { phase: machine.phase, counts: machine.counts, opened: machine.opened }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        // A panic inside a custom trip leaves the machine between two consistent states, either of which will do.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = self.machine();
        write!(f, "Breaker({:?}, generation {})", machine.phase, machine.generation)
    }
}

/// Leave to make one call. Its outcome must be recorded; dropping it says there was none, and gives it back.
#[must_use = "a permit that is dropped at once admits nothing"]
pub struct Permit {
    breaker: Breaker,
    generation: u64,
    settled: bool,
}

impl Permit {
    /// Records how the call ended.
    pub fn record(mut self, ok: bool, now: Mono) {
        self.settled = true;
        self.breaker.machine().record(self.generation, ok, now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.settled {
            self.breaker.machine().give_back(self.generation);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit(generation {})", self.generation)
    }
}

/// The pure machine behind a [`Breaker`].
struct Machine {
    settings: BreakerSettings,
    phase: Phase,
    generation: u64,
    /// When this generation ends by itself; half-open ones and closed ones without an interval do not.
    ends: Option<Mono>,
    counts: Counts,
    opened: u64,
}

impl Machine {
    fn new(mut settings: BreakerSettings) -> Self {
        settings.max_requests = settings.max_requests.max(1);
        if settings.timeout.is_zero() {
            settings.timeout = TIMEOUT_DEFAULT;
        }
        Self {
            settings,
            phase: Phase::Closed,
            generation: 0,
            // The first interval begins with the first call: before it there is nothing to forget.
            ends: None,
            counts: Counts::default(),
            opened: 0,
        }
    }

    /// Begins a new generation in `phase` at `now`.
    fn enter(&mut self, phase: Phase, now: Mono) {
        self.phase = phase;
        self.generation += 1;
        self.counts = Counts::default();
        self.ends = match phase {
            Phase::Closed => {
                Some(self.settings.interval).filter(|i| !i.is_zero()).map(|i| now.plus(i))
            }
            Phase::Open => Some(now.plus(self.settings.timeout)),
            Phase::HalfOpen => None,
        };
        self.opened += u64::from(phase == Phase::Open);
    }

    /// Ends the generation if its time is up.
    fn settle(&mut self, now: Mono) {
        if self.ends.is_some_and(|ends| now >= ends) {
            let next = if self.phase == Phase::Open { Phase::HalfOpen } else { Phase::Closed };
            self.enter(next, now);
        }
    }

    fn refusal(&self, at: Mono) -> Option<Open> {
        match self.phase {
            Phase::Closed => None,
            // Nothing left to wait: by then it is half-open and has all its probes to give.
            Phase::Open => {
                let wait = self.ends.map_or(Duration::ZERO, |ends| ends.since(at));
                (!wait.is_zero()).then_some(Open::Tripped { wait })
            }
            Phase::HalfOpen => {
                let all_out = self.counts.requests >= u64::from(self.settings.max_requests);
                all_out.then_some(Open::Probing)
            }
        }
    }

    fn admit(&mut self, now: Mono) -> Result<u64, Open> {
        if self.generation == 0 {
            self.enter(Phase::Closed, now);
        }
        self.settle(now);
        if let Some(open) = self.refusal(now) {
            return Err(open);
        }
        self.counts.requests += 1;
        Ok(self.generation)
    }

    fn record(&mut self, generation: u64, ok: bool, now: Mono) {
        self.settle(now);
        if generation != self.generation {
            return;
        }
        let counts = &mut self.counts;
        if ok {
            counts.total_successes += 1;
            counts.consecutive_successes += 1;
            counts.consecutive_failures = 0;
            let enough = counts.consecutive_successes >= u64::from(self.settings.max_requests);
            if self.phase == Phase::HalfOpen && enough {
                self.enter(Phase::Closed, now);
            }
        } else {
            counts.total_failures += 1;
            counts.consecutive_failures += 1;
            counts.consecutive_successes = 0;
            if self.phase == Phase::HalfOpen || self.settings.trip.wants(&self.counts) {
                self.enter(Phase::Open, now);
            }
        }
    }

    fn give_back(&mut self, generation: u64) {
        if generation == self.generation {
            self.counts.requests = self.counts.requests.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests;
