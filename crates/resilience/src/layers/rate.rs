//! Rate limits as a layer: one for all, one per key, a share of one for many nodes; whatever decides.

use super::Denied;
use crate::Decision;
use outrigger_kernel::{Mono, World};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;

/// Puts a rate limit in front of a service. `decide` asks the limit, for instance a [`crate::KeyedRateLimiter`] with the
/// caller's name out of the request.
#[derive(Clone)]
pub struct RateLimitLayer<D> {
    world: Arc<dyn World>,
    decide: D,
}

impl<D> RateLimitLayer<D> {
    /// A layer over what decides.
    pub fn new(world: Arc<dyn World>, decide: D) -> Self {
        Self { world, decide }
    }
}

impl<D> fmt::Debug for RateLimitLayer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RateLimitLayer")
    }
}

impl<S, D: Clone> Layer<S> for RateLimitLayer<D> {
    type Service = WithRateLimit<S, D>;

    fn layer(&self, inner: S) -> Self::Service {
        WithRateLimit { inner, layer: self.clone() }
    }
}

/// A service behind a rate limit. A refusal is the [`Decision`], which knows the headers of a 429.
#[derive(Clone, Debug)]
pub struct WithRateLimit<S, D> {
    inner: S,
    layer: RateLimitLayer<D>,
}

impl<S, D, Request> Service<Request> for WithRateLimit<S, D>
where
    S: Service<Request>,
    D: Fn(&Request, Mono) -> Decision,
{
    type Response = S::Response;
    type Error = Denied<Decision, S::Error>;
    type Future = RateLimitFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Denied::Failed)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let decision = (self.layer.decide)(&request, self.layer.world.mono());
        let call = decision.allowed.then(|| self.inner.call(request));
        RateLimitFuture { call, decision }
    }
}

pin_project! {
    /// A call through a rate limit.
    pub struct RateLimitFuture<F> {
        #[pin]
        call: Option<F>,
        decision: Decision,
    }
}

impl<F, Response, Error> Future for RateLimitFuture<F>
where
    F: Future<Output = Result<Response, Error>>,
{
    type Output = Result<Response, Denied<Decision, Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.call.as_pin_mut() {
            Some(call) => call.poll(cx).map_err(Denied::Failed),
            None => Poll::Ready(Err(Denied::Refused(*this.decision))),
        }
    }
}

impl<F> fmt::Debug for RateLimitFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RateLimitFuture")
    }
}
