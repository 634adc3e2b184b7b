//! gRPC passed on: metadata, messages, trailers, time budgets, and a status when the app gives none.

use super::servers::{LONG, SHORT, Server, fed, hangs, pieces, soon};
use crate::{
    AppProtocol::Grpc,
    Body, CallPolicy, CanonicalPath, ChannelSettings, Directory, HeaderEdits, Invocation, Invoker,
    OutboundClient, OutboundSettings, Patience, Registration, Target, body,
    grpc::{self, Code},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use outrigger_kernel::World;
use outrigger_resilience::{Backoff, Matching, Policy, Retry};
use outrigger_sim::SimWorld;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

struct Bench {
    world: Arc<SimWorld>,
    invoker: Arc<Invoker>,
    target: Target,
    quiet: Duration,
    _registration: Registration,
}

impl Bench {
    fn new(world: Arc<SimWorld>, server: &Server) -> Self {
        let directory = Directory::new();
        let outbound = OutboundClient::new(OutboundSettings::default(), world.clone());
        let settings = ChannelSettings::default();
        let channel = server.channel_with(&world, Grpc, settings);
        let registration = directory.register("app", "default", channel);
        let target = directory.resolve("app", "default").unwrap();
        let invoker = Invoker::new(outbound, world.clone());
        Self { world, invoker, target, quiet: LONG, _registration: registration }
    }

    async fn call(&self, headers: &[(&'static str, &'static str)], body: Body) -> Response<Body> {
        self.call_under(None, headers, body).await
    }

    async fn call_under(
        &self,
        policy: Option<&CallPolicy>,
        headers: &[(&'static str, &'static str)],
        body: Body,
    ) -> Response<Body> {
        let pair = |(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v));
        let given: HeaderMap = headers.iter().copied().map(pair).collect();
        let path = CanonicalPath::parse_grpc("/test.Echo/Talk").unwrap();
        let call = Invocation {
            target: &self.target,
            caller: None,
            method: Method::POST,
            path: &path,
            operation: None,
            query: None,
            headers: given,
            edits: HeaderEdits::default(),
            body,
            policy,
            reconnect: None,
            patience: Patience::stream(self.quiet),
            alternates: None,
        };
        soon(&self.world, self.invoker.proxy(call)).await
    }
}

fn verdict(headers: &HeaderMap) -> Option<&str> {
    headers.get("grpc-status").map(|value| value.to_str().unwrap())
}

fn ok() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

#[tokio::test]
async fn metadata_messages_and_trailers_pass_undecoded() {
    let world = SimWorld::new(1);
    let server = Server::http2(&world, |request| async move {
        assert_eq!(request.uri().path(), "/test.Echo/Talk");
        let seen = request.headers().clone();
        assert_eq!(seen["te"], "trailers");
        assert!(!seen.contains_key("grpc-timeout"));
        let sent = request.into_body().collect().await.unwrap().to_bytes();
        let mut trailers = ok();
        trailers.insert("x-back-bin", seen["x-there-bin"].clone());
        let content = pieces([Frame::data(sent), Frame::trailers(trailers)]);
        Response::builder().header("content-type", "application/grpc+proto").body(content).unwrap()
    })
    .await;
    let bench = Bench::new(world, &server);
    let headers =
        [("content-type", "application/grpc"), ("te", "trailers"), ("x-there-bin", "AAEC/w==")];
    // Not a message of any kind, and nobody minds.
    let answer = bench.call(&headers, body::full(vec![0xff, 0, 0, 1])).await;
    assert_eq!(answer.headers()["content-type"], "application/grpc+proto");
    let whole = answer.into_body().collect().await.unwrap();
    let trailers = whole.trailers().unwrap().clone();
    assert_eq!(trailers["x-back-bin"], "AAEC/w==");
    assert_eq!(verdict(&trailers), Some("0"));
    assert_eq!(&whole.to_bytes()[..], [0xff, 0, 0, 1]);
}

