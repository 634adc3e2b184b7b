//! From a component as written to the settings it runs with: secrets fetched, environment read, templates filled.

use crate::{
    codes,
    component::Component,
    http_endpoint::{ClientTls, HttpEndpoint},
    issue::Issue,
    value::{NamedValue, ValueSource},
};
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
/// As [`resolve()`].
pub fn resolve_headers(
    endpoint: &HttpEndpoint,
    secrets: &SecretReader<'_>,
    env: &EnvReader<'_>,
) -> Result<BTreeMap<String, String>, Vec<Issue>> {
    resolve_all(&endpoint.headers, endpoint.secret_store.as_deref(), secrets, env)
}

/// The PEM texts of an endpoint's client TLS.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TlsTexts {
    /// Roots to trust instead of the system's.
    pub root_ca: Option<String>,
    /// The client's certificate and the key that belongs to it.
    pub identity: Option<(String, String)>,
}

/// An endpoint's client TLS, likewise.
///
/// # Errors
/// As [`resolve()`].
pub fn resolve_tls(
    endpoint: &HttpEndpoint,
    secrets: &SecretReader<'_>,
    env: &EnvReader<'_>,
) -> Result<TlsTexts, Vec<Issue>> {
    let nothing = ClientTls::default();
    let tls = endpoint.client_tls.as_ref().unwrap_or(&nothing);
    let part = |name: &str, value: &Option<ValueSource>| {
        let origin = endpoint.origin.clone();
        value.clone().map(|value| NamedValue { name: name.into(), value, origin })
    };
    let parts: Vec<NamedValue> = [
        part("rootCA", &tls.root_ca),
        part("certificate", &tls.certificate),
        part("privateKey", &tls.private_key),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut texts = resolve_all(&parts, endpoint.secret_store.as_deref(), secrets, env)?;
    Ok(TlsTexts {
        root_ca: texts.remove("rootCA"),
        identity: texts.remove("certificate").zip(texts.remove("privateKey")),
    })
}

fn resolve_all(
    entries: &[NamedValue],
    store: Option<&str>,
    secrets: &SecretReader<'_>,
    env: &EnvReader<'_>,
) -> Result<BTreeMap<String, String>, Vec<Issue>> {
    let mut settings = BTreeMap::new();
    let mut issues = Vec::new();
    for entry in entries {
        match resolve_one(entry, store, secrets, env) {
            Ok(text) => {
                settings.insert(entry.name.clone(), text);
            }
            Err(issue) => issues.push(issue),
        }
    }
    if issues.is_empty() { Ok(settings) } else { Err(issues) }
}

fn resolve_one(
    entry: &NamedValue,
    store: Option<&str>,
    secrets: &SecretReader<'_>,
    env: &EnvReader<'_>,
) -> Result<String, Issue> {
    let issue = |code, message: String| Issue::error(code, entry.origin.clone(), message);
    let wanted = &entry.name;
    match &entry.value {
        ValueSource::Literal(text) => Ok(text.clone()),
        ValueSource::Secret { name, key } => {
            let store = store.ok_or_else(|| {
                let message = format!("{wanted} refers to the secret {name} of no store");
                issue(codes::NO_SECRET_STORE, message)
            })?;
            secrets(store, name, key).map_err(|reason| {
                let place = if name == key { name.clone() } else { format!("{name}/{key}") };
                let message = format!("{wanted} needs the secret {place} of {store}: {reason}");
                issue(codes::SECRET_UNREADABLE, message)
            })
        }
        ValueSource::Env(name) if !env_allowed(name) => {
            let message = format!("{wanted} may not use the environment variable {name}");
            Err(issue(codes::ENV_REFUSED, message))
        }
        ValueSource::Env(name) => env(name).ok_or_else(|| {
            let message = format!("{wanted} needs the environment variable {name}");
            issue(codes::ENV_NOT_SET, message)
        }),
    }
}

/// Variables that hold the sidecar's own secrets are out of reach of resource files.
fn env_allowed(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    !name.is_empty()
        && name != "APP_API_TOKEN"
        && !name.starts_with("DAPR_")
        && !name.contains([' ', '=', '\0'])
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
    /// Replaces every template in `settings`. What a template brings in is not looked at again.
    ///
    /// # Errors
    /// When `{podName}` is asked for and there is none.
    pub fn fill(
        &self,
        component: &Component,
        settings: &mut BTreeMap<String, String>,
    ) -> Result<(), Vec<Issue>> {
        let mut issues = Vec::new();
        for (name, value) in settings.iter_mut().filter(|(_, value)| value.contains('{')) {
            match self.filled(value) {
                Some(filled) => *value = filled,
                None => {
                    let origin = component.entry(name).map_or(&component.origin, |e| &e.origin);
                    let message = format!("{name} contains {{podName}}, but this is no pod");
                    issues.push(Issue::error(codes::TEMPLATE, origin.clone(), message));
                }
            }
        }
        if issues.is_empty() { Ok(()) } else { Err(issues) }
    }

    /// `None` when a pod's name is needed and there is none.
    fn filled(&self, text: &str) -> Option<String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find('{') {
            filled.push_str(&rest[..start]);
            rest = &rest[start..];
            let template = ["{uuid}", "{podName}", "{namespace}", "{appID}"]
                .into_iter()
                .find(|template| rest.starts_with(template));
            match template {
                Some("{uuid}") => filled.push_str(&(self.uuid)()),
                Some("{podName}") => filled.push_str(self.pod_name?),
                Some("{namespace}") => {
                    filled.push_str(self.namespace);
                    filled.push('.');
                    filled.push_str(self.app_id);
                }
                Some(_) => filled.push_str(self.app_id),
                None => filled.push('{'),
            }
            rest = &rest[template.map_or(1, str::len)..];
        }
        filled.push_str(rest);
        Some(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::{Templates, resolve};
    use crate::{Body, Component, load::parse};
    use std::{collections::BTreeMap, path::Path};

    fn component(metadata: &str) -> Component {
        let source = format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: c}}\n\
             auth: {{secretStore: vault}}\nspec:\n  type: state.redis\n  metadata:\n{metadata}"
        );
        let (resources, _) = parse(Path::new("c.yaml"), source.as_bytes());
        match resources.into_iter().next().map(|resource| resource.body) {
            Some(Body::Component(component)) => *component,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn references_are_replaced() {
        let component = component(
            "  - {name: plain, value: 012}\n  - {name: list, value: [1, b]}\n\
             \x20 - {name: secret, secretKeyRef: {name: redis, key: password}}\n\
             \x20 - {name: short, secretKeyRef: {name: token}}\n  - {name: home, envRef: HOME}\n",
        );
        let settings =
            resolve(&component, &|store, name, key| Ok(format!("{store}:{name}:{key}")), &|name| {
                Some(format!("${name}"))
            });
        let expected: BTreeMap<String, String> = [
            ("plain", "012"),
            ("list", "[1,\"b\"]"),
            ("secret", "vault:redis:password"),
            ("short", "vault:token:token"),
            ("home", "$HOME"),
        ]
        .map(|(k, v)| (k.into(), v.into()))
        .into();
        assert_eq!(settings, Ok(expected));
    }

    #[test]
    fn every_failure_is_told_with_its_place() {
        let mut component = component(
            "  - {name: a, envRef: DAPR_API_TOKEN}\n  - {name: b, envRef: app_api_token}\n\
             \x20 - {name: c, envRef: UNSET}\n  - {name: d, secretKeyRef: {name: gone}}\n",
        );
        let told = |component: &Component| {
            let issues =
                resolve(component, &|_, _, _| Err("no such secret".into()), &|_| None).unwrap_err();
            issues.iter().map(|i| format!("{} {}", i.origin.line, i.code)).collect::<Vec<_>>()
        };
        assert_eq!(
            told(&component),
            ["8 OUTR-0126", "9 OUTR-0126", "10 OUTR-0127", "11 OUTR-0125"]
        );
        component.secret_store = None;
        assert_eq!(told(&component)[3], "11 OUTR-0124");
    }

    #[test]
    fn templates() {
        let component = component("  - {name: a, value: x}\n  - {name: pod, value: y}\n");
        let templates = |pod_name| Templates {
            app_id: "shop",
            namespace: "prod",
            pod_name,
            uuid: &|| "0-1".into(),
        };
        let mut settings: BTreeMap<String, String> =
            [("a".into(), "{uuid}/{namespace}/{appID}/{other}{".into())].into();
        assert_eq!(templates(None).fill(&component, &mut settings), Ok(()));
        assert_eq!(settings["a"], "0-1/prod.shop/shop/{other}{");
        settings.insert("pod".into(), "{podName}".into());
        let issues = templates(None).fill(&component, &mut settings).unwrap_err();
        assert_eq!((issues[0].code, issues[0].origin.line), ("OUTR-0128", 9));
        assert_eq!(templates(Some("p-0")).fill(&component, &mut settings), Ok(()));
        assert_eq!(settings["pod"], "p-0");
    }
}
