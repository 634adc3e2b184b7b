//! What stands between a call and its target: what an attempt is told, what is repeated, what is not let through.

use super::servers::{Server, patient, soon};
use crate::{
    AppProtocol::Http, Body, CallError, CallPolicy, CanonicalPath, Directory, HeaderEdits,
    Invocation, Invoker, OutboundClient, OutboundSettings, Phase, RETRY, Registration, Target,
    body,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header::RETRY_AFTER};
use hyper::body::Incoming;
use outrigger_resilience::{
    Backoff, BalanceSettings, BreakerSettings, BudgetSettings, BulkheadSettings, Matching, Outcome,
    OutlierSettings, Phase as Stands, Policy, Quota, Restraint, Retry, Seats, Trip, reason,
};
use outrigger_sim::SimWorld;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// An app that answers with one status after the other and keeps the headers it got.
struct Stage {
    world: Arc<SimWorld>,
    invoker: Arc<Invoker>,
    target: Target,
    seen: Arc<Mutex<Vec<HeaderMap>>>,
    _server: Server,
    _registration: Registration,
}

type Answer = (u16, Option<(&'static str, &'static str)>);

impl Stage {
    async fn new(answers: &'static [Answer]) -> Self {
        let world = SimWorld::new(1);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keeps = Arc::clone(&seen);
        let server = Server::http1(&world, move |request: Request<Incoming>| {
            let number = {
                let mut seen = keeps.lock().unwrap();
                seen.push(request.headers().clone());
                seen.len() - 1
            };
            let (status, header) = *answers.get(number).or(answers.last()).unwrap();
            async move {
                let mut answer = Response::builder().status(status);
                if let Some((name, value)) = header {
                    answer = answer.header(name, value);
                }
                answer.body(body::empty()).unwrap()
            }
        })
        .await;
        Self::with(world, server, seen)
    }

    /// One that never answers.
    async fn silent() -> Self {
        let world = SimWorld::new(1);
        let server = Server::http1(&world, |_| std::future::pending()).await;
        Self::with(world, server, Arc::default())
    }

    fn with(world: Arc<SimWorld>, server: Server, seen: Arc<Mutex<Vec<HeaderMap>>>) -> Self {
        let outbound = OutboundClient::new(OutboundSettings::default(), world.clone());
        let invoker = Invoker::new(outbound, world.clone());
        let directory = Directory::new();
        let registration = directory.register("app", "default", server.channel(&world, Http));
        let target = directory.resolve("app", "default").unwrap();
        Self { world, invoker, target, seen, _server: server, _registration: registration }
    }

    async fn call(
        &self,
        method: Method,
        headers: &[(&'static str, &'static str)],
        policy: Option<&CallPolicy>,
    ) -> Result<Response<Body>, CallError> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let path = CanonicalPath::parse("/x").unwrap();
        let call = self.invoker.invoke(Invocation {
            target: &self.target,
            caller: None,
            method,
            path: &path,
            operation: None,
            query: None,
            headers: headers.collect(),
            edits: HeaderEdits::default(),
            body: body::full("paid"),
            policy,
            reconnect: None,
            patience: patient(&self.world),
            alternates: None,
        });
        soon(&self.world, call).await
    }

    fn asked(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

fn restrained() -> Policy {
    Policy {
        retry: Some(Retry {
            backoff: Backoff::Constant { delay: Duration::from_millis(1) },
            max_retries: Some(2),
            matching: Matching::parse("500-599", "").unwrap(),
        }),
        restraint: Some(Restraint::default()),
        budget: Some(BudgetSettings::default()),
        ..Policy::default()
    }
}

#[tokio::test]
async fn an_attempt_says_what_is_left_and_which_one_it_is() {
    let stage = Stage::new(&[(503, None), (200, None)]).await;
    let policy = CallPolicy::new(restrained(), 10);
    let headers = [
        ("outrigger-timeout-ms", "5000"),
        ("outrigger-criticality", "sheddable"),
        ("outrigger-attempt", "7"),
    ];
    let answer = stage.call(Method::GET, &headers, Some(&policy)).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(!answer.headers().contains_key(RETRY));
    let seen = stage.seen.lock().unwrap();
    let left = |number: usize| -> u64 {
        seen[number]["outrigger-timeout-ms"].to_str().unwrap().parse().unwrap()
    };
    assert!(left(0) < 5_000 && left(1) <= left(0) && left(1) > 0, "{} {}", left(0), left(1));
    assert_eq!(seen[0]["outrigger-criticality"], "sheddable");
    assert!(!seen[0].contains_key("outrigger-attempt"), "the caller's seventh is our first");
    assert_eq!(seen[1]["outrigger-attempt"], "2");
    assert!(!seen[0].contains_key("grpc-timeout"), "that is gRPC's");
}

#[tokio::test]
async fn only_what_may_be_repeated_is_and_the_last_failure_says_that_it_is_the_last() {
    let key = ("idempotency-key", "k1");
    for (method, headers, all, attempts) in [
        (Method::GET, vec![], false, 3),
        (Method::POST, vec![], false, 1),
        (Method::POST, vec![key], false, 3),
        (Method::POST, vec![], true, 3),
    ] {
        let stage = Stage::new(&[(503, None)]).await;
        let policy = CallPolicy::new(restrained(), 10).repeating_all(all);
        let answer = stage.call(method.clone(), &headers, Some(&policy)).await.unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()[RETRY], "no", "{method}");
        assert_eq!(stage.asked(), attempts, "{method} {headers:?} {all}");
    }
}

