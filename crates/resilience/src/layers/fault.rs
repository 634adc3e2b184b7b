//! [`Faults`] as a layer. It belongs innermost, next to the wire: everything else has to take it for the network.

use super::Denied;
use crate::{Abort, FaultPlan, Faults};
use outrigger_kernel::{BoxFuture, World};
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

/// Does to calls what a set of faults says. `header` reads a header of a request; `answer` does to an answer what the plan
/// says of it (damage, pace), which only who knows the body can do.
///
/// A dropped call stays unanswered until it is given up: there has to be a timeout around this.
#[derive(Clone)]
pub struct FaultLayer<H, A> {
    world: Arc<dyn World>,
    faults: Arc<Faults>,
    header: H,
    answer: A,
}

impl<H, A> FaultLayer<H, A> {
    /// A layer over these faults, which may be shared with other layers.
    pub fn new(world: Arc<dyn World>, faults: Arc<Faults>, header: H, answer: A) -> Self {
        Self { world, faults, header, answer }
    }
}

impl<H, A> fmt::Debug for FaultLayer<H, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultLayer({:?})", self.faults)
    }
}

impl<S, H: Clone, A: Clone> Layer<S> for FaultLayer<H, A> {
    type Service = WithFaults<S, H, A>;

    fn layer(&self, inner: S) -> Self::Service {
        WithFaults { inner, layer: self.clone() }
    }
}

/// A service that has faults.
#[derive(Clone, Debug)]
pub struct WithFaults<S, H, A> {
    inner: S,
    layer: FaultLayer<H, A>,
}

impl<S, H, A, R> Service<R> for WithFaults<S, H, A>
where
    S: Service<R>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Send + 'static,
    H: for<'a> Fn(&'a R, &str) -> Option<&'a str>,
    A: Fn(S::Response, FaultPlan) -> S::Response + Clone + Send + 'static,
{
    type Response = S::Response;
    type Error = Denied<Abort, S::Error>;
    type Future = FaultFuture<S::Future, S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Denied::Failed)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let FaultLayer { world, faults, header, answer } = &self.layer;
        let now = world.mono();
        if faults.on_until(now).is_none() {
            return FaultFuture { fate: Fate::Spared { call: self.inner.call(request) } };
        }
        let plan = faults.plan(now, world.random(), |name| header(&request, name));
        if plan.is_nothing() {
            return FaultFuture { fate: Fate::Spared { call: self.inner.call(request) } };
        }
        let (world, answer) = (Arc::clone(world), answer.clone());
        // What does not leave is not begun.
        let leaves = !plan.drops && plan.abort.is_none();
        let call = leaves.then(|| self.inner.call(request));
        let course = Box::pin(async move {
            if !plan.delay.is_zero() {
                world.sleep(plan.delay).await;
            }
            match (call, plan.abort) {
                (Some(call), _) => {
                    call.await.map(|said| answer(said, plan)).map_err(Denied::Failed)
                }
                (None, Some(abort)) if !plan.drops => Err(Denied::Refused(abort)),
                _ => std::future::pending().await,
            }
        });
        FaultFuture { fate: Fate::Struck { course } }
    }
}

pin_project! {
    /// A call, spared or struck.
    pub struct FaultFuture<F, T, E> {
        #[pin]
        fate: Fate<F, T, E>,
    }
}

pin_project! {
    #[project = Course]
    enum Fate<F, T, E> {
        Spared { #[pin] call: F },
        Struck { course: BoxFuture<'static, Result<T, Denied<Abort, E>>> },
    }
}

impl<F: Future<Output = Result<T, E>>, T, E> Future for FaultFuture<F, T, E> {
    type Output = Result<T, Denied<Abort, E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().fate.project() {
            Course::Spared { call } => call.poll(cx).map_err(Denied::Failed),
            Course::Struck { course } => course.as_mut().poll(cx),
        }
    }
}

impl<F, T, E> fmt::Debug for FaultFuture<F, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spared = matches!(self.fate, Fate::Spared { .. });
        f.write_str(if spared { "FaultFuture(spared)" } else { "FaultFuture(struck)" })
    }
}
