//! The cheapest client that still speaks the protocol: one blocking connection, bytes prepared once.
//!
//! A general HTTP client would cost as much as the server under test and flatten every ratio towards one.

use anyhow::{Context, Result, bail};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// Which bytes end an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1 with a length, or without a body.
    Http,
    /// Redis: one line.
    Line,
}

/// A connection.
pub(crate) struct Wire {
    stream: TcpStream,
    protocol: Protocol,
    buffer: Vec<u8>,
    filled: usize,
}

impl Wire {
    pub(crate) fn open(port: u16, protocol: Protocol) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .with_context(|| format!("nobody listens on {port}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream, protocol, buffer: vec![0; 64 * 1024], filled: 0 })
    }

    /// Sends prepared bytes and reads one answer; answers its status (0 for Redis).
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request)?;
        self.filled = 0;
        loop {
            if self.filled == self.buffer.len() {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            let read = self.stream.read(&mut self.buffer[self.filled..])?;
            if read == 0 {
                bail!("the server closed the connection");
            }
            self.filled += read;
            if let Some(status) = complete(self.protocol, self.answer())? {
                return Ok(status);
            }
        }
    }

    /// The last answer's bytes.
    pub(crate) fn answer(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

/// The status of an answer (0 for Redis), once `bytes` are all of it.
pub(crate) fn complete(protocol: Protocol, bytes: &[u8]) -> Result<Option<u16>> {
    if protocol == Protocol::Line {
        if bytes.first() == Some(&b'-') {
            bail!("refused: {}", String::from_utf8_lossy(bytes));
        }
        return Ok(bytes.ends_with(b"\r\n").then_some(0));
    }
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..head])?;
    let status: u16 = text.get(9..12).context("no status")?.parse()?;
    let length = text
        .lines()
        .find_map(|line| {
            line.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case("content-length"))
        })
        .map_or(Ok(0), |(_, value)| value.trim().parse::<usize>())?;
    if text.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return Ok(bytes.ends_with(b"0\r\n\r\n").then_some(status));
    }
    Ok((bytes.len() >= head + 4 + length).then_some(status))
}

/// A prepared HTTP request.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n");
    if !body.is_empty() || method == "POST" {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// `SET key value` for Redis.
pub(crate) fn redis_set(key: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n", key.len(), value.len()).into_bytes();
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(b"\r\n");
    bytes
}
