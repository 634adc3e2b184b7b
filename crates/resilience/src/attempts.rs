//! One scheduler for all attempts of a call: first one, retries and hedges.
//!
//! Retries inside hedges, or hedges inside retries, multiply: two times three is six attempts, and 216 over three hops.
//! Here both draw on one count and one budget, so there are never more than `max` attempts, nor more than two at once.
//!
//! ```text
//!             begin                   ended: failed, may be retried
//!   READY ------------> RUNNING ---------------------------------------> WAITING (until)
//!                       |  ^  |  ended: well, or for good                   |
//!       hedge_at passed |  |  +----------------------> OVER                 | begin
//!                       v  |                                                v
//!                     RUNNING twice <-----------------------------------  RUNNING
//!                       ended: failed, the other one goes on: nothing to decide yet
//! ```
//!
//! The machine does not wait and holds no future; who drives it asks [`Attempts::wake_at`] when to come back.

use crate::{CallContext, Report, Restraint, Retry, reason};
use outrigger_kernel::{Deadline, Mono};
use std::time::Duration;

/// The shortest wait between two attempts. A policy without a delay must not turn into a busy loop.
pub const RETRY_DELAY_MIN: Duration = Duration::from_millis(1);

/// How many endpoints a call remembers having tried.
pub const TRIED_MAX: usize = 6;

/// The endpoints a call has tried, the last ones of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    ids: [u64; TRIED_MAX],
    length: u8,
}

impl Tried {
    /// One more. Of too many the oldest is forgotten.
    pub fn push(&mut self, id: u64) {
        if self.contains(id) {
            return;
        }
        let length = usize::from(self.length);
        if length == TRIED_MAX {
            self.ids.rotate_left(1);
            self.ids[TRIED_MAX - 1] = id;
        } else {
            self.ids[length] = id;
            self.length += 1;
        }
    }

    /// All of them.
    #[must_use]
    pub fn ids(&self) -> &[u64] {
        &self.ids[..self.length.into()]
    }

    /// Whether this one was tried.
    #[must_use]
    pub fn contains(&self, id: u64) -> bool {
        self.ids().contains(&id)
    }
}

/// What to do after an attempt has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Hand its outcome to the caller. The reason says why there is no other attempt, if there could have been one.
    HandBack(Option<&'static str>),
    /// Another attempt is under way: see how that ends.
    Other,
    /// Begin another attempt at this instant, which is after `wait`.
    Retry {
        /// When.
        at: Mono,
        /// The wait until then.
        wait: Duration,
        /// Whether the callee asked for it.
        pushed_back: bool,
    },
}

/// What a retry is decided by.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Whether failures are retried at all.
    pub retry: Option<&'a Retry>,
    /// What a retry may not do.
    pub restraint: Option<&'a Restraint>,
    /// What half of the attempts take, if that is known: less than this left is no attempt.
    pub usual: Option<Duration>,
}

/// The attempts of one call.
///
/// ```
/// use outrigger_kernel::{Deadline, Mono};
/// use outrigger_resilience::{After, Attempts, CallContext, Class, Retry, Rules};
/// use std::time::Duration;
///
/// let retry = Retry { max_retries: Some(1), ..Retry::default() };
/// let rules = Rules { retry: Some(&retry), restraint: None, usual: None };
/// let context = CallContext::until(Deadline(Mono(0).plus(Duration::from_secs(60))));
/// let mut attempts = Attempts::new(&context);
///
/// assert_eq!(attempts.begin(), 1);
/// let after = attempts.ended(&rules, &context, &Class::Failure.into(), Mono(0), || 0);
/// assert!(matches!(after, After::Retry { wait, .. } if wait == Duration::from_secs(5)));
/// assert_eq!(attempts.begin(), 2);
/// let after = attempts.ended(&rules, &context, &Class::Failure.into(), Mono(0), || 0);
/// assert!(matches!(after, After::HandBack(Some("retry.exhausted"))));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Attempts {
    deadline: Deadline,
    made: u32,
    running: u8,
    /// The wait before the last retry.
    waited: Duration,
    hedge_at: Option<Mono>,
    hedged: bool,
    tried: Tried,
}

impl Attempts {
    /// None yet.
    #[must_use]
    pub fn new(context: &CallContext) -> Self {
        Self {
            deadline: context.deadline,
            made: 0,
            running: 0,
            waited: Duration::ZERO,
            hedge_at: None,
            hedged: false,
            tried: Tried::default(),
        }
    }

    /// How many were made.
    #[must_use]
    pub fn made(&self) -> u32 {
        self.made
    }

    /// How many are under way.
    #[must_use]
    pub fn running(&self) -> u8 {
        self.running
    }

    /// Whether one of them was a hedge.
    #[must_use]
    pub fn hedged(&self) -> bool {
        self.hedged
    }

