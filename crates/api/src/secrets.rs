//! Secret stores: a file and the environment.
//!
//! A store is read-only from here. Which of its secrets an app may read is the configuration's business
//! ([`outrigger_resources::Configuration::secret_allowed`]); a store hands out what it has.

use outrigger_kernel::BoxFuture;
use serde_json::Value;
use std::{collections::BTreeMap, path::PathBuf};

/// The values of one secret, by name. Most stores have one value, under the secret's own name.
pub type Secret = BTreeMap<String, String>;

/// Largest secrets file.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Where secrets are kept.
pub trait SecretStore: Send + Sync + 'static {
    /// The secret called `name`.
    ///
    /// # Errors
    /// [`SecretError::NotFound`] when there is none.
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Secret, SecretError>>;

    /// All secrets, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn bulk(&self) -> BoxFuture<'_, Result<BTreeMap<String, Secret>, SecretError>>;
}

/// Why a secret could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is no such secret.
    #[error("secret {0:?} not found")]
    NotFound(String),
    /// The store could not be read.
    #[error("{0}")]
    Unreadable(String),
}

/// Secrets in a JSON file, read once when it is opened.
///
/// Nested objects are flattened: `{"redis": {"password": "x"}}` is the secret `redis:password`, with the separator that
/// the component names. With `multi_valued` the first level names secrets, and what is below are their values.
#[derive(Clone, Debug)]
pub struct FileSecrets {
    secrets: BTreeMap<String, Secret>,
}

impl FileSecrets {
    /// Reads `path`.
    ///
    /// # Errors
    /// A sentence that names the file, when it cannot be read or is not a JSON object.
    pub fn open(path: &PathBuf, separator: &str, multi_valued: bool) -> Result<Self, String> {
        let shown = path.display();
        let size = std::fs::metadata(path)
            .map_err(|error| format!("the secrets file {shown} cannot be read: {error}"))?
            .len();
        if size > FILE_BYTES_MAX {
            return Err(format!(
                "the secrets file {shown} has {size} bytes, more than {FILE_BYTES_MAX}"
            ));
        }
        let text = std::fs::read(path)
            .map_err(|error| format!("the secrets file {shown} cannot be read: {error}"))?;
        Self::parse(&text, separator, multi_valued)
            .map_err(|error| format!("the secrets file {shown} {error}"))
    }

    /// Reads the content of a secrets file.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn parse(text: &[u8], separator: &str, multi_valued: bool) -> Result<Self, String> {
        let top: Value =
            serde_json::from_slice(text).map_err(|error| format!("is not JSON: {error}"))?;
        let Value::Object(top) = top else { return Err("is not a JSON object".to_owned()) };
        let separator = if separator.is_empty() { ":" } else { separator };
        let mut secrets = BTreeMap::new();
        for (name, value) in top {
            let mut flat = BTreeMap::new();
            if multi_valued {
                match value {
                    Value::Object(fields) => {
                        for (field, value) in fields {
                            flatten(&field, value, separator, &mut flat);
                        }
                    }
                    value => flatten(&name, value, separator, &mut flat),
                }
                secrets.insert(name, flat);
            } else {
                flatten(&name, value, separator, &mut flat);
                for (name, value) in flat {
                    secrets.insert(name.clone(), BTreeMap::from([(name, value)]));
                }
            }
        }
        Ok(Self { secrets })
    }
}

/// Puts every leaf below `name` into `flat`. The recursion is as deep as the JSON parser allows, which is bounded.
fn flatten(name: &str, value: Value, separator: &str, flat: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                flatten(&format!("{name}{separator}{field}"), value, separator, flat);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.into_iter().enumerate() {
                flatten(&format!("{name}{separator}{index}"), value, separator, flat);
            }
        }
        Value::String(text) => drop(flat.insert(name.to_owned(), text)),
        Value::Null => drop(flat.insert(name.to_owned(), String::new())),
        other => drop(flat.insert(name.to_owned(), other.to_string())),
    }
}

impl SecretStore for FileSecrets {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Secret, SecretError>> {
        let found =
            self.secrets.get(name).cloned().ok_or_else(|| SecretError::NotFound(name.to_owned()));
        Box::pin(std::future::ready(found))
    }

