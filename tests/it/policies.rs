//! What stands between a call and its target, in the real binary: one resiliency file, one app behind several names.

use anyhow::{Context, Result, ensure};
use outrigger_tests::{
    Answer, App, Node, Start, eventually,
    http::{self, Connection, Response},
    tools,
};
use serde_json::Value;
use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering},
    },
    thread::Builder,
};

const FILE: &str = r#"
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: rules}
spec:
  policies:
    timeouts:
      short: {overall: 5s, connect: 1s}
    retries:
      careful: {policy: exponential, jitter: full, initialInterval: 1ms, maxInterval: 5ms, maxRetries: 2}
    circuitBreakers:
      quick: {maxRequests: 1, timeout: 300ms, trip: consecutiveFailures > 2}
    rateLimits:
      two: {calls: 2, period: 1h}
    caches:
      minute: {freshFor: 1m, staleIfError: 1h, refreshAhead: false}
    fallbacks:
      soft: {lastGood: 1h, target: spare, answer: {status: 200, headers: {content-type: application/json}, body: "[]"}}
    faults:
      storm: {enabled: true, for: 700ms, headers: {x-chaos: "*"}, abort: {httpStatus: 503}}
    bulkheads:
      one: {maxConcurrent: 1, maxQueue: 0}
  targets:
    apps:
      flaky: {timeout: short, retry: careful}
      dead: {circuitBreaker: quick}
      limited: {rateLimit: two}
      cached: {cache: minute}
      softened: {fallback: soft}
      stormy: {fault: storm}
      front: {inbound: {bulkhead: one}}
"#;

/// The app under several names, each with a policy of its own.
fn outside(port: u16) -> String {
    let names = ["flaky", "dead", "limited", "cached", "softened", "stormy", "spare"];
    let endpoint = |name: &&str| {
        format!(
            "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata: {{name: {name}}}\nspec: {{baseUrl: \"http://127.0.0.1:{port}\"}}\n"
        )
    };
    names.iter().map(endpoint).collect::<Vec<_>>().join("---\n")
}

fn start(app: &App) -> Result<Node> {
    Start::sidecar("front")
        .app_port(app.port)
        .resource("rules.yaml", FILE)
        .resource("outside.yaml", &outside(app.port))
        .ready()
}

fn call(node: &Node, target: &str, headers: &[(&str, &str)]) -> Result<Response> {
    node.send("GET", &format!("/v1.0/invoke/{target}/method/x"), headers, b"")
}

/// How often a decision was made.
fn decided(node: &Node, reason: &str, target: &str) -> Result<u64> {
    let text = http::send(node.ports.metrics, "GET", "/metrics", &[], b"")?.text();
    let line = text.lines().find(|line| {
        line.starts_with("outrigger_policy_decisions_total")
            && line.contains(&format!("reason=\"{reason}\""))
            && line.contains(&format!("target=\"app_{target}\""))
    });
    let count = line.and_then(|line| line.rsplit(' ').next()).unwrap_or("0");
    Ok(count.parse()?)
}

