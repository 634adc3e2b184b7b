//! Limits in number and time: what a call may cost, and what it may not wait for.

use super::servers::{
    LONG, SHORT, Server, fed, get, hangs, hung_up, post, read_head, read_until, send, soon,
    streaming, text, write,
};
use crate::{
    AppHealth,
    AppProtocol::{H2c, Http},
    BodyFault, CallError, ChannelSettings, Health, HttpProbe, Patience, Phase, ProbeSettings, body,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use outrigger_kernel::{Deadline, World};
use outrigger_sim::SimWorld;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;

#[tokio::test]
async fn no_more_calls_than_allowed_and_a_call_lasts_until_its_body_ends() {
    let world = SimWorld::new(1);
    let server = Server::http1(&world, |_request| async {
        let (mut feed, content) = fed();
        feed.send_data(Bytes::from("begun")).await.unwrap();
        std::mem::forget(feed);
        Response::new(content)
    })
    .await;
    let settings =
        ChannelSettings { max_concurrency: Some(2), queue: 1, ..ChannelSettings::default() };
    let channel = server.channel_with(&world, Http, settings);
    let first = send(&world, &channel, get("/")).await.unwrap();
    let second = send(&world, &channel, get("/")).await.unwrap();
    assert_eq!(channel.calls(), 2);
    let mut third = Box::pin(send(&world, &channel, get("/")));
    assert!(hangs(&world, third.as_mut()).await);
    let fourth = send(&world, &channel, get("/")).await;
    assert!(matches!(fourth, Err(CallError::Overloaded { limit: 2, waiting: 1, .. })));
    // A health probe does not queue with the rest.
    let deadline = Deadline::after(&*world, LONG);
    drop(channel.probe(get("/"), deadline).await.unwrap());
    drop(first);
    let third = soon(&world, third).await.unwrap();
    drop((second, third));
    assert_eq!(channel.calls(), 0);
}

#[tokio::test]
async fn an_app_that_does_not_answer_is_given_up_on_in_time() {
    for protocol in [Http, H2c] {
        let world = SimWorld::new(1);
        let handler = |_: Request<Incoming>| async { std::future::pending().await };
        let server = match protocol {
            Http => Server::http1(&world, handler).await,
            _ => Server::http2(&world, handler).await,
        };
        let channel = server.channel(&world, protocol);
        let began = world.mono();
        let deadline = Deadline::after(&*world, SHORT);
        let error = channel.send(post("/", "x"), deadline).await.unwrap_err();
        let took = world.mono().since(began);
        assert!(matches!(error, CallError::Timeout { waiting_for: Phase::Answer, .. }), "{error}");
        assert!((SHORT..SHORT * 8).contains(&took), "{took:?}");
        assert!(!error.nothing_sent());
        assert_eq!(channel.calls(), 0);
    }
}

#[tokio::test]
async fn a_deadline_already_past_sends_nothing() {
    let world = SimWorld::new(1);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let server = Server::http1(&world, move |_request| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Response::new(body::empty()) }
    })
    .await;
    let channel = server.channel(&world, Http);
    drop(send(&world, &channel, get("/")).await.unwrap());
    let past = Deadline(world.mono());
    let error = channel.send(get("/"), past).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
    assert!(error.nothing_sent());
    drop(send(&world, &channel, get("/")).await.unwrap());
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_slow_upload_is_not_cut_off_while_it_moves() {
    for protocol in [Http, H2c] {
        let world = SimWorld::new(1);
        let handler = |request: Request<Incoming>| async {
            let sent = request.into_body().collect().await.unwrap().to_bytes();
            Response::new(body::full(sent))
        };
        let server = match protocol {
            Http => Server::http1(&world, handler).await,
            _ => Server::http2(&world, handler).await,
        };
        let channel = server.channel(&world, protocol);
        let (mut feed, content) = fed();
        let patience = Patience::moving(SHORT * 2);
        let call = channel.send_patiently(streaming("/", content), patience);
        let (answer, ()) = tokio::join!(call, async {
            for _ in 0..6 {
                world.sleep(SHORT).await;
                feed.send_data(Bytes::from("x")).await.unwrap();
            }
            drop(feed);
        });
        assert_eq!(text(answer.unwrap().into_body()).await, "xxxxxx");

        let (feed, content) = fed();
        let error = channel.send_patiently(streaming("/", content), patience).await.unwrap_err();
        assert!(matches!(error, CallError::Timeout { .. }), "nothing moves: {error}");
        drop(feed);
    }
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up_on_later_if_silence_is_its_nature() {
    for (kind, ends) in [("application/json", true), ("text/event-stream", false)] {
        for protocol in [Http, H2c] {
            let world = SimWorld::new(1);
            let handler = move |_: Request<Incoming>| async move {
                let (mut feed, content) = fed();
                feed.send_data(Bytes::from("begun")).await.unwrap();
                std::mem::forget(feed);
                Response::builder().header("content-type", kind).body(content).unwrap()
            };
            let server = match protocol {
                Http => Server::http1(&world, handler).await,
                _ => Server::http2(&world, handler).await,
            };
            let channel = server.channel(&world, protocol);
            let patience = Patience::moving(SHORT / 2).quiet(SHORT * 3);
            let answer = channel.send_patiently(get("/"), patience).await.unwrap();
            let mut content = answer.into_body();
            assert!(content.frame().await.unwrap().is_ok());
            if !ends {
                assert!(hangs(&world, content.frame()).await, "{kind}");
            }
            let error = soon(&world, content.frame()).await.unwrap().unwrap_err();
            let fault = error.downcast_ref::<BodyFault>().unwrap();
            assert!(matches!(fault, BodyFault::Stalled { .. }), "{fault}");
            assert!(content.frame().await.is_none());
            assert_eq!(channel.calls(), 0);
        }
    }
}

#[tokio::test]
async fn an_answer_that_trickles_in_is_no_answer() {
    let world = SimWorld::new(1);
    let server = Server::raw(&world, |mut socket, _| async move {
        read_head(&mut socket).await;
        let world = SimWorld::new(2);
        // Well-formed as far as it goes, and it goes on.
        write(&mut socket, "HTTP/1.1 200 OK\r\nx: ").await;
        while tokio::io::AsyncWriteExt::write_all(&mut socket, b"y").await.is_ok() {
            world.sleep(SHORT / 10).await;
        }
    })
    .await;
    let channel = server.channel(&world, Http);
    let call = channel.send_patiently(get("/"), Patience::moving(SHORT));
    let error = soon(&world, call).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { waiting_for: Phase::Answer, .. }), "{error}");
}

