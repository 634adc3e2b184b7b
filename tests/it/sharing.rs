//! Several processes on one data folder are one system: they find each other's apps, share state and events, and go on
//! when any of them dies, the one that holds the folder included.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use outrigger_tests::{
    Answer, App, Folder, Node, Start, eventually,
    http::Connection,
    patience::{self, Stopwatch},
    ports, tools,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Longest time in which a process takes over from one that died.
const TAKEOVER: Duration = Duration::from_secs(2);

fn sidecar(app_id: &str, data: &Folder) -> Start {
    // Every app sees the same keys.
    Start::sidecar(app_id).resource("components.yaml", COMPONENTS).data(data.path())
}

const COMPONENTS: &str = "\
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: statestore
spec:
  type: state.outrigger
  version: v1
  metadata:
    - name: keyPrefix
      value: none
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: pubsub
spec:
  type: pubsub.outrigger
  version: v1
  metadata: []
";

/// An app that says who it is and what it was asked.
fn named(name: &'static str) -> Result<App> {
    App::start(move |incoming| {
        match incoming.path.as_str() {
        "/dapr/subscribe" => Answer::json(&json!([])),
        path if path.starts_with("/status/") => {
            Answer::status(path["/status/".len()..].parse().unwrap_or(500))
        }
        path => Answer::json(&json!({
            "app": name,
            "path": path,
            "method": incoming.method,
            "body": String::from_utf8_lossy(&incoming.body),
            "caller": incoming.header("dapr-caller-app-id"),
            "traceparent": incoming.header("traceparent"),
            "inner": incoming.headers.iter().filter(|(name, _)| name.starts_with("outrigger")).count(),
        }))
        .with("x-app", name),
    }
    })
}

fn set(node: &Node, key: &str, value: &Value) -> Result<()> {
    let answer = node.post("/v1.0/state/statestore", &json!([{ "key": key, "value": value }]))?;
    ensure!(answer.status == 204, "setting {key} answered {answer:?}");
    Ok(())
}

fn read(node: &Node, key: &str) -> Result<Value> {
    Ok(node.get(&format!("/v1.0/state/statestore/{key}"))?.json())
}

/// Waits until `app` is callable through `node`, and answers its answer.
fn calls(node: &Node, app: &str) -> Value {
    eventually(&format!("the app {app}"), || {
        let answer = node.get(&format!("/v1.0/invoke/{app}/method/ping")).ok()?;
        (answer.status == 200).then(|| answer.json())
    })
}

#[test]
fn apps_of_two_processes_are_one_system() -> Result<()> {
    let data = Folder::new("sharing-two")?;
    let (left, right) = (named("left")?, App::subscriber("pubsub", &["news"])?);
    let one = sidecar("left", &data).app_port(left.port).ready()?;
    let other = sidecar("right", &data).app_port(right.port).ready()?;

    // State.
    set(&one, "k", &json!({ "n": 1 }))?;
    ensure!(read(&other, "k")? == json!({ "n": 1 }));
    set(&other, "k", &json!({ "n": 2 }))?;
    ensure!(read(&one, "k")? == json!({ "n": 2 }));

    // Events: promptly, because the watch goes through the socket. The first one waits for the subscription.
    one.post("/v1.0/publish/pubsub/news", &json!({ "id": 0 }))?;
    drop(right.wait_for("/on/news", 1));
    let clock = Stopwatch::start();
    for id in 1..=10 {
        one.post("/v1.0/publish/pubsub/news", &json!({ "id": id }))?;
        drop(right.wait_for("/on/news", id + 1));
    }
    ensure!(clock.elapsed() < Duration::from_secs(10), "10 events took {:?}", clock.elapsed());

    // Calls: the whole request, and who calls; nothing of what the two processes tell each other.
    calls(&other, "left");
    let headers = [("content-type", "text/plain"), ("outrigger-peer-caller", "a/b/c")];
    let answer = other.send("PUT", "/v1.0/invoke/left/method/a/b?x=1", &headers, b"hello")?;
    ensure!(answer.status == 200 && answer.header("x-app") == Some("left"), "{answer:?}");
    let told = answer.json();
    ensure!(told["path"] == "/a/b?x=1" && told["method"] == "PUT" && told["body"] == "hello");
    ensure!(told["caller"] == "right" && told["traceparent"].is_string(), "{told}");
    ensure!(told["inner"] == 0, "headers between the processes reached the app: {told}");
    ensure!(other.get("/v1.0/invoke/left/method/status/418")?.status == 418);
    let unknown = other.get("/v1.0/invoke/nobody/method/x")?;
    ensure!(unknown.code() == "ERR_DIRECT_INVOKE", "{unknown:?}");

    // A large body, both ways.
    let large = vec![b'x'; 3 * 1024 * 1024];
    let answer = other.send("POST", "/v1.0/invoke/left/method/large", &[], &large)?;
    ensure!(answer.json()["body"].as_str().map(str::len) == Some(large.len()));

    one.assert_calm();
    other.assert_calm();
    Ok(())
}

