//! One attempt: what it has to get before it begins, and who hears how it ended.

use super::{Course, Stack, Target};
use crate::{
    Attempt, BreakerWatch, Bulkhead, Class, Ended, Entrant, Entry, Extra, GaveUp, Outcome, Pass,
    Phase, Policy, Rank, Refused, Report, Seat, SeatRef, Verdict, Why, reason, share_of,
};
use outrigger_kernel::{Deadline, Mono};
use std::time::Duration;

/// An attempt with everything it holds while it is under way. Dropped before it is settled, it was cancelled, which is
/// recorded.
pub(super) struct Held<'a, T: Target> {
    attempt: Attempt,
    /// Where it goes; `None` once it is settled.
    place: Option<T::Place>,
    stack: Stack<'a>,
    pass: Option<Pass<'a>>,
    seat: Sitting<'a>,
    /// Its part of the budget, unless it is the first one.
    extra: [Option<Extra<'a>>; 2],
    watched: BreakerWatch<'a>,
    started: Mono,
    rank: Rank,
    /// Whether there is time left after it.
    more_time: bool,
}

/// A seat in the bulkhead, if there is one.
pub(super) enum Sitting<'a> {
    None,
    Seat(Seat),
    /// What a hedge sits on; what it takes says nothing about how many the target manages.
    Borrowed {
        _seat: SeatRef<'a>,
    },
}

/// How an attempt ended.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// With an outcome.
    Report(Report),
    /// At its timeout, or the deadline.
    TimedOut,
    /// Another one was answered first.
    Superseded,
    /// The caller went away.
    Cancelled,
}

impl<T: Target> Held<'_, T> {
    /// What it is and where it goes, unless it is settled.
    pub(super) fn under_way(&self) -> Option<(Attempt, &T::Place)> {
        self.place.as_ref().map(|place| (self.attempt, place))
    }

    /// When it began.
    pub(super) fn began(&self) -> Mono {
        self.started
    }

    /// When it is given up.
    pub(super) fn deadline(&self) -> Mono {
        self.attempt.deadline.0
    }

    /// Tells everybody how it ended, once.
    pub(super) fn settle(&mut self, end: End, now: Mono) -> Attempt {
        let Some(place) = self.place.take() else { return self.attempt };
        let Stack { policy, state, .. } = self.stack;
        let verdict = match end {
            End::Report(report) => verdict(policy, report.class),
            _ => None,
        };
        if let Some(pass) = self.pass.take() {
            tell_breaker(pass, policy, end, verdict, now);
        }
        tell_endpoint::<T>(place, end, (verdict, self.attempt.hedge), now);
        let accepted = match end {
            End::Report(report) => Some(!report.overloaded()),
            End::TimedOut => Some(true),
            End::Superseded | End::Cancelled => None,
        };
        if let Some((throttle, accepted)) = state.throttle().zip(accepted) {
            throttle.ended(self.rank, accepted, now);
        }
        if let Sitting::Seat(seat) = std::mem::replace(&mut self.seat, Sitting::None) {
            seat.finish(ended(end, verdict), now);
        }
        self.extra = [None, None];
        let took = matches!(end, End::TimedOut | End::Superseded) || verdict == Some(true);
        if let Some(latencies) = state.latencies().filter(|_| took) {
            latencies.seen().record(now.since(self.started), now);
        }
        if matches!(end, End::TimedOut) && self.more_time {
            self.stack.activated(crate::Part::Timeout);
        }
        if !matches!(end, End::Cancelled) {
            self.watched.end(now);
        }
        self.attempt
    }
}

impl<T: Target> Drop for Held<'_, T> {
    fn drop(&mut self) {
        if self.place.is_some() {
            let now = self.stack.world.mono();
            self.settle(End::Cancelled, now);
        }
    }
}

impl<'a, T: Target> Course<'a, T> {
    /// Whether there is time for an attempt.
    pub(super) fn hopeful(&self, now: Mono) -> Result<(), GaveUp> {
        let state = self.stack.state;
        let left = self.context.deadline.remaining(now);
        let usual = state.latencies().and_then(|latencies| latencies.usual(now));
        if left.is_zero() || usual.is_some_and(|usual| left < usual) {
            self.stack.tell(if left.is_zero() { reason::DEADLINE } else { reason::HOPELESS });
            return Err(GaveUp::DeadlinePassed { attempts: self.attempts.made() });
        }
        Ok(())
    }