#[tokio::test]
async fn a_callee_that_says_no_is_believed() {
    let stage = Stage::new(&[(503, Some(("outrigger-retry", "no")))]).await;
    let policy = CallPolicy::new(restrained(), 10);
    let answer = stage.call(Method::GET, &[], Some(&policy)).await.unwrap();
    assert_eq!((answer.status().as_u16(), stage.asked()), (503, 1));
    // A policy of the old kind asks nobody.
    let old = CallPolicy::new(Policy { restraint: None, budget: None, ..restrained() }, 10);
    let answer = stage.call(Method::POST, &[], Some(&old)).await.unwrap();
    assert_eq!((answer.status().as_u16(), stage.asked()), (503, 4));
}

#[tokio::test]
async fn over_the_limit_is_refused_with_the_limit_and_a_reload_does_not_lift_it() {
    let stage = Stage::new(&[(200, None)]).await;
    let hour = Duration::from_secs(3_600);
    let limited = Policy { rate: Some(Quota::new(1, hour)), ..Policy::default() };
    let policy = CallPolicy::new(limited.clone(), 10);
    assert!(stage.call(Method::GET, &[], Some(&policy)).await.is_ok());
    let error = stage.call(Method::GET, &[], Some(&policy)).await.unwrap_err();
    assert!(matches!(error, CallError::NotAdmitted { quota: Some(_), .. }), "{error}");
    assert!(error.nothing_sent());
    let advice: HeaderMap = error.advice().into_iter().collect();
    let seconds: u64 = advice[RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((3_000..=3_600).contains(&seconds), "{seconds}");
    assert_eq!(advice["ratelimit-policy"], "\"app\";q=1;w=3600");
    assert_eq!(advice["ratelimit"], format!("\"app\";r=0;t={seconds}"));

    let timed = Policy { timeout: Some(hour), ..limited };
    let reloaded = CallPolicy::new(timed, 10).keeping(&policy);
    let error = stage.call(Method::GET, &[], Some(&reloaded)).await.unwrap_err();
    assert!(matches!(error, CallError::NotAdmitted { .. }), "{error}");
    let raised = Policy { rate: Some(Quota::new(2, hour)), ..Policy::default() };
    let raised = CallPolicy::new(raised, 10).keeping(&reloaded);
    assert!(stage.call(Method::GET, &[], Some(&raised)).await.is_ok());
    assert_eq!(stage.asked(), 2);
}

#[tokio::test]
async fn a_reload_closes_no_breaker() {
    let settings =
        BreakerSettings { trip: Trip::ConsecutiveFailures(0), ..BreakerSettings::default() };
    let policy = Policy { breaker: Some(settings), ..Policy::default() };
    let before = CallPolicy::new(policy.clone(), 10);
    let now = outrigger_kernel::Mono(1);
    before.breakers().unwrap().get("/x").enter(now).unwrap().report(Outcome::FAILURE, now);
    let timed = Policy { timeout: Some(Duration::from_secs(1)), ..policy };
    let after = CallPolicy::new(timed.clone(), 10).keeping(&before);
    let stands = |policy: &CallPolicy| policy.breakers().unwrap().get("/x").status(now).phase;
    assert_eq!(stands(&after), Stands::Open);
    assert_eq!(stands(&CallPolicy::new(timed, 11).keeping(&after)), Stands::Closed);
}

#[tokio::test]
async fn a_bulkhead_keeps_calls_out_that_it_has_no_seat_for() {
    let stage = Stage::silent().await;
    let bulkhead =
        BulkheadSettings { seats: Seats::Fixed(1), queue_max: 0, ..BulkheadSettings::default() };
    let policy = Policy { bulkhead: Some(bulkhead), ..Policy::default() };
    let policy = CallPolicy::new(policy, 10);
    let mut first = Box::pin(stage.call(Method::GET, &[], Some(&policy)));
    assert!(futures_util::poll!(&mut first).is_pending());
    let error = stage.call(Method::GET, &[], Some(&policy)).await.unwrap_err();
    let CallError::NotAdmitted { reason, quota: None, .. } = error else { panic!("{error}") };
    assert_eq!(reason, reason::BULKHEAD_FULL);
}

#[tokio::test]
async fn a_deadline_in_a_header_holds_without_any_policy() {
    let stage = Stage::silent().await;
    let error = stage.call(Method::GET, &[("outrigger-timeout-ms", "30")], None).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { waiting_for: Phase::Answer, .. }), "{error}");

    let stage = Stage::new(&[(200, None)]).await;
    let headers = [("x-request-timeout", "20s"), ("outrigger-timeout-ms", "40000")];
    stage.call(Method::GET, &headers, None).await.unwrap();
    let seen = stage.seen.lock().unwrap();
    let left: u64 = seen[0]["outrigger-timeout-ms"].to_str().unwrap().parse().unwrap();
    assert!((10_000..20_000).contains(&left), "{left}: the earliest holds");
}

