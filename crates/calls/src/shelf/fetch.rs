//! The one call that several may wait for: made by nobody's future in particular, so it owns all it needs.

use super::{Kept, LOAD_WITHIN, Own, tell};
use crate::{
    Body, CallError, CallPolicy, CanonicalPath, Invoker, Patience, Phase, Target, invoke::Terms,
    outgoing::Outgoing,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Response, StatusCode, header};
use outrigger_kernel::{Deadline, within};
use outrigger_resilience::{
    CallContext, Class, Retry,
    cache::{Lookup, RequestHead, ResponseHead, Stored, Times, Uncacheable},
    reason,
};
use std::sync::{Arc, PoisonError};

/// A call as its caller makes it, to be made into a [`Load`] where it comes to that.
#[derive(Clone, Copy)]
pub(crate) struct Errand<'a> {
    pub(crate) target: &'a Target,
    pub(crate) policy: &'a CallPolicy,
    pub(crate) operation: &'a CanonicalPath,
    pub(crate) terms: Terms<'a>,
}

/// What was asked for, of a `GET` without a body.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) scope: String,
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
}

impl Asked {
    pub(crate) fn head(&self) -> RequestHead<'_> {
        const GET: &Method = &Method::GET;
        RequestHead { scope: &self.scope, method: GET, uri: &self.uri, headers: &self.headers }
    }
}

/// What a flight brings to those who wait for it.
#[derive(Clone)]
pub(crate) enum Fetched {
    /// An answer that is kept now, or was found to hold still.
    Kept {
        stored: Arc<Stored<Bytes>>,
        confirmed: bool,
    },
    /// An old one, because the target failed, with this status if with any.
    Rescued {
        stored: Arc<Stored<Bytes>>,
        status: Option<StatusCode>,
    },
    /// An answer that is not kept, and for all who waited and asked as the one who called did.
    Shared {
        whole: Arc<Response<Bytes>>,
        asked: Arc<HeaderMap>,
    },
    /// For the one who called only.
    NotShared,
    Failed(Arc<CallError>),
}

impl Fetched {
    /// It as far as it is the answer to somebody who asked with these headers: what an answer varies with is not known when
    /// its call is joined.
    pub(super) fn fitting(self, headers: &HeaderMap) -> Self {
        let fits = match &self {
            Self::Kept { stored, .. } | Self::Rescued { stored, .. } => stored.fits(headers),
            Self::Shared { whole, asked } => is_one_variant(whole.headers(), asked, headers),
            Self::NotShared | Self::Failed(_) => true,
        };
        if fits { self } else { Self::NotShared }
    }

    /// What it is in the words of metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Kept { confirmed: true, .. } => reason::CACHE_CONFIRMED,
            Self::Kept { .. } | Self::Failed(_) => reason::CACHE_MISS,
            Self::Rescued { .. } => reason::CACHE_ON_ERROR,
            Self::Shared { .. } | Self::NotShared => reason::CACHE_UNCACHEABLE,
        }
    }
}

/// A call that belongs to nobody yet.
pub(crate) struct Load {
    invoker: Arc<Invoker>,
    target: Target,
    asked: Asked,
    kept: Arc<Kept>,
    policy: CallPolicy,
    operation: CanonicalPath,
    reconnect: Option<Retry>,
    class: fn(&Response<Body>) -> Class,
    context: CallContext,
    patience: Patience,
}

impl Errand<'_> {
    pub(super) fn tell(&self, reason: &'static str) {
        self.policy.tell(reason);
    }

    /// The call, made for its caller alone.
    pub(super) async fn call(
        &self,
        invoker: &Invoker,
        outgoing: Outgoing,
    ) -> Result<Response<Body>, CallError> {
        invoker.call(self.target, outgoing, self.operation, self.terms).await
    }

    /// The caller has no more time.
    pub(super) fn late(&self) -> CallError {
        let target = self.target.id().to_owned();
        CallError::Timeout { target, waiting_for: Phase::Answer }
    }

    pub(super) fn load(&self, invoker: &Invoker, asked: Asked, kept: &Arc<Kept>) -> Load {
        let Terms { reconnect, class, context, patience, .. } = self.terms;
        Load {
            invoker: invoker.own(),
            target: self.target.clone(),
            asked,
            kept: Arc::clone(kept),
            policy: self.policy.clone(),
            operation: self.operation.clone(),
            reconnect: reconnect.cloned(),
            class,
            context,
            patience,
        }
    }
}

impl Load {
    async fn call(&self, outgoing: Outgoing) -> Result<Response<Body>, CallError> {
        // Who called first may have little time; those who join it need not.
        let due = Deadline::after(self.invoker.world(), LOAD_WITHIN);
        let patience =
            Patience::moving(self.patience.stall).quiet(self.patience.quiet).no_later_than(due);
        let context = CallContext { deadline: due, ..self.context };
        let reconnect = self.reconnect.as_ref();
        let terms = Terms::anew(&self.policy, reconnect, patience, self.class, context);
        self.invoker.call(&self.target, outgoing, &self.operation, terms).await
    }

