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
