//! Calls to apps of another process, which is a second directory behind a Unix socket here.

use super::servers::{LONG, Server, Spawner, fed, hangs, patient, pieces, soon, text};
use crate::{
    AccessList, AppChannel, AppProtocol,
    AppProtocol::{Grpc, Http},
    Body, CallError, Caller, CanonicalPath, Directory, HeaderEdits, Invocation, Invoker, Neighbour,
    OutboundClient, OutboundSettings, Patience, Registration, Relay,
    access::{Action, CallerPolicy, Operation},
    body,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use outrigger_kernel::{Deadline, Kind, TaskHandle, World};
use outrigger_sim::SimWorld;
use std::{
    convert::Infallible,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::net::UnixListener;

/// Another process: its apps, and its door.
struct Owner {
    world: Arc<SimWorld>,
    directory: Arc<Directory>,
    registrations: Vec<Registration>,
    folder: tempfile::TempDir,
    door: Option<TaskHandle>,
}

fn invoker(world: &Arc<SimWorld>) -> Arc<Invoker> {
    let outbound = OutboundClient::new(OutboundSettings::default(), world.clone());
    Invoker::new(outbound, world.clone())
}

impl Owner {
    fn new(world: &Arc<SimWorld>, protocol: AppProtocol) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::new();
        let listener = UnixListener::bind(folder.path().join("door")).unwrap();
        let relay = Arc::new(Relay::new(directory.clone(), invoker(world)));
        let spawner = world.clone();
        let door = async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let relay = relay.clone();
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let relay = relay.clone();
                    async move {
                        assert!(Relay::is_meant(request.headers()));
                        Ok::<_, Infallible>(relay.answer(request.map(body::streamed)).await)
                    }
                });
                let tasks = Spawner(spawner.clone());
                let serve = async move {
                    let socket = TokioIo::new(socket);
                    if protocol.is_http2() {
                        let server = hyper::server::conn::http2::Builder::new(tasks);
                        drop(server.serve_connection(socket, service).await);
                    } else {
                        let server = hyper::server::conn::http1::Builder::new();
                        drop(server.serve_connection(socket, service).await);
                    }
                };
                drop(spawner.spawn("door", Box::pin(serve)));
            }
        };
        let door = Some(world.spawn("doors", Box::pin(door)));
        let world = world.clone();
        Self { world, directory, registrations: Vec::new(), folder, door }
    }

    fn host(&mut self, app: &str, server: &Server, protocol: AppProtocol) -> Arc<AppChannel> {
        let channel = server.channel(&self.world, protocol);
        self.registrations.push(self.directory.register(app, "default", channel.clone()));
        channel
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("door")
    }
}

/// A process that calls, with what it knows of others.
struct Front {
    world: Arc<SimWorld>,
    directory: Arc<Directory>,
    invoker: Arc<Invoker>,
    gone: Arc<AtomicUsize>,
}

impl Front {
    fn new(world: &Arc<SimWorld>) -> Self {
        let (directory, gone) = (Directory::new(), Arc::default());
        Self { world: world.clone(), directory, invoker: invoker(world), gone }
    }

    fn way(&self, app: &str, protocol: AppProtocol, socket: PathBuf) -> Arc<AppChannel> {
        let gone = self.gone.clone();
        let on_gone = move || {
            gone.fetch_add(1, Ordering::SeqCst);
        };
        let neighbour = Neighbour::new(app, "default", on_gone);
        AppChannel::to_neighbour(protocol, socket, neighbour, self.world.clone())
    }

    fn knows(&self, app: &str, ways: Vec<Option<Arc<AppChannel>>>) {
        let named = |way| (app.to_owned(), "default".to_owned(), way);
        self.directory.set_neighbours(ways.into_iter().map(named).collect());
    }

    async fn call(&self, call: Call<'_>) -> Result<Response<Body>, CallError> {
        let path = match call.grpc {
            true => CanonicalPath::parse_grpc(call.path)?,
            false => CanonicalPath::parse(call.path)?,
        };
        let target = self.directory.resolve("app", "default")?;
        let caller = Caller {
            app_id: call.caller.to_owned(),
            namespace: "default".to_owned(),
            trust_domain: "public".to_owned(),
        };
        let invocation = Invocation {
            target: &target,
            caller: Some(&caller),
            method: call.method,
            path: &path,
            operation: None,
            query: Some("q=1"),
            headers: call.headers,
            edits: HeaderEdits::default(),
            body: call.body,
            policy: None,
            reconnect: None,
            patience: call.patience.unwrap_or(patient(&self.world)),
            alternates: None,
        };
        if call.grpc {
            return Ok(soon(&self.world, self.invoker.proxy(invocation)).await);
        }
        soon(&self.world, self.invoker.invoke(invocation)).await
    }
}

struct Call<'a> {
    caller: &'a str,
    method: Method,
    path: &'a str,
    headers: HeaderMap,
    body: Body,
    grpc: bool,
    patience: Option<Patience>,
}

