//! The pure machine behind a [`super::Breaker`].
//!
//! What every call looks at is in three words: the *gate* (generation, phase, admissions), when the generation ends, and
//! how many succeeded. They are written under the lock, except that admissions and successes of a closed breaker are
//! counted by whoever admits and succeeds, with the generation in the same word: a count never lands in another one.
//! All the rest is behind the lock.

use super::{
    BreakerSettings, BreakerStatus, Counts, Forced, Open, Outcome, Phase, Trip,
    past::Past,
    settings::{RETRY_AFTER_MAX, TIMEOUT_DEFAULT},
    state::State,
    window::Mark,
};
use crate::dice::{mixed, unit};
use outrigger_kernel::Mono;
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

/// What an admitted call brings back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    pub(super) generation: u64,
    since: Mono,
}

const COUNT_BITS: u32 = 40;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
pub(super) const GENERATION_MAX: u64 = (1 << 22) - 1;

// What the gate says. The fast lane is for a closed breaker that nobody has anything to add to.
const FAST: u64 = 0;
const SLOW: u64 = 1;

/// Generation, lane and number of admissions in one word.
const fn gate(generation: u64, lane: u64, admitted: u64) -> u64 {
    generation << (COUNT_BITS + 1) | lane << COUNT_BITS | admitted
}

const fn generation_of(gate: u64) -> u64 {
    gate >> (COUNT_BITS + 1)
}

pub(super) struct Core {
    gate: AtomicU64,
    /// When this generation ends by itself, in nanoseconds; the end of time for never.
    ends: AtomicU64,
    /// Successes of this generation, with the generation; unless a window counts them.
    successes: AtomicU64,
    /// Failures since the last success, for windows.
    row: AtomicU64,
    slow_after_ns: AtomicU64,
    past: Past,
    /// Whether the trip asks for calls still running, so that admissions are counted.
    counts_running: bool,
    settings: BreakerSettings,
    state: Mutex<State>,
}

impl Core {
    pub(super) fn new(mut settings: BreakerSettings, seed: u64) -> Self {
        settings.max_requests = settings.max_requests.max(1);
        if settings.timeout.is_zero() {
            settings.timeout = TIMEOUT_DEFAULT;
        }
        let slow_after = match settings.trip {
            Trip::Rates(rates) => rates.slow_after,
            _ => Duration::ZERO,
        };
        Self {
            gate: AtomicU64::new(gate(0, FAST, 0)),
            // The first interval begins with the first call: before it there is nothing to forget.
            ends: AtomicU64::new(0),
            successes: AtomicU64::new(0),
            row: AtomicU64::new(0),
            slow_after_ns: AtomicU64::new(slow_ns(slow_after)),
            past: Past::new(&settings.trip),
            counts_running: matches!(settings.trip, Trip::Custom { .. }),
            settings,
            state: Mutex::new(State::new(seed)),
        }
    }

    #[inline]
    pub(super) fn admit(&self, now: Mono) -> Result<Ticket, Open> {
        let gate = self.gate.load(Acquire);
        if gate >> COUNT_BITS & 1 == FAST
            && now.0 < self.ends.load(Relaxed)
            && (!self.counts_running || self.counted(gate))
        {
            return Ok(Ticket { generation: generation_of(gate), since: now });
        }
        self.admit_slowly(now)
    }

    /// Counts an admission, unless the gate has moved on or its count is full.
    fn counted(&self, gate: u64) -> bool {
        gate & COUNT_MAX < COUNT_MAX
            && self.gate.compare_exchange(gate, gate + 1, AcqRel, Relaxed).is_ok()
    }

