//! The compatibility scenarios against the built binary.

use anyhow::{Context, Result, ensure};
use outrigger_tests::{Answer, App, Node, Start, scenario, tools};
use std::fs;

fn target() -> Result<(App, Node)> {
    let app = App::start(|incoming| {
        let path = incoming.path.split('?').next().unwrap_or_default();
        match path {
            "/echo" => Answer::status(201).with("x-echo", "yes").body(incoming.body.clone()),
            "/teapot" => Answer::status(418).body("short and stout"),
            "/path" => Answer::status(200).body(incoming.path.clone()),
            _ => Answer::status(404),
        }
    })?;
    let resources = fs::read_to_string(tools::root().join("tests/compat/resources.yaml"))?;
    let node = Start::sidecar("compat")
        .app_port(app.port)
        .flag("--components", "embedded")
        .resource("resources.yaml", &resources)
        .environment("COMPAT_SECRET", "hush")
        .ready()?;
    Ok((app, node))
}

/// Plays a file to its end and reports everything that differs, not only the first.
fn play(file: &str) -> Result<()> {
    let text = fs::read_to_string(tools::root().join("tests/compat").join(file))?;
    let exchanges = scenario::parse(&text).with_context(|| file.to_owned())?;
    let (_app, node) = target()?;
    let mut names = scenario::Names::new();
    let mut differences = Vec::new();
    for exchange in &exchanges {
        if let Err(error) = scenario::play(exchange, node.ports.http, &mut names) {
            differences.push(format!("{error:#}"));
        }
    }
    node.assert_calm();
    ensure!(
        differences.is_empty(),
        "{} of {} exchanges differ:\n\n{}",
        differences.len(),
        exchanges.len(),
        differences.join("\n\n")
    );
    Ok(())
}

#[test]
fn state() -> Result<()> {
    play("state.scenario")
}

#[test]
fn lock() -> Result<()> {
    play("lock.scenario")
}

#[test]
fn publish() -> Result<()> {
    play("publish.scenario")
}

#[test]
fn runtime() -> Result<()> {
    play("runtime.scenario")
}
