//! State: read, write, remove, transact.

use super::Stage;
use crate::{
    components::StateComponent,
    errors::{Entry, Fault, catalogue},
    host::Host,
    names,
    trace::Started,
};
use bytes::Bytes;
use http::StatusCode;
use outrigger_coordination::Fence;
use outrigger_kernel::Deadline;
use outrigger_resilience::{Class, GaveUp};
use outrigger_state::{
    ApplyError, Change, Concurrency, Delete, GetError, IllegalKey, Item, Set, Ttl,
};
use std::{collections::BTreeMap, sync::Arc};
use tonic::Code;

/// A change as asked for, under the user's own key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Write {
    pub(crate) key: String,
    /// `None` removes.
    pub(crate) value: Option<Bytes>,
    pub(crate) content_type: Option<String>,
    pub(crate) etag: Option<String>,
    pub(crate) first_write: bool,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// Which call the changes come from: it decides code and status of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Save,
    Delete,
    BulkDelete,
    Transact,
}

impl Verb {
    fn entry(self) -> &'static Entry {
        match self {
            Self::Save => &catalogue::STATE_SAVE,
            Self::Delete => &catalogue::STATE_DELETE,
            Self::BulkDelete => &catalogue::STATE_BULK_DELETE,
            Self::Transact => &catalogue::STATE_TRANSACTION,
        }
    }

    fn operation(self) -> &'static str {
        match self {
            Self::Save => "set",
            Self::Delete => "delete",
            Self::BulkDelete => "bulk_delete",
            Self::Transact => "transaction",
        }
    }
}

/// The store called `name`.
pub(crate) fn find(host: &Host, name: &str) -> Result<Arc<StateComponent>, Fault> {
    let components = host.components.load();
    if let Some(component) = components.state.get(name) {
        return Ok(Arc::clone(component));
    }
    let fault = if components.state.is_empty() {
        let message = format!("state store {name} is not configured: no state store is");
        Fault::new(&catalogue::STATE_STORE_NOT_CONFIGURED, message)
    } else {
        let message = format!("state store {name} is not found");
        Fault::new(&catalogue::STATE_STORE_NOT_FOUND, message)
    };
    Err(fault.with("appID", &*host.app_id))
}

/// Reads one key.
pub(crate) async fn get(
    host: &Host,
    store: &StateComponent,
    key: &str,
    deadline: Deadline,
) -> Result<Option<Item>, Fault> {
    let physical = physical(host, store, key)?;
    let reading = |_| store.store.get(&physical);
    let answer = on(host, store, "get", deadline, read_class, reading).await;
    answer.map_err(|failed| {
        let what = format!("could not get {key} from state store {}", store.name);
        failed.into_fault(&catalogue::STATE_GET, host, store, &what)
    })
}

/// Reads several keys in one snapshot, in the order asked for.
pub(crate) async fn get_many(
    host: &Host,
    store: &StateComponent,
    keys: &[String],
    deadline: Deadline,
) -> Result<Vec<Option<Item>>, Fault> {
    let physical: Vec<String> =
        keys.iter().map(|key| physical(host, store, key)).collect::<Result<_, _>>()?;
    let reading = |_| store.store.get_many(&physical);
    let answer = on(host, store, "bulk_get", deadline, read_class, reading).await;
    answer.map_err(|failed| {
        let what = format!("could not get keys from state store {}", store.name);
        failed.into_fault(&catalogue::STATE_BULK_GET, host, store, &what)
    })
}

