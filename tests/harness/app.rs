//! An app on a thread of the test: answers what the test says and remembers what it was asked.

use crate::{patience, ports};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::Builder,
};

/// What the app was asked.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Incoming {
    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// What the app answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers besides the length.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A status without a body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// 200 with JSON.
    #[must_use]
    pub fn json(value: &Value) -> Self {
        Self::status(200).with("content-type", "application/json").body(value.to_string())
    }

    /// The same with a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// An event's acknowledgement: `SUCCESS`, `RETRY` or `DROP`.
    #[must_use]
    pub fn verdict(word: &str) -> Self {
        Self::json(&json!({ "status": word }))
    }
}

/// The app; it ends when dropped.
pub struct App {
    /// Where it listens.
    pub port: u16,
    seen: Arc<Mutex<Vec<Incoming>>>,
    ended: Arc<AtomicBool>,
}

type Handler = dyn Fn(&Incoming) -> Answer + Send + Sync;

impl App {
    /// Starts an app with `handler` on a free port.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn start(handler: impl Fn(&Incoming) -> Answer + Send + Sync + 'static) -> Result<Self> {
        Self::start_on(ports::free(), handler)
    }

    /// Starts an app on a given port: for apps that come back.
    ///
    /// # Errors
    /// When the port cannot be bound.
    pub fn start_on(
        port: u16,
        handler: impl Fn(&Incoming) -> Answer + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))
            .with_context(|| format!("the test's app cannot listen on {port}"))?;
        let (seen, ended) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let app = Self { port, seen: Arc::clone(&seen), ended: Arc::clone(&ended) };
        let handler: Arc<Handler> = Arc::new(handler);
        Builder::new().name("app".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
                let ended = Arc::clone(&ended);
                let serve = move || drop(serve(stream, &*handler, &seen, &ended));
                drop(Builder::new().name("app connection".to_owned()).spawn(serve));
            }
        })?;
        Ok(app)
    }

    /// An app that subscribes to `topics` of `pubsub` at `/on/TOPIC` and acknowledges everything.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn subscriber(pubsub: &str, topics: &[&str]) -> Result<Self> {
        let subscriptions = subscriptions(pubsub, topics);
        Self::start(move |incoming| match incoming.path.as_str() {
            "/dapr/subscribe" => Answer::json(&subscriptions),
            path if path.starts_with("/on/") => Answer::verdict("SUCCESS"),
            _ => Answer::status(404),
        })
    }

    /// Everything it was asked so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Incoming> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The bodies that came to `path`, as JSON, in order.
    #[must_use]
    pub fn bodies(&self, path: &str) -> Vec<Value> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|incoming| incoming.path == path).map(Incoming::json).collect()
    }

    /// Waits until at least `count` requests came to `path` and answers their bodies.
    ///
    /// # Panics
    /// When they do not come.
    #[must_use]
    pub fn wait_for(&self, path: &str, count: usize) -> Vec<Value> {
        patience::eventually(&format!("{count} requests at {path}"), || {
            let bodies = self.bodies(path);
            (bodies.len() >= count).then_some(bodies)
        })
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Wakes the thread that waits for a connection.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// What an app answers at `/dapr/subscribe` for `topics`, each at `/on/TOPIC`.
#[must_use]
pub fn subscriptions(pubsub: &str, topics: &[&str]) -> Value {
    let one = |topic: &&str| json!({ "pubsubname": pubsub, "topic": topic, "route": format!("/on/{topic}") });
    topics.iter().map(one).collect()
}

fn serve(
    stream: TcpStream,
    handler: &Handler,
    seen: &Mutex<Vec<Incoming>>,
    ended: &AtomicBool,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(incoming) = read(&mut reader)? {
        if ended.load(Ordering::Acquire) {
            return Ok(());
        }
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(incoming.clone());
        let answer = handler(&incoming);
        let mut head = format!("HTTP/1.1 {} Status\r\n", answer.status);
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if answer.status != 204 {
            head.push_str(&format!("content-length: {}\r\n", answer.body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if incoming.method != "HEAD" {
            bytes.extend_from_slice(&answer.body);
        }
        reader.get_mut().write_all(&bytes)?;
    }
    Ok(())
}

fn read(reader: &mut BufReader<TcpStream>) -> Result<Option<Incoming>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().context("no method")?.to_owned();
    let path = words.next().context("no path")?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').context("a header without a colon")?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut incoming = Incoming { method, path, headers, body: Vec::new() };
    incoming.body = body(reader, &incoming)?;
    Ok(Some(incoming))
}

fn body(reader: &mut BufReader<TcpStream>, incoming: &Incoming) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    if incoming.header("transfer-encoding").is_some_and(|v| v.contains("chunked")) {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim().split(';').next().unwrap_or(""), 16)?;
            let start = body.len();
            body.resize(start + length, 0);
            reader.read_exact(&mut body[start..])?;
            reader.read_line(&mut line)?;
            if length == 0 {
                return Ok(body);
            }
        }
    }
    if let Some(length) = incoming.header("content-length") {
        body.resize(length.parse()?, 0);
        reader.read_exact(&mut body)?;
    }
    Ok(body)
}
