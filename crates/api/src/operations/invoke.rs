//! Calling other apps: what goes along with a call, and what a call without an answer becomes.

use crate::{
    errors::{Fault, catalogue},
    host::{Host, Settings},
    metrics::policies::Direction,
    names,
    trace::Trace,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use outrigger_calls::{
    Alternate, Alternates, AppProtocol, CallError, CallPolicy, Caller, HeaderEdits, Patience,
    Target,
};
use outrigger_kernel::{BoxFuture, Deadline, Kind};
use outrigger_resilience::Retry;
use std::{fmt, sync::Arc, time::Duration};

/// Headers of the caller that are meant for us and go no further.
static OURS: [HeaderName; 3] = [
    HeaderName::from_static(names::API_TOKEN),
    HeaderName::from_static(names::APP_ID),
    HeaderName::from_static(names::FORCE_SHUTDOWN),
];

static CALLER_APP_ID: HeaderName = HeaderName::from_static(names::CALLER_APP_ID);
static CALLER_NAMESPACE: HeaderName = HeaderName::from_static(names::CALLER_NAMESPACE);
static CALLEE_APP_ID: HeaderName = HeaderName::from_static(names::CALLEE_APP_ID);

/// A call's target and the policy it is made under.
pub(crate) struct Route {
    pub(crate) target: Target,
    pub(crate) policy: Option<Arc<CallPolicy>>,
    pub(crate) reconnect: Arc<Retry>,
    /// Whether no such app is known (any more).
    is_absent: bool,
}

/// What `address` stands for. An app of another host may have to be looked for first, for as long as the call has.
pub(crate) async fn resolve(
    host: &Host,
    address: &str,
    named: Option<Deadline>,
) -> Result<Route, CallError> {
    let usual = Deadline::after(&*host.world, host.settings.call_timeout);
    let deadline = named.map_or(usual, |named| named.earliest(usual));
    let found = host.directory.find(address, &host.namespace, deadline).await;
    let components = host.components.load();
    let (target, is_absent) = match found {
        Ok(target) => (target, false),
        Err(CallError::NotFound { app, namespace }) => {
            // An app that has gone may have left answers behind, or somebody who stands in for it.
            let known = components.calls.known(&app);
            if !known.is_some_and(|policy| policy.answers_without_target()) {
                return Err(CallError::NotFound { app, namespace });
            }
            (Target::absent(&app, &namespace), true)
        }
        Err(error) => return Err(error),
    };
    let (policy, reconnect) =
        (components.calls.for_target(target.id()), components.calls.reconnect());
    if let Some(policy) = &policy {
        policy.watch_with(|| {
            let (names, target) = (&components.resiliencies, format!("app_{}", target.id()));
            host.metrics.policy_watch(names, target, Direction::Outbound)
        });
    }
    Ok(Route { target, policy, reconnect, is_absent })
}

/// The policy of calls to `target`, for an operator.
pub(crate) fn policy(host: &Host, target: &str) -> Option<Arc<CallPolicy>> {
    host.components.load().calls.for_target(target)
}

impl Route {
    /// Whether it leads to an app that speaks gRPC.
    pub(crate) fn is_grpc_app(&self) -> bool {
        self.app_protocol().is_some_and(AppProtocol::is_grpc)
    }

    /// Whether it leads to an app that cannot be spoken to in HTTP/2, which gRPC needs.
    pub(crate) fn speaks_http1(&self) -> bool {
        matches!(self.app_protocol(), Some(AppProtocol::Http | AppProtocol::Https))
    }

    /// Why there was no answer, seen from here: of an app that nobody knows, nothing else is worth telling.
    pub(crate) fn told(&self, error: CallError) -> CallError {
        match &self.target {
            Target::App(instances) if self.is_absent => CallError::NotFound {
                app: instances.app_id().to_owned(),
                namespace: instances.namespace().to_owned(),
            },
            _ => error,
        }
    }

    /// What metrics call it. URLs are as many as callers like, and share one label.
    pub(crate) fn label(&self) -> &str {
        match &self.target {
            Target::App(_) | Target::Endpoint(_) => self.target.id(),
            Target::Url(_) => "url",
        }
    }

    fn app_protocol(&self) -> Option<AppProtocol> {
        match &self.target {
            Target::App(instances) => {
                instances.channels().first().map(|channel| channel.target().protocol)
            }
            Target::Endpoint(_) | Target::Url(_) => None,
        }
    }
}

/// Who calls, as the callee's access list sees it. Apps of one process know each other for certain.
pub(crate) fn caller(host: &Host) -> &Caller {
    &host.caller
}

/// How the caller's headers change on the way. Nothing of ours goes to services outside.
pub(crate) fn edits<'a>(host: &'a Host, route: &Route, trace: &Trace) -> HeaderEdits<'a> {
    let mut set = HeaderMap::new();
    trace.write(&mut set);
    if let Target::App(instances) = &route.target {
        let [app_id, namespace] = &host.caller_headers;
        set.insert(CALLER_APP_ID.clone(), app_id.clone());
        set.insert(CALLER_NAMESPACE.clone(), namespace.clone());
        if let Ok(callee) = HeaderValue::from_str(instances.app_id()) {
            set.insert(CALLEE_APP_ID.clone(), callee);
        }
    }
    let set = set.into_iter().filter_map(|(name, value)| Some((name?, value))).collect();
    HeaderEdits { remove: &OURS, set, forwarding: host.forwarding.as_ref() }
}

