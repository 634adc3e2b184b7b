//! What the API does, apart from how it is asked: the HTTP and gRPC handlers translate, these functions act.
//!
//! One file per family. Each takes the host, what was asked for and a deadline, and answers a value or a
//! [`crate::Fault`]; none of them knows a header, a status or a JSON field.

pub(crate) mod invoke;
pub(crate) mod metadata;
pub(crate) mod publish;
pub(crate) mod secrets;
pub(crate) mod state;

use std::sync::Arc;

/// What is being done to which component, for metrics.
pub(crate) struct Stage<'a> {
    pub(crate) component: &'a Arc<str>,
    pub(crate) operation: &'static str,
}
