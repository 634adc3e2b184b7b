//! What is known about a gRPC request before its message is read.

use crate::{host::Host, trace::Started, trace::Trace};
use http::HeaderMap;
use outrigger_calls::grpc::{GRPC_TIMEOUT, parse_timeout};
use outrigger_kernel::Deadline;
use std::sync::Arc;
use tonic::{Request, Status};

/// Travels in the request's extensions from the front to the handler.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) trace: Arc<Trace>,
    pub(crate) deadline: Deadline,
    /// The same, if the client has named a time.
    pub(crate) named_deadline: Option<Deadline>,
    pub(crate) started: Started,
}

impl Context {
    /// The context of a request with these headers.
    pub(crate) fn new(host: &Host, headers: &HeaderMap) -> Self {
        let world = &*host.world;
        let named = headers.get(&GRPC_TIMEOUT).and_then(parse_timeout);
        let named_deadline = named.map(|budget| Deadline::after(world, budget));
        let default = || Deadline::after(world, host.settings.request_timeout);
        Self {
            trace: Arc::new(Trace::from_headers(world, headers, host.settings.sampling_rate)),
            deadline: named_deadline.unwrap_or_else(default),
            named_deadline,
            started: Started::now(world),
        }
    }

    /// The context that the front has put into `request`.
    pub(crate) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let context = request.extensions().get::<Self>().cloned();
        context.ok_or_else(|| Status::internal("the request did not come through the front"))
    }
}