#[tokio::test]
async fn the_time_budget_is_passed_on_and_kept() {
    let world = SimWorld::new(1);
    let server = Server::http2(&world, |request| async move {
        let told = request.headers()["grpc-timeout"].clone();
        let left = grpc::parse_timeout(&told).unwrap();
        assert!(left <= SHORT && left > SHORT / 3, "{left:?}");
        let (mut feed, content) = fed();
        feed.send_data(Bytes::from("begun")).await.unwrap();
        std::mem::forget(feed);
        Response::new(content)
    })
    .await;
    let bench = Bench::new(world, &server);
    let answer = bench.call(&[("grpc-timeout", "150m")], body::empty()).await;
    assert!(verdict(answer.headers()).is_none());
    // The stream stands still; with the budget spent it ends with a status instead of an error.
    let whole = soon(&bench.world, answer.into_body().collect()).await.unwrap();
    let trailers = whole.trailers().unwrap();
    assert_eq!(verdict(trailers), Some("4"));
    assert!(trailers.contains_key("grpc-message"));
}

#[tokio::test]
async fn without_a_budget_a_stream_may_be_silent_but_not_for_ever() {
    let world = SimWorld::new(1);
    let server = Server::http2(&world, |_request| async move {
        let (mut feed, content) = fed();
        feed.send_data(Bytes::from("begun")).await.unwrap();
        std::mem::forget(feed);
        Response::builder().header("content-type", "application/grpc").body(content).unwrap()
    })
    .await;
    let mut bench = Bench::new(world, &server);
    bench.quiet = SHORT * 3;
    let mut content = bench.call(&[], body::empty()).await.into_body();
    assert!(content.frame().await.unwrap().is_ok());
    assert!(hangs(&bench.world, content.frame()).await);
    let last = soon(&bench.world, content.frame()).await.unwrap().unwrap();
    assert_eq!(verdict(&last.into_trailers().unwrap()), Some("4"));
}

#[tokio::test]
async fn a_call_that_is_never_answered_ends() {
    let world = SimWorld::new(1);
    let server = Server::http2(&world, |_| async { std::future::pending().await }).await;
    let mut bench = Bench::new(world, &server);
    bench.quiet = SHORT;
    // Of one message, and of a stream of them that stands still.
    let (_feed, standing) = fed();
    for request in [body::full("message"), standing] {
        let began = bench.world.mono();
        let answer = bench.call(&[], request).await;
        assert_eq!(verdict(answer.headers()), Some("4"));
        assert!(bench.world.mono().since(began) >= SHORT);
    }
    // The caller's own time counts, also when it is longer.
    let began = bench.world.mono();
    let answer = bench.call(&[("grpc-timeout", "450m")], body::full("message")).await;
    assert_eq!(verdict(answer.headers()), Some("4"));
    assert!(bench.world.mono().since(began) >= SHORT * 3);
}

#[tokio::test]
async fn retries_without_number_end_with_the_budget() {
    let world = SimWorld::new(1);
    let server = Server::http2(&world, |_request| async {
        grpc::refusal(Code::Unavailable, "not now, and not later")
    })
    .await;
    let bench = Bench::new(world, &server);
    let retry = Retry {
        backoff: Backoff::Constant { delay: Duration::from_millis(1) },
        max_retries: None,
        matching: Matching::default(),
    };
    let policy = CallPolicy::new(Policy { retry: Some(retry), ..Policy::default() }, 1);
    let headers = [("grpc-timeout", "150m")];
    let answer = bench.call_under(Some(&policy), &headers, body::full("message")).await;
    let verdict = verdict(answer.headers()).unwrap();
    assert!(["4", "14"].contains(&verdict), "{verdict}");
}

#[tokio::test]
async fn errors_are_statuses() {
    let world = SimWorld::new(1);
    let server = Server::http2(&world, |_| async { std::future::pending().await }).await;
    let mut bench = Bench::new(world, &server);
    let late = bench.call(&[("grpc-timeout", "20m")], body::empty()).await;
    assert_eq!((late.status().as_u16(), verdict(late.headers())), (200, Some("4")));
    assert_eq!(late.headers()["content-type"], "application/grpc");
    assert!(http_body::Body::is_end_stream(late.body()));

    let Target::App(instances) = &bench.target else { panic!("an app") };
    instances.channels()[0].set_healthy(false);
    let sick = bench.call(&[], body::empty()).await;
    assert_eq!(verdict(sick.headers()), Some("14"));
    let said = sick.headers()["grpc-message"].to_str().unwrap();
    assert_eq!(said, "app is not in a healthy state: app");

    let directory = Directory::new();
    let _portless = directory.register_without_port("app", "default");
    bench.target = directory.resolve("app", "default").unwrap();
    assert_eq!(verdict(bench.call(&[], body::empty()).await.headers()), Some("9"));
}

