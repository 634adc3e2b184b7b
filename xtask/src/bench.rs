//! Measuring: the workload is the package `benches`; this verb builds it, brings the rivals and passes the arguments.

use crate::{shell, tools};
use anyhow::Result;
use std::fs;

/// The measurement that is a program of its own.
const POLICIES: &str = "policies";

/// Measures what is named, or everything.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--check") {
        return check();
    }
    let needed = [
        ("redis-server", "redis-server"),
        ("etcd", "etcd-server"),
        ("nginx", "nginx"),
        ("haproxy", "haproxy"),
    ];
    let missing: Vec<&str> = needed
        .iter()
        .filter(|(program, _)| !shell::exists(program))
        .map(|(_, package)| *package)
        .collect();
    tools::debian(&missing)?;
    build()?;
    let others: Vec<String> =
        arguments.iter().filter(|argument| *argument != POLICIES).cloned().collect();
    if arguments.is_empty() || !others.is_empty() {
        shell::run(&mut bench_command(&others)?)?;
    }
    if arguments.is_empty() || others.len() < arguments.len() {
        policies()?;
    }
    Ok(())
}

/// What each policy costs beside the crates that people use: allocations first, counted by an allocator that would be in the
/// way of the time.
fn policies() -> Result<()> {
    let build = ["build", "--release", "--locked", "--package", "outrigger-benches", "--examples"];
    shell::run(&mut shell::cargo(&build))?;
    let examples = shell::target()?.join("release").join("examples");
    let counted = shell::target()?.join("bench").join("allocations");
    let program =
        |name: &str| shell::command(&examples.join(name).to_string_lossy(), &[] as &[&str]);
    fs::create_dir_all(counted.parent().unwrap_or(&counted))?;
    fs::write(&counted, shell::output(&mut program("policy_allocations"))?)?;
    shell::run(program(POLICIES).env("OUTRIGGER_ALLOCATIONS", &counted))
}

/// Compares the figures that do not depend on the machine's mood with `benches/ranges.json`.
pub(crate) fn check() -> Result<()> {
    build()?;
    shell::run(&mut bench_command(&["--check".to_owned()])?)
}

fn build() -> Result<()> {
    let arguments = [
        "build",
        "--release",
        "--locked",
        "--package",
        "outrigger",
        "--package",
        "outrigger-benches",
    ];
    shell::run(&mut shell::cargo(&arguments))
}

fn bench_command(arguments: &[String]) -> Result<std::process::Command> {
    let release = shell::target()?.join("release");
    let program = release.join("outrigger-benches");
    let mut command = shell::command(&program.to_string_lossy(), arguments);
    command.env("OUTRIGGER_BIN", release.join("outrigger"));
    Ok(command)
}
