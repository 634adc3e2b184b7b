//! Rules about single files: heads, names, sizes and forms that hide mistakes.

use super::Source;
use std::path::{Path, PathBuf};

const BLOB_BYTES_MAX: u64 = 256 * 1024;
const LINES_AIM: usize = 400;
const LINES_MAX: usize = 800;

/// Drawers: a name that fits everything says nothing, and everything ends up in it.
const DRAWERS: [&str; 6] = ["util", "utils", "common", "helpers", "misc", "types"];

/// Where the foreign API's name may stand: the crates at the wire, and what speaks to people or to clients.
const FOREIGN_WORD_HOMES: [&str; 12] = [
    "crates/api/",
    "crates/resources/",
    "crates/proto/",
    "crates/outrigger/",
    "docs/",
    "tests/",
    "examples/",
    "benches/",
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
];

/// Protocol files, whose folders are their package names.
const FOREIGN_LAYOUT: &str = "crates/proto/proto";

/// Spelled so that this file does not contain it.
const FOREIGN_WORD: &str = concat!("da", "pr");
const UNFINISHED: &str = concat!("TO", "DO");
const STATEMENT_FORM: &str = concat!("matches", "!(");

/// Files too large to review, with the one kind that cannot be small.
pub(super) fn blobs(paths: &[PathBuf]) -> Vec<String> {
    let too_large = |path: &&PathBuf| {
        path.as_os_str() != "Cargo.lock"
            && path.metadata().is_ok_and(|metadata| metadata.len() > BLOB_BYTES_MAX)
    };
    let finding = |path: &PathBuf| {
        format!(
            "{}: larger than {} KiB; history keeps it for ever",
            path.display(),
            BLOB_BYTES_MAX / 1024
        )
    };
    paths.iter().filter(too_large).map(finding).collect()
}

pub(super) fn check(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    let mut find = |what: String| findings.push(format!("{}: {what}", source.shown()));
    let foreign_layout = source.path.starts_with(FOREIGN_LAYOUT);
    if let Some(name) = drawer(&source.path).filter(|_| !foreign_layout) {
        find(format!("`{name}` is a drawer, not a name; say what is in it"));
    }
    let foreign_allowed =
        FOREIGN_WORD_HOMES.iter().any(|home| source.path.starts_with(home.trim_end_matches('/')));
    if !foreign_allowed && source.text.to_ascii_lowercase().contains(FOREIGN_WORD) {
        find("names the foreign API; pass the word in from the crates at the wire".to_owned());
    }
    if source.is_rust() {
        rust_file(source, &mut find);
    }
    findings
}

fn rust_file(source: &Source, find: &mut impl FnMut(String)) {
    if !source.text.starts_with("//!") {
        find("does not open with a `//!` head that says what it is for".to_owned());
    }
    let lines: Vec<&str> = source.text.lines().collect();
    let generated = source.path.components().any(|part| part.as_os_str() == "generated");
    if lines.len() > LINES_MAX && !generated {
        find(format!("{} lines; split it by operation or by lifecycle", lines.len()));
    }
    for (number, line) in lines.iter().enumerate() {
        let mut at = |what: &str| find(format!("line {}: {what}", number + 1));
        if !line.is_ascii() {
            at("a character outside ASCII; use an escape");
        }
        let code = line.trim();
        if code.starts_with("pub use") && code.trim_end_matches(';').ends_with("::*") {
            at("a re-export of everything; a name has one home");
        }
        let undated = |rest: &str| !is_dated(rest);
        if after_comment_marker(code, UNFINISHED).is_some_and(undated) {
            at("unfinished work needs a date and a name: (yyyy-mm-dd, who)");
        }
        if code.starts_with(STATEMENT_FORM) && is_statement(&lines, number) {
            at("the result is dropped; wrap it in assert!");
        }
    }
}

