//! Answers on stdout, in the form asked for; failures on stderr.

use crate::failure::Failure;
use clap::ValueEnum;
use serde_json::{Map, Value};
use std::io::{self, IsTerminal, Write};

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// Columns for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One JSON object per line.
    Jsonl,
    /// YAML.
    Yaml,
    /// Only the names, one per line.
    Name,
    /// `NAME=value` lines for a shell.
    Env,
}

/// `-o`, for commands that read.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct OutputArgs {
    /// Form of the answer.
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORM")]
    pub(super) form: Form,
}

/// A column of a table: its title and the field it shows.
pub(super) struct Column(pub(super) &'static str, pub(super) &'static str);

/// Prints `rows`. The first column is the name.
pub(super) fn rows(form: Form, columns: &[Column], rows: &[Map<String, Value>]) {
    match form {
        Form::Table => table(columns, rows),
        Form::Json => {
            document(form, &Value::Array(rows.iter().cloned().map(Value::Object).collect()))
        }
        Form::Yaml => {
            document(form, &Value::Array(rows.iter().cloned().map(Value::Object).collect()))
        }
        Form::Jsonl => rows.iter().for_each(|row| line(&Value::Object(row.clone()).to_string())),
        Form::Name => {
            let name = columns.first().map_or("", |column| column.1);
            rows.iter().for_each(|row| line(&cell(row.get(name))));
        }
        Form::Env => {
            for (index, row) in rows.iter().enumerate() {
                for (field, value) in row {
                    let suffix = if rows.len() > 1 { format!("_{index}") } else { String::new() };
                    line(&format!(
                        "{}{suffix}={}",
                        shell_name(field),
                        shell_value(&cell(Some(value)))
                    ));
                }
            }
        }
    }
}

/// Prints one document: JSON indented for people and one line for programs, or YAML.
pub(super) fn document(form: Form, value: &Value) {
    let text = match form {
        Form::Yaml => serde_saphyr::to_string(value).unwrap_or_else(|_| value.to_string()),
        Form::Jsonl => value.to_string(),
        _ if io::stdout().is_terminal() || form == Form::Table => {
            serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
        }
        _ => value.to_string(),
    };
    line(text.trim_end());
}

/// Prints bytes as they are, and an end of line when a person reads them.
pub(super) fn raw(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    // A reader that has seen enough (`| head -1`) closes the pipe: that is no failure of ours.
    drop(out.write_all(bytes));
    if out.is_terminal() && !bytes.ends_with(b"\n") {
        drop(out.write_all(b"\n"));
    }
    drop(out.flush());
}

/// Prints one line.
pub(super) fn line(text: &str) {
    drop(writeln!(io::stdout().lock(), "{text}"));
}

/// Prints one line that is not data.
pub(super) fn note(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Prints a failure.
pub(super) fn report(failure: &Failure) {
    note(&failure.to_string());
}

fn table(columns: &[Column], rows: &[Map<String, Value>]) {
    let titles = columns.iter().map(|column| column.0.to_owned()).collect();
    let body =
        rows.iter().map(|row| columns.iter().map(|column| cell(row.get(column.1))).collect());
    let cells: Vec<Vec<String>> = std::iter::once(titles).chain(body).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| cells.iter().map(|row| row[at].chars().count()).max().unwrap_or_default())
        .collect();
    for row in cells {
        let padded: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(text, width)| format!("{text:<width$}", width = *width))
            .collect();
        line(padded.join("  ").trim_end());
    }
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// `httpPort` and `http.port` are `HTTP_PORT`.
fn shell_name(field: &str) -> String {
    let mut name = String::with_capacity(field.len() + 4);
    for c in field.chars() {
        match c {
            c if c.is_ascii_uppercase() && !name.is_empty() && !name.ends_with('_') => {
                name.push('_');
                name.push(c);
            }
            c if c.is_ascii_alphanumeric() => name.push(c.to_ascii_uppercase()),
            _ => name.push('_'),
        }
    }
    name
}

pub(super) fn shell_value(text: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    if text.chars().all(bare) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::{shell_name, shell_value};

    #[test]
    fn shell_words() {
        assert_eq!(shell_name("httpPort"), "HTTP_PORT");
        assert_eq!(shell_name("app.max-concurrency"), "APP_MAX_CONCURRENCY");
        assert_eq!(shell_value("it's"), "'it'\\''s'");
        assert_eq!(shell_value("/a/b"), "/a/b");
    }
}
