//! The layers of balancing, caching, single flight and faults around small services, in simulated time.
#![cfg(feature = "tower")]

use http::{Request, Response, StatusCode};
use outrigger_kernel::{BoxFuture, Deadline, World, within};
use outrigger_resilience::{
    Abort, BalanceSettings, Balancer, Endpoint, Fault, FaultPlan, FaultRule, Faults,
    FlightSettings, Flights, Strategy, Verdict,
    cache::{CacheSettings, Early},
    layers::{Balance, CacheLayer, Denied, FaultLayer, FlightLayer},
};
use outrigger_sim::SimWorld;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};
use tower_layer::Layer;
use tower_service::Service;

/// What goes wrong here.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Down;

/// A service made of a function, which counts its calls.
#[derive(Clone)]
struct Answers<F>(F, Arc<AtomicU32>);

impl<R, T, F> Service<R> for Answers<F>
where
    F: Fn(R, u32) -> BoxFuture<'static, Result<T, Down>>,
{
    type Response = T;
    type Error = Down;
    type Future = BoxFuture<'static, Result<T, Down>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        (self.0)(request, self.1.fetch_add(1, SeqCst) + 1)
    }
}

async fn call<S: Service<R>, R>(service: &mut S, request: R) -> Result<S::Response, S::Error> {
    std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(request).await
}

async fn send_on<T>(call: BoxFuture<'static, T>, sender: tokio::sync::oneshot::Sender<T>) {
    drop(sender.send(call.await));
}

fn world() -> Arc<dyn World> {
    SimWorld::new(1)
}

#[tokio::test(start_paused = true)]
async fn equal_requests_are_one_call() {
    let (world, calls) = (world(), Arc::<AtomicU32>::default());
    let own = Arc::clone(&world);
    let slow = Answers(
        move |request: u32, _| {
            let sleep = own.sleep(Duration::from_millis(100));
            let answer: BoxFuture<'static, Result<u32, Down>> = Box::pin(async move {
                sleep.await;
                if request == 0 { Err(Down) } else { Ok(request) }
            });
            answer
        },
        Arc::clone(&calls),
    );
    let key = |request: &u32| (*request < 10).then_some(*request);
    let layer = FlightLayer::new(Arc::clone(&world), Flights::new(FlightSettings::default()), key);
    let ask = |request: u32, times: u32| {
        let calls: Vec<_> = (0..times).map(|_| layer.layer(slow.clone()).call(request)).collect();
        async {
            let mut tasks = Vec::new();
            for one in calls {
                let (sender, receiver) = tokio::sync::oneshot::channel();
                let task: BoxFuture<'static, ()> = Box::pin(send_on(one, sender));
                drop(world.spawn("call", task));
                tasks.push(receiver);
            }
            let mut answers = Vec::new();
            for task in tasks {
                answers.push(task.await.unwrap());
            }
            answers
        }
    };
    assert_eq!(ask(7, 50).await, vec![Ok(7); 50]);
    assert_eq!(calls.load(SeqCst), 1);
    assert_eq!(ask(0, 50).await, vec![Err(Denied::Failed(Down)); 50]);
    assert_eq!(calls.load(SeqCst), 2);
    assert_eq!(ask(11, 5).await, vec![Ok(11); 5], "without a key each goes by itself");
    assert_eq!(calls.load(SeqCst), 7);
}

fn no_header<'a>(_: &'a u32, _: &str) -> Option<&'a str> {
    None
}