#[test]
fn instances_in_two_processes_take_turns_and_the_dead_are_passed_over() -> Result<()> {
    let data = Folder::new("sharing-turns")?;
    let (first, second, front) = (named("first")?, named("second")?, named("front")?);
    let caller = sidecar("front", &data).app_port(front.port).ready()?;
    let mut one = sidecar("twin", &data).app_port(first.port).ready()?;
    let _other = sidecar("twin", &data).app_port(second.port).ready()?;
    eventually("both twins", || {
        let asked = (0..4).map(|_| calls(&caller, "twin")["app"].as_str().map(ToOwned::to_owned));
        (asked.collect::<BTreeSet<_>>().len() == 2).then_some(())
    });
    let mut shares: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..20 {
        let app = calls(&caller, "twin")["app"].as_str().unwrap_or_default().to_owned();
        *shares.entry(app).or_default() += 1;
    }
    // Give or take one: whoever comes or goes meanwhile begins the round anew.
    ensure!(shares.values().all(|share| *share >= 8), "they do not take turns: {shares:?}");
    one.kill()?;
    for _ in 0..20 {
        let answer = caller.post("/v1.0/invoke/twin/method/order", &json!({}))?;
        ensure!(answer.status == 200 && answer.json()["app"] == "second", "{answer:?}");
    }
    Ok(())
}

