//! Calling something by its address: check, tidy the headers, try under a policy, hand back the answer.
//!
//! ```text
//!   Invocation --> access list --> headers --> policy( pick an instance --> channel ) --> headers --> answer
//! ```
//!
//! An answer is an answer: whatever status the callee gives is passed on. Errors are only for calls that got none.
//!
//! What can be sent again decides what may be retried. A body that is in memory (known length, at most
//! [`REPLAY_BYTES_MAX`]) can, a stream cannot. Whether it *should* be sent again is the policy's business, with one
//! exception: an instance that cannot be reached is passed over for another one, and an app that cannot be reached is
//! waited for, which is safe whatever the method and, since nothing of it was taken, even for a stream.

use crate::{
    Alternates, Body, CallError, Caller, CanonicalPath, HeaderEdits, Instances, OutboundClient,
    Over, Patience, Target, chaos, headers,
    neighbour::Passage,
    outbound,
    outgoing::{Held, Outgoing, Upload},
    places::{Chosen, Preferred},
    policy::{self, CallPolicy},
    shelf::Errand,
};
use http::{
    HeaderMap, Method, Response, StatusCode, Uri,
    uri::{Parts, PathAndQuery},
};
use outrigger_kernel::{Deadline, Kind, Mono, World, within};
use outrigger_resilience::{
    BudgetSettings, CallContext, Class, FaultPlan, Policy, PolicyStates, Retry, Stack,
};
use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

pub use crate::outgoing::REPLAY_BYTES_MAX;

/// A call to be made.
#[derive(Debug)]
pub struct Invocation<'a> {
    /// Whom to call.
    pub target: &'a Target,
    /// Who calls, if that is proved; for the callee's access list.
    pub caller: Option<&'a Caller>,
    /// The method.
    pub method: Method,
    /// The path, as it is checked and sent.
    pub path: &'a CanonicalPath,
    /// What the access list and the breaker look at when it is not the path: the name of a method inside a message.
    pub operation: Option<&'a CanonicalPath>,
    /// The query, without its `?`.
    pub query: Option<&'a str>,
    /// The caller's headers, as they came.
    pub headers: HeaderMap,
    /// What happens to them besides losing the hop-by-hop ones.
    pub edits: HeaderEdits<'a>,
    /// The body.
    pub body: Body,
    /// Retries, breakers and timeouts; `None` for none.
    pub policy: Option<&'a CallPolicy>,
    /// How an app that cannot be reached is waited for, where the policy has no retries of its own: it may only be
    /// starting again. Nothing was sent then, so this is safe for any call.
    pub reconnect: Option<&'a Retry>,
    /// How long it may take.
    pub patience: Patience,
    /// Who knows other targets, for a policy that goes elsewhere when this one fails.
    pub alternates: Option<&'a dyn Alternates>,
}

/// Under which terms a call is made.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    policy: Option<&'a CallPolicy>,
    pub(crate) reconnect: Option<&'a Retry>,
    pub(crate) patience: Patience,
    pub(crate) class: fn(&Response<Body>) -> Class,
    pub(crate) context: CallContext,
    /// By when the caller says in a header that it wants its answer.
    named: Option<Deadline>,
}

impl<'a> Terms<'a> {
    pub(crate) fn of(
        call: &Invocation<'a>,
        class: fn(&Response<Body>) -> Class,
        now: Mono,
    ) -> Self {
        let Invocation { policy, reconnect, patience, .. } = *call;
        let unknown = || CallContext::until(Deadline(Mono(u64::MAX)));
        let context = policy.map_or_else(unknown, |policy| policy.context(call, now));
        Self { policy, reconnect, patience, class, context, named: None }
    }

    /// Those of a call that has no caller of its own.
    pub(crate) fn anew(
        policy: &'a CallPolicy,
        reconnect: Option<&'a Retry>,
        patience: Patience,
        class: fn(&Response<Body>) -> Class,
        context: CallContext,
    ) -> Self {
        Self { policy: Some(policy), reconnect, patience, class, context, named: None }
    }
}

/// How many more attempts there may be at an app that cannot be reached: one for each call that found it so, and 100 a
/// second besides. They cost the app nothing, since nobody is there, but they cost us.
const RECONNECTS: BudgetSettings = BudgetSettings {
    share: 1.0,
    floor_per_second: 100,
    ttl: Duration::from_secs(10),
    concurrent_share: 1.0,
    concurrent_floor: 1_000,
};
/// Most apps whose absence is remembered.
const AWAY_MAX: usize = 1_000;

