//! Do large bodies pass without being kept?

use crate::{
    process::{Folder, Server, bare, outrigger},
    report::{Figure, time},
};
use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

const BYTES: usize = 100 * 1000 * 1000;
const GROWTH_KIB_MAX: u64 = 16 * 1024;

pub(crate) fn run() -> Result<Vec<Figure>> {
    let home = Folder::new()?;
    let app = bare(&home, "constant")?;
    let app_port = app.port.to_string();
    let flags = ["--app-id", "bodies", "--app-port", &app_port, "--max-body-size", "200Mi"];
    let ours = outrigger(&home, &flags)?;
    let before = ours.status("VmRSS")?;
    let up = upload(&ours)?;
    let down = download(&ours)?;
    let grown = ours.status("VmHWM")?.saturating_sub(before);
    let told =
        format!("up {}, down {}", time(up.as_secs_f64() * 1e9), time(down.as_secs_f64() * 1e9));
    let figure = Figure::new(
        "100 MB body each way through a call: growth of resident memory at its highest",
        format!("{:.1} MB", grown as f64 / 1024.0),
    );
    Ok(vec![figure.beside(told).goal("constant memory (under 16 MB)", grown < GROWTH_KIB_MAX)])
}

fn upload(server: &Server) -> Result<Duration> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
    let started = Instant::now();
    let path = "/v1.0/invoke/bodies/method/take";
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {BYTES}\r\n\r\n"
    )?;
    let chunk = vec![b'x'; 1_000_000];
    for _ in 0..BYTES / chunk.len() {
        stream.write_all(&chunk)?;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.ends_with(&BYTES.to_string()), "the app did not get everything: {answer}");
    Ok(started.elapsed())
}

fn download(server: &Server) -> Result<Duration> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
    let started = Instant::now();
    let path = format!("/v1.0/invoke/bodies/method/large/{BYTES}");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let (mut buffer, mut total, mut first) = (vec![0; 1 << 20], 0, None);
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        first.get_or_insert_with(|| String::from_utf8_lossy(&buffer[..read.min(12)]).into_owned());
        total += read;
    }
    let first = first.context("no answer")?;
    ensure!(first.ends_with("200") && total > BYTES, "answered {first}, {total} bytes");
    Ok(started.elapsed())
}
