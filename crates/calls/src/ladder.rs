//! What a call is answered with when it has failed for good: the last good answer, another target, a constant.
//!
//! ```text
//!   call --- good ----------------------------------------------> its answer (kept, if the ladder has that step)
//!        --- refused by the callee (access rules, 4xx) ---------> the refusal, as it is
//!        --- failed (none, or 5xx) --> step --> step --> ... --> an answer, marked; else the failure, as it is
//! ```
//!
//! It stands outside everything else: after the cache has had its say, and after all attempts, so that it hides nothing
//! from retry, breaker or statistics. Every answer that is not the target's own says so in `outrigger-degraded`.
//!
//! The last good answer is kept under all that was asked, headers included but for those that say nothing of what is
//! wanted ([`ASIDE`]): who asked as somebody else gets nothing that was said to another. It is copied as it flows by; nobody
//! waits for that.
//!
//! The invariant: what the callee refused stays refused, and a call that may not be repeated goes nowhere else once it
//! may have been carried out.

use crate::{
    Body, BoxError, CallError, CallPolicy, Caller, CanonicalPath, HeaderEdits, Invocation, Invoker,
    Patience, Target, body,
    outgoing::Outgoing,
    shelf::{DEGRADED, is_private_matter},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, response};
use http_body::{Body as _, Frame, SizeHint};
use outrigger_kernel::{BoxFuture, Deadline, Mono, World};
use outrigger_resilience::{Degraded, Fallback, LastGood, Rung, Step, cache::StoreBounds, reason};
use std::{
    fmt,
    ops::RangeInclusive,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

/// Request headers that say nothing of what is wanted: who passed the call on, since when, under which number.
const ASIDE: [&str; 20] = [
    "traceparent",
    "tracestate",
    "grpc-trace-bin",
    "baggage",
    "x-request-id",
    "x-correlation-id",
    "user-agent",
    "host",
    "connection",
    "content-length",
    "cache-control",
    "pragma",
    "priority",
    "if-none-match",
    "if-modified-since",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-request-timeout",
    "x-envoy-expected-rq-timeout-ms",
];

/// What a ladder is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct LadderSettings {
    /// The steps, in the order they are tried in.
    pub steps: Vec<Step<String, StaticAnswer>>,
    /// Which statuses of the callee are failures.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// Whether calls of every method are answered from it, not only those of safe ones.
    pub all_methods: bool,
    /// What the last good answers may take up, over all targets.
    pub bounds: StoreBounds,
    /// How long one of them may be.
    pub body_max: usize,
}

/// An answer that is always the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// A ladder under one policy, for all targets that name it.
pub struct Ladder {
    name: String,
    settings: LadderSettings,
    fallback: Fallback<String, StaticAnswer>,
    /// Made when first used, so that a reload can put what there was in its place.
    good: OnceLock<Arc<LastGood<String, StaticAnswer>>>,
}

/// Another target, and how it is called.
#[derive(Debug)]
pub struct Alternate<'a> {
    /// It.
    pub target: Target,
    /// Its own policy.
    pub policy: Option<Arc<CallPolicy>>,
    /// How headers change on the way there.
    pub edits: HeaderEdits<'a>,
}

/// Who knows the targets by name.
pub trait Alternates: fmt::Debug + Send + Sync {
    /// The one called `name`, which may have to be looked for until `deadline`.
    ///
    /// # Errors
    /// When there is none that could be called.
    fn find<'f>(
        &'f self,
        name: &'f str,
        deadline: Deadline,
    ) -> BoxFuture<'f, Result<Alternate<'f>, CallError>>;
}

impl Ladder {
    /// For the policy called `name`.
    #[must_use]
    pub fn new(name: &str, settings: LadderSettings) -> Arc<Self> {
        let fallback = Fallback::new(settings.steps.clone(), 0.0);
        Arc::new(Self { name: name.to_owned(), settings, fallback, good: OnceLock::new() })
    }

    /// What it is made of.
    #[must_use]
    pub fn settings(&self) -> &LadderSettings {
        &self.settings
    }

    /// Takes over what `old` knows, if it is the same ladder.
    pub(crate) fn adopt(&self, old: &Self) {
        if self.name == old.name
            && self.settings == old.settings
            && let Some(good) = old.good.get()
        {
            self.good.get_or_init(|| Arc::clone(good));
        }
    }

    /// Whether it has anything for calls like this.
    pub(crate) fn takes(&self, method: &Method, headers: &HeaderMap) -> bool {
        let kind = headers.get(header::CONTENT_TYPE);
        let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        !is_grpc && (self.settings.all_methods || method.is_safe())
    }

    fn good(&self) -> &Arc<LastGood<String, StaticAnswer>> {
        self.good.get_or_init(|| Arc::new(LastGood::new(self.settings.bounds)))
    }

