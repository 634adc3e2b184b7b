//! Calling apps: what goes along, what comes back, what is refused.

use crate::{
    app::App,
    http::{Response, send},
    node::{Node, Plan, world},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use outrigger_api::{AppConnection, AppHealthCheck, CallPolicies, Components, Settings, watch_app};
use outrigger_calls::CallPolicy;
use outrigger_calls::{
    AccessList, Caller,
    access::{Action, CallerPolicy, Operation},
};
use outrigger_resilience::{Backoff, Matching, Policy, Quota, Retry};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

async fn ask(
    port: u16,
    method: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    body: &'static str,
) -> Response {
    tokio::task::spawn_blocking(move || {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        send(port, method, path, &headers, body.as_bytes()).unwrap()
    })
    .await
    .unwrap()
}

fn of(app: &App) -> Option<(u16, outrigger_calls::AppProtocol)> {
    Some((app.port, app.protocol))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_towards_the_app() {
    let mut app = App::http(&world(), "").await;
    let settings = Settings { api_token: Some("ours".to_owned()), ..Settings::default() };
    let plan = Plan { settings, app: of(&app), app_token: Some("theirs"), ..Plan::default() };
    let node = Node::start(plan).await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = vec![
        ("dapr-api-token", "ours".to_owned()),
        ("traceparent", traceparent.to_owned()),
        ("tracestate", "vendor=1".to_owned()),
        ("baggage", "user=7".to_owned()),
        ("connection", "x-private".to_owned()),
        ("x-private", "1".to_owned()),
        ("x-public", "2".to_owned()),
        ("dapr-caller-app-id", "somebody-else".to_owned()),
    ];
    let answer =
        ask(node.http, "POST", "/v1.0/invoke/compat/method/echo?a=1", headers, "hello").await;
    assert_eq!((answer.status, answer.text().as_str()), (201, "hello"));
    let told = answer.header("traceparent").unwrap();
    assert!(told.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{told}");
    let seen = app.next().await;
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/echo?a=1"));
    assert_eq!(seen.header("dapr-api-token"), "theirs");
    assert_eq!(seen.header("dapr-caller-app-id"), "compat");
    assert_eq!(seen.header("dapr-callee-app-id"), "compat");
    assert_eq!((seen.header("x-private"), seen.header("x-public")), ("", "2"));
    assert_eq!((seen.header("tracestate"), seen.header("baggage")), ("vendor=1", "user=7"));
    let parent = seen.header("traceparent");
    assert!(parent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && parent.ends_with("-01"));
    assert_ne!(parent, traceparent, "the app's parent is our span, not our caller's");
    let spans = node.spans.0.lock().unwrap();
    let span = spans.first().expect("a sampled request leaves a span");
    assert_eq!(span.parent, Some(0x00f0_67aa_0ba9_02b7));
    assert_eq!(parent, span.context.to_string());
    assert_eq!(span.name, "InvokeService");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_target_by_header_and_by_basic_authentication() {
    let mut app = App::http(&world(), "").await;
    let node = Node::start(Plan { app: of(&app), ..Plan::default() }).await;
    let named = vec![("dapr-app-id", "compat".to_owned())];
    assert_eq!(ask(node.http, "GET", "/path?x=%20", named, "").await.text(), "/path?x=%20");
    assert_eq!(app.next().await.header("dapr-app-id"), "");
    let basic = format!("Basic {}", STANDARD.encode("dapr-app-id:compat"));
    let basic = vec![("authorization", basic)];
    assert_eq!(ask(node.http, "GET", "/path", basic, "").await.text(), "/path");
    assert_eq!(app.next().await.header("authorization"), "");
    // Somebody's own credentials are no target.
    let own = vec![("authorization", format!("Basic {}", STANDARD.encode("user:secret")))];
    assert_eq!(ask(node.http, "GET", "/path", own, "").await.status, 404);
    // A route is a route, whatever the header says.
    let named = vec![("dapr-app-id", "compat".to_owned())];
    assert_eq!(ask(node.http, "GET", "/v1.0/healthz", named, "").await.status, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absolute_url() {
    let mut app = App::http(&world(), "").await;
    let node = Node::start(Plan::default()).await;
    let path: &'static str =
        format!("/v1.0/invoke/http%3A%2F%2F127.0.0.1%3A{}/method/path?b=2", app.port).leak();
    let answer = ask(node.http, "GET", path, vec![("dapr-api-token", "x".to_owned())], "").await;
    assert_eq!(answer.text(), "/path?b=2");
    let seen = app.next().await;
    assert_eq!((seen.header("dapr-api-token"), seen.header("dapr-caller-app-id")), ("", ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_stream_both_ways() {
    let app = App::http(&world(), "").await;
    let node = Node::start(Plan { app: of(&app), ..Plan::default() }).await;
    let port = node.http;
    // The app sends back what comes as it comes. The first piece is there before the second is sent, and in the end more
    // has gone through than anybody on the way may hold.
    tokio::task::spawn_blocking(move || {
        let mut writing = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut reading = BufReader::new(writing.try_clone().unwrap());
        let head = "POST /v1.0/invoke/compat/method/stream HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
        writing.write_all(head.as_bytes()).unwrap();
        writing.write_all(b"5\r\nfirst\r\n").unwrap();
        let mut line = String::new();
        while line != "first\r\n" {
            line.clear();
            assert_ne!(reading.read_line(&mut line).unwrap(), 0, "the answer ended early");
        }
        let came = std::thread::scope(|threads| {
            let writer = threads.spawn(move || {
                let piece = vec![b'x'; 1 << 20];
                for _ in 0..32 {
                    writing.write_all(b"100000\r\n").unwrap();
                    writing.write_all(&piece).unwrap();
                    writing.write_all(b"\r\n").unwrap();
                }
                writing.write_all(b"0\r\n\r\n").unwrap();
            });
            let mut came = 0_usize;
            let mut buffer = vec![0; 1 << 16];
            while came < 32 << 20 {
                let count = reading.read(&mut buffer).unwrap();
                came += buffer[..count].iter().filter(|byte| **byte == b'x').count();
            }
            writer.join().unwrap();
            came
        });
        assert_eq!(came, 32 << 20);
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_speaks_grpc() {
    let mut app = App::grpc(&world()).await;
    let node = Node::start(Plan { app: of(&app), ..Plan::default() }).await;
    let headers = vec![("content-type", "text/plain".to_owned()), ("x-mine", "1".to_owned())];
    let answer = ask(node.http, "PUT", "/v1.0/invoke/compat/method/do?q=1", headers, "hi").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "hi"));
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    let seen = app.next().await;
    assert_eq!((seen.path.as_str(), &*seen.body), ("do", &b"hi"[..]));
    assert_eq!((seen.header("dapr-caller-app-id"), seen.header("x-mine")), ("compat", "1"));
    let answer = ask(node.http, "GET", "/v1.0/invoke/compat/method/refuse", vec![], "").await;
    assert_eq!((answer.status, answer.json()["message"].as_str()), (404, Some("no such thing")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_lists_and_health_refuse() {
    let app = App::http(&world(), "").await;
    let node = Node::start(Plan { app: of(&app), ..Plan::default() }).await;
    let channel = node.host.app.clone().unwrap();
    channel.set_access(Some(Arc::new(AccessList::new(Some(Action::Deny), Vec::new()))));
    let answer = ask(node.http, "GET", "/v1.0/invoke/compat/method/path", vec![], "").await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "ERR_DIRECT_INVOKE"));
    // A policy names its caller whole; without a namespace of its own an app is in "default".
    let operation =
        Operation { name: "/teapot".to_owned(), verbs: Vec::new(), action: Action::Deny };
    let policy = CallerPolicy {
        caller: Caller {
            app_id: "compat".to_owned(),
            namespace: "default".to_owned(),
            trust_domain: "public".to_owned(),
        },
        default: Some(Action::Allow),
        operations: vec![operation],
    };
    channel.set_access(Some(Arc::new(AccessList::new(None, vec![policy]))));
    let answer = ask(node.http, "GET", "/v1.0/invoke/compat/method/teapot", vec![], "").await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "ERR_DIRECT_INVOKE"));
    let answer = ask(node.http, "GET", "/v1.0/invoke/compat/method/path", vec![], "").await;
    assert_eq!(answer.status, 200);
    channel.set_access(None);
    channel.set_healthy(false);
    let answer = ask(node.http, "GET", "/v1.0/invoke/compat/method/path", vec![], "").await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "ERR_DIRECT_INVOKE"));
    assert!(answer.text().contains("app is not in a healthy state"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_asked_over_both_protocols() {
    let world = world();
    for app in [App::http(&world, "").await, App::grpc(&world).await] {
        let check =
            AppHealthCheck { interval: Duration::from_millis(10), ..AppHealthCheck::default() };
        let connection = AppConnection { health: Some(check), ..AppConnection::default() };
        let settings = Settings { app: connection, ..Settings::default() };
        let node = Node::start(Plan { settings, app: of(&app), ..Plan::default() }).await;
        let health = watch_app(&node.host).expect("the settings ask for it");
        let mut verdicts = health.subscribe();
        let healthy = verdicts.wait_for(|verdict| *verdict == outrigger_calls::Health::Healthy);
        healthy.await.unwrap();
        assert!(node.host.metrics.node().text().contains("dapr_http_healthprobes_completed_count"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_named_by_the_client_is_kept() {
    let app = App::http(&world(), "").await;
    let node = Node::start(Plan { app: of(&app), ..Plan::default() }).await;
    let headers = vec![("request-timeout", "0.05".to_owned())];
    let answer = ask(node.http, "GET", "/v1.0/invoke/compat/method/slow", headers, "").await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "ERR_DIRECT_INVOKE"));
    let later = ask(node.http, "GET", "/v1.0/invoke/compat/method/slow", vec![], "");
    app.gate.send_replace(true);
    assert_eq!(later.await.text(), "at last");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_policies_do_is_counted() {
    let app = App::http(&world(), "").await;
    let node = Node::start(Plan { app: of(&app), ..Plan::default() }).await;
    let retry = Retry {
        backoff: Backoff::Constant { delay: Duration::from_millis(1) },
        max_retries: Some(2),
        matching: Matching::parse("418", "").unwrap(),
    };
    let policy = Policy { retry: Some(retry), ..Policy::default() };
    let mut components = Components::clone(&node.host.components.load());
    components.resiliencies = vec!["rules".to_owned()];
    components.calls = CallPolicies::new(BTreeMap::new(), Some(CallPolicy::new(policy, 100)));
    node.host.use_components(Arc::new(components));
    let answer = ask(node.http, "GET", "/v1.0/invoke/compat/method/teapot", vec![], "").await;
    assert_eq!(answer.status, 418);
    let text = node.host.metrics.node().text();
    let labels = "app_id=\"compat\",namespace=\"\",flow_direction=\"outbound\",name=\"rules\",policy=\"retry\",status=\"\",target=\"app_compat\"";
    for line in [
        "dapr_resiliency_loaded{app_id=\"compat\",namespace=\"\",name=\"rules\"} 1\n".to_owned(),
        format!("dapr_resiliency_count{{{labels}}} 1\n"),
        format!("dapr_resiliency_activations_total{{{labels}}} 2\n"),
        "dapr_runtime_component_init_total{app_id=\"compat\",component=\"statestore\"} 1\n"
            .to_owned(),
    ] {
        assert!(text.contains(&line), "{line}{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_over_its_limit_is_told_when_to_come_back() {
    let app = App::http(&world(), "").await;
    let node = Node::start(Plan { app: of(&app), ..Plan::default() }).await;
    let limited =
        Policy { rate: Some(Quota::new(1, Duration::from_secs(3_600))), ..Policy::default() };
    let under = |policy: Policy| {
        let mut components = Components::clone(&node.host.components.load());
        components.calls = CallPolicies::new(BTreeMap::new(), Some(CallPolicy::new(policy, 100)));
        let components = components.keeping(&node.host.components.load());
        node.host.use_components(Arc::new(components));
    };
    under(limited.clone());
    let call = || ask(node.http, "GET", "/v1.0/invoke/compat/method/echo", vec![], "");
    assert_eq!(call().await.status, 201);
    let refused = call().await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "ERR_DIRECT_INVOKE"));
    assert_eq!(refused.header("ratelimit-policy"), Some("\"compat\";q=1;w=3600"));
    assert!(
        refused.header("ratelimit").is_some_and(|value| value.starts_with("\"compat\";r=0;t="))
    );
    assert!(refused.header("retry-after").is_some_and(|value| value.parse::<u64>().is_ok()));
    // Reading the same once more, or more of it, does not let anybody in.
    under(Policy { timeout: Some(Duration::from_secs(5)), ..limited });
    assert_eq!(call().await.status, 429);
    let counted = "outrigger_policy_decisions_total{app_id=\"compat\",namespace=\"\",flow_direction=\"outbound\",reason=\"rate.limited\",target=\"app_compat\"} 2\n";
    let text = node.host.metrics.node().text();
    assert!(text.contains(counted), "{text}");
    under(Policy { timeout: Some(Duration::from_secs(5)), ..Policy::default() });
    assert_eq!(call().await.status, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_starts_again_is_not_missed() {
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let app = Some((address.port(), outrigger_calls::AppProtocol::Http));
    let node = Node::start(Plan { app, ..Plan::default() }).await;
    let asking = ask(node.http, "POST", "/v1.0/invoke/compat/method/echo", vec![], "hello");
    let (answer, ()) = tokio::join!(asking, async {
        // Long enough for the first attempt to find nobody; were it not, the test would only say less.
        node.world.sleep(Duration::from_millis(200)).await;
        let listener = std::net::TcpListener::bind(address).unwrap();
        let serving = tokio::task::spawn_blocking(move || {
            let (socket, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(socket.try_clone().unwrap());
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                reader.read_line(&mut line).unwrap();
            }
            (&socket).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nback").unwrap();
        });
        serving.await.unwrap();
    });
    assert_eq!((answer.status, answer.text().as_str()), (200, "back"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_takes_nothing_of_its_answer_is_given_up() {
    let app = App::http(&world(), "").await;
    let settings = Settings { stream_silence: Duration::from_millis(200), ..Settings::default() };
    let node = Node::start(Plan { settings, app: of(&app), ..Plan::default() }).await;
    let socket = tokio::net::TcpStream::connect(("127.0.0.1", node.http)).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(socket);
    let spawner = hyper_util::rt::TokioExecutor::new();
    // The connection is alive and answers pings; only the stream's window is never opened again.
    let (mut caller, connection) =
        hyper::client::conn::http2::handshake(spawner, io).await.unwrap();
    let _driven = node.world.spawn("caller", Box::pin(async { drop(connection.await) }));
    let uri = "http://x/v1.0/invoke/compat/method/endless";
    let body = http_body_util::Empty::<bytes::Bytes>::new();
    let request = ::http::Request::get(uri).body(body).unwrap();
    let answer = caller.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let channel = node.host.app.clone().unwrap();
    assert_eq!(channel.calls(), 1);
    while channel.calls() > 0 {
        node.world.sleep(Duration::from_millis(20)).await;
    }
    drop(answer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_has_gone_is_not_worked_for() {
    let mut app = App::http(&world(), "").await;
    let node = Node::start(Plan { app: of(&app), ..Plan::default() }).await;
    let mut caller = TcpStream::connect(("127.0.0.1", node.http)).unwrap();
    caller.write_all(b"GET /v1.0/invoke/compat/method/slow HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert_eq!(app.next().await.path, "/slow");
    let channel = node.host.app.clone().unwrap();
    assert_eq!(channel.calls(), 1);
    drop(caller);
    while channel.calls() > 0 {
        node.world.sleep(Duration::from_millis(20)).await;
    }
}
