//! HTTP/2 with an app: many calls on one connection, both ways at once, and connections that go away in every way.

use super::servers::{Server, Spawner, fed, get, pieces, post, send, soon, streaming, text};
use crate::{AppProtocol::H2c, BodyFault, CallError, body};
use bytes::Bytes;
use h2::{Reason, server};
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use outrigger_kernel::World;
use outrigger_sim::SimWorld;
use std::{convert::Infallible, sync::Arc};
use tokio::{
    net::TcpStream,
    sync::{Notify, Semaphore, mpsc},
};

#[tokio::test]
async fn many_calls_share_one_connection() {
    let world = SimWorld::new(1);
    // Answers only once all are there, so they must be under way at the same time.
    let all = Arc::new(tokio::sync::Barrier::new(50));
    let server = Server::http2(&world, move |request| {
        let all = Arc::clone(&all);
        async move {
            assert_eq!(request.uri().scheme_str(), Some("http"));
            let host = request.uri().authority().unwrap().to_string();
            assert!(!request.headers().contains_key("host"));
            let sent = request.into_body().collect().await.unwrap().to_bytes();
            all.wait().await;
            Response::new(body::full(format!("{host} {}", String::from_utf8_lossy(&sent))))
        }
    })
    .await;
    let channel = server.channel(&world, H2c);
    let calls = (0..50).map(|n| {
        let (world, channel, host) = (&world, &channel, server.address);
        async move {
            let answer = send(world, channel, post("/", format!("{n}"))).await.unwrap();
            assert_eq!(text(answer.into_body()).await, format!("{host} {n}"));
        }
    });
    soon(&world, futures_util::future::join_all(calls)).await;
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn trailers_and_lengths_pass() {
    let world = SimWorld::new(1);
    let server = Server::http2(&world, |request| async move {
        let length = request.headers().get("content-length").cloned();
        let sent = request.into_body().collect().await.unwrap();
        let mut trailers = sent.trailers().cloned().unwrap_or_default();
        trailers.insert("x-length", length.unwrap_or(HeaderValue::from_static("none")));
        Response::new(pieces([Frame::data(sent.to_bytes()), Frame::trailers(trailers)]))
    })
    .await;
    let channel = server.channel(&world, H2c);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum-bin", HeaderValue::from_static("AAECAw"));
    let content = pieces([Frame::data(Bytes::from("body")), Frame::trailers(trailers)]);
    let answer = send(&world, &channel, streaming("/", content)).await.unwrap();
    let whole = answer.into_body().collect().await.unwrap();
    let trailers = whole.trailers().unwrap();
    assert_eq!(
        (&trailers["x-sum-bin"], &trailers["x-length"]),
        (&HeaderValue::from_static("AAECAw"), &HeaderValue::from_static("none"),)
    );
    assert_eq!(whole.to_bytes(), "body");
    let answer = send(&world, &channel, post("/", "")).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "");
}