#[tokio::test]
async fn a_connection_that_breaks_in_a_stream_becomes_a_status() {
    let world = SimWorld::new(1);
    let die = Arc::new(Notify::new());
    let (dying, spawner) = (die.clone(), world.clone());
    let server = Server::raw(&world, move |socket, _| {
        let (dying, spawner) = (dying.clone(), super::servers::Spawner(spawner.clone()));
        async move {
            let service = hyper::service::service_fn(|_request| async {
                let (mut feed, content) = fed();
                feed.send_data(Bytes::from("begun")).await.unwrap();
                std::mem::forget(feed);
                Ok::<_, std::convert::Infallible>(Response::new(content))
            });
            let io = hyper_util::rt::TokioIo::new(socket);
            tokio::select! {
                _ = hyper::server::conn::http2::Builder::new(spawner).serve_connection(io, service) => {}
                () = dying.notified() => {}
            }
        }
    })
    .await;
    let bench = Bench::new(world, &server);
    let mut content = bench.call(&[], body::empty()).await.into_body();
    assert!(content.frame().await.unwrap().is_ok());
    die.notify_one();
    let last = soon(&bench.world, content.frame()).await.unwrap().unwrap();
    assert_eq!(verdict(&last.into_trailers().unwrap()), Some("14"));
    assert!(content.frame().await.is_none());
}

#[tokio::test]
async fn a_status_the_policy_names_is_tried_again() {
    let world = SimWorld::new(1);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let server = Server::http2(&world, move |_request| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        async move {
            match number {
                0 | 1 => grpc::refusal(Code::Unavailable, "not yet"),
                2 => grpc::refusal(Code::NotFound, "100% gone\n"),
                _ => unreachable!("asked too often"),
            }
        }
    })
    .await;
    let bench = Bench::new(world, &server);
    let retry = Retry {
        backoff: Backoff::Constant { delay: Duration::from_millis(1) },
        max_retries: Some(5),
        matching: Matching::parse("", "14").unwrap(),
    };
    let policy =
        CallPolicy::new(Policy { timeout: Some(LONG), retry: Some(retry), ..Policy::default() }, 1);
    let answer = bench.call_under(Some(&policy), &[], body::full("message")).await;
    assert_eq!(verdict(answer.headers()), Some("5"));
    assert_eq!(answer.headers()["grpc-message"], "100%25 gone%0A");
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    assert!(bench.world.mono().0 > 0);
}

#[test]
fn timeouts_are_read_and_written() {
    let read = |text: &'static str| grpc::parse_timeout(&HeaderValue::from_static(text));
    for (text, expected) in [
        ("1H", Some(Duration::from_secs(3600))),
        ("99999999M", Some(Duration::from_secs(99_999_999 * 60))),
        ("5S", Some(Duration::from_secs(5))),
        ("150m", Some(Duration::from_millis(150))),
        ("7u", Some(Duration::from_micros(7))),
        ("0n", Some(Duration::ZERO)),
        ("", None),
        ("S", None),
        ("123456789S", None),
        ("-1S", None),
        ("1.5S", None),
        ("5s", None),
        ("5\u{7f}", None),
    ] {
        let parsed = HeaderValue::try_from(text).ok().and_then(|v| grpc::parse_timeout(&v));
        assert_eq!(parsed, expected, "{text}");
    }
    assert_eq!(read("1S"), Some(Duration::from_secs(1)));
    for timeout in [
        Duration::ZERO,
        Duration::from_nanos(99_999_999),
        Duration::from_millis(100),
        Duration::from_secs(100),
        Duration::from_secs(1_000_000_000),
        Duration::MAX,
    ] {
        let written = grpc::format_timeout(timeout);
        let back = grpc::parse_timeout(&written).unwrap();
        assert!(back <= timeout, "{written:?}");
        let lost = (timeout - back).as_secs_f64();
        let cut = timeout == Duration::MAX;
        assert!(cut || lost <= timeout.as_secs_f64() / 1e4, "{written:?} loses {lost}");
    }
}