#[tokio::test(start_paused = true)]
async fn faults_strike_and_stop() {
    let (world, faults) = (world(), Arc::new(Faults::default()));
    let echo = |request: u32, _| -> BoxFuture<'static, Result<u32, Down>> {
        Box::pin(async move { Ok(request) })
    };
    let calls = Arc::<AtomicU32>::default();
    let answer = |said: u32, plan: FaultPlan| if plan.corrupt.is_some() { said ^ 1 } else { said };
    let layer = FaultLayer::new(Arc::clone(&world), Arc::clone(&faults), no_header, answer);
    let mut service = layer.layer(Answers(echo, Arc::clone(&calls)));
    assert_eq!(call(&mut service, 2).await, Ok(2));

    let start = |fault| {
        let rule = FaultRule { fault, share: 1.0, headers: Vec::new() };
        faults.start(vec![rule], world.mono(), Some(Duration::from_secs(60)));
    };
    start(Fault::Abort(Abort::Reset));
    assert_eq!(call(&mut service, 2).await, Err(Denied::Refused(Abort::Reset)));
    assert_eq!(calls.load(SeqCst), 1, "what is aborted never leaves");
    start(Fault::Corrupt { every: 1 });
    assert_eq!(call(&mut service, 2).await, Ok(3));
    let begun = world.mono();
    start(Fault::Delay { least: Duration::from_secs(1), most: Duration::from_secs(1) });
    assert_eq!(call(&mut service, 2).await, Ok(2));
    assert_eq!(world.mono().since(begun).as_secs(), 1);
    start(Fault::Drop);
    let deadline = Deadline(world.mono().plus(Duration::from_secs(5)));
    assert!(within(&*world, deadline, call(&mut service, 2)).await.is_err());
    world.sleep(Duration::from_secs(56)).await;
    assert_eq!(call(&mut service, 2).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn requests_go_round_and_avoid_what_fails() {
    let (world, balancer) = (
        world(),
        Balancer::new(BalanceSettings {
            strategy: Strategy::RoundRobin,
            ..BalanceSettings::default()
        }),
    );
    let counts: Vec<Arc<AtomicU32>> = (0..3).map(|_| Arc::default()).collect();
    type Answer = BoxFuture<'static, Result<usize, Down>>;
    type Make = Arc<dyn Fn((), u32) -> Answer + Send + Sync>;
    let endpoint = |n: usize| {
        let make: Make =
            Arc::new(move |(), _| Box::pin(async move { if n == 1 { Err(Down) } else { Ok(n) } }));
        Endpoint::new(format!("e{n}"), Answers(move |r, c| make(r, c), Arc::clone(&counts[n])))
    };
    let verdict = |answer: &Result<usize, Down>| {
        Some(if answer.is_ok() { Verdict::Success } else { Verdict::Failure })
    };
    let mut service = Balance::new(Arc::clone(&world), balancer.clone(), |(): &()| None, verdict);
    assert!(matches!(call(&mut service, ()).await, Err(Denied::Refused(_))));
    balancer.update((0..3).map(endpoint), world.mono());
    let mut failed = 0;
    for _ in 0..300 {
        failed += u32::from(call(&mut service, ()).await.is_err());
    }
    assert_eq!((failed, counts[1].load(SeqCst)), (5, 5), "ejected after five in a row");
    assert!(balancer.status(world.mono()).iter().all(|one| one.in_flight == 0));
}

/// An origin whose answers are set by the test, and what it was asked.
type Asked = Arc<Mutex<Vec<Option<String>>>>;

fn origin(
    world: &Arc<dyn World>,
    answers: fn(u32, bool) -> (u16, &'static str, &'static str),
) -> (
    impl Service<Request<()>, Response = Response<String>, Error = Down, Future: Send>
    + Clone
    + Send
    + 'static,
    Asked,
) {
    let (world, asked) = (Arc::clone(world), Asked::default());
    let seen = Arc::clone(&asked);
    let origin = move |request: Request<()>, number: u32| {
        let tag = request
            .headers()
            .get("if-none-match")
            .map(|tag| String::from_utf8_lossy(tag.as_bytes()).into_owned());
        let (status, control, etag) = answers(number, tag.is_some());
        seen.lock().expect("nobody panics").push(tag);
        let sleep = world.sleep(Duration::from_millis(100));
        let answer: BoxFuture<'static, Result<Response<String>, Down>> = Box::pin(async move {
            sleep.await;
            if status == 0 {
                return Err(Down);
            }
            let body = if status == 304 { String::new() } else { format!("answer {number}") };
            let response = Response::builder().status(status).header("cache-control", control);
            response.header("etag", etag).body(body).map_err(|_| Down)
        });
        answer
    };
    (Answers(origin, Arc::default()), asked)
}

