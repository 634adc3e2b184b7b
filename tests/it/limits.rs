//! A rate limit that is one for all runtimes of a data folder.

use anyhow::{Result, ensure};
use outrigger_tests::{
    Answer, App, Folder, Node, Start, eventually,
    patience::{Patience, Stopwatch},
};
use std::{thread, time::Duration};

const RATE: f64 = 20.0;
const BURST: f64 = 4.0;

const RESILIENCY: &str = "\
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: limits}
spec:
  policies:
    rateLimits:
      partner: {calls: 1200, period: 1m, burst: 4, shared: true}
  targets:
    apps:
      partner: {rateLimit: partner}
";

fn sidecar(app_id: &str, data: &Folder) -> Start {
    Start::sidecar(app_id).resource("limits.yaml", RESILIENCY).data(data.path())
}

/// Calls without a pause for `time`; answers how many calls were let through.
fn call(node: &Node, time: Duration) -> Result<u32> {
    let (begun, mut passed) = (Stopwatch::start(), 0);
    while begun.elapsed() < time {
        let answer = node.get("/v1.0/invoke/partner/method/x")?;
        match answer.status {
            200 => passed += 1,
            429 => Patience::of(Duration::from_millis(5)).pause(),
            _ => anyhow::bail!("{answer:?}"),
        }
    }
    Ok(passed)
}

#[test]
fn a_shared_limit_holds_for_all_runtimes_together() -> Result<()> {
    let data = Folder::new("shared limit")?;
    let partner = App::start(|_| Answer::status(200))?;
    let first = sidecar("partner", &data).app_port(partner.port).ready()?;
    let mut second = sidecar("second", &data).ready()?;
    eventually("the app, from the second", || {
        second.get("/v1.0/invoke/partner/method/x").ok().filter(|answer| answer.status == 200)
    });

    let (begun, time) = (Stopwatch::start(), Duration::from_secs(3));
    let (one, two) = thread::scope(|scope| {
        let one = scope.spawn(|| call(&first, time));
        let two = scope.spawn(|| call(&second, time));
        (one.join(), two.join())
    });
    let most = RATE * begun.elapsed().as_secs_f64() + BURST + 2.0;
    let (one, two) = (one.expect("no panic")?, two.expect("no panic")?);
    let both = f64::from(one + two);
    ensure!(both <= most, "{one} + {two} calls, where {most} is the bound");
    ensure!(both >= RATE, "{one} + {two} calls: much less than the limit");
    ensure!(one > 0 && two > 0, "{one} + {two} calls: one of them had no share");

    second.kill()?;
    let passed = eventually("all of the limit for the one that is left", || {
        call(&first, Duration::from_secs(1)).ok().filter(|passed| f64::from(*passed) >= RATE * 0.8)
    });
    ensure!(f64::from(passed) <= RATE * 1.5 + BURST + 2.0, "{passed} calls in a second");
    Ok(())
}
