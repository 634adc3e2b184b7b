//! What can go wrong with a call before an answer is there.
//!
//! Two questions decide what the caller does next, so every variant answers them: whose move is it
//! ([`CallError::kind`]), and can the callee have seen anything ([`CallError::nothing_sent`]).

use crate::{BadPath, BoxError, Refusal, grpc::Code};
use http::{HeaderName, HeaderValue};
use outrigger_kernel::Kind;
use outrigger_resilience::{Open, Quota};
use std::{fmt, io, sync::Arc, time::Duration};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A call that got no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No app of that name is known.
    #[error("no app named {app:?} is known in the namespace {namespace:?}")]
    NotFound {
        /// The app id asked for.
        app: String,
        /// Its namespace.
        namespace: String,
    },
    /// The app is known but has no port to call.
    #[error("the app {app:?} has no port that can be called")]
    NoEndpoint {
        /// The app id asked for.
        app: String,
    },
    /// The app is on another host, and there is no way to call it there.
    #[error("the app {app:?} is at {place}, and there is no way to call it there: {reason}")]
    NoPeerWay {
        /// The app id asked for.
        app: String,
        /// Where it is.
        place: String,
        /// What is missing, and what to do about it.
        reason: String,
    },
    /// It could not be found out where the app is.
    #[error("it is not known where the app {app:?} of the namespace {namespace:?} is: {reason}")]
    Unresolved {
        /// The app id asked for.
        app: String,
        /// Its namespace.
        namespace: String,
        /// Why not.
        reason: String,
    },
    /// The target is not an app id, an endpoint's name or a URL.
    #[error("{target:?} cannot be called: {reason}")]
    BadTarget {
        /// What was asked for.
        target: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The path could mean different things to the one who checks it and to the one who serves it.
    #[error(transparent)]
    BadPath(#[from] BadPath),
    /// The callee's access list refuses the caller.
    #[error(transparent)]
    Forbidden(#[from] Refusal),
    /// No connection could be made.
    #[error("cannot connect to {target}: {source}")]
    Connect {
        /// Where to.
        target: String,
        /// Why not.
        source: io::Error,
    },
    /// The connection is there, but TLS did not come up on it.
    #[error("no TLS connection to {target}: {reason}")]
    Tls {
        /// Where to.
        target: String,
        /// Why not.
        reason: String,
    },
    /// Out of time.
    #[error("{target} timed out: {waiting_for}")]
    Timeout {
        /// Who was called.
        target: String,
        /// What did not happen in time.
        waiting_for: Phase,
    },
    /// As many calls as allowed are under way and as many as allowed wait.
    #[error("{target} has {limit} calls under way and {waiting} waiting, no more are accepted")]
    Overloaded {
        /// Who was called.
        target: String,
        /// How many calls may be under way.
        limit: usize,
        /// How many calls wait for their turn.
        waiting: usize,
    },
    /// The policy of the target did not let it through.
    #[error("{target}: not admitted ({reason})")]
    NotAdmitted {
        /// Who was called.
        target: String,
        /// Why; a word of [`outrigger_resilience::reason`].
        reason: &'static str,
        /// When to come back, if that is known.
        retry_after: Option<Duration>,
        /// The limit there is, if it is one of calls in a time.
        quota: Option<Quota>,
    },
    /// What could be done about a failure was done: whoever called need not try again.
    #[error("{source} (attempts: {attempts})")]
    Tried {
        /// How many attempts were made.
        attempts: u32,
        /// How the last one ended.
        source: Box<CallError>,
    },
    /// The call that several waited for ended so.
    #[error("{0}")]
    Shared(Arc<CallError>),
    /// The app's health check fails.
    #[error("app is not in a healthy state: {app}")]
    Unhealthy {
        /// The app.
        app: String,
    },
    /// The circuit breaker refused.
    #[error("{target}: {open}")]
    BreakerOpen {
        /// Who was called.
        target: String,
        /// How open it is.
        open: Open,
    },
    /// The caller's body ended in an error before an answer was there.
    #[error("the request body ended early: {0}")]
    RequestBody(BoxError),
    /// The connection broke, or what came back was not HTTP, before an answer was there.
    #[error("the connection to {target} broke before an answer came: {source}")]
    Broken {
        /// Who was called.
        target: String,
        /// Whether the callee can be sure to have seen nothing of the request.
        nothing_sent: bool,
        /// What happened.
        source: BoxError,
    },
    /// The process of this machine that hosts the app says why there is no answer.
    #[error("{reason}")]
    Relayed {
        /// The caller's next move.
        kind: Kind,
        /// The gRPC status that says the same.
        code: Code,
        /// Whether the app can be sure to have seen nothing of the request.
        nothing_sent: bool,
        /// What that process says.
        reason: String,
    },
}

/// What a call that ran out of time was waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its turn.
    Turn,
    /// A connection.
    Connection,
    /// The response headers.
    Answer,
    /// Nothing: what was left was not worth an attempt.
    Start,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Turn => "too many other calls came first",
            Self::Connection => "no connection came up",
            Self::Answer => "no answer came",
            Self::Start => "too little of it was left to try",
        })
    }
}