/// Makes calls.
pub struct Invoker {
    /// For calls that outlive their caller.
    own: Weak<Self>,
    outbound: Arc<OutboundClient>,
    world: Arc<dyn World>,
    /// What was spent on waiting for apps, by app.
    reconnects: PolicyStates,
}

impl Invoker {
    /// An invoker that reaches services outside through `outbound`.
    #[must_use]
    pub fn new(outbound: Arc<OutboundClient>, world: Arc<dyn World>) -> Arc<Self> {
        let reconnects = PolicyStates::new(AWAY_MAX).seeded(world.random());
        Arc::new_cyclic(|own| Self { own: Weak::clone(own), outbound, world, reconnects })
    }

    /// Makes a call and hands back the answer, whatever its status. Both bodies stream.
    ///
    /// # Errors
    /// [`CallError`] when there is no answer.
    pub async fn invoke(&self, call: Invocation<'_>) -> Result<Response<Body>, CallError> {
        let ladder = call.policy.and_then(|policy| policy.ladder().map(|ladder| (policy, ladder)));
        match ladder.filter(|(_, ladder)| ladder.takes(&call.method, &call.headers)) {
            // On the heap, so that calls without one, which are most, need not be as large.
            Some((policy, ladder)) => Box::pin(self.with_ladder(policy, ladder, call)).await,
            None => self.once(call).await,
        }
    }

    /// The same without anything to fall back to.
    pub(crate) async fn once(&self, mut call: Invocation<'_>) -> Result<Response<Body>, CallError> {
        let bodiless = call.method == Method::HEAD;
        let now = self.world.mono();
        let named = policy::named_deadline(&call.headers, now);
        if let Some(named) = named {
            call.patience = call.patience.no_later_than(named);
        }
        let terms = Terms { named, ..Terms::of(&call, policy::http_class, now) };
        let target = call.target;
        let operation = call.operation.unwrap_or(call.path);
        check_access(&call)?;
        let shelf = call.policy.and_then(|policy| policy.shelf().map(|shelf| (policy, shelf)));
        let outgoing = prepare(call).await?;
        let mut answer = match shelf.filter(|_| !chaos::is_grpc(&outgoing)) {
            None => self.call(target, outgoing, operation, terms).await?,
            Some((policy, shelf)) => {
                let errand = Errand { target, policy, operation, terms };
                Box::pin(self.through_shelf(shelf, outgoing, errand)).await?
            }
        };
        headers::strip_hop_by_hop(answer.headers_mut());
        if !bodiless && answer.status() != StatusCode::NOT_MODIFIED {
            let length = http_body::Body::size_hint(answer.body()).exact();
            headers::correct_length(answer.headers_mut(), length);
        }
        Ok(answer)
    }

    /// Calls an app once more and once more, until it is there or has been waited for long enough.
    async fn wait_for(
        &self,
        instances: &Instances,
        outgoing: &mut Outgoing,
        patience: Patience,
        retry: &Retry,
        mut ended: Result<Response<Body>, CallError>,
    ) -> Result<Response<Body>, CallError> {
        let world = self.world();
        let last = patience.due().unwrap_or(Deadline::after(world, patience.quiet));
        let bounded = Policy { budget: Some(RECONNECTS), ..Policy::default() };
        let known = self.reconnects.get(instances.app_id(), &bounded);
        let spent = known.budget();
        let _under_way = spent.map(|spent| spent.begin(world.mono()));
        for number in 1.. {
            let wait = retry.next(number, Class::Failure, world.random());
            let left = last.remaining(world.mono());
            let Some(wait) = wait.filter(|wait| *wait < left) else { break };
            let leave = spent.map(|spent| spent.withdraw(world.mono()));
            if matches!(leave, Some(Err(_))) {
                break;
            }
            world.sleep(wait).await;
            ended = any_of(instances, outgoing, patience, None).await;
            if !is_away(&ended, instances, outgoing) {
                break;
            }
        }
        ended
    }

    /// By what services outside are reached.
    #[must_use]
    pub fn outbound(&self) -> &Arc<OutboundClient> {
        &self.outbound
    }

    /// This one, to be kept.
    pub(crate) fn own(&self) -> Arc<Self> {
        let own = self.own.upgrade();
        own.expect("whoever calls it holds it")
    }

    pub(crate) fn world(&self) -> &dyn World {
        &*self.world
    }

