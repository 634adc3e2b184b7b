//! Measuring: the workload is the package `benches`; this verb builds it, brings the rivals and passes the arguments.

use crate::{shell, tools};
use anyhow::Result;

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
    shell::run(&mut bench_command(arguments)?)
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