/// The other targets of a host's apps, for policies that name one to go to.
pub(crate) struct Elsewhere<'a> {
    pub(crate) host: &'a Host,
    pub(crate) trace: &'a Trace,
}

impl Alternates for Elsewhere<'_> {
    fn find<'f>(
        &'f self,
        name: &'f str,
        deadline: Deadline,
    ) -> BoxFuture<'f, Result<Alternate<'f>, CallError>> {
        Box::pin(async move {
            let route = resolve(self.host, name, Some(deadline)).await?;
            if route.is_grpc_app() {
                let reason = "it speaks gRPC, and the call is one of HTTP";
                return Err(CallError::BadTarget { target: name.to_owned(), reason });
            }
            let edits = edits(self.host, &route, self.trace);
            Ok(Alternate { target: route.target, policy: route.policy, edits })
        })
    }
}

impl fmt::Debug for Elsewhere<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Elsewhere")
    }
}

/// How long a call may take: as long as its caller says, else as long as the settings say.
pub(crate) fn patience(host: &Host, named: Option<Deadline>) -> Patience {
    let Settings { call_timeout, stream_silence, .. } = host.settings;
    let patience = Patience::moving(call_timeout).quiet(stream_silence);
    named.map_or(patience, |deadline| patience.no_later_than(deadline))
}

/// A call that got no answer.
pub(crate) fn fault(address: &str, error: &CallError) -> Fault {
    let entry = match (error.root(), error.kind()) {
        (CallError::NotAdmitted { quota: Some(_), .. }, _) => &catalogue::DIRECT_INVOKE_RATE,
        (CallError::NotAdmitted { .. }, _) => &catalogue::DIRECT_INVOKE_NOT_ADMITTED,
        (_, Kind::NotFound) => &catalogue::DIRECT_INVOKE_UNKNOWN,
        (_, Kind::Forbidden) => &catalogue::DIRECT_INVOKE_FORBIDDEN,
        (_, Kind::Invalid) => &catalogue::DIRECT_INVOKE_INVALID,
        (_, Kind::Timeout) => &catalogue::DIRECT_INVOKE_TIMEOUT,
        (_, Kind::Exhausted) => &catalogue::DIRECT_INVOKE_OVERLOAD,
        _ => &catalogue::DIRECT_INVOKE,
    };
    let fault = Fault::new(entry, format!("failed to invoke {address}: {error}"));
    let fault = fault.headers(error.advice());
    match (error.root(), error.kind()) {
        (CallError::NotAdmitted { retry_after: Some(wait), .. }, _) => fault.retry_after(*wait),
        (_, Kind::Exhausted) => fault.retry_after(Duration::from_secs(1)),
        _ => fault,
    }
}
