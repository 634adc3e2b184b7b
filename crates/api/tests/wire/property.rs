//! Whatever a client sends, it is answered: no input reaches a panic.

use crate::node::{Node, Plan};
use ::http::{Method, Request, Uri};
use http_body_util::BodyExt;
use outrigger_api::{RequestBody, Surface, handle};
use proptest::prelude::*;
use std::sync::Arc;

const WORDS: &[&str] = &[
    "/",
    "//",
    "v1.0",
    "v1.0-alpha1",
    "v1.0-alpha2",
    "state",
    "statestore",
    "publish",
    "bulk",
    "pubsub",
    "orders",
    "invoke",
    "method",
    "compat",
    "secrets",
    "file",
    "redis",
    "metadata",
    "healthz",
    "outbound",
    "transaction",
    "query",
    "..",
    ".",
    "%2F",
    "%ff",
    "%",
    "||",
    "a",
    "",
    "actors",
    "workflows",
    "http:",
    "http%3A%2F%2F127.0.0.1%3A1",
];

const BODIES: &[&str] = &[
    "",
    "[]",
    "{}",
    "null",
    "[{\"key\":\"a\",\"value\":1}]",
    "[{\"key\":\"a||b\"}]",
    "{\"keys\":[\"a\",\"\"]}",
    "{\"operations\":[{\"operation\":\"delete\",\"request\":{\"key\":\"a\"}}]}",
    "[{\"entryId\":\"1\",\"event\":{},\"contentType\":\"application/json\"}]",
    "{\"a\":",
    "\u{0}",
    "\u{10ffff}",
];

fn request() -> impl Strategy<Value = (usize, Vec<&'static str>, String, Vec<u8>, u8)> {
    let body = prop_oneof![
        prop::sample::select(BODIES).prop_map(|body| body.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..64),
    ];
    let query = "[a-zA-Z0-9.=&%+]{0,24}";
    (0..8_usize, prop::collection::vec(prop::sample::select(WORDS), 0..8), query, body, any::<u8>())
}

#[test]
fn every_request_is_answered() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.unwrap();
    let node = runtime.block_on(Node::start(Plan::default()));
    let methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW"];
    proptest!(ProptestConfig::with_cases(3_000), |((method, words, query, body, kind) in request())| {
        let path = format!("/{}?{query}", words.join("/"));
        let Ok(uri) = path.parse::<Uri>() else { return Ok(()) };
        let mut request = Request::new(RequestBody::memory(body));
        *request.method_mut() = Method::from_bytes(methods[method].as_bytes()).unwrap();
        *request.uri_mut() = uri;
        let types = ["application/json", "application/cloudevents+json", "text/plain", "nonsense"];
        let content_type = types[usize::from(kind) % types.len()];
        request.headers_mut().insert("content-type", content_type.parse().unwrap());
        if kind > 200 {
            request.headers_mut().insert("dapr-app-id", "nobody".parse().unwrap());
        }
        let answer = runtime.block_on(handle(Arc::clone(&node.host), Surface::Full, request));
        let status = answer.status();
        let body = runtime.block_on(answer.into_body().collect()).unwrap().to_bytes();
        if status.is_client_error() || status.is_server_error() {
            let error: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let code = error["errorCode"].as_str().unwrap_or_default();
            prop_assert!(code.starts_with("ERR_"), "{path} {status} {error}");
            prop_assert!(error["message"].is_string() || error["failedEntries"].is_array());
        }
    });
}