    /// Gets what the next attempt needs.
    #[inline]
    pub(super) fn begin(
        &mut self,
        seat: Sitting<'a>,
        now: Mono,
        extra: &mut Option<Extra<'a>>,
    ) -> Result<Held<'a, T>, GaveUp> {
        let Stack { world, policy, state } = self.stack;
        let watch = state.watch().map(|watch| &**watch);
        let watched = BreakerWatch::begin(watch, state.breaker(), now);
        let pass = state.breaker().map(|breaker| breaker.enter(now)).transpose();
        let pass = pass.inspect_err(|_| self.stack.tell(reason::BREAKER_OPEN))?;
        let Some(place) = self.target.pick(self.attempts.tried(), now, world) else {
            self.stack.tell(reason::NO_ENDPOINT);
            return Err(GaveUp::NotAdmitted { reason: reason::NO_ENDPOINT, retry_after: None });
        };
        let count = self.attempts.left(policy.retry.as_ref());
        let number = self.attempts.begin();
        if let Some(id) = T::id(&place) {
            self.attempts.went_to(id);
        }
        let attempt = self.attempt(number, false, now, count);
        if let Some((hedge, latencies)) = policy.hedge.zip(state.latencies()) {
            let delay = latencies.hedge_delay(&hedge, now);
            self.attempts.hedge_after(delay, &self.stack.rules(now), &self.context, now);
        }
        Ok(self.held(attempt, place, (pass, seat), [extra.take(), None], watched, now))
    }

    /// A seat, and the time when it was there.
    pub(super) async fn seat(
        &mut self,
        bulkhead: &Bulkhead,
        now: Mono,
    ) -> Result<(Sitting<'a>, Mono), GaveUp> {
        let Stack { world, state, .. } = self.stack;
        // Nobody waits in line for a closed door.
        if let Some(Err(open)) = state.breaker().map(|breaker| breaker.peek(now)) {
            self.stack.tell(reason::BREAKER_OPEN);
            return Err(open.into());
        }
        let (rank, deadline) = (self.context.rank(), Some(self.context.deadline));
        let entrant = Entrant { rank, deadline, exempt: false };
        let seated = match bulkhead.enter(&entrant, now) {
            Ok(Entry::Seated(seat)) => return Ok((Sitting::Seat(seat), now)),
            Ok(Entry::Queued(waiter)) => self.alarm.seat(world, waiter).await,
            Err(refused) => Err(refused),
        };
        match seated {
            Ok(seat) => Ok((Sitting::Seat(seat), world.mono())),
            Err(Refused { why, retry_after }) => {
                let reason = match why {
                    Why::Full => reason::BULKHEAD_FULL,
                    Why::Waited => reason::BULKHEAD_WAITED,
                    Why::TooLate => reason::BULKHEAD_TOO_LATE,
                    Why::Shed => reason::BULKHEAD_SHED,
                };
                self.stack.tell(reason);
                Err(GaveUp::NotAdmitted { reason, retry_after: Some(retry_after) })
            }
        }
    }

    /// The companion of an attempt, if there is a place for it at once.
    pub(super) fn begin_hedge(&mut self, now: Mono) -> Option<Held<'a, T>> {
        let Stack { world, state, .. } = self.stack;
        let no_place = |stack: &Stack<'_>| stack.tell(reason::HEDGE_NO_PLACE);
        let closed = |breaker: &crate::Breaker| breaker.status(now).phase == Phase::Closed;
        if !state.breaker().is_none_or(closed) {
            no_place(&self.stack);
            return None;
        }
        let Ok(extra) = self.hedge_leave(now) else {
            self.stack.tell(reason::HEDGE_BUDGET);
            return None;
        };
        let watch = state.watch().map(|watch| &**watch);
        let watched = BreakerWatch::begin(watch, state.breaker(), now);
        let place = self.target.pick(self.attempts.tried(), now, world);
        // With several endpoints, a second copy to the same one would wait behind the first.
        let place =
            place.filter(|place| T::id(place).is_none_or(|id| !self.attempts.tried().contains(id)));
        let pass = state.breaker().map(|breaker| breaker.enter(now)).transpose().ok();
        let seat = match state.bulkhead() {
            None => Some(Sitting::None),
            Some(bulkhead) => bulkhead.try_seat().map(|_seat| Sitting::Borrowed { _seat }),
        };
        let (Some(place), Some(pass), Some(seat)) = (place, pass, seat) else {
            self.put_back(extra);
            no_place(&self.stack);
            return None;
        };
        let number = self.attempts.begin_hedge();
        if let Some(id) = T::id(&place) {
            self.attempts.went_to(id);
        }
        self.stack.tell(reason::HEDGE);
        let attempt = self.attempt(number, true, now, 1);
        Some(self.held(attempt, place, (pass, seat), extra, watched, now))
    }

    /// A token of the hedges' own budget and one of the common one.
    fn hedge_leave(&self, now: Mono) -> Result<[Option<Extra<'a>>; 2], crate::Spent> {
        let state = self.stack.state;
        let own = state.hedges().map(|hedges| hedges.withdraw(now)).transpose()?;
        match state.budget().map(|budget| budget.withdraw(now)).transpose() {
            Ok(common) => Ok([common, own]),
            Err(spent) => {
                self.put_back([None, own]);
                Err(spent)
            }
        }
    }

    /// Gives back what was paid for an attempt that is not made.
    pub(super) fn put_back(&self, [common, own]: [Option<Extra<'a>>; 2]) {
        let state = self.stack.state;
        if let Some((budget, extra)) = state.budget().zip(common) {
            budget.put_back(extra);
        }
        if let Some((budget, extra)) = state.hedges().zip(own) {
            budget.put_back(extra);
        }
    }

    #[inline]
    fn attempt(&self, number: u32, hedge: bool, now: Mono, count: u32) -> Attempt {
        let Stack { policy, state, .. } = self.stack;
        let left = self.context.deadline.remaining(now);
        let adaptive = policy.adaptive.as_ref().zip(state.latencies());
        let adaptive = adaptive.and_then(|(settings, known)| known.limit(settings, now));
        let limit = adaptive.or(policy.fixed_timeout());
        let share = policy.progressive.then(|| share_of(left, count));
        let limit = limit.into_iter().chain(share).min();
        let deadline = limit.map_or(self.context.deadline, |limit| {
            self.context.deadline.earliest(Deadline(now.plus(limit)))
        });
        Attempt { number, deadline, hedge, limit: limit.unwrap_or(Duration::MAX) }
    }

    #[inline]
    fn held(
        &self,
        attempt: Attempt,
        place: T::Place,
        (pass, seat): (Option<Pass<'a>>, Sitting<'a>),
        extra: [Option<Extra<'a>>; 2],
        watched: BreakerWatch<'a>,
        started: Mono,
    ) -> Held<'a, T> {
        let more_time = attempt.deadline < self.context.deadline;
        let (stack, rank) = (self.stack, self.context.rank());
        Held {
            attempt,
            place: Some(place),
            stack,
            pass,
            seat,
            extra,
            watched,
            started,
            rank,
            more_time,
        }
    }
}

