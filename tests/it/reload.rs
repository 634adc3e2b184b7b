//! Hot reload: resources that appear, change or go while the runtime serves.

use anyhow::{Result, ensure};
use outrigger_tests::{App, Start, eventually};
use serde_json::json;

fn memory(name: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\nspec:\n  \
         type: state.in-memory\n  version: v1\n  metadata: []\n"
    )
}

#[test]
fn components_come_and_go() -> Result<()> {
    let node = Start::sidecar("reload").components().ready()?;
    let status = |store: &str| {
        node.get(&format!("/v1.0/state/{store}/k")).map(|answer| answer.status).unwrap_or(0)
    };
    ensure!(status("late") == 400, "a store that does not exist answered {}", status("late"));
    let file = node.home.write("resources/late.yaml", &memory("late"))?;
    eventually("the new store", || (status("late") == 204).then_some(()));
    ensure!(status("statestore") == 204, "the old store is gone");
    std::fs::remove_file(file)?;
    eventually("the end of the store", || (status("late") == 400).then_some(()));
    node.assert_calm();
    Ok(())
}

#[test]
fn a_broken_file_changes_nothing_and_is_reported() -> Result<()> {
    let node = Start::sidecar("reload-broken").components().ready()?;
    node.post("/v1.0/state/statestore", &json!([{ "key": "k", "value": 1 }]))?;
    node.home.write("resources/broken.yaml", "kind: Component\nspec: [unclosed\n")?;
    eventually("a report with the file's name", || {
        node.log().lines().any(|line| line.contains("broken.yaml")).then_some(())
    });
    let answer = node.get("/v1.0/state/statestore/k")?;
    ensure!(answer.status == 200, "the store answered {}", answer.status);
    node.assert_calm();
    Ok(())
}

#[test]
fn subscriptions_come_and_go() -> Result<()> {
    let app = App::start(|incoming| match incoming.path.as_str() {
        "/on/late" => outrigger_tests::Answer::verdict("SUCCESS"),
        _ => outrigger_tests::Answer::status(404),
    })?;
    let node = Start::sidecar("reload-sub").app_port(app.port).components().ready()?;
    node.home.write(
        "resources/late.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Subscription\nmetadata:\n  name: late\nspec:\n  \
         pubsubname: pubsub\n  topic: late\n  route: /on/late\n",
    )?;
    eventually("a delivery to the new subscription", || {
        node.post("/v1.0/publish/pubsub/late", &json!({ "id": 1 })).ok();
        (!app.bodies("/on/late").is_empty()).then_some(())
    });
    Ok(())
}