impl Default for Call<'_> {
    fn default() -> Self {
        Self {
            caller: "friend",
            method: Method::GET,
            path: "/open",
            headers: HeaderMap::new(),
            body: body::empty(),
            grpc: false,
            patience: None,
        }
    }
}

fn inner(headers: &HeaderMap) -> usize {
    headers.keys().filter(|name| name.as_str().starts_with("outrigger-peer")).count()
}

async fn echo(world: &Arc<SimWorld>, name: &'static str) -> Server {
    Server::http1(world, move |request| async move {
        let line =
            format!("{name} {} {} {}", request.method(), request.uri(), inner(request.headers()));
        // An app that would pass for a process of ours.
        Response::builder()
            .header("outrigger-peer-refused", "not-found;5;unseen")
            .header("content-length", line.len())
            .body(body::full(line))
            .unwrap()
    })
    .await
}

#[tokio::test]
async fn a_call_arrives_as_it_was_and_nothing_between_the_processes_is_seen() {
    let world = SimWorld::new(1);
    let server = echo(&world, "app").await;
    let mut owner = Owner::new(&world, Http);
    owner.host("app", &server, Http);
    let front = Front::new(&world);
    front.knows("app", vec![Some(front.way("app", Http, owner.socket()))]);
    let mut headers = HeaderMap::new();
    headers.insert("outrigger-peer-caller", HeaderValue::from_static("public/default/root"));
    let answer = front.call(Call { headers, ..Call::default() }).await.unwrap();
    assert_eq!(inner(answer.headers()), 0);
    assert_eq!(text(answer.into_body()).await, "app GET /open?q=1 0");
}

