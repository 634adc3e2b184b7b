//! A whole policy around a service.

use crate::{CallContext, GaveUp, Policy, PolicyState, Report, Stack};
use outrigger_kernel::{BoxFuture, Mono, World};
use std::{
    convert::Infallible,
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;

/// Puts a policy around a service. All services made by one layer (and its clones) share the policy's state.
///
/// ```
/// use outrigger_kernel::{Deadline, Mono, World};
/// use outrigger_resilience::{CallContext, Class, Idempotency, Policy, layers::PolicyLayer};
/// use std::{sync::Arc, task::{Context, Poll}, time::Duration};
/// # use tower_layer::Layer;
/// # use tower_service::Service;
///
/// # #[derive(Clone)]
/// # struct Orders;
/// # impl Service<u32> for Orders {
/// #     type Response = u16;
/// #     type Error = std::io::Error;
/// #     type Future = std::future::Ready<Result<u16, std::io::Error>>;
/// #     fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> { Poll::Ready(Ok(())) }
/// #     fn call(&mut self, _: u32) -> Self::Future { std::future::ready(Ok(200)) }
/// # }
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
/// # runtime.block_on(async {
/// let world: Arc<dyn World> = outrigger_sim::SimWorld::new(7);
/// let layer = PolicyLayer::new(
///     world,
///     Policy::recommended(),
///     // What a request says of itself, and what an answer means.
///     |_request: &u32, now: Mono| {
///         let deadline = Deadline(now.plus(Duration::from_secs(5)));
///         CallContext::until(deadline).idempotent(Idempotency::Declared)
///     },
///     |answer: &Result<u16, std::io::Error>| match answer {
///         Ok(200..400) => Class::Success,
///         Ok(status) => Class::Http(*status),
///         Err(_) => Class::Failure,
///     },
/// );
/// let mut orders = layer.layer(Orders);
/// assert_eq!(orders.call(17).await?, 200);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct PolicyLayer<X, C> {
    world: Arc<dyn World>,
    policy: Arc<Policy>,
    state: PolicyState,
    context: X,
    class: C,
}

impl<X, C> PolicyLayer<X, C> {
    /// `policy`, with nothing known of its target yet.
    pub fn new(world: Arc<dyn World>, policy: Policy, context: X, class: C) -> Self {
        let state = PolicyState::new(&policy);
        Self { world, policy: Arc::new(policy), state, context, class }
    }

    /// The same with a state that is kept elsewhere, for instance in [`crate::PolicyStates`].
    #[must_use]
    pub fn remembering(self, state: PolicyState) -> Self {
        Self { state, ..self }
    }

    /// What is remembered of the target.
    #[must_use]
    pub fn state(&self) -> &PolicyState {
        &self.state
    }
}

impl<X, C> fmt::Debug for PolicyLayer<X, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyLayer").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl<S, X: Clone, C: Clone> Layer<S> for PolicyLayer<X, C> {
    type Service = WithPolicy<S, X, C>;

    fn layer(&self, inner: S) -> Self::Service {
        WithPolicy { inner, layer: self.clone() }
    }
}

/// A service with a policy around it.
#[derive(Clone, Debug)]
pub struct WithPolicy<S, X, C> {
    inner: S,
    layer: PolicyLayer<X, C>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal<E> {
    /// The policy gave up.
    #[error(transparent)]
    GaveUp(GaveUp),
    /// The service's own error, of the last attempt.
    #[error("{0}")]
    Service(E),
}

impl<S, R, X, C, V> Service<R> for WithPolicy<S, X, C>
where
    S: Service<R> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
    R: Clone + Send + Sync + 'static,
    X: Fn(&R, Mono) -> CallContext,
    V: Into<Report>,
    C: Fn(&Result<S::Response, S::Error>) -> V + Clone + Send + Sync + 'static,
{
    type Response = S::Response;
    type Error = Refusal<S::Error>;
    type Future = BoxFuture<'static, Result<S::Response, Refusal<S::Error>>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Each attempt has a service of its own, and waits for that one to be ready within its timeout.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let PolicyLayer { world, policy, state, context, class } = &self.layer;
        let context = context(&request, world.mono());
        let (world, policy) = (Arc::clone(world), Arc::clone(policy));
        let (state, class, service) = (state.clone(), class.clone(), self.inner.clone());
        Box::pin(async move {
            let stack = Stack::new(&*world, &policy, &state);
            let called = stack.call(context, &(), class, |_attempt, ()| {
                let (mut service, request) = (service.clone(), request.clone());
                async move {
                    poll_fn(|cx| service.poll_ready(cx)).await?;
                    service.call(request).await
                }
            });
            match called.await.result {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(Refusal::Service(error)),
                Err(gave_up) => Err(Refusal::GaveUp(gave_up)),
            }
        })
    }
}

impl From<Refusal<Infallible>> for GaveUp {
    fn from(refusal: Refusal<Infallible>) -> Self {
        match refusal {
            Refusal::GaveUp(gave_up) => gave_up,
            Refusal::Service(never) => match never {},
        }
    }
}
