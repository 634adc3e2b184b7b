//! What do callers notice of one slow instance among five, and what does that cost the others?

use crate::{
    field::{Flood, Shots, Sleepy, haproxy, nginx, resiliency, seconds},
    process::{Folder, Server, outrigger},
    report::{Figure, time},
};
use anyhow::Result;
use std::time::Duration;

const INSTANCES: usize = 5;
/// A quarter of what the healthy ones manage.
const RATE: f64 = 300.0;
const SLOWER: u32 = 10;
const PATIENCE: Duration = Duration::from_secs(5);

/// Five instances with something in front of them.
struct Fleet {
    servers: Vec<Sleepy>,
    port: u16,
    path: &'static str,
    running: Vec<Server>,
}

/// Healthy, then with one slow: how the calls did, and attempts per call with the slow one.
struct Told {
    healthy: Shots,
    slow: Shots,
    attempts: f64,
}

impl Fleet {
    fn measured(&self) -> Result<Told> {
        let flood = || Flood::new(self.port, self.path, PATIENCE);
        let (warm, time) = (seconds(3), seconds(8));
        let healthy = flood().then(RATE, warm + time).run_alone()?.between(warm, warm + time);
        self.servers[2].slower(SLOWER)?;
        let seen = || self.servers.iter().map(Sleepy::seen).sum::<Result<f64>>();
        let before = seen()?;
        let shots = flood().then(RATE, warm + time).run_alone()?;
        let attempts = (seen()? - before) / shots.len();
        self.servers[2].slower(1)?;
        Ok(Told { healthy, slow: shots.between(warm, warm + time), attempts })
    }
}

fn servers(home: &Folder) -> Result<Vec<Sleepy>> {
    (0..INSTANCES).map(|_| Sleepy::start(home, 4, Duration::from_millis(10))).collect()
}

fn ports(servers: &[Sleepy]) -> impl Iterator<Item = u16> + '_ {
    servers.iter().map(Sleepy::port)
}

fn behind_nginx(home: &Folder) -> Result<Fleet> {
    let servers = servers(home)?;
    let upstream: String =
        ports(&servers).map(|port| format!("    server 127.0.0.1:{port};\n")).collect();
    let proxy = nginx(home, "turns", &upstream, "")?;
    Ok(Fleet { servers, port: proxy.port, path: "/work", running: vec![proxy] })
}

fn behind_haproxy(home: &Folder) -> Result<Fleet> {
    let servers = servers(home)?;
    let list: String =
        ports(&servers).map(|port| format!("  server s{port} 127.0.0.1:{port}\n")).collect();
    let proxy = haproxy(home, "least", &format!("  balance leastconn\n{list}"))?;
    Ok(Fleet { servers, port: proxy.port, path: "/work", running: vec![proxy] })
}

/// Five runtimes of one app and one of the caller, on one data folder.
fn behind_ours(home: &Folder, policies: &str, target: &str) -> Result<Fleet> {
    let servers = servers(home)?;
    let resources = resiliency(home, policies, target)?;
    let mut running = Vec::new();
    for port in ports(&servers) {
        running.push(outrigger(home, &["--app-id", "app", "--app-port", &port.to_string()])?);
    }
    let caller = outrigger(home, &["--app-id", "caller", "--resources-path", &resources])?;
    let port = caller.port;
    running.push(caller);
    Ok(Fleet { servers, port, path: "/v1.0/invoke/app/method/work", running })
}

pub(crate) fn run() -> Result<Vec<Figure>> {
    let near = "    loadBalancers:\n      near: {strategy: peakEwma}\n";
    let hedge = "    hedges:\n      tail: {maxExtraPercent: 5}\n";
    let measured = |fleet: Result<Fleet>| -> Result<Told> {
        let fleet = fleet?;
        let told = fleet.measured()?;
        drop(fleet.running);
        Ok(told)
    };
    let folders: Vec<Folder> = (0..4).map(|_| Folder::new()).collect::<Result<_>>()?;
    let both = measured(behind_ours(
        &folders[0],
        &format!("{near}{hedge}"),
        "{loadBalancer: near, hedge: tail}",
    ))?;
    let chosen = measured(behind_ours(&folders[1], near, "{loadBalancer: near}"))?;
    let turns = measured(behind_nginx(&folders[2]))?;
    let least = measured(behind_haproxy(&folders[3]))?;
    let times = |told: &Told| told.slow.quantile(0.99) / told.healthy.quantile(0.99);
    let tell = |told: &Told| {
        format!(
            "{:.2}x ({} of {})",
            times(told),
            time(told.slow.quantile(0.99)),
            time(told.healthy.quantile(0.99))
        )
    };
    let extra = 100.0 * (both.attempts - 1.0);
    Ok(vec![
        Figure::new(
            "one instance of five ten times slower: p99 by that of a healthy fleet",
            tell(&both),
        )
        .beside(format!(
            "without hedges {}; nginx in turns {}; HAProxy leastconn {}",
            tell(&chosen),
            tell(&turns),
            tell(&least)
        ))
        .goal("at most 1.5x", times(&both) <= 1.5),
        Figure::new(
            "one instance of five ten times slower: load that hedges add",
            format!("{extra:.1} %"),
        )
        .goal("at most 5 %", extra <= 5.0),
    ])
}