    #[cold]
    fn admit_slowly(&self, now: Mono) -> Result<Ticket, Open> {
        let mut state = self.state();
        if state.generation == 0 {
            self.enter(&mut state, Phase::Closed, now);
        }
        self.age(&mut state, now);
        if let Some(open) = self.refusal(&state, now) {
            return Err(open);
        }
        if state.phase == Phase::Closed && state.forced.is_none() {
            state.ramp_on(now)?;
        }
        let _before = self
            .gate
            .try_update(AcqRel, Relaxed, |gate| (gate & COUNT_MAX < COUNT_MAX).then_some(gate + 1));
        Ok(Ticket { generation: state.generation, since: now })
    }

    #[inline]
    pub(super) fn settle(&self, ticket: Ticket, outcome: Outcome, now: Mono) {
        let slow = self.is_slow(ticket, now);
        if outcome == Outcome::Success && !slow {
            let gate = self.gate.load(Acquire);
            if generation_of(gate) != ticket.generation {
                return;
            }
            if gate >> COUNT_BITS & 1 == FAST && now.0 < self.ends.load(Relaxed) {
                self.succeeded(ticket.generation, now);
                return;
            }
        }
        self.settle_slowly(ticket, outcome, slow, now);
    }

    #[inline]
    fn succeeded(&self, generation: u64, now: Mono) {
        if self.past.add(Mark::OK, now) {
            if self.row.load(Relaxed) != 0 {
                self.row.store(0, Relaxed);
            }
            return;
        }
        // The generation stands in the same word, so a success never counts in a later one.
        let _before = self.successes.try_update(AcqRel, Relaxed, |word| {
            let ours = word >> COUNT_BITS == generation & GENERATION_MAX;
            (ours && word & COUNT_MAX < COUNT_MAX).then_some(word + 1)
        });
    }

    #[cold]
    fn settle_slowly(&self, ticket: Ticket, outcome: Outcome, slow: bool, now: Mono) {
        let mut state = self.state();
        self.age(&mut state, now);
        if ticket.generation != state.generation || state.forced == Some(Forced::Disabled) {
            return;
        }
        let failed = outcome != Outcome::Success;
        if let Outcome::Failure { retry_after: Some(wait) }
        | Outcome::Refused { retry_after: Some(wait) } = outcome
        {
            state.not_before = state.not_before.max(now.plus(wait.min(RETRY_AFTER_MAX)));
        }
        if state.phase == Phase::HalfOpen {
            if failed || slow {
                state.failures += 1;
                self.enter(&mut state, Phase::Open, now);
            } else {
                self.probe_succeeded(&mut state, now);
            }
            return;
        }
        self.count(&mut state, outcome, slow, now);
        if (failed || slow) && state.forced.is_none() && self.trips(&state, now) {
            self.enter(&mut state, Phase::Open, now);
        }
    }

    fn probe_succeeded(&self, state: &mut State, now: Mono) {
        let word = self.successes.fetch_add(1, AcqRel) + 1;
        if word & COUNT_MAX >= u64::from(self.settings.max_requests) {
            self.enter(state, Phase::Closed, now);
        }
    }

    /// Counts the end of a call of a closed breaker.
    fn count(&self, state: &mut State, outcome: Outcome, slow: bool, now: Mono) {
        let failed = outcome != Outcome::Success;
        if !self.past.add(Mark::new(failed, slow), now) && !failed {
            self.succeeded(state.generation, now);
        }
        if !failed {
            self.row.store(0, Relaxed);
            return;
        }
        state.failures = state.failures.saturating_add(1);
        if matches!(outcome, Outcome::Failure { .. }) {
            let successes = self.successes.load(Acquire);
            if successes != state.successes_at_failure {
                state.failures_in_row = 0;
            }
            state.successes_at_failure = successes;
            state.failures_in_row += 1;
            self.row.fetch_add(1, Relaxed);
        }
    }

    fn trips(&self, state: &State, now: Mono) -> bool {
        match &self.settings.trip {
            Trip::ConsecutiveFailures(most) => state.failures_in_row > *most,
            Trip::Custom { says, .. } => says(&self.counts(state, now)),
            Trip::Rates(_) => self.past.exceeds(self.row.load(Relaxed), now),
        }
    }

