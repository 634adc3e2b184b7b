//! Compatibility scenarios: requests and expected answers as text, for any target that speaks the API.
//!
//! ```text
//! //= a citation of the rule that the next exchange checks
//! # a comment
//! > POST /v1.0/state/{store}
//! > content-type: application/json
//! [{"key": "a", "value": 1}]
//! < 204
//!
//! > GET /v1.0/state/{store}/a
//! < 200
//! < etag: {first}
//! 1
//! ```
//!
//! `> METHOD path` begins an exchange; `> name: value` are request headers; the body follows. `< status` begins the
//! expected answer: `< name: value` are headers that must be there, the body follows. A `{name}` in a request is
//! replaced by its value; a header value or JSON string that is exactly `{name}` binds the name when it has no value
//! and must equal it otherwise. JSON bodies match when everything expected is there (more members are allowed); `"*"`
//! stands for any value. Other bodies match exactly, `*` any. An expected answer without a body expects none, and
//! `< 4xx` is any status of that hundred.

use crate::http;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;

/// One exchange of a scenario.
#[derive(Debug, Default)]
pub struct Exchange {
    /// The line it begins on.
    pub line: usize,
    /// The rule it checks, in words.
    pub cites: String,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
    status: String,
    expected_headers: Vec<(String, String)>,
    expected_body: String,
}

/// Reads a scenario.
///
/// # Errors
/// When a line is out of place; the error names it.
pub fn parse(text: &str) -> Result<Vec<Exchange>> {
    let mut exchanges: Vec<Exchange> = Vec::new();
    let mut cites = String::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if let Some(citation) = line.strip_prefix("//=") {
            cites = citation.trim().to_owned();
        } else if line.starts_with('#') || line.trim().is_empty() {
            continue;
        } else if let Some(rest) = line.strip_prefix("> ") {
            let fresh = exchanges.last().is_none_or(|last| !last.status.is_empty());
            if fresh {
                let (method, path) = rest.split_once(' ').with_context(|| at(number, "no path"))?;
                let (method, path) = (method.to_owned(), path.to_owned());
                exchanges.push(Exchange {
                    line: number,
                    cites: cites.clone(),
                    method,
                    path,
                    ..Exchange::default()
                });
            } else if let Some(exchange) = exchanges.last_mut() {
                exchange.headers.push(header(rest, number)?);
            }
        } else {
            let exchange = exchanges.last_mut().with_context(|| at(number, "nothing asked yet"))?;
            match (line.strip_prefix("< "), exchange.status.is_empty()) {
                (Some(status), true) => status.clone_into(&mut exchange.status),
                (Some(rest), false) => exchange.expected_headers.push(header(rest, number)?),
                (None, true) => push_line(&mut exchange.body, line),
                (None, false) => push_line(&mut exchange.expected_body, line),
            }
        }
    }
    ensure!(exchanges.iter().all(|e| !e.status.is_empty()), "a request without an expected answer");
    Ok(exchanges)
}

fn at(number: usize, what: &str) -> String {
    format!("line {number}: {what}")
}

