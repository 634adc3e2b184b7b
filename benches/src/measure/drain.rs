//! How fast do queued messages leave for a subscriber that does nothing?

use crate::{
    process::{Folder, outrigger, port},
    report::{Figure, median, rate},
    wire::{Protocol, Wire, request},
};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

const MESSAGES: usize = 50_000;
const ROUNDS: usize = 3;
const PER_PUBLISH: usize = 500;

/// An app that subscribes to the topic `bench` and acknowledges everything.
pub(crate) struct Sink {
    pub(crate) port: u16,
    arrivals: Receiver<(Instant, usize)>,
    subscribed: Arc<AtomicBool>,
}

impl Sink {
    /// With `bulk`, asks for batches.
    pub(crate) fn start(bulk: bool) -> Result<Self> {
        let port = port()?;
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let (sender, arrivals) = sync_channel(MESSAGES);
        let subscribed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&subscribed);
        // Ends with the process; each benchmark has one.
        drop(thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (sender, flag) = (sender.clone(), Arc::clone(&flag));
                drop(thread::spawn(move || drop(serve(stream, bulk, &sender, &flag))));
            }
        }));
        Ok(Self { port, arrivals, subscribed })
    }

    /// Waits until the runtime has asked what the app subscribes to.
    pub(crate) fn wait_subscribed(&self) -> Result<()> {
        let started = Instant::now();
        while !self.subscribed.load(Ordering::Acquire) {
            ensure!(started.elapsed() < Duration::from_secs(20), "the runtime did not ask the app");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// When the next delivery arrived.
    pub(crate) fn next(&self, patience: Duration) -> Option<Instant> {
        self.arrivals.recv_timeout(patience).ok().map(|(at, _)| at)
    }
}

#[derive(Deserialize)]
struct Bulk<'a> {
    #[serde(borrow)]
    entries: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(rename = "entryId")]
    id: &'a str,
}

fn serve(
    stream: TcpStream,
    bulk: bool,
    sender: &SyncSender<(Instant, usize)>,
    subscribed: &AtomicBool,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(1 << 20, stream);
    loop {
        let (path, body) = read(&mut reader)?;
        let answer = match path.as_str() {
            "/dapr/subscribe" => {
                subscribed.store(true, Ordering::Release);
                let extra = r#","bulkSubscribe":{"enabled":true,"maxMessagesCount":1000,"maxAwaitDurationMs":50}"#;
                let extra = if bulk { extra } else { "" };
                format!(r#"[{{"pubsubname":"pubsub","topic":"bench","route":"/take"{extra}}}]"#)
            }
            "/take" if bulk => take(&body, sender)?,
            "/take" => {
                sender.send((Instant::now(), 1))?;
                r#"{"status":"SUCCESS"}"#.to_owned()
            }
            _ => "{}".to_owned(),
        };
        write!(
            reader.get_mut(),
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        )?;
    }
}

fn take(body: &[u8], sender: &SyncSender<(Instant, usize)>) -> Result<String> {
    let bulk: Bulk<'_> = serde_json::from_slice(body)?;
    sender.send((Instant::now(), bulk.entries.len()))?;
    let one = |entry: &Entry<'_>| format!(r#"{{"entryId":"{}","status":"SUCCESS"}}"#, entry.id);
    let statuses: Vec<String> = bulk.entries.iter().map(one).collect();
    Ok(format!(r#"{{"statuses":[{}]}}"#, statuses.join(",")))
}

fn read(reader: &mut BufReader<TcpStream>) -> Result<(String, Vec<u8>)> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        bail!("closed");
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut length, mut chunked) = (0, false);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let lower = line.trim().to_ascii_lowercase();
        if lower.is_empty() {
            break;
        }
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        chunked |= lower.starts_with("transfer-encoding:") && lower.contains("chunked");
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    while chunked {
        line.clear();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16)?;
        let start = body.len();
        body.resize(start + size, 0);
        reader.read_exact(&mut body[start..])?;
        reader.read_line(&mut line)?;
        chunked = size > 0;
    }
    Ok((path, body))
}

/// Queues everything while no subscriber runs, then lets it go; messages per second from the first arrival.
fn round() -> Result<f64> {
    let home = Folder::new()?;
    let sink = Sink::start(true)?;
    let app_port = sink.port.to_string();
    // The subscription must exist before it can miss anything.
    let mut once = outrigger(&home, &["--app-id", "drain", "--app-port", &app_port])?;
    sink.wait_subscribed()?;
    once.stop()?;
    let mut publisher = outrigger(&home, &["--app-id", "publisher"])?;
    fill(publisher.port)?;
    publisher.stop()?;
    let ours = outrigger(&home, &["--app-id", "drain", "--app-port", &app_port])?;
    let patience = Duration::from_secs(60);
    let (mut total, mut first, mut last) = (0, None, None);
    while total < MESSAGES {
        let (at, count) = sink
            .arrivals
            .recv_timeout(patience)
            .with_context(|| format!("{total} arrived: {}", ours.said()))?;
        // Messages of the first batch were on their way before the clock started.
        if first.is_none() {
            first = Some((at, count));
        }
        total += count;
        last = Some(at);
    }
    let ((first, head), last) = (first.context("nothing")?, last.context("nothing")?);
    Ok((total - head) as f64 / last.saturating_duration_since(first).as_secs_f64())
}

fn fill(port: u16) -> Result<()> {
    let filler = "x".repeat(1000);
    let mut wire = Wire::open(port, Protocol::Http)?;
    for batch in 0..MESSAGES / PER_PUBLISH {
        let one = |n: usize| {
            let number = batch * PER_PUBLISH + n;
            format!(
                r#"{{"entryId":"{n}","contentType":"application/json","event":{{"n":{number},"x":"{filler}"}}}}"#
            )
        };
        let entries: Vec<String> = (0..PER_PUBLISH).map(one).collect();
        let body = format!("[{}]", entries.join(","));
        let bytes = request(
            "POST",
            "/v1.0/publish/bulk/pubsub/bench",
            &[("content-type", "application/json")],
            body.as_bytes(),
        );
        let status = wire.exchange(&bytes)?;
        ensure!(
            status == 204,
            "bulk publish answered {status}: {}",
            String::from_utf8_lossy(wire.answer())
        );
    }
    Ok(())
}

pub(crate) fn run() -> Result<Vec<Figure>> {
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        rates.push(round()?);
    }
    let median = median(rates);
    let figure = Figure::new("50,000 queued messages of 1 KB to a bulk subscriber", rate(median));
    Ok(vec![figure.goal("20,000/s or more", median >= 20_000.0)])
}
