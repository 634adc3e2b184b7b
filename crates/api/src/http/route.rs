//! Which operation a method and a path ask for.
//!
//! Matched by hand over path segments: the set of routes is closed, most are three segments long, and nothing is
//! allocated. What matches nothing may still be an invocation by header: see [`super::invoke`].

use http::Method;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    StateGet,
    StateSave,
    StateDelete,
    StateBulkGet,
    StateTransaction,
    StateQuery,
    Publish,
    BulkPublish,
    SecretGet,
    SecretBulk,
    MetadataGet,
    MetadataSet,
    Healthz,
    HealthzOutbound,
    Shutdown,
    Invoke,
    Bindings,
    Configuration,
    Lock,
    LockRenew,
    LockStatus,
    LockForce,
    Unlock,
    Actors,
    Workflows,
    Jobs,
    Crypto,
    SubtleCrypto,
    Conversation,
    /// What is remembered of calls to a target, and what an operator makes of it.
    PolicyGet,
    PolicyDo,
    /// No route; an invocation if a header says whose.
    Unmatched,
    /// No route, and no invocation either: the configuration or the listener does not serve them.
    Nothing,
}

impl Op {
    /// The operation's name, as logs and spans have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::StateGet => "GetState",
            Self::StateSave => "SaveState",
            Self::StateDelete => "DeleteState",
            Self::StateBulkGet => "GetBulkState",
            Self::StateTransaction => "ExecuteStateTransaction",
            Self::StateQuery => "QueryStateAlpha1",
            Self::Publish => "PublishEvent",
            Self::BulkPublish => "BulkPublishEvent",
            Self::SecretGet => "GetSecret",
            Self::SecretBulk => "GetBulkSecret",
            Self::MetadataGet => "GetMetadata",
            Self::MetadataSet => "SetMetadata",
            Self::Healthz => "Healthz",
            Self::HealthzOutbound => "HealthzOutbound",
            Self::Shutdown => "Shutdown",
            Self::Invoke | Self::Unmatched | Self::Nothing => "InvokeService",
            Self::Bindings => "InvokeBinding",
            Self::Configuration => "GetConfiguration",
            Self::Lock => "TryLockAlpha1",
            Self::LockRenew => "RenewLock",
            Self::LockStatus => "GetLock",
            Self::LockForce => "ForceUnlock",
            Self::Unlock => "UnlockAlpha1",
            Self::Actors => "InvokeActor",
            Self::Workflows => "Workflow",
            Self::Jobs => "Job",
            Self::Crypto => "Crypto",
            Self::SubtleCrypto => "SubtleCrypto",
            Self::Conversation => "Converse",
            Self::PolicyGet => "GetPolicy",
            Self::PolicyDo => "SetPolicy",
        }
    }

    /// The route as a template: what metrics have as `path`.
    pub(crate) fn template(self) -> &'static str {
        match self {
            Self::StateGet | Self::StateDelete => "/v1.0/state/{store}/{key}",
            Self::StateSave => "/v1.0/state/{store}",
            Self::StateBulkGet => "/v1.0/state/{store}/bulk",
            Self::StateTransaction => "/v1.0/state/{store}/transaction",
            Self::StateQuery => "/v1.0-alpha1/state/{store}/query",
            Self::Publish => "/v1.0/publish/{pubsub}/{topic}",
            Self::BulkPublish => "/v1.0/publish/bulk/{pubsub}/{topic}",
            Self::SecretGet => "/v1.0/secrets/{store}/{key}",
            Self::SecretBulk => "/v1.0/secrets/{store}/bulk",
            Self::MetadataGet => "/v1.0/metadata",
            Self::MetadataSet => "/v1.0/metadata/{key}",
            Self::Healthz => "/v1.0/healthz",
            Self::HealthzOutbound => "/v1.0/healthz/outbound",
            Self::Shutdown => "/v1.0/shutdown",
            Self::Invoke => "/v1.0/invoke/{app}/method/{path}",
            Self::Bindings => "/v1.0/bindings/{name}",
            Self::Configuration => "/v1.0/configuration/{store}",
            Self::Lock => "/v1.0-alpha1/lock/{store}",
            Self::LockRenew => "/v1.0-alpha1/lock/{store}/renew",
            Self::LockStatus | Self::LockForce => "/v1.0-alpha1/lock/{store}/{resource}",
            Self::Unlock => "/v1.0-alpha1/unlock/{store}",
            Self::Actors => "/v1.0/actors/{type}/{id}",
            Self::Workflows => "/v1.0/workflows/{component}",
            Self::Jobs => "/v1.0/jobs/{name}",
            Self::Crypto => "/v1.0-alpha1/crypto/{name}",
            Self::SubtleCrypto => "/v1.0-alpha1/subtlecrypto/{name}",
            Self::Conversation => "/v1.0-alpha2/conversation/{name}",
            Self::PolicyGet => "/v1.0-alpha1/policies/{target}",
            Self::PolicyDo => "/v1.0-alpha1/policies/{target}/{verb}",
            Self::Unmatched | Self::Nothing => "other",
        }
    }

    /// The name that allow and deny lists use for it.
    pub(crate) fn api(self) -> &'static str {
        match self {
            Self::StateGet
            | Self::StateSave
            | Self::StateDelete
            | Self::StateBulkGet
            | Self::StateTransaction
            | Self::StateQuery => "state",
            Self::Publish | Self::BulkPublish => "publish",
            Self::SecretGet | Self::SecretBulk => "secrets",
            Self::MetadataGet | Self::MetadataSet => "metadata",
            Self::Healthz | Self::HealthzOutbound => "healthz",
            Self::Shutdown => "shutdown",
            Self::Invoke | Self::Unmatched | Self::Nothing => "invoke",
            Self::Bindings => "bindings",
            Self::Configuration => "configuration",
            Self::Lock | Self::LockRenew | Self::LockStatus => "lock",
            Self::LockForce | Self::Unlock => "unlock",
            Self::Actors => "actors",
            Self::Workflows => "workflows",
            Self::Jobs => "jobs",
            Self::Crypto => "crypto",
            Self::SubtleCrypto => "subtlecrypto",
            Self::Conversation => "conversation",
            Self::PolicyGet | Self::PolicyDo => "policies",
        }
    }

    /// Whether it is a probe, which needs no token and is left out of logs when asked.
    pub(crate) fn is_probe(self) -> bool {
        matches!(self, Self::Healthz | Self::HealthzOutbound)
    }
}

