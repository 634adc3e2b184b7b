//! What does a state read cost beside the least an HTTP server can do?

use crate::{
    load::{Aim, Sample},
    process::{Folder, Server, bare, outrigger},
    report::{Figure, median, rate, time},
    wire::{Protocol, Wire, request},
};
use anyhow::{Result, ensure};
use std::time::Duration;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
const CONNECTIONS: usize = 8;

struct Round {
    sample: Sample,
    cpu_per_request: f64,
}

fn round(server: &Server, path: &str) -> Result<Round> {
    let bytes = request("GET", path, &[], b"");
    let make = |_, _| bytes.clone();
    let aim = Aim {
        port: server.port,
        protocol: Protocol::Http,
        connections: CONNECTIONS,
        request: &make,
        statuses: &[200],
    };
    let before = server.cpu()?;
    let sample = aim.closed(ROUND)?;
    let cpu_per_request = (server.cpu()? - before) * 1e9 / sample.count() as f64;
    Ok(Round { sample, cpu_per_request })
}

pub(crate) fn run() -> Result<Vec<Figure>> {
    let home = Folder::new()?;
    let ours = outrigger(&home, &["--app-id", "reads"])?;
    let rival = bare(&home, "constant")?;
    let value = "x".repeat(98);
    let body = format!(r#"[{{"key":"k","value":"{value}"}}]"#);
    let save = request(
        "POST",
        "/v1.0/state/statestore",
        &[("content-type", "application/json")],
        body.as_bytes(),
    );
    let status = Wire::open(ours.port, Protocol::Http)?.exchange(&save)?;
    ensure!(status == 204, "the value could not be saved: {status}");
    let (mut our, mut their) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        our.push(round(&ours, "/v1.0/state/statestore/k")?);
        their.push(round(&rival, "/")?);
    }
    let pick =
        |rounds: &[Round], what: fn(&Round) -> f64| median(rounds.iter().map(what).collect());
    let rates = (pick(&our, |r| r.sample.rate()), pick(&their, |r| r.sample.rate()));
    let p50 = (pick(&our, |r| r.sample.quantile(0.5)), pick(&their, |r| r.sample.quantile(0.5)));
    let cpu = (pick(&our, |r| r.cpu_per_request), pick(&their, |r| r.cpu_per_request));
    let ratio = rates.1 / rates.0;
    Ok(vec![
        Figure::new(
            "state reads over HTTP, 8 connections",
            format!("{}, p50 {}", rate(rates.0), time(p50.0)),
        )
        .beside(format!(
            "bare hyper server: {}, p50 {}; ratio {ratio:.2}",
            rate(rates.1),
            time(p50.1)
        ))
        .goal("within 1.5x", ratio <= 1.5),
        Figure::new("processor time of a state read", time(cpu.0)).beside(format!(
            "bare hyper server: {}; ratio {:.2}",
            time(cpu.1),
            cpu.0 / cpu.1
        )),
    ])
}
