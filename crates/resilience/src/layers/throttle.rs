//! A [`Throttle`] as a layer: a caller that does not send what would be refused.

use super::Denied;
use crate::{Rank, Throttle, Throttled};
use outrigger_kernel::World;
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tower_layer::Layer;
use tower_service::Service;

/// Puts a throttle in front of a service. `rank` says what a request is worth; `accepted` says whether an answer is one:
/// `Some(false)` for a refusal for overload, `None` for what says nothing.
#[derive(Clone)]
pub struct ThrottleLayer<A, C> {
    world: Arc<dyn World>,
    throttle: Arc<Throttle>,
    rank: A,
    accepted: C,
}

impl<A, C> ThrottleLayer<A, C> {
    /// A layer over this throttle, which may be shared with other layers.
    pub fn new(world: Arc<dyn World>, throttle: Arc<Throttle>, rank: A, accepted: C) -> Self {
        Self { world, throttle, rank, accepted }
    }
}

impl<A, C> fmt::Debug for ThrottleLayer<A, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ThrottleLayer")
    }
}

impl<S, A: Clone, C: Clone> Layer<S> for ThrottleLayer<A, C> {
    type Service = WithThrottle<S, A, C>;

    fn layer(&self, inner: S) -> Self::Service {
        WithThrottle { inner, layer: self.clone() }
    }
}

/// A service behind a throttle.
#[derive(Clone, Debug)]
pub struct WithThrottle<S, A, C> {
    inner: S,
    layer: ThrottleLayer<A, C>,
}

impl<S, A, C, Request> Service<Request> for WithThrottle<S, A, C>
where
    S: Service<Request>,
    A: Fn(&Request) -> Rank,
    C: Fn(&Result<S::Response, S::Error>) -> Option<bool> + Clone,
{
    type Response = S::Response;
    type Error = Denied<Throttled, S::Error>;
    type Future = ThrottleFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Denied::Failed)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let ThrottleLayer { world, throttle, rank, accepted } = &self.layer;
        let rank = rank(&request);
        let admitted = throttle.admit(rank, world.random(), world.mono());
        ThrottleFuture {
            call: admitted.is_ok().then(|| self.inner.call(request)),
            admitted,
            rank,
            world: world.clone(),
            throttle: throttle.clone(),
            accepted: accepted.clone(),
        }
    }
}

pin_project! {
    /// A call through a throttle.
    pub struct ThrottleFuture<F, C> {
        #[pin]
        call: Option<F>,
        admitted: Result<(), Throttled>,
        rank: Rank,
        world: Arc<dyn World>,
        throttle: Arc<Throttle>,
        accepted: C,
    }
}

impl<F, C, Response, Error> Future for ThrottleFuture<F, C>
where
    F: Future<Output = Result<Response, Error>>,
    C: Fn(&Result<Response, Error>) -> Option<bool>,
{
    type Output = Result<Response, Denied<Throttled, Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(call) = this.call.as_pin_mut() else {
            let throttled = this.admitted.err().unwrap_or(Throttled::Overloaded);
            return Poll::Ready(Err(Denied::Refused(throttled)));
        };
        let answer = ready!(call.poll(cx));
        if let Some(accepted) = (this.accepted)(&answer) {
            this.throttle.ended(*this.rank, accepted, this.world.mono());
        }
        Poll::Ready(answer.map_err(Denied::Failed))
    }
}

impl<F, C> fmt::Debug for ThrottleFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ThrottleFuture")
    }
}