/// The binary's answer to a command about the policies of `node`.
fn policy(node: &Node, words: &[&str]) -> Result<Value> {
    let mut command = Command::new(tools::binary()?);
    command.arg("policy").args(words).args(["-o", "json"]);
    if words.first() == Some(&"explain") {
        command.arg("--resources-path").arg(node.home.join("resources"));
    } else {
        command.args(["--dapr-http-port", &node.ports.http.to_string()]);
    }
    let output = command.env_clear().env("HOME", node.home.path()).output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{words:?}: {told}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn retries_limits_and_breakers() -> Result<()> {
    let status = Arc::new(AtomicU16::new(503));
    let says = Arc::clone(&status);
    let app = App::start(move |incoming| match incoming.header("outrigger-attempt") {
        // The second attempt succeeds, if there is one.
        Some("2") => Answer::status(200).body("again"),
        _ => Answer::status(says.load(Ordering::Acquire)).with("retry-after", "0"),
    })?;
    let node = start(&app)?;
    // Nothing of ours goes outside, so that the attempt is not told: the status changes instead.
    let calls = || app.seen().iter().filter(|seen| seen.path == "/x").count();
    let failed = call(&node, "flaky", &[])?;
    ensure!(failed.status == 503 && failed.header("outrigger-retry") == Some("no"), "{failed:?}");
    ensure!(calls() == 3, "{} attempts", calls());
    ensure!(decided(&node, "retry.pushed_back", "flaky")? + decided(&node, "retry", "flaky")? == 2);

    // Three failures open the breaker; while it is open nobody is asked; then a probe closes it.
    for _ in 0..3 {
        ensure!(call(&node, "dead", &[])?.status == 503);
    }
    let before = calls();
    let refused = call(&node, "dead", &[])?;
    ensure!(refused.text().contains("circuit breaker is open"), "{refused:?}");
    ensure!(calls() == before, "the target of an open breaker was asked");
    status.store(200, Ordering::Release);
    eventually("the probe", || call(&node, "dead", &[]).ok().filter(|answer| answer.status == 200));

    // Held open by an operator, then left to itself.
    let held = policy(&node, &["open", "dead"])?;
    ensure!(held[0]["stands"] == "open", "{held}");
    ensure!(call(&node, "dead", &[])?.text().contains("held open by an operator"));
    policy(&node, &["auto", "dead"])?;
    ensure!(call(&node, "dead", &[])?.status == 200);

    for _ in 0..2 {
        ensure!(call(&node, "limited", &[])?.status == 200);
    }
    let over = call(&node, "limited", &[])?;
    ensure!(over.status == 429 && over.header("retry-after").is_some(), "{over:?}");
    ensure!(over.header("ratelimit-policy") == Some("\"limited\";q=2;w=3600"), "{over:?}");
    ensure!(over.header("ratelimit").is_some_and(|value| value.contains("r=0")), "{over:?}");
    node.assert_calm();
    Ok(())
}

#[test]
fn one_call_for_all_who_ask_and_what_is_kept_serves_when_the_target_is_down() -> Result<()> {
    let (gate, status) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU16::new(200)));
    let (opened, says) = (Arc::clone(&gate), Arc::clone(&status));
    let app = App::start(move |incoming| {
        if incoming.path == "/x" {
            eventually("the gate", || opened.load(Ordering::Acquire).then_some(()));
        }
        Answer::status(says.load(Ordering::Acquire)).body("kept")
    })?;
    let node = start(&app)?;
    let port = node.ports.http;
    let readers: Vec<_> = (0..50)
        .map(|_| {
            let path = "/v1.0/invoke/cached/method/x";
            Builder::new().spawn(move || http::send(port, "GET", path, &[], b""))
        })
        .collect::<std::io::Result<_>>()?;
    let asked = || app.seen().iter().filter(|seen| seen.path == "/x").count();
    eventually("the one call", || (asked() == 1).then_some(()));
    gate.store(true, Ordering::Release);
    for reader in readers {
        let answer = reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
        ensure!(answer.status == 200 && answer.text() == "kept", "{answer:?}");
        ensure!(answer.header("cache-status").is_some(), "{answer:?}");
    }
    ensure!(asked() == 1, "{} calls for fifty readers", asked());
    let hit = call(&node, "cached", &[])?;
    ensure!(
        hit.header("cache-status").is_some_and(|told| told.starts_with("outrigger; hit")),
        "{hit:?}"
    );
    ensure!(hit.header("age").is_some() && asked() == 1, "{hit:?}");
    ensure!(decided(&node, "cache.hit", "cached")? >= 1);
    status.store(503, Ordering::Release);
    let stale = call(&node, "cached", &[("cache-control", "no-cache")])?;
    ensure!(
        stale.status == 200 && stale.header("outrigger-degraded") == Some("stale"),
        "{stale:?}"
    );
    policy(&node, &["clear-cache", "cached"])?;
    ensure!(call(&node, "cached", &[])?.status == 503);
    node.assert_calm();
    Ok(())
}

