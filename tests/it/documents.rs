//! What the documentation shows is run as it stands.

use anyhow::{Context, Result, ensure};
use outrigger_tests::{Folder, Start, eventually, ports, tools};
use serde_json::json;
use std::{ffi::OsStr, fs};

/// The first fenced block of a language.
fn block(page: &str, language: &str) -> Result<String> {
    let text = fs::read_to_string(tools::root().join(page))?;
    let opening = format!("```{language}\n");
    let start = text.find(&opening).with_context(|| format!("{page} has no {language} block"))?;
    let code = &text[start + opening.len()..];
    let length = code.find("```").context("a block without an end")?;
    Ok(code[..length].to_owned())
}

#[test]
fn the_app_of_the_first_page_works() -> Result<()> {
    let folder = Folder::new("first-page")?;
    folder.write("app.py", &block("docs/start.md", "python")?)?;
    let python = tools::python()?;
    let command = [python.as_os_str(), OsStr::new("app.py")];
    // Without components of its own: with those that are there by default.
    let node =
        Start::run("shop", &command).app_port(ports::free()).within(folder.path()).ready()?;
    let published = node.post("/v1.0/publish/pubsub/orders", &json!({ "id": 7 }))?;
    ensure!(published.status == 204, "publishing answered {}", published.status);
    eventually("the order in the store", || {
        node.get("/v1.0/state/statestore/order-7")
            .ok()
            .filter(|answer| answer.json() == json!({ "id": 7 }))
    });
    let answer = node.post("/v1.0/invoke/shop/method/hello", &json!({ "n": 1 }))?;
    ensure!(answer.json() == json!({ "you said": { "n": 1 } }), "{answer:?}");
    Ok(())
}