/// A route that matched: the operation and the parts of the path it takes, still percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matched<'a> {
    pub(crate) op: Op,
    /// As allow and deny lists spell it: `v1`, `v1alpha1`.
    pub(crate) version: &'static str,
    pub(crate) first: &'a str,
    pub(crate) second: &'a str,
}

/// The route of a cleaned path. `get` and the like are the methods it is served under; all others do not match.
pub(crate) fn route<'a>(method: &Method, path: &'a str) -> Matched<'a> {
    let unmatched = Matched { op: Op::Unmatched, version: "v1", first: "", second: "" };
    let Some((prefix, rest)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
        return unmatched;
    };
    let (version, stage) = match prefix {
        "v1.0" => ("v1", Stage::Stable),
        "v1.0-alpha1" => ("v1alpha1", Stage::Alpha1),
        "v1.0-alpha2" => ("v1alpha2", Stage::Alpha2),
        "v1.0-beta1" => ("v1beta1", Stage::Beta1),
        _ => return unmatched,
    };
    let (family, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let found = match family {
        "state" => state(method, stage, rest),
        "publish" => publish(method, stage, rest),
        "invoke" if stage == Stage::Stable => invoke(rest),
        "policies" if stage == Stage::Alpha1 => policies(method, rest),
        "secrets" if stage == Stage::Stable && *method == Method::GET => secrets(rest),
        "metadata" if stage == Stage::Stable => metadata(method, rest),
        "healthz" if stage == Stage::Stable && *method == Method::GET => match rest {
            "" => Some((Op::Healthz, "", "")),
            "outbound" => Some((Op::HealthzOutbound, "", "")),
            _ => None,
        },
        "shutdown" if stage == Stage::Stable && *method == Method::POST && rest.is_empty() => {
            Some((Op::Shutdown, "", ""))
        }
        "lock" | "unlock" if stage == Stage::Alpha1 => lock(method, family, rest),
        _ => later(family, stage, rest),
    };
    match found {
        Some((op, first, second)) => Matched { op, version, first, second },
        None => unmatched,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Stable,
    Alpha1,
    Alpha2,
    Beta1,
}

type Found<'a> = Option<(Op, &'a str, &'a str)>;

fn writes(method: &Method) -> bool {
    *method == Method::POST || *method == Method::PUT
}

fn state<'a>(method: &Method, stage: Stage, rest: &'a str) -> Found<'a> {
    let (store, key) = rest.split_once('/').unwrap_or((rest, ""));
    if store.is_empty() || key.contains('/') {
        return None;
    }
    match (stage, method.as_str(), key) {
        (Stage::Stable, "GET", key) if !key.is_empty() => Some((Op::StateGet, store, key)),
        (Stage::Stable, "DELETE", key) if !key.is_empty() => Some((Op::StateDelete, store, key)),
        (Stage::Stable, "POST" | "PUT", "") => Some((Op::StateSave, store, "")),
        (Stage::Stable, "POST" | "PUT", "bulk") => Some((Op::StateBulkGet, store, "")),
        (Stage::Stable, "POST" | "PUT", "transaction") => Some((Op::StateTransaction, store, "")),
        (Stage::Alpha1, "POST" | "PUT", "query") => Some((Op::StateQuery, store, "")),
        _ => None,
    }
}