impl CallError {
    /// The caller's next move.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::NoEndpoint { .. } | Self::NoPeerWay { .. } => Kind::NotConfigured,
            Self::BadTarget { .. } | Self::BadPath(_) | Self::RequestBody(_) => Kind::Invalid,
            Self::Forbidden(_) => Kind::Forbidden,
            Self::Timeout { .. } => Kind::Timeout,
            Self::Overloaded { .. } | Self::NotAdmitted { .. } => Kind::Exhausted,
            Self::Connect { .. }
            | Self::Unresolved { .. }
            | Self::Tls { .. }
            | Self::Unhealthy { .. }
            | Self::BreakerOpen { .. } => Kind::Unavailable,
            // Kind::Unavailable promises that nothing took effect, so it is only for what was not sent.
            Self::Broken { nothing_sent: true, .. } => Kind::Unavailable,
            Self::Broken { nothing_sent: false, .. } => Kind::Internal,
            Self::Relayed { kind, .. } => *kind,
            Self::Tried { source, .. } => source.kind(),
            Self::Shared(error) => error.kind(),
        }
    }

    /// What to tell the caller on trying again, as headers: `Retry-After`, the limit, or not at all.
    #[must_use]
    pub fn advice(&self) -> Vec<(HeaderName, HeaderValue)> {
        let mut advice = Vec::new();
        let mut add = |name: HeaderName, text: String| {
            advice.extend(HeaderValue::try_from(text).map(|value| (name, value)));
        };
        match self {
            Self::Tried { .. } => add(crate::policy::RETRY, "no".to_owned()),
            Self::Shared(error) => return error.advice(),
            Self::NotAdmitted { target, retry_after, quota, .. } => {
                let seconds = retry_after.map_or(1, |wait| wait.as_millis().div_ceil(1_000).max(1));
                add(http::header::RETRY_AFTER, seconds.to_string());
                if let Some(quota) = quota {
                    add(RATE_LIMIT_POLICY, quota.field(target).to_string());
                    add(RATE_LIMIT, format!("\"{target}\";r=0;t={seconds}"));
                }
            }
            _ => {}
        }
        advice
    }

    /// The error itself, where others only tell of it.
    #[must_use]
    pub fn root(&self) -> &Self {
        match self {
            Self::Tried { source, .. } => source.root(),
            Self::Shared(error) => error.root(),
            own => own,
        }
    }

    /// Whether it is one of the target and the way there, which another answer may stand in for. What the caller did
    /// wrong, may not do, or does too often is none.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        match self.root() {
            Self::NotAdmitted { quota, .. } => quota.is_none(),
            Self::NoEndpoint { .. } | Self::Overloaded { .. } => true,
            error => matches!(
                error.kind(),
                Kind::Timeout | Kind::Unavailable | Kind::Internal | Kind::Exhausted
            ),
        }
    }

    /// Whether the callee has certainly seen nothing of the request, so that sending it elsewhere is safe whatever it
    /// does.
    #[must_use]
    pub fn nothing_sent(&self) -> bool {
        match self {
            Self::RequestBody(_) | Self::Timeout { waiting_for: Phase::Answer, .. } => false,
            Self::Broken { nothing_sent, .. } | Self::Relayed { nothing_sent, .. } => *nothing_sent,
            // Another attempt than the last may have got through.
            Self::Tried { attempts, source } => *attempts < 2 && source.nothing_sent(),
            Self::Shared(error) => error.nothing_sent(),
            _ => true,
        }
    }
}
