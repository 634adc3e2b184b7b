//! Does a system come back by itself after it was overloaded, or do its retries keep it down?

use crate::{
    field::{
        self, CAPACITY, Flood, Shots, Sleepy, THROUGH, WORK, WORKERS, haproxy, nginx, seconds,
    },
    process::{Folder, Server},
    report::Figure,
};
use anyhow::Result;
use std::time::Duration;

const USUAL: f64 = 0.7 * CAPACITY;
const TWICE: f64 = 2.0 * CAPACITY;
/// A caller that waits longer has gone.
const PATIENCE: Duration = Duration::from_secs(4);

/// A server each for nginx with retries, `HAProxy` with retries, `HAProxy` that is told the capacity, and ours.
fn variants(home: &Folder) -> Result<(Vec<Sleepy>, [Server; 4])> {
    let servers: Vec<Sleepy> =
        (0..4).map(|_| Sleepy::start(home, WORKERS, WORK)).collect::<Result<_>>()?;
    let [plain, other, told, guarded] = [0, 1, 2, 3].map(|index| servers[index].port());
    // Each attempt may take a second, and there are three more.
    let same = format!("    server 127.0.0.1:{plain} max_fails=0;\n").repeat(4);
    let plain = nginx(
        home,
        "plain",
        &same,
        "      proxy_read_timeout 1s;\n      proxy_next_upstream error timeout http_502 http_503 http_504;\n      \
         proxy_next_upstream_tries 4;\n",
    )?;
    let other = haproxy(
        home,
        "other",
        &format!("  retries 3\n  retry-on all-retryable-errors\n  server app 127.0.0.1:{other}\n"),
    )?;
    let told = haproxy(
        home,
        "told",
        &format!(
            "  retries 3\n  retry-on all-retryable-errors\n  timeout queue 100ms\n  server app 127.0.0.1:{told} maxconn 10\n"
        ),
    )?;
    let policies = "    timeouts:\n      each: {attempt: 1s, overall: 4s}\n    \
        retries:\n      three: {policy: exponential, jitter: full, maxRetries: 3}\n    \
        circuitBreakers:\n      rates: {window: {time: 10s}, timeout: 1s, maxRequests: 3}\n    \
        bulkheads:\n      found: {}\n    throttles:\n      held: {}\n";
    let target =
        "{timeout: each, retry: three, circuitBreaker: rates, bulkhead: found, throttle: held}";
    let resources = field::resiliency(home, policies, target)?;
    let ours = field::ours(home, guarded, &resources)?;
    Ok((servers, [plain, other, told, ours]))
}

pub(crate) fn run() -> Result<Vec<Figure>> {
    let home = Folder::new()?;
    let (servers, [plain, other, told, ours]) = variants(&home)?;
    let (before, trigger, after) = (seconds(4), seconds(30), seconds(20));
    let flood = |port, path| {
        let flood = Flood::new(port, path, PATIENCE).then(USUAL, before);
        flood.then(TWICE, trigger).then(USUAL, after)
    };
    let floods = vec![
        flood(plain.port, "/work"),
        flood(other.port, "/work"),
        flood(told.port, "/work"),
        flood(ours.port, THROUGH),
    ];
    let shots = Flood::run_all(floods)?;
    let (end, until) = (before + trigger, before + trigger + after);
    let back = |shots: &Shots| shots.recovered(end, until, 0.95);
    let word = |back: Option<u64>| match back {
        Some(0) => "at once".to_owned(),
        Some(after) => format!("after {after} s"),
        None => format!("not within {} s", after.as_secs()),
    };
    let tell = |shots: &Shots, server: &Sleepy| -> Result<String> {
        let goodput = 100.0 * shots.between(end, until).goodput();
        let during = 100.0 * shots.between(before, end).good() / (CAPACITY * trigger.as_secs_f64());
        let attempts = server.seen()? / shots.len();
        Ok(format!(
            "{}; {goodput:.0} % answered in the {} s after it, {during:.0} % of what is possible during it, {attempts:.2} attempts a call",
            word(back(shots)),
            after.as_secs()
        ))
    };
    let own = tell(&shots[3], &servers[3])?;
    let beside = format!(
        "nginx with retries: {}. HAProxy with retries: {}. HAProxy told the server's capacity: {}",
        tell(&shots[0], &servers[0])?,
        tell(&shots[1], &servers[1])?,
        tell(&shots[2], &servers[2])?
    );
    let reached = back(&shots[3]).is_some_and(|after| after <= 10);
    let question = "30 s of twice what the server manages, then 70 % of it: 95 % answered again";
    Ok(vec![
        Figure::new(question, own)
            .beside(beside)
            .goal("within 10 s of its end, where plain retries stay down", reached),
    ])
}
