//! The parts around a call, in order.
//!
//! | | part | counts | why it is here |
//! |---|---|---|---|
//! | 1 | fallback, cache, single flight | calls | outside: a hit costs no quota, and nothing below sees a call that is not made |
//! | 2 | overall deadline | calls | bounds everything below, queues and waits included |
//! | 3 | rate limit | calls | users pay for what they ask, not for our retries |
//! | 4 | client throttle, by criticality | calls | the cheapest refusal comes before any queue |
//! | 5 | [`Attempts`]: retries and hedges, one budget | attempts | one count, so nothing multiplies |
//! | 6 | breaker of the target | attempts | as a gate, so an open one ends the retrying |
//! | 7 | bulkhead: a seat, after a bounded wait | attempts | held on the wire only, never while waiting for a retry |
//! | 8 | pick of an endpoint | attempts | anew each time: a retry and a hedge go elsewhere |
//! | 9 | attempt timeout | attempts | inside of 6 to 8, so that they hear of it |
//! | 10 | faults on purpose | attempts | in what the attempt does itself: they must look like the network to all above |
//!
//! Parts 1 and 10 are machines of their own (`fallback.rs`, `cache/`, `flight.rs`, `fault.rs`), since they have to know what
//! an answer is. The rest is [`Stack::call`]. The breaker of part 6 is the target's; a single bad endpoint of several is the
//! balancer's business, which ejects it, or one of ten could close the door to the other nine. A part that the [`Policy`] leaves out costs a look at an `Option`.
//!
//! **Who is told what.** However an attempt ends, breaker, seat, endpoint and latencies hear of it once:
//!
//! | | answered | failed | overload | timed out | lost to its companion | caller gone |
//! |---|---|---|---|---|---|---|
//! | breaker | success | failure | refusal | failure | slow, if it was | slow, if it was; failure without [`crate::Restraint`] |
//! | endpoint | latency | failure | pushed back | failure | latency, if long | latency, if long |
//! | latencies | yes | no | no | yes | yes | no |
//! | budget | paid in by each call, taken from by each further attempt | | | | | |
//!
//! **Time.** The clock is read when a call begins and when an attempt ends. There is one timer for the call, made when
//! something has to be waited for.
//!
//! Nothing is allocated for a call whose first attempt is answered at once. A pending one allocates its timer, a hedge its
//! future.

mod attempt;
mod event;
mod target;

pub use target::{Balanced, Target};

use crate::{
    After, Attempt, Attempts, CallContext, Extra, GaveUp, Part, Policy, PolicyState, Pushback,
    Report, Rules, Spent, reason, watch,
};
use attempt::{End, Held, Sitting};
use event::{Alarm, Event, Which, next};
use outrigger_kernel::{Deadline, Mono, World};
use std::{
    future::Future,
    pin::{Pin, pin},
};

/// A policy and its state, about to be put around calls.
#[derive(Clone, Copy)]
pub struct Stack<'a> {
    world: &'a dyn World,
    policy: &'a Policy,
    state: &'a PolicyState,
}

/// How a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called<O> {
    /// The last outcome, whatever its class, or why there is none.
    pub result: Result<O, GaveUp>,
    /// How many attempts were made.
    pub attempts: u32,
    /// Whether one of them was a hedge.
    pub hedged: bool,
    /// Why there was no further attempt, if there could have been one; a word of [`crate::reason`].
    pub reason: Option<&'static str>,
    /// What to tell the caller on trying again: `No` after a failure of a policy with [`crate::Restraint`], which has done what
    /// can be done. This is what keeps the hops above from retrying as well.
    pub pushback: Pushback,
}

/// What a call goes through on its way to an end.
struct Course<'a, T: Target> {
    stack: Stack<'a>,
    context: CallContext,
    target: &'a T,
    attempts: Attempts,
    alarm: Alarm,
}

impl<'a> Stack<'a> {
    /// `policy` with what it remembers of a target.
    #[must_use]
    pub fn new(world: &'a dyn World, policy: &'a Policy, state: &'a PolicyState) -> Self {
        Self { world, policy, state }
    }

