//! How often is a dead service asked for each call, when three services before it retry?

use crate::{
    field::{Flood, Sleepy, nginx, relay, resiliency, seconds},
    process::{Folder, Server, outrigger},
    report::Figure,
};
use anyhow::Result;
use std::time::Duration;

const RATE: f64 = 100.0;
const PATIENCE: Duration = Duration::from_secs(5);

/// Three apps in a row before a leaf that fails; each asks the next through what `between` puts there.
fn asked(
    home: &Folder,
    leaf: &Sleepy,
    mut between: impl FnMut(u16) -> Result<(Server, String)>,
) -> Result<f64> {
    let (mut running, mut next) = (Vec::new(), leaf.port());
    for _ in 0..3 {
        let (proxy, url) = between(next)?;
        let app = relay(home, &url)?;
        next = app.port;
        running.extend([proxy, app]);
    }
    let before = leaf.seen()?;
    let flood = Flood::new(next, "/work", PATIENCE).then(RATE, seconds(10));
    let shots = flood.run_alone()?;
    Ok((leaf.seen()? - before) / shots.len())
}

pub(crate) fn run() -> Result<Vec<Figure>> {
    let home = Folder::new()?;
    let leaf = || Sleepy::start(&home, 0, Duration::ZERO);
    let (dead, other) = (leaf()?, leaf()?);
    let mut number = 0;
    let plain = asked(&home, &dead, |next| {
        number += 1;
        let upstream = format!("    server 127.0.0.1:{next} max_fails=0;\n").repeat(3);
        let location = "      proxy_next_upstream error timeout http_502 http_503 http_504;\n      \
                        proxy_next_upstream_tries 3;\n";
        let proxy = nginx(&home, &format!("hop{number}"), &upstream, location)?;
        let url = format!("http://127.0.0.1:{}/work", proxy.port);
        Ok((proxy, url))
    })?;
    let mut folders = Vec::new();
    let mut guarded = |policies: &str, target: &str| {
        asked(&home, &other, |next| {
            let folder = Folder::new()?;
            let resources = resiliency(&folder, policies, target)?;
            let next = next.to_string();
            let flags = ["--app-id", "app", "--app-port", &next, "--resources-path", &resources];
            let proxy = outrigger(&folder, &flags)?;
            let url = format!("http://127.0.0.1:{}/v1.0/invoke/app/method/work", proxy.port);
            folders.push(folder);
            Ok((proxy, url))
        })
    };
    let retries = "    retries:\n      two: {policy: exponential, jitter: full, maxRetries: 2}\n";
    let budget = guarded(retries, "{retry: two}")?;
    let breaker =
        format!("{retries}    circuitBreakers:\n      rates: {{window: {{time: 10s}}}}\n");
    let both = guarded(&breaker, "{retry: two, circuitBreaker: rates}")?;
    Ok(vec![
        Figure::new(
            "three services in a row, each with two retries, and a leaf that fails: attempts at the leaf for a call",
            format!("{both:.3}"),
        )
        .beside(format!("without breakers {budget:.2}; nginx {plain:.2}"))
        .goal("at most 1.1", both <= 1.1),
    ])
}
