//! What stands around the operations: tokens, origins, lists, metrics, drain, other listeners.

use crate::{
    app::App,
    http::{Connection, Response, send},
    node::{Node, Plan, listen, world},
};
use outrigger_api::{Listener, Settings, Shutdown, Surface, serve_http, serve_metrics};
use outrigger_resources::{ApiAccess, ApiProtocol, ApiRule, Configuration};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

type Headers = &'static [(&'static str, &'static str)];

async fn ask(port: u16, method: &'static str, path: &'static str, headers: Headers) -> Response {
    let asked = move || send(port, method, path, headers, b"").unwrap();
    tokio::task::spawn_blocking(asked).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens() {
    let settings = Settings { api_token: Some("right".to_owned()), ..Settings::default() };
    let node = Node::start(Plan { settings, ..Plan::default() }).await;
    let state = "/v1.0/state/statestore/a";
    for wrong in [&[][..], &[("dapr-api-token", "wrong")], &[("dapr-api-token", "")]] {
        let answer = ask(node.http, "GET", state, wrong).await;
        assert_eq!((answer.status, answer.text().as_str()), (401, "invalid api token"));
    }
    assert_eq!(ask(node.http, "GET", state, &[("dapr-api-token", "right")]).await.status, 204);
    assert_eq!(ask(node.http, "GET", "/v1.0/healthz", &[]).await.status, 204);
    assert_eq!(ask(node.http, "GET", "/v1.0/healthz/outbound", &[]).await.status, 204);
    assert_eq!(ask(node.http, "GET", "/v1.0/metadata", &[]).await.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn origins() {
    let settings = Settings {
        allowed_origins: vec!["https://good.example".to_owned()],
        ..Settings::default()
    };
    let node = Node::start(Plan { settings, ..Plan::default() }).await;
    let allow = |answer: &Response| answer.header("access-control-allow-origin").map(str::to_owned);
    const PREFLIGHT: Headers = &[
        ("origin", "https://good.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    ];
    let answer = ask(node.http, "OPTIONS", "/v1.0/state/statestore", PREFLIGHT).await;
    assert_eq!((answer.status, allow(&answer).as_deref()), (204, Some("https://good.example")));
    assert_eq!(answer.header("access-control-allow-headers"), Some("content-type"));
    let good: Headers = &[("origin", "https://good.example")];
    assert!(allow(&ask(node.http, "GET", "/v1.0/healthz", good).await).is_some());
    let bad: Headers = &[("origin", "https://bad.example")];
    assert!(allow(&ask(node.http, "GET", "/v1.0/healthz", bad).await).is_none());
    let silent = Node::start(Plan::default()).await;
    assert!(allow(&ask(silent.http, "GET", "/v1.0/healthz", good).await).is_none());
}

fn rule(name: &str, protocol: ApiProtocol) -> ApiRule {
    ApiRule { name: name.to_owned(), version: "v1".to_owned(), protocol }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists() {
    let allowed = Some(vec![rule("state", ApiProtocol::Http), rule("metadata", ApiProtocol::Http)]);
    let denied = Some(vec![rule("metadata", ApiProtocol::Http)]);
    let configuration =
        Configuration { api: ApiAccess { allowed, denied }, ..Configuration::default() };
    let node = Node::start(Plan { configuration, ..Plan::default() }).await;
    assert_eq!(ask(node.http, "GET", "/v1.0/state/statestore/a", &[]).await.status, 204);
    assert_eq!(ask(node.http, "GET", "/v1.0/metadata", &[]).await.status, 404);
    assert_eq!(ask(node.http, "POST", "/v1.0/publish/pubsub/a", &[]).await.status, 404);
    assert_eq!(ask(node.http, "GET", "/v1.0/healthz", &[]).await.status, 204);
    // With invocation off the list, a header does not bring it back.
    for path in ["/v1.0/metadata", "/anything"] {
        let answer = ask(node.http, "GET", path, &[("dapr-app-id", "compat")]).await;
        assert_eq!(answer.status, 404, "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_port_shows_little() {
    let node = Node::start(Plan::default()).await;
    let (port, listener) = listen().await;
    let serving = serve_http(Arc::clone(&node.host), Surface::Public, listener, node.stop.clone());
    let _task = node.world.spawn("public", Box::pin(serving));
    assert_eq!(ask(port, "GET", "/v1.0/healthz", &[]).await.status, 204);
    assert_eq!(ask(port, "GET", "/v1.0/metadata", &[]).await.status, 200);
    assert_eq!(ask(port, "GET", "/v1.0/state/statestore/a", &[]).await.status, 404);
    assert_eq!(ask(port, "POST", "/v1.0/shutdown", &[]).await.status, 404);
    assert_eq!(
        ask(port, "GET", "/x", &[("dapr-app-id", "compat")]).await.code(),
        "ERR_DIRECT_INVOKE"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_is_asked_for() {
    let node = Node::start(Plan::default()).await;
    assert_eq!(ask(node.http, "POST", "/v1.0/shutdown", &[]).await.status, 204);
    let force: Headers = &[("dapr-force-shutdown", "true")];
    assert_eq!(ask(node.http, "POST", "/v1.0/shutdown", force).await.status, 204);
    assert_eq!(*node.shutdowns.lock().unwrap(), [Shutdown::Graceful, Shutdown::Force]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_what_happened() {
    let node = Node::start(Plan::default()).await;
    ask(node.http, "GET", "/v1.0/state/statestore/a", &[]).await;
    ask(node.http, "GET", "/v1.0/state/nowhere/a", &[]).await;
    ask(node.http, "POST", "/v1.0/publish/pubsub/orders", &[]).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let metrics = Arc::clone(node.host.metrics.node());
    let serving = serve_metrics(metrics, Arc::clone(&node.world), listener, node.stop.clone());
    let _task = node.world.spawn("metrics", Box::pin(serving));
    let answer = ask(port, "GET", "/metrics", &[]).await;
    let text = answer.text();
    for expected in [
        "dapr_http_server_request_count{app_id=\"compat\",method=\"GET\",path=\"/v1.0/state/{store}/{key}\"} 2",
        "dapr_http_server_response_count{app_id=\"compat\",method=\"GET\",path=\"/v1.0/state/{store}/{key}\",status=\"400\"} 1",
        "dapr_component_state_count{app_id=\"compat\",namespace=\"\",component=\"statestore\",operation=\"get\",success=\"true\"} 1",
        "dapr_component_pubsub_egress_count{app_id=\"compat\",namespace=\"\",component=\"pubsub\",success=\"true\",topic=\"orders\"} 1",
        "dapr_error_code_total{app_id=\"compat\",category=\"state\",error_code=\"ERR_STATE_STORE_NOT_FOUND\"} 1",
        "outrigger_build_info{version=\"0.0.0-test\"} 1",
        "# TYPE dapr_http_server_latency histogram",
    ] {
        assert!(text.contains(expected), "{expected}\nin\n{text}");
    }
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(ask(port, "GET", "/elsewhere", &[]).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_lets_requests_finish() {
    let mut app = App::http(&world(), "").await;
    let node = Node::start(Plan { app: Some((app.port, app.protocol)), ..Plan::default() }).await;
    let (port, listener) = listen().await;
    let stop = CancellationToken::new();
    let serving = serve_http(Arc::clone(&node.host), Surface::Full, listener, stop.clone());
    let (done, drained) = tokio::sync::oneshot::channel();
    let serving = async move {
        serving.await;
        done.send(()).unwrap();
    };
    let _task = node.world.spawn("drained", Box::pin(serving));
    let asked = move || {
        let mut idle = Connection::open(port).unwrap();
        let mut busy = Connection::open(port).unwrap();
        assert_eq!(idle.request("GET", "/v1.0/healthz", &[], b"").unwrap().status, 204);
        busy.request("GET", "/v1.0/invoke/compat/method/slow", &[], b"").unwrap().text()
    };
    let asked = tokio::task::spawn_blocking(asked);
    assert_eq!(app.next().await.path, "/slow");
    stop.cancel();
    app.gate.send_replace(true);
    assert_eq!(asked.await.unwrap(), "at last");
    drained.await.expect("the server returns once everything has ended");
    assert!(Connection::open(port).is_err(), "nothing new is accepted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unix_socket() {
    let node = Node::start(Plan::default()).await;
    let path = std::env::temp_dir().join(format!("outrigger-api-{}.socket", node.http));
    let listener = Listener::Unix(tokio::net::UnixListener::bind(&path).unwrap());
    let serving = serve_http(Arc::clone(&node.host), Surface::Full, listener, node.stop.clone());
    let _task = node.world.spawn("socket", Box::pin(serving));
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    let request = b"GET /v1.0/healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    std::fs::remove_file(path).unwrap();
}

/// A connection polls itself as often as it has to, and no more: what must not happen is that it waits for a wake-up that
/// was saved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_a_body_comes() {
    let node = Node::start(Plan::default()).await;
    let port = node.http;
    tokio::task::spawn_blocking(move || {
        let item = br#"[{"key":"a","value":1}]"#;
        let head = |more: &str| {
            format!("POST /v1.0/state/statestore HTTP/1.1\r\nhost: x\r\n{more}\r\n\r\n")
        };
        let sized = head(&format!("content-length: {}", item.len()));
        let mut connection = Connection::open(port).unwrap();
        let mut answered = |pieces: &[&[u8]], answers: usize| {
            for piece in pieces {
                connection.raw(piece).unwrap();
            }
            for _ in 0..answers {
                assert_eq!(connection.response(false).unwrap().status, 204, "{pieces:?}");
            }
        };
        let whole = [sized.as_bytes(), item].concat();
        for round in 1..item.len() {
            answered(&[sized.as_bytes(), &item[..round], &item[round..]], 1);
            answered(&[&whole[..round], &whole[round..]], 1);
        }
        answered(&[&whole.repeat(20)], 20);
        let chunked = [head("transfer-encoding: chunked").as_bytes(), b"17\r\n", item].concat();
        answered(&[&chunked, b"\r\n", b"0\r\n\r\n"], 1);
        answered(&[&[&chunked[..], b"\r\n0\r\n\r\n"].concat().repeat(20)], 20);
        let waits = head(&format!("content-length: {}\r\nexpect: 100-continue", item.len()));
        answered(&[waits.as_bytes(), item], 1);
        answered(&[&[waits.as_bytes(), item].concat()], 1);
    })
    .await
    .unwrap();
}