    /// Makes a call: `op` begins an attempt, `class` says how one ended.
    ///
    /// ```
    /// use outrigger_kernel::{Deadline, World};
    /// use outrigger_resilience::{CallContext, Class, Idempotency, Policy, PolicyState, Stack};
    /// use std::{sync::Arc, time::Duration};
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    /// # runtime.block_on(async {
    /// let world: Arc<dyn World> = outrigger_sim::SimWorld::new(7);
    /// let policy = Policy::recommended();
    /// let state = PolicyState::new(&policy);
    /// let deadline = Deadline::after(&*world, Duration::from_secs(10));
    /// let context = CallContext::until(deadline).idempotent(Idempotency::Method);
    /// let class = |status: &u16| if *status < 400 { Class::Success } else { Class::Http(*status) };
    ///
    /// let stack = Stack::new(&*world, &policy, &state);
    /// let called = stack.call(context, &(), class, |attempt, ()| async move {
    ///     if attempt.number == 1 { 503 } else { 200 }
    /// });
    /// let called = called.await;
    /// assert_eq!((called.result, called.attempts), (Ok(200), 2));
    /// # });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn call<O, V, C, T, F, Fut>(
        &self,
        context: CallContext,
        target: &T,
        class: C,
        mut op: F,
    ) -> Called<O>
    where
        V: Into<Report>,
        C: Fn(&O) -> V,
        T: Target,
        F: FnMut(Attempt, &T::Place) -> Fut,
        Fut: Future<Output = O>,
    {
        let Self { world, policy, state } = *self;
        let now = world.mono();
        let limit = policy.overall.map(|most| Deadline(now.plus(most)));
        let deadline = limit.map_or(context.deadline, |limit| context.deadline.earliest(limit));
        let context = CallContext { deadline, ..context };
        watch::begin(state.watch(), policy);
        let attempts = Attempts::new(&context);
        let mut course =
            Course { stack: *self, context, target, attempts, alarm: Alarm::default() };
        if let Err(gave_up) = self.admit(&context, now) {
            return course.done(Err(gave_up), None, true);
        }
        let _under_way = state.budget().map(|budget| budget.begin(now));
        if let Some(hedges) = state.hedges() {
            hedges.deposit(now);
        }

        let mut begins = now;
        let mut extra = None;
        loop {
            // Only a bulkhead can make a call wait here.
            let seated = match (course.hopeful(begins), state.bulkhead()) {
                (Err(gave_up), _) => Err(gave_up),
                (Ok(()), None) => Ok((Sitting::None, begins)),
                (Ok(()), Some(bulkhead)) => course.seat(bulkhead, begins).await,
            };
            let begun = match seated {
                Ok((seat, now)) => course.begin(seat, now, &mut extra),
                Err(gave_up) => Err(gave_up),
            };
            let first_held = match begun {
                Ok(held) => held,
                Err(gave_up) => {
                    // Paid for, and not made.
                    course.put_back([extra, None]);
                    return course.done(Err(gave_up), None, true);
                }
            };
            let first = pin!(first_held.under_way().map(|(attempt, place)| op(attempt, place)));
            // Lent and not given: it is too large to be moved about.
            let mut running = Running { first, first_held, second: None, spare: None };
            match course.run(&mut running, &class, &mut op).await {
                Next::Done(called) => return called,
                Next::Again { at, leave } => {
                    course.alarm.until(world, at).await;
                    (begins, extra) = (world.mono(), leave);
                }
            }
        }
    }

    /// What a call has to get past once, however many attempts it makes.
    fn admit(&self, context: &CallContext, now: Mono) -> Result<(), GaveUp> {
        let limited = match &self.policy.share {
            Some(share) => Some(share.decide(1, now)),
            None => self.state.rate().map(|rate| rate.decide(1, now)),
        };
        if let Some(decision) = limited.filter(|decision| !decision.allowed) {
            self.tell(reason::RATE_LIMITED);
            let retry_after = decision.retry_after;
            return Err(GaveUp::NotAdmitted { reason: reason::RATE_LIMITED, retry_after });
        }
        if let Some(throttle) = self.state.throttle()
            && throttle.admit(context.rank(), self.world.random(), now).is_err()
        {
            self.tell(reason::THROTTLED);
            return Err(GaveUp::NotAdmitted { reason: reason::THROTTLED, retry_after: None });
        }
        Ok(())
    }

    /// What a retry is decided by.
    fn rules(&self, now: Mono) -> Rules<'a> {
        Rules {
            retry: self.policy.retry.as_ref(),
            restraint: self.policy.restraint.as_ref(),
            usual: self.state.latencies().and_then(|latencies| latencies.usual(now)),
        }
    }

    fn tell(&self, reason: &'static str) {
        if let Some(watch) = self.state.watch() {
            watch.decided(reason);
        }
    }

    fn activated(&self, part: Part) {
        if let Some(watch) = self.state.watch() {
            watch.activated(part);
        }
    }
}

