//! Hot reload: resources that appear, change or go while the runtime serves.

use anyhow::{Context, Result, ensure};
use outrigger_tests::{
    Answer, App, Folder, Start, eventually,
    http::{self, Connection},
};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::Builder,
};

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
        "/on/late" => Answer::verdict("SUCCESS"),
        _ => Answer::status(404),
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

fn rules(denied: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata:\n  name: rules\nspec:\n  \
         accessControl:\n    defaultAction: allow\n    trustDomain: public\n    policies:\n    - \
         appId: guarded\n      defaultAction: allow\n      trustDomain: public\n      namespace: \
         default\n      operations:\n      - name: {denied}\n        httpVerb: [\"*\"]\n        \
         action: deny\n"
    )
}

#[test]
fn access_rules_change_under_calls_that_go_on() -> Result<()> {
    let gate = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&gate);
    let app = App::start(move |incoming| {
        if incoming.path == "/slow" {
            eventually("the gate", || opened.load(Ordering::Acquire).then_some(()));
        }
        Answer::status(200).body("done")
    })?;
    let folder = Folder::new("rules")?;
    let file = folder.write("rules.yaml", &rules("/nothing"))?;
    let config = file.to_str().context("a path that is text")?;
    let node = Start::sidecar("guarded").app_port(app.port).flag("--config", config).ready()?;
    let port = node.ports.http;
    let call = move |method: &str| {
        let path = format!("/v1.0/invoke/guarded/method/{method}");
        http::send(port, "GET", &path, &[], b"").map(|answer| answer.status)
    };
    ensure!(call("secret")? == 200, "denied before there is a rule");

    // One call that is under way through all of it, and others one after the other on one connection.
    let slow = Builder::new().spawn(move || call("slow"))?;
    eventually("the slow call", || {
        app.seen().iter().any(|seen| seen.path == "/slow").then_some(())
    });
    let over = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&over);
    let steady = Builder::new().spawn(move || -> Result<usize> {
        let mut connection = Connection::open(port)?;
        let mut count = 0;
        while !ended.load(Ordering::Acquire) {
            let path = "/v1.0/invoke/guarded/method/open";
            let answer = connection.request("GET", path, &[], b"")?;
            ensure!(answer.status == 200, "call {count} was answered {answer:?}");
            count += 1;
        }
        Ok(count)
    })?;

    folder.write("rules.yaml", &rules("/secret"))?;
    eventually("the rule", || call("secret").ok().filter(|status| *status == 403));
    folder.write("rules.yaml", "kind: Configuration\nspec: [broken\n")?;
    eventually("a report of the broken file", || node.log().contains("not reloaded").then_some(()));
    ensure!(call("secret")? == 403, "a broken file opened what was closed");
    folder.write("rules.yaml", &rules("/nothing"))?;
    eventually("the end of the rule", || call("secret").ok().filter(|status| *status == 200));

    over.store(true, Ordering::Release);
    let count = steady.join().map_err(|_| anyhow::anyhow!("the caller panicked"))??;
    ensure!(count > 0, "no call was made meanwhile");
    gate.store(true, Ordering::Release);
    let status = slow.join().map_err(|_| anyhow::anyhow!("the slow caller panicked"))??;
    ensure!(status == 200, "the call that was under way was answered {status}");
    node.assert_calm();
    Ok(())
}