#[tokio::test]
async fn a_stream_goes_both_ways_at_once_and_ends_when_either_side_wants() {
    let world = SimWorld::new(1);
    let server = Server::http2(&world, |request| async move {
        Response::new(body::streamed(request.into_body()))
    })
    .await;
    let channel = server.channel(&world, H2c);
    let (mut feed, content) = fed();
    let answer = soon(&world, send(&world, &channel, streaming("/", content))).await.unwrap();
    let mut echo = answer.into_body();
    for n in 0..100 {
        let piece = Bytes::from(format!("piece {n}"));
        feed.send_data(piece.clone()).await.unwrap();
        let frame = soon(&world, echo.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(feed);
    assert!(soon(&world, echo.frame()).await.is_none());
}

#[tokio::test]
async fn dropping_an_answer_cancels_the_stream_both_ways() {
    let world = SimWorld::new(1);
    let (ended, mut ends) = mpsc::channel(1);
    let server = Server::http2(&world, move |request| {
        let ended = ended.clone();
        async move {
            let (mut feed, answer) = fed();
            let world = SimWorld::new(2);
            let relay = async move {
                let mut content = request.into_body();
                feed.send_data(Bytes::from("begun")).await.unwrap();
                let error = loop {
                    match content.frame().await {
                        Some(Ok(_)) => {}
                        Some(Err(error)) => break error.to_string(),
                        None => break "a clean end".to_owned(),
                    }
                };
                ended.send(error).await.unwrap();
            };
            drop(world.spawn("relay", Box::pin(relay)));
            Response::new(answer)
        }
    })
    .await;
    let channel = server.channel(&world, H2c);
    let (feed, content) = fed();
    let answer = soon(&world, send(&world, &channel, streaming("/", content))).await.unwrap();
    drop(answer);
    let error = soon(&world, ends.recv()).await.unwrap();
    assert_ne!(error, "a clean end");
    // The source of the request notices, too.
    let mut feed = feed;
    soon(&world, async { while feed.send_data(Bytes::from("x")).await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_request_body_that_fails_resets_the_stream() {
    let world = SimWorld::new(1);
    let (ended, mut ends) = mpsc::channel(1);
    let server = Server::http2(&world, move |request| {
        let ended = ended.clone();
        async move {
            let error = request.into_body().collect().await.expect_err("it broke off");
            ended.send(error.to_string()).await.unwrap();
            Response::new(body::empty())
        }
    })
    .await;
    let channel = server.channel(&world, H2c);
    let (mut feed, content) = fed();
    let (answer, ()) = tokio::join!(send(&world, &channel, streaming("/", content)), async {
        feed.send_data(Bytes::from("half")).await.unwrap();
        feed.abort("the client went away".into());
    });
    let error = answer.unwrap_err();
    assert!(matches!(error, CallError::RequestBody(_)), "{error}");
    soon(&world, ends.recv()).await.unwrap();
}

/// An HTTP/2 server on one connection that can be told to go away.
async fn serve_until(
    world: Arc<SimWorld>,
    socket: TcpStream,
    answer: Arc<Semaphore>,
    leave: Arc<Notify>,
) {
    let service = service_fn(move |_request| {
        let answer = Arc::clone(&answer);
        async move {
            answer.acquire().await.unwrap().forget();
            Ok::<_, Infallible>(Response::new(body::full("done")))
        }
    });
    let connection = hyper::server::conn::http2::Builder::new(Spawner(world))
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = leave.notified() => connection.as_mut().graceful_shutdown(),
    }
    let _ended = connection.await;
}

#[tokio::test]
async fn a_server_that_leaves_finishes_what_it_has_and_the_next_call_finds_the_next_connection() {
    let world = SimWorld::new(1);
    let (answer, leave) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let (spawner, answers, leaves) = (world.clone(), answer.clone(), leave.clone());
    let server = Server::raw(&world, move |socket, _| {
        serve_until(spawner.clone(), socket, answers.clone(), leaves.clone())
    })
    .await;
    let channel = server.channel(&world, H2c);
    let first = send(&world, &channel, post("/", "1"));
    let (first, ()) = tokio::join!(first, async {
        // The call is under way once its connection is there and it waits for its answer.
        while server.accepted() == 0 {
            tokio::task::yield_now().await;
        }
        leave.notify_one();
        answer.add_permits(1);
    });
    assert_eq!(text(first.unwrap().into_body()).await, "done");
    for _ in 0..10 {
        answer.add_permits(1);
        let next = soon(&world, send(&world, &channel, post("/", "2"))).await.unwrap();
        assert_eq!(text(next.into_body()).await, "done");
    }
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn a_connection_that_dies_takes_its_streams_along_but_no_others() {
    let world = SimWorld::new(1);
    let die = Arc::new(Notify::new());
    let (spawner, dying) = (world.clone(), die.clone());
    let server = Server::raw(&world, move |socket, number| {
        let (spawner, dying) = (spawner.clone(), dying.clone());
        async move {
            let service = service_fn(|_request| async {
                let (mut feed, content) = fed();
                feed.send_data(Bytes::from("begun")).await.unwrap();
                std::mem::forget(feed);
                Ok::<_, Infallible>(Response::new(content))
            });
            let connection = hyper::server::conn::http2::Builder::new(Spawner(spawner))
                .serve_connection(TokioIo::new(socket), service);
            tokio::select! {
                _ = connection => {}
                () = dying.notified(), if number == 0 => {}
            }
        }
    })
    .await;
    let channel = server.channel(&world, H2c);
    let mut first = send(&world, &channel, get("/")).await.unwrap().into_body();
    assert!(first.frame().await.unwrap().is_ok());
    die.notify_one();
    let error = soon(&world, first.frame()).await.unwrap().unwrap_err();
    let fault = error.downcast_ref::<BodyFault>().expect("a fault of ours");
    assert!(matches!(fault, BodyFault::Broken { .. }), "{fault}");
    let mut second = soon(&world, send(&world, &channel, get("/"))).await.unwrap().into_body();
    assert!(second.frame().await.unwrap().is_ok());
    assert_eq!(server.accepted(), 2);
}

/// Handles the streams of one connection by hand.
async fn by_hand<F>(socket: TcpStream, concurrent: u32, mut each: F)
where
    F: FnMut(http::Request<h2::RecvStream>, server::SendResponse<Bytes>, usize),
{
    let mut builder = server::Builder::new();
    builder.max_concurrent_streams(concurrent);
    let Ok(mut connection) = builder.handshake(socket).await else { return };
    let mut number = 0;
    while let Some(Ok((request, respond))) = connection.accept().await {
        each(request, respond, number);
        number += 1;
    }
}

#[tokio::test]
async fn a_refused_stream_is_sent_once_more_even_if_it_is_a_post() {
    let world = SimWorld::new(1);
    let server = Server::raw(&world, |socket, connection| {
        by_hand(socket, 100, move |_request, mut respond, number| {
            if connection == 0 && number == 0 {
                respond.send_reset(Reason::REFUSED_STREAM);
            } else {
                let mut sent = respond.send_response(Response::new(()), false).unwrap();
                sent.send_data(Bytes::from("second"), true).unwrap();
            }
        })
    })
    .await;
    let channel = server.channel(&world, H2c);
    let answer = soon(&world, send(&world, &channel, post("/", "x"))).await.unwrap();
    assert_eq!(text(answer.into_body()).await, "second");
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn a_refused_stream_of_which_nothing_was_taken_is_sent_once_more() {
    let world = SimWorld::new(1);
    let (arrived, mut arrivals) = mpsc::channel(4);
    let server = Server::raw(&world, move |socket, connection| {
        let arrived = arrived.clone();
        by_hand(socket, 100, move |request, mut respond, _| {
            arrived.try_send(connection).unwrap();
            if connection == 0 {
                respond.send_reset(Reason::REFUSED_STREAM);
                return;
            }
            let echo = async move {
                let mut sent = request.into_body();
                let piece = sent.data().await.unwrap().unwrap();
                let mut answer = respond.send_response(Response::new(()), false).unwrap();
                answer.send_data(piece, true).unwrap();
            };
            drop(SimWorld::new(2).spawn("echo", Box::pin(echo)));
        })
    })
    .await;
    let channel = server.channel(&world, H2c);
    let (mut feed, content) = fed();
    let call = send(&world, &channel, streaming("/", content));
    let (answer, ()) = tokio::join!(call, async {
        assert_eq!(arrivals.recv().await, Some(0));
        assert_eq!(arrivals.recv().await, Some(1));
        feed.send_data(Bytes::from("whole")).await.unwrap();
        drop(feed);
    });
    assert_eq!(text(answer.unwrap().into_body()).await, "whole");
}

#[tokio::test]
async fn any_other_reset_is_an_error_and_nothing_is_repeated() {
    let world = SimWorld::new(1);
    let server = Server::raw(&world, |socket, _| {
        by_hand(socket, 100, |_request, mut respond, _| {
            respond.send_reset(Reason::INTERNAL_ERROR);
        })
    })
    .await;
    let channel = server.channel(&world, H2c);
    for _ in 0..2 {
        let error = soon(&world, send(&world, &channel, get("/"))).await.unwrap_err();
        assert!(matches!(error, CallError::Broken { nothing_sent: false, .. }), "{error}");
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn an_early_answer_without_error_stops_the_upload() {
    let world = SimWorld::new(1);
    let server =
        Server::http2(&world, |_request| async { Response::new(body::full("enough")) }).await;
    let channel = server.channel(&world, H2c);
    let (mut feed, content) = fed();
    let answer = soon(&world, send(&world, &channel, streaming("/", content))).await.unwrap();
    assert_eq!(text(answer.into_body()).await, "enough");
    soon(&world, async { while feed.send_data(Bytes::from("x")).await.is_ok() {} }).await;
}

#[tokio::test]
async fn more_streams_than_a_connection_takes_get_another_connection() {
    let world = SimWorld::new(1);
    let held = Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = held.clone();
    let server = Server::raw(&world, move |socket, _| {
        let keep = keep.clone();
        by_hand(socket, 2, move |_request, mut respond, _| {
            let mut sent = respond.send_response(Response::new(()), false).unwrap();
            sent.send_data(Bytes::from("begun"), false).unwrap();
            keep.lock().unwrap().push(sent);
        })
    })
    .await;
    let channel = server.channel(&world, H2c);
    let mut answers = Vec::new();
    for _ in 0..6 {
        let answer = soon(&world, send(&world, &channel, get("/"))).await.unwrap();
        let mut content = answer.into_body();
        assert!(soon(&world, content.frame()).await.unwrap().is_ok());
        answers.push(content);
    }
    assert_eq!(server.accepted(), 3);
}

#[tokio::test]
async fn a_server_that_does_not_speak_http2_is_an_error_in_time() {
    let world = SimWorld::new(1);
    let server = Server::raw(&world, |mut socket, _| async move {
        super::servers::write(&mut socket, "HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let channel = server.channel(&world, H2c);
    let error = soon(&world, send(&world, &channel, get("/"))).await.unwrap_err();
    assert!(matches!(error, CallError::Broken { .. }), "{error}");
}
