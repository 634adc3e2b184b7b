//! Kind `Component`: one building block instance, such as a state store or a broker.

use crate::{
    issue::Origin,
    value::{Head, NamedValue, ValueSource},
};
use std::time::Duration;

/// How long a component may take to start unless the file says otherwise.
pub const INIT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// A component as written; its secret and environment references are not resolved yet (see [`crate::resolve`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Name, namespace, labels and scopes.
    pub head: Head,
    /// `spec.type`, such as `state.redis`; lower-cased.
    pub type_name: String,
    /// `spec.version`, such as `v1`.
    pub version: String,
    /// `spec.ignoreErrors`: a failure to start is logged instead of ending the process.
    pub ignore_errors: bool,
    /// `spec.initTimeout`.
    pub init_timeout: Duration,
    /// `spec.metadata`, in file order.
    pub metadata: Vec<NamedValue>,
    /// `auth.secretStore`: where the secret references of `metadata` are looked up.
    pub secret_store: Option<String>,
    /// Where the document begins.
    pub origin: Origin,
}

impl Component {
    /// The block part of the type: `state` of `state.redis`.
    #[must_use]
    pub fn block(&self) -> &str {
        self.type_name.split('.').next().unwrap_or_default()
    }

    /// The metadata entry called `name`, whatever its case.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&NamedValue> {
        self.metadata.iter().find(|entry| entry.name.eq_ignore_ascii_case(name))
    }

    /// The text of the metadata entry called `name`, when it is written in the file itself.
    #[must_use]
    pub fn literal(&self, name: &str) -> Option<&str> {
        match &self.entry(name)?.value {
            ValueSource::Literal(text) => Some(text),
            ValueSource::Secret { .. } | ValueSource::Env(_) => None,
        }
    }
}