    /// Calls, and keeps the answer if it may be kept; what is for one caller only goes to `own`.
    ///
    /// `outgoing` is `None` when it cannot be sent, which one without a body always can.
    pub(super) async fn fetch(self, outgoing: Option<Outgoing>, own: Option<Own>) -> Fetched {
        let invoker = Arc::clone(&self.invoker);
        let world = invoker.world();
        let asked_at = world.mono();
        // Another flight may have ended between the first look and the joining. The draw is the one that finds a refresh
        // due wherever one can be: this may be such a refresh.
        let held = match self.kept.cache.look(&self.asked.head(), asked_at, 0) {
            Lookup::Hit(hit) if own.is_some() || !hit.is_due => {
                return Fetched::Kept { stored: hit.stored, confirmed: false };
            }
            Lookup::Hit(hit) => Some(hit.stored),
            Lookup::Ask(stored) => Some(stored),
            _ => None,
        };
        let Some(mut outgoing) = outgoing else { return Fetched::NotShared };
        let headers = outgoing.headers_mut();
        // What the caller has is compared with the answer, which is for all who wait.
        headers.remove(header::IF_NONE_MATCH);
        headers.remove(header::IF_MODIFIED_SINCE);
        for (name, value) in held.iter().flat_map(|stored| stored.conditions()) {
            headers.insert(name, value);
        }
        let ended = self.call(outgoing).await;
        let failed = match &ended {
            Ok(answer) => answer.status().is_server_error(),
            Err(error) => error.is_failure(),
        };
        if failed && let Some(hit) = self.kept.cache.rescue(&self.asked.head(), world.mono()) {
            let status = ended.ok().map(|answer| answer.status());
            return Fetched::Rescued { stored: hit.stored, status };
        }
        match ended {
            Ok(answer) => self.settle(held.as_deref(), answer, asked_at, own).await,
            Err(error) => Fetched::Failed(Arc::new(error)),
        }
    }

    async fn settle(
        &self,
        held: Option<&Stored<Bytes>>,
        answer: Response<Body>,
        asked_at: outrigger_kernel::Mono,
        own: Option<Own>,
    ) -> Fetched {
        let (kept, world) = (&self.kept, self.invoker.world());
        let (now, wall, random) = (world.mono(), world.wall(), world.random());
        let times = Times { asked_at, now, wall, random };
        let head = self.asked.head();
        if let Some(stored) = held.filter(|_| answer.status() == StatusCode::NOT_MODIFIED) {
            return match kept.cache.confirm(&head, stored, answer.headers(), times) {
                Ok(stored) => Fetched::Kept { stored, confirmed: true },
                // It holds this once.
                Err(_) => {
                    let mut whole = Response::new(stored.body.clone());
                    *whole.status_mut() = stored.status;
                    *whole.headers_mut() = stored.headers.clone();
                    self.shared(whole)
                }
            };
        }
        let of = ResponseHead { status: answer.status(), headers: answer.headers() };
        let verdict = kept.cache.may_keep(&head, &of, &times);
        let shared = match verdict {
            Ok(()) => true,
            // A failure is one for all who asked: they would only fail it once more each.
            Err(Uncacheable::Status) => answer.status().is_server_error(),
            Err(Uncacheable::NoLifetime) => kept.settings.coalesce_any,
            Err(_) => false,
        };
        if !shared {
            kept.pass(&head, now);
            return for_one(answer, own);
        }
        let limit = kept.settings.cache.body_max;
        let (parts, body) = answer.into_parts();
        let deadline = Deadline::after(world, LOAD_WITHIN);
        let target = self.target.id();
        let body = match within(world, deadline, tell::gather(body, limit)).await {
            Ok(Ok(Ok(body))) => body,
            Ok(Ok(Err(long))) => {
                kept.pass(&head, now);
                return for_one(Response::from_parts(parts, long), own);
            }
            Ok(Err(source)) => {
                let target = target.to_owned();
                let error = CallError::Broken { target, nothing_sent: false, source };
                return Fetched::Failed(Arc::new(error));
            }
            Err(_) => {
                let (target, waiting_for) = (target.to_owned(), Phase::Answer);
                return Fetched::Failed(Arc::new(CallError::Timeout { target, waiting_for }));
            }
        };
        kept.pass_no_more(&head);
        if verdict.is_ok() {
            let of = ResponseHead { status: parts.status, headers: &parts.headers };
            let length = body.len();
            if let Ok(stored) = kept.cache.keep(&head, &of, body.clone(), length, times) {
                return Fetched::Kept { stored, confirmed: false };
            }
        }
        self.shared(Response::from_parts(parts, body))
    }

    fn shared(&self, whole: Response<Bytes>) -> Fetched {
        Fetched::Shared { whole: Arc::new(whole), asked: Arc::new(self.asked.headers.clone()) }
    }
}

/// Whether an answer is the same for two requests, as far as it says what it varies with.
fn is_one_variant(answer: &HeaderMap, one: &HeaderMap, other: &HeaderMap) -> bool {
    answer.get_all(header::VARY).iter().all(|value| {
        let names = value.to_str().unwrap_or("*").split(',').map(str::trim);
        names.filter(|name| !name.is_empty()).all(|name| match HeaderName::try_from(name) {
            Ok(name) if name != "*" => one.get_all(&name).iter().eq(other.get_all(&name)),
            _ => false,
        })
    })
}

fn for_one(answer: Response<Body>, own: Option<Own>) -> Fetched {
    if let Some(own) = own {
        *own.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }
    Fetched::NotShared
}
