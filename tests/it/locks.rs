//! Locks through the API: of one runtime, of two that share a folder, and of those that die.

use anyhow::{Result, ensure};
use outrigger_tests::{Folder, Node, Start, eventually, http, patience::Stopwatch};
use serde_json::{Value, json};
use std::{thread, time::Duration};

/// Every app sees the same locks.
const COMPONENTS: &str = "\
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: locks
spec:
  type: lock.outrigger
  version: v1
  metadata:
    - name: keyPrefix
      value: none
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: statestore
spec:
  type: state.outrigger
  version: v1
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: memory
spec:
  type: state.in-memory
  version: v1
";

fn sidecar(app_id: &str, data: &Folder) -> Result<Node> {
    Start::sidecar(app_id).resource("components.yaml", COMPONENTS).data(data.path()).ready()
}

fn take(node: &Node, owner: &str, more: &Value) -> Result<Value> {
    let mut asked = json!({ "resourceId": "job", "lockOwner": owner, "expiryInSeconds": 60 });
    if let (Some(asked), Some(more)) = (asked.as_object_mut(), more.as_object()) {
        asked.extend(more.clone());
    }
    let answer = node.post("/v1.0-alpha1/lock/locks", &asked)?;
    ensure!(answer.status == 200, "taking the lock answered {answer:?}");
    Ok(answer.json())
}

fn release(node: &Node, owner: &str) -> Result<Value> {
    let asked = json!({ "resourceId": "job", "lockOwner": owner });
    Ok(node.post("/v1.0-alpha1/unlock/locks", &asked)?.json()["status"].clone())
}

fn waiting(node: &Node) -> Vec<String> {
    let Ok(answer) = node.get("/v1.0-alpha1/lock/locks/job") else { return Vec::new() };
    let waiting = answer.json()["waiting"].clone();
    serde_json::from_value(waiting).unwrap_or_default()
}

fn holder(node: &Node) -> Result<Value> {
    Ok(node.get("/v1.0-alpha1/lock/locks/job")?.json()["holders"][0].clone())
}

#[test]
fn a_lock_passes_from_one_runtime_to_the_next_in_line() -> Result<()> {
    let data = Folder::new("locks-line")?;
    let (one, other) = (sidecar("one", &data)?, sidecar("other", &data)?);
    let first = take(&one, "a", &json!({}))?;
    ensure!(first["success"] == true && first["fencingToken"].is_u64(), "{first}");
    ensure!(take(&other, "b", &json!({}))?["success"] == false);

    let second = thread::scope(|scope| -> Result<Value> {
        let in_line = scope.spawn(|| take(&other, "b", &json!({ "waitInSeconds": 30 })));
        eventually("b in line", || (waiting(&one) == ["b"]).then_some(()));
        // Nobody passes the line.
        ensure!(take(&one, "c", &json!({ "waitInSeconds": 0.05 }))?["success"] == false);
        ensure!(release(&one, "a")? == 0);
        in_line.join().map_err(|_| anyhow::anyhow!("the one in line panicked"))?
    })?;
    ensure!(second["success"] == true, "{second}");
    ensure!(second["fencingToken"].as_u64() > first["fencingToken"].as_u64(), "{second}");

    // Who follows it from afar sees it change hands.
    let seen = |after: &Value| -> Result<Value> {
        let path = format!("/v1.0-alpha1/lock/locks/job?after={after}&waitInSeconds=20");
        Ok(other.get(&path)?.json()["holders"][0]["fencingToken"].clone())
    };
    ensure!(seen(&first["fencingToken"])? == second["fencingToken"]);
    let odd = other.get("/v1.0-alpha1/lock/locks/job?after=x")?;
    ensure!(odd.code() == "ERR_MALFORMED_REQUEST", "{odd:?}");

    let renew = json!({ "resourceId": "job", "lockOwner": "b", "expiryInSeconds": 120 });
    let renewed = one.post("/v1.0-alpha1/lock/locks/renew", &renew)?.json();
    ensure!(renewed["fencingToken"] == second["fencingToken"], "{renewed}");
    ensure!(renewed["expiresAt"].as_str() > second["expiresAt"].as_str(), "{renewed}");
    // An operator takes it away, and its owner learns that.
    let forced = one.send("DELETE", "/v1.0-alpha1/lock/locks/job", &[], b"")?.json();
    ensure!(forced["released"] == 1, "{forced}");
    ensure!(release(&other, "b")? == 1);
    one.assert_calm();
    other.assert_calm();
    Ok(())
}

