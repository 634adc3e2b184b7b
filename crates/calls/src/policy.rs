//! What stands between a call and its target: a policy, what is remembered under it, and what the call brings along.
//!
//! ```text
//!   headers --CallContext--> Stack::call( attempt, attempt, .. ) --> answer, or why there is none
//!      ^ deadline, criticality, attempt,          |
//!        idempotency                              +-- headers of the attempt: what is left, which attempt
//! ```
//!
//! The machines are `outrigger_resilience`'s; here is what only this crate knows: what an answer means for them, and how
//! a call says in headers what they have to know. Nothing of ours goes to services outside.

use crate::{
    Body, CallError, Chaos, Invocation, Ladder, Patience, Phase, Shelf, Target, chaos, grpc,
    invoke::Terms,
    outgoing::Outgoing,
    places::{Places, Spread, StickyBy},
};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use outrigger_kernel::{Deadline, Kind, Mono, World};
use outrigger_resilience::{
    Attempt, BalanceSettings, Breakers, CallContext, Called, Class, FaultPlan, GaveUp, Headers,
    Idempotency, Incoming, Policy, PolicyState, Pushback, Reach, Report, Watch, header,
    parse_grpc_timeout, parse_request_timeout, parse_timeout_ms,
};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

/// What a callee says on trying again, and we say to our caller.
pub const RETRY: HeaderName = HeaderName::from_static(header::RETRY);

const TIMEOUT_MS: HeaderName = HeaderName::from_static(header::TIMEOUT_MS);
const ENVOY_TIMEOUT_MS: HeaderName = HeaderName::from_static(header::ENVOY_TIMEOUT_MS);
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static(header::REQUEST_TIMEOUT);

/// A deadline for calls that end by other means.
const NEVER: Deadline = Deadline(Mono(u64::MAX));

/// A policy for one target and what is remembered under it: a breaker per operation, the rest for the target.
#[derive(Clone, Debug)]
pub struct CallPolicy {
    policy: Policy,
    /// The same for a call that can be sent once only.
    once: Policy,
    repeat_all: bool,
    state: PolicyState,
    breakers: Option<Arc<Breakers>>,
    balance: Option<BalanceSettings>,
    sticky: Option<StickyBy>,
    places: Option<Arc<Places>>,
    operations: usize,
    seed: u64,
    shelf: Option<Arc<Shelf>>,
    ladder: Option<Arc<Ladder>>,
    chaos: Option<Arc<Chaos>>,
    watch: OnceLock<Arc<dyn Watch>>,
}

impl CallPolicy {
    /// A policy for one target that remembers at most `operations` breakers.
    #[must_use]
    pub fn new(policy: Policy, operations: usize) -> Self {
        Self::seeded(policy, operations, 0)
    }

    /// The same, with a seed for the random part of the breakers' open times, so that many processes do not probe in one
    /// instant.
    #[must_use]
    pub fn seeded(policy: Policy, operations: usize, seed: u64) -> Self {
        let breakers = policy
            .breaker
            .clone()
            .map(|settings| Arc::new(Breakers::new(settings, operations).seeded(seed)));
        let once = Policy { retry: None, restraint: None, hedge: None, ..policy.clone() };
        let state = PolicyState::seeded(&policy, seed);
        let watch = OnceLock::new();
        let (balance, places) = (None, None);
        Self {
            policy,
            once,
            repeat_all: false,
            state,
            breakers,
            balance,
            sticky: None,
            places,
            operations,
            seed,
            shelf: None,
            ladder: None,
            chaos: None,
            watch,
        }
    }