#[test]
fn fallbacks_faults_and_who_goes_without() -> Result<()> {
    let (status, gate) = (Arc::new(AtomicU16::new(503)), Arc::new(AtomicBool::new(false)));
    let (says, opened) = (Arc::clone(&status), Arc::clone(&gate));
    let app = App::start(move |incoming| match incoming.path.as_str() {
        "/slow" => {
            eventually("the gate", || opened.load(Ordering::Acquire).then_some(()));
            Answer::status(200)
        }
        _ => Answer::status(says.load(Ordering::Acquire)).body("own"),
    })?;
    let node = start(&app)?;
    // Both are down, so that only the constant is left; once well, the answer is kept.
    let fixed = call(&node, "softened", &[])?;
    ensure!(
        fixed.text() == "[]" && fixed.header("outrigger-degraded") == Some("static"),
        "{fixed:?}"
    );
    status.store(200, Ordering::Release);
    let own = call(&node, "softened", &[])?;
    ensure!(own.text() == "own" && own.header("outrigger-degraded").is_none(), "{own:?}");
    status.store(500, Ordering::Release);
    let kept = call(&node, "softened", &[])?;
    let told = kept.header("outrigger-degraded").unwrap_or_default();
    ensure!(kept.text() == "own" && told.starts_with("last-good; age="), "{kept:?}");
    status.store(403, Ordering::Release);
    ensure!(call(&node, "softened", &[])?.status == 403, "a refusal was papered over");
    ensure!(decided(&node, "fallback.last_good", "softened")? == 1);

    // Whoever asks for it meets the fault, until it ends by itself.
    status.store(200, Ordering::Release);
    let chaos = [("x-chaos", "1")];
    ensure!(call(&node, "stormy", &[])?.status == 200);
    eventually("the end of the fault", || {
        call(&node, "stormy", &chaos).ok().filter(|answer| answer.status == 200)
    });
    let ended = policy(&node, &["status", "stormy"])?;
    ensure!(ended[0]["stands"] == "off", "{ended}");

    // One seat at the app itself: the second call is told when to come back, and probes do not need one.
    let port = node.ports.http;
    let slow = Builder::new()
        .spawn(move || http::send(port, "GET", "/v1.0/invoke/front/method/slow", &[], b""))?;
    eventually("the slow call", || {
        app.seen().iter().any(|seen| seen.path == "/slow").then_some(())
    });
    let shed = call(&node, "front", &[])?;
    ensure!(shed.status == 503 && shed.header("retry-after").is_some(), "{shed:?}");
    ensure!(node.get("/v1.0/healthz")?.status == 204);
    gate.store(true, Ordering::Release);
    let slow = slow.join().map_err(|_| anyhow::anyhow!("the caller panicked"))??;
    ensure!(slow.status == 200 && call(&node, "front", &[])?.status == 200, "{slow:?}");
    // Work whose time is over does not reach the app.
    let before = app.seen().len();
    let late = call(&node, "front", &[("outrigger-timeout-ms", "0")])?;
    ensure!(late.status == 504 && app.seen().len() == before, "{late:?}");
    node.assert_calm();
    Ok(())
}

#[test]
fn an_edited_file_drops_no_call_and_is_explained() -> Result<()> {
    let app = App::start(|_| Answer::status(200).body("ok"))?;
    let node = start(&app)?;
    let (over, port) = (Arc::new(AtomicBool::new(false)), node.ports.http);
    let made = Arc::new(AtomicUsize::new(0));
    let (ended, count) = (Arc::clone(&over), Arc::clone(&made));
    let steady = Builder::new().spawn(move || -> Result<()> {
        let mut connection = Connection::open(port)?;
        while !ended.load(Ordering::Acquire) {
            for target in ["flaky", "cached", "softened"] {
                let path = format!("/v1.0/invoke/{target}/method/x");
                let answer = connection.request("GET", &path, &[], b"")?;
                ensure!(answer.status == 200, "{target} was answered {answer:?}");
                count.fetch_add(1, Ordering::AcqRel);
            }
        }
        Ok(())
    })?;
    eventually("some calls", || (made.load(Ordering::Acquire) > 10).then_some(()));
    // The limit is raised under way; the cache, which is as it was, goes on.
    node.home.write(
        "resources/rules.yaml",
        &FILE.replace("{calls: 2, period: 1h}", "{calls: 5, period: 1h}"),
    )?;
    eventually("the edited file", || node.log().contains("resources reloaded").then_some(()));
    let after = made.load(Ordering::Acquire);
    eventually("more calls", || (made.load(Ordering::Acquire) > after + 10).then_some(()));
    over.store(true, Ordering::Release);
    steady.join().map_err(|_| anyhow::anyhow!("the caller panicked"))??;
    let kept = call(&node, "cached", &[])?;
    ensure!(kept.header("cache-status").is_some_and(|told| told.contains("hit")), "{kept:?}");

    let parts = |target: &str| -> Result<Vec<(String, String, String)>> {
        let rows = policy(&node, &["explain", target])?;
        let rows = rows.as_array().context("no rows")?;
        let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
        Ok(rows
            .iter()
            .map(|row| (text(row, "part"), text(row, "does"), text(row, "from")))
            .collect())
    };
    for (target, part, says, from) in [
        ("cached", "cache", "longer when the target fails", "caches.minute at"),
        ("softened", "fallback", "what spare says", "fallbacks.soft at"),
        ("stormy", "fault", "aborted with HTTP 503 of calls with x-chaos", "faults.storm at"),
        ("flaky", "connect", "1s to reach", "timeouts.short at"),
        ("limited", "rate", "5 calls in", "rateLimits.two at"),
        ("front", "bulkhead", "1 at once", "bulkheads.one at"),
    ] {
        let parts = parts(target)?;
        let found = parts.iter().find(|(name, ..)| name == part);
        let (_, does, origin) =
            found.with_context(|| format!("{target} has no {part}: {parts:?}"))?;
        ensure!(does.contains(says) && origin.contains(from), "{target}: {does} [{origin}]");
    }
    node.assert_calm();
    Ok(())
}