fn publish<'a>(method: &Method, stage: Stage, rest: &'a str) -> Found<'a> {
    if !writes(method) || !matches!(stage, Stage::Stable | Stage::Alpha1) {
        return None;
    }
    let (first, topic) = rest.split_once('/').unwrap_or((rest, ""));
    // A component called "bulk" cannot be published to, singly: the longer route has the word.
    if first == "bulk"
        && let Some((pubsub, topic)) = topic.split_once('/')
    {
        return Some((Op::BulkPublish, pubsub, topic));
    }
    (stage == Stage::Stable).then_some((Op::Publish, first, topic))
}

/// `{app}/method/{path}`, where the app may itself hold slashes: it may be a URL.
fn invoke(rest: &str) -> Found<'_> {
    let (app, path) = match rest.split_once("/method/") {
        Some(found) => found,
        None => (rest.strip_suffix("/method")?, ""),
    };
    (!app.is_empty()).then_some((Op::Invoke, app, path))
}

fn secrets(rest: &str) -> Found<'_> {
    match rest.split_once('/')? {
        (store, "bulk") => Some((Op::SecretBulk, store, "")),
        (store, key) if !key.is_empty() && !key.contains('/') => Some((Op::SecretGet, store, key)),
        _ => None,
    }
}

fn policies<'a>(method: &Method, rest: &'a str) -> Found<'a> {
    let (target, verb) = rest.split_once('/').unwrap_or((rest, ""));
    match (method.as_str(), target, verb) {
        (_, "", _) => None,
        ("GET", _, "") => Some((Op::PolicyGet, target, "")),
        ("POST", _, verb) if !verb.is_empty() && !verb.contains('/') => {
            Some((Op::PolicyDo, target, verb))
        }
        _ => None,
    }
}

fn metadata<'a>(method: &Method, rest: &'a str) -> Found<'a> {
    match (method.as_str(), rest) {
        ("GET", "") => Some((Op::MetadataGet, "", "")),
        ("PUT", key) if !key.is_empty() && !key.contains('/') => Some((Op::MetadataSet, key, "")),
        _ => None,
    }
}

fn lock<'a>(method: &Method, family: &str, rest: &'a str) -> Found<'a> {
    let (store, resource) = rest.split_once('/').unwrap_or((rest, ""));
    if store.is_empty() || resource.contains('/') {
        return None;
    }
    match (family, method.as_str(), resource) {
        ("lock", "POST", "") => Some((Op::Lock, store, "")),
        ("lock", "POST", "renew") => Some((Op::LockRenew, store, "")),
        ("unlock", "POST", "") => Some((Op::Unlock, store, "")),
        ("lock", "GET", resource) if !resource.is_empty() => {
            Some((Op::LockStatus, store, resource))
        }
        ("lock", "DELETE", resource) if !resource.is_empty() => {
            Some((Op::LockForce, store, resource))
        }
        _ => None,
    }
}

/// Families of which only the answer "not there" is served so far.
fn later<'a>(family: &str, stage: Stage, rest: &'a str) -> Found<'a> {
    if rest.is_empty() {
        return None;
    }
    let op = match (family, stage) {
        ("bindings", Stage::Stable) => Op::Bindings,
        ("configuration", Stage::Stable | Stage::Alpha1) => Op::Configuration,
        ("actors", Stage::Stable) => Op::Actors,
        ("workflows", Stage::Stable | Stage::Alpha1 | Stage::Beta1) => Op::Workflows,
        ("jobs", Stage::Stable | Stage::Alpha1) => Op::Jobs,
        ("crypto", Stage::Alpha1) => Op::Crypto,
        ("subtlecrypto", Stage::Alpha1) => Op::SubtleCrypto,
        ("conversation", Stage::Alpha1 | Stage::Alpha2) => Op::Conversation,
        _ => return None,
    };
    let (first, second) = rest.split_once('/').unwrap_or((rest, ""));
    Some((op, first, second))
}

