//! What can go wrong with a response body once its headers are there.

use super::silence::Over;
use crate::{BoxError, grpc::Code};
use std::time::Duration;

/// Why a response body ended early. It is what the body's error is made of.
#[derive(Debug, thiserror::Error)]
pub enum BodyFault {
    /// Nothing moved for too long.
    #[error("nothing came from {target} for {silence:?}")]
    Stalled {
        /// Who was called.
        target: String,
        /// For how long.
        silence: Duration,
    },
    /// The call took longer than it may.
    #[error("the call to {target} took longer than it may")]
    OutOfTime {
        /// Who was called.
        target: String,
    },
    /// The callee gave up the stream on purpose.
    #[error("{target} gave the stream up: {reason}")]
    Reset {
        /// Who was called.
        target: String,
        /// The reason it gave.
        reason: h2::Reason,
    },
    /// The connection broke, or what came was not HTTP.
    #[error("the connection to {target} broke: {source}")]
    Broken {
        /// Who was called.
        target: String,
        /// What happened.
        source: BoxError,
    },
}

impl BodyFault {
    pub(super) fn waited(target: &str, over: Over) -> Self {
        let target = target.to_owned();
        match over {
            Over::Silent(silence) => Self::Stalled { target, silence },
            Over::Deadline => Self::OutOfTime { target },
        }
    }

    pub(super) fn from_h2(target: &str, error: h2::Error) -> Self {
        let target = target.to_owned();
        match error.reason() {
            Some(reason) if error.is_reset() => Self::Reset { target, reason },
            _ => Self::Broken { target, source: error.into() },
        }
    }
}

/// The gRPC status that says the same as a body's error.
pub(crate) fn verdict(error: &BoxError) -> Code {
    match error.downcast_ref::<BodyFault>() {
        Some(BodyFault::Stalled { .. } | BodyFault::OutOfTime { .. }) => Code::DeadlineExceeded,
        Some(BodyFault::Broken { .. }) => Code::Unavailable,
        // As the gRPC specification maps HTTP/2 errors.
        Some(BodyFault::Reset { reason, .. }) => match *reason {
            h2::Reason::CANCEL => Code::Cancelled,
            h2::Reason::REFUSED_STREAM => Code::Unavailable,
            h2::Reason::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
            h2::Reason::INADEQUATE_SECURITY => Code::PermissionDenied,
            _ => Code::Internal,
        },
        None => Code::Unknown,
    }
}
