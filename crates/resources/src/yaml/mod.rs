//! A document as a tree whose every value knows where it stands.
//!
//! Deserialising straight into structs would stop at the first mistake and forget where values came from. So documents
//! become a small tree first, and readers walk it, taking what they can and reporting the rest. The tree is made by
//! [`documents`] from the events of the YAML parser; JSON is read as the YAML it nearly is.
//!
//! The invariant: a tree is at most [`DEPTH_MAX`] deep and, with its aliases written out, at most [`VALUES_MAX`] values
//! large, so that walking one recursively is safe and cheap.

mod compose;
mod scalar;

pub(crate) use compose::documents;
pub(crate) use scalar::Scalar;

use std::sync::Arc;

/// Levels of nesting in one document.
pub(crate) const DEPTH_MAX: usize = 48;
/// Values in one document, those that aliases and merge keys repeat included.
pub(crate) const VALUES_MAX: usize = 100_000;
/// Documents in one file; what follows is not read.
pub(crate) const DOCUMENTS_MAX: usize = 10_000;

/// A position in a file, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Line.
    pub(crate) line: u32,
    /// Column in characters.
    pub(crate) column: u32,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
    /// This value and all below it, aliases written out.
    size: usize,
    /// Levels below and including this one.
    height: usize,
}

/// What a value is. Lists and maps share their elements, because an alias repeats them.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Arc<Node>>),
    Map(Vec<Entry>),
}

/// A key with its value. Keys are unique within a map.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) node: Arc<Node>,
}

impl Node {
    fn new(value: Value, place: Place) -> Self {
        let children: &mut dyn Iterator<Item = &Arc<Self>> = match &value {
            Value::Scalar(_) => &mut std::iter::empty(),
            Value::List(items) => &mut items.iter(),
            Value::Map(entries) => &mut entries.iter().map(|entry| &entry.node),
        };
        let (size, height) = children.fold((1_usize, 0), |(size, height), child| {
            (size.saturating_add(child.size), height.max(child.height))
        });
        Self { value, place, size, height: height + 1 }
    }

    /// Whether there is nothing here: a null, or an empty plain scalar.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// What the value is, for a sentence.
    pub(crate) fn describe(&self) -> &'static str {
        match &self.value {
            Value::Scalar(scalar) => scalar.describe(),
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The value as JSON, plain scalars typed as YAML types them.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Scalar(scalar) => scalar.to_json(),
            Value::List(items) => items.iter().map(|item| item.to_json()).collect(),
            Value::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.node.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}
