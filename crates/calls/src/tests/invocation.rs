//! Invocation by address: what arrives, who may, what is tried again and what is not.

use super::servers::{
    LONG, SHORT, Server, fed, hangs, patient, pieces, read_head, soon, text, write,
};
use crate::{
    AccessList,
    AppProtocol::Http,
    Body, CallError, CallPolicy, Caller, CanonicalPath, ChannelSettings, Directory, Forwarding,
    HeaderEdits, Invocation, Invoker, OutboundClient, OutboundSettings, Patience, Phase,
    Registration, Target,
    access::{Action, CallerPolicy, Operation},
    body,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use outrigger_kernel::{Deadline, World, within};
use outrigger_resilience::{Backoff, BreakerSettings, Matching, Policy, Retry, Trip};
use outrigger_sim::SimWorld;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// A directory, an invoker, and the registrations that keep apps in it.
struct Bench {
    world: Arc<SimWorld>,
    directory: Arc<Directory>,
    invoker: Arc<Invoker>,
    registrations: Vec<Registration>,
}

impl Bench {
    fn new() -> Self {
        let world = SimWorld::new(1);
        let outbound = OutboundClient::new(OutboundSettings::default(), world.clone());
        let invoker = Invoker::new(outbound, world.clone());
        Self { world, directory: Directory::new(), invoker, registrations: Vec::new() }
    }

    fn register(&mut self, app: &str, server: &Server) -> Arc<crate::AppChannel> {
        let channel = server.channel(&self.world, Http);
        self.registrations.push(self.directory.register(app, "default", channel.clone()));
        channel
    }

    fn target(&self, address: &str) -> Target {
        self.directory.resolve(address, "default").unwrap()
    }

    async fn call(&self, call: Call<'_>) -> Result<Response<Body>, CallError> {
        let path = CanonicalPath::parse(call.path)?;
        let target = self.directory.resolve(call.address, "default")?;
        soon(
            &self.world,
            self.invoker.invoke(Invocation {
                target: &target,
                caller: call.caller,
                method: call.method,
                path: &path,
                operation: None,
                query: call.query,
                headers: call.headers,
                edits: call.edits,
                body: call.body,
                policy: call.policy,
                reconnect: call.reconnect,
                patience: call.patience.unwrap_or(patient(&self.world)),
                alternates: None,
            }),
        )
        .await
    }
}

struct Call<'a> {
    address: &'a str,
    caller: Option<&'a Caller>,
    method: Method,
    path: &'a str,
    query: Option<&'a str>,
    headers: HeaderMap,
    edits: HeaderEdits<'a>,
    body: Body,
    policy: Option<&'a CallPolicy>,
    reconnect: Option<&'a Retry>,
    patience: Option<Patience>,
}

fn to(address: &str) -> Call<'_> {
    Call {
        address,
        caller: None,
        method: Method::GET,
        path: "/",
        query: None,
        headers: HeaderMap::new(),
        edits: HeaderEdits::default(),
        body: body::empty(),
        policy: None,
        reconnect: None,
        patience: None,
    }
}

fn policy(max_retries: u32, statuses: &str, breaker: Option<u64>) -> CallPolicy {
    let retry = Retry {
        backoff: Backoff::Constant { delay: Duration::from_millis(1) },
        max_retries: Some(max_retries),
        matching: Matching::parse(statuses, "").unwrap(),
    };
    let breaker = breaker.map(|failures| BreakerSettings {
        trip: Trip::ConsecutiveFailures(failures),
        ..BreakerSettings::default()
    });
    CallPolicy::new(Policy { retry: Some(retry), breaker, ..Policy::default() }, 10)
}

/// Answers with the statuses given, one after the other, the last one for ever; counts and echoes.
async fn moody(world: &Arc<SimWorld>, statuses: &'static [u16]) -> (Server, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let server = Server::http1(world, move |request| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let status = *statuses.get(number).or(statuses.last()).unwrap();
        async move {
            let sent = request.into_body().collect().await.unwrap().to_bytes();
            Response::builder().status(status).body(body::full(sent)).unwrap()
        }
    })
    .await;
    (server, asked)
}

