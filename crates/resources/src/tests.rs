//! Whole files: what is read from the good ones, and every complaint about the bad ones with its place.
//!
//! The files under `cases/` end in lines that begin with `#=`: the resources read and the issues, in order. After a
//! change that is meant, run the test with `OUTRIGGER_BLESS=1` and read the difference before committing it.

mod fuzz;
mod good;
mod schema;
mod together;

use crate::{Issue, Resource, Severity, multi_app};
use std::path::{Path, PathBuf};

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(cases().join(name)).unwrap()
}

/// One line for an issue.
fn told(issue: &Issue) -> String {
    let severity = match issue.severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let (line, column) = (issue.origin.line, issue.origin.column);
    format!("{line}:{column} {severity} {} {} -> {}", issue.code, issue.message, issue.remedy)
}

fn found(resource: &Resource) -> String {
    let body = format!("{:?}", resource.body);
    let kind = body.split(['(', ' ']).next().unwrap_or_default();
    format!("{}:{} {kind} {}", resource.origin.line, resource.origin.column, resource.head().name)
}

#[test]
fn every_case_file() {
    let bless = std::env::var_os("OUTRIGGER_BLESS").is_some();
    let mut names: Vec<String> = std::fs::read_dir(cases())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 10);
    for name in names {
        let text = read(&name);
        let (source, expected) = match text.find("#= ") {
            Some(start) => text.split_at(start),
            None => (text.as_str(), ""),
        };
        let file = Path::new("/cases").join(&name);
        let (mut lines, issues) = if name.starts_with("run-") {
            let exists =
                |path: &Path| !path.ends_with("missing") && !path.starts_with("/abs/pay/.dapr");
            let (run_file, issues) = multi_app::parse(&file, source.as_bytes(), &exists, None);
            let apps = run_file.map(|run_file| run_file.apps).unwrap_or_default();
            (apps.iter().map(|app| format!("app {}", app.app_id)).collect::<Vec<_>>(), issues)
        } else {
            let (resources, issues) = crate::parse(&file, source.as_bytes());
            (resources.iter().map(found).collect(), issues)
        };
        lines.extend(issues.iter().map(told));
        let told: String = lines.iter().map(|line| format!("#= {line}\n")).collect();
        if bless {
            std::fs::write(cases().join(&name), format!("{source}{told}")).unwrap();
        } else {
            assert_eq!(told, expected, "{name}");
        }
    }
}
