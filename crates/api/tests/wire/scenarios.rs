//! The compatibility scenarios, in-process, and one more file for what only this crate is strict about.

use crate::{
    app::App,
    node::{Node, Plan, world},
    scenario,
};
use std::path::Path;

/// Plays a file to its end and reports everything that differs, not only the first.
async fn play(file: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join(file)).unwrap();
    let exchanges = scenario::parse(&text).unwrap();
    let app = App::http(&world(), "").await;
    let plan = Plan { app: Some((app.port, app.protocol)), ..Plan::default() };
    let node = Node::start(plan).await;
    let port = node.http;
    let differences = tokio::task::spawn_blocking(move || {
        let mut names = scenario::Names::new();
        let played = exchanges.iter().filter_map(|exchange| {
            scenario::play(exchange, port, &mut names).err().map(|error| format!("{error:#}"))
        });
        played.collect::<Vec<String>>()
    });
    let differences = differences.await.unwrap();
    assert!(
        differences.is_empty(),
        "{} differ:\n\n{}",
        differences.len(),
        differences.join("\n\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state() {
    play("tests/compat/state.scenario").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publish() {
    play("tests/compat/publish.scenario").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtime() {
    play("tests/compat/runtime.scenario").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals() {
    play("crates/api/tests/wire/refusals.scenario").await;
}