    /// Begins a new generation in `phase` at `now`.
    fn enter(&self, state: &mut State, phase: Phase, now: Mono) {
        let well = now.since(state.closed_since) >= state.open_for;
        match phase {
            Phase::Open => {
                let relapsed = state.opened > 0 && !(state.phase == Phase::Closed && well);
                state.relapses = if relapsed { state.relapses.saturating_add(1) } else { 0 };
                state.opened += 1;
                state.open_for = self.open_for(state, now);
            }
            Phase::Closed => {
                if state.phase == Phase::HalfOpen {
                    state.closed_since = now;
                    state.ramp_from(now, self.settings.ramp);
                }
                self.past.clear();
                self.row.store(0, Relaxed);
            }
            Phase::HalfOpen => {}
        }
        state.phase = phase;
        state.generation = following(state.generation);
        state.failures = 0;
        state.failures_in_row = 0;
        let successes = state.generation << COUNT_BITS;
        state.successes_at_failure = successes;
        self.successes.store(successes, Release);
        let interval = self.settings.interval;
        let ends = match phase {
            Phase::Closed if interval.is_zero() || !matches!(self.past, Past::Tally) => None,
            Phase::Closed => Some(now.plus(interval)),
            Phase::Open => Some(now.plus(state.open_for)),
            Phase::HalfOpen => None,
        };
        self.ends.store(ends.map_or(u64::MAX, |ends| ends.0), Release);
        self.show(state);
    }

    /// Lets the gate say what the state is.
    fn show(&self, state: &State) {
        let fast = state.phase == Phase::Closed
            && state.ramp_until.is_none()
            && !matches!(state.forced, Some(Forced::Open | Forced::Disabled));
        self.gate.store(gate(state.generation, if fast { FAST } else { SLOW }, 0), Release);
    }

    /// How long to stay open now.
    fn open_for(&self, state: &State, now: Mono) -> Duration {
        let BreakerSettings { timeout, timeout_max, .. } = self.settings;
        let asked = state.not_before.since(now);
        if timeout_max <= timeout {
            return timeout.max(asked);
        }
        let grown = timeout.saturating_mul(1 << state.relapses.min(20)).min(timeout_max);
        let drawn = unit(mixed(state.seed ^ mixed(state.opened)));
        (grown / 2).saturating_add(grown.mul_f64(drawn / 2.0)).max(asked)
    }

    /// Ends the generation if its time is up.
    fn age(&self, state: &mut State, now: Mono) {
        if state.generation != 0 && now.0 >= self.ends.load(Relaxed) {
            let next = if state.phase == Phase::Open { Phase::HalfOpen } else { Phase::Closed };
            self.enter(state, next, now);
        }
        if state.ramp_until.is_some_and(|until| now >= until) {
            state.ramp_until = None;
            // Same generation: what the ramp's calls have to say still counts.
            let admitted = self.gate.load(Acquire) & COUNT_MAX;
            let lane = if state.phase == Phase::Closed { FAST } else { SLOW };
            self.gate.store(gate(state.generation, lane, admitted), Release);
        }
    }

    fn refusal(&self, state: &State, at: Mono) -> Option<Open> {
        if let Some(forced) = state.forced {
            return (forced == Forced::Open).then_some(Open::Forced);
        }
        match state.phase {
            Phase::Closed => None,
            // Nothing left to wait: by then it is half-open and has all its probes to give.
            Phase::Open => {
                let wait = Mono(self.ends.load(Relaxed)).since(at);
                (!wait.is_zero()).then_some(Open::Tripped { wait })
            }
            Phase::HalfOpen => {
                let admitted = self.gate.load(Acquire) & COUNT_MAX;
                (admitted >= u64::from(self.settings.max_requests)).then_some(Open::Probing)
            }
        }
    }

