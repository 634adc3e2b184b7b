//! Plain `curl`: state, publish, subscribe and invoke without any client library.

use anyhow::{Context, Result, ensure};
use outrigger_tests::{Answer, App, Start, app::subscriptions};
use serde_json::json;
use std::process::Command;

pub(crate) fn curl(arguments: &[&str]) -> Result<String> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "30"])
        .args(arguments)
        .output()
        .context("curl is missing; run `cargo xtask tools`")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "curl failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

#[test]
fn state_publish_subscribe_invoke() -> Result<()> {
    let topics = subscriptions("pubsub", &["curl"]);
    let app = App::start(move |incoming| match incoming.path.as_str() {
        "/dapr/subscribe" => Answer::json(&topics),
        "/hello" => Answer::status(200).body(format!("hello, {}", incoming.json()["name"])),
        "/on/curl" => Answer::verdict("SUCCESS"),
        _ => Answer::status(404),
    })?;
    let node = Start::sidecar("curl").app_port(app.port).components().ready()?;
    let at = |path: &str| format!("http://127.0.0.1:{}{path}", node.ports.http);
    let status = ["--output", "/dev/null", "--write-out", "%{http_code}"];

    let saved = curl(
        &[&status[..], &["-d", r#"[{"key":"k","value":{"v":1}}]"#, &at("/v1.0/state/statestore")]]
            .concat(),
    )?;
    ensure!(saved == "204", "saving answered {saved}");
    let read = curl(&[&at("/v1.0/state/statestore/k")])?;
    ensure!(read == r#"{"v":1}"#, "read {read}");

    let published = curl(
        &[
            &status[..],
            &[
                "-H",
                "content-type: application/json",
                "-d",
                r#"{"id":7}"#,
                &at("/v1.0/publish/pubsub/curl"),
            ],
        ]
        .concat(),
    )?;
    ensure!(published == "204", "publishing answered {published}");
    let envelope = &app.wait_for("/on/curl", 1)[0];
    ensure!(envelope["data"] == json!({ "id": 7 }), "delivered {envelope}");

    let called = curl(&["-d", r#"{"name":"ada"}"#, &at("/v1.0/invoke/curl/method/hello")])?;
    ensure!(called == r#"hello, "ada""#, "called {called}");
    // HTTP/2 without TLS, as the reference serves it.
    let prior = curl(&["--http2-prior-knowledge", &at("/v1.0/state/statestore/k")])?;
    ensure!(prior == r#"{"v":1}"#, "over HTTP/2 read {prior}");
    node.assert_calm();
    Ok(())
}