/// The doors of the processes of `data`, by their file names.
fn doors(data: &Folder) -> BTreeSet<String> {
    let entries = fs::read_dir(data.join("peers")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[test]
fn a_door_that_was_removed_is_put_back() -> Result<()> {
    let data = Folder::new("sharing-doors")?;
    let (app, front) = (named("app")?, named("front")?);
    let _owner = sidecar("app", &data).app_port(app.port).ready()?;
    let caller = sidecar("front", &data).app_port(front.port).ready()?;
    calls(&caller, "app");
    let before = doors(&data);
    ensure!(before.len() == 4, "two each, not {before:?}");
    for door in &before {
        fs::remove_file(data.join("peers").join(door))?;
    }
    eventually("the doors", || (doors(&data) == before).then_some(()));
    // By its new door, also for one who has never called before.
    let third = sidecar("third", &data).app_port(front.port).ready()?;
    for node in [&caller, &third] {
        ensure!(calls(node, "app")["app"] == "app");
    }
    Ok(())
}

/// Nobody calls the dead one, and nobody comes: that the folder was left is reason enough to look who it was.
#[test]
fn who_was_killed_is_forgotten_though_nobody_asks() -> Result<()> {
    let data = Folder::new("sharing-forgotten")?;
    let mut holder = sidecar("holder", &data).ready()?;
    let _other = sidecar("other", &data).ready()?;
    let mut third = sidecar("third", &data).ready()?;
    ensure!(doors(&data).len() == 6);
    third.kill()?;
    eventually("the end of a follower to be noticed", || (doors(&data).len() == 4).then_some(()));
    holder.kill()?;
    eventually("the end of the holder to be noticed", || (doors(&data).len() == 2).then_some(()));
    Ok(())
}

#[test]
fn the_owner_keeps_its_rules() -> Result<()> {
    let data = Folder::new("sharing-rules")?;
    let (guarded, front) = (named("guarded")?, named("front")?);
    let configuration = "\
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata:
  name: rules
spec:
  accessControl:
    defaultAction: deny
    trustDomain: public
    policies:
      - appId: friend
        defaultAction: deny
        trustDomain: public
        namespace: default
        operations:
          - name: /open
            httpVerb: ['GET']
            action: allow
";
    let file = data.write("rules.yaml", configuration)?;
    let _owner = sidecar("guarded", &data)
        .app_port(guarded.port)
        .flag("--config", file.to_str().context("a path")?)
        .environment("APP_API_TOKEN", "of-the-app")
        .ready()?;
    let friend = sidecar("friend", &data).app_port(front.port).ready()?;
    let stranger = sidecar("stranger", &data).app_port(front.port).ready()?;
    eventually("the guarded app", || {
        let answer = friend.get("/v1.0/invoke/guarded/method/open").ok()?;
        (answer.status == 200).then_some(())
    });
    ensure!(friend.get("/v1.0/invoke/guarded/method/closed")?.status == 403);
    ensure!(friend.post("/v1.0/invoke/guarded/method/open", &json!(1))?.status == 403);
    ensure!(stranger.get("/v1.0/invoke/guarded/method/open")?.status == 403);
    let seen = guarded.seen();
    let calls: Vec<_> = seen.iter().filter(|incoming| incoming.path == "/open").collect();
    ensure!(!calls.is_empty() && seen.iter().all(|incoming| incoming.path != "/closed"));
    ensure!(calls.iter().all(|call| call.header("dapr-api-token") == Some("of-the-app")));
    Ok(())
}

#[test]
fn each_event_of_a_group_goes_to_one_process_and_a_dead_ones_go_to_the_other() -> Result<()> {
    const EVENTS: usize = 200;
    let data = Folder::new("sharing-group")?;
    let ids = |app: &App| -> Vec<u64> {
        app.bodies("/on/tasks").iter().filter_map(|event| event["data"]["id"].as_u64()).collect()
    };
    let workers = [App::subscriber("pubsub", &["tasks"])?, App::subscriber("pubsub", &["tasks"])?];
    let mut one = sidecar("worker", &data).app_port(workers[0].port).ready()?;
    let other = sidecar("worker", &data).app_port(workers[1].port).ready()?;
    let publish = |from: usize, to: usize| -> Result<()> {
        for id in from..to {
            let answer = other.post("/v1.0/publish/pubsub/tasks", &json!({ "id": id }))?;
            ensure!(answer.status == 204, "publishing answered {answer:?}");
        }
        Ok(())
    };
    publish(0, EVENTS)?;
    let shares = eventually("every event", || {
        let shares = workers.each_ref().map(ids);
        (shares.iter().map(Vec::len).sum::<usize>() >= EVENTS).then_some(shares)
    });
    let mut all = shares.concat();
    all.sort_unstable();
    let each_once = all.iter().map(|id| usize::try_from(*id).unwrap_or(usize::MAX)).eq(0..EVENTS);
    ensure!(each_once, "not each event once: {shares:?}");
    ensure!(shares.iter().all(|share| !share.is_empty()), "one had nothing to do: {shares:?}");
    // Whoever of them dispatches: the other goes on, and what was in flight comes again.
    one.kill()?;
    publish(EVENTS, 2 * EVENTS)?;
    eventually("every event at the survivor", || {
        let seen: BTreeSet<u64> = workers.each_ref().map(ids).concat().into_iter().collect();
        (seen.len() == 2 * EVENTS).then_some(())
    });
    other.assert_calm();
    Ok(())
}

/// An app that keeps the events it gets waiting.
#[test]
fn events_that_a_killed_process_held_are_delivered_again() -> Result<()> {
    let data = Folder::new("sharing-held")?;
    let (hangs, works) = (
        App::start(|incoming| match incoming.path.as_str() {
            "/dapr/subscribe" => {
                Answer::json(&outrigger_tests::app::subscriptions("pubsub", &["held"]))
            }
            // Longer than the test.
            path if path.starts_with("/on/") => {
                let patience = patience::Patience::of(Duration::from_secs(120));
                while !patience.is_over() {
                    patience.pause();
                }
                Answer::status(500)
            }
            _ => Answer::status(404),
        })?,
        App::subscriber("pubsub", &["held"])?,
    );
    let mut holder = sidecar("worker", &data).app_port(hangs.port).ready()?;
    let publisher = sidecar("front", &data).ready()?;
    for id in 0..5 {
        publisher.post("/v1.0/publish/pubsub/held", &json!({ "id": id }))?;
    }
    drop(hangs.wait_for("/on/held", 5));
    let _survivor = sidecar("worker", &data).app_port(works.port).ready()?;
    holder.kill()?;
    let again = works.wait_for("/on/held", 5);
    let ids: BTreeSet<u64> =
        again.iter().filter_map(|event| event["data"]["id"].as_u64()).collect();
    ensure!(ids == (0..5).collect(), "{again:?}");
    Ok(())
}

/// What the load was told to be done.
#[derive(Default)]
struct Ledger {
    /// The last acknowledged number per key, and the last one tried.
    state: Mutex<BTreeMap<String, (u64, u64)>>,
    events: Mutex<BTreeSet<String>>,
    /// The longest time from asking to a good answer, failed attempts in between included.
    longest: Mutex<Duration>,
    over: AtomicBool,
}

impl Ledger {
    fn write(&self, writer: usize, port: u16) -> Result<()> {
        let mut connection = Connection::open(port)?;
        let json = [("content-type", "application/json")];
        let mut number = 0_u64;
        while !self.over.load(Ordering::Acquire) {
            number += 1;
            let clock = Stopwatch::start();
            let key = format!("w{writer}-{}", number % 10);
            self.state().entry(key.clone()).or_default().1 = number;
            let body = json!([{ "key": key, "value": number }]).to_string();
            while connection
                .request("POST", "/v1.0/state/statestore", &json, body.as_bytes())?
                .status
                != 204
            {
                ensure!(clock.elapsed() < patience::SOON, "{key} could not be written");
            }
            self.state().entry(key).or_default().0 = number;
            let id = format!("{writer}-{number}");
            let body = json!({ "id": id }).to_string();
            while connection
                .request("POST", "/v1.0/publish/pubsub/audit", &json, body.as_bytes())?
                .status
                != 204
            {
                ensure!(clock.elapsed() < patience::SOON, "{id} could not be published");
            }
            self.events.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
            let mut longest = self.longest.lock().unwrap_or_else(PoisonError::into_inner);
            *longest = longest.max(clock.elapsed());
        }
        Ok(())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (u64, u64)>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acknowledged(&self) -> usize {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[test]
fn when_the_holder_dies_under_load_everything_goes_on() -> Result<()> {
    let data = Folder::new("sharing-kill")?;
    let listener = App::subscriber("pubsub", &["audit"])?;
    // The one that is killed hosts nothing and gets no load: only the store is lost with it.
    let mut holder = sidecar("keeper", &data).ready()?;
    let first = sidecar("first", &data).app_port(listener.port).ready()?;
    let second = sidecar("second", &data).ready()?;
    let ledger = Ledger::default();
    let ports = [first.ports.http, second.ports.http];
    let mut killed = 0;
    thread::scope(|scope| -> Result<()> {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (ledger, port) = (&ledger, ports[writer % 2]);
                scope.spawn(move || ledger.write(writer, port))
            })
            .collect();
        let shoot = || -> Result<()> {
            for round in 1..=4 {
                patience::eventually("acknowledged work", || {
                    (ledger.acknowledged() >= round * 40).then_some(())
                });
                if round == 4 {
                    break;
                }
                holder.kill()?;
                killed += 1;
                // Somebody else holds the folder now; the next one to be killed is the first holder's successor only
                // when it hosts nothing, so the keeper comes back and waits for its turn.
                holder = sidecar("keeper", &data).ready()?;
                let before = ledger.acknowledged();
                patience::eventually("work after the takeover", || {
                    (ledger.acknowledged() > before + 20).then_some(())
                });
            }
            Ok(())
        };
        let mut shoot = shoot;
        let outcome = shoot();
        ledger.over.store(true, Ordering::Release);
        for writer in writers {
            writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        }
        outcome
    })?;
    ensure!(killed == 3);
    let longest = *ledger.longest.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(longest < TAKEOVER, "a request took {longest:?}");
    for (key, (acknowledged, tried)) in ledger.state().clone() {
        for node in [&first, &second] {
            let found = read(node, &key)?.as_u64().unwrap_or(0);
            ensure!(
                (acknowledged..=tried).contains(&found),
                "{key}: acknowledged {acknowledged}, tried {tried}, found {found}"
            );
        }
    }
    let published = ledger.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
    eventually("every acknowledged event", || {
        let bodies = listener.bodies("/on/audit");
        let ids = bodies.iter().filter_map(|event| Some(event["data"]["id"].as_str()?.to_owned()));
        published.is_subset(&ids.collect()).then_some(())
    });
    first.assert_calm();
    second.assert_calm();
    Ok(())
}

#[test]
fn many_start_at_once_and_leave_in_any_order() -> Result<()> {
    let data = Folder::new("sharing-race")?;
    let mut nodes = Vec::new();
    for id in 0..4 {
        nodes.push(sidecar(&format!("app-{id}"), &data).launch()?);
    }
    for node in &mut nodes {
        node.wait_ready()?;
    }
    set(&nodes[0], "k", &json!(0))?;
    // Each leaves in order; whoever is left has everything and can write.
    for id in 1..=4_u64 {
        let mut leaver = nodes.remove(0);
        let status = leaver.stop()?;
        ensure!(status.success(), "ended with {status}\n{}", leaver.log());
        for node in &nodes {
            ensure!(read(node, "k")? == json!(id - 1), "lost with process {id}");
        }
        if let Some(node) = nodes.first() {
            set(node, "k", &json!(id))?;
        }
    }
    let left: Vec<_> = fs::read_dir(data.join("peers"))?.flatten().collect();
    ensure!(left.is_empty(), "doors of processes that left in order: {left:?}");
    Ok(())
}

#[test]
fn other_users_reach_neither_the_folder_nor_the_sockets() -> Result<()> {
    let home = Folder::new("sharing-modes")?;
    // A folder that the runtime makes itself.
    let data = home.join("made/by/the/runtime");
    let one = Start::sidecar("one").data(&data).ready()?;
    let _other = Start::sidecar("other").data(&data).ready()?;
    ensure!(read(&one, "k").is_ok());
    let mut sockets = 0;
    closed_to_others(&data, &mut sockets)?;
    ensure!(sockets >= 5, "two doors each and the store's, not {sockets}");
    Ok(())
}

fn closed_to_others(path: &Path, sockets: &mut usize) -> Result<()> {
    let about = fs::symlink_metadata(path)?;
    let mode = about.permissions().mode() & 0o777;
    if about.is_dir() {
        ensure!(mode & 0o077 == 0, "{} has mode {mode:o}", path.display());
        for entry in fs::read_dir(path)? {
            closed_to_others(&entry?.path(), sockets)?;
        }
    } else if about.file_type().is_socket() {
        *sockets += 1;
        ensure!(mode == 0o600, "{} has mode {mode:o}", path.display());
    }
    ensure!(about.uid() == nix::unistd::geteuid().as_raw());
    Ok(())
}

#[test]
fn the_banner_says_who_holds_the_folder() -> Result<()> {
    let data = Folder::new("sharing-banner")?;
    let sleep = ["sleep".as_ref(), "600".as_ref()];
    let holder = Start::run("one", &sleep).data(data.path()).ready()?;
    let other = Start::run("two", &sleep).data(data.path()).ready()?;
    eventually("a banner", || holder.log().contains("Components").then_some(()));
    ensure!(!holder.log().contains("shared"), "{}", holder.log());
    let told = format!("shared with process {}", holder.pid());
    eventually(&told, || other.log().contains(&told).then_some(()));
    Ok(())
}

#[test]
fn a_paused_holder_keeps_the_folder() -> Result<()> {
    let data = Folder::new("sharing-paused")?;
    let holder = sidecar("holder", &data).ready()?;
    let other = sidecar("other", &data).ready()?;
    set(&other, "k", &json!(1))?;
    holder.signal(Signal::SIGSTOP)?;
    let answer = thread::scope(|scope| {
        let waits = scope.spawn(|| set(&other, "k", &json!(2)));
        let patience = patience::Patience::of(Duration::from_millis(500));
        while !patience.is_over() {
            patience.pause();
        }
        holder.signal(Signal::SIGCONT)?;
        waits.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?
    });
    answer?;
    ensure!(read(&holder, "k")? == json!(2) && read(&other, "k")? == json!(2));
    Ok(())
}

/// Has the disk of a running process fail: from now on it may not write beyond the first bytes of any file, which leaves
/// its log its room.
fn break_disk(node: &Node) -> Result<()> {
    let limited = Command::new("prlimit")
        .args(["--pid", &node.pid().to_string(), "--fsize=200000:200000"])
        .status()
        .context("prlimit (util-linux) is needed")?;
    ensure!(limited.success(), "prlimit ended with {limited}");
    Ok(())
}

/// Writes through `node` until `failing`, whose disk is broken, has ended; answers how.
fn write_until_it_ends(node: &Node, failing: &mut Node) -> Result<ExitStatus> {
    let large = json!("x".repeat(100_000));
    let mut number = 0;
    Ok(eventually("the end of the process whose disk failed", || {
        number += 1;
        // Whoever writes finds out; the answer is not a success, or it comes from the next holder.
        drop(set(node, &format!("lost-{number}"), &large));
        failing.wait(Duration::from_millis(1)).ok()
    }))
}

#[test]
fn a_failed_store_ends_its_process_aloud_and_the_others_go_on() -> Result<()> {
    let data = Folder::new("sharing-failed")?;
    let mut holder = sidecar("holder", &data).ready()?;
    let other = sidecar("other", &data).ready()?;
    set(&other, "kept", &json!(1))?;
    break_disk(&holder)?;
    let status = write_until_it_ends(&other, &mut holder)?;
    let log = holder.log();
    ensure!(status.code() == Some(74), "ended with {status}\n{log}");
    ensure!(log.contains("OUTR-0029") && log.contains("--data-dir"), "no reason in\n{log}");
    eventually("the next holder", || set(&other, "after", &json!(1)).ok());
    let lines = ["shared with the process that holds it", "this process holds the data folder"];
    for line in lines {
        eventually(line, || other.log().contains(line).then_some(()));
    }
    ensure!(read(&other, "kept")? == json!(1));
    Ok(())
}

#[test]
fn a_relaxed_store_says_so_everywhere() -> Result<()> {
    let store = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: cache\nspec:\n  \
                 type: state.outrigger\n  version: v1\n  metadata:\n    - name: durability\n      value: relaxed\n";
    let data = Folder::new("relaxed")?;
    let mut node = sidecar("shop", &data).resource("cache.yaml", store).ready()?;
    let json = node.get("/v1.0/metadata")?.json();
    let capable = |name: &str| -> Vec<Value> {
        let components = json["components"].as_array().cloned().unwrap_or_default();
        let found = components.iter().find(|one| one["name"] == name);
        found.and_then(|one| one["capabilities"].as_array().cloned()).unwrap_or_default()
    };
    ensure!(capable("cache").contains(&json!("RELAXED_DURABILITY")), "{json}");
    ensure!(!capable("statestore").contains(&json!("RELAXED_DURABILITY")), "{json}");
    let metrics =
        outrigger_tests::http::send(node.ports.metrics, "GET", "/metrics", &[], b"")?.text();
    for (store, durability) in [("cache", "relaxed"), ("statestore", "flush")] {
        let line = format!(
            "outrigger_state_store_info{{app_id=\"shop\",component=\"{store}\",durability=\"{durability}\"}} 1"
        );
        ensure!(metrics.contains(&line), "no {line} in\n{metrics}");
    }
    // It survives the end of the process all the same.
    let body = json!([{ "key": "k", "value": 7 }]);
    ensure!(node.post("/v1.0/state/cache", &body)?.status == 204);
    node.kill()?;
    let node = sidecar("shop", &data).resource("cache.yaml", store).ready()?;
    ensure!(node.get("/v1.0/state/cache/k")?.json() == json!(7));

    let wrong = store.replace("relaxed", "hardly");
    let mut refused = sidecar("shop", &data).resource("cache.yaml", &wrong).launch()?;
    ensure!(!refused.wait(patience::SOON)?.success());
    ensure!(refused.log().contains("OUTR-0129"), "{}", refused.log());
    let memory = store.replace("state.outrigger", "state.in-memory");
    let mut refused = sidecar("shop", &data).resource("cache.yaml", &memory).launch()?;
    ensure!(!refused.wait(patience::SOON)?.success());
    ensure!(refused.log().contains("OUTR-0015"), "{}", refused.log());
    Ok(())
}

/// A program on the official client whose calls to "itself" go to another process: invocation, proxied gRPC with
/// metadata, trailers, streams both ways, and statuses.
#[test]
fn grpc_goes_from_process_to_process() -> Result<()> {
    let data = Folder::new("sharing-grpc")?;
    let python = tools::python()?;
    let app = tools::root().join("tests/apps/python/grpc_app.py");
    let start = |app_id: &str| {
        Start::run(app_id, &[python.as_os_str(), app.as_os_str()])
            .app_port(ports::free())
            .flag("--app-protocol", "grpc")
            .components()
            .environment("PYTHONDONTWRITEBYTECODE", "1")
            .data(data.path())
    };
    let peer = start("peer").environment("STAY", "1").ready()?;
    let mut caller = start("caller").environment("CALLED_APP_ID", "peer").launch()?;
    let status = caller.wait(Duration::from_secs(120))?;
    let log = caller.log();
    for check in ["invoke.self", "proxy.unary", "proxy.stream", "proxy.status", "publish.deliver"] {
        ensure!(log.contains(&format!("check {check} ok")), "{check} did not hold\n{log}");
    }
    ensure!(status.success(), "ended with {status}\n{log}");
    peer.assert_calm();
    Ok(())
}

#[test]
fn a_run_file_and_daprd_are_part_of_it() -> Result<()> {
    let data = Folder::new("sharing-kinds")?;
    let (of_file, of_daprd) = (named("of-file")?, named("of-daprd")?);
    let http = ports::free();
    let file = data.write(
        "dapr.yaml",
        &format!(
            "version: 1\napps:\n  - appID: filed\n    appDirPath: .\n    appPort: {}\n    daprHTTPPort: {http}\n    \
             daprGRPCPort: {}\n    metricsPort: {}\n    command: [\"sleep\", \"600\"]\n",
            of_file.port,
            ports::free(),
            ports::free(),
        ),
    )?;
    let folder = data.join("store");
    let mut several = Start::run_file(&file).within(data.path()).data(&folder).launch()?;
    several.ports.http = http;
    several.wait_ready()?;
    let link = data.join("daprd");
    std::os::unix::fs::symlink(tools::binary()?, &link)?;
    let port = ports::free();
    let daprd = Command::new(&link)
        .args(["--app-id", "linked", "--app-port", &of_daprd.port.to_string()])
        .args(["--dapr-http-port", &port.to_string(), "--dapr-grpc-port", "0"])
        .args(["--metrics-port", "0"])
        .env_clear()
        .env("HOME", data.path())
        .env("OUTRIGGER_DATA_DIR", &folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let daprd = Killed(daprd);
    let asked = |port: u16, app: &str| {
        eventually(&format!("the app {app}"), || {
            let path = format!("/v1.0/invoke/{app}/method/ping");
            let answer = outrigger_tests::http::send(port, "GET", &path, &[], b"").ok()?;
            (answer.status == 200).then(|| answer.json()["app"].clone())
        })
    };
    ensure!(asked(http, "linked") == "of-daprd");
    ensure!(asked(port, "filed") == "of-file");
    drop(daprd);
    Ok(())
}

/// A process that does not outlive the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
