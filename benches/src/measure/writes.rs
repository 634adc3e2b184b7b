//! How fast are durable writes beside systems that people trust with them?
//!
//! Everything writes to the same file system and answers after its sync. etcd is asked through its JSON gateway, which
//! costs it something over its native gRPC.

use crate::{
    load::Aim,
    machine::sync_price,
    process::{Folder, Server, outrigger, port},
    report::{Figure, median, rate, time},
    wire::{Protocol, redis_set, request},
};
use anyhow::Result;
use std::{process::Command, time::Duration, time::Instant};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

struct Rival<'a> {
    name: &'static str,
    server: Option<Server>,
    protocol: Protocol,
    request: Box<dyn Fn(usize, usize) -> Vec<u8> + Sync + 'a>,
    rates: Vec<f64>,
    p50s: Vec<f64>,
}

fn key(connection: usize, number: usize) -> String {
    format!("key-{connection}-{}", number % 1000)
}

fn ours<'a>(home: &Folder, value: &'a str) -> Result<Rival<'a>> {
    let make = move |connection, number| {
        let body = format!(r#"[{{"key":"{}","value":"{value}"}}]"#, key(connection, number));
        request("POST", "/v1.0/state/statestore", &JSON, body.as_bytes())
    };
    let server = Some(outrigger(home, &["--app-id", "writes"])?);
    Ok(rival("Outrigger", server, Protocol::Http, Box::new(make)))
}

fn rival<'a>(
    name: &'static str,
    server: Option<Server>,
    protocol: Protocol,
    request: Box<dyn Fn(usize, usize) -> Vec<u8> + Sync + 'a>,
) -> Rival<'a> {
    Rival { name, server, protocol, request, rates: Vec::new(), p50s: Vec::new() }
}

fn redis<'a>(home: &Folder, value: &'a str) -> Result<Rival<'a>> {
    let make = move |connection, number| redis_set(&key(connection, number), value.as_bytes());
    let server = redis_server(home);
    Ok(rival("Redis, appendfsync always", server.ok(), Protocol::Line, Box::new(make)))
}

/// Redis, which flushes before it answers.
pub(crate) fn redis_server(home: &Folder) -> Result<Server> {
    let port = port()?;
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(home.path());
    let mut server = Server::start(command, port, home.path())?;
    server.wait_open()?;
    Ok(server)
}

fn etcd<'a>(home: &Folder, value: &'a str) -> Result<Rival<'a>> {
    let encoded = base64(value.as_bytes());
    let make = move |connection, number| {
        let key = base64(key(connection, number).as_bytes());
        let body = format!(r#"{{"key":"{key}","value":"{encoded}"}}"#);
        request("POST", "/v3/kv/put", &JSON, body.as_bytes())
    };
    let server = etcd_server(home);
    Ok(rival("etcd", server.ok(), Protocol::Http, Box::new(make)))
}

/// etcd on its own, as it comes.
pub(crate) fn etcd_server(home: &Folder) -> Result<Server> {
    let (client, peer) = (port()?, port()?);
    let (client_url, peer_url) =
        (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(home.path().join("etcd"));
    command.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
    command.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
    command.args(["--initial-cluster", &format!("default={peer_url}"), "--log-level", "warn"]);
    let mut server = Server::start(command, client, home.path())?;
    server.wait_http("/health", Instant::now())?;
    Ok(server)
}

pub(crate) fn run() -> Result<Vec<Figure>> {
    let price = sync_price()?;
    let growing = format!("to a file that grows: {}", time(price.growing));
    let mut figures = vec![
        Figure::new("this disk: one fdatasync of 512 bytes in a sized file", time(price.sized))
            .beside(growing),
    ];
    for connections in [1, 32] {
        let (home, value) = (Folder::new()?, "x".repeat(100));
        let mut rivals = [ours(&home, &value)?, redis(&home, &value)?, etcd(&home, &value)?];
        for _ in 0..ROUNDS {
            for rival in &mut rivals {
                let Some(server) = &rival.server else { continue };
                let aim = Aim {
                    port: server.port,
                    protocol: rival.protocol,
                    connections,
                    request: &rival.request,
                    statuses: &[0, 200, 204],
                };
                let sample = aim.closed(ROUND)?;
                rival.rates.push(sample.rate());
                rival.p50s.push(sample.quantile(0.5));
            }
        }
        figures.push(told(connections, &rivals));
    }
    Ok(figures)
}

fn told(connections: usize, rivals: &[Rival<'_>]) -> Figure {
    let tell = |rival: &Rival<'_>| match rival.server {
        Some(_) => format!(
            "{}, p50 {}",
            rate(median(rival.rates.clone())),
            time(median(rival.p50s.clone()))
        ),
        None => "not installed".to_owned(),
    };
    let [ours, others @ ..] = rivals else { return Figure::new("durable writes", "") };
    let question = format!("durable writes of 100 bytes, {connections} connections");
    let beside: Vec<String> =
        others.iter().map(|rival| format!("{}: {}", rival.name, tell(rival))).collect();
    Figure::new(&question, tell(ours)).beside(beside.join("; "))
}

/// Standard base64; etcd's gateway wants bytes in it.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            (0..3).fold(0_u32, |word, at| word << 8 | u32::from(*chunk.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let index = (word >> (18 - 6 * at) & 63) as usize;
            text.push(if at <= chunk.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    text
}