    /// The same policy for another target, of which nothing is known yet.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self::seeded(self.policy.clone(), self.operations, self.seed)
            .repeating_all(self.repeat_all)
            .balancing(self.balance.clone())
            .sticking(self.sticky.clone())
            .caching(self.shelf.clone())
            .falling_back(self.ladder.clone())
            .faulting(self.chaos.clone())
    }

    /// Whether it leaves calls as they are.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.policy.is_idle()
            && self.balance.is_none()
            && self.shelf.is_none()
            && self.ladder.is_none()
            && self.chaos.is_none()
    }

    /// The same; with a shelf, answers are kept there.
    #[must_use]
    pub fn caching(mut self, shelf: Option<Arc<Shelf>>) -> Self {
        self.shelf = shelf;
        self
    }

    /// The same; with a ladder, calls that failed for good are answered from there.
    #[must_use]
    pub fn falling_back(mut self, ladder: Option<Arc<Ladder>>) -> Self {
        self.ladder = ladder;
        self
    }

    /// The same, with faults on purpose.
    #[must_use]
    pub fn faulting(mut self, chaos: Option<Arc<Chaos>>) -> Self {
        self.chaos = chaos;
        self
    }

    /// The same; where the balancer sticks to instances, by this.
    #[must_use]
    pub fn sticking(mut self, sticky: Option<StickyBy>) -> Self {
        self.sticky = sticky;
        self
    }

    /// The same; with `yes`, every call to the target may be repeated, whatever its method.
    #[must_use]
    pub fn repeating_all(mut self, yes: bool) -> Self {
        self.repeat_all = yes;
        self
    }

    /// The same; with settings, the instances of the target are balanced rather than taken in turns.
    #[must_use]
    pub fn balancing(mut self, balance: Option<BalanceSettings>) -> Self {
        self.places = balance.clone().map(|settings| Arc::new(Places::new(settings)));
        self.balance = balance;
        self
    }

    /// The same policy with what `old`, whose place it takes, remembers: each part whose settings have not changed goes on
    /// with what it knows.
    #[must_use]
    pub fn keeping(&self, old: &Self) -> Self {
        let same = self.policy.breaker == old.policy.breaker && self.operations == old.operations;
        let places = match (&self.balance, &old.places) {
            (Some(settings), Some(known)) => {
                known.configure(settings.clone());
                Some(Arc::clone(known))
            }
            _ => self.places.clone(),
        };
        if let Some((own, known)) = self.shelf.as_ref().zip(old.shelf.as_ref()) {
            own.adopt(known);
        }
        if let Some((own, known)) = self.ladder.as_ref().zip(old.ladder.as_ref()) {
            own.adopt(known);
        }
        // Faults that are edited begin anew; others end when they were to end.
        let chaos = match (&self.chaos, &old.chaos) {
            (Some(own), Some(known)) if own.settings() == known.settings() => old.chaos.clone(),
            _ => self.chaos.clone(),
        };
        let breakers = if same { &old.breakers } else { &self.breakers };
        // What an operator made of the breakers is not for a file to undo.
        let forced = old.breakers.as_ref().and_then(|breakers| breakers.forced());
        if let Some(breakers) = breakers.as_ref().filter(|_| !same && forced.is_some()) {
            breakers.force(forced, Mono(0));
        }
        Self {
            policy: self.policy.clone(),
            once: self.once.clone(),
            repeat_all: self.repeat_all,
            state: old.state.carried_over(&old.policy, &self.policy),
            breakers: breakers.clone(),
            balance: self.balance.clone(),
            sticky: self.sticky.clone(),
            places,
            operations: self.operations,
            seed: self.seed,
            shelf: self.shelf.clone(),
            ladder: self.ladder.clone(),
            chaos,
            watch: OnceLock::new(),
        }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Tells whoever `make` makes what the policy does, unless somebody is told already.
    pub fn watch_with(&self, make: impl FnOnce() -> Arc<dyn Watch>) {
        self.watch.get_or_init(make);
    }

    /// The breakers, by path.
    #[must_use]
    pub fn breakers(&self) -> Option<&Breakers> {
        self.breakers.as_deref()
    }

    /// Where answers are kept, if anywhere.
    #[must_use]
    pub fn shelf(&self) -> Option<&Shelf> {
        self.shelf.as_deref()
    }

    /// What calls that failed for good are answered with, if with anything.
    #[must_use]
    pub fn ladder(&self) -> Option<&Ladder> {
        self.ladder.as_deref()
    }

    /// Whether it may have an answer though nobody is there to give one.
    #[must_use]
    pub fn answers_without_target(&self) -> bool {
        self.shelf.is_some() || self.ladder.is_some()
    }

    /// The faults on purpose, if there are any.
    #[must_use]
    pub fn chaos(&self) -> Option<&Chaos> {
        self.chaos.as_deref()
    }

    /// What is done to an attempt on purpose, if anything.
    pub(crate) fn disturbance(&self, outgoing: &Outgoing, world: &dyn World) -> Option<FaultPlan> {
        let plan = self.chaos.as_ref()?.plan(outgoing, world);
        for reason in chaos::told(&plan) {
            self.tell(reason);
        }
        (!plan.is_nothing()).then_some(plan)
    }

    /// Tells whoever watches.
    pub(crate) fn tell(&self, reason: &'static str) {
        if let Some(watch) = self.watch.get() {
            watch.decided(reason);
        }
    }

    /// What holds for a call that can be sent again, or that cannot. What is left for one that cannot is everything but
    /// retry and hedge.
    pub(crate) fn for_call(&self, replayable: bool) -> &Policy {
        if replayable { &self.policy } else { &self.once }
    }

    /// Where the attempts of a call go.
    pub(crate) fn places(&self, target: &Target, headers: &HeaderMap, now: Mono) -> Spread<'_> {
        match (&self.places, target) {
            (Some(places), Target::App(instances)) => {
                let key = self.sticky.as_ref().and_then(|by| by.key(headers));
                places.of(instances, key, now)
            }
            (Some(places), Target::Endpoint(endpoint)) => match &endpoint.instances {
                Some(instances) => {
                    let key = self.sticky.as_ref().and_then(|by| by.key(headers));
                    places.of(instances, key, now)
                }
                None => Spread::NONE,
            },
            _ => Spread::NONE,
        }
    }

    /// What is remembered of calls to `operation`.
    pub(crate) fn state(&self, operation: &str) -> PolicyState {
        let breaker = self.breakers.as_ref().map(|known| known.get(operation));
        let state = self.state.clone().breaking(breaker);
        match self.watch.get() {
            Some(watch) => state.watched_by(Arc::clone(watch)),
            None => state,
        }
    }

    /// What the call brings along, as far as the policy asks.
    pub(crate) fn context(&self, call: &Invocation<'_>, now: Mono) -> CallContext {
        let header = |name: &str| call.headers.get(name)?.to_str().ok();
        // Calls come from the app beside us, which is as trusted as we are.
        let method = call.method.as_str();
        let incoming = Incoming { method, limit: Duration::MAX, trusted: true };
        let context = CallContext::read(&incoming, header, now);
        match context.idempotency {
            Idempotency::Unknown if self.repeat_all => context.idempotent(Idempotency::Declared),
            _ => context,
        }
    }

    /// When no further attempt is made and the last one is given up.
    pub(crate) fn last_moment(&self, world: &dyn World, patience: Patience) -> Deadline {
        let endless = self.policy.retry.as_ref().is_some_and(|retry| retry.max_retries.is_none());
        // Attempts have ends of their own, so only retries without number need one more.
        let enough = if endless { Deadline::after(world, patience.quiet) } else { NEVER };
        patience.due().map_or(enough, |due| due.earliest(enough))
    }

    /// What the end of an attempt means.
    pub(crate) fn report(
        &self,
        ended: &Result<Response<Body>, CallError>,
        terms: &Terms<'_>,
        replayable: bool,
        world: &dyn World,
    ) -> Report {
        let class = classify(ended, terms.class, replayable, &self.policy);
        let mut report = Report::from(class);
        match ended {
            Err(error) if error.nothing_sent() => report.reach = Reach::NotSent,
            // Without restraint a policy is one of the old kind, which asks nobody.
            Ok(answer) if class != Class::Success && self.policy.restraint.is_some() => {
                let header = |name: &str| answer.headers().get(name)?.to_str().ok();
                report.pushback = Pushback::read(header, world.wall());
            }
            _ => {}
        }
        report
    }

    /// A call's end, with what its caller has to know of it.
    pub(crate) fn settled(
        &self,
        called: Called<Result<Response<Body>, CallError>>,
        target: &str,
    ) -> Result<Response<Body>, CallError> {
        let Called { result, attempts, pushback, .. } = called;
        let last = pushback == Pushback::No && attempts > 0;
        let ended = result.unwrap_or_else(|gave_up| Err(self.no_outcome(target, gave_up)));
        match ended {
            Ok(mut answer) => {
                if last {
                    answer.headers_mut().insert(RETRY, HeaderValue::from_static("no"));
                }
                Ok(answer)
            }
            Err(error) if last => Err(CallError::Tried { attempts, source: Box::new(error) }),
            Err(error) => Err(error),
        }
    }

    fn no_outcome(&self, target: &str, gave_up: GaveUp) -> CallError {
        let target = target.to_owned();
        match gave_up {
            GaveUp::Open(open) => CallError::BreakerOpen { target, open },
            GaveUp::DeadlinePassed { attempts: 0 } => {
                CallError::Timeout { target, waiting_for: Phase::Start }
            }
            GaveUp::TimedOut { .. } | GaveUp::DeadlinePassed { .. } => {
                CallError::Timeout { target, waiting_for: Phase::Answer }
            }
            GaveUp::NotAdmitted { reason, retry_after } => {
                let limited = reason == outrigger_resilience::reason::RATE_LIMITED;
                let quota = self.policy.rate.filter(|_| limited);
                CallError::NotAdmitted { target, reason, retry_after, quota }
            }
        }
    }
}

