//! How commands talk to a running runtime: which one, and one HTTP request.

use super::Context;
use crate::{
    failure::{Exit, Failure},
    running::{self, RunningApp},
};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use outrigger_kernel::{Deadline, World, within};
use std::time::Duration;
use tokio::net::TcpStream;

/// Which runtime to talk to.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct TargetArgs {
    /// Talk to the runtime beside this app [default: the only one running, or the first].
    #[arg(long = "app-id", short = 'a', value_name = "APP")]
    pub(super) app_id: Option<String>,
    /// Talk to the runtime at this port.
    #[arg(long = "dapr-http-port", value_name = "PORT", env = "DAPR_HTTP_PORT")]
    pub(super) http_port: Option<u16>,
    /// Give up after so many seconds.
    #[arg(long = "timeout", value_name = "SECONDS", default_value_t = 30)]
    pub(super) timeout: u64,
}

/// A runtime to talk to.
pub(super) struct Client<'a> {
    port: u16,
    token: Option<String>,
    deadline: Deadline,
    world: &'a dyn World,
}

/// Its answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl TargetArgs {
    /// The runtime meant.
    ///
    /// # Errors
    /// When none runs beside the app named.
    pub(super) fn client<'a>(
        &self,
        context: &Context,
        world: &'a dyn World,
    ) -> Result<Client<'a>, Failure> {
        let port = match (self.http_port, &self.app_id) {
            (_, Some(id)) => find(context, id)?.http_port,
            (Some(port), None) => port,
            (None, None) => {
                let running = running::all(&running::folder(&context.environment));
                let first = running.iter().flat_map(|runtime| &runtime.apps).next();
                first.map_or(3500, |app| app.http_port)
            }
        };
        let deadline = Deadline::after(world, Duration::from_secs(self.timeout));
        let token = context.environment.get("DAPR_API_TOKEN").map(ToOwned::to_owned);
        Ok(Client { port, token, deadline, world })
    }
}

/// The running app called `id`.
pub(super) fn find(context: &Context, id: &str) -> Result<RunningApp, Failure> {
    let running = running::all(&running::folder(&context.environment));
    let apps: Vec<RunningApp> = running.into_iter().flat_map(|runtime| runtime.apps).collect();
    apps.iter().find(|app| app.app_id == id).cloned().ok_or_else(|| {
        let known: Vec<&str> = apps.iter().map(|app| app.app_id.as_str()).collect();
        let failure = Failure::new(
            "OUTR-0022",
            Exit::NotFound,
            format!("no app called {id:?} is running here"),
        );
        if known.is_empty() {
            return failure
                .help("start one with `outrigger run`; `outrigger list` shows what runs");
        }
        failure.help(format!("running: {}", known.join(", ")))
    })
}

impl Client<'_> {
    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// When nothing answers at the port, or not in time.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let exchange = self.exchange(method, path, headers, body);
        match within(self.world, self.deadline, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::new("OUTR-0023", Exit::Timeout, "no answer in time")
                .at(format!("http://127.0.0.1:{}{path}", self.port))
                .help("allow more time with --timeout")),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let port = self.port;
        let unreachable = |reason: &dyn std::fmt::Display| {
            Failure::new(
                "OUTR-0020",
                Exit::Unavailable,
                format!("no runtime answers at port {port}"),
            )
            .why(reason)
            .help("start one with `outrigger run`, or name its port with --dapr-http-port")
        };
        let socket = TcpStream::connect(("127.0.0.1", port)).await.map_err(|e| unreachable(&e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
            .await
            .map_err(|e| unreachable(&e))?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, format!("127.0.0.1:{port}"));
        if let Some(token) = &self.token {
            request = request.header("dapr-api-token", token);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| {
            Failure::new("OUTR-0001", Exit::Usage, "that cannot be sent over HTTP")
                .at(path)
                .why(error)
        })?;
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let (head, body) = answer.into_parts();
            Ok::<_, hyper::Error>(Answer {
                status: head.status,
                body: body.collect().await?.to_bytes(),
            })
        };
        tokio::pin!(connection);
        tokio::select! {
            answer = exchange => answer.map_err(|error| unreachable(&error)),
            end = &mut connection => match end {
                Ok(()) => Err(unreachable(&"the connection was closed")),
                Err(error) => Err(unreachable(&error)),
            },
        }
    }
}

impl Answer {
    /// The body of a good answer.
    ///
    /// # Errors
    /// The runtime's refusal, with the exit code that fits its status.
    pub(super) fn success(self, what: &str) -> Result<Bytes, Failure> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        Err(self.refusal(what))
    }

    /// The failure that a bad answer is.
    pub(super) fn refusal(&self, what: &str) -> Failure {
        let told = serde_json::from_slice::<serde_json::Value>(&self.body).ok();
        let field = |name: &str| Some(told.as_ref()?.get(name)?.as_str()?.to_owned());
        let missing =
            |code: String| code.ends_with("_NOT_FOUND") || code.ends_with("_NOT_CONFIGURED");
        let exit = match self.status.as_u16() {
            _ if field("errorCode").is_some_and(missing) => Exit::NotFound,
            // A call to an app that nobody knows has the same code as one that failed on its way.
            500 if field("message").is_some_and(|text| text.contains("no app named")) => {
                Exit::NotFound
            }
            404 => Exit::NotFound,
            409 | 412 => Exit::Conflict,
            401 | 403 => Exit::Forbidden,
            408 | 504 => Exit::Timeout,
            502 | 503 => Exit::Unavailable,
            _ => Exit::Failed,
        };
        let failure = Failure::new("OUTR-0021", exit, format!("{what}: {}", self.status));
        match (field("errorCode"), field("message")) {
            (Some(code), Some(message)) => failure.why(format!("{code}: {message}")),
            _ if self.body.is_empty() => failure,
            _ => failure.why(String::from_utf8_lossy(&self.body)),
        }
    }
}

/// One segment of a path, percent-encoded.
pub(super) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Data given on the command line: the text itself, `@file`, or `-` or `@-` for stdin.
pub(super) fn data(given: &str) -> Result<Bytes, Failure> {
    use std::io::Read;
    let failed = |error: std::io::Error| {
        Failure::new("OUTR-0001", Exit::Usage, "the data cannot be read").at(given).why(error)
    };
    match given.strip_prefix('@') {
        Some("-") => {}
        Some(path) => return std::fs::read(path).map(Bytes::from).map_err(failed),
        None if given == "-" => {}
        None => return Ok(Bytes::copy_from_slice(given.as_bytes())),
    }
    let mut all = Vec::new();
    std::io::stdin().lock().read_to_end(&mut all).map_err(failed)?;
    Ok(all.into())
}

/// What to call `data` in a `content-type`, unless the user says it.
pub(super) fn content_type(data: &[u8]) -> &'static str {
    let json = serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok();
    if json { "application/json" } else { "text/plain" }
}
