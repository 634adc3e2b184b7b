//! The crate table of `ARCHITECTURE.md` against what the manifests really say.
//!
//! The table is the design; `cargo metadata` is the fact. A crate in only one of them, an arrow that does not point
//! down, or an engine known to anyone but the binary is a finding.

use super::Source;
use crate::shell;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;

const PREFIX: &str = "outrigger-";

/// Members that check the house from outside; they may see everything and nothing may see them.
const OUTSIDE: [&str; 4] = ["tests", "fuzz", "benches", "xtask"];

/// What may be used only by tests of the lower crates.
const DEVELOPMENT_LAYER: &str = "dev";

struct Edge {
    from: String,
    to: String,
    development: bool,
}

pub(super) fn check(sources: &[Source]) -> Result<Vec<String>> {
    let architecture = sources
        .iter()
        .find(|source| source.path.as_os_str() == "ARCHITECTURE.md")
        .context("there is no ARCHITECTURE.md")?;
    let table = table(&architecture.text);
    let (members, edges) = workspace()?;
    let mut findings = Vec::new();
    for member in &members {
        if !table.contains_key(member) {
            findings.push(format!("ARCHITECTURE.md: crate `{member}` is missing from the table"));
        }
    }
    for name in table.keys() {
        if !members.contains(name) {
            findings
                .push(format!("ARCHITECTURE.md: the table names `{name}`, which does not exist"));
        }
    }
    findings.extend(edges.iter().filter_map(|edge| judge(edge, &table)));
    Ok(findings)
}

/// Rows of the form `| layer | ``crate`` | sentence |`.
fn table(text: &str) -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, layer, name, sentence, ..] = cells[..] else { continue };
        let known_layer = layer.parse::<u8>().is_ok() || layer == DEVELOPMENT_LAYER;
        if let (true, Some(name)) = (known_layer && !sentence.is_empty(), unquoted(name)) {
            rows.insert(name.to_owned(), layer.to_owned());
        }
    }
    rows
}

fn unquoted(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`')
}

/// The crates of the house and the arrows between them.
fn workspace() -> Result<(Vec<String>, Vec<Edge>)> {
    let arguments = ["metadata", "--no-deps", "--locked", "--format-version", "1"];
    let text = shell::output(&mut shell::cargo(&arguments))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let names: Vec<String> = packages.iter().filter_map(|p| house_name(&p["name"])).collect();
    let mut edges = Vec::new();
    for package in packages {
        let Some(from) = house_name(&package["name"]) else { continue };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let Some(to) = house_name(&dependency["name"]) else { continue };
            if names.contains(&to) {
                let development = dependency["kind"] == "dev";
                edges.push(Edge { from: from.clone(), to, development });
            }
        }
    }
    let inside = |name: &String| !OUTSIDE.contains(&name.as_str());
    Ok((names.into_iter().filter(inside).collect(), edges))
}

/// `outrigger-state` is called `state` in the house; `outrigger` itself keeps its name.
fn house_name(name: &Value) -> Option<String> {
    let name = name.as_str()?;
    let ours = name.starts_with("outrigger") || name == "xtask";
    ours.then(|| name.strip_prefix(PREFIX).unwrap_or(name).to_owned())
}

/// What is wrong with one arrow, if anything.
fn judge(edge: &Edge, table: &BTreeMap<String, String>) -> Option<String> {
    let Edge { from, to, development } = edge;
    if OUTSIDE.contains(&from.as_str()) {
        return None;
    }
    if OUTSIDE.contains(&to.as_str()) {
        return Some(format!("crate `{from}` uses `{to}`, which only checks the house"));
    }
    let (from_layer, to_layer) = (table.get(from)?, table.get(to)?);
    if to_layer == DEVELOPMENT_LAYER {
        return (!development && from_layer != DEVELOPMENT_LAYER)
            .then(|| format!("crate `{from}` uses `{to}` outside its tests"));
    }
    if *development && from.starts_with("engine-") && to.starts_with("engine-") {
        // An engine in front of others is tested with one behind it.
        return None;
    }
    if to.starts_with("engine-") && from != "outrigger" {
        return Some(format!("crate `{from}` knows the engine `{to}`; only the binary may"));
    }
    let down = from_layer == DEVELOPMENT_LAYER || number(to_layer) < number(from_layer);
    (!down).then(|| {
        format!(
            "crate `{from}` (layer {from_layer}) uses `{to}` (layer {to_layer}): arrows point down; \
             what two blocks need moves to a lower layer"
        )
    })
}

fn number(layer: &str) -> u8 {
    layer.parse().unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Edge, judge, table};

    #[test]
    fn arrows_point_down() {
        let table = table(
            "| layer | crate | what |\n|---|---|---|\n| 0 | `kernel` | words |\n| 2 | `engine-x` | e |\n\
             | 2 | `engine-y` | e |\n\
             | 3 | `state` | s |\n| 3 | `events` | e |\n| 5 | `outrigger` | b |\n| dev | `sim` | w |\n",
        );
        assert_eq!(table.len(), 7);
        let verdict = |from: &str, to: &str, development: bool| {
            let edge = Edge { from: from.to_owned(), to: to.to_owned(), development };
            judge(&edge, &table).is_none()
        };
        assert!(verdict("state", "kernel", false));
        assert!(!verdict("kernel", "state", false));
        assert!(!verdict("state", "events", false));
        assert!(!verdict("state", "engine-x", false));
        assert!(!verdict("state", "engine-x", true));
        assert!(verdict("engine-y", "engine-x", true));
        assert!(!verdict("engine-y", "engine-x", false));
        assert!(verdict("outrigger", "engine-x", false));
        assert!(verdict("state", "sim", true));
        assert!(!verdict("state", "sim", false));
        assert!(verdict("tests", "state", false));
        assert!(!verdict("state", "tests", false));
    }
}