    fn keeps_good(&self) -> bool {
        self.settings.steps.iter().any(|step| matches!(step, Step::LastGood { .. }))
    }

    fn goes_elsewhere(&self) -> bool {
        self.settings.steps.iter().any(|step| matches!(step, Step::Alternate { .. }))
    }

    /// Whether a call has failed so that something else may be answered.
    fn is_needed(&self, ended: &Result<Response<Body>, CallError>) -> bool {
        match ended {
            Ok(answer) => self.is_failure(answer.status()),
            Err(error) => error.is_failure(),
        }
    }

    fn is_failure(&self, status: StatusCode) -> bool {
        self.settings.statuses.iter().any(|range| range.contains(&status.as_u16()))
    }
}

/// Under what the last good answer to a call is kept.
fn key(call: &Invocation<'_>) -> String {
    let mut key = format!("{}\n{}", call.target.scope(), call.path.as_str());
    if let Some(query) = call.query {
        key.push('?');
        key.push_str(query);
    }
    let aside = |name: &str| ASIDE.contains(&name) || name.starts_with("outrigger-");
    let mut headers: Vec<_> =
        call.headers.iter().filter(|(name, _)| !aside(name.as_str())).collect();
    // In one order, whatever order they were sent in; those of one name stay as they are.
    headers.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in headers {
        // Names and values have no line breaks, so that nothing can pass for something else.
        key.push('\n');
        key.push_str(name.as_str());
        key.push(':');
        key.extend(value.as_bytes().iter().map(|byte| char::from(*byte)));
    }
    key
}

/// What is needed to make a call once more, elsewhere.
struct Again<'a> {
    alternates: &'a dyn Alternates,
    caller: Option<&'a Caller>,
    method: Method,
    path: &'a CanonicalPath,
    operation: Option<&'a CanonicalPath>,
    query: Option<&'a str>,
    patience: Patience,
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl<'a> Again<'a> {
    /// What it takes to make `call` once more; a body is held if it is small. `None` where nobody knows another target.
    async fn of(call: &mut Invocation<'a>) -> Result<Option<Self>, CallError> {
        let Some(alternates) = call.alternates else { return Ok(None) };
        let body = std::mem::replace(&mut call.body, body::empty());
        let mut request = Outgoing::new(Request::new(body)).await;
        request.hold_if_small().await?;
        let body = request.upload.content();
        call.body = request.upload.into_body();
        Ok(Some(Self {
            alternates,
            caller: call.caller,
            method: call.method.clone(),
            path: call.path,
            operation: call.operation,
            query: call.query,
            patience: call.patience,
            headers: call.headers.clone(),
            body,
        }))
    }

    /// What the target called `name` answers, if that is any better.
    async fn ask(
        &self,
        invoker: &Invoker,
        ladder: &Ladder,
        name: &str,
        deadline: Deadline,
    ) -> Option<Response<Body>> {
        let body = self.body.clone()?;
        let alternate = self.alternates.find(name, deadline).await.ok()?;
        let call = Invocation {
            target: &alternate.target,
            caller: self.caller,
            method: self.method.clone(),
            path: self.path,
            operation: self.operation,
            query: self.query,
            headers: self.headers.clone(),
            edits: alternate.edits,
            body: if body.is_empty() { body::empty() } else { body::full(body) },
            policy: alternate.policy.as_deref(),
            reconnect: None,
            patience: self.patience.no_later_than(deadline),
            alternates: None,
        };
        let ended = Box::pin(invoker.once(call)).await;
        // Its failure is no better an answer than the first one.
        let mut answer = ended.ok().filter(|answer| !ladder.is_failure(answer.status()))?;
        let text = format!("alternate; target=\"{}\"", name.replace(['"', '\\'], ""));
        let value = HeaderValue::try_from(text);
        let value = value.unwrap_or(HeaderValue::from_static("alternate"));
        answer.headers_mut().insert(DEGRADED, value);
        Some(answer)
    }
}

