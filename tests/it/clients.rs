//! Unmodified programs on the official clients: each does state, publish, subscribe and invoke.
//!
//! The program is started by `outrigger run`, which passes its exit code through; every check it makes is a line.

use anyhow::{Result, ensure};
use outrigger_tests::{Folder, Node, Start, components::COMPONENTS, patience, ports, tools};
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
        .environment("PYTHONDONTWRITEBYTECODE", "1"))
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
    checks.extend(["proxy.unary", "proxy.stream", "proxy.status"]);
    checks.push("lock.once");
    run("python-grpc", "grpc", &[python.as_os_str(), app.as_os_str()], &checks)
}

const JAVASCRIPT: [&str; 12] = [
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
    "lock.once",
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

/// Four programs in three languages, two protocols and one process of ours: each calls another one.
#[test]
fn languages_call_each_other() -> Result<()> {
    let folder = Folder::new("languages")?;
    folder.write("resources/components.yaml", COMPONENTS)?;
    let python = tools::python()?;
    let (node, modules) = tools::node()?;
    let apps = tools::root().join("tests/apps");
    let python_app =
        |file: &str| format!("[\"{}\", \"{}/python/{file}\"]", python.display(), apps.display());
    let rust = format!("[\"{}\"]", env!("CARGO_BIN_EXE_rust-sdk-app"));
    let javascript =
        format!("[\"{}\", \"{}/javascript/app.js\", \"http\"]", node.display(), apps.display());
    let programs = [
        ("py-http", "http", "js-http", python_app("http_app.py")),
        ("py-grpc", "grpc", "py-grpc", python_app("grpc_app.py")),
        ("js-http", "http", "py-http", javascript),
        ("rs-grpc", "grpc", "py-grpc", rust),
    ];
    let mut file = format!(
        "version: 1\ncommon:\n  resourcesPath: {}\n  env:\n    STAY: \"1\"\n    PYTHONDONTWRITEBYTECODE: \"1\"\n    NODE_PATH: {}\napps:\n",
        folder.join("resources").display(),
        modules.display()
    );
    let mut http = 0;
    for (app_id, protocol, peer, command) in &programs {
        http = ports::free();
        file.push_str(&format!(
            "  - appID: {app_id}\n    appDirPath: {}\n    appProtocol: {protocol}\n    appPort: {}\n    \
             daprHTTPPort: {http}\n    daprGRPCPort: {}\n    metricsPort: {}\n    command: {command}\n    \
             env:\n      PEER_APP_ID: {peer}\n",
            folder.path().display(),
            ports::free(),
            ports::free(),
            ports::free(),
        ));
    }
    let file = folder.write("dapr.yaml", &file)?;
    let mut several = Start::run_file(&file).flag("--components", "embedded").launch()?;
    several.ports.http = http;
    patience::within(PATIENCE, "every program to reach its peer", || {
        let log = several.log();
        let reached = log.matches("check invoke.peer ok").count();
        let failed = log.lines().any(|line| line.contains(" FAILED: "));
        (failed || reached >= 3).then_some(())
    });
    let log = several.log();
    ensure!(!log.contains(" FAILED: "), "a check did not hold\n{log}");
    several.assert_calm();
    Ok(())
}