impl std::fmt::Debug for Stack<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").field("policy", self.policy).field("state", self.state).finish()
    }
}

/// The attempts under way: one, and sometimes its companion.
struct Running<'a, 'f, T: Target, O, Fut> {
    first: Pin<&'f mut Option<Fut>>,
    first_held: Held<'a, T>,
    second: Option<(Pin<Box<Fut>>, Held<'a, T>)>,
    /// What the one that failed first left behind.
    spare: Option<O>,
}

/// What follows when no attempt is under way any more.
enum Next<'a, O> {
    Done(Called<O>),
    Again { at: Mono, leave: Option<Extra<'a>> },
}

impl<'a, T: Target> Course<'a, T> {
    /// Waits until the attempts under way have ended.
    async fn run<O, V, C, F, Fut>(
        &mut self,
        running: &mut Running<'a, '_, T, O, Fut>,
        class: &C,
        op: &mut F,
    ) -> Next<'a, O>
    where
        V: Into<Report>,
        C: Fn(&O) -> V,
        F: FnMut(Attempt, &T::Place) -> Fut,
        Fut: Future<Output = O>,
    {
        loop {
            let (which, ended, now) = match next(self, running).await {
                Event::Hedge(now) => {
                    let held = self.begin_hedge(now);
                    running.second = held.and_then(|held| {
                        let (attempt, place) = held.under_way()?;
                        let future = Box::pin(op(attempt, place));
                        Some((future, held))
                    });
                    continue;
                }
                Event::Ended(which, ended, now) => (which, ended, now),
            };
            let report = ended.as_ref().map(|outcome| class(outcome).into());
            let now = now.unwrap_or_else(|| self.ended_at(report, running.first_held.began()));
            let attempt = running.settle(which, report, now);
            if report.is_none() && attempt.deadline < self.context.deadline {
                self.stack.tell(reason::ATTEMPT_TIMEOUT);
            }
            let report = report.unwrap_or(Report::from(crate::Class::Failure));
            let (rules, world) = (self.stack.rules(now), self.stack.world);
            match self.attempts.ended(&rules, &self.context, &report, now, || world.random()) {
                After::Other => running.spare = ended.or(running.spare.take()),
                After::HandBack(why) => {
                    running.supersede(which, now);
                    if which == Which::Second && why.is_none() {
                        self.stack.tell(reason::HEDGE_WON);
                    }
                    return Next::Done(self.hand_back(
                        ended.or(running.spare.take()),
                        attempt,
                        why,
                        report,
                    ));
                }
                After::Retry { at, pushed_back, .. } => match self.may_retry(&report, at, now) {
                    Ok(leave) => {
                        self.stack.activated(Part::Retry);
                        let pushed = reason::RETRY_PUSHED_BACK;
                        self.stack.tell(if pushed_back { pushed } else { reason::RETRY });
                        return Next::Again { at, leave };
                    }
                    Err(why) => {
                        let outcome = ended.or(running.spare.take());
                        return Next::Done(self.hand_back(outcome, attempt, Some(why), report));
                    }
                },
            }
        }
    }

