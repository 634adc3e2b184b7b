//! A blocking HTTP/1.1 client, small enough to see what goes over the wire.
//!
//! Written by hand because the tests must be able to send what a good client refuses to: broken heads, half a body,
//! a byte a second.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers as sent, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The stable code of an error answer.
    #[must_use]
    pub fn code(&self) -> String {
        self.json()["errorCode"].as_str().unwrap_or_default().to_owned()
    }
}

/// A connection that is used for one request after the other.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to a port of this machine.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .with_context(|| format!("nobody listens on port {port}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a request with a whole body and reads the whole answer.
    ///
    /// # Errors
    /// When the connection breaks or the answer is not HTTP.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n");
        let given = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !given("content-length") && !given("transfer-encoding") {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        // A server may answer and close before it has read everything; its answer is what counts.
        let written = self.stream.get_mut().write_all(&bytes);
        let answer = self.response(method == "HEAD");
        if answer.is_err() {
            written?;
        }
        answer
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }

    /// Says that nothing more will be sent, and goes on reading.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn half_close(&mut self) -> Result<()> {
        Ok(self.stream.get_mut().shutdown(Shutdown::Write)?)
    }

    /// Reads one answer.
    ///
    /// # Errors
    /// When the connection breaks or the answer is not HTTP.
    pub fn response(&mut self, bodiless: bool) -> Result<Response> {
        loop {
            let line = self.line()?;
            let mut words = line.split(' ');
            let (version, status) = (words.next().unwrap_or_default(), words.next());
            if !version.starts_with("HTTP/1.") {
                bail!("not an HTTP answer: {line:?}");
            }
            let status: u16 = status.unwrap_or_default().parse().context("no status")?;
            let headers = self.headers()?;
            if status < 200 {
                continue;
            }
            let mut response = Response { status, headers, body: Vec::new() };
            if !bodiless && status != 204 && status != 304 {
                response.body = self.body(&response)?;
            }
            return Ok(response);
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            bail!("the connection was closed");
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn headers(&mut self) -> Result<Vec<(String, String)>> {
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(headers);
            }
            let (name, value) = line.split_once(':').context("a header without a colon")?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn body(&mut self, response: &Response) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        if response.header("transfer-encoding").is_some_and(|v| v.contains("chunked")) {
            loop {
                let line = self.line()?;
                let digits = line.split(';').next().unwrap_or_default();
                let length = usize::from_str_radix(digits.trim(), 16).context("chunk length")?;
                if length == 0 {
                    self.headers()?;
                    return Ok(body);
                }
                let start = body.len();
                body.resize(start + length, 0);
                self.stream.read_exact(&mut body[start..])?;
                self.line()?;
            }
        }
        match response.header("content-length") {
            Some(length) => {
                body.resize(length.parse().context("content-length")?, 0);
                self.stream.read_exact(&mut body)?;
            }
            None => {
                self.stream.read_to_end(&mut body)?;
            }
        }
        Ok(body)
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// When the connection breaks or the answer is not HTTP.
pub fn send(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Response> {
    Connection::open(port)?.request(method, path, headers, body)
}
