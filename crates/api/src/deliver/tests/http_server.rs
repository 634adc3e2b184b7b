//! An app that speaks HTTP: answers as it is told, and hands every call to the test.

use super::Stage;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use outrigger_kernel::{TaskHandle, World};
use std::{convert::Infallible, net::SocketAddr, sync::Arc};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
};

/// A call that was answered.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) content: Bytes,
}

impl Call {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.content).unwrap()
    }

    pub(super) fn event_id(&self) -> String {
        self.json()["id"].as_str().unwrap().to_owned()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

type Answer = dyn Fn(&Call) -> (u16, String) + Send + Sync;

/// The server; stops when dropped.
pub(super) struct HttpServer {
    pub(super) port: u16,
    calls: mpsc::Receiver<Call>,
    /// One permit per answer that may be given.
    pub(super) gate: Arc<Semaphore>,
    task: Option<TaskHandle>,
}

/// Where nobody listens yet.
pub(super) async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

impl HttpServer {
    /// An app that answers `answer`; to the question for its subscriptions too.
    pub(super) async fn start(
        stage: &Stage,
        answer: impl Fn(&Call) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        Self::start_on(stage, 0, answer).await
    }

    pub(super) async fn start_on(
        stage: &Stage,
        port: u16,
        answer: impl Fn(&Call) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, calls) = mpsc::channel(10_000);
        let gate = Arc::new(Semaphore::new(100_000));
        let (answer, world, gate_inside) = (
            Arc::<Answer>::from(Box::new(answer) as Box<Answer>),
            stage.world.clone(),
            gate.clone(),
        );
        let accept = async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (answer, tell, gate) = (answer.clone(), tell.clone(), gate_inside.clone());
                let service = service_fn(move |request| {
                    serve(request, answer.clone(), tell.clone(), gate.clone())
                });
                let connection = async move {
                    // How a connection ends is the client's business.
                    drop(
                        http1::Builder::new().serve_connection(TokioIo::new(socket), service).await,
                    );
                };
                let _task = world.spawn("connection", Box::pin(connection));
            }
        };
        let task = Some(stage.world.spawn("app", Box::pin(accept)));
        Self { port, calls, gate, task }
    }

    /// The next event that came.
    pub(super) async fn call(&mut self, stage: &Stage) -> Call {
        stage.soon(self.calls.recv()).await.unwrap()
    }

    /// Whether no event has come that the test has not seen.
    pub(super) fn is_quiet(&self) -> bool {
        self.calls.is_empty()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.take().into_iter().for_each(TaskHandle::abort);
    }
}

async fn serve(
    request: Request<Incoming>,
    answer: Arc<Answer>,
    tell: mpsc::Sender<Call>,
    gate: Arc<Semaphore>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let content = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let call = Call { path: parts.uri.path().to_owned(), headers: parts.headers, content };
    let (status, content) = answer(&call);
    if call.path != "/dapr/subscribe" {
        // A test that is over listens no more.
        drop(tell.send(call).await);
        gate.acquire().await.unwrap().forget();
    }
    let mut response = Response::new(Full::new(Bytes::from(content)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Ok(response)
}
