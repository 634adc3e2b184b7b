//! Parts that several kinds of resource share: the head of a document, its scopes, and values that may be secret.

use crate::{
    codes,
    fields::{Fields, Report},
    issue::Origin,
    yaml::{Node, Value},
};
use std::{collections::BTreeMap, fmt};

/// What a cluster adds to `metadata`, of no meaning here.
const CLUSTER_FIELDS: [&str; 8] = [
    "creationTimestamp",
    "deletionTimestamp",
    "finalizers",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "uid",
];

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
    /// Reads `metadata` and `scopes` of a document.
    pub(crate) fn read(report: &mut Report, fields: &mut Fields<'_>, scoped: bool) -> Self {
        let mut head = Self::default();
        if scoped {
            head.scopes = fields.texts(report, "scopes").unwrap_or_default();
        }
        let Some(mut metadata) = fields.object(report, "metadata") else { return head };
        head.name = metadata.string(report, "name").unwrap_or_default();
        head.namespace = metadata.string(report, "namespace");
        head.labels = metadata.text_map(report, "labels").unwrap_or_default();
        head.annotations = metadata.text_map(report, "annotations").unwrap_or_default();
        for field in CLUSTER_FIELDS {
            metadata.get(field);
        }
        let bad = matches!(head.name.as_str(), "." | "..") || head.name.contains(['/', '%']);
        if bad {
            let message = format!("\"{}\" cannot be a name", head.name);
            report.error(codes::BAD_NAME, metadata.place_of("name"), message);
        }
        metadata.finish(report);
        head
    }

    /// Reports a missing name, for kinds that are used by it.
    pub(crate) fn require_name(&self, report: &mut Report, fields: &Fields<'_>) {
        if self.name.is_empty() {
            let place = fields.place_of("metadata");
            report.error(codes::MISSING_FIELD, place, "metadata.name is missing");
        }
    }

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

impl Default for ValueSource {
    fn default() -> Self {
        Self::Literal(String::new())
    }
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

/// Reads a list of named values. Of two with the same name, the later counts.
pub(crate) fn named_values(
    report: &mut Report,
    fields: &mut Fields<'_>,
    list: &'static str,
) -> Vec<NamedValue> {
    let mut values: BTreeMap<String, usize> = BTreeMap::new();
    let mut kept: Vec<Option<NamedValue>> = Vec::new();
    for mut entry in fields.objects(report, list).unwrap_or_default() {
        let name = entry.required(report, "name");
        let value = value_source(report, &mut entry);
        let origin = report.origin(entry.place());
        if let Some(earlier) = values.insert(name.to_ascii_lowercase(), kept.len()) {
            let message = format!("{} \"{name}\" is given twice", fields.path_of(list));
            report.warn(codes::DUPLICATE_ENTRY, entry.place(), message);
            kept[earlier] = None;
        }
        kept.push(Some(NamedValue { name, value: value.unwrap_or_default(), origin }));
        entry.finish(report);
    }
    kept.into_iter().flatten().collect()
}

/// Reads `value`, `secretKeyRef` or `envRef` of a mapping; `None` when it has none of them, which is reported.
pub(crate) fn value_source(report: &mut Report, fields: &mut Fields<'_>) -> Option<ValueSource> {
    let literal = fields.has("value").then(|| fields.get("value").map_or_else(String::new, text));
    let secret = fields.object(report, "secretKeyRef").map(|mut reference| {
        let name = reference.required(report, "name");
        let key = reference.string(report, "key").unwrap_or_else(|| name.clone());
        reference.finish(report);
        ValueSource::Secret { name, key }
    });
    let env = fields.string(report, "envRef");
    // An empty value beside a reference is how some tools write "none"; it is not worth a word.
    let literal_given = literal.as_deref().is_some_and(|text| !text.is_empty());
    let given =
        usize::from(literal_given) + usize::from(secret.is_some()) + usize::from(env.is_some());
    let chosen = secret.or(match (literal, env) {
        (Some(text), env) if literal_given || env.is_none() => Some(ValueSource::Literal(text)),
        (_, env) => env.map(ValueSource::Env),
    });
    if given > 1 || chosen.is_none() {
        let what = if given > 1 { "more than one" } else { "none" };
        let path = fields.path();
        let message = format!("{path} has {what} of value, secretKeyRef and envRef");
        report.warn(codes::VALUE_SOURCE, fields.place(), message);
    }
    chosen
}

/// A value as the text a component gets: scalars as written, lists and mappings as compact JSON.
fn text(node: &Node) -> String {
    match &node.value {
        Value::Scalar(scalar) => scalar.text.clone(),
        Value::List(_) | Value::Map(_) => node.to_json().to_string(),
    }
}
