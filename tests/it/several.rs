//! `run -f`: many apps in one process.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use outrigger_tests::{App, Folder, Node, Start, eventually, patience, ports, tools};
use serde_json::json;
use std::path::PathBuf;

/// A small app without any library, in the Python that the tests have anyway.
const APP: &str = r#"
import http.server, os, sys

class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (os.environ['APP_ID'] + ' says ' + self.path).encode()
        self.send_response(200)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass

print('listening', os.environ['APP_PORT'], os.environ['GREETING'], flush=True)
try:
    http.server.HTTPServer(('127.0.0.1', int(os.environ['APP_PORT'])), App).serve_forever()
except KeyboardInterrupt:
    print('leaving', flush=True)
"#;

fn two_apps(folder: &Folder) -> Result<(PathBuf, [u16; 2])> {
    folder.write("app.py", APP)?;
    let python = tools::python()?;
    let http = [ports::free(), ports::free()];
    let mut file = String::from("version: 1\ncommon:\n  env:\n    GREETING: common\napps:\n");
    for (id, http) in ["left", "right"].iter().zip(http) {
        file.push_str(&format!(
            "  - appID: {id}\n    appDirPath: .\n    appPort: {}\n    daprHTTPPort: {http}\n    \
             daprGRPCPort: {}\n    metricsPort: {}\n    command: [\"{}\", \"app.py\"]\n",
            ports::free(),
            ports::free(),
            ports::free(),
            python.display(),
        ));
    }
    file.push_str("    env:\n      GREETING: own\n");
    Ok((folder.write("dapr.yaml", &file)?, http))
}

fn start(folder: &Folder) -> Result<Node> {
    let (file, http) = two_apps(folder)?;
    let mut node = Start::run_file(&file).within(folder.path()).launch()?;
    for port in [http[1], http[0]] {
        node.ports.http = port;
        node.wait_ready()?;
    }
    Ok(node)
}

#[test]
fn apps_call_each_other_by_name() -> Result<()> {
    let folder = Folder::new("several")?;
    let node = start(&folder)?;
    let answer = eventually("the right app", || {
        node.get("/v1.0/invoke/right/method/hello").ok().filter(|answer| answer.status == 200)
    });
    ensure!(answer.text() == "right says /hello", "{answer:?}");
    let log = node.log();
    let line = |app: &str, greeting: &str| {
        log.lines()
            .any(|line| line.contains(app) && line.contains("listening") && line.contains(greeting))
    };
    ensure!(line("left", "common"), "the log has no line of left\n{log}");
    ensure!(line("right", "own"), "the log has no line of right\n{log}");
    Ok(())
}

#[test]
fn consumers_of_one_group_share_what_there_is() -> Result<()> {
    const EVENTS: u64 = 200;
    let folder = Folder::new("sharing")?;
    folder.write(
        "resources/pubsub.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: pubsub\nspec:\n  \
         type: pubsub.outrigger\n  version: v1\n  metadata:\n  - name: consumerID\n    \
         value: workers\n",
    )?;
    let workers = [App::subscriber("pubsub", &["tasks"])?, App::subscriber("pubsub", &["tasks"])?];
    let http = [ports::free(), ports::free()];
    let mut file = String::from("version: 1\ncommon:\n  resourcesPath: resources\napps:\n");
    for (id, (worker, http)) in ["first", "second"].iter().zip(workers.iter().zip(http)) {
        file.push_str(&format!(
            "  - appID: {id}\n    appDirPath: .\n    appPort: {}\n    daprHTTPPort: {http}\n    \
             daprGRPCPort: {}\n    metricsPort: {}\n    command: [\"sleep\", \"600\"]\n",
            worker.port,
            ports::free(),
            ports::free(),
        ));
    }
    let file = folder.write("dapr.yaml", &file)?;
    let mut node = Start::run_file(&file).within(folder.path()).launch()?;
    for port in http {
        node.ports.http = port;
        node.wait_ready()?;
    }
    for id in 0..EVENTS {
        let answer = node.post("/v1.0/publish/pubsub/tasks", &json!({ "id": id }))?;
        ensure!(answer.status == 204, "publishing answered {answer:?}");
    }
    let ids = || {
        workers.each_ref().map(|worker| {
            let bodies = worker.bodies("/on/tasks");
            bodies.iter().filter_map(|event| event["data"]["id"].as_u64()).collect::<Vec<_>>()
        })
    };
    let [first, second] = eventually("every event", || {
        let shares = ids();
        let total = shares.iter().map(Vec::len).sum::<usize>();
        (total >= usize::try_from(EVENTS).unwrap_or(usize::MAX)).then_some(shares)
    });
    let mut all = [&first[..], &second[..]].concat();
    all.sort_unstable();
    ensure!(all == (0..EVENTS).collect::<Vec<_>>(), "not each event once: {first:?} {second:?}");
    let shares = (first.len(), second.len());
    ensure!(shares.0 > 0 && shares.1 > 0, "one of them had nothing to do: {shares:?}");
    Ok(())
}

#[test]
fn an_interrupt_ends_everything_in_order() -> Result<()> {
    let folder = Folder::new("interrupt")?;
    let mut node = start(&folder)?;
    eventually("the right app", || {
        node.get("/v1.0/invoke/right/method/hello").ok().filter(|answer| answer.status == 200)
    });
    node.signal(Signal::SIGINT)?;
    let status = node.wait(patience::SOON)?;
    ensure!(matches!(status.code(), Some(0 | 130)), "ended with {status}\n{}", node.log());
    ensure!(node.get("/v1.0/healthz").is_err(), "a port is still open");
    Ok(())
}

#[test]
fn every_mistake_of_a_file_is_told_at_once() -> Result<()> {
    let folder = Folder::new("mistakes")?;
    let file = folder.write(
        "dapr.yaml",
        "version: 1\napps:\n  - appID: a\n    appPort: many\n  - appID: b\n    \
         appProtocol: carrier\n    daprHTTPPort: 99999\n  - appID: b\n    appDirPath: .\n",
    )?;
    let mut node = Start::run_file(&file).launch()?;
    let status = node.wait(patience::SOON)?;
    let log = node.log();
    ensure!(!status.success(), "a broken file was accepted");
    for line in [4, 6, 7, 8] {
        ensure!(log.contains(&format!("dapr.yaml:{line}:")), "nothing of line {line} in\n{log}");
    }
    Ok(())
}

#[test]
fn a_broken_file_is_refused_with_its_line() -> Result<()> {
    let folder = Folder::new("broken")?;
    let file = folder.write("dapr.yaml", "version: 1\napps:\n  - appID: a\n    appPort: many\n")?;
    let mut node = Start::run_file(&file).launch()?;
    let status = node.wait(patience::SOON)?;
    let log = node.log();
    ensure!(!status.success(), "a broken file was accepted");
    ensure!(log.contains("OUTR-") && log.contains("dapr.yaml:"), "no code or place in\n{log}");
    Ok(())
}
