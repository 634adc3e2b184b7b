//! Servers of the field: one that sleeps for its answers, one that always fails, one that asks the next.

use crate::process::{Folder, Server, port};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use std::{
    convert::Infallible,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{net::TcpListener, runtime::Builder, sync::Semaphore, time::sleep};

type Next = Client<HttpConnector, Empty<Bytes>>;

/// What a server of the field does with a request.
struct Kind {
    /// Workers, who take requests in the order in which they came.
    workers: Option<Semaphore>,
    work: Duration,
    /// How many times longer work takes, for now.
    factor: AtomicU64,
    /// Whom it asks for its answer.
    next: Option<(Next, String)>,
    seen: AtomicU64,
}

/// `serve sleepy PORT WORKERS MS`; without workers it fails at once. `serve relay PORT URL`.
pub(crate) fn listen(arguments: &[String]) -> Result<()> {
    let (workers, work, next) = match arguments {
        [kind, _, workers, ms] if kind == "sleepy" => (workers.parse()?, ms.parse()?, None),
        [kind, _, url] if kind == "relay" => {
            let client = Client::builder(TokioExecutor::new()).build_http();
            (0, 0, Some((client, url.clone())))
        }
        _ => bail!("usage: serve sleepy PORT WORKERS MS | serve relay PORT URL"),
    };
    let port: u16 = arguments.get(1).context("no port")?.parse()?;
    let kind = Arc::new(Kind {
        workers: (workers > 0).then(|| Semaphore::new(workers)),
        work: Duration::from_millis(work),
        factor: AtomicU64::new(1),
        next,
        seen: AtomicU64::new(0),
    });
    Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let kind = Arc::clone(&kind);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let kind = Arc::clone(&kind);
                    // A worker does not notice that nobody waits for its answer any more.
                    let work = tokio::spawn(async move { kind.answer(request).await });
                    async move { Ok::<_, Infallible>(work.await.unwrap_or_else(|_| said(500, ""))) }
                });
                drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
            });
        }
    })
}

impl Kind {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if path == "/control/seen" {
            return said(200, &self.seen.load(Relaxed).to_string());
        }
        if let Some(factor) = path.strip_prefix("/control/slower/") {
            self.factor.store(factor.parse().unwrap_or(1), Relaxed);
            return said(200, "");
        }
        self.seen.fetch_add(1, Relaxed);
        match (&self.workers, &self.next) {
            (_, Some((client, url))) => {
                let Ok(url) = url.parse() else { return said(500, "") };
                let answer = client.get(url).await;
                said(answer.map_or(502, |answer| answer.status().as_u16()), "")
            }
            (None, None) => said(503, ""),
            (Some(workers), None) => {
                let _worker = workers.acquire().await;
                let factor = u32::try_from(self.factor.load(Relaxed)).unwrap_or(1);
                sleep(self.work * factor).await;
                said(200, "done")
            }
        }
    }
}

fn said(status: u16, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text.to_owned())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    // For a cache before it.
    let fresh = http::HeaderValue::from_static("max-age=1");
    response.headers_mut().insert(http::header::CACHE_CONTROL, fresh);
    response
}

/// A server that sleeps, in a process of its own.
pub(crate) struct Sleepy {
    pub(crate) server: Server,
}

impl Sleepy {
    pub(crate) fn start(home: &Folder, workers: u32, work: Duration) -> Result<Self> {
        let words = ["sleepy".to_owned(), workers.to_string(), work.as_millis().to_string()];
        Ok(Self { server: start(home, &words)? })
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.port
    }

    /// How many requests have reached it.
    pub(crate) fn seen(&self) -> Result<f64> {
        Ok(self.control("seen")?.parse()?)
    }

    /// From now on its work takes so many times longer.
    pub(crate) fn slower(&self, factor: u32) -> Result<()> {
        self.control(&format!("slower/{factor}")).map(drop)
    }

    fn control(&self, what: &str) -> Result<String> {
        let url = format!("http://127.0.0.1:{}/control/{what}", self.port()).parse()?;
        Builder::new_current_thread().enable_all().build()?.block_on(async {
            let client: Next = Client::builder(TokioExecutor::new()).build_http();
            let body = client.get(url).await?.into_body().collect().await?.to_bytes();
            Ok(String::from_utf8_lossy(&body).into_owned())
        })
    }
}

/// An app that asks `url` for its answer.
pub(crate) fn relay(home: &Folder, url: &str) -> Result<Server> {
    start(home, &["relay".to_owned(), url.to_owned()])
}

fn start(home: &Folder, words: &[String]) -> Result<Server> {
    let port = port()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("serve").arg(&words[0]).arg(port.to_string()).args(&words[1..]);
    let mut server = Server::start(command, port, home.path())?;
    server.wait_open()?;
    Ok(server)
}
