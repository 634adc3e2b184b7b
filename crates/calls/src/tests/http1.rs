//! HTTP/1.1 with an app: the ordinary, the reuse of connections, and everything a server can do wrong.

use super::servers::{
    Server, fed, get, hung_up, pieces, post, read_head, read_until, send, soon, streaming, text,
    write,
};
use crate::{AppProtocol::Http, BodyFault, CallError, ChannelSettings, body};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use outrigger_sim::SimWorld;
use tokio::{io::AsyncWriteExt, sync::mpsc};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_request_arrives_as_it_was_sent_and_the_answer_comes_back_as_it_was_given() {
    let world = SimWorld::new(1);
    let server = Server::http1(&world, |request| async move {
        let (head, body) = request.into_parts();
        let sent = body.collect().await.unwrap().to_bytes();
        let seen = format!(
            "{} {} host={} token={} length={} body={}",
            head.method,
            head.uri,
            head.headers["host"].to_str().unwrap(),
            head.headers["x-token"].to_str().unwrap(),
            head.headers["content-length"].to_str().unwrap(),
            String::from_utf8_lossy(&sent),
        );
        let answer = Response::builder().status(418).header("x-answer", "yes");
        answer.body(body::full(seen)).unwrap()
    })
    .await;
    let token = (HeaderName::from_static("x-token"), HeaderValue::from_static("secret"));
    let settings = ChannelSettings { headers: vec![token], ..ChannelSettings::default() };
    let channel = server.channel_with(&world, Http, settings);
    let request = Request::patch("http://elsewhere:1/a/b%20c?q=1&r")
        .header("host", "elsewhere")
        .header("x-token", "forged")
        .header("content-length", "7")
        .body(body::full("payload"))
        .unwrap();
    let answer = send(&world, &channel, request).await.unwrap();
    assert_eq!(answer.status(), 418);
    assert_eq!(answer.headers()["x-answer"], "yes");
    let expected =
        format!("PATCH /a/b%20c?q=1&r host={} token=secret length=7 body=payload", server.address);
    assert_eq!(text(answer.into_body()).await, expected);
}

