//! Restarting one of two instances under load loses no call: who leaves says so before it stops answering, and what is
//! under way is let to its end.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use outrigger_tests::{
    Answer, App, Folder, Node, Start, eventually, http::Connection, patience, ports,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// An app whose every answer takes a while, so that there always are calls under way.
fn slow(name: &'static str) -> Result<App> {
    App::start(move |incoming| {
        if incoming.path.starts_with("/dapr/") {
            return Answer::json(&json!([]));
        }
        thread::sleep(Duration::from_millis(20));
        Answer::json(&json!({ "app": name }))
    })
}

/// What callers saw.
#[derive(Default)]
struct Tally {
    over: AtomicBool,
    answered: AtomicUsize,
    by_app: Mutex<BTreeMap<String, usize>>,
    failed: Mutex<Vec<String>>,
}

impl Tally {
    /// Calls without a pause, by a method that is never repeated unasked.
    fn call(&self, port: u16) -> Result<()> {
        let mut connection = Connection::open(port)?;
        while !self.over.load(Ordering::Acquire) {
            let answer =
                connection.request("POST", "/v1.0/invoke/cart/method/order", &[], b"{}")?;
            if answer.status == 200 {
                let app = answer.json()["app"].as_str().unwrap_or_default().to_owned();
                *lock(&self.by_app).entry(app).or_default() += 1;
                self.answered.fetch_add(1, Ordering::AcqRel);
            } else {
                lock(&self.failed).push(format!("{answer:?}"));
            }
        }
        Ok(())
    }

    fn wait_for(&self, more: usize) {
        let before = self.answered.load(Ordering::Acquire);
        patience::eventually("calls that are answered", || {
            (self.answered.load(Ordering::Acquire) >= before + more).then_some(())
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `cart` from eight threads by way of `front` while `change` goes on; answers what they saw.
fn under_load(front: &Node, change: impl FnOnce(&Tally) -> Result<()>) -> Result<Tally> {
    let tally = Tally::default();
    let port = front.ports.http;
    thread::scope(|scope| {
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(|| tally.call(port))).collect();
        tally.wait_for(50);
        let changed = change(&tally);
        tally.over.store(true, Ordering::Release);
        for caller in callers {
            caller.join().map_err(|_| anyhow::anyhow!("a caller panicked"))??;
        }
        changed
    })?;
    Ok(tally)
}

#[test]
fn a_rolling_restart_under_load_loses_no_call() -> Result<()> {
    let data = Folder::new("rolling")?;
    let (one, two) = (slow("one")?, slow("two")?);
    let start = |app: &App| Start::sidecar("cart").data(data.path()).app_port(app.port).ready();
    let front = Start::sidecar("front").data(data.path()).ready()?;
    let mut first = start(&one)?;
    let mut second = start(&two)?;
    eventually("cart", || {
        let answer = front.get("/v1.0/invoke/cart/method/x").ok()?;
        (answer.status == 200).then_some(())
    });
    let tally = under_load(&front, |tally| {
        for _ in 0..2 {
            for (node, app) in [(&mut first, &one), (&mut second, &two)] {
                let ended = node.stop()?;
                ensure!(ended.success(), "{ended:?}");
                tally.wait_for(50);
                *node = start(app)?;
                tally.wait_for(50);
            }
        }
        Ok(())
    })?;
    let failed = lock(&tally.failed).clone();
    ensure!(failed.is_empty(), "{} calls were lost, such as {}", failed.len(), failed[0]);
    let by_app = lock(&tally.by_app).clone();
    ensure!(by_app.len() == 2 && by_app.values().all(|count| *count > 50), "{by_app:?}");
    Ok(())
}

/// An app that ends at once when it is asked to, whatever it is doing.
const HASTY: &str = "\
import http.server, os, sys, time
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_POST(self):
        self.rfile.read(int(self.headers.get('content-length', 0)))
        time.sleep(0.05)
        body = b'{\"app\": \"%s\"}' % sys.argv[1].encode()
        self.send_response(200)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['APP_PORT'])), H).serve_forever()
";

#[test]
fn an_app_that_ends_at_once_is_asked_to_when_nothing_is_under_way() -> Result<()> {
    let data = Folder::new("rolling-hasty")?;
    let start = |name: &str| {
        let command = ["python3", "-c", HASTY, name].map(OsStr::new);
        let port = ports::free();
        Start::run("cart", &command)
            .data(data.path())
            .environment("APP_PORT", port.to_string())
            .app_port(port)
            .ready()
    };
    let front = Start::sidecar("front").data(data.path()).ready()?;
    let mut first = start("one").context("the first")?;
    let second = start("two").context("the second")?;
    eventually("cart", || {
        let answer = front.get("/v1.0/invoke/cart/method/x").ok()?;
        (answer.status == 200).then_some(())
    });
    let tally = under_load(&front, |tally| {
        first.signal(Signal::SIGTERM)?;
        first.wait(patience::SOON)?;
        tally.wait_for(50);
        Ok(())
    })?;
    drop(second);
    let failed = lock(&tally.failed).clone();
    ensure!(failed.is_empty(), "{} calls were lost, such as {}", failed.len(), failed[0]);
    Ok(())
}
