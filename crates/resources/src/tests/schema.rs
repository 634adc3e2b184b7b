//! The JSON Schema of kind `Resiliency` against its reader: neither knows a field that the other does not.

use super::read;
use crate::codes;
use serde_json::{Map, Value, json};
use std::path::Path;

const SCHEMA: &str = include_str!("../../../../docs/reference/resiliency.schema.json");

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

/// The schema that `node` is or refers to; of alternatives the mapping.
fn meant<'a>(whole: &'a Value, node: &'a Value) -> &'a Value {
    if let Some(name) = node["$ref"].as_str() {
        let name = name.strip_prefix("#/$defs/").unwrap();
        return meant(whole, &whole["$defs"][name]);
    }
    match node["anyOf"].as_array() {
        Some(either) => meant(whole, either.last().unwrap()),
        None => node,
    }
}

/// A document with every field there is, each of them null, under the name `x` where names are free.
fn every_field(whole: &Value, node: &Value) -> Value {
    let node = meant(whole, node);
    if let Some(fields) = node["properties"].as_object() {
        let fields = fields.iter().map(|(name, field)| (name.clone(), every_field(whole, field)));
        return Value::Object(fields.collect::<Map<_, _>>());
    }
    match &node["additionalProperties"] {
        Value::Object(_) => json!({ "x": every_field(whole, &node["additionalProperties"]) }),
        _ => Value::Null,
    }
}

#[test]
fn the_reader_knows_every_field_of_the_schema() {
    let whole = schema();
    let spec = every_field(&whole, &whole["properties"]["spec"]);
    let document = json!({
        "apiVersion": "dapr.io/v1alpha1", "kind": "Resiliency", "metadata": {"name": "all"}, "spec": spec,
    });
    let text = document.to_string();
    assert!(text.contains("ejection") && text.contains("slowCallPercent"), "{text}");
    let (_, issues) = crate::parse(Path::new("all.json"), text.as_bytes());
    let unknown: Vec<_> =
        issues.iter().filter(|issue| issue.code == codes::UNKNOWN_FIELD.id).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// The paths in `value` that the schema has no field for.
fn strangers(whole: &Value, node: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let node = meant(whole, node);
    let Some(entries) = value.as_object() else { return };
    for (name, value) in entries {
        let path = format!("{path}.{name}");
        let field = node["properties"].get(name).or_else(|| {
            node["additionalProperties"].is_object().then_some(&node["additionalProperties"])
        });
        match field {
            Some(field) => strangers(whole, field, value, &path, found),
            None => found.push(path),
        }
    }
}

#[test]
fn the_schema_knows_every_field_of_the_good_files() {
    let whole = schema();
    for name in ["resiliency.yaml", "resiliency-policies.yaml"] {
        let text = read(name);
        let good = text.split("\n---").next().unwrap();
        let value: Value = serde_saphyr::from_str(good).unwrap();
        let mut found = Vec::new();
        strangers(&whole, &whole["properties"]["spec"], &value["spec"], "spec", &mut found);
        assert!(found.is_empty() && value["spec"]["targets"]["apps"].is_object(), "{found:?}");
    }
}