fn get(headers: &[(&'static str, &str)]) -> Request<()> {
    let request = Request::get("http://shop/items");
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(()).expect("a sound request")
}

fn cache_layer(world: &Arc<dyn World>) -> CacheLayer<String, Down> {
    let settings = CacheSettings { jitter: 0.0, early: Early::Off, ..CacheSettings::default() };
    CacheLayer::new(Arc::clone(world), settings, String::len)
}

/// Status, body and age of the answers to as many equal requests at once.
async fn ask<S>(
    world: &Arc<dyn World>,
    service: &S,
    count: usize,
    headers: &[(&'static str, &str)],
) -> Vec<(StatusCode, String, u64)>
where
    S: Service<Request<()>, Response = Response<String>, Error = Down, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let mut tasks = Vec::new();
    for _ in 0..count {
        let (mut service, request) = (service.clone(), get(headers));
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let task = async move { drop(sender.send(call(&mut service, request).await)) };
        drop(world.spawn("call", Box::pin(task)));
        tasks.push(receiver);
    }
    let mut answers = Vec::new();
    for task in tasks {
        let response = task.await.expect("every task ends").expect("answered");
        let age = response.headers().get("age").and_then(|age| age.to_str().ok());
        let age = age.and_then(|age| age.parse().ok()).unwrap_or(0);
        answers.push((response.status(), response.body().clone(), age));
    }
    answers
}

#[tokio::test(start_paused = true)]
async fn a_cache_asks_once_confirms_and_rescues() {
    let world = world();
    let (origin, asked) = origin(&world, |number, conditional| match (number, conditional) {
        (1, false) => (200, "max-age=10, stale-if-error=60", "\"v1\""),
        (2, true) => (304, "max-age=10, stale-if-error=60", "\"v1\""),
        (3 | 4, true) => (0, "", ""),
        _ => (500, "", "\"?\""),
    });
    let service = cache_layer(&world).layer(origin);
    let first = ask(&world, &service, 1_000, &[]).await;
    assert!(first.iter().all(|answer| *answer == (StatusCode::OK, "answer 1".to_owned(), 0)));
    assert_eq!(asked.lock().unwrap().len(), 1, "one call for a thousand");
    world.sleep(Duration::from_secs(5)).await;
    assert_eq!(ask(&world, &service, 1, &[]).await[0].2, 5);
    let has_it = ask(&world, &service, 1, &[("if-none-match", "\"v1\"")]).await;
    assert_eq!((has_it[0].0, has_it[0].1.as_str()), (StatusCode::NOT_MODIFIED, ""));

    world.sleep(Duration::from_secs(5)).await;
    let confirmed = ask(&world, &service, 100, &[]).await;
    assert!(confirmed.iter().all(|answer| *answer == (StatusCode::OK, "answer 1".to_owned(), 0)));
    assert_eq!(*asked.lock().unwrap(), [None, Some("\"v1\"".to_owned())]);

    world.sleep(Duration::from_secs(20)).await;
    let rescued = ask(&world, &service, 100, &[]).await;
    assert!(rescued.iter().all(|answer| *answer == (StatusCode::OK, "answer 1".to_owned(), 20)));
    assert_eq!(asked.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn while_it_refreshes_nobody_waits() {
    let world = world();
    let (origin, asked) =
        origin(&world, |_, _| (200, "max-age=10, stale-while-revalidate=30", "\"v\""));
    let service = cache_layer(&world).layer(origin);
    ask(&world, &service, 1, &[]).await;
    world.sleep(Duration::from_secs(15)).await;
    let begun = world.mono();
    let stale = ask(&world, &service, 1_000, &[]).await;
    assert!(stale.iter().all(|answer| answer.1 == "answer 1") && world.mono() == begun);
    world.sleep(Duration::from_secs(1)).await;
    assert_eq!(ask(&world, &service, 1, &[]).await[0].1, "answer 2");
    assert_eq!(asked.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_shared_is_sent_for_each() {
    let world = world();
    let (origin, asked) = origin(&world, |_, _| (200, "private, max-age=10", "\"v\""));
    let service = cache_layer(&world).layer(origin);
    let answers = ask(&world, &service, 5, &[]).await;
    let mut bodies: Vec<&str> = answers.iter().map(|answer| answer.1.as_str()).collect();
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!(
        (bodies.len(), asked.lock().unwrap().len()),
        (5, 5),
        "each has an answer of its own"
    );
}