impl Invoker {
    /// Makes a call, and answers it from the ladder where it failed.
    pub(crate) async fn with_ladder(
        &self,
        policy: &CallPolicy,
        ladder: &Ladder,
        mut call: Invocation<'_>,
    ) -> Result<Response<Body>, CallError> {
        let world = self.world();
        let deadline = call.patience.ends(world).unwrap_or(Deadline(Mono(u64::MAX)));
        let good_key = (ladder.keeps_good() && call.method == Method::GET).then(|| key(&call));
        let is_repeatable = policy.context(&call, world.mono()).idempotency.repeatable();
        let again = if ladder.goes_elsewhere() { Again::of(&mut call).await? } else { None };
        let ended = self.once(call).await;
        if !ladder.is_needed(&ended) {
            return Ok(keep(ladder, good_key, ended?, world));
        }
        let may_go = is_repeatable || ended.as_ref().is_err_and(CallError::nothing_sent);
        let again = again.filter(|_| may_go);
        let good = good_key.as_ref().and_then(|key| ladder.good().get(key));
        let mut rung = Rung::default();
        loop {
            let now = world.mono();
            let at = good.as_ref().map(|(at, _)| *at);
            match ladder.fallback.next(&mut rung, now, deadline, at) {
                None => {
                    policy.tell(reason::FALLBACK_EXHAUSTED);
                    return ended;
                }
                Some(Degraded::LastGood(age)) => {
                    let Some((_, answer)) = &good else { continue };
                    policy.tell(reason::FALLBACK_LAST_GOOD);
                    return Ok(last_good(answer, age));
                }
                Some(Degraded::Answer(answer)) => {
                    policy.tell(reason::FALLBACK_ANSWER);
                    return Ok(marked(answer, HeaderValue::from_static("static")));
                }
                Some(Degraded::Alternate(name)) => {
                    let Some(again) = &again else { continue };
                    let asked = again.ask(self, ladder, name, deadline).await;
                    let Some(answer) = asked else { continue };
                    policy.tell(reason::FALLBACK_ALTERNATE);
                    return Ok(answer);
                }
            }
        }
    }
}

fn marked(answer: &StaticAnswer, how: HeaderValue) -> Response<Body> {
    let mut given = Response::new(body::full(answer.body.clone()));
    *given.status_mut() = answer.status;
    *given.headers_mut() = answer.headers.clone();
    given.headers_mut().insert(DEGRADED, how);
    given
}

fn last_good(answer: &StaticAnswer, age: Duration) -> Response<Body> {
    let text = format!("last-good; age={}", age.as_secs());
    let how = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("last-good"));
    let mut given = marked(answer, how);
    given.headers_mut().insert(header::AGE, HeaderValue::from(age.as_secs()));
    given
}

/// Copies a good answer as it flows by, if it may be kept.
fn keep(
    ladder: &Ladder,
    key: Option<String>,
    answer: Response<Body>,
    world: &dyn World,
) -> Response<Body> {
    let status = answer.status();
    let is_whole = status.is_success() && status != StatusCode::PARTIAL_CONTENT;
    let fits = answer.body().size_hint().lower() <= ladder.settings.body_max as u64;
    // One that was not the target's own a moment ago does not become younger by being given again.
    let is_own = !answer.headers().contains_key(DEGRADED);
    let varies = answer.headers().get_all(header::VARY).iter().any(|value| value == "*");
    let Some(key) = key.filter(|_| is_whole && fits && is_own && !varies) else { return answer };
    if is_private_matter(answer.headers()) {
        return answer;
    }
    let (head, rest) = answer.into_parts();
    let kept = response_head(&head);
    let copy = Copied {
        rest,
        key,
        head: kept,
        seen: BytesMut::new(),
        limit: ladder.settings.body_max,
        good: Some(Arc::clone(ladder.good())),
        at: world.mono(),
    };
    Response::from_parts(head, body::streamed(copy))
}

fn response_head(head: &response::Parts) -> StaticAnswer {
    let mut headers = head.headers.clone();
    headers.remove("cache-status");
    headers.remove(header::SET_COOKIE);
    StaticAnswer { status: head.status, headers, body: Bytes::new() }
}

/// An answer that is copied as it flows by, and kept when it has come to its end.
struct Copied {
    rest: Body,
    key: String,
    head: StaticAnswer,
    seen: BytesMut,
    limit: usize,
    /// `None` once it is kept, or is not to be.
    good: Option<Arc<LastGood<String, StaticAnswer>>>,
    at: Mono,
}

impl Copied {
    fn ended(&mut self) {
        let Some(good) = self.good.take() else { return };
        let body = std::mem::take(&mut self.seen).freeze();
        let headers: usize =
            self.head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let bytes = self.key.len() + headers + body.len();
        let answer = StaticAnswer { body, ..self.head.clone() };
        good.keep(std::mem::take(&mut self.key), answer, bytes, self.at);
    }
}

impl http_body::Body for Copied {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.rest).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => match frame.data_ref() {
                Some(data) if this.good.is_some() => {
                    if data.len() > this.limit - this.seen.len() {
                        (this.good, this.seen) = (None, BytesMut::new());
                    } else {
                        this.seen.extend_from_slice(data);
                        // Whoever sends it on need not ask for more than there is.
                        if this.rest.is_end_stream() {
                            this.ended();
                        }
                    }
                }
                Some(_) => {}
                // Trailers belong to this answer.
                None => this.good = None,
            },
            Some(Err(_)) => this.good = None,
            None => this.ended(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_end_stream() && self.good.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.size_hint()
    }
}

impl fmt::Debug for Ladder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ladder").field("name", &self.name).finish_non_exhaustive()
    }
}