    /// When an attempt ended. Reading the clock costs as much as all the rest of a call, so where nobody wants to know, it
    /// ended when it began.
    fn ended_at(&self, report: Option<Report>, began: Mono) -> Mono {
        let state = self.stack.state;
        let well = report.is_some_and(|report| report.class == crate::Class::Success);
        let wanted = state.breaker().is_some()
            || state.bulkhead().is_some()
            || state.throttle().is_some()
            || state.latencies().is_some()
            || !self.attempts.tried().ids().is_empty();
        if well && !wanted { began } else { self.stack.world.mono() }
    }

    /// Whether breaker and budget have something left for a retry at `at`.
    fn may_retry(
        &self,
        report: &Report,
        at: Mono,
        now: Mono,
    ) -> Result<Option<Extra<'a>>, &'static str> {
        let Stack { policy, state, .. } = self.stack;
        // Sent elsewhere, where there is no elsewhere.
        let one_place = self.attempts.tried().ids().is_empty();
        if policy.restraint.is_some() && report.pushback == Pushback::Elsewhere && one_place {
            return Err(reason::RETRY_REFUSED);
        }
        if state.breaker().is_some_and(|breaker| breaker.peek(at).is_err()) {
            return Err(reason::RETRY_BREAKER);
        }
        match state.budget().map(|budget| budget.withdraw(now)) {
            None => Ok(None),
            Some(Ok(extra)) => Ok(Some(extra)),
            Some(Err(Spent::Rate)) => Err(reason::RETRY_BUDGET),
            Some(Err(Spent::Concurrency)) => Err(reason::RETRY_BUSY),
        }
    }

    fn hand_back<O>(
        &self,
        outcome: Option<O>,
        attempt: Attempt,
        why: Option<&'static str>,
        report: Report,
    ) -> Called<O> {
        let failed = crate::Matching::default().has(report.class)
            && why != Some(reason::RETRY_UNMATCHED)
            || report.class == crate::Class::Permanent;
        if let Some(why) = why.filter(|_| failed) {
            self.stack.tell(why);
        }
        let result = outcome.ok_or_else(|| self.out_of_time(attempt));
        self.done(result, why, failed)
    }

    fn out_of_time(&self, attempt: Attempt) -> GaveUp {
        let attempts = self.attempts.made();
        if attempt.deadline < self.context.deadline {
            return GaveUp::TimedOut { after: attempt.limit, attempts };
        }
        self.stack.tell(reason::DEADLINE);
        GaveUp::DeadlinePassed { attempts }
    }

    fn done<O>(
        &self,
        result: Result<O, GaveUp>,
        reason: Option<&'static str>,
        failed: bool,
    ) -> Called<O> {
        let marked = failed && self.stack.policy.restraint.is_some();
        Called {
            result,
            attempts: self.attempts.made(),
            hedged: self.attempts.hedged(),
            reason,
            pushback: if marked { Pushback::No } else { Pushback::None },
        }
    }
}

impl<T: Target, O, Fut> Running<'_, '_, T, O, Fut> {
    /// Ends an attempt; without a report it is out of time.
    fn settle(&mut self, which: Which, report: Option<Report>, now: Mono) -> Attempt {
        let end = report.map_or(End::TimedOut, End::Report);
        match which {
            Which::First => {
                self.first.set(None);
                self.first_held.settle(end, now)
            }
            Which::Second => match self.second.take() {
                Some((future, mut held)) => {
                    drop(future);
                    held.settle(end, now)
                }
                None => Attempt::default(),
            },
        }
    }

    /// Ends the other one, which is not needed any more.
    fn supersede(&mut self, winner: Which, now: Mono) {
        match winner {
            Which::First => {
                if let Some((future, mut held)) = self.second.take() {
                    drop(future);
                    let _ = held.settle(End::Superseded, now);
                }
            }
            Which::Second if self.first.is_some() => {
                self.first.set(None);
                let _ = self.first_held.settle(End::Superseded, now);
            }
            Which::Second => {}
        }
    }
}

#[cfg(test)]
mod tests;
