//! The leanest load for many connections: one thread, one poll for all of them, requests made beforehand.
//!
//! A thread per connection costs the machine two switches per request, which the server under test would be charged with
//! where both share two cores. What `redis-benchmark` does, for HTTP.

use crate::{
    load::Sample,
    store::nanoseconds,
    wire::{Protocol, complete},
};
use anyhow::{Context, Result, bail, ensure};
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

/// What one connection sends, again and again.
pub(crate) type Script = Vec<Vec<u8>>;

/// Closed loop on one connection per script, for `time`. Every answer must have one of `statuses`.
pub(crate) fn closed(
    port: u16,
    scripts: &[Script],
    statuses: &[u16],
    time: Duration,
) -> Result<Sample> {
    let mut poll = Poll::new()?;
    let mut lines = Vec::new();
    for (number, script) in scripts.iter().enumerate() {
        ensure!(!script.is_empty(), "nothing to send");
        let mut stream =
            std::net::TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
                .and_then(|stream| {
                    stream.set_nodelay(true)?;
                    stream.set_nonblocking(true)?;
                    Ok(TcpStream::from_std(stream))
                })
                .with_context(|| format!("nobody listens on {port}"))?;
        poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
        lines.push(Line { stream, sent: Instant::now(), next: 0, buffer: [0; 4096], filled: 0 });
    }
    let (begun, mut latencies) = (Instant::now(), Vec::with_capacity(1 << 18));
    for (line, script) in lines.iter_mut().zip(scripts) {
        line.send(script)?;
    }
    let mut events = Events::with_capacity(scripts.len().max(8));
    let mut under_way = lines.len();
    while under_way > 0 {
        poll.poll(&mut events, Some(Duration::from_secs(30)))?;
        ensure!(!events.is_empty(), "no answer for 30 seconds");
        for event in &events {
            let Token(number) = event.token();
            let line = &mut lines[number];
            let Some(status) = line.read()? else { continue };
            if !statuses.contains(&status) {
                bail!(
                    "answered {status}: {}",
                    String::from_utf8_lossy(&line.buffer[..line.filled])
                );
            }
            latencies.push(nanoseconds(line.sent.elapsed()));
            if begun.elapsed() < time {
                line.send(&scripts[number])?;
            } else {
                under_way -= 1;
            }
        }
    }
    Ok(Sample::new(latencies, begun.elapsed().as_secs_f64()))
}

struct Line {
    stream: TcpStream,
    sent: Instant,
    next: usize,
    buffer: [u8; 4096],
    filled: usize,
}

impl Line {
    fn send(&mut self, script: &Script) -> Result<()> {
        let bytes = &script[self.next % script.len()];
        self.next += 1;
        self.filled = 0;
        self.sent = Instant::now();
        // Requests are far smaller than a socket's buffer.
        let sent = self.stream.write(bytes)?;
        ensure!(sent == bytes.len(), "a request did not fit into the socket");
        Ok(())
    }

    /// The status of the answer, once all of it is there. A short read means that nothing is left, so one call does.
    fn read(&mut self) -> Result<Option<u16>> {
        loop {
            let room = &mut self.buffer[self.filled..];
            ensure!(!room.is_empty(), "an answer is too long");
            let (asked, read) = match self.stream.read(room) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(read) => (room.len(), read),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            self.filled += read;
            let answer = &self.buffer[..self.filled];
            // What is answered to nearly everything, and needs no parsing.
            let nothing = answer.starts_with(b"HTTP/1.1 204") && answer.ends_with(b"\r\n\r\n");
            let status = if nothing { Some(204) } else { complete(Protocol::Http, answer)? };
            if status.is_some() || read < asked {
                return Ok(status);
            }
        }
    }
}
