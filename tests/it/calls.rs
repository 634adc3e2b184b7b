//! Calls: headers, statuses, streams, tokens, health, endpoints.

use anyhow::{Result, ensure};
use outrigger_tests::{Answer, App, Start, eventually, http::Connection};
use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

#[test]
fn headers_are_forwarded_and_added() -> Result<()> {
    let app = App::start(|_| Answer::status(200).with("x-answer", "kept").body("ok"))?;
    let node = Start::sidecar("callee").app_port(app.port).ready()?;
    let headers = [("x-question", "kept"), ("connection", "close, x-hop"), ("x-hop", "dropped")];
    let answer = node.send("GET", "/v1.0/invoke/callee/method/a/b", &headers, b"")?;
    ensure!(answer.status == 200 && answer.header("x-answer") == Some("kept"), "{answer:?}");
    let seen = app.seen().into_iter().find(|incoming| incoming.path == "/a/b");
    let seen = seen.ok_or_else(|| anyhow::anyhow!("the app was not called"))?;
    ensure!(seen.header("x-question") == Some("kept"), "{seen:?}");
    ensure!(seen.header("x-hop").is_none(), "a hop-by-hop header went through: {seen:?}");
    ensure!(seen.header("dapr-caller-app-id") == Some("callee"), "{seen:?}");
    ensure!(seen.header("dapr-callee-app-id") == Some("callee"), "{seen:?}");
    ensure!(seen.header("traceparent").is_some(), "no trace context: {seen:?}");
    Ok(())
}

#[test]
fn tokens_both_ways() -> Result<()> {
    let app = App::start(|_| Answer::status(200))?;
    let node = Start::sidecar("guarded")
        .app_port(app.port)
        .components()
        .environment("DAPR_API_TOKEN", "inbound-secret")
        .environment("APP_API_TOKEN", "outbound-secret")
        .ready()?;
    let path = "/v1.0/invoke/guarded/method/x";
    let without = node.get(path)?;
    ensure!(without.status == 401, "without a token: {}", without.status);
    let wrong = node.send("GET", path, &[("dapr-api-token", "guess")], b"")?;
    ensure!(wrong.status == 401, "with a wrong token: {}", wrong.status);
    let right = node.send("GET", path, &[("dapr-api-token", "inbound-secret")], b"")?;
    ensure!(right.status == 200, "with the token: {}", right.status);
    let seen = app.seen();
    let call = seen.iter().find(|incoming| incoming.path == "/x");
    let token = call.and_then(|incoming| incoming.header("dapr-api-token").map(str::to_owned));
    ensure!(token.as_deref() == Some("outbound-secret"), "the app was sent {token:?}");
    ensure!(!node.log().contains("-secret"), "a secret is in the log:\n{}", node.log());
    Ok(())
}

#[test]
fn an_app_that_is_away_answers_500_and_comes_back() -> Result<()> {
    let port = outrigger_tests::ports::free();
    let node = Start::sidecar("away").app_port(port).launch()?;
    eventually("the API", || node.get("/v1.0/healthz/outbound").ok());
    let gone = node.get("/v1.0/invoke/away/method/x")?;
    ensure!(gone.status == 500 && gone.code() == "ERR_DIRECT_INVOKE", "{gone:?}");
    let _app = App::start_on(port, |_| Answer::status(200))?;
    eventually("the app through the runtime", || {
        node.get("/v1.0/invoke/away/method/x").ok().filter(|answer| answer.status == 200)
    });
    node.assert_calm();
    Ok(())
}

#[test]
fn an_unhealthy_app_is_left_alone() -> Result<()> {
    let health = Arc::new(AtomicU16::new(200));
    let shared = Arc::clone(&health);
    let app = App::start(move |incoming| match incoming.path.as_str() {
        "/healthz" => Answer::status(shared.load(Ordering::Acquire)),
        _ => Answer::status(200),
    })?;
    let node = Start::sidecar("fragile")
        .app_port(app.port)
        .switch("--enable-app-health-check=true")
        .flag("--app-health-probe-interval", "1")
        .flag("--app-health-probe-timeout", "500")
        .flag("--app-health-threshold", "1")
        .launch()?;
    let call = || node.get("/v1.0/invoke/fragile/method/x").map(|answer| answer.status).ok();
    eventually("a healthy app", || call().filter(|status| *status == 200));
    health.store(500, Ordering::Release);
    eventually("the app to be left alone", || call().filter(|status| *status == 500));
    health.store(200, Ordering::Release);
    eventually("the app to be trusted again", || call().filter(|status| *status == 200));
    Ok(())
}

#[test]
fn a_call_without_an_answer_ends() -> Result<()> {
    let (keep, kept) = std::sync::mpsc::channel::<()>();
    let kept = std::sync::Mutex::new(kept);
    let app = App::start(move |incoming| {
        if incoming.path == "/never" {
            // Until the test is over.
            drop(kept.lock().map(|kept| kept.recv()));
        }
        Answer::status(200)
    })?;
    let node = Start::sidecar("late").app_port(app.port).flag("--call-timeout", "200ms").ready()?;
    let late = node.get("/v1.0/invoke/late/method/never")?;
    ensure!(late.status == 504 && late.code() == "ERR_DIRECT_INVOKE", "{late:?}");
    let other = node.get("/v1.0/invoke/late/method/at-once")?;
    ensure!(other.status == 200, "the next call was answered {other:?}");
    drop(keep);
    Ok(())
}

#[test]
fn a_body_streams_before_it_is_complete() -> Result<()> {
    let app = App::start(|incoming| Answer::status(200).body(incoming.body.len().to_string()))?;
    let node = Start::sidecar("stream").app_port(app.port).ready()?;
    let mut connection = Connection::open(node.ports.http)?;
    connection.raw(
        b"POST /v1.0/invoke/stream/method/take HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    for _ in 0..100 {
        connection.raw(format!("{:x}\r\n{}\r\n", 1000, "x".repeat(1000)).as_bytes())?;
    }
    connection.raw(b"0\r\n\r\n")?;
    let answer = connection.response(false)?;
    ensure!(answer.status == 200 && answer.text() == "100000", "{answer:?}");
    Ok(())
}

#[test]
fn endpoints_outside_are_called_by_name_and_by_address() -> Result<()> {
    let outside = App::start(|incoming| {
        let greeting = incoming.header("x-greeting").unwrap_or("none").to_owned();
        Answer::status(200).body(format!("{} {greeting}", incoming.path))
    })?;
    let endpoint = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata:\n  name: outside\nspec:\n  \
         baseUrl: http://127.0.0.1:{}\n  headers:\n    - name: x-greeting\n      value: hello\n",
        outside.port
    );
    let node = Start::sidecar("inside").resource("endpoint.yaml", &endpoint).ready()?;
    let named = node.get("/v1.0/invoke/outside/method/named")?;
    ensure!(named.text() == "/named hello", "{named:?}");
    let address = format!("/v1.0/invoke/http:%2F%2F127.0.0.1:{}/method/direct", outside.port);
    let direct = node.get(&address)?;
    ensure!(direct.text() == "/direct none", "{direct:?}");
    Ok(())
}
