//! What a configuration allows: parts of the API, secrets, and calls from other apps.

/// `api`: which parts of the API are served. With an allow list, only what it names; what the deny list names, never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiAccess {
    /// `allowed`.
    pub allowed: Option<Vec<ApiRule>>,
    /// `denied`.
    pub denied: Option<Vec<ApiRule>>,
}

impl ApiAccess {
    /// Whether the part of the API called `name` (such as `state`) in `version` (such as `v1`) is served over
    /// `protocol`. Health is always served; that is the caller's to know.
    #[must_use]
    pub fn permits(&self, name: &str, version: &str, protocol: ApiProtocol) -> bool {
        let named = |rules: &[ApiRule]| rules.iter().any(|r| r.covers(name, version, protocol));
        // An allow list that speaks only of the other protocol leaves this one alone.
        let allowed = self.allowed.as_deref().unwrap_or_default();
        let restricts = allowed.iter().any(|rule| rule.protocol == protocol);
        (!restricts || named(allowed)) && !named(self.denied.as_deref().unwrap_or_default())
    }
}

/// One entry of a list in `api`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiRule {
    /// The part of the API: `state`, `invoke`, ...
    pub name: String,
    /// Normalised to `v1`, `v1alpha1`, `v1alpha2` or `v1beta1`.
    pub version: String,
    /// The protocol; an entry without one stands for two rules.
    pub protocol: ApiProtocol,
}

impl ApiRule {
    fn covers(&self, name: &str, version: &str, protocol: ApiProtocol) -> bool {
        self.name == name && self.version == version && self.protocol == protocol
    }
}

/// How the API is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiProtocol {
    /// HTTP.
    Http,
    /// gRPC.
    Grpc,
}

/// `secrets.scopes[]`: which secrets of one store the app may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretScope {
    /// The secret store.
    pub store_name: String,
    /// `defaultAccess` (allow).
    pub default_access: Action,
    /// `allowedSecrets`: when not empty, the only ones.
    pub allowed: Vec<String>,
    /// `deniedSecrets`.
    pub denied: Vec<String>,
}

impl SecretScope {
    /// Whether `secret` may be read.
    #[must_use]
    pub fn allows(&self, secret: &str) -> bool {
        if !self.allowed.is_empty() {
            return self.allowed.iter().any(|name| name == secret);
        }
        !self.denied.iter().any(|name| name == secret) && self.default_access == Action::Allow
    }
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Let it through.
    Allow,
    /// Refuse it.
    Deny,
}

/// `accessControl`: which callers may reach this app, and on which operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessControl {
    /// `defaultAction`.
    pub default_action: Option<Action>,
    /// `trustDomain` of this app (`public`).
    pub trust_domain: Option<String>,
    /// `policies`, per caller.
    pub policies: Option<Vec<AppPolicy>>,
}

/// `accessControl.policies[]`: what one caller may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppPolicy {
    /// `appId` of the caller.
    pub app_id: String,
    /// `defaultAction` for operations not listed; `None` follows the global one.
    pub default_action: Option<Action>,
    /// `trustDomain` the caller must come from.
    pub trust_domain: String,
    /// `namespace` the caller must come from.
    pub namespace: String,
    /// `operations`.
    pub operations: Vec<Operation>,
}

/// `accessControl.policies[].operations[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The path; a leading slash is added when missing, `*` stands for one segment or, at the end, for all that follow.
    pub name: String,
    /// `httpVerb`, upper-cased; empty or `*` means all.
    pub verbs: Vec<String>,
    /// What to do.
    pub action: Action,
}

/// Who calls, as far as it has been proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller<'a> {
    /// Its app id.
    pub app_id: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its trust domain.
    pub trust_domain: &'a str,
}

impl AccessControl {
    /// Whether anything is said at all; without that, everybody may do everything.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.default_action.is_some()
            || self.trust_domain.is_some()
            || self.policies.as_ref().is_some_and(|policies| !policies.is_empty())
    }

    /// What happens to callers and operations nothing else speaks of. Who writes policies without a default means that
    /// the rest is refused.
    #[must_use]
    pub fn default_or_implied(&self) -> Action {
        match self.default_action {
            Some(action) => action,
            None if self.is_given() => Action::Deny,
            None => Action::Allow,
        }
    }

    /// Whether `caller` may call `operation` (a path, with or without a leading slash; a query is ignored). `verb` is
    /// the HTTP method, or `None` for gRPC, whose operations have no verbs and keep their case. A caller whose identity
    /// is not proved gets the default.
    #[must_use]
    pub fn decide(
        &self,
        caller: Option<Caller<'_>>,
        operation: &str,
        verb: Option<&str>,
    ) -> Action {
        let default = self.default_or_implied();
        let policies = self.policies.as_deref().unwrap_or_default();
        let Some(policy) = caller.and_then(|caller| policies.iter().find(|p| p.is_for(caller)))
        else {
            return default;
        };
        let default = policy.default_action.unwrap_or(default);
        let path = operation.split('?').next().unwrap_or_default().trim_start_matches('/');
        let path = if verb.is_some() { path.to_lowercase() } else { path.to_owned() };
        let matching = policy.operations.iter().filter(|operation| {
            let pattern = operation.name.trim_start_matches('/');
            let pattern = if verb.is_some() { pattern.to_lowercase() } else { pattern.to_owned() };
            path_matches(&pattern, &path) && operation.covers(verb)
        });
        // The most exact pattern decides: one without wildcards before any other, then the longest.
        let exactness = |o: &&Operation| (!o.name.contains('*'), o.name.len());
        matching.max_by_key(exactness).map_or(default, |operation| operation.action)
    }
}

