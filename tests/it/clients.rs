//! Unmodified programs on the official clients: each does state, publish, subscribe and invoke.
//!
//! The program is started by `outrigger run`, which passes its exit code through; every check it makes is a line.

use anyhow::{Result, ensure};
use outrigger_tests::{Node, Start, ports, tools};
use std::{ffi::OsStr, time::Duration};

/// A program with an interpreter may need a while to come up on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn run(app_id: &str, protocol: &str, command: &[&OsStr], checks: &[&str]) -> Result<()> {
    let mut node = start(app_id, protocol, command)?.launch()?;
    let status = node.wait(PATIENCE)?;
    verify(&node, status.code(), checks)
}

fn start(app_id: &str, protocol: &str, command: &[&OsStr]) -> Result<Start> {
    Ok(Start::run(app_id, command)
        .app_port(ports::free())
        .flag("--app-protocol", protocol)
        .components()
        .within(&tools::root().join("tests/apps")))
}

fn verify(node: &Node, code: Option<i32>, checks: &[&str]) -> Result<()> {
    let log = node.log();
    for name in checks {
        ensure!(log.contains(&format!("check {name} ok")), "{name} did not hold\n{log}");
    }
    ensure!(code == Some(0), "ended with {code:?}\n{log}");
    node.assert_calm();
    Ok(())
}

const STATE: [&str; 8] = [
    "state.save_get",
    "state.missing",
    "state.etags",
    "state.bulk",
    "state.transaction",
    "state.ttl",
    "state.delete",
    "state.unknown_store",
];

#[test]
fn python_http() -> Result<()> {
    let python = tools::python()?;
    let app = tools::root().join("tests/apps/python/http_app.py");
    let mut checks = STATE.to_vec();
    checks.extend(["invoke.self", "publish.deliver", "publish.bulk", "publish.unknown_pubsub"]);
    checks.extend(["stream.pull", "stream.handler", "metadata.read"]);
    run("python-http", "http", &[python.as_os_str(), app.as_os_str()], &checks)
}

#[test]
fn python_grpc() -> Result<()> {
    let python = tools::python()?;
    let app = tools::root().join("tests/apps/python/grpc_app.py");
    let mut checks = STATE.to_vec();
    checks.extend(["invoke.self", "publish.deliver", "publish.bulk"]);
    run("python-grpc", "grpc", &[python.as_os_str(), app.as_os_str()], &checks)
}

const JAVASCRIPT: [&str; 11] = [
    "state.save_get",
    "state.missing",
    "state.bulk",
    "state.etag",
    "state.transaction",
    "state.delete",
    "invoke.self",
    "publish.deliver",
    "publish.bulk",
    "publish.text",
    "metadata.read",
];

fn javascript(protocol: &str) -> Result<()> {
    let (node, modules) = tools::node()?;
    let app = tools::root().join("tests/apps/javascript/app.js");
    let app_id = format!("javascript-{protocol}");
    let command = [node.as_os_str(), app.as_os_str(), OsStr::new(protocol)];
    let mut node =
        start(&app_id, protocol, &command)?.environment("NODE_PATH", modules).launch()?;
    let status = node.wait(PATIENCE)?;
    verify(&node, status.code(), &JAVASCRIPT)
}

#[test]
fn javascript_http() -> Result<()> {
    javascript("http")
}

#[test]
fn javascript_grpc() -> Result<()> {
    javascript("grpc")
}

#[test]
fn rust_grpc() -> Result<()> {
    let app = OsStr::new(env!("CARGO_BIN_EXE_rust-sdk-app"));
    let checks =
        ["state.save_get", "state.etag", "state.delete", "publish.deliver", "metadata.read"];
    run("rust-grpc", "grpc", &[app], &checks)
}
