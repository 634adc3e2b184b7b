//! Bad input: each answered with the stable code, no panic, no partial write, and the next request is served.

use anyhow::{Result, ensure};
use outrigger_tests::{
    Answer, App, Node, Start,
    http::{Connection, Response, send},
    patience,
};
use serde_json::json;
use std::{thread, time::Duration};

fn node(app_id: &str) -> Result<Node> {
    Start::sidecar(app_id).components().ready()
}

/// Whatever happened before, the node serves and has not panicked.
fn still_serves(node: &Node) -> Result<()> {
    let answer = node.post("/v1.0/state/statestore", &json!([{ "key": "alive", "value": 1 }]))?;
    ensure!(answer.status == 204, "no longer serves: {}\n{}", answer.status, node.log());
    node.assert_calm();
    Ok(())
}

#[test]
fn every_wrong_request_has_its_code() -> Result<()> {
    let node = node("wrong")?;
    let state = "/v1.0/state/statestore";
    let tx = "/v1.0/state/statestore/transaction";
    let bulk = "/v1.0/publish/bulk/pubsub/t";
    let long_key = format!(r#"[{{"key":"{}","value":1}}]"#, "k".repeat(5000));
    let cases: &[(&str, &str, &str, u16, &str)] = &[
        ("POST", state, "", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", state, "{", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", state, "null", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", state, "{\"key\":\"k\"}", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", state, "[1]", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", state, "[{\"value\":1}]", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", state, "[{\"key\":7,\"value\":1}]", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", state, "[{\"key\":\"a||b\",\"value\":1}]", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", state, &long_key, 400, "ERR_MALFORMED_REQUEST"),
        (
            "POST",
            state,
            "[{\"key\":\"k\",\"value\":1,\"etag\":\"not-ours\"}]",
            400,
            "ERR_STATE_SAVE",
        ),
        (
            "POST",
            state,
            "[{\"key\":\"k\",\"value\":1,\"options\":{\"concurrency\":\"sometimes\"}}]",
            400,
            "ERR_MALFORMED_REQUEST",
        ),
        ("POST", "/v1.0/state/nowhere", "[]", 400, "ERR_STATE_STORE_NOT_FOUND"),
        ("GET", "/v1.0/state/nowhere/k", "", 400, "ERR_STATE_STORE_NOT_FOUND"),
        ("DELETE", "/v1.0/state/nowhere/k", "", 400, "ERR_STATE_STORE_NOT_FOUND"),
        ("POST", "/v1.0/state/nowhere/bulk", "{\"keys\":[]}", 400, "ERR_STATE_STORE_NOT_FOUND"),
        ("POST", "/v1.0/state/statestore/bulk", "[]", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", tx, "{\"operations\":7}", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", tx, "{\"operations\":[{\"operation\":\"upsert\"}]}", 400, ""),
        ("POST", "/v1.0/publish/nowhere/t", "{}", 404, "ERR_PUBSUB_NOT_FOUND"),
        ("POST", bulk, "{}", 400, "ERR_PUBSUB_EVENTS_SER"),
        ("POST", bulk, "[{\"event\":{}}]", 400, "ERR_PUBSUB_EVENTS_SER"),
        ("GET", "/v1.0/invoke/nobody/method/x", "", 500, "ERR_DIRECT_INVOKE"),
        ("GET", "/v1.0/secrets/nowhere/k", "", 500, "ERR_SECRET_STORES_NOT_CONFIGURED"),
        ("GET", "/v1.0/no-such-api", "", 404, ""),
        ("GET", "/", "", 404, ""),
        ("TRACE", "/v1.0/metadata", "", 4, ""),
        ("GET", "/v1.0/state/statestore/%ff%fe", "", 4, ""),
        ("GET", "/v1.0/state/statestore/%zz", "", 4, ""),
    ];
    let mut wrong = Vec::new();
    for (method, path, body, status, code) in cases {
        let headers = [("content-type", "application/json")];
        let answer = node.send(method, path, &headers, body.as_bytes())?;
        let status_fits =
            if *status < 10 { answer.status / 100 == *status } else { answer.status == *status };
        if !status_fits || (!code.is_empty() && answer.code() != *code) {
            wrong.push(format!(
                "{method} {path} {:.60}: expected {status} {code}, answered {} {}",
                body,
                answer.status,
                answer.text()
            ));
        } else if answer.status >= 400
            && !code.is_empty()
            && answer.json()["message"].as_str().is_none_or(str::is_empty)
        {
            wrong.push(format!("{method} {path}: no message"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    still_serves(&node)
}

#[test]
fn a_bad_item_leaves_no_part_of_its_batch() -> Result<()> {
    let node = node("partial")?;
    let batch = json!([{ "key": "good", "value": 1 }, { "key": "bad||key", "value": 2 }]);
    let answer = node.post("/v1.0/state/statestore", &batch)?;
    ensure!(answer.status == 400, "answered {}", answer.status);
    ensure!(node.get("/v1.0/state/statestore/good")?.status == 204, "half a batch was written");
    still_serves(&node)
}

fn is_refused(answer: &Result<Response>, statuses: &[u16]) -> bool {
    // A server may close on an overflow once it has answered; the client then sees either.
    answer.as_ref().map_or(true, |answer| statuses.contains(&answer.status))
}

#[test]
fn too_large_bodies_and_heads() -> Result<()> {
    let node = node("large")?;
    let port = node.ports.http;
    let five_mebibytes = vec![b'x'; 5 << 20];
    let answer = send(port, "POST", "/v1.0/publish/pubsub/t", &[], &five_mebibytes);
    ensure!(is_refused(&answer, &[413]), "a large body: {answer:?}");
    let header = "x".repeat(64 << 10);
    let answer = send(port, "GET", "/v1.0/metadata", &[("x-large", &header)], b"");
    ensure!(is_refused(&answer, &[431, 400]), "a large header: {answer:?}");
    let many: Vec<(String, String)> =
        (0..2000).map(|n| (format!("x-{n}"), "v".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let answer = send(port, "GET", "/v1.0/metadata", &many, b"");
    ensure!(is_refused(&answer, &[431, 400]), "many headers: {answer:?}");
    let path = format!("/v1.0/state/statestore/{}", "k".repeat(64 << 10));
    let answer = send(port, "GET", &path, &[], b"");
    ensure!(is_refused(&answer, &[414, 431, 400]), "a long path: {answer:?}");
    still_serves(&node)
}

#[test]
fn an_endless_chunked_body_is_cut_off() -> Result<()> {
    let node = node("endless")?;
    let mut connection = Connection::open(node.ports.http)?;
    connection.raw(
        b"POST /v1.0/state/statestore HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    let chunk = format!("{:x}\r\n{}\r\n", 64 << 10, "x".repeat(64 << 10));
    let mut sent = 0;
    while sent < 64 << 20 {
        if connection.raw(chunk.as_bytes()).is_err() {
            break;
        }
        sent += 64 << 10;
    }
    ensure!(sent < 64 << 20, "64 MiB of one request were read");
    still_serves(&node)
}

#[test]
fn bytes_that_are_no_http() -> Result<()> {
    let node = node("garbage")?;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1.0/state/statestore HTTP/1.1\r\ncontent-length: minus\r\n\r\n",
        b"POST /v1.0/state/statestore HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1.0/state/statestore HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nxxxxx",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\xff\xff\xff",
        &[0; 1000],
    ] {
        let mut connection = Connection::open(node.ports.http)?;
        connection.raw(bytes)?;
        connection.half_close().ok();
        // An answer of 4xx and a closed connection are both fine; hanging is not.
        if let Ok(answer) = connection.response(false) {
            ensure!((400..500).contains(&answer.status), "answered {}", answer.status);
        }
    }
    for port in [node.ports.grpc, node.ports.metrics] {
        let mut connection = Connection::open(port)?;
        connection.raw(&[0xff; 500])?;
        connection.half_close().ok();
        drop(connection.response(false));
    }
    still_serves(&node)
}

#[test]
fn half_closed_and_abandoned_connections() -> Result<()> {
    let node = node("half")?;
    let body = br#"[{"key":"half","value":1}]"#;
    let head = format!(
        "POST /v1.0/state/statestore HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // Complete, then closed for writing: still deserves its answer.
    let mut connection = Connection::open(node.ports.http)?;
    connection.raw(head.as_bytes())?;
    connection.raw(body)?;
    connection.half_close()?;
    if let Ok(answer) = connection.response(false) {
        ensure!(answer.status == 204, "answered {}", answer.status);
    }
    // Half a body, then gone: nothing may be written.
    let body = br#"[{"key":"torn","value":1}]"#;
    for cut in [0, 1, body.len() - 1] {
        let mut connection = Connection::open(node.ports.http)?;
        connection.raw(head.as_bytes())?;
        connection.raw(&body[..cut])?;
        drop(connection);
    }
    ensure!(node.get("/v1.0/state/statestore/torn")?.status == 204, "half a request was applied");
    still_serves(&node)
}

#[test]
fn slow_clients_do_not_slow_others() -> Result<()> {
    let node = node("slow")?;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut connection = Connection::open(node.ports.http)?;
        connection.raw(b"GET /v1.0/metadata HTTP/1.1\r\nhost: x\r\nx-slow: ")?;
        slow.push(connection);
    }
    let watch = patience::Stopwatch::start();
    for _ in 0..20 {
        still_serves(&node)?;
    }
    ensure!(watch.elapsed() < Duration::from_secs(10), "twenty writes took {:?}", watch.elapsed());
    for connection in &mut slow {
        // Cut off by then or not, the server must not mind one more byte.
        connection.raw(b"x").ok();
    }
    drop(slow);
    still_serves(&node)
}

#[test]
fn an_app_that_answers_nonsense() -> Result<()> {
    let app = App::start(|incoming| match incoming.path.as_str() {
        "/dapr/subscribe" => Answer::status(200).body("[{\"pubsubname\": 7"),
        _ => Answer::status(200),
    })?;
    let node = Start::sidecar("nonsense").app_port(app.port).components().launch()?;
    patience::eventually("the API", || node.get("/v1.0/healthz/outbound").ok());
    still_serves(&node)?;
    let answer = node.get("/v1.0/invoke/nonsense/method/x")?;
    ensure!(answer.status == 200, "answered {}", answer.status);
    Ok(())
}

#[test]
fn paths_that_try_to_escape() -> Result<()> {
    let app = App::start(|incoming| Answer::status(200).body(incoming.path.clone()))?;
    let node = Start::sidecar("escape").app_port(app.port).components().ready()?;
    for path in [
        "/v1.0/invoke/escape/method/admin%2F..%2Fpublic",
        "/v1.0/invoke/escape/method/../../../metadata",
        "/v1.0/invoke/escape/method/a%23b",
        "/v1.0/invoke/escape/method/a%3Fb=c",
        "/v1.0/invoke/escape/method/%",
        "/v1.0/invoke/escape/method//double",
        "/v1.0/invoke/..%2f..%2fescape/method/x",
        "/v1.0/state/../secrets/x",
    ] {
        let answer = node.get(path)?;
        ensure!(answer.status < 600, "{path} answered {}", answer.status);
    }
    still_serves(&node)
}

#[test]
fn many_at_once_are_bounded_not_broken() -> Result<()> {
    let node = node("many")?;
    let port = node.ports.http;
    let outcomes: Vec<bool> = thread::scope(|scope| {
        let work: Vec<_> = (0..100)
            .map(|n| {
                scope.spawn(move || {
                    let body = json!([{ "key": format!("many-{n}"), "value": n }]).to_string();
                    let answer = send(port, "POST", "/v1.0/state/statestore", &[], body.as_bytes());
                    answer.is_ok_and(|answer| answer.status == 204)
                })
            })
            .collect();
        work.into_iter().map(|worker| worker.join().unwrap_or(false)).collect()
    });
    ensure!(
        outcomes.iter().all(|ok| *ok),
        "{} of 100 failed",
        outcomes.iter().filter(|ok| !**ok).count()
    );
    still_serves(&node)
}