    /// Makes the attempts.
    pub(crate) async fn call(
        &self,
        target: &Target,
        mut outgoing: Outgoing,
        operation: &CanonicalPath,
        terms: Terms<'_>,
    ) -> Result<Response<Body>, CallError> {
        let Terms { policy, reconnect, patience, context, named, .. } = terms;
        let world = self.world();
        let Some(known) = policy else {
            policy::tell_deadline(&mut outgoing, target, named, world);
            let ways = Ways { target, patience, reconnect, first: None };
            return self.attempt(&mut outgoing, ways).await;
        };
        let policy = known.policy();
        let reconnect = reconnect.filter(|_| policy.retry.is_none());
        if policy.retry.is_some() || policy.hedge.is_some() {
            let holding = outgoing.hold_if_small();
            match patience.ends(world) {
                None => holding.await?,
                Some(deadline) => within(world, deadline, holding)
                    .await
                    .map_err(|_| CallError::RequestBody("it did not come in time".into()))??,
            }
        }
        let replayable = outgoing.upload.replayable();
        let (effective, state) = (known.for_call(replayable), known.state(operation.as_str()));
        let deadline = context.deadline.earliest(known.last_moment(world, patience));
        let context = CallContext { deadline, ..context };
        let timed = effective.timeout.is_some_and(|timeout| !timeout.is_zero());
        // The driver keeps deadline and timeout; more timers for them below would only cost. A timeout somebody chose
        // takes the place of the general one, also when it is longer.
        let answer = patience.answer.filter(|_| !timed);
        let patience = Patience { until_answer: None, answer, ..patience };
        let connect = effective.connect.or(patience.connect);
        let patience = Patience { connect, ..patience };
        let places = known.places(target, &outgoing.head.headers, world.mono());
        let held = Held::new(outgoing);
        let (held, context, terms) = (&held, &context, &terms);
        let stack = Stack::new(world, effective, &state);
        // On the heap, so that calls without a policy, which are most, need not be as large.
        let called = Box::pin(stack.call(
            *context,
            &places,
            |ended| known.report(ended, terms, replayable, world),
            move |attempt, place: &Option<Chosen>| {
                let preferred = place.as_ref().map(Chosen::preferred);
                async move {
                    let Some(mut outgoing) = held.take() else {
                        return Err(CallError::RequestBody("it was sent before".into()));
                    };
                    policy::tell(&mut outgoing, target, &attempt, context, world);
                    let first = preferred.as_ref();
                    let ways = Ways { target, patience, reconnect, first };
                    let ended = match known.disturbance(&outgoing, world) {
                        None => self.attempt(&mut outgoing, ways).await,
                        Some(plan) => Box::pin(self.disturbed(&plan, &mut outgoing, ways)).await,
                    };
                    if let Some((preferred, answer)) = first.zip(ended.as_ref().ok()) {
                        preferred.ended(&(terms.class)(answer));
                    }
                    ended
                }
            },
        ));
        known.settled(called.await, target.id())
    }

    /// The same, with faults on purpose.
    async fn disturbed(
        &self,
        plan: &FaultPlan,
        outgoing: &mut Outgoing,
        ways: Ways<'_>,
    ) -> Result<Response<Body>, CallError> {
        let world = self.world();
        let (target, patience) = (ways.target.id(), ways.patience);
        let is_grpc = chaos::is_grpc(outgoing);
        if let Some(ended) = chaos::before(plan, is_grpc, patience, target, world).await {
            return ended;
        }
        let answer = self.attempt(outgoing, ways).await?;
        Ok(chaos::after(plan, answer, &self.world))
    }

    /// One attempt, as the policy counts them. An app that cannot be reached is waited for within it.
    async fn attempt(
        &self,
        outgoing: &mut Outgoing,
        ways: Ways<'_>,
    ) -> Result<Response<Body>, CallError> {
        let Ways { target, patience, reconnect, first } = ways;
        match target {
            Target::App(instances) => {
                let ended = any_of(instances, outgoing, patience, first).await;
                let Some(retry) = reconnect else { return ended };
                if !is_away(&ended, instances, outgoing) {
                    return ended;
                }
                // On the heap, for the same reason.
                Box::pin(self.wait_for(instances, outgoing, patience, retry, ended)).await
            }
            Target::Endpoint(endpoint) => {
                for (name, value) in &endpoint.headers {
                    outgoing.headers_mut().insert(name.clone(), value.clone());
                }
                if let Some(instances) = &endpoint.instances {
                    outbound::join(&endpoint.base, outgoing)?;
                    return Box::pin(any_of(instances, outgoing, patience, first)).await;
                }
                let tls = endpoint.tls.as_ref();
                self.outbound.exchange(&endpoint.base, tls, outgoing, patience).await
            }
            Target::Url(base) => self.outbound.exchange(base, None, outgoing, patience).await,
        }
    }
}

