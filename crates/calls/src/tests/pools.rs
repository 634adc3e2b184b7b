//! Connections as a pool keeps them: how many, for how long, and how it is noticed that nobody is at the other end.

use super::servers::{LONG, Server, get, hung_up, patient, read_head, send, soon, text, write};
use crate::{
    AppProtocol::{H2c, Http},
    Base, CallError, CallPolicy, CanonicalPath, HeaderEdits, HttpEndpoint, Invocation, Invoker,
    OutboundClient, OutboundSettings, Patience, Target, body,
    discover::FixedList,
    outgoing::Outgoing,
    wire::{Address, Pool, PoolSettings, Protocol, PulseSettings, Security},
};
use http::Response;
use outrigger_kernel::{Deadline, World, within};
use outrigger_resilience::Policy;
use outrigger_sim::SimWorld;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::Notify;

fn pool(
    world: &Arc<SimWorld>,
    server: &Server,
    protocol: Protocol,
    change: impl FnOnce(&mut PoolSettings),
) -> Arc<Pool> {
    let mut settings = PoolSettings::near(LONG, LONG);
    change(&mut settings);
    let address = Address::Host(server.address.ip().to_string(), server.address.port());
    Pool::new(address, protocol, Security::Plain, settings, Arc::clone(world) as Arc<dyn World>)
}

async fn call(pool: &Arc<Pool>, patience: Patience) -> Result<Response<crate::Body>, CallError> {
    pool.exchange(&mut Outgoing::new(get("/")).await, patience, None).await
}

#[tokio::test]
async fn no_more_lines_than_agreed_and_whoever_waits_gets_one() {
    let world = SimWorld::new(1);
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (own, seen) = (Arc::clone(&inside), Arc::clone(&most));
    let server = Server::http1(&world, move |_| {
        let (inside, most) = (Arc::clone(&own), Arc::clone(&seen));
        async move {
            most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::task::yield_now().await;
            inside.fetch_sub(1, SeqCst);
            Response::new(body::full("yes"))
        }
    })
    .await;
    let pool = pool(&world, &server, Protocol::Http1, |s| s.lines_max = Some(2));
    let calls = (0..20).map(|_| async {
        let answer = call(&pool, patient(&world)).await.unwrap();
        assert_eq!(text(answer.into_body()).await, "yes");
    });
    soon(&world, futures_util::future::join_all(calls)).await;
    assert!(most.load(SeqCst) <= 2 && server.accepted() <= 2, "{}", server.accepted());
}

#[tokio::test]
async fn a_connection_that_has_done_its_share_is_replaced() {
    let world = SimWorld::new(1);
    let answer = |_| async { Response::new(body::full("yes")) };
    let (one, two) = (Server::http1(&world, answer).await, Server::http2(&world, answer).await);
    for (server, protocol) in [(&one, Protocol::Http1), (&two, Protocol::Http2)] {
        let pool = pool(&world, server, protocol, |s| s.exchanges_max = Some(10));
        for _ in 0..48 {
            let answer = soon(&world, call(&pool, patient(&world))).await.unwrap();
            assert_eq!(text(answer.into_body()).await, "yes");
        }
        // Ten, give or take a fifth, for each.
        let made = server.accepted();
        assert!((4..=6).contains(&made), "{protocol:?}: {made} connections for 48 calls");
    }
}

#[tokio::test]
async fn a_connection_that_is_too_old_is_replaced() {
    let world = SimWorld::new(1);
    let answer = |_| async { Response::new(body::full("yes")) };
    let (one, two) = (Server::http1(&world, answer).await, Server::http2(&world, answer).await);
    for (server, protocol) in [(&one, Protocol::Http1), (&two, Protocol::Http2)] {
        let pool = pool(&world, server, protocol, |s| s.age_max = Some(Duration::ZERO));
        for _ in 0..3 {
            let answer = soon(&world, call(&pool, patient(&world))).await.unwrap();
            assert_eq!(text(answer.into_body()).await, "yes");
        }
        assert_eq!(server.accepted(), 3);
    }
}