#[test]
fn who_has_lost_a_lock_writes_nothing_under_it() -> Result<()> {
    let node = sidecar("fenced", &Folder::new("locks-fenced")?)?;
    let write = |store: &str, value: u32, fence: &str| {
        let body = serde_json::to_vec(&json!([{ "key": "k", "value": value }]))?;
        let path = format!("/v1.0/state/{store}");
        node.send("POST", &path, &[("if-fence", fence)], &body)
    };
    let fence = |held: &Value| format!("locks/job; token={}", held["fencingToken"]);
    let late = fence(&take(&node, "late", &json!({ "expiryInSeconds": 0.3 }))?);
    ensure!(write("statestore", 1, &late)?.status == 204);
    // Paused past its end; another one takes over.
    let next = take(&node, "next", &json!({ "waitInSeconds": 10 }))?;
    ensure!(next["success"] == true, "{next}");
    ensure!(write("statestore", 2, &fence(&next))?.status == 204);
    let refused = write("statestore", 3, &late)?;
    ensure!(refused.status == 412 && refused.code() == "ERR_STATE_FENCED", "{refused:?}");
    let deleted = node.send("DELETE", "/v1.0/state/statestore/k", &[("if-fence", &late)], b"")?;
    ensure!(deleted.status == 412, "{deleted:?}");
    ensure!(node.get("/v1.0/state/statestore/k")?.json() == 2);

    let elsewhere = write("memory", 1, &fence(&next))?;
    ensure!(elsewhere.status == 400 && elsewhere.code() == "ERR_STATE_SAVE", "{elsewhere:?}");
    for odd in
        ["", "job", "locks/job", "locks/job; token=", "locks/job; token=-1", "locks/; token=1"]
    {
        let answer = write("statestore", 4, odd)?;
        ensure!(answer.code() == "ERR_MALFORMED_REQUEST", "{odd:?}: {answer:?}");
    }
    let unknown = write("statestore", 4, "nowhere/job; token=1")?;
    ensure!(unknown.code() == "ERR_LOCK_STORE_NOT_FOUND", "{unknown:?}");
    ensure!(node.get("/v1.0/state/statestore/k")?.json() == 2);
    node.assert_calm();
    Ok(())
}

#[test]
fn the_dead_neither_keep_a_lock_nor_their_place_in_line() -> Result<()> {
    let data = Folder::new("locks-dead")?;
    let one = sidecar("one", &data)?;
    // The process that holds the folder, a holder and one in line die; the rest goes on.
    let dies = sidecar("dies", &data)?;
    ensure!(take(&dies, "a", &json!({ "expiryInSeconds": 2 }))?["success"] == true);
    let (clock, port) = (Stopwatch::start(), dies.ports.http);
    thread::scope(|scope| -> Result<()> {
        let lost = scope.spawn(|| dies_in_line(port));
        eventually("the first in line", || (waiting(&one) == ["lost"]).then_some(()));
        let in_line = scope.spawn(|| take(&one, "b", &json!({ "waitInSeconds": 60 })));
        eventually("the second in line", || (waiting(&one).len() == 2).then_some(()));
        dies.signal(nix::sys::signal::Signal::SIGKILL)?;
        drop(lost.join());
        let held = in_line.join().map_err(|_| anyhow::anyhow!("the one in line panicked"))??;
        ensure!(held["success"] == true, "{held}");
        Ok(())
    })?;
    ensure!(holder(&one)?["lockOwner"] == "b", "{}", holder(&one)?);
    // The holder's lifetime, and that of the lock which the dead one in line was given.
    ensure!(clock.elapsed() < Duration::from_secs(20), "took {:?}", clock.elapsed());
    one.assert_calm();
    Ok(())
}

/// Stands in line at a runtime that is about to die.
fn dies_in_line(port: u16) -> Result<()> {
    let asked = json!({
        "resourceId": "job", "lockOwner": "lost", "expiryInSeconds": 2, "waitInSeconds": 10,
    });
    let body = serde_json::to_vec(&asked)?;
    drop(http::send(port, "POST", "/v1.0-alpha1/lock/locks", &[], &body));
    Ok(())
}