#[cfg(test)]
mod tests {
    use super::{Op, route};
    use http::Method;

    #[test]
    fn table() {
        let table = "\
            GET /v1.0/state/s/k            StateGet s k
            GET /v1.0/state/s/bulk         StateGet s bulk
            GET /v1.0/state/s              Unmatched - -
            GET /v1.0/state/s/a/b          Unmatched - -
            DELETE /v1.0/state/s/k         StateDelete s k
            POST /v1.0/state/s             StateSave s -
            PUT /v1.0/state/s              StateSave s -
            PATCH /v1.0/state/s            Unmatched - -
            POST /v1.0/state/s/bulk        StateBulkGet s -
            POST /v1.0/state/s/transaction StateTransaction s -
            POST /v1.0/state/s/k           Unmatched - -
            POST /v1.0-alpha1/state/s/query StateQuery s -
            POST /v1.0/publish/p/t         Publish p t
            POST /v1.0/publish/p/a/b/c     Publish p a/b/c
            POST /v1.0/publish/p           Publish p -
            POST /v1.0/publish             Publish - -
            POST /v1.0/publish/bulk/p/t    BulkPublish p t
            POST /v1.0-alpha1/publish/bulk/p/a/b BulkPublish p a/b
            POST /v1.0/publish/bulk/p      Publish bulk p
            POST /v1.0-alpha1/publish/p/t  Unmatched - -
            GET /v1.0/publish/p/t          Unmatched - -
            PATCH /v1.0/invoke/a/method/x/y Invoke a x/y
            GET /v1.0/invoke/a/method      Invoke a -
            GET /v1.0/invoke/http%3A%2F%2Fh/method/x Invoke http%3A%2F%2Fh x
            GET /v1.0/invoke/http:/h:80/method/x Invoke http:/h:80 x
            GET /v1.0/invoke/a             Unmatched - -
            GET /v1.0/secrets/s/k          SecretGet s k
            GET /v1.0/secrets/s/bulk       SecretBulk s -
            GET /v1.0/metadata             MetadataGet - -
            PUT /v1.0/metadata/k           MetadataSet k -
            GET /v1.0/healthz              Healthz - -
            GET /v1.0/healthz/outbound     HealthzOutbound - -
            POST /v1.0/shutdown            Shutdown - -
            GET /v1.0/configuration/c      Configuration c -
            POST /v1.0-alpha1/lock/l       Lock l -
            POST /v1.0-alpha1/lock/l/renew LockRenew l -
            POST /v1.0-alpha1/lock/l/r     Unmatched - -
            GET /v1.0-alpha1/lock/l/r      LockStatus l r
            GET /v1.0-alpha1/lock/l        Unmatched - -
            DELETE /v1.0-alpha1/lock/l/r   LockForce l r
            POST /v1.0-alpha1/unlock/l     Unlock l -
            POST /v1.0/lock/l              Unmatched - -
            POST /v1.0-alpha2/conversation/c/converse Conversation c converse
            GET /v1.0-alpha1/policies/app  PolicyGet app -
            POST /v1.0-alpha1/policies/app/open PolicyDo app open
            POST /v1.0-alpha1/policies/app Unmatched - -
            GET /v1.0/policies/app         Unmatched - -
            GET /                          Unmatched - -
            GET /v2.0/state/s/k            Unmatched - -";
        for line in table.lines() {
            let mut words = line.split_whitespace();
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            let matched = route(&Method::from_bytes(method.as_bytes()).unwrap(), path);
            let shown = |part: &str| if part.is_empty() { "-" } else { part }.to_owned();
            let got = [format!("{:?}", matched.op), shown(matched.first), shown(matched.second)];
            let expected: Vec<&str> = words.collect();
            assert_eq!(got.to_vec(), expected, "{method} {path}");
        }
        assert_eq!(route(&Method::POST, "/v1.0-alpha1/publish/bulk/p/t").version, "v1alpha1");
        assert_eq!(route(&Method::GET, "/x").op, Op::Unmatched);
    }
}