#[tokio::test]
async fn connections_are_used_again() {
    let world = SimWorld::new(1);
    let server = Server::http1(&world, |request| async move {
        let sent = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(body::full(sent))
    })
    .await;
    let channel = server.channel(&world, Http);
    for n in 0..50 {
        let answer = send(&world, &channel, post("/", format!("{n}"))).await.unwrap();
        assert_eq!(text(answer.into_body()).await, n.to_string());
    }
    // Bodies that stream in both directions, too.
    for _ in 0..10 {
        let sent = pieces(["a", "b"].map(|p| Frame::data(Bytes::from(p))));
        let answer = send(&world, &channel, streaming("/", sent)).await.unwrap();
        assert_eq!(text(answer.into_body()).await, "ab");
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_connection_the_server_closed_is_not_used_even_for_a_post() {
    let world = SimWorld::new(1);
    // Answers once per connection and hangs up without having said so.
    let (closed, mut closings) = mpsc::channel(1);
    let server = Server::raw(&world, move |mut socket, _| {
        let closed = closed.clone();
        async move {
            read_until(&mut socket, "x").await;
            write(&mut socket, OK).await;
            drop(socket);
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let channel = server.channel(&world, Http);
    for _ in 0..100 {
        let answer = send(&world, &channel, post("/", "x")).await.unwrap();
        assert_eq!(text(answer.into_body()).await, "ok");
        closings.recv().await.unwrap();
    }
    assert_eq!(server.accepted(), 100);
}

#[tokio::test]
async fn what_a_server_says_unasked_is_not_taken_for_an_answer() {
    let world = SimWorld::new(1);
    let (said, mut sayings) = mpsc::channel(1);
    let server = Server::raw(&world, move |mut socket, number| {
        let said = said.clone();
        async move {
            read_until(&mut socket, "x").await;
            write(&mut socket, OK).await;
            if number == 0 {
                write(&mut socket, "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
                    .await;
            }
            said.send(()).await.unwrap();
            hung_up(&mut socket).await;
        }
    })
    .await;
    let channel = server.channel(&world, Http);
    let answer = send(&world, &channel, post("/", "x")).await.unwrap();
    assert_eq!(text(answer.into_body()).await, "ok");
    sayings.recv().await.unwrap();
    let answer = send(&world, &channel, post("/", "x")).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn a_used_connection_that_dies_under_a_request_is_replaced_if_the_method_may_be_repeated() {
    for (method, expected) in [(Method::GET, true), (Method::PUT, true), (Method::POST, false)] {
        let world = SimWorld::new(1);
        // The first connection answers once, then takes a second request and dies.
        let server = Server::raw(&world, |mut socket, number| async move {
            read_head(&mut socket).await;
            write(&mut socket, OK).await;
            if number == 0 {
                read_head(&mut socket).await;
            } else {
                hung_up(&mut socket).await;
            }
        })
        .await;
        let channel = server.channel(&world, Http);
        let request = || {
            let request = Request::builder().method(method.clone()).uri("/");
            request.body(body::empty()).unwrap()
        };
        send(&world, &channel, request()).await.unwrap();
        let second = send(&world, &channel, request()).await;
        assert_eq!(second.is_ok(), expected, "{method}");
        if let Err(error) = second {
            assert!(matches!(error, CallError::Broken { nothing_sent: false, .. }), "{error}");
        }
        assert_eq!(server.accepted(), 1 + usize::from(expected), "{method}");
    }
}

#[tokio::test]
async fn a_new_connection_that_dies_under_a_request_is_an_error_and_nothing_is_repeated() {
    let world = SimWorld::new(1);
    let server = Server::raw(&world, |mut socket, _| async move {
        read_head(&mut socket).await;
    })
    .await;
    let channel = server.channel(&world, Http);
    let error = send(&world, &channel, get("/")).await.unwrap_err();
    assert!(matches!(error, CallError::Broken { nothing_sent: false, .. }), "{error}");
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn nobody_listens() {
    let world = SimWorld::new(1);
    let server = Server::raw(&world, |_, _| async {}).await;
    let channel = server.channel(&world, Http);
    drop(server);
    // The listener goes away with its task, which takes a moment to notice.
    let error = soon(&world, async {
        loop {
            match send(&world, &channel, get("/")).await {
                Err(error @ CallError::Connect { .. }) => break error,
                _ => tokio::task::yield_now().await,
            }
        }
    });
    assert!(error.await.nothing_sent());
}

#[tokio::test]
async fn answers_of_every_shape() {
    let world = SimWorld::new(1);
    for (method, answer, status, expected) in [
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n", 304, ""),
        (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n", 200, ""),
        (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, ""),
        (Method::GET, "HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, "until the end"),
        (Method::GET, "HTTP/1.0 200 OK\r\n\r\nold", 200, "old"),
        (
            Method::GET,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
            200,
            "abc",
        ),
        (
            Method::GET,
            "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
            200,
            "x",
        ),
    ] {
        let server = Server::raw(&world, move |mut socket, _| async move {
            read_head(&mut socket).await;
            write(&mut socket, answer).await;
            // Half closed: nothing more comes, but the other side may still say something.
            socket.shutdown().await.unwrap();
            hung_up(&mut socket).await;
        })
        .await;
        let channel = server.channel(&world, Http);
        let request = Request::builder().method(method).uri("/").body(body::empty()).unwrap();
        let got = soon(&world, send(&world, &channel, request)).await.expect(answer);
        assert_eq!(got.status(), status, "{answer}");
        assert_eq!(text(got.into_body()).await, expected, "{answer}");
    }
}

#[tokio::test]
async fn what_is_not_an_answer_is_an_error() {
    let world = SimWorld::new(1);
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    let many = format!("HTTP/1.1 200 OK\r\n{many}\r\n");
    for answer in [
        "hello\r\n\r\n".to_owned(),
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".to_owned(),
        "HTTP/1.1 2000 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\nab".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_owned(),
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\n".to_owned(),
        String::new(),
        endless,
        many,
    ] {
        let sent = answer.clone();
        let server = Server::raw(&world, move |mut socket, _| {
            let sent = sent.clone();
            async move {
                read_head(&mut socket).await;
                let _refused = socket.write_all(sent.as_bytes()).await;
                let _refused = socket.shutdown().await;
                hung_up(&mut socket).await;
            }
        })
        .await;
        let channel = server.channel(&world, Http);
        let error = soon(&world, send(&world, &channel, get("/"))).await;
        let shown = answer.get(..60).unwrap_or(&answer);
        assert!(matches!(error, Err(CallError::Broken { .. })), "{shown:?} gave {error:?}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_and_not_an_end() {
    let world = SimWorld::new(1);
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nnonsense\r\n",
    ] {
        let server = Server::raw(&world, move |mut socket, _| async move {
            read_head(&mut socket).await;
            write(&mut socket, answer).await;
        })
        .await;
        let channel = server.channel(&world, Http);
        let got = send(&world, &channel, get("/")).await.unwrap();
        let error = soon(&world, got.into_body().collect()).await.expect_err(answer);
        let fault = error.downcast_ref::<BodyFault>().expect("a fault of ours");
        assert!(matches!(fault, BodyFault::Broken { .. }), "{answer}: {fault}");
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let world = SimWorld::new(1);
    let server = Server::http1(&world, |request| async move {
        let trailer = request.into_body().collect().await.unwrap();
        let sum = trailer.trailers().unwrap()["x-sum"].clone();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-back", sum);
        let content = pieces([Frame::data(Bytes::from("body")), Frame::trailers(trailers)]);
        Response::builder().header("trailer", "x-back").body(content).unwrap()
    })
    .await;
    let channel = server.channel(&world, Http);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("42"));
    let content = pieces([Frame::data(Bytes::from("body")), Frame::trailers(trailers)]);
    let request = Request::post("/").header("trailer", "x-sum").header("te", "trailers");
    let answer = send(&world, &channel, request.body(content).unwrap()).await.unwrap();
    let whole = answer.into_body().collect().await.unwrap();
    assert_eq!(whole.trailers().unwrap()["x-back"], "42");
    assert_eq!(whole.to_bytes(), "body");
}

#[tokio::test]
async fn an_early_answer_is_passed_on_while_the_request_is_still_being_sent() {
    let world = SimWorld::new(1);
    let (rest_of_request, mut rests) = mpsc::channel(1);
    let server = Server::raw(&world, move |mut socket, _| {
        let rest_of_request = rest_of_request.clone();
        async move {
            read_head(&mut socket).await;
            write(&mut socket, OK).await;
            let rest = read_until(&mut socket, "0\r\n\r\n").await;
            rest_of_request.send(rest).await.unwrap();
        }
    })
    .await;
    let channel = server.channel(&world, Http);
    let (mut feed, content) = fed();
    let answer = soon(&world, send(&world, &channel, streaming("/", content))).await.unwrap();
    assert_eq!(soon(&world, text(answer.into_body())).await, "ok");
    // The answer is complete and read; the request goes on all the same.
    feed.send_data(Bytes::from("late")).await.unwrap();
    drop(feed);
    let rest = soon(&world, rests.recv()).await.unwrap();
    assert_eq!(rest.as_deref(), Some("4\r\nlate\r\n0\r\n\r\n"));
}

#[tokio::test]
async fn a_refusal_ends_an_upload_nobody_reads() {
    let world = SimWorld::new(1);
    let server = Server::raw(&world, |mut socket, _| async move {
        read_head(&mut socket).await;
        let refusal = "HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        write(&mut socket, refusal).await;
        socket.shutdown().await.unwrap();
        hung_up(&mut socket).await;
    })
    .await;
    let channel = server.channel(&world, Http);
    let (mut feed, content) = fed();
    let answer = soon(&world, send(&world, &channel, streaming("/", content))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    drop(answer);
    // Sooner or later nobody takes the pieces any more.
    let stopped = async { while feed.send_data(Bytes::from(vec![0; 65_536])).await.is_ok() {} };
    soon(&world, stopped).await;
}

#[tokio::test]
async fn a_request_whose_body_fails_is_not_completed() {
    let world = SimWorld::new(1);
    let (seen, mut sightings) = mpsc::channel(1);
    let server = Server::raw(&world, move |mut socket, _| {
        let seen = seen.clone();
        async move {
            read_head(&mut socket).await;
            seen.send(read_until(&mut socket, "0\r\n\r\n").await).await.unwrap();
        }
    })
    .await;
    let channel = server.channel(&world, Http);
    let (mut feed, content) = fed();
    let (answer, ()) = tokio::join!(send(&world, &channel, streaming("/", content)), async {
        feed.send_data(Bytes::from("half")).await.unwrap();
        feed.abort("the client went away".into());
    });
    let error = answer.unwrap_err();
    assert!(matches!(error, CallError::RequestBody(_)), "{error}");
    assert!(error.to_string().contains("the client went away"), "{error}");
    assert_eq!(soon(&world, sightings.recv()).await, Some(None), "no end of a body");
}

#[tokio::test]
async fn dropping_a_call_hangs_up_before_and_after_the_answer() {
    let world = SimWorld::new(1);
    let (event, mut events) = mpsc::channel(4);
    let server = Server::raw(&world, move |mut socket, number| {
        let event = event.clone();
        async move {
            read_head(&mut socket).await;
            event.send("request").await.unwrap();
            if number == 1 {
                write(&mut socket, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
            }
            hung_up(&mut socket).await;
            event.send("gone").await.unwrap();
        }
    })
    .await;
    let channel = server.channel(&world, Http);
    tokio::select! {
        answer = send(&world, &channel, get("/")) => panic!("{answer:?}"),
        request = events.recv() => assert_eq!(request, Some("request")),
    }
    assert_eq!(soon(&world, events.recv()).await, Some("gone"));
    let answer = send(&world, &channel, get("/")).await.unwrap();
    assert_eq!(events.recv().await, Some("request"));
    drop(answer);
    assert_eq!(soon(&world, events.recv()).await, Some("gone"));
}

#[tokio::test]
async fn a_unix_socket_will_do() {
    let world = SimWorld::new(1);
    let folder = std::env::temp_dir().join(format!("calls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("app.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let serve = async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1024];
        for _ in 0..2 {
            let read = tokio::io::AsyncReadExt::read(&mut socket, &mut buffer).await.unwrap();
            assert!(String::from_utf8_lossy(&buffer[..read]).contains("host: localhost\r\n"));
            socket.write_all(OK.as_bytes()).await.unwrap();
        }
    };
    let target = crate::AppTarget {
        protocol: Http,
        host: "ignored".to_owned(),
        port: 1,
        socket: Some(path.clone()),
    };
    let channel = crate::AppChannel::new(target, ChannelSettings::default(), world.clone());
    let calls = async {
        for _ in 0..2 {
            let answer = send(&world, &channel, get("/")).await.unwrap();
            assert_eq!(text(answer.into_body()).await, "ok");
        }
    };
    Box::pin(soon(&world, async { tokio::join!(serve, calls) })).await;
    std::fs::remove_dir_all(&folder).unwrap();
}
