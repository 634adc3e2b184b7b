//! Locks: take, release, renew, look at, force.

use super::Stage;
use crate::{
    components::LockComponent,
    errors::{Entry, Fault, catalogue},
    host::Host,
    names,
    trace::Started,
};
use http::{HeaderMap, StatusCode};
use outrigger_coordination::{Ask, Fence, Held, LockError, LockStatus, Mode, Released};
use outrigger_kernel::Deadline;
use percent_encoding::percent_decode_str;
use std::{sync::Arc, time::Duration};
use tonic::Code;

/// Most of a line that is shown.
const WAITING_SHOWN_MAX: usize = 1_000;

/// A lock as asked for, under the user's own name for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) resource: String,
    pub(crate) owner: String,
    pub(crate) ttl: Duration,
    /// How long it is waited for; `None` for not at all.
    pub(crate) wait: Option<Duration>,
    pub(crate) mode: Mode,
    pub(crate) reentrant: bool,
}

/// The lock store called `name`.
pub(crate) fn find(host: &Host, name: &str) -> Result<Arc<LockComponent>, Fault> {
    let components = host.components.load();
    if let Some(component) = components.locks.get(name) {
        return Ok(Arc::clone(component));
    }
    Err(if components.locks.is_empty() {
        let message = "lock store is not configured: no lock store is";
        Fault::new(&catalogue::LOCK_NOT_CONFIGURED, message)
    } else {
        let message = format!("lock store {name} is not found");
        Fault::new(&catalogue::LOCK_NOT_FOUND, message)
    })
}

/// Takes a lock; `None` when it is not to be had (in time).
pub(crate) async fn take(
    host: &Host,
    store: &LockComponent,
    wanted: Wanted,
    deadline: Deadline,
) -> Result<Option<Held>, Fault> {
    let resource = physical(host, store, &wanted.resource)?;
    let Wanted { owner, ttl, wait, mode, reentrant, .. } = wanted;
    let ask = Ask { resource, owner, ttl, mode, reentrant };
    let taking = async {
        let Some(wait) = wait else { return store.locks.try_take(&ask, deadline).await };
        let until = deadline.earliest(Deadline::after(&*host.world, wait));
        match store.locks.take(&ask, until).await {
            Ok(held) => Ok(Some(held)),
            Err(LockError::TimedOut) => Ok(None),
            Err(error) => Err(error),
        }
    };
    on(host, store, "try_lock", &catalogue::LOCK_TAKE, Box::pin(taking)).await
}

/// Lets go of a lock.
pub(crate) async fn release(
    host: &Host,
    store: &LockComponent,
    (resource, owner): (&str, &str),
    token: Option<u64>,
    deadline: Deadline,
) -> Result<Released, Fault> {
    let resource = physical(host, store, resource)?;
    let releasing = store.locks.release(&resource, owner, token, deadline);
    on(host, store, "unlock", &catalogue::LOCK_RELEASE, Box::pin(releasing)).await
}

/// Holds on to a lock; `None` when it is in other hands.
pub(crate) async fn renew(
    host: &Host,
    store: &LockComponent,
    (resource, owner): (&str, &str),
    token: Option<u64>,
    ttl: Duration,
    deadline: Deadline,
) -> Result<Option<Held>, Fault> {
    let resource = physical(host, store, resource)?;
    let renewing = store.locks.renew(&resource, owner, token, ttl, deadline);
    on(host, store, "renew", &catalogue::LOCK_TAKE, Box::pin(renewing)).await
}

/// Who holds a lock and who waits for it; with a token that was seen and a time, as soon as another one holds it.
pub(crate) async fn status(
    host: &Host,
    store: &LockComponent,
    resource: &str,
    after: Option<(u64, Deadline)>,
) -> Result<LockStatus, Fault> {
    let resource = physical(host, store, resource)?;
    let reading = async {
        match after {
            None => store.locks.status(&resource, WAITING_SHOWN_MAX).await,
            Some((seen, until)) => {
                store.locks.observe(&resource, seen, WAITING_SHOWN_MAX, until).await
            }
        }
    };
    on(host, store, "status", &catalogue::LOCK_TAKE, Box::pin(reading)).await
}