impl AppPolicy {
    fn is_for(&self, caller: Caller<'_>) -> bool {
        self.app_id == caller.app_id
            && self.namespace == caller.namespace
            && self.trust_domain == caller.trust_domain
    }
}

impl Operation {
    fn covers(&self, verb: Option<&str>) -> bool {
        let Some(verb) = verb else { return true };
        let named = |known: &String| known == "*" || known.eq_ignore_ascii_case(verb);
        self.verbs.is_empty() || self.verbs.iter().any(named)
    }
}

/// `*` stands for one segment, or as the last segment for all that follow, at least one.
fn path_matches(pattern: &str, path: &str) -> bool {
    let mut path = path.trim_end_matches('/').split('/');
    let mut pattern = pattern.trim_end_matches('/').split('/').peekable();
    while let Some(expected) = pattern.next() {
        let Some(segment) = path.next() else { return false };
        match (expected, pattern.peek()) {
            ("*" | "**", None) => return !segment.is_empty(),
            ("*", Some(_)) => {}
            _ if expected == segment => {}
            _ => return false,
        }
    }
    path.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::{
        AccessControl, Action, ApiAccess, ApiProtocol, ApiRule, AppPolicy, Caller, Operation,
        SecretScope, path_matches,
    };

    #[test]
    fn patterns() {
        for (pattern, path, matches) in [
            ("a", "a", true),
            ("a", "a/", true),
            ("a", "a/b", false),
            ("a/*", "a/b", true),
            ("a/*", "a/b/c", true),
            ("a/*", "a", false),
            ("a/*/c", "a/b/c", true),
            ("a/*/c", "a/b/d", false),
            ("*", "anything/at/all", true),
        ] {
            assert_eq!(path_matches(pattern, path), matches, "{pattern} {path}");
        }
    }

    fn operation(name: &str, verbs: &[&str], action: Action) -> Operation {
        let verbs = verbs.iter().map(|v| (*v).into()).collect();
        Operation { name: name.into(), verbs, action }
    }

    #[test]
    fn callers_operations_and_defaults() {
        let policy = AppPolicy {
            app_id: "shop".into(),
            default_action: None,
            trust_domain: "public".into(),
            namespace: "default".into(),
            operations: vec![
                operation("/orders/*", &["GET"], Action::Allow),
                operation("/orders/secret", &[], Action::Deny),
            ],
        };
        let control = AccessControl {
            default_action: None,
            trust_domain: None,
            policies: Some(vec![policy]),
        };
        let shop = Caller { app_id: "shop", namespace: "default", trust_domain: "public" };
        let stranger = Some(Caller { namespace: "elsewhere", ..shop });
        let shop = Some(shop);
        assert_eq!(control.decide(shop, "Orders/7?x=1", Some("get")), Action::Allow);
        assert_eq!(control.decide(shop, "/orders/7", Some("POST")), Action::Deny);
        assert_eq!(control.decide(shop, "/orders/secret", Some("GET")), Action::Deny);
        assert_eq!(control.decide(shop, "/other", Some("GET")), Action::Deny);
        assert_eq!(control.decide(stranger, "/orders/7", Some("GET")), Action::Deny);
        assert_eq!(control.decide(None, "/orders/7", Some("GET")), Action::Deny);
        // gRPC keeps its case and has no verbs.
        assert_eq!(control.decide(shop, "/orders/7", None), Action::Allow);
        assert_eq!(control.decide(shop, "/Orders/7", None), Action::Deny);
        assert_eq!(AccessControl::default().decide(None, "x", None), Action::Allow);
    }

    #[test]
    fn api_lists_restrict_one_protocol_at_a_time() {
        let rule = |name: &str| ApiRule {
            name: name.into(),
            version: "v1".into(),
            protocol: ApiProtocol::Http,
        };
        let access = ApiAccess {
            allowed: Some(vec![rule("state"), rule("invoke")]),
            denied: Some(vec![rule("invoke")]),
        };
        assert!(access.permits("state", "v1", ApiProtocol::Http));
        assert!(!access.permits("state", "v1alpha1", ApiProtocol::Http));
        assert!(!access.permits("invoke", "v1", ApiProtocol::Http));
        assert!(!access.permits("publish", "v1", ApiProtocol::Http));
        assert!(access.permits("publish", "v1", ApiProtocol::Grpc));
    }

    #[test]
    fn secret_scopes() {
        let scope = |default_access, allowed: &[&str], denied: &[&str]| SecretScope {
            store_name: "vault".into(),
            default_access,
            allowed: allowed.iter().map(|s| (*s).into()).collect(),
            denied: denied.iter().map(|s| (*s).into()).collect(),
        };
        assert!(scope(Action::Allow, &[], &[]).allows("a"));
        assert!(!scope(Action::Allow, &[], &["a"]).allows("a"));
        assert!(!scope(Action::Deny, &[], &[]).allows("a"));
        assert!(scope(Action::Deny, &["a"], &[]).allows("a"));
        assert!(!scope(Action::Allow, &["a"], &[]).allows("b"));
    }
}
