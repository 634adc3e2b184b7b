//! [`Flights`] as a layer: equal requests under way at the same time are one call.

use super::Denied;
use crate::{Crowded, Flights, Joined, Lost};
use outrigger_kernel::{BoxFuture, World};
use std::{
    fmt,
    hash::Hash,
    sync::Arc,
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;

/// Lets requests of equal key wait for one call. `key` is `None` for what must go by itself: whatever is not safe to share.
/// The key has to hold everything that the answer depends on, who asks included.
#[derive(Clone)]
pub struct FlightLayer<K, A, F> {
    world: Arc<dyn World>,
    flights: Flights<K, A>,
    key: F,
}

/// Why a shared call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotShared {
    /// As many wait as may.
    #[error(transparent)]
    Crowded(#[from] Crowded),
    /// The call was lost in a panic.
    #[error(transparent)]
    Lost(#[from] Lost),
}

impl<K, A, F> FlightLayer<K, A, F> {
    /// A layer over these flights, which may be shared with other layers.
    pub fn new(world: Arc<dyn World>, flights: Flights<K, A>, key: F) -> Self {
        Self { world, flights, key }
    }
}

impl<K, A, F> fmt::Debug for FlightLayer<K, A, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FlightLayer({:?})", self.flights)
    }
}

impl<S, K, A, F: Clone> Layer<S> for FlightLayer<K, A, F> {
    type Service = WithFlights<S, K, A, F>;

    fn layer(&self, inner: S) -> Self::Service {
        let (world, flights) = (Arc::clone(&self.world), self.flights.clone());
        WithFlights { inner, layer: Self { world, flights, key: self.key.clone() } }
    }
}

/// A service whose equal requests are one.
#[derive(Debug)]
pub struct WithFlights<S, K, A, F> {
    inner: S,
    layer: FlightLayer<K, A, F>,
}

impl<S: Clone, K, A, F: Clone> Clone for WithFlights<S, K, A, F> {
    fn clone(&self) -> Self {
        let FlightLayer { world, flights, key } = &self.layer;
        let layer =
            FlightLayer { world: Arc::clone(world), flights: flights.clone(), key: key.clone() };
        Self { inner: self.inner.clone(), layer }
    }
}

impl<S, K, F, R> Service<R> for WithFlights<S, K, Result<S::Response, S::Error>, F>
where
    S: Service<R>,
    S::Future: Send + 'static,
    S::Response: Clone + Send + 'static,
    S::Error: Clone + Send + 'static,
    K: Clone + Eq + Hash + Send + Sync + 'static,
    F: Fn(&R) -> Option<K>,
{
    type Response = S::Response;
    type Error = Denied<NotShared, S::Error>;
    type Future = BoxFuture<'static, Result<S::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Denied::Failed)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let FlightLayer { world, flights, key } = &self.layer;
        let Some(key) = key(&request) else {
            let call = self.inner.call(request);
            return Box::pin(async { call.await.map_err(Denied::Failed) });
        };
        match flights.join(key, world.mono(), || self.inner.call(request)) {
            Ok(joined) => Box::pin(answered(joined)),
            Err(crowded) => Box::pin(async move { Err(Denied::Refused(crowded.into())) }),
        }
    }
}

async fn answered<K, T, E>(joined: Joined<K, Result<T, E>>) -> Result<T, Denied<NotShared, E>>
where
    K: Eq + Hash + Send + Sync + 'static,
    T: Clone + Send + 'static,
    E: Clone + Send + 'static,
{
    match joined.await {
        Ok(answer) => answer.map_err(Denied::Failed),
        Err(lost) => Err(Denied::Refused(lost.into())),
    }
}
