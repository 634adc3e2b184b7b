//! A [`Bulkhead`] as a layer: fixed or adaptive seats, a bounded queue, shedding by rank, whatever it was made with.

use super::Denied;
use crate::{Bulkhead, Ended, Entrant, Entry, Refused, Seat, Waiter};
use outrigger_kernel::{BoxFuture, World};
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

/// Puts a bulkhead around a service. `entrant` says who asks with a request; `ended` says what an answer means for an
/// adaptive bulkhead.
#[derive(Clone)]
pub struct BulkheadLayer<A, C> {
    world: Arc<dyn World>,
    bulkhead: Bulkhead,
    entrant: A,
    ended: C,
}

impl<A, C> BulkheadLayer<A, C> {
    /// A layer over this bulkhead, which may be shared with other layers.
    pub fn new(world: Arc<dyn World>, bulkhead: Bulkhead, entrant: A, ended: C) -> Self {
        Self { world, bulkhead, entrant, ended }
    }
}

impl<A, C> fmt::Debug for BulkheadLayer<A, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BulkheadLayer({:?})", self.bulkhead)
    }
}

impl<S, A: Clone, C: Clone> Layer<S> for BulkheadLayer<A, C> {
    type Service = WithBulkhead<S, A, C>;

    fn layer(&self, inner: S) -> Self::Service {
        WithBulkhead { inner, layer: self.clone() }
    }
}

/// A service behind a bulkhead.
#[derive(Clone, Debug)]
pub struct WithBulkhead<S, A, C> {
    inner: S,
    layer: BulkheadLayer<A, C>,
}

impl<S, A, C, Request> Service<Request> for WithBulkhead<S, A, C>
where
    S: Service<Request> + Clone,
    A: Fn(&Request) -> Entrant,
    C: Fn(&Result<S::Response, S::Error>) -> Ended + Clone,
{
    type Response = S::Response;
    type Error = Denied<Refused, S::Error>;
    type Future = BulkheadFuture<S, Request, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Denied::Failed)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let BulkheadLayer { world, bulkhead, entrant, ended } = &self.layer;
        let (world, ended) = (world.clone(), ended.clone());
        let now = world.mono();
        let stand = match bulkhead.enter(&entrant(&request), now) {
            Ok(Entry::Seated(seat)) => {
                Stand::Running { call: self.inner.call(request), seat: Some(seat) }
            }
            Ok(Entry::Queued(waiter)) => {
                let timer = Some(world.sleep(waiter.until().since(now)));
                // The service that was found ready goes along; the one kept here will be asked again.
                let clone = self.inner.clone();
                let service = std::mem::replace(&mut self.inner, clone);
                Stand::Waiting { waiter, timer, service, request: Some(request) }
            }
            Err(refused) => Stand::Refused { refused },
        };
        BulkheadFuture { stand, world, ended }
    }
}

pin_project! {
    #[project = StandProjection]
    enum Stand<S, Request> where S: Service<Request> {
        Waiting { waiter: Waiter, timer: Option<BoxFuture<'static, ()>>, service: S, request: Option<Request> },
        Running { #[pin] call: S::Future, seat: Option<Seat> },
        Refused { refused: Refused },
    }
}

pin_project! {
    /// A call through a bulkhead.
    pub struct BulkheadFuture<S, Request, C> where S: Service<Request> {
        #[pin]
        stand: Stand<S, Request>,
        world: Arc<dyn World>,
        ended: C,
    }
}

impl<S, Request, C> Future for BulkheadFuture<S, Request, C>
where
    S: Service<Request>,
    C: Fn(&Result<S::Response, S::Error>) -> Ended,
{
    type Output = Result<S::Response, Denied<Refused, S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.stand.as_mut().project() {
                StandProjection::Refused { refused } => {
                    return Poll::Ready(Err(Denied::Refused(*refused)));
                }
                StandProjection::Running { call, seat } => {
                    let answer = ready!(call.poll(cx));
                    if let Some(seat) = seat.take() {
                        seat.finish((this.ended)(&answer), this.world.mono());
                    }
                    return Poll::Ready(answer.map_err(Denied::Failed));
                }
                StandProjection::Waiting { waiter, timer, service, request } => {
                    let due =
                        timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
                    if due {
                        *timer = None;
                    }
                    let now = this.world.mono();
                    let now = if timer.is_none() { now.max(waiter.until()) } else { now };
                    match (ready!(waiter.poll_seat(now, cx.waker())), request.take()) {
                        (Ok(seat), Some(request)) => {
                            Stand::Running { call: service.call(request), seat: Some(seat) }
                        }
                        (Err(refused), _) => Stand::Refused { refused },
                        // A request is taken once, on the way to running.
                        (Ok(_), None) => return Poll::Pending,
                    }
                }
            };
            this.stand.set(next);
        }
    }
}

impl<S: Service<Request>, Request, C> fmt::Debug for BulkheadFuture<S, Request, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BulkheadFuture")
    }
}