    pub(super) fn peek(&self, at: Mono) -> Result<(), Open> {
        let gate = self.gate.load(Acquire);
        if gate >> COUNT_BITS & 1 == FAST {
            return Ok(());
        }
        let state = self.state();
        self.refusal(&state, at).map_or(Ok(()), Err)
    }

    pub(super) fn status(&self, now: Mono) -> BreakerStatus {
        let mut state = self.state();
        self.age(&mut state, now);
        let open = state.phase == Phase::Open;
        BreakerStatus {
            phase: match state.forced {
                Some(Forced::Open) => Phase::Open,
                Some(_) => Phase::Closed,
                None => state.phase,
            },
            counts: self.counts(&state, now),
            opened: state.opened,
            forced: state.forced,
            ramping: state.ramp_share(now),
            wait: if open { Mono(self.ends.load(Relaxed)).since(now) } else { Duration::ZERO },
        }
    }

    fn counts(&self, state: &State, now: Mono) -> Counts {
        let word = self.successes.load(Acquire);
        if let Some(sums) = self.past.sums(now).filter(|_| state.phase == Phase::Closed) {
            return Counts {
                requests: sums.calls,
                total_successes: sums.calls.saturating_sub(sums.failed),
                total_failures: sums.failed,
                consecutive_successes: 0,
                consecutive_failures: self.row.load(Relaxed),
            };
        }
        let total_successes = word & COUNT_MAX;
        let since_failure = word.saturating_sub(state.successes_at_failure);
        let ended = total_successes + state.failures;
        let admitted = self.gate.load(Acquire) & COUNT_MAX;
        let all_counted = self.counts_running || state.phase != Phase::Closed;
        Counts {
            requests: if all_counted { admitted } else { ended },
            total_successes,
            total_failures: state.failures,
            consecutive_successes: since_failure,
            consecutive_failures: if since_failure == 0 { state.failures_in_row } else { 0 },
        }
    }

    pub(super) fn force(&self, forced: Option<Forced>, now: Mono) {
        let mut state = self.state();
        if state.forced == forced {
            return;
        }
        let reopened = state.forced == Some(Forced::Open) && forced.is_none();
        state.forced = forced;
        // A new generation, in which calls from before count for nothing.
        self.enter(&mut state, Phase::Closed, now);
        state.ramp_from(now, if reopened { self.settings.ramp } else { Duration::ZERO });
        self.show(&state);
    }

    pub(super) fn set_slow_after(&self, slow_after: Duration) {
        self.slow_after_ns.store(slow_ns(slow_after), Relaxed);
    }

    #[inline]
    fn is_slow(&self, ticket: Ticket, now: Mono) -> bool {
        now.0.saturating_sub(ticket.since.0) >= self.slow_after_ns.load(Relaxed)
    }

    /// Records a call given up on if it had been slow already; whether it did.
    pub(super) fn cancelled(&self, ticket: Ticket, now: Mono) -> bool {
        let slow = self.is_slow(ticket, now);
        if slow {
            self.settle_slowly(ticket, Outcome::FAILURE, true, now);
        }
        slow
    }

    pub(super) fn give_back(&self, ticket: Ticket) {
        let state = self.state();
        let counted = self.counts_running || state.phase != Phase::Closed;
        if ticket.generation == state.generation && counted {
            let _before = self
                .gate
                .try_update(AcqRel, Relaxed, |gate| (gate & COUNT_MAX > 0).then(|| gate - 1));
        }
    }

    pub(super) fn shown(&self) -> (Phase, u64) {
        let state = self.state();
        (state.phase, state.generation)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A panic inside a custom trip leaves the machine between two consistent states, either of which will do.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The generation after this one. 0 is for a breaker that has not begun, and never comes again.
const fn following(generation: u64) -> u64 {
    if generation >= GENERATION_MAX { 1 } else { generation + 1 }
}

fn slow_ns(slow_after: Duration) -> u64 {
    if slow_after.is_zero() {
        return u64::MAX;
    }
    u64::try_from(slow_after.as_nanos()).unwrap_or(u64::MAX)
}