/// Whether the target did well; `None` for nobody knows.
fn verdict(policy: &Policy, class: Class) -> Option<bool> {
    match class {
        Class::Success => Some(true),
        Class::Failure | Class::Permanent => Some(false),
        // A status that the user does not count among the failures is an answer like any other.
        Class::Http(_) | Class::Grpc(_) => {
            Some(policy.retry.as_ref().is_some_and(|retry| !retry.matching.has(class)))
        }
        Class::Ignored => None,
    }
}

fn tell_breaker(pass: Pass<'_>, policy: &Policy, end: End, verdict: Option<bool>, now: Mono) {
    match (end, verdict) {
        (_, Some(true)) => pass.report(Outcome::Success, now),
        (End::Report(report), Some(false)) => {
            let retry_after = report.retry_after();
            let refused = report.overloaded() && policy.restraint.is_some();
            pass.report(
                if refused {
                    Outcome::Refused { retry_after }
                } else {
                    Outcome::Failure { retry_after }
                },
                now,
            );
        }
        // Given back.
        (End::Report(_), None) => drop(pass),
        (End::TimedOut, _) => pass.report(Outcome::FAILURE, now),
        // Without a deadline of its own a policy learns of a target that hangs only by its callers leaving.
        (End::Cancelled, _) if policy.restraint.is_none() => pass.report(Outcome::FAILURE, now),
        (End::Superseded | End::Cancelled, _) => pass.cancel(now),
    }
}

/// What the number of seats is found by.
fn ended(end: End, verdict: Option<bool>) -> Ended {
    match (end, verdict) {
        (_, Some(true)) => Ended::Answered,
        (End::Report(report), Some(false)) if report.overloaded() => Ended::Dropped,
        (End::TimedOut, _) => Ended::Dropped,
        _ => Ended::Unknown,
    }
}

fn tell_endpoint<T: Target>(
    place: T::Place,
    end: End,
    (verdict, is_copy): (Option<bool>, bool),
    now: Mono,
) {
    match (end, verdict) {
        (_, Some(true)) => T::ended(place, Verdict::Success, now),
        (End::Report(report), Some(false)) if report.overloaded() => {
            T::ended(place, Verdict::PushedBack(report.retry_after()), now);
        }
        (End::Report(_), Some(false)) | (End::TimedOut, _) => {
            T::ended(place, Verdict::Failure, now);
        }
        (End::Superseded, _) if !is_copy => T::overtaken(place, now),
        (End::Report(_), None) | (End::Superseded | End::Cancelled, _) => T::cancelled(place, now),
    }
}
