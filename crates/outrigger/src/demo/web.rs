//! The little HTTP that the demo's services need: a client towards their runtime and a server for their handlers.
//!
//! The services use nothing of Outrigger but its HTTP API, as a service in any other language would.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use outrigger_kernel::{BoxFuture, Deadline, World, within};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::net::TcpListener;

/// No body in the demo is larger.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// What one call towards the runtime may take.
const CALL_BUDGET: Duration = Duration::from_secs(5);

/// A status and a JSON body (null when empty).
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    pub(super) etag: Option<String>,
}

/// The runtime beside a service, spoken to over its HTTP API.
#[derive(Clone)]
pub(super) struct Sidecar {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
    world: Arc<dyn World>,
}

impl Sidecar {
    /// The runtime that serves its HTTP API on loopback `port`.
    pub(super) fn new(port: u16, world: Arc<dyn World>) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, base: format!("http://127.0.0.1:{port}"), world }
    }

    /// One call, answered whatever its status.
    pub(super) async fn call(&self, method: Method, path: &str, body: &Value) -> Result<Reply> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("content-type", "application/json");
        if let Ok(token) = std::env::var("DAPR_API_TOKEN") {
            request = request.header("dapr-api-token", token);
        }
        let bytes = if body.is_null() { Bytes::new() } else { serde_json::to_vec(body)?.into() };
        let request = request.body(Full::new(bytes))?;
        let deadline = Deadline::after(&*self.world, CALL_BUDGET);
        let answer = within(&*self.world, deadline, async {
            let response = self.client.request(request).await?;
            let status = response.status();
            let etag = response
                .headers()
                .get("etag")
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned);
            let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            anyhow::Ok(Reply { status, body, etag })
        });
        answer.await.with_context(|| format!("{path} took longer than {CALL_BUDGET:?}"))?
    }

    /// Reads one state key: its value and etag.
    pub(super) async fn state(&self, key: &str) -> Result<Option<(Value, String)>> {
        let reply =
            self.call(Method::GET, &format!("/v1.0/state/store/{key}"), &Value::Null).await?;
        match reply.status {
            StatusCode::OK => Ok(Some((reply.body, reply.etag.unwrap_or_default()))),
            StatusCode::NO_CONTENT => Ok(None),
            status => bail!("reading {key} answered {status}: {}", reply.body),
        }
    }

    /// Writes several keys together or not at all; `false` when another writer was first.
    pub(super) async fn write_together(&self, writes: &[StateWrite]) -> Result<bool> {
        let operations: Vec<Value> = writes.iter().map(StateWrite::operation).collect();
        let body = json!({ "operations": operations });
        let reply = self.call(Method::POST, "/v1.0/state/store/transaction", &body).await?;
        match reply.status {
            StatusCode::NO_CONTENT => Ok(true),
            // The API answers 500 for an etag clash inside a transaction as for any other failure of the store; both
            // mean that nothing was written and that reading again is right.
            StatusCode::CONFLICT | StatusCode::INTERNAL_SERVER_ERROR => Ok(false),
            status => bail!("a state transaction answered {status}: {}", reply.body),
        }
    }

    /// Publishes an event; returns once it is durable.
    pub(super) async fn publish(&self, topic: &str, event: &Value) -> Result<()> {
        let reply =
            self.call(Method::POST, &format!("/v1.0/publish/events/{topic}"), event).await?;
        if !reply.status.is_success() {
            bail!("publishing to {topic} answered {}: {}", reply.status, reply.body);
        }
        Ok(())
    }

    /// Calls `method` of another service.
    pub(super) async fn invoke(&self, app: &str, method: &str, body: &Value) -> Result<Reply> {
        self.call(Method::POST, &format!("/v1.0/invoke/{app}/method/{method}"), body).await
    }
}

/// One write of a state transaction. `etag: None` means that the key must not exist yet.
pub(super) struct StateWrite {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) etag: Option<String>,
}

impl StateWrite {
    fn operation(&self) -> Value {
        let mut request = json!({
            "key": self.key,
            "value": self.value,
            "options": { "concurrency": "first-write" },
        });
        if let Some(etag) = &self.etag {
            request["etag"] = json!(etag);
        }
        json!({ "operation": "upsert", "request": request })
    }
}

/// What a service does with a request: path and JSON body in, status and JSON body out.
pub(super) trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, path: String, body: Value) -> BoxFuture<'_, (StatusCode, Value)>;
}

/// Serves `handler` on loopback `port` until the process ends.
pub(super) async fn serve(
    port: u16,
    handler: Arc<dyn Handler>,
    world: Arc<dyn World>,
) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let handler = handler.clone();
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| answer(handler.clone(), request)),
        );
        let task = world.spawn(
            "demo connection",
            Box::pin(async move {
                // A peer that goes away in mid-request is what this demo is about.
                drop(connection.await);
            }),
        );
        drop(task);
    }
}

async fn answer(
    handler: Arc<dyn Handler>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>> {
    let path = request.uri().path().to_owned();
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let (status, answer) = handler.handle(path, body).await;
    Ok(Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Full::new(serde_json::to_vec(&answer)?.into()))?)
}