/// By when a caller wants its answer, if a header of its says so.
pub(crate) fn named_deadline(headers: &HeaderMap, now: Mono) -> Option<Deadline> {
    let read = |name: &HeaderName, parse: fn(&str) -> Option<Duration>| {
        headers.get(name).and_then(|value| parse(value.to_str().ok()?))
    };
    let named = [
        read(&grpc::GRPC_TIMEOUT, parse_grpc_timeout),
        read(&TIMEOUT_MS, parse_timeout_ms),
        read(&ENVOY_TIMEOUT_MS, parse_timeout_ms),
        read(&REQUEST_TIMEOUT, parse_request_timeout),
    ];
    let left = named.into_iter().flatten().min()?;
    Some(Deadline(now.plus(left)))
}

/// Tells an app what is left of the time, where somebody named one.
pub(crate) fn tell_deadline(
    outgoing: &mut Outgoing,
    target: &Target,
    due: Option<Deadline>,
    world: &dyn World,
) {
    let Some(due) = due else { return };
    let context = CallContext::until(due);
    tell(outgoing, target, &Attempt { deadline: due, ..Attempt::default() }, &context, world);
}

/// Tells an app what it has to know of an attempt: how long it may take, which one it is, how much it matters.
pub(crate) fn tell(
    outgoing: &mut Outgoing,
    target: &Target,
    attempt: &Attempt,
    context: &CallContext,
    world: &dyn World,
) {
    if !matches!(target, Target::App(_)) {
        return;
    }
    let due = context.deadline.earliest(attempt.deadline);
    let onward = CallContext { deadline: due, ..*context }.onward(world.mono(), None);
    let left = onward.filter(|_| due != NEVER);
    // gRPC has a header of its own for it, which is written when the request is.
    let told_apart = outgoing.budget.is_some();
    let told = Headers {
        context: *context,
        left: left.unwrap_or_default(),
        attempt: attempt.number,
        hedge: attempt.hedge,
    };
    let headers = outgoing.headers_mut();
    // Each hop counts its own.
    headers.remove(header::ATTEMPT);
    told.print(|name, value| {
        let timeout = name == header::GRPC_TIMEOUT || name == header::TIMEOUT_MS;
        if timeout && (left.is_none() || told_apart) {
            return;
        }
        let name = HeaderName::from_static(name);
        if name == grpc::GRPC_TIMEOUT && !headers.contains_key(&name) {
            return;
        }
        if let Ok(value) = HeaderValue::try_from(value.to_string()) {
            headers.insert(name, value);
        }
    });
}