/// A path component that is a drawer, or a twin that should have got a real name.
fn drawer(path: &Path) -> Option<String> {
    path.components().find_map(|part| {
        let name = part.as_os_str().to_str()?;
        let stem = name.split('.').next().unwrap_or(name);
        let twin = stem
            .strip_suffix("v2")
            .is_some_and(|rest| rest.is_empty() || rest.ends_with(['-', '_']));
        (twin || DRAWERS.contains(&stem)).then(|| name.to_owned())
    })
}

fn after_comment_marker<'a>(code: &'a str, word: &str) -> Option<&'a str> {
    let comment = code.find("//").map(|at| &code[at..])?;
    comment.find(word).map(|at| &comment[at + word.len()..])
}

/// `(2026-11-21, who)`.
fn is_dated(rest: &str) -> bool {
    let Some(inside) = rest.strip_prefix('(').and_then(|rest| rest.split(')').next()) else {
        return false;
    };
    let Some((date, who)) = inside.split_once(',') else { return false };
    let digits = date.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    date.len() == 10 && digits && !who.trim().is_empty()
}

/// Whether the expression that begins on line `number` is a statement of its own: what comes before ends a statement
/// or opens a block, and it is itself closed by `;`.
fn is_statement(lines: &[&str], number: usize) -> bool {
    let before = lines[..number].iter().rev().map(|line| line.trim());
    let previous = before.into_iter().find(|line| !line.is_empty() && !line.starts_with("//"));
    if !previous.is_some_and(|line| line.ends_with([';', '{', '}'])) {
        return false;
    }
    let mut depth = 0_i32;
    for line in &lines[number..] {
        for (at, character) in line.char_indices() {
            match character {
                '(' => depth += 1,
                ')' => {
                    depth -= 1;
                    if depth == 0 {
                        return line[at + 1..].trim_start().starts_with(';');
                    }
                }
                _ => {}
            }
        }
    }
    false
}

/// The largest files above the aim, so that the next split is no surprise.
pub(super) fn size_report(sources: &[Source]) -> Vec<String> {
    let mut sizes: Vec<(usize, String)> = sources
        .iter()
        .filter(|source| source.is_rust())
        .map(|source| (source.text.lines().count(), source.shown()))
        .filter(|(lines, _)| *lines > LINES_AIM)
        .collect();
    sizes.sort();
    sizes.iter().rev().map(|(lines, path)| format!("    size: {lines:>4} lines  {path}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{Source, check};

    fn findings(path: &str, text: &str) -> usize {
        check(&Source { path: path.into(), text: text.to_owned() }).len()
    }

    #[test]
    fn good_files_pass() {
        let good = "//! Head.\nfn f(a: u8) -> bool {\n    matches!(a, 1)\n}\n// TODO(2026-11-21, ada): later\n";
        assert_eq!(findings("crates/a/src/b.rs", good), 0);
    }

    #[test]
    fn each_bad_form_is_found() {
        assert_eq!(findings("crates/a/src/util.rs", "//! Head.\n"), 1);
        assert_eq!(findings("crates/a/src/wire_v2.rs", "//! Head.\n"), 1);
        assert_eq!(findings("crates/a/src/b.rs", "fn f() {}\n"), 1);
        assert_eq!(findings("crates/a/src/b.rs", "//! Head.\npub use a::*;\n"), 1);
        assert_eq!(findings("crates/a/src/b.rs", concat!("//! Head.\n// TO", "DO: later\n")), 1);
        assert_eq!(findings("crates/a/src/b.rs", "//! Head \u{2192}.\n"), 1);
        assert_eq!(findings("crates/a/src/b.rs", concat!("//! Da", "pr.\n")), 1);
        assert_eq!(findings("docs/a.md", concat!("Da", "pr\n")), 0);
        let dropped = "//! Head.\nfn f(a: u8) {\n    matches!(a, 1);\n}\n";
        assert_eq!(findings("crates/a/src/b.rs", dropped), 1);
        let kept = "//! Head.\nfn f(a: u8) {\n    let b =\n    matches!(a, 1);\n}\n";
        assert_eq!(findings("crates/a/src/b.rs", kept), 0);
    }
}
