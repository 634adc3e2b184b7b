//! Parts that several kinds of resource share: the head of a document, its scopes, and values that may be secret.

use crate::issue::Origin;
use std::{collections::BTreeMap, fmt};

/// The `metadata` block of a document: what the resource is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`; `None` when absent or empty.
    pub namespace: Option<String>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `scopes`: the app ids that may use the resource; empty means all.
    pub scopes: Vec<String>,
}

impl Head {
    /// Whether `app_id` may use this resource. The namespace is looked at only when the process has one (`NAMESPACE`)
    /// and the resource names one.
    #[must_use]
    pub fn applies_to(&self, app_id: &str, namespace: Option<&str>) -> bool {
        let in_namespace = match (namespace.filter(|n| !n.is_empty()), self.namespace.as_deref()) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        in_namespace && (self.scopes.is_empty() || self.scopes.iter().any(|scope| scope == app_id))
    }
}

/// A name with a value that may have to be fetched first: a metadata entry of a component, a header of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedValue {
    /// The name as written.
    pub name: String,
    /// Where the value comes from.
    pub value: ValueSource,
    /// Where the entry stands.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum ValueSource {
    /// Written in the file. Numbers and booleans are kept as their text, lists and objects as compact JSON.
    Literal(String),
    /// A secret: `name` in the secret store, and `key` inside it (the same as `name` when the file gives none).
    Secret {
        /// The secret's name.
        name: String,
        /// The field of the secret.
        key: String,
    },
    /// An environment variable of this process.
    Env(String),
}

impl fmt::Debug for ValueSource {
    /// Literals are not shown: passwords are written into these files more often than they should be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("Literal(..)"),
            Self::Secret { name, key } => write!(f, "Secret({name}/{key})"),
            Self::Env(name) => write!(f, "Env({name})"),
        }
    }
}