    fn bulk(&self) -> BoxFuture<'_, Result<BTreeMap<String, Secret>, SecretError>> {
        Box::pin(std::future::ready(Ok(self.secrets.clone())))
    }
}

/// Secrets in the environment: the variable `<prefix><name>` is the secret `<name>`.
///
/// The environment is handed in as it was when the process started: reading it later would race with whoever changes it.
#[derive(Clone, Debug)]
pub struct EnvSecrets {
    variables: BTreeMap<String, String>,
}

/// Variables that hold the runtime's own secrets and are never handed out.
fn is_withheld(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    name == "APP_API_TOKEN" || name.starts_with("DAPR_")
}

impl EnvSecrets {
    /// Secrets from `variables`, of which those that begin with `prefix` count.
    #[must_use]
    pub fn new(variables: impl IntoIterator<Item = (String, String)>, prefix: &str) -> Self {
        let variables = variables
            .into_iter()
            .filter(|(name, _)| !is_withheld(name))
            .filter_map(|(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), value)))
            .filter(|(name, _)| !name.is_empty())
            .collect();
        Self { variables }
    }
}

impl SecretStore for EnvSecrets {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Secret, SecretError>> {
        let found = self
            .variables
            .get(name)
            .map(|value| BTreeMap::from([(name.to_owned(), value.clone())]))
            .ok_or_else(|| SecretError::NotFound(name.to_owned()));
        Box::pin(std::future::ready(found))
    }

    fn bulk(&self) -> BoxFuture<'_, Result<BTreeMap<String, Secret>, SecretError>> {
        let all = self
            .variables
            .iter()
            .map(|(name, value)| (name.clone(), BTreeMap::from([(name.clone(), value.clone())])))
            .collect();
        Box::pin(std::future::ready(Ok(all)))
    }
}

#[cfg(test)]
mod tests {
    use super::{EnvSecrets, FileSecrets, SecretError, SecretStore};

    const FILE: &[u8] =
        br#"{"plain":"p","redis":{"user":"u","pass":{"now":"n","tries":3}},"list":["a",true]}"#;

    async fn all(store: &dyn SecretStore) -> String {
        format!("{:?}", store.bulk().await.unwrap())
    }

    #[tokio::test]
    async fn flattens_with_the_separator() {
        let store = FileSecrets::parse(FILE, "", false).unwrap();
        let expected = concat!(
            r#"{"list:0": {"list:0": "a"}, "list:1": {"list:1": "true"}, "plain": {"plain": "p"}, "#,
            r#""redis:pass:now": {"redis:pass:now": "n"}, "redis:pass:tries": {"redis:pass:tries": "3"}, "#,
            r#""redis:user": {"redis:user": "u"}}"#
        );
        assert_eq!(all(&store).await, expected);
        let store = FileSecrets::parse(FILE, ".", false).unwrap();
        assert_eq!(store.get("redis.pass.now").await.unwrap()["redis.pass.now"], "n");
        assert_eq!(store.get("redis").await, Err(SecretError::NotFound("redis".to_owned())));
    }

    #[tokio::test]
    async fn multi_valued_keeps_the_first_level() {
        let store = FileSecrets::parse(FILE, ":", true).unwrap();
        let redis = store.get("redis").await.unwrap();
        assert_eq!(format!("{redis:?}"), r#"{"pass:now": "n", "pass:tries": "3", "user": "u"}"#);
        assert_eq!(store.get("plain").await.unwrap()["plain"], "p");
    }

    #[test]
    fn refuses_what_is_no_object() {
        for bad in [&b"[]"[..], b"", b"{", b"\xff"] {
            assert!(FileSecrets::parse(bad, ":", false).is_err());
        }
    }

    #[tokio::test]
    async fn environment_withholds_its_own() {
        let variables = [
            ("A_X", "1"),
            ("B", "2"),
            ("A_", "3"),
            ("APP_API_TOKEN", "t"),
            ("DAPR_API_TOKEN", "t"),
        ];
        let variables = || variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        assert_eq!(all(&EnvSecrets::new(variables(), "A_")).await, r#"{"X": {"X": "1"}}"#);
        assert!(!all(&EnvSecrets::new(variables(), "")).await.contains("TOKEN"));
        assert!(!all(&EnvSecrets::new(variables(), "APP_API_")).await.contains("TOKEN"));
    }
}
