//! What the API does, apart from how it is asked: the HTTP and gRPC handlers translate, these functions act.
//!
//! One file per family. Each takes the host, what was asked for and a deadline, and answers a value or a
//! [`crate::Fault`]; none of them knows a header, a status or a JSON field.

pub(crate) mod invoke;
pub(crate) mod lock;
pub(crate) mod metadata;
pub(crate) mod publish;
pub(crate) mod secrets;
pub(crate) mod state;

use crate::errors::Fault;
use http::StatusCode;
use outrigger_resilience::GaveUp;
use std::{sync::Arc, time::Duration};
use tonic::Code;

/// What is being done to which component, for metrics.
pub(crate) struct Stage<'a> {
    pub(crate) component: &'a Arc<str>,
    pub(crate) operation: &'static str,
}

/// The same fault, said in a way that tells a caller to come back where a policy did not let an operation through.
pub(crate) fn given_up(fault: Fault, gave_up: &GaveUp) -> Fault {
    match gave_up {
        GaveUp::NotAdmitted { retry_after, .. } => fault
            .status(StatusCode::SERVICE_UNAVAILABLE, Code::ResourceExhausted)
            .retry_after(retry_after.unwrap_or(Duration::from_secs(1))),
        _ => fault,
    }
}
