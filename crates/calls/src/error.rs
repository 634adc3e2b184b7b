//! What can go wrong with a call before an answer is there.
//!
//! Two questions decide what the caller does next, so every variant answers them: whose move is it
//! ([`CallError::kind`]), and can the callee have seen anything ([`CallError::nothing_sent`]).

use crate::{BadPath, BoxError, Refusal, grpc::Code};
use outrigger_kernel::Kind;
use outrigger_resilience::Open;
use std::{fmt, io};

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
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Turn => "too many other calls came first",
            Self::Connection => "no connection came up",
            Self::Answer => "no answer came",
        })
    }
}

impl CallError {
    /// The caller's next move.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::NoEndpoint { .. } => Kind::NotConfigured,
            Self::BadTarget { .. } | Self::BadPath(_) | Self::RequestBody(_) => Kind::Invalid,
            Self::Forbidden(_) => Kind::Forbidden,
            Self::Timeout { .. } => Kind::Timeout,
            Self::Overloaded { .. } => Kind::Exhausted,
            Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Unhealthy { .. }
            | Self::BreakerOpen { .. } => Kind::Unavailable,
            // Kind::Unavailable promises that nothing took effect, so it is only for what was not sent.
            Self::Broken { nothing_sent: true, .. } => Kind::Unavailable,
            Self::Broken { nothing_sent: false, .. } => Kind::Internal,
            Self::Relayed { kind, .. } => *kind,
        }
    }

    /// Whether the callee has certainly seen nothing of the request, so that sending it elsewhere is safe whatever it
    /// does.
    #[must_use]
    pub fn nothing_sent(&self) -> bool {
        match self {
            Self::RequestBody(_) | Self::Timeout { waiting_for: Phase::Answer, .. } => false,
            Self::Broken { nothing_sent, .. } | Self::Relayed { nothing_sent, .. } => *nothing_sent,
            _ => true,
        }
    }
}
