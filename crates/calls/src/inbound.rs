//! What stands before an app itself, whoever calls it: a limit of calls in a time, seats, and who goes without when there
//! are not enough.
//!
//! ```text
//!   invocation --> out of time? --> rate limit --> seats, by criticality --> the app's own channel
//! ```
//!
//! A caller's policies protect callers; these protect the app, so they are held where the app runs, after the access list.
//! Work whose time is over is dropped here, policy or none: nobody waits for the answer. Health probes and deliveries of
//! events do not pass: the former must not fail because the app is busy, the latter come as fast as the app takes them.

use crate::{
    AppChannel, Body, CallError, CallPolicy, Patience, Phase, chaos,
    outgoing::Outgoing,
    policy::{grpc_class, http_class},
};
use http::Response;
use outrigger_kernel::{Deadline, Mono};
use outrigger_resilience::{CallContext, Class, Incoming, Report, Stack};
use std::{sync::Arc, time::Duration};

/// What stands before one app.
#[derive(Debug)]
pub struct Inbound {
    app_id: String,
    policy: CallPolicy,
}

impl Inbound {
    /// What stands before the app `app_id`: of `policy`, the rate limit and the bulkhead.
    #[must_use]
    pub fn new(app_id: &str, policy: CallPolicy) -> Self {
        Self { app_id: app_id.to_owned(), policy }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &CallPolicy {
        &self.policy
    }

    /// The same with what `old`, whose place it takes, remembers.
    #[must_use]
    pub fn keeping(self, old: &Self) -> Self {
        Self { policy: self.policy.keeping(&old.policy), ..self }
    }
}

impl AppChannel {
    /// Replaces what stands before the app.
    pub fn set_inbound(&self, inbound: Option<Arc<Inbound>>) {
        self.inbound.store(inbound);
    }

    /// What stands before the app.
    #[must_use]
    pub fn inbound(&self) -> Option<Arc<Inbound>> {
        self.inbound.load_full()
    }

    /// An invocation, which passes what stands before the app.
    pub(crate) async fn invoked(
        &self,
        outgoing: &mut Outgoing,
        patience: Patience,
    ) -> Result<Response<Body>, CallError> {
        let world = &*self.world;
        let due = patience.due();
        if due.is_some_and(|due| due.expired(world.mono())) {
            let target = self.target();
            let target = format!("{}:{}", target.host, target.port);
            return Err(CallError::Timeout { target, waiting_for: Phase::Start });
        }
        let Some(inbound) = self.inbound() else { return self.exchange(outgoing, patience).await };
        let Inbound { app_id, policy } = &*inbound;
        let class = if chaos::is_grpc(outgoing) { grpc_class } else { http_class };
        let context = context(outgoing, due, world.mono());
        let state = policy.state("");
        let stack = Stack::new(world, policy.policy(), &state);
        let mut outgoing = Some(outgoing);
        // On the heap, so that apps without such limits, which are most, need no room for it.
        let called = Box::pin(stack.call(
            context,
            &(),
            |ended: &Result<Response<Body>, CallError>| match ended {
                Ok(answer) => Report::from(class(answer)),
                Err(error) if error.is_failure() => Report::from(Class::Failure),
                Err(_) => Report::from(Class::Ignored),
            },
            |_, ()| {
                let outgoing = outgoing.take();
                async move {
                    match outgoing {
                        Some(outgoing) => self.exchange(outgoing, patience).await,
                        None => Err(CallError::RequestBody("it was sent before".into())),
                    }
                }
            },
        ));
        let called = called.await;
        policy.settled(called, app_id)
    }
}

fn context(outgoing: &Outgoing, due: Option<Deadline>, now: Mono) -> CallContext {
    let header = |name: &str| outgoing.head.headers.get(name)?.to_str().ok();
    // Whoever gets here was let through as a caller, and told us what its own caller told it.
    let method = outgoing.head.method.as_str();
    let incoming = Incoming { method, limit: Duration::MAX, trusted: true };
    let context = CallContext::read(&incoming, header, now);
    let told = [due, outgoing.budget].into_iter().flatten().min();
    let deadline = told.map_or(context.deadline, |due| context.deadline.earliest(due));
    CallContext { deadline, ..context }
}
