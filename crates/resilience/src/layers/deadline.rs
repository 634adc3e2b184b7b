//! A deadline around a service.

use crate::CallContext;
use outrigger_kernel::{BoxFuture, Elapsed, World, within};
use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;

/// Gives up on what is not answered by the deadline that `context` reads from a request; what is expired already never
/// reaches the service. The timer is made only for a service that does not answer at once.
#[derive(Clone)]
pub struct DeadlineLayer<X> {
    world: Arc<dyn World>,
    context: X,
}

impl<X> DeadlineLayer<X> {
    /// Deadlines as `context` reads them, which is told the time.
    pub fn new(world: Arc<dyn World>, context: X) -> Self {
        Self { world, context }
    }
}

impl<X> fmt::Debug for DeadlineLayer<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeadlineLayer")
    }
}

impl<S, X: Clone> Layer<S> for DeadlineLayer<X> {
    type Service = WithDeadline<S, X>;

    fn layer(&self, inner: S) -> Self::Service {
        WithDeadline { inner, layer: self.clone() }
    }
}

/// A service with a deadline around it.
#[derive(Clone, Debug)]
pub struct WithDeadline<S, X> {
    inner: S,
    layer: DeadlineLayer<X>,
}

impl<S, X, R> Service<R> for WithDeadline<S, X>
where
    S: Service<R>,
    S::Future: Send + 'static,
    S::Error: From<Elapsed> + Send + 'static,
    S::Response: Send + 'static,
    X: Fn(&R, outrigger_kernel::Mono) -> CallContext,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let world = Arc::clone(&self.layer.world);
        let now = world.mono();
        let deadline = (self.layer.context)(&request, now).deadline;
        if deadline.expired(now) {
            return Box::pin(async { Err(Elapsed.into()) });
        }
        let answer = self.inner.call(request);
        Box::pin(async move { within(&*world, deadline, answer).await? })
    }
}
