//! The first five minutes, command by command, as the documentation tells them.

use anyhow::{Result, ensure};
use outrigger_tests::{Answer, App, Node, Start, eventually, tools};
use serde_json::Value;
use std::process::{Command, Output, Stdio};

/// A command of the binary in the home of a running node, as a second terminal would run it.
fn command(node: &Node, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(tools::binary()?);
    command.args(arguments).env_clear().env("HOME", node.home.path()).current_dir(node.home.path());
    command.env("DAPR_HTTP_PORT", node.ports.http.to_string());
    command.env("DAPR_GRPC_PORT", node.ports.grpc.to_string());
    command.stdin(Stdio::null());
    Ok(command)
}

fn run(node: &Node, arguments: &[&str]) -> Result<Output> {
    Ok(command(node, arguments)?.output()?)
}

fn said(node: &Node, arguments: &[&str]) -> Result<String> {
    let output = run(node, arguments)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?} ended with {}: {complaint}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn start() -> Result<(App, Node)> {
    let app = App::start(|incoming| match incoming.path.as_str() {
        "/hello" => Answer::status(200).body(format!("n is {}", incoming.json()["n"])),
        _ => Answer::status(404),
    })?;
    let node = Start::sidecar("app").app_port(app.port).components().ready()?;
    Ok((app, node))
}

#[test]
fn invoke_state_and_publish() -> Result<()> {
    let (_app, node) = start()?;
    let answer = said(&node, &["invoke", "app", "hello", "-d", r#"{"n":1}"#])?;
    ensure!(answer.trim() == "n is 1", "invoke printed {answer}");
    said(&node, &["state", "set", "statestore", "k", r#"{"v":1}"#])?;
    let value = said(&node, &["state", "get", "statestore", "k"])?;
    ensure!(value.trim() == r#"{"v":1}"#, "state get printed {value}");
    said(&node, &["state", "delete", "statestore", "k"])?;
    let missing = run(&node, &["state", "get", "statestore", "k"])?;
    ensure!(missing.status.code() == Some(3), "a missing key ended with {}", missing.status);
    said(&node, &["publish", "pubsub", "orders", r#"{"id":7}"#])?;
    let unknown = run(&node, &["publish", "nowhere", "orders", "{}"])?;
    let complaint = String::from_utf8_lossy(&unknown.stderr).into_owned();
    ensure!(!unknown.status.success() && complaint.contains("OUTR-"), "{complaint}");
    Ok(())
}

#[test]
fn a_topic_can_be_watched() -> Result<()> {
    let (_app, node) = start()?;
    let mut tail = command(&node, &["topic", "tail", "pubsub", "orders", "-n", "1"])?;
    let file = node.home.join("tail");
    let mut tail = tail.stdout(std::fs::File::create(&file)?).spawn()?;
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("the tail to print the event", || {
            node.post("/v1.0/publish/pubsub/orders", &serde_json::json!({ "id": 7 })).ok();
            tail.try_wait().ok().flatten()
        })
    }));
    if outcome.is_err() {
        tail.kill().ok();
        tail.wait().ok();
    }
    let printed = std::fs::read_to_string(&file)?;
    ensure!(outcome.is_ok() && printed.contains('7'), "printed {printed}");
    Ok(())
}

#[test]
fn reads_speak_json() -> Result<()> {
    let (_app, node) = start()?;
    for arguments in
        [&["metadata", "-o", "json"][..], &["list", "-o", "json"], &["config", "-o", "json"]]
    {
        let printed = said(&node, arguments)?;
        let value: Value = serde_json::from_str(&printed)?;
        ensure!(!value.is_null(), "{arguments:?} printed {printed}");
    }
    Ok(())
}

#[test]
fn doctor_says_what_is_wrong() -> Result<()> {
    let (_app, node) = start()?;
    let output = run(&node, &["doctor"])?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(matches!(output.status.code(), Some(0 | 10)), "ended with {}", output.status);
    ensure!(printed.contains("Status check results are"), "{printed}");
    Ok(())
}

#[test]
fn every_code_has_a_page() -> Result<()> {
    let (_app, node) = start()?;
    let codes = said(&node, &["explain"])?;
    ensure!(codes.lines().count() > 10, "{codes}");
    for code in codes.lines().filter_map(|line| line.split_whitespace().next()) {
        let page = said(&node, &["explain", code])?;
        ensure!(page.contains("Remedy"), "{code}: {page}");
    }
    let unknown = run(&node, &["explain", "OUTR-9999"])?;
    ensure!(unknown.status.code() == Some(3), "an unknown code ended with {}", unknown.status);
    Ok(())
}

#[test]
fn wrong_usage_ends_with_two() -> Result<()> {
    let (_app, node) = start()?;
    for arguments in
        [&["--no-such-flag"][..], &["no-such-verb"], &["sidecar", "--app-port", "many"]]
    {
        let output = run(&node, arguments)?;
        ensure!(output.status.code() == Some(2), "{arguments:?} ended with {}", output.status);
        ensure!(!output.stderr.is_empty(), "{arguments:?} said nothing");
    }
    Ok(())
}

#[test]
fn output_to_a_pipe_is_plain() -> Result<()> {
    let (_app, node) = start()?;
    let output = run(&node, &["list"])?;
    let printed = [output.stdout, output.stderr].concat();
    ensure!(!printed.contains(&0x1b), "{}", String::from_utf8_lossy(&printed));
    Ok(())
}
