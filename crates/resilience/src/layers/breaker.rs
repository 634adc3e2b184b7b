//! A [`Breaker`] as a layer.
//!
//! A call whose future is dropped half-way was cancelled: if it had taken as long as a slow call does it counts as a slow
//! failure ([`Permit::cancel`]), so an outer timeout does not hide a target that hangs.

use super::Denied;
use crate::{Breaker, Open, Outcome, Permit};
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

/// Puts a breaker around a service. `outcome` says what an answer means for it; `None` for nothing, which gives the permit
/// back.
#[derive(Clone)]
pub struct BreakerLayer<C> {
    world: Arc<dyn World>,
    breaker: Breaker,
    outcome: C,
}

impl<C> BreakerLayer<C> {
    /// A layer over this breaker, which may be shared with other layers.
    pub fn new(world: Arc<dyn World>, breaker: Breaker, outcome: C) -> Self {
        Self { world, breaker, outcome }
    }
}

impl<C> fmt::Debug for BreakerLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BreakerLayer({:?})", self.breaker)
    }
}

impl<S, C: Clone> Layer<S> for BreakerLayer<C> {
    type Service = WithBreaker<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        WithBreaker { inner, layer: self.clone() }
    }
}

/// A service behind a breaker.
#[derive(Clone, Debug)]
pub struct WithBreaker<S, C> {
    inner: S,
    layer: BreakerLayer<C>,
}

impl<S, C, Request> Service<Request> for WithBreaker<S, C>
where
    S: Service<Request>,
    C: Fn(&Result<S::Response, S::Error>) -> Option<Outcome> + Clone,
{
    type Response = S::Response;
    type Error = Denied<Open, S::Error>;
    type Future = BreakerFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Denied::Failed)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let BreakerLayer { world, breaker, outcome } = &self.layer;
        match breaker.admit(world.mono()) {
            Ok(permit) => BreakerFuture {
                call: Some(self.inner.call(request)),
                running: Some(Running { permit: Some(permit), world: world.clone() }),
                refused: None,
                outcome: outcome.clone(),
            },
            Err(open) => BreakerFuture {
                call: None,
                running: None,
                refused: Some(open),
                outcome: outcome.clone(),
            },
        }
    }
}

/// A permit that is recorded as cancelled when it is dropped.
struct Running {
    permit: Option<Permit>,
    world: Arc<dyn World>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            permit.cancel(self.world.mono());
        }
    }
}

pin_project! {
    /// A call through a breaker.
    pub struct BreakerFuture<F, C> {
        #[pin]
        call: Option<F>,
        running: Option<Running>,
        refused: Option<Open>,
        outcome: C,
    }
}

impl<F, C, Response, Error> Future for BreakerFuture<F, C>
where
    F: Future<Output = Result<Response, Error>>,
    C: Fn(&Result<Response, Error>) -> Option<Outcome>,
{
    type Output = Result<Response, Denied<Open, Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(call) = this.call.as_pin_mut() else {
            // Refused; a future polled after its end says so as well.
            return Poll::Ready(Err(Denied::Refused(this.refused.unwrap_or(Open::Probing))));
        };
        let answer = ready!(call.poll(cx));
        let outcome = (this.outcome)(&answer);
        if let Some(mut running) = this.running.take()
            && let Some(permit) = running.permit.take()
            && let Some(outcome) = outcome
        {
            permit.report(outcome, running.world.mono());
        }
        Poll::Ready(answer.map_err(Denied::Failed))
    }
}

impl<F, C> fmt::Debug for BreakerFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BreakerFuture")
    }
}
