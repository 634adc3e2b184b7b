//! `kill -9` in the middle of load, and an audit: what was acknowledged is there, and what was published arrives.
//!
//! The load runs on threads while the node is killed and started again on the same folder. A write counts as
//! acknowledged when its answer came back whole; what was in flight may or may not have happened, and both are fine.

use anyhow::{Result, ensure};
use outrigger_tests::{App, Folder, Node, Start, http::Connection, node::Ports, patience};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

const WRITERS: usize = 4;
const ROUNDS: usize = 6;

/// What the load was told to be done.
#[derive(Default)]
struct Ledger {
    /// The last acknowledged number per key, and the last one tried.
    state: Mutex<BTreeMap<String, (u64, u64)>>,
    events: Mutex<BTreeSet<String>>,
    acknowledged: AtomicUsize,
    over: AtomicBool,
}

impl Ledger {
    fn write(&self, writer: usize, port: u16) {
        let mut number = 0_u64;
        while !self.over.load(Ordering::Acquire) {
            let Ok(mut connection) = Connection::open(port) else {
                thread::yield_now();
                continue;
            };
            while self.one(writer, &mut number, &mut connection).is_ok() {
                if self.over.load(Ordering::Acquire) {
                    return;
                }
            }
        }
    }

    fn one(&self, writer: usize, number: &mut u64, connection: &mut Connection) -> Result<()> {
        *number += 1;
        let key = format!("w{writer}-{}", *number % 10);
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(key.clone())
            .or_default()
            .1 = *number;
        let body = json!([{ "key": key, "value": *number }]).to_string();
        let json = [("content-type", "application/json")];
        let answer =
            connection.request("POST", "/v1.0/state/statestore", &json, body.as_bytes())?;
        ensure!(answer.status == 204, "state answered {}", answer.status);
        self.state.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().0 =
            *number;
        let id = format!("{writer}-{number}");
        let body = json!({ "id": id }).to_string();
        let answer =
            connection.request("POST", "/v1.0/publish/pubsub/audit", &json, body.as_bytes())?;
        ensure!(answer.status == 204, "publish answered {}", answer.status);
        self.events.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        self.acknowledged.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
}

fn start(data: &Folder, app: &App, ports: Option<Ports>) -> Result<Node> {
    let start = Start::sidecar("audit").app_port(app.port).components().data(data.path());
    match ports {
        Some(ports) => start.ports(ports).ready(),
        None => start.ready(),
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() -> Result<()> {
    let data = Folder::new("audit")?;
    let app = App::subscriber("pubsub", &["audit"])?;
    let ledger = Ledger::default();
    let mut node = start(&data, &app, None)?;
    let ports = node.ports;
    let outcome = thread::scope(|scope| {
        for writer in 0..WRITERS {
            let ledger = &ledger;
            scope.spawn(move || ledger.write(writer, ports.http));
        }
        let outcome = shoot(&mut node, &data, &app, &ledger);
        ledger.over.store(true, Ordering::Release);
        outcome
    });
    outcome?;
    audit_state(&node, &ledger)?;
    audit_events(&app, &ledger);
    node.assert_calm();
    Ok(())
}

/// Kills and restarts, each time after some more acknowledged work.
fn shoot(node: &mut Node, data: &Folder, app: &App, ledger: &Ledger) -> Result<()> {
    for round in 1..=ROUNDS {
        patience::eventually("acknowledged work", || {
            (ledger.acknowledged.load(Ordering::Acquire) >= round * 50).then_some(())
        });
        node.kill()?;
        *node = start(data, app, Some(node.ports))?;
    }
    Ok(())
}

fn audit_state(node: &Node, ledger: &Ledger) -> Result<()> {
    let state = ledger.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (key, (acknowledged, tried)) in state {
        let found =
            node.get(&format!("/v1.0/state/statestore/{key}"))?.json().as_u64().unwrap_or(0);
        ensure!(
            (acknowledged..=tried).contains(&found),
            "{key}: acknowledged {acknowledged}, tried {tried}, found {found}"
        );
    }
    Ok(())
}

fn audit_events(app: &App, ledger: &Ledger) {
    let published = ledger.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
    patience::within(Duration::from_secs(60), "every acknowledged event", || {
        let delivered: BTreeSet<String> = app
            .bodies("/on/audit")
            .iter()
            .filter_map(|envelope| Some(envelope["data"]["id"].as_str()?.to_owned()))
            .collect();
        published.is_subset(&delivered).then_some(())
    });
}

#[test]
fn a_restart_goes_on_where_it_was_acknowledged() -> Result<()> {
    let data = Folder::new("resume")?;
    let app = App::subscriber("pubsub", &["resume"])?;
    let mut node = start_resume(&data, app.port)?;
    for id in 0..10 {
        node.post("/v1.0/publish/pubsub/resume", &json!({ "id": id }))?;
    }
    let first = app.wait_for("/on/resume", 10).len();
    ensure!(first == 10, "{first} deliveries of ten events");
    // An acknowledgement may still be on its way to the disk; a clean end waits for it.
    ensure!(node.stop()?.success(), "did not end well\n{}", node.log());

    // Published while the app's runtime is away, through another runtime on the same folder.
    let mut other = Start::sidecar("other").components().data(data.path()).ready()?;
    for id in 10..20 {
        let answer = other.post("/v1.0/publish/pubsub/resume", &json!({ "id": id }))?;
        ensure!(answer.status == 204, "publish answered {}", answer.status);
    }
    ensure!(other.stop()?.success(), "did not end well\n{}", other.log());

    let node = start_resume(&data, app.port)?;
    let bodies = app.wait_for("/on/resume", 20);
    let mut ids: Vec<i64> = bodies.iter().filter_map(|body| body["data"]["id"].as_i64()).collect();
    ids.sort_unstable();
    ensure!(ids == (0..20).collect::<Vec<_>>(), "delivered {ids:?}");
    node.assert_calm();
    Ok(())
}

fn start_resume(data: &Folder, app_port: u16) -> Result<Node> {
    Start::sidecar("resume").app_port(app_port).components().data(data.path()).ready()
}