#[tokio::test]
async fn connections_are_made_no_faster_than_agreed() {
    let world = SimWorld::new(1);
    let server = Server::raw(&world, |mut socket, _| async move {
        while read_head(&mut socket).await.is_some() {
            write(&mut socket, "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
        }
    })
    .await;
    let pool = pool(&world, &server, Protocol::Http1, |s| s.connects_per_second = Some(20));
    let began = world.mono();
    let calls = (0..25).map(|_| async { call(&pool, patient(&world)).await.unwrap() });
    soon(&world, futures_util::future::join_all(calls)).await;
    let took = world.mono().since(began);
    assert!(took >= Duration::from_millis(200), "20 at once, 5 at 20 a second: {took:?}");
    assert_eq!(server.accepted(), 25);
}

/// An HTTP/2 server that answers its first stream and then, while its socket stays open, nothing.
async fn falls_silent(world: &Arc<SimWorld>) -> (Server, Arc<AtomicBool>) {
    let silent = Arc::<AtomicBool>::default();
    let (falls, clock) = (Arc::clone(&silent), Arc::clone(world));
    let server = Server::raw(world, move |socket, number| {
        let (falls, clock) = (Arc::clone(&falls), Arc::clone(&clock));
        async move {
            let mut connection = h2::server::handshake(socket).await.unwrap();
            while let Some(stream) = connection.accept().await {
                let Ok((_request, mut respond)) = stream else { return };
                respond.send_response(Response::new(()), true).unwrap();
                if number == 0 {
                    // What is to be sent is, and what comes is not read any more.
                    let flush = std::future::poll_fn(|cx| connection.poll_closed(cx));
                    let moment = Deadline::after(&*clock, Duration::from_millis(50));
                    drop(within(&*clock, moment, flush).await);
                    falls.store(true, SeqCst);
                    std::future::pending::<()>().await;
                }
            }
        }
    })
    .await;
    (server, silent)
}

#[tokio::test]
async fn a_peer_that_does_not_answer_any_more_is_noticed_while_calls_wait() {
    let world = SimWorld::new(1);
    let (server, silent) = falls_silent(&world).await;
    let quick = PulseSettings {
        after: Duration::from_millis(200),
        within: Duration::from_millis(200),
        again: Duration::from_millis(200),
    };
    let pool = pool(&world, &server, Protocol::Http2, |s| s.pulse = Some(quick));
    soon(&world, call(&pool, patient(&world))).await.unwrap();
    while !silent.load(SeqCst) {
        tokio::task::yield_now().await;
    }
    let began = world.mono();
    let broken = soon(&world, call(&pool, patient(&world))).await.unwrap_err();
    let took = world.mono().since(began);
    assert!(matches!(broken, CallError::Broken { nothing_sent: false, .. }), "{broken}");
    assert!(took < Duration::from_secs(5), "twice 200 ms, and what the machine takes: {took:?}");
    soon(&world, call(&pool, patient(&world))).await.unwrap();
    assert_eq!(server.accepted(), 2, "the next one goes elsewhere");
}

#[tokio::test]
async fn a_peer_that_only_takes_its_time_is_left_alone() {
    let world = SimWorld::new(1);
    let slow = Arc::new(Notify::new());
    let ready = Arc::clone(&slow);
    let server = Server::http2(&world, move |_| {
        let ready = Arc::clone(&ready);
        async move {
            ready.notified().await;
            Response::new(body::full("at last"))
        }
    })
    .await;
    let moment = Duration::from_millis(20);
    let pulse = PulseSettings { after: moment, within: LONG, again: moment };
    let pool = pool(&world, &server, Protocol::Http2, |s| s.pulse = Some(pulse));
    let waiting = call(&pool, patient(&world));
    let enough = async {
        // Many questions are asked and answered meanwhile.
        world.sleep(moment * 20).await;
        slow.notify_one();
    };
    let (answer, ()) = soon(&world, async { tokio::join!(waiting, enough) }).await;
    assert_eq!(text(answer.unwrap().into_body()).await, "at last");
}

#[tokio::test]
async fn an_app_that_was_not_reached_counts_as_away_for_a_while() {
    let world = SimWorld::new(1);
    let server = Server::http1(&world, |_| async { Response::new(body::empty()) }).await;
    let channel = server.channel(&world, Http);
    send(&world, &channel, get("/")).await.unwrap();
    assert!(!channel.is_away());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    channel.set_port(nobody);
    send(&world, &channel, get("/")).await.unwrap_err();
    assert!(channel.is_away());
    channel.set_port(server.address.port());
    send(&world, &channel, get("/")).await.unwrap();
    assert!(!channel.is_away());
    let h2c = server.channel(&world, H2c);
    assert!(!h2c.is_away(), "nobody has called yet");
}

#[tokio::test]
async fn a_host_with_several_addresses_is_reached_at_the_one_that_listens() {
    let world = SimWorld::new(1);
    let server = Server::raw(&world, |mut socket, _| async move {
        let head = read_head(&mut socket).await.unwrap();
        assert!(head.contains("host: localhost:"), "{head}");
        write(&mut socket, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes").await;
        hung_up(&mut socket).await;
    })
    .await;
    let client = OutboundClient::new(OutboundSettings::default(), Arc::clone(&world) as _);
    // It listens on one family only; the name has both on most machines.
    let base = Base::parse(&format!("http://localhost:{}", server.address.port())).unwrap();
    let answer = soon(&world, client.send(&base, None, get("/x"), patient(&world))).await.unwrap();
    assert_eq!(text(answer.into_body()).await, "yes");
}

#[tokio::test]
async fn a_service_at_several_places_is_called_by_its_own_name_wherever_it_answers() {
    let world = SimWorld::new(1);
    let named = |name: &'static str| {
        move |request: http::Request<hyper::body::Incoming>| async move {
            let host = request.headers()["host"].to_str().unwrap().to_owned();
            Response::new(body::full(format!("{name} {host} {}", request.uri())))
        }
    };
    let one = Server::http1(&world, named("one")).await;
    let two = Server::http1(&world, named("two")).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let list = format!("{}, {} weight=2, {nobody}", one.address, two.address);
    let places = FixedList::parse(&list).unwrap();
    let client = OutboundClient::new(OutboundSettings::default(), Arc::clone(&world) as _);
    let base = Base::parse("http://shop.example/base").unwrap();
    let instances = Some(client.instances("shop", &base, None, places.places()));
    let name = "shop".to_owned();
    let endpoint = HttpEndpoint { name, base, headers: Vec::new(), tls: None, instances };
    let target = Target::Endpoint(Arc::new(endpoint));
    let invoker = Invoker::new(client, Arc::clone(&world) as _);
    let balanced = CallPolicy::new(Policy::default(), 10).balancing(Some(Default::default()));
    let path = CanonicalPath::parse("x").unwrap();
    for policy in [None, Some(&balanced)] {
        let mut answers = std::collections::BTreeSet::new();
        for _ in 0..40 {
            let answer = invoker.invoke(Invocation {
                target: &target,
                caller: None,
                method: http::Method::POST,
                path: &path,
                operation: None,
                query: None,
                headers: http::HeaderMap::new(),
                edits: HeaderEdits::default(),
                body: body::full("{}"),
                policy,
                reconnect: None,
                alternates: None,
                patience: patient(&world),
            });
            let answer = soon(&world, answer).await.unwrap();
            answers.insert(text(answer.into_body()).await);
        }
        let answers: Vec<_> = answers.into_iter().collect();
        assert_eq!(answers, ["one shop.example /base/x", "two shop.example /base/x"]);
    }
}