fn header(text: &str, number: usize) -> Result<(String, String)> {
    let (name, value) =
        text.split_once(':').with_context(|| at(number, "a header needs a colon"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn push_line(body: &mut String, line: &str) {
    if !body.is_empty() {
        body.push('\n');
    }
    body.push_str(line);
}

/// The values of `{names}` during one run.
pub type Names = BTreeMap<String, String>;

/// Plays an exchange against a target on this machine.
///
/// # Errors
/// When the answer is not the expected one.
pub fn play(exchange: &Exchange, port: u16, names: &mut Names) -> Result<()> {
    let headers: Vec<(String, String)> =
        exchange.headers.iter().map(|(n, v)| (n.clone(), fill(v, names))).collect();
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let path = fill(&exchange.path, names);
    let body = fill(&exchange.body, names);
    let answer = http::send(port, &exchange.method, &path, &headers, body.as_bytes())?;
    judge(exchange, &answer, names).with_context(|| {
        let Exchange { line, cites, method, .. } = exchange;
        format!(
            "line {line}: {method} {path} ({cites})\nanswered {} {}",
            answer.status,
            answer.text()
        )
    })
}

fn judge(exchange: &Exchange, answer: &http::Response, names: &mut Names) -> Result<()> {
    let status = answer.status.to_string();
    let fits = match exchange.status.strip_suffix("xx") {
        Some(hundred) => status.starts_with(hundred),
        None => status == exchange.status,
    };
    ensure!(fits, "expected status {}", exchange.status);
    for (name, expected) in &exchange.expected_headers {
        let found = answer.header(name).with_context(|| format!("no header {name}"))?;
        ensure!(same(expected, found, names), "header {name}: expected {expected}, found {found}");
    }
    let expected = exchange.expected_body.trim();
    if expected == "*" {
        return Ok(());
    }
    if let Ok(expected) = serde_json::from_str::<Value>(expected) {
        return covers(&expected, &answer.json(), names, "");
    }
    ensure!(same(expected, answer.text().trim(), names), "expected body {expected:?}");
    Ok(())
}

/// Replaces every `{name}` that has a value.
fn fill(text: &str, names: &Names) -> String {
    names
        .iter()
        .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

/// Whether a text is the expected one; a whole `{name}` without a value takes this one.
fn same(expected: &str, found: &str, names: &mut Names) -> bool {
    if expected == "*" {
        return true;
    }
    let name = expected.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    match name.filter(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric())) {
        Some(name) => found == *names.entry(name.to_owned()).or_insert_with(|| found.to_owned()),
        None => fill(expected, names) == found,
    }
}

/// Whether everything expected is in what was found.
fn covers(expected: &Value, found: &Value, names: &mut Names, at: &str) -> Result<()> {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (name, value) in expected {
                let inner = format!("{at}/{name}");
                let found = found.get(name).with_context(|| format!("{inner} is missing"))?;
                covers(value, found, names, &inner)?;
            }
            Ok(())
        }
        (Value::Array(expected), Value::Array(found)) => {
            ensure!(expected.len() == found.len(), "{at} has {} elements", found.len());
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                covers(expected, found, names, &format!("{at}/{index}"))?;
            }
            Ok(())
        }
        (Value::String(expected), _) if expected == "*" => Ok(()),
        (Value::String(expected), Value::String(found)) if same(expected, found, names) => Ok(()),
        _ if expected == found => Ok(()),
        _ => bail!("{at}: expected {expected}, found {found}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Names, covers, judge, parse, same};
    use crate::http::Response;
    use serde_json::json;

    #[test]
    fn reads_requests_and_answers() {
        let text =
            "//= rule\n> POST /a\n> x: y\n{\"b\": 1}\n< 2xx\n< etag: {tag}\n\n> GET /c\n< 204\n";
        let exchanges = parse(text).unwrap();
        assert_eq!(exchanges.len(), 2);
        assert_eq!(exchanges[1].cites, "rule");
        let answer =
            Response { status: 200, headers: vec![("etag".into(), "7".into())], body: vec![] };
        let mut names = Names::new();
        judge(&exchanges[0], &answer, &mut names).unwrap();
        assert_eq!(names["tag"], "7");
        assert!(judge(&exchanges[1], &answer, &mut names).is_err());
    }

    #[test]
    fn json_covers() {
        let names = &mut Names::new();
        assert!(covers(&json!({"a": "*"}), &json!({"a": [1], "b": 2}), names, "").is_ok());
        assert!(covers(&json!({"a": 1}), &json!({"b": 1}), names, "").is_err());
        assert!(covers(&json!([1]), &json!([1, 2]), names, "").is_err());
    }

    #[test]
    fn a_name_is_bound_once() {
        let names = &mut Names::new();
        assert!(same("{n}", "1", names));
        assert!(!same("{n}", "2", names));
        assert!(same("{n}", "1", names));
    }
}