#[tokio::test]
async fn a_limit_on_the_whole_call_holds_for_a_body_that_moves() {
    let world = SimWorld::new(1);
    let server = Server::raw(&world, |mut socket, _| async move {
        read_head(&mut socket).await;
        write(&mut socket, "HTTP/1.1 200 OK\r\n\r\n").await;
        let world = SimWorld::new(2);
        loop {
            world.sleep(SHORT / 10).await;
            if tokio::io::AsyncWriteExt::write_all(&mut socket, b"x").await.is_err() {
                return;
            }
        }
    })
    .await;
    let channel = server.channel(&world, Http);
    let whole = Deadline::after(&*world, SHORT * 2);
    let patience = Patience::moving(SHORT).all_by(whole);
    let answer = channel.send_patiently(get("/"), patience).await.unwrap();
    let error = soon(&world, answer.into_body().collect()).await.unwrap_err();
    let fault = error.downcast_ref::<BodyFault>().unwrap();
    assert!(matches!(fault, BodyFault::OutOfTime { .. }), "{fault}");
}

#[tokio::test]
async fn a_connection_that_does_not_come_up_is_given_up_on() {
    let world = SimWorld::new(1);
    // A server that accepts and says nothing never completes a TLS handshake.
    let server = Server::raw(&world, |mut socket, _| async move {
        hung_up(&mut socket).await;
    })
    .await;
    let settings = ChannelSettings { connect_timeout: SHORT, ..ChannelSettings::default() };
    let channel = server.channel_with(&world, crate::AppProtocol::Https, settings);
    let error = soon(&world, send(&world, &channel, get("/"))).await.unwrap_err();
    let phase = Phase::Connection;
    assert!(matches!(error, CallError::Timeout { waiting_for: p, .. } if p == phase), "{error}");
    assert!(error.nothing_sent());
}