#[tokio::test]
async fn the_owner_knows_who_calls_and_has_the_last_word() {
    let world = SimWorld::new(1);
    let server = echo(&world, "app").await;
    let mut owner = Owner::new(&world, Http);
    let channel = owner.host("app", &server, Http);
    let friend = Caller {
        app_id: "friend".to_owned(),
        namespace: "default".to_owned(),
        trust_domain: "public".to_owned(),
    };
    let open = Operation { name: "/open".to_owned(), verbs: Vec::new(), action: Action::Allow };
    let policy = CallerPolicy { caller: friend, default: None, operations: vec![open] };
    channel.set_access(Some(Arc::new(AccessList::new(Some(Action::Deny), vec![policy]))));
    let front = Front::new(&world);
    front.knows("app", vec![Some(front.way("app", Http, owner.socket()))]);
    assert!(front.call(Call::default()).await.is_ok());
    let spoofed = || {
        let mut headers = HeaderMap::new();
        headers.insert("outrigger-peer-caller", HeaderValue::from_static("public/default/friend"));
        headers
    };
    for call in [
        Call { path: "/closed", ..Call::default() },
        Call { caller: "stranger", ..Call::default() },
        Call { caller: "stranger", headers: spoofed(), ..Call::default() },
        Call { path: "/open/../closed", ..Call::default() },
    ] {
        let refused = front.call(call).await.unwrap_err();
        assert!(matches!(refused.kind(), Kind::Forbidden | Kind::Invalid), "{refused}");
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn grpc_streams_both_ways_with_trailers_and_what_is_left_of_the_time() {
    let world = SimWorld::new(1);
    let server = Server::http2(&world, |request| async move {
        let budget = request.headers()["grpc-timeout"].clone();
        let mut incoming = request.into_body();
        let (mut feed, content) = fed();
        let (spawner, world) = (SimWorld::new(2), SimWorld::new(3));
        let answer = async move {
            let _world = world;
            while let Some(Ok(frame)) = incoming.frame().await {
                if let Ok(data) = frame.into_data() {
                    feed.send_data(data).await.unwrap();
                }
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            trailers.insert("x-budget", budget);
            feed.send_trailers(trailers).await.unwrap();
        };
        drop(spawner.spawn("answer", Box::pin(answer)));
        Response::builder().header("content-type", "application/grpc").body(content).unwrap()
    })
    .await;
    let mut owner = Owner::new(&world, Grpc);
    owner.host("app", &server, Grpc);
    let front = Front::new(&world);
    front.knows("app", vec![Some(front.way("app", Grpc, owner.socket()))]);
    let (mut feed, content) = fed();
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    headers.insert("grpc-timeout", HeaderValue::from_static("15S"));
    let call = Call {
        method: Method::POST,
        path: "/test.Echo/Talk",
        headers,
        body: content,
        grpc: true,
        patience: Some(Patience::stream(LONG)),
        ..Call::default()
    };
    let answer = front.call(call).await.unwrap();
    assert_eq!(answer.headers().get("grpc-status"), None, "{answer:?}");
    let mut answer = answer.into_body();
    for word in ["one", "two"] {
        feed.send_data(Bytes::from(word)).await.unwrap();
        let frame = soon(&world, answer.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), word);
    }
    assert!(hangs(&world, answer.frame()).await);
    drop(feed);
    let trailers = soon(&world, answer.frame()).await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    let left = crate::grpc::parse_timeout(&trailers["x-budget"]).unwrap();
    assert!(left < Duration::from_secs(15) && left > Duration::from_secs(5), "{left:?}");
}

#[tokio::test]
async fn instances_that_cannot_take_a_call_are_passed_over() {
    let world = SimWorld::new(1);
    let (well, ill) = (echo(&world, "well").await, echo(&world, "ill").await);
    let mut owners: Vec<Owner> = (0..4).map(|_| Owner::new(&world, Http)).collect();
    owners[0].host("app", &well, Http);
    // One whose app is ill, one that does not have the app any more, one whose app does not listen, one that is gone.
    owners[1].host("app", &ill, Http).set_healthy(false);
    let deaf = Server::http1(&world, |_| async { Response::new(body::empty()) }).await;
    owners[3].host("app", &deaf, Http);
    drop(deaf);
    let gone = Owner::new(&world, Http);
    let gone_at = gone.socket();
    gone.door.unwrap().abort();
    tokio::task::yield_now().await;
    let front = Front::new(&world);
    let sockets = owners.iter().map(Owner::socket).chain([gone_at]);
    let ways: Vec<_> = sockets.map(|socket| Some(front.way("app", Http, socket))).collect();
    front.knows("app", ways.clone());
    for _ in 0..10 {
        let call = Call { method: Method::POST, body: body::full("x"), ..Call::default() };
        let answer = front.call(call).await.unwrap();
        assert_eq!(text(answer.into_body()).await, "well POST /open?q=1 0");
    }
    assert_eq!(front.gone.load(Ordering::SeqCst), 1, "asked once, and never again");
    let dead = ways[4].as_ref().unwrap();
    assert!(!dead.is_healthy());
    // Nor does an app of this process see what was meant for the door that was closed.
    let here = front.directory.register("app", "default", well.channel(&world, Http));
    for socket in ["nobody", "nobody-either"] {
        let socket = owners[0].folder.path().join(socket);
        front.knows("app", vec![Some(front.way("app", Http, socket))]);
        for _ in 0..2 {
            let answer = front.call(Call::default()).await.unwrap();
            assert_eq!(text(answer.into_body()).await, "well GET /open?q=1 0");
        }
    }
    drop(here);
    // A stream that one of them has taken is nobody else's.
    front.knows("app", vec![ways[1].clone(), ways[0].clone()]);
    let stream = || pieces([Frame::data(Bytes::from("x")), Frame::data(Bytes::new())]);
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        let call = Call { method: Method::POST, body: stream(), ..Call::default() };
        outcomes.push(front.call(call).await.is_ok());
    }
    outcomes.sort_unstable();
    assert_eq!(outcomes, [false, true]);
    // Without any that is well, the reason of the last one is told.
    front.knows("app", vec![ways[1].clone()]);
    let refused = front.call(Call::default()).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert!(refused.to_string().contains("healthy state"), "{refused}");
    front.knows("app", vec![ways[2].clone()]);
    assert_eq!(front.call(Call::default()).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn those_of_this_process_take_turns_with_those_of_others() {
    let world = SimWorld::new(1);
    let (here, there) = (echo(&world, "here").await, echo(&world, "there").await);
    let mut owner = Owner::new(&world, Http);
    owner.host("app", &there, Http);
    let front = Front::new(&world);
    front.knows("app", vec![Some(front.way("app", Http, owner.socket()))]);
    let registration = front.directory.register("app", "default", here.channel(&world, Http));
    let mut said = Vec::new();
    for _ in 0..4 {
        said.push(text(front.call(Call::default()).await.unwrap().into_body()).await);
    }
    assert_eq!(said.iter().filter(|line| line.starts_with("here")).count(), 2, "{said:?}");
    // What others ask of this process is about its own only, so that nothing goes in circles.
    assert_eq!(front.directory.hosted("app", "default").unwrap().channels().len(), 1);
    drop(registration);
    assert!(front.directory.hosted("app", "default").is_err());
    assert!(front.call(Call::default()).await.is_ok());
}

#[tokio::test]
async fn a_call_that_was_under_way_is_not_sent_again_and_its_time_counts_there_too() {
    let world = SimWorld::new(1);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let server = Server::http1(&world, move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { std::future::pending().await }
    })
    .await;
    let mut owners = [Owner::new(&world, Http), Owner::new(&world, Http)];
    owners.iter_mut().for_each(|owner| drop(owner.host("app", &server, Http)));
    let front = Front::new(&world);
    let ways = owners.iter().map(|owner| Some(front.way("app", Http, owner.socket()))).collect();
    front.knows("app", ways);
    let short = Patience::until(Deadline::after(&*world, Duration::from_millis(200)));
    let call = Call { method: Method::POST, patience: Some(short), ..Call::default() };
    let late = front.call(call).await.unwrap_err();
    assert_eq!((late.kind(), late.nothing_sent()), (Kind::Timeout, false), "{late}");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}
