//! Clients that do not behave. Each is answered or cut off, and the next one is served as if nothing had been.

use crate::{
    http::{Connection, send},
    node::{Node, Plan},
};
use outrigger_api::Settings;

/// Runs `attack` against a node, then checks that the node is well.
async fn against(settings: Settings, attack: impl FnOnce(u16) + Send + 'static) {
    let node = Node::start(Plan { settings, ..Plan::default() }).await;
    let port = node.http;
    tokio::task::spawn_blocking(move || {
        attack(port);
        let after = send(port, "GET", "/v1.0/state/statestore/written", &[], b"").unwrap();
        assert_eq!(after.status, 204, "nothing was written: {}", after.text());
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_too_large() {
    let settings = Settings { max_body_bytes: 1000, ..Settings::default() };
    against(settings, |port| {
        let big = format!(r#"[{{"key":"written","value":"{}"}}]"#, "x".repeat(2000));
        let path = "/v1.0/state/statestore";
        let answer = send(port, "POST", path, &[], big.as_bytes()).unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (413, "ERR_BODY_READ"));
        let mut chunked = Connection::open(port).unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
        chunked.raw(head.as_bytes()).unwrap();
        chunked.raw(format!("{:x}\r\n{big}\r\n0\r\n\r\n", big.len()).as_bytes()).unwrap();
        let answer = chunked.response(false).unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (413, "ERR_BODY_READ"));
        let announced = &[("content-length", "99999999999999")];
        assert_eq!(send(port, "POST", path, announced, b"[").unwrap().status, 413);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_too_large_or_broken() {
    let settings = Settings { max_header_bytes: 8 * 1024, ..Settings::default() };
    against(settings, |port| {
        let long = "x".repeat(64 * 1024);
        let answer = send(port, "GET", "/v1.0/healthz", &[("x-long", &long)], b"").unwrap();
        assert_eq!(answer.status, 431);
        let many: Vec<(&str, &str)> = vec![("x-many", "1"); 500];
        assert_eq!(send(port, "GET", "/v1.0/healthz", &many, b"").unwrap().status, 431);
        for broken in [
            "GET\r\n\r\n",
            "GET /v1.0/healthz HTTP/9.9\r\n\r\n",
            "\u{0}\u{1}\u{2}\r\n\r\n",
            "GET /v1.0/healthz HTTP/1.1\r\nno colon\r\n\r\n",
            "GET /a b HTTP/1.1\r\n\r\n",
            "POST /v1.0/state/statestore HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n[]x",
            "POST /v1.0/state/statestore HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
            "POST /v1.0/state/statestore HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ] {
            let mut connection = Connection::open(port).unwrap();
            connection.raw(broken.as_bytes()).unwrap();
            if let Ok(answer) = connection.response(false) {
                assert!((400..=505).contains(&answer.status), "{broken:?}: {answer:?}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_closed_and_half_sent() {
    against(Settings::default(), |port| {
        let path = "/v1.0/state/statestore";
        // Everything was sent; closing one's own half afterwards is fine.
        let mut whole = Connection::open(port).unwrap();
        whole.raw(b"GET /v1.0/healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        whole.half_close().unwrap();
        assert_eq!(whole.response(false).unwrap().status, 204);
        // Half a body is no body, however valid that half would be.
        let mut half = Connection::open(port).unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n");
        half.raw(head.as_bytes()).unwrap();
        half.raw(br#"[{"key":"written","value":1}]"#).unwrap();
        half.half_close().unwrap();
        if let Ok(answer) = half.response(false) {
            assert_eq!((answer.status, answer.code().as_str()), (400, "ERR_BODY_READ"));
        }
        // Half a head is nothing.
        let mut head = Connection::open(port).unwrap();
        head.raw(b"GET /v1.0/heal").unwrap();
        head.half_close().unwrap();
        drop(head.response(false));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_after_all_kinds_of_requests() {
    against(Settings::default(), |port| {
        let mut connection = Connection::open(port).unwrap();
        for _ in 0..50 {
            let answer = connection.request("GET", "/v1.0/state/statestore/a", &[], b"").unwrap();
            assert_eq!(answer.status, 204);
            let answer = connection.request("BREW", "/coffee", &[], b"milk").unwrap();
            assert_eq!((answer.status, answer.code().as_str()), (404, "ERR_DIRECT_INVOKE"));
            let two = &[("if-match", "1"), ("if-match", "2")];
            let answer = connection.request("DELETE", "/v1.0/state/statestore/a", two, b"").unwrap();
            assert_eq!((answer.status, answer.code().as_str()), (400, "ERR_MALFORMED_REQUEST"));
        }
        // Several requests in one packet are answered in their order.
        connection
            .raw(b"GET /v1.0/healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n")
            .unwrap();
        assert_eq!(connection.response(false).unwrap().status, 204);
        assert_eq!(connection.response(false).unwrap().status, 404);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_connections_than_there_are_places() {
    let settings = Settings { max_connections: 2, ..Settings::default() };
    against(settings, |port| {
        let open: Vec<Connection> = (0..2).map(|_| Connection::open(port).unwrap()).collect();
        // The third waits in the listener's queue until a place is free.
        let mut third = Connection::open(port).unwrap();
        third.raw(b"GET /v1.0/healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        drop(open);
        assert_eq!(third.response(false).unwrap().status, 204);
    })
    .await;
}