#[tokio::test]
async fn unused_connections_are_closed_after_a_while() {
    for protocol in [Http, H2c] {
        let world = SimWorld::new(1);
        let (gone, mut going) = mpsc::channel(1);
        let closed = gone.clone();
        let server = Server::raw(&world, move |mut socket, _| {
            let closed = closed.clone();
            async move {
                if protocol == Http {
                    read_until(&mut socket, "x").await;
                    write(&mut socket, "HTTP/1.1 204 No Content\r\n\r\n").await;
                    hung_up(&mut socket).await;
                } else {
                    let service = hyper::service::service_fn(|_request| async {
                        Ok::<_, std::convert::Infallible>(Response::new(body::empty()))
                    });
                    let spawner = super::servers::Spawner(SimWorld::new(2));
                    let io = hyper_util::rt::TokioIo::new(socket);
                    let builder = hyper::server::conn::http2::Builder::new(spawner);
                    let _ended = builder.serve_connection(io, service).await;
                }
                closed.send(()).await.unwrap();
            }
        })
        .await;
        let settings = ChannelSettings { idle_for: SHORT, ..ChannelSettings::default() };
        let channel = server.channel_with(&world, protocol, settings);
        drop(send(&world, &channel, post("/", "x")).await.unwrap());
        soon(&world, going.recv()).await.unwrap();
        // And the next call makes a new one.
        drop(send(&world, &channel, post("/", "x")).await.unwrap());
        assert_eq!(server.accepted(), 2);
        drop(gone);
    }
}

#[tokio::test]
async fn waiting_for_an_app_to_open_its_port() {
    let world = SimWorld::new(1);
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let target = crate::AppTarget {
        protocol: Http,
        host: address.ip().to_string(),
        port: address.port(),
        socket: None,
    };
    let channel = crate::AppChannel::new(target, ChannelSettings::default(), world.clone());
    let mut waiting = Box::pin(channel.wait_until_open(Duration::from_millis(5)));
    assert!(hangs(&world, waiting.as_mut()).await);
    let _listener = tokio::net::TcpListener::bind(address).await.unwrap();
    soon(&world, waiting).await;
}

#[tokio::test]
async fn health_is_asked_for_and_told() {
    let world = SimWorld::new(1);
    let (well, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (is_well, count) = (well.clone(), asked.clone());
    let server = Server::http1(&world, move |request| {
        assert_eq!(request.uri().path(), "/healthz");
        count.fetch_add(1, Ordering::SeqCst);
        let status = if is_well.load(Ordering::SeqCst) { 204 } else { 503 };
        async move { Response::builder().status(status).body(body::empty()).unwrap() }
    })
    .await;
    let channel = server.channel(&world, Http);
    let settings =
        ProbeSettings { interval: Duration::from_millis(5), timeout: LONG, threshold: 3 };
    let probe = HttpProbe { channel: channel.clone(), path: "/healthz".to_owned() };
    let health = AppHealth::start(&channel, probe, settings, world.clone());
    assert!(!channel.is_healthy(), "nobody knows yet");
    let mut told = health.subscribe();
    soon(&world, async {
        while asked.load(Ordering::SeqCst) < 3 {
            world.sleep(SHORT / 30).await
        }
    })
    .await;
    assert_eq!(health.now(), Health::Unhealthy);
    well.store(true, Ordering::SeqCst);
    soon(&world, told.wait_for(|health| *health == Health::Healthy)).await.unwrap();
    assert!(channel.is_healthy());
    well.store(false, Ordering::SeqCst);
    let before = asked.load(Ordering::SeqCst);
    soon(&world, told.wait_for(|health| *health == Health::Unhealthy)).await.unwrap();
    assert!(!channel.is_healthy());
    assert!(asked.load(Ordering::SeqCst) >= before + 3, "three bad answers in a row");
    drop(health);
    soon(&world, told.changed()).await.expect_err("nobody asks any more");
}