/// Where an attempt goes, and how long it may take.
#[derive(Clone, Copy)]
struct Ways<'a> {
    target: &'a Target,
    patience: Patience,
    reconnect: Option<&'a Retry>,
    /// The instance that was chosen for it.
    first: Option<&'a Preferred>,
}

/// Calls one of the instances, the preferred one first. One that cannot be reached is passed over for the next: it has
/// seen nothing.
async fn any_of(
    instances: &Instances,
    outgoing: &mut Outgoing,
    patience: Patience,
    preferred: Option<&Preferred>,
) -> Result<Response<Body>, CallError> {
    let mut tried = Vec::new();
    loop {
        let first = preferred.filter(|_| tried.is_empty());
        let channel = match first {
            Some(preferred) => Arc::clone(&preferred.channel),
            None => instances.pick(&tried)?,
        };
        let ended = channel.invoked(outgoing, patience).await;
        let failed_over = ended.as_ref().is_err_and(|error| {
            is_its_own(error) && error.nothing_sent() && !matches!(outgoing.upload, Upload::Gone)
        });
        if failed_over && let Some(kept) = instances.kept() {
            // It may be gone, and others may have come.
            kept.hurry();
        }
        tried.push(channel);
        if !failed_over || tried.len() >= instances.channels().len() {
            return ended;
        }
        if let Some(preferred) = first {
            preferred.passed_over();
        }
    }
}

/// Whether nobody was there to take the call, but could be a moment later: one known to be gone for good will not.
fn is_away(
    ended: &Result<Response<Body>, CallError>,
    instances: &Instances,
    outgoing: &Outgoing,
) -> bool {
    let Err(error) = ended else { return false };
    let unreached = matches!(
        error,
        CallError::Connect { .. } | CallError::Broken { .. } | CallError::Relayed { .. }
    );
    unreached
        && error.kind() == Kind::Unavailable
        && error.nothing_sent()
        && !matches!(outgoing.upload, Upload::Gone)
        && instances.pick(&[]).is_ok()
}

/// The callee's access list has the last word, and it is asked about the path that is sent.
pub(crate) fn check_access(call: &Invocation<'_>) -> Result<(), CallError> {
    let Target::App(instances) = call.target else { return Ok(()) };
    let Some(channel) = instances.channels().first() else { return Ok(()) };
    let Some(access) = channel.access() else { return Ok(()) };
    let grpc = channel.target().protocol.is_grpc();
    let over = if grpc { Over::Grpc } else { Over::Http(&call.method) };
    // With a list in force, both what is judged and what is sent must have one meaning.
    for path in [Some(call.path), call.operation].into_iter().flatten() {
        if let Some(bad) = path.ambiguity() {
            return Err(CallError::BadPath(bad));
        }
    }
    Ok(access.check(call.caller, over, call.operation.unwrap_or(call.path))?)
}

pub(crate) async fn prepare(call: Invocation<'_>) -> Result<Outgoing, CallError> {
    let bad = |reason| CallError::BadTarget { target: call.target.id().to_owned(), reason };
    if call.method == Method::CONNECT {
        return Err(bad("CONNECT asks for a tunnel, which an invocation is not"));
    }
    let passage = Passage::of(&call);
    let mut request = http::Request::new(call.body);
    *request.method_mut() = call.method;
    *request.uri_mut() =
        uri(call.path, call.query).ok_or_else(|| bad("the path and query do not make a URI"))?;
    *request.headers_mut() = call.headers;
    call.edits.apply(request.headers_mut());
    Ok(Outgoing { passage, ..Outgoing::new(request).await })
}

fn uri(path: &CanonicalPath, query: Option<&str>) -> Option<Uri> {
    let path_and_query = match query {
        None => PathAndQuery::try_from(path.as_str()),
        Some(query) => PathAndQuery::from_maybe_shared([path.as_str(), "?", query].concat()),
    };
    let mut parts = Parts::default();
    parts.path_and_query = Some(path_and_query.ok()?);
    Uri::from_parts(parts).ok()
}

/// Whether another instance of the same app may fare better. What the process of a neighbour says of its app holds for
/// that instance only.
fn is_its_own(error: &CallError) -> bool {
    let kinds = [Kind::Unavailable, Kind::NotFound, Kind::NotConfigured];
    match error {
        // A certificate that is refused is that of one place.
        CallError::Connect { .. } | CallError::Broken { .. } | CallError::Tls { .. } => true,
        CallError::Relayed { kind, .. } => kinds.contains(kind),
        _ => false,
    }
}

impl fmt::Debug for Invoker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Invoker")
    }
}
