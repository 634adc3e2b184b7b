//! Fuzzing the wire: mutated requests against the running binary, on the HTTP and on the gRPC port.
//!
//! Whatever comes in, the process neither panics nor hangs a connection nor stops serving others. `FUZZ_SECONDS` makes it
//! run longer, `FUZZ_SEED` another way; a failure names the seed.

use anyhow::{Result, ensure};
use outrigger_tests::{Node, Start, mutate::Mutator, patience::Patience};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

const HTTP: &[&str] = &[
    "POST /v1.0/state/statestore HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 24\r\n\r\n[{\"key\":\"k\",\"value\":\"v\"}]",
    "GET /v1.0/state/statestore/k?consistency=strong&metadata.a=b HTTP/1.1\r\nhost: x\r\nif-match: 1\r\n\r\n",
    "POST /v1.0/state/statestore/bulk HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n10\r\n{\"keys\":[\"k\"]}  \r\n0\r\n\r\n",
    "POST /v1.0/state/statestore/transaction HTTP/1.1\r\nhost: x\r\ncontent-length: 83\r\n\r\n{\"operations\":[{\"operation\":\"upsert\",\"request\":{\"key\":\"a\",\"value\":1,\"etag\":\"1\"}}]}",
    "POST /v1.0/publish/pubsub/topic?metadata.ttlInSeconds=1 HTTP/1.1\r\nhost: x\r\ncontent-type: application/cloudevents+json\r\ncontent-length: 60\r\n\r\n{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"s\",\"type\":\"t\",\"d\":1}",
    "POST /v1.0/publish/bulk/pubsub/topic HTTP/1.1\r\nhost: x\r\ncontent-length: 65\r\n\r\n[{\"entryId\":\"1\",\"event\":{\"a\":1},\"contentType\":\"application/json\"}]",
    "GET /v1.0/invoke/app.ns/method/a%20b/c?d=e HTTP/1.1\r\nhost: x\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n",
    "GET /v1.0/secrets/store/key HTTP/1.1\r\nhost: x\r\nauthorization: Basic ZGFwci1hcHAtaWQ6YQ==\r\n\r\n",
    "PUT /v1.0/metadata/name HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nv",
];

const HTTP_WORDS: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "\n",
    " HTTP/1.0",
    "HTTP/2.0",
    "content-length: 5\r\n",
    "content-length: -1\r\n",
    "transfer-encoding: chunked\r\n",
    "expect: 100-continue\r\n",
    "connection: upgrade\r\nupgrade: h2c\r\n",
    "dapr-app-id: a\r\n",
    "%2F",
    "%00",
    "%",
    "..",
    "||",
    "\"etag\":",
    "\"options\":{\"concurrency\":\"first-write\"}",
    "metadata.rawPayload=true",
    "null",
    "[",
    "{",
    "\u{fffd}",
];

/// Preface, settings, and the head of a request with a data frame.
const GRPC: &[&str] = &[
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0\0\0\u{8}\u{6}\0\0\0\0\0pingping",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0\0\0\u{5}\0\u{1}\0\0\0\u{1}\0\0\0\0\0",
];

fn seed() -> u64 {
    std::env::var("FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_121)
}

fn time() -> Duration {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(5))
}

/// Sends the bytes, says that nothing follows, and waits for the end.
fn throw(port: u16, bytes: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    // The server may have closed by then.
    drop(stream.write_all(bytes));
    drop(stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err(error.into()),
        _ => Ok(()),
    }
}

fn fuzz(port: impl Fn(&Node) -> u16, corpus: &[&str], words: &[&str]) -> Result<()> {
    let node = Start::sidecar("fuzz").components().ready()?;
    let inputs = corpus.iter().map(|text| text.as_bytes().to_vec()).collect();
    let mut mutator = Mutator::new(seed(), inputs, words);
    let patience = Patience::of(time());
    let mut thrown = 0;
    while !patience.is_over() {
        let input = mutator.mutate();
        if let Err(error) = throw(port(&node), &input) {
            let shown = String::from_utf8_lossy(&input).into_owned();
            return Err(error.context(format!("seed {}, input {thrown}: {shown:?}", seed())));
        }
        thrown += 1;
    }
    let answer = node.get("/v1.0/healthz")?;
    ensure!(
        answer.status == 204,
        "seed {}: after {thrown} inputs health is {}",
        seed(),
        answer.status
    );
    node.assert_calm();
    ensure!(thrown > 10, "only {thrown} inputs");
    Ok(())
}

#[test]
fn http() -> Result<()> {
    fuzz(|node| node.ports.http, HTTP, HTTP_WORDS)
}

#[test]
fn grpc() -> Result<()> {
    fuzz(
        |node| node.ports.grpc,
        GRPC,
        &["\0\0\0", "\0\0\u{10}\u{1}\u{4}\0\0\0\u{1}", "\u{7f}\u{7f}", "POST", "grpc-timeout"],
    )
}