/// Makes all changes, or none; none unless all of `fences` hold.
pub(crate) async fn apply(
    host: &Host,
    store: &StateComponent,
    verb: Verb,
    writes: Vec<Write>,
    fences: Vec<Fence>,
    deadline: Deadline,
) -> Result<(), Fault> {
    if writes.is_empty() {
        return Ok(());
    }
    let mut changes: Vec<Change> =
        writes.into_iter().map(|write| change(host, store, write)).collect::<Result<_, _>>()?;
    let once = store.outbound.is_idle();
    let applying = |due| {
        let changes = if once { std::mem::take(&mut changes) } else { changes.clone() };
        let fences = fences.clone();
        async move {
            if fences.is_empty() {
                return store.store.apply(changes, due).await;
            }
            Box::pin(store.store.apply_fenced(changes, fences, due)).await
        }
    };
    let answer = on(host, store, verb.operation(), deadline, apply_class, applying).await;
    answer.map(drop).map_err(|failed| {
        let what = match verb {
            Verb::Transact => format!("could not execute the transaction on {}", store.name),
            Verb::Save => format!("could not save state in state store {}", store.name),
            Verb::Delete | Verb::BulkDelete => {
                format!("could not delete state in state store {}", store.name)
            }
        };
        failed.into_fault(verb.entry(), host, store, &what)
    })
}

/// Works on a store under its policy, and counts it. `attempt` is told by when it must be done.
async fn on<T, E, F>(
    host: &Host,
    store: &StateComponent,
    operation: &'static str,
    deadline: Deadline,
    class: fn(&Result<T, E>) -> Class,
    attempt: impl FnMut(Deadline) -> F,
) -> Result<T, Failed>
where
    E: Into<Failed>,
    F: Future<Output = Result<T, E>>,
{
    let stage = Stage { component: &store.name, operation };
    let started = Started::now(&*host.world);
    let answer =
        match store.outbound.run(host, ("Statestore", &store.name), deadline, class, attempt).await
        {
            Ok(answer) => answer.map_err(Into::into),
            Err(gave_up) => Err(Failed::GaveUp(gave_up)),
        };
    host.metrics.state(&stage, started, &*host.world, answer.is_ok());
    answer
}

/// What a client is told about a value beside the value.
pub(crate) fn answer_metadata(item: &Item) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::new();
    if let Some(expires_at) = item.expires_at {
        let time = crate::clock::rfc3339(expires_at);
        metadata.insert(names::TTL_EXPIRE_TIME.to_owned(), time);
    }
    metadata
}

fn physical(host: &Host, store: &StateComponent, key: &str) -> Result<String, Fault> {
    store
        .prefix
        .physical(&host.app_id, &host.namespace, &store.name, key)
        .map_err(|error| illegal_key(store, key, &error))
}

fn change(host: &Host, store: &StateComponent, write: Write) -> Result<Change, Fault> {
    let key = physical(host, store, &write.key)?;
    let concurrency =
        if write.first_write { Concurrency::FirstWrite } else { Concurrency::LastWrite };
    let Some(data) = write.value else {
        return Ok(Change::Delete(Delete { key, etag: write.etag, concurrency }));
    };
    let ttl = match write.metadata.get(names::TTL_IN_SECONDS) {
        None => store.ttl_default_seconds.map_or(Ttl::Never, Ttl::from_seconds),
        Some(text) => text.parse().map(Ttl::from_seconds).map_err(|_| {
            let message = format!(
                "the value {text:?} of ttlInSeconds for key {} is not a whole number",
                write.key
            );
            Fault::new(&catalogue::MALFORMED_REQUEST, message)
        })?,
    };
    let content_type = write.content_type;
    Ok(Change::Set(Set { key, data, content_type, etag: write.etag, concurrency, ttl }))
}

fn illegal_key(store: &StateComponent, key: &str, error: &IllegalKey) -> Fault {
    let message = format!("input key {key:?} is illegal: {error}");
    Fault::new(&catalogue::STATE_ILLEGAL_KEY, message)
        .about("state", &store.name, false)
        .violation(key, error.to_string())
}

/// Why an operation did not succeed, before it is put into the words of the wire.
enum Failed {
    Read(GetError),
    Apply(ApplyError),
    GaveUp(GaveUp),
}

impl From<GetError> for Failed {
    fn from(error: GetError) -> Self {
        Self::Read(error)
    }
}

impl From<ApplyError> for Failed {
    fn from(error: ApplyError) -> Self {
        Self::Apply(error)
    }
}