/// Takes a lock from everybody who holds it; answers from how many.
pub(crate) async fn force(
    host: &Host,
    store: &LockComponent,
    resource: &str,
    deadline: Deadline,
) -> Result<usize, Fault> {
    let resource = physical(host, store, resource)?;
    let forcing = store.locks.force(&resource, deadline);
    on(host, store, "force_unlock", &catalogue::LOCK_RELEASE, Box::pin(forcing)).await
}

/// Most fences of one request.
const FENCES_MAX: usize = 8;

/// The fences that `headers` put up: each `STORE/RESOURCE; token=N`, the resource percent-encoded where it must be.
pub(crate) fn fences(host: &Host, headers: &HeaderMap) -> Result<Vec<Fence>, Fault> {
    let values = headers.get_all(names::IF_FENCE).iter();
    let malformed = || {
        let message = format!(
            "{} is STORE/RESOURCE; token=N, {FENCES_MAX} times at most, N being the fencing token",
            names::IF_FENCE
        );
        Fault::new(&catalogue::MALFORMED_REQUEST, message)
    };
    let mut fences = Vec::new();
    for value in values {
        let text = value.to_str().map_err(|_| malformed())?;
        let (lock, token) = text.split_once(';').ok_or_else(malformed)?;
        let token = token.trim().strip_prefix("token=").and_then(|token| token.parse().ok());
        let (store, resource) = lock.trim().split_once('/').ok_or_else(malformed)?;
        let resource = percent_decode_str(resource).decode_utf8().map_err(|_| malformed())?;
        let (store, token) = (find(host, store)?, token.ok_or_else(malformed)?);
        let resource = physical(host, &store, &resource)?;
        fences.push(Fence::new(store.locks.clone(), &resource, token));
    }
    if fences.len() > FENCES_MAX { Err(malformed()) } else { Ok(fences) }
}

fn physical(host: &Host, store: &LockComponent, resource: &str) -> Result<String, Fault> {
    store.prefix.physical(&host.app_id, &host.namespace, &store.name, resource).map_err(|error| {
        let message = format!("the resource id {resource:?} cannot be locked: {error}");
        Fault::new(&catalogue::MALFORMED_REQUEST, message)
    })
}

/// Works on a lock store, and counts it.
async fn on<T>(
    host: &Host,
    store: &LockComponent,
    operation: &'static str,
    entry: &'static Entry,
    work: impl Future<Output = Result<T, LockError>>,
) -> Result<T, Fault> {
    let stage = Stage { component: &store.name, operation };
    let started = Started::now(&*host.world);
    let answer = work.await;
    host.metrics.lock(&stage, started, &*host.world, answer.is_ok());
    answer.map_err(|error| fault(&error, entry, store))
}

fn fault(error: &LockError, entry: &'static Entry, store: &LockComponent) -> Fault {
    let fault = Fault::new(entry, format!("lock store {}: {error}", store.name));
    match error {
        LockError::Resource(_)
        | LockError::Owner(_)
        | LockError::Ttl(_)
        | LockError::Permits(_) => Fault::new(&catalogue::MALFORMED_REQUEST, error.to_string()),
        LockError::Deadlock(_) => {
            Fault::new(&catalogue::LOCK_DEADLOCK, format!("lock store {}: {error}", store.name))
        }
        LockError::TooManyWaiting => {
            let busy = StatusCode::SERVICE_UNAVAILABLE;
            fault.status(busy, Code::ResourceExhausted).retry_after(Duration::from_secs(1))
        }
        LockError::Elapsed | LockError::TimedOut => {
            fault.status(StatusCode::GATEWAY_TIMEOUT, Code::DeadlineExceeded)
        }
        LockError::Unknown(_) | LockError::Unavailable(_) | LockError::Damaged(_) => fault,
    }
}