#[tokio::test]
async fn what_the_app_sees_and_what_the_caller_sees() {
    let mut bench = Bench::new();
    let server = Server::http1(&bench.world, |request| async move {
        let mut seen: Vec<String> = request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
            .collect();
        seen.sort();
        let seen = format!("{} {}\n{}", request.method(), request.uri(), seen.join("\n"));
        Response::builder()
            .status(409)
            .header("connection", "close, x-hop")
            .header("x-hop", "1")
            .header("keep-alive", "timeout=5")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
            .body(body::full(seen))
            .unwrap()
    })
    .await;
    bench.register("orders", &server);
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "sidecar"),
        ("connection", "keep-alive, x-mine"),
        ("x-mine", "1"),
        ("upgrade", "websocket"),
        ("x-token", "secret"),
        ("x-caller", "forged"),
        ("accept", "a/b"),
        ("accept", "c/d"),
    ] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let forwarding = Forwarding::new([127, 0, 0, 1].into(), "node");
    let edits = HeaderEdits {
        remove: &[HeaderName::from_static("x-token")],
        set: vec![(HeaderName::from_static("x-caller"), HeaderValue::from_static("shop"))],
        forwarding: Some(&forwarding),
    };
    let answer = bench
        .call(Call {
            method: Method::DELETE,
            path: "a//b%2B/%7E",
            query: Some("x=%2F&y"),
            headers,
            edits,
            ..to("orders")
        })
        .await
        .unwrap();
    assert_eq!(answer.status(), 409, "an answer is an answer");
    let (head, content) = answer.into_parts();
    assert!(!head.headers.contains_key("x-hop"));
    assert!(!head.headers.contains_key("connection") && !head.headers.contains_key("keep-alive"));
    assert_eq!(head.headers.get_all("set-cookie").iter().count(), 2);
    let expected = format!(
        "DELETE /a/b%2B/~?x=%2F&y\naccept=a/b\naccept=c/d\nforwarded=for=127.0.0.1;by=127.0.0.1;\
         host=node\nhost={}\nx-caller=shop\nx-forwarded-for=127.0.0.1\nx-forwarded-host=node",
        server.address
    );
    assert_eq!(text(content).await, expected);
}

#[tokio::test]
async fn addresses_lead_where_they_say() {
    let mut bench = Bench::new();
    let echo = |request: Request<Incoming>| async move {
        let note = request.headers().get("x-note").map(|n| n.to_str().unwrap().to_owned());
        let host = request.headers()["host"].to_str().unwrap();
        Response::new(body::full(format!("{} {host} {note:?}", request.uri())))
    };
    let server = Server::http1(&bench.world, echo).await;
    bench.register("orders", &server);
    let silent = bench.directory.register_without_port("silent", "default");
    let base = format!("http://{}/base/", server.address);
    bench.directory.set_endpoints(vec![crate::HttpEndpoint {
        name: "outside".to_owned(),
        base: crate::Base::parse(&base).unwrap(),
        headers: vec![(HeaderName::from_static("x-note"), HeaderValue::from_static("hi"))],
        tls: None,
        instances: None,
    }]);
    let host = server.address;
    let plain = format!("http://{host}");
    let encoded = format!("http%3A%2F%2F{host}%2Fdeep");
    for (address, expected) in [
        ("orders", format!("/x?q {host} None")),
        ("orders.default", format!("/x?q {host} None")),
        ("outside", format!("/base/x?q {host} Some(\"hi\")")),
        (&*plain, format!("/x?q {host} None")),
        (&*encoded, format!("/deep/x?q {host} None")),
    ] {
        let answer = bench.call(Call { path: "x", query: Some("q"), ..to(address) }).await.unwrap();
        assert_eq!(text(answer.into_body()).await, expected, "{address}");
    }
    let fails = |address| bench.call(to(address));
    assert!(matches!(fails("nobody").await, Err(CallError::NotFound { .. })));
    assert!(matches!(fails("orders.elsewhere").await, Err(CallError::NotFound { .. })));
    assert!(matches!(fails("a.b.c").await, Err(CallError::BadTarget { .. })));
    assert!(matches!(fails("silent").await, Err(CallError::NoEndpoint { .. })));
    drop(silent);
    assert!(matches!(fails("silent").await, Err(CallError::NotFound { .. })));
    let shown = bench.directory.apps();
    assert_eq!(shown, [("orders".to_owned(), "default".to_owned(), 1)]);
    bench.registrations.clear();
    assert!(matches!(bench.call(to("orders")).await, Err(CallError::NotFound { .. })));
}