/// What an HTTP status means.
pub(crate) fn http_class(answer: &Response<Body>) -> Class {
    match answer.status().as_u16() {
        200..=399 => Class::Success,
        status => Class::Http(status),
    }
}

/// What a gRPC status means. A verdict without messages comes in the headers, where it can still be retried.
pub(crate) fn grpc_class(answer: &Response<Body>) -> Class {
    let status = answer.headers().get(grpc::GRPC_STATUS).and_then(|value| value.to_str().ok());
    match status.map(str::parse::<u16>) {
        None | Some(Ok(0)) if answer.status().is_success() => Class::Success,
        Some(Ok(code)) => Class::Grpc(code),
        _ => Class::Http(answer.status().as_u16()),
    }
}

fn classify(
    ended: &Result<Response<Body>, CallError>,
    class: fn(&Response<Body>) -> Class,
    replayable: bool,
    policy: &Policy,
) -> Class {
    match ended {
        Ok(answer) => match class(answer) {
            Class::Success => Class::Success,
            failed if replayable => failed,
            // A stream is not sent again, but the breaker is to know what its user counts as a failure.
            failed => match &policy.retry {
                Some(retry) if !retry.matching.has(failed) => Class::Success,
                _ => Class::Permanent,
            },
        },
        // The caller's own fault, or our own refusal: neither says anything about the callee.
        Err(
            CallError::RequestBody(_)
            | CallError::Overloaded { .. }
            | CallError::Relayed { kind: Kind::Exhausted | Kind::Forbidden | Kind::Invalid, .. },
        ) => Class::Ignored,
        Err(_) if replayable => Class::Failure,
        Err(_) => Class::Permanent,
    }
}
