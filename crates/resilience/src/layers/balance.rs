//! A [`Balancer`] as a service: every request goes to one of several services.

use super::Denied;
use crate::{Ask, Balancer, NoEndpoint, Pick, Verdict};
use outrigger_kernel::World;
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tower_service::Service;

/// A service in front of a set of services. `key` reads from a request what it is sticky by, `verdict` says what an answer
/// means for the endpoint; `None` for nothing.
///
/// It is always ready: whether an endpoint is, shows after it was picked, and is waited for as a part of the call, so that
/// waiting counts as what it is, latency.
#[derive(Clone)]
pub struct Balance<S, K, V> {
    world: Arc<dyn World>,
    balancer: Balancer<S>,
    key: K,
    verdict: V,
}

impl<S, K, V> Balance<S, K, V> {
    /// In front of what this balancer holds, which may change.
    pub fn new(world: Arc<dyn World>, balancer: Balancer<S>, key: K, verdict: V) -> Self {
        Self { world, balancer, key, verdict }
    }
}

impl<S, K, V> fmt::Debug for Balance<S, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Balance({:?})", self.balancer)
    }
}

impl<S, K, V, R> Service<R> for Balance<S, K, V>
where
    S: Service<R> + Clone,
    K: Fn(&R) -> Option<u64>,
    V: Fn(&Result<S::Response, S::Error>) -> Option<Verdict> + Clone,
{
    type Response = S::Response;
    type Error = Denied<NoEndpoint, S::Error>;
    type Future = BalanceFuture<S, R, S::Future, V>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let (now, random) = (self.world.mono(), self.world.random());
        let ask = Ask { tried: &[], key: (self.key)(&request) };
        let (held, state) = match self.balancer.pick(ask, now, random) {
            Ok(pick) => {
                let service = pick.value().clone();
                let held = Held { pick: Some(pick), world: Arc::clone(&self.world) };
                (Some(held), State::Waiting { service, request: Some(request) })
            }
            Err(none) => (None, State::Refused { none }),
        };
        BalanceFuture { held, state, verdict: self.verdict.clone() }
    }
}

/// A pick that tells how long the call had taken when it is given up.
struct Held<S> {
    pick: Option<Pick<S>>,
    world: Arc<dyn World>,
}

impl<S> Held<S> {
    fn end(&mut self, verdict: Option<Verdict>) {
        if let (Some(pick), Some(verdict)) = (self.pick.take(), verdict) {
            let _cause = pick.record(verdict, self.world.mono());
        }
    }
}

impl<S> Drop for Held<S> {
    fn drop(&mut self) {
        if let Some(pick) = self.pick.take() {
            pick.cancelled(self.world.mono());
        }
    }
}

pin_project! {
    /// A call to one of several services.
    pub struct BalanceFuture<S, R, F, V> {
        held: Option<Held<S>>,
        #[pin]
        state: State<S, R, F>,
        verdict: V,
    }
}

pin_project! {
    #[project = Stage]
    enum State<S, R, F> {
        Waiting { service: S, request: Option<R> },
        Calling { #[pin] call: F },
        Refused { none: NoEndpoint },
    }
}

impl<S, R, V> Future for BalanceFuture<S, R, S::Future, V>
where
    S: Service<R>,
    V: Fn(&Result<S::Response, S::Error>) -> Option<Verdict>,
{
    type Output = Result<S::Response, Denied<NoEndpoint, S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let answer = match this.state.as_mut().project() {
                Stage::Refused { none } => return Poll::Ready(Err(Denied::Refused(*none))),
                Stage::Waiting { service, request } => match ready!(service.poll_ready(cx)) {
                    Ok(()) => {
                        let Some(request) = request.take() else { return Poll::Pending };
                        let call = service.call(request);
                        this.state.set(State::Calling { call });
                        continue;
                    }
                    Err(error) => Err(error),
                },
                Stage::Calling { call } => ready!(call.poll(cx)),
            };
            if let Some(held) = this.held.as_mut() {
                held.end((this.verdict)(&answer));
            }
            return Poll::Ready(answer.map_err(Denied::Failed));
        }
    }
}

impl<S, R, F, V> fmt::Debug for BalanceFuture<S, R, F, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BalanceFuture")
    }
}