impl Failed {
    fn into_fault(
        self,
        entry: &'static Entry,
        host: &Host,
        store: &StateComponent,
        what: &str,
    ) -> Fault {
        let fault = |reason: &dyn std::fmt::Display| Fault::new(entry, format!("{what}: {reason}"));
        match self {
            Self::GaveUp(gave_up) => super::given_up(fault(&gave_up), &gave_up),
            Self::Read(error) => match &error {
                GetError::Key(key) => illegal_key(store, "", key),
                GetError::TooManyKeys { .. } => {
                    fault(&error).status(StatusCode::BAD_REQUEST, Code::InvalidArgument)
                }
                GetError::AnswerTooLarge => {
                    fault(&error).status(StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted)
                }
                GetError::Damaged(_) | GetError::Unavailable(_) => fault(&error),
            },
            Self::Apply(error) => apply_fault(error, entry, host, store, what),
        }
    }
}

fn apply_fault(
    error: ApplyError,
    entry: &'static Entry,
    host: &Host,
    store: &StateComponent,
    what: &str,
) -> Fault {
    // A transaction answers every clash the same way: clients know it by that.
    let transaction = entry.code == catalogue::STATE_TRANSACTION.code;
    let own = |physical: &str| {
        let namespace = &host.namespace;
        store
            .prefix
            .strip(&host.app_id, namespace, &store.name, physical)
            .unwrap_or(physical)
            .to_owned()
    };
    let fault = |reason: String| Fault::new(entry, format!("{what}: {reason}"));
    match error {
        ApplyError::EtagMismatch { key } => {
            let reason = format!(
                "possible etag mismatch for key {}: it was changed since it was read, or is not there",
                own(&key)
            );
            if transaction {
                return fault(reason);
            }
            fault(reason).status(StatusCode::CONFLICT, Code::Aborted)
        }
        ApplyError::EtagMalformed { key, etag } => {
            let reason = format!("invalid etag value {etag:?} for key {}", own(&key));
            if transaction {
                return fault(reason);
            }
            fault(reason).status(StatusCode::BAD_REQUEST, Code::InvalidArgument)
        }
        ApplyError::Fenced { .. } => {
            Fault::new(&catalogue::STATE_FENCED, format!("{what}: {error}"))
        }
        ApplyError::FenceElsewhere { .. } => {
            fault(error.to_string()).status(StatusCode::BAD_REQUEST, Code::InvalidArgument)
        }
        ApplyError::Key(key) => illegal_key(store, "", &key),
        ApplyError::TooManyOperations { count } => {
            let max = outrigger_state::OPERATIONS_MAX;
            let message = format!(
                "the request has {count} operations, more than the {max} that the store takes at once"
            );
            Fault::new(&catalogue::STATE_TOO_MANY_OPERATIONS, message)
                .about("state", &store.name, false)
                .with("currentOpsTransaction", count.to_string())
                .with("maxOpsPerTransaction", max.to_string())
        }
        ApplyError::ValueTooLarge { .. } | ApplyError::TooLarge { .. } => {
            fault(error.to_string()).status(StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted)
        }
        ApplyError::Full(_) => {
            let full = StatusCode::INSUFFICIENT_STORAGE;
            fault(error.to_string()).status(full, Code::ResourceExhausted)
        }
        ApplyError::TooLate | ApplyError::Elapsed => {
            fault(error.to_string()).status(StatusCode::GATEWAY_TIMEOUT, Code::DeadlineExceeded)
        }
        other => fault(other.to_string()),
    }
}

fn read_class<T>(answer: &Result<T, GetError>) -> Class {
    match answer {
        Ok(_) => Class::Success,
        Err(GetError::Unavailable(_)) => Class::Failure,
        Err(GetError::Damaged(_)) => Class::Permanent,
        Err(_) => Class::Ignored,
    }
}

fn apply_class<T>(answer: &Result<T, ApplyError>) -> Class {
    match answer {
        Ok(_) => Class::Success,
        Err(ApplyError::Unavailable(_) | ApplyError::Contended) => Class::Failure,
        // Whether these were applied is not known, or will not change by trying again.
        Err(
            ApplyError::Unknown(_)
            | ApplyError::Elapsed
            | ApplyError::Full(_)
            | ApplyError::Damaged(_),
        ) => Class::Permanent,
        Err(_) => Class::Ignored,
    }
}
