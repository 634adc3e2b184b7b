//! Faults on purpose, done to attempts: next to the wire, so that everything above takes them for the network.
//!
//! Which calls are met, and until when, is `outrigger_resilience::Faults`' business; here is what a fault looks like.

use crate::{Body, CallError, Patience, Phase, body, grpc, outgoing::Outgoing};
use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body::{Frame, SizeHint};
use outrigger_kernel::{BoxFuture, Mono, World};
use outrigger_resilience::{
    Abort, Corruption, FaultPlan, FaultRule, FaultTotals, Faults, Pace, reason,
};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

/// Says of an answer that it is none of the callee's.
const FAULT: HeaderName = HeaderName::from_static("outrigger-fault");

/// Which faults, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultSettings {
    /// What is done to whom.
    pub rules: Vec<FaultRule>,
    /// For how long after they came into force; a day at most.
    pub lasts: Duration,
}

/// Faults in force, until their time is over or somebody stops them.
#[derive(Debug)]
pub struct Chaos {
    settings: FaultSettings,
    faults: Faults,
}

impl Chaos {
    /// Faults in force from `now` on.
    #[must_use]
    pub fn begin(settings: FaultSettings, now: Mono) -> Arc<Self> {
        let faults = Faults::default();
        faults.start(settings.rules.clone(), now, Some(settings.lasts));
        Arc::new(Self { settings, faults })
    }

    /// What they are.
    #[must_use]
    pub fn settings(&self) -> &FaultSettings {
        &self.settings
    }

    /// For how much longer they are in force; `None` when they are not any more.
    #[must_use]
    pub fn left(&self, now: Mono) -> Option<Duration> {
        self.faults.on_until(now).map(|until| until.since(now))
    }

    /// Ends them.
    pub fn stop(&self) {
        self.faults.stop();
    }

    /// What they did so far.
    #[must_use]
    pub fn totals(&self) -> FaultTotals {
        self.faults.totals()
    }

    /// What is to be done to an attempt.
    pub(crate) fn plan(&self, outgoing: &Outgoing, world: &dyn World) -> FaultPlan {
        let now = world.mono();
        if self.faults.on_until(now).is_none() {
            return FaultPlan::default();
        }
        let header = |name: &str| outgoing.head.headers.get(name)?.to_str().ok();
        self.faults.plan(now, world.random(), header)
    }
}

/// What a plan does, in the words of metrics.
pub(crate) fn told(plan: &FaultPlan) -> impl Iterator<Item = &'static str> {
    [
        (!plan.delay.is_zero()).then_some(reason::FAULT_DELAY),
        (plan.abort.is_some() && !plan.drops).then_some(reason::FAULT_ABORT),
        plan.drops.then_some(reason::FAULT_DROP),
        plan.corrupt.is_some().then_some(reason::FAULT_CORRUPT),
        plan.pace.is_some().then_some(reason::FAULT_BANDWIDTH),
    ]
    .into_iter()
    .flatten()
}

/// What happens before an attempt is made; the attempt's end, where that is all that happens.
pub(crate) async fn before(
    plan: &FaultPlan,
    is_grpc: bool,
    patience: Patience,
    target: &str,
    world: &dyn World,
) -> Option<Result<Response<Body>, CallError>> {
    let ends = patience.ends(world);
    if !plan.delay.is_zero() {
        // No longer than anybody waits: the rest would only hold what the call holds.
        let most = ends.map_or(Duration::MAX, |ends| ends.remaining(world.mono()));
        world.sleep(plan.delay.min(most)).await;
    }
    if plan.drops {
        match ends {
            Some(ends) => world.sleep(ends.remaining(world.mono())).await,
            // The driver of the call has a deadline for it.
            None => std::future::pending().await,
        }
        let target = target.to_owned();
        return Some(Err(CallError::Timeout { target, waiting_for: Phase::Answer }));
    }
    Some(match plan.abort? {
        Abort::Reset => Err(CallError::Broken {
            target: target.to_owned(),
            nothing_sent: false,
            source: "a fault on purpose".into(),
        }),
        Abort::Http(status) if !is_grpc => Ok(aborted(status)),
        Abort::Grpc(code) if !is_grpc => Ok(aborted(http_of(code))),
        Abort::Http(status) => Ok(refused(grpc_of(status))),
        Abort::Grpc(code) => Ok(refused(code)),
    })
}

/// What happens to the answer.
pub(crate) fn after(
    plan: &FaultPlan,
    answer: Response<Body>,
    world: &Arc<dyn World>,
) -> Response<Body> {
    if plan.corrupt.is_none() && plan.pace.is_none() {
        return answer;
    }
    answer.map(|rest| {
        let world = Arc::clone(world);
        let (corrupt, pace) = (plan.corrupt, plan.pace);
        body::streamed(Damaged { rest, corrupt, pace, held: None, world })
    })
}

/// Whether a request is one of gRPC.
pub(crate) fn is_grpc(outgoing: &Outgoing) -> bool {
    let kind = outgoing.head.headers.get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn aborted(status: u16) -> Response<Body> {
    let mut answer = Response::new(body::full("a fault on purpose"));
    *answer.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(FAULT, HeaderValue::from_static("abort"));
    answer
}

fn refused(code: u16) -> Response<Body> {
    let code = u8::try_from(code).ok().and_then(grpc::Code::from_number);
    let mut answer = grpc::refusal(code.unwrap_or(grpc::Code::Unknown), "a fault on purpose");
    answer.headers_mut().insert(FAULT, HeaderValue::from_static("abort"));
    answer
}

/// The gRPC status that a client makes of an HTTP one, as the specification of gRPC has it.
fn grpc_of(status: u16) -> u16 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

fn http_of(code: u16) -> u16 {
    match code {
        3 | 11 => 400,
        16 => 401,
        7 => 403,
        5 => 404,
        6 | 10 => 409,
        8 => 429,
        12 => 501,
        14 => 503,
        4 => 504,
        _ => 500,
    }
}

/// An answer that is damaged, or slow, on its way.
struct Damaged {
    rest: Body,
    corrupt: Option<Corruption>,
    pace: Option<Pace>,
    /// A piece whose time has not come, and the wait for it.
    held: Option<(Bytes, BoxFuture<'static, ()>)>,
    world: Arc<dyn World>,
}

impl Damaged {
    fn spoil(&mut self, data: Bytes) -> Bytes {
        let Some(corruption) = &mut self.corrupt else { return data };
        let mut bytes = BytesMut::from(&data[..]);
        corruption.apply(&mut bytes);
        bytes.freeze()
    }
}

impl http_body::Body for Damaged {
    type Data = Bytes;
    type Error = crate::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, crate::BoxError>>> {
        let this = &mut *self;
        loop {
            if let Some((data, wait)) = &mut this.held {
                ready!(wait.as_mut().poll(cx));
                let data = std::mem::take(data);
                this.held = None;
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            let frame = match ready!(Pin::new(&mut this.rest).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            let data = match frame.into_data() {
                Ok(data) => this.spoil(data),
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            };
            let Some(pace) = &mut this.pace else {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            };
            let hold = pace.hold(data.len(), this.world.mono());
            this.held = Some((data, this.world.sleep(hold)));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.held {
            // What is held counts too, and is not worth the sum.
            Some(_) => SizeHint::default(),
            None => self.rest.size_hint(),
        }
    }
}