    /// Where they went.
    #[must_use]
    pub fn tried(&self) -> &Tried {
        &self.tried
    }

    /// One of them went there.
    pub fn went_to(&mut self, endpoint: u64) {
        self.tried.push(endpoint);
    }

    /// Counts one more, and says which one it is.
    pub fn begin(&mut self) -> u32 {
        self.made = self.made.saturating_add(1);
        self.running = self.running.saturating_add(1);
        self.made
    }

    /// Takes the last one back: it found no place, so it was none.
    pub fn unmade(&mut self) {
        self.made = self.made.saturating_sub(1);
        self.running = self.running.saturating_sub(1);
    }

    /// How many there can still be, the next one included; 0 for no end.
    #[must_use]
    pub fn left(&self, retry: Option<&Retry>) -> u32 {
        match retry {
            None => 1,
            Some(Retry { max_retries: None, .. }) => 0,
            Some(Retry { max_retries: Some(most), .. }) => {
                most.saturating_add(1).saturating_sub(self.made).max(1)
            }
        }
    }

    /// A first or repeated attempt has begun at `now`; without an answer after `delay` it gets a companion, if the call
    /// may have one. One call has one hedge.
    pub fn hedge_after(
        &mut self,
        delay: Option<Duration>,
        rules: &Rules<'_>,
        context: &CallContext,
        now: Mono,
    ) {
        let allowed = context.idempotency.repeatable()
            && !context.hedge
            && !self.hedged
            && rules.retry.is_none_or(|retry| retry.max_retries.is_none_or(|m| self.made <= m));
        let at = delay.filter(|_| allowed).map(|delay| now.plus(delay));
        let useful =
            |at: &Mono| self.deadline.remaining(*at) > rules.usual.unwrap_or(Duration::ZERO);
        self.hedge_at = at.filter(useful);
    }

    /// Whether it is time for the companion. Says so once.
    pub fn hedge_due(&mut self, now: Mono) -> bool {
        let due = self.running == 1 && self.hedge_at.is_some_and(|at| now >= at);
        if due {
            self.hedge_at = None;
        }
        due
    }

    /// Counts the companion.
    pub fn begin_hedge(&mut self) -> u32 {
        self.hedged = true;
        self.begin()
    }

    /// When to come back, if nothing ends before.
    #[must_use]
    pub fn wake_at(&self) -> Option<Mono> {
        self.hedge_at
    }

    /// An attempt has ended so. `random` is asked for 64 random bits if there is a wait to be drawn.
    pub fn ended(
        &mut self,
        rules: &Rules<'_>,
        context: &CallContext,
        report: &Report,
        now: Mono,
        random: impl FnOnce() -> u64,
    ) -> After {
        self.running = self.running.saturating_sub(1);
        self.hedge_at = None;
        let Some(retry) = rules.retry.filter(|retry| retry.matching.has(report.class)) else {
            // Without a retry a failed copy is no reason to give the other one up.
            let failed = rules.retry.is_none() && crate::Matching::default().has(report.class);
            if failed && self.running > 0 {
                return After::Other;
            }
            return After::HandBack(failed_unmatched(rules, report));
        };
        if self.running > 0 {
            return After::Other;
        }
        let forbidden = rules.restraint.and_then(|restraint| restraint.forbids(context, report));
        if forbidden.is_some() {
            return After::HandBack(forbidden);
        }
        if retry.max_retries.is_some_and(|most| self.made > most) {
            return After::HandBack(Some(reason::RETRY_EXHAUSTED));
        }
        let (wait, pushed_back) = self.wait(retry, rules.restraint, report, random());
        let left = self.deadline.remaining(now);
        // At the very deadline is too late: nothing can be done in no time.
        if wait.saturating_add(rules.usual.unwrap_or(Duration::ZERO)) >= left {
            return After::HandBack(Some(reason::RETRY_TOO_LATE));
        }
        self.waited = wait;
        After::Retry { at: now.plus(wait), wait, pushed_back }
    }

    fn wait(
        &self,
        retry: &Retry,
        restraint: Option<&Restraint>,
        report: &Report,
        random: u64,
    ) -> (Duration, bool) {
        let overloaded = restraint.filter(|_| report.overloaded());
        let backoff = overloaded.map_or(&retry.backoff, |restraint| &restraint.overloaded);
        let wait = backoff.next(self.made, self.waited, random).max(RETRY_DELAY_MIN);
        match report.retry_after().filter(|_| restraint.is_some()) {
            // Not all at once when the time has come: the usual wait comes on top.
            Some(asked) => (asked.saturating_add(wait), true),
            None => (wait, false),
        }
    }
}

fn failed_unmatched(rules: &Rules<'_>, report: &Report) -> Option<&'static str> {
    let failed = crate::Matching::default().has(report.class);
    (failed && rules.retry.is_some()).then_some(reason::RETRY_UNMATCHED)
}

#[cfg(test)]
mod tests;