#[tokio::test]
async fn instances_take_turns_and_the_unreachable_and_unhealthy_are_passed_over() {
    let mut bench = Bench::new();
    let mut servers = Vec::new();
    let mut channels = Vec::new();
    for name in ["a", "b", "c"] {
        let server =
            Server::http1(&bench.world, move |_| async move { Response::new(body::full(name)) })
                .await;
        channels.push(bench.register("app", &server));
        servers.push(server);
    }
    let six = async |bench: &Bench| {
        let mut answers = String::new();
        for _ in 0..6 {
            let call = Call { method: Method::POST, ..to("app") };
            answers += &text(bench.call(call).await.unwrap().into_body()).await;
        }
        answers
    };
    assert_eq!(six(&bench).await, "abcabc");
    channels[1].set_healthy(false);
    let answers = six(&bench).await;
    assert!(!answers.contains('b') && answers.contains('a') && answers.contains('c'), "{answers}");
    channels[1].set_healthy(true);
    // The listener closes with its task; wait until nobody answers there.
    let gone = servers.remove(0);
    let address = gone.address;
    drop(gone);
    soon(&bench.world, async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let answers = six(&bench).await;
    assert!(!answers.contains('a') && answers.len() == 6, "{answers}");
    channels.iter().for_each(|channel| channel.set_healthy(false));
    let error = bench.call(to("app")).await.unwrap_err();
    assert_eq!(error.to_string(), "app is not in a healthy state: app");
}

#[tokio::test]
async fn the_access_list_judges_the_path_that_is_sent() {
    let mut bench = Bench::new();
    let (server, asked) = moody(&bench.world, &[200]).await;
    let channel = bench.register("app", &server);
    let shop = Caller {
        app_id: "shop".to_owned(),
        namespace: "default".to_owned(),
        trust_domain: "public".to_owned(),
    };
    let operation =
        |name: &str, action| Operation { name: name.to_owned(), verbs: Vec::new(), action };
    let policy = CallerPolicy {
        caller: shop.clone(),
        default: Some(Action::Allow),
        operations: vec![operation("/admin/**", Action::Deny)],
    };
    channel.set_access(Some(Arc::new(AccessList::new(Some(Action::Deny), vec![policy]))));
    let by_shop = |path| Call { path, caller: Some(&shop), ..to("app") };
    for path in ["items/a%2Fb", "a/../b"] {
        assert!(bench.call(by_shop(path)).await.is_err(), "{path}");
    }
    assert!(bench.call(by_shop("public")).await.is_ok());
    assert!(matches!(bench.call(to("app")).await, Err(CallError::Forbidden(_))), "nobody");
    for path in ["admin/x", "//admin//x", "%61dmin/x", "ADMIN/x", "admin;a=b/x", "/admin/"] {
        let refused = bench.call(by_shop(path)).await;
        assert!(matches!(refused, Err(CallError::Forbidden(_))), "{path}: {refused:?}");
    }
    for path in ["public/../admin/x", "public%2f..%2fadmin/x", "public/..;/admin/x"] {
        let refused = bench.call(by_shop(path)).await;
        assert!(matches!(refused, Err(CallError::BadPath(_))), "{path}: {refused:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "nothing refused was sent");
}

#[tokio::test]
async fn what_the_policy_names_is_tried_again_and_the_last_answer_counts() {
    let mut bench = Bench::new();
    let cases: [(&'static [u16], u16, usize); 5] = [
        (&[503, 503, 200], 200, 3),
        (&[503, 404, 200], 404, 2),
        (&[200], 200, 1),
        (&[302], 302, 1),
        (&[503], 503, 4),
    ];
    let mut servers = Vec::new();
    for (number, (statuses, status, attempts)) in cases.into_iter().enumerate() {
        let (server, asked) = moody(&bench.world, statuses).await;
        let name = format!("app-{number}");
        bench.register(&name, &server);
        servers.push(server);
        let policy = policy(3, "500-599", None);
        let answer = bench
            .call(Call {
                method: Method::POST,
                body: body::full("again and again"),
                policy: Some(&policy),
                ..to(&name)
            })
            .await
            .unwrap();
        assert_eq!(answer.status(), status, "{statuses:?}");
        assert_eq!(asked.load(Ordering::SeqCst), attempts, "{statuses:?}");
        assert_eq!(text(answer.into_body()).await, "again and again");
    }
}

#[tokio::test]
async fn a_small_body_of_known_length_is_kept_for_another_attempt_and_a_stream_is_not() {
    let mut bench = Bench::new();
    let (server, asked) = moody(&bench.world, &[503, 200, 503, 200]).await;
    bench.register("app", &server);
    let policy = policy(3, "", None);
    // Of known length, but arriving in pieces.
    let (mut feed, content) = fed();
    let content = body::streamed(http_body_util::Limited::new(content, 100));
    let known = KnownLength { content, length: 10 };
    let call = Call {
        method: Method::POST,
        body: body::streamed(known),
        policy: Some(&policy),
        ..to("app")
    };
    let (answer, ()) = tokio::join!(bench.call(call), async {
        feed.send_data(Bytes::from("01234")).await.unwrap();
        feed.send_data(Bytes::from("56789")).await.unwrap();
        drop(feed);
    });
    assert_eq!(answer.as_ref().unwrap().status(), 200);
    assert_eq!(text(answer.unwrap().into_body()).await, "0123456789");
    assert_eq!(asked.load(Ordering::SeqCst), 2);

    let stream = pieces(["a", "b"].map(|piece| Frame::data(Bytes::from(piece))));
    let call = Call { method: Method::POST, body: stream, policy: Some(&policy), ..to("app") };
    assert_eq!(bench.call(call).await.unwrap().status(), 503);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

struct KnownLength {
    content: Body,
    length: u64,
}

impl http_body::Body for KnownLength {
    type Data = Bytes;
    type Error = crate::BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, crate::BoxError>>> {
        std::pin::Pin::new(&mut self.content).poll_frame(cx)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.length)
    }
}

#[tokio::test]
async fn a_breaker_per_path_opens_and_says_so() {
    let mut bench = Bench::new();
    let (server, asked) = moody(&bench.world, &[500]).await;
    bench.register("app", &server);
    let policy = policy(0, "", Some(2));
    let call = |path, policy| Call { path, policy: Some(policy), ..to("app") };
    for _ in 0..3 {
        assert_eq!(bench.call(call("bad", &policy)).await.unwrap().status(), 500);
    }
    let error = bench.call(call("bad", &policy)).await.unwrap_err();
    assert!(matches!(error, CallError::BreakerOpen { .. }), "{error}");
    assert_eq!(bench.call(call("other", &policy)).await.unwrap().status(), 500, "another path");
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    // Streams count, too.
    let touchy = self::policy(0, "", Some(0));
    let stream = pieces([Frame::data(Bytes::from("x")), Frame::data(Bytes::from("y"))]);
    let streamed = Call { method: Method::POST, body: stream, ..call("stream", &touchy) };
    assert_eq!(bench.call(streamed).await.unwrap().status(), 500);
    assert!(matches!(
        bench.call(call("stream", &touchy)).await,
        Err(CallError::BreakerOpen { .. })
    ));
}

#[tokio::test]
async fn an_attempt_has_its_own_timeout_and_the_call_its_deadline() {
    let mut bench = Bench::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let server = Server::http1(&bench.world, move |_request| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        async move {
            if number < 2 {
                std::future::pending::<()>().await;
            }
            Response::new(body::full("third time lucky"))
        }
    })
    .await;
    bench.register("app", &server);
    let mut settings = policy(5, "", None).policy().clone();
    settings.timeout = Some(SHORT);
    let policy = CallPolicy::new(settings, 1);
    let answer = bench.call(Call { policy: Some(&policy), ..to("app") }).await.unwrap();
    assert_eq!(text(answer.into_body()).await, "third time lucky");
    assert_eq!(asked.load(Ordering::SeqCst), 3);

    asked.store(0, Ordering::SeqCst);
    let deadline = Deadline::after(&*bench.world, SHORT / 2);
    let patience = Some(Patience::until(deadline));
    let began = bench.world.mono();
    let error = bench.call(Call { policy: Some(&policy), patience, ..to("app") }).await;
    assert!(matches!(error, Err(CallError::Timeout { waiting_for: Phase::Answer, .. })));
    assert!(bench.world.mono().since(began) < LONG / 10);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_time_that_somebody_chose_takes_the_place_of_the_general_one() {
    let mut bench = Bench::new();
    let clock = bench.world.clone();
    let server = Server::http1(&bench.world, move |_request| {
        let clock = clock.clone();
        async move {
            clock.sleep(SHORT * 2).await;
            Response::new(body::empty())
        }
    })
    .await;
    let _channel = bench.register("slow", &server);
    let general = Some(Patience::moving(SHORT));
    let error = bench.call(Call { patience: general, ..to("slow") }).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
    let named = general.map(|p| p.no_later_than(Deadline::after(&*bench.world, LONG)));
    assert!(bench.call(Call { patience: named, ..to("slow") }).await.is_ok());
    let policy = CallPolicy::new(Policy { timeout: Some(LONG), ..Policy::default() }, 1);
    let call = Call { patience: general, policy: Some(&policy), ..to("slow") };
    assert!(bench.call(call).await.is_ok());
}

#[tokio::test]
async fn an_app_that_is_away_is_waited_for_and_sees_the_call_once() {
    let mut bench = Bench::new();
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let (host, port) = (address.ip().to_string(), address.port());
    let target = crate::AppTarget { protocol: Http, host, port, socket: None };
    let channel = crate::AppChannel::new(target, ChannelSettings::default(), bench.world.clone());
    bench.registrations.push(bench.directory.register("away", "default", channel));
    let reconnect = Retry {
        backoff: Backoff::Constant { delay: SHORT / 3 },
        max_retries: Some(3),
        matching: Matching::default(),
    };
    let reconnect = Some(&reconnect);

    // Nobody comes.
    let began = bench.world.mono();
    let error = bench.call(Call { reconnect, ..to("away") }).await.unwrap_err();
    assert!(matches!(error, CallError::Connect { .. }), "{error}");
    assert!(bench.world.mono().since(began) >= SHORT);
    // Without time to wait it is not waited for, and neither under a policy that has retries of its own.
    let began = bench.world.mono();
    let hurry = Patience::moving(LONG).no_later_than(Deadline::after(&*bench.world, SHORT / 6));
    let call = Call { reconnect, patience: Some(hurry), ..to("away") };
    assert!(matches!(bench.call(call).await, Err(CallError::Connect { .. })));
    let own = policy(1, "500", None);
    let call = Call { reconnect, policy: Some(&own), ..to("away") };
    assert!(matches!(bench.call(call).await, Err(CallError::Connect { .. })));
    assert!(bench.world.mono().since(began) < SHORT / 3);

    // It comes; even a body that streams is still there.
    let (mut feed, content) = fed();
    let sending = bench.call(Call { reconnect, method: Method::POST, body: content, ..to("away") });
    let (answer, _listener) = tokio::join!(sending, async {
        bench.world.sleep(SHORT / 2).await;
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        feed.send_data(Bytes::from("once")).await.unwrap();
        drop(feed);
        let (mut socket, _) = listener.accept().await.unwrap();
        let sent = super::servers::read_until(&mut socket, "\r\n0\r\n\r\n").await.unwrap();
        assert!(sent.contains("once"), "{sent}");
        // A request that was read is not sent again, whatever becomes of it.
        drop(socket);
        let second =
            within(&*bench.world, Deadline::after(&*bench.world, SHORT), listener.accept());
        assert!(second.await.is_err(), "the call came twice");
        listener
    });
    let error = answer.unwrap_err();
    assert!(matches!(error, CallError::Broken { nothing_sent: false, .. }), "{error}");
}

#[tokio::test]
async fn retries_without_number_come_to_an_end() {
    let mut bench = Bench::new();
    let (server, asked) = moody(&bench.world, &[503]).await;
    let _channel = bench.register("down", &server);
    let retry = Retry {
        backoff: Backoff::Constant { delay: SHORT / 5 },
        max_retries: None,
        matching: Matching::default(),
    };
    let policy = CallPolicy::new(Policy { retry: Some(retry), ..Policy::default() }, 1);
    let patience = Some(Patience::moving(LONG).quiet(SHORT));
    let began = bench.world.mono();
    let answer = bench.call(Call { patience, policy: Some(&policy), ..to("down") }).await.unwrap();
    assert_eq!(answer.status(), 503, "the last one counts");
    assert!(asked.load(Ordering::SeqCst) > 1);
    assert!(bench.world.mono().since(began) < LONG / 2);
}

#[tokio::test]
async fn a_connect_failure_is_retried_even_for_a_post_until_the_app_is_there() {
    let mut bench = Bench::new();
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let target = crate::AppTarget {
        protocol: Http,
        host: address.ip().to_string(),
        port: address.port(),
        socket: None,
    };
    let channel = crate::AppChannel::new(target, ChannelSettings::default(), bench.world.clone());
    bench.registrations.push(bench.directory.register("late", "default", channel));
    let policy = policy(100_000, "", None);
    let call =
        Call { method: Method::POST, body: body::full("x"), policy: Some(&policy), ..to("late") };
    let mut call = Box::pin(bench.call(call));
    assert!(hangs(&bench.world, call.as_mut()).await);
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let serve = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_head(&mut socket).await;
        write(&mut socket, "HTTP/1.1 204 No Content\r\n\r\n").await;
        socket
    };
    let (answer, _socket) = tokio::join!(call, serve);
    assert_eq!(answer.unwrap().status(), 204);
}

#[tokio::test]
async fn lengths_are_told_right_in_both_directions() {
    let mut bench = Bench::new();
    let server = Server::http1(&bench.world, |request| async move {
        let stated = request.headers().get("content-length").cloned();
        let chunked = request.headers().contains_key("transfer-encoding");
        let sent = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(body::full(format!("{stated:?} {chunked} {}", sent.len())))
    })
    .await;
    bench.register("app", &server);
    let post = |content, stated: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        if let Some(stated) = stated {
            headers.insert("content-length", HeaderValue::from_static(stated));
        }
        headers.insert("transfer-encoding", HeaderValue::from_static("gzip, chunked"));
        Call { method: Method::POST, body: content, headers, ..to("app") }
    };
    let stream = || pieces(["abc", "def"].map(|piece| Frame::data(Bytes::from(piece))));
    for (call, expected) in [
        (post(body::full("abcd"), Some("99")), "Some(\"4\") false 4"),
        (post(body::full("abcd"), None), "Some(\"4\") false 4"),
        (post(stream(), Some("4")), "None true 6"),
        (post(stream(), None), "None true 6"),
        (post(body::empty(), Some("7")), "Some(\"0\") false 0"),
    ] {
        let answer = bench.call(call).await.unwrap();
        let length = answer.headers().get("content-length").cloned();
        let content = text(answer.into_body()).await;
        assert_eq!(content, expected);
        assert_eq!(length.unwrap(), content.len().to_string().as_str());
    }
    let target = bench.target("app");
    assert_eq!(target.to_string(), "app");
}

#[tokio::test]
async fn without_an_access_list_ids_may_have_slashes() {
    let mut bench = Bench::new();
    let server = Server::http1(&bench.world, |request| async move {
        Response::new(body::full(request.uri().path().to_owned()))
    })
    .await;
    bench.register("app", &server);
    for (path, expected) in [
        ("items/a%2fb", "/items/a%2fb"),
        ("a/../b", "/a/../b"),
        ("a%5C\\b//%41", "/a%5C\\b//%41"),
        ("a//%41", "/a/A"),
    ] {
        let answer = bench.call(Call { path, ..to("app") }).await.unwrap();
        assert_eq!(text(answer.into_body()).await, expected);
    }
}