#[tokio::test]
async fn an_instance_that_fails_is_left_alone_and_one_that_is_gone_is_passed_over() {
    let world = SimWorld::new(1);
    let asked: Arc<Mutex<[usize; 2]>> = Arc::default();
    let mut servers = Vec::new();
    for (number, status) in [(0, 200), (1, 500)] {
        let asked = Arc::clone(&asked);
        let server = Server::http1(&world, move |_| {
            asked.lock().unwrap()[number] += 1;
            async move { Response::builder().status(status).body(body::empty()).unwrap() }
        });
        servers.push(server.await);
    }
    let outbound = OutboundClient::new(OutboundSettings::default(), world.clone());
    let (invoker, directory) = (Invoker::new(outbound, world.clone()), Directory::new());
    let register =
        |server: &Server| directory.register("app", "default", server.channel(&world, Http));
    let _both: Vec<Registration> = servers.iter().map(register).collect();
    let outliers = OutlierSettings { consecutive_failures: 3, ..OutlierSettings::default() };
    let settings = BalanceSettings { outliers: Some(outliers), ..BalanceSettings::default() };
    let policy = CallPolicy::new(Policy::default(), 10).balancing(Some(settings));
    let target = directory.resolve("app", "default").unwrap();
    let path = CanonicalPath::parse("/x").unwrap();
    let call = async || {
        let call = invoker.invoke(Invocation {
            target: &target,
            caller: None,
            method: Method::POST,
            path: &path,
            operation: None,
            query: None,
            headers: HeaderMap::new(),
            edits: HeaderEdits::default(),
            body: body::empty(),
            policy: Some(&policy),
            reconnect: None,
            patience: patient(&world),
            alternates: None,
        });
        soon(&world, call).await.unwrap().status()
    };
    for _ in 0..40 {
        call().await;
    }
    let [well, ill] = *asked.lock().unwrap();
    assert!(well + ill == 40 && ill <= 5, "{well} {ill}");

    // Who is gone is no reason to fail.
    let gone = servers.remove(0);
    let address = gone.address;
    drop(gone);
    soon(&world, async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..10 {
        assert_eq!(call().await, 500, "the other one answers");
    }
}
