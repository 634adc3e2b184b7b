//! How long from a publish to its delivery, when nothing else is going on?

use crate::{
    load::Sample,
    machine::{sync_price, sync_price_after},
    measure::drain::Sink,
    process::{Folder, outrigger},
    report::{Figure, time},
    wire::{Protocol, Wire, request},
};
use anyhow::{Context, Result, ensure};
use std::{
    thread,
    time::{Duration, Instant},
};

const EVENTS: usize = 500;
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) fn run() -> Result<Vec<Figure>> {
    let price = sync_price()?.sized;
    let price_after = sync_price_after(PAUSE)?;
    let home = Folder::new()?;
    let sink = Sink::start(false)?;
    let app_port = sink.port.to_string();
    let ours = outrigger(&home, &["--app-id", "delivery", "--app-port", &app_port])?;
    sink.wait_subscribed()?;
    let bytes = request(
        "POST",
        "/v1.0/publish/pubsub/bench",
        &[("content-type", "application/json")],
        br#"{"n":1}"#,
    );
    let mut wire = Wire::open(ours.port, Protocol::Http)?;
    let (mut delivered, mut answered) = (Vec::new(), Vec::new());
    for _ in 0..EVENTS {
        let sent = Instant::now();
        let status = wire.exchange(&bytes)?;
        ensure!(status == 204, "publish answered {status}");
        answered.push(u64::try_from(sent.elapsed().as_nanos())?);
        let arrived = sink.next(Duration::from_secs(10)).context("the event did not arrive")?;
        delivered.push(u64::try_from(arrived.saturating_duration_since(sent).as_nanos())?);
        thread::sleep(PAUSE);
    }
    let (delivered, answered) = (Sample::new(delivered, 1.0), Sample::new(answered, 1.0));
    let p50 = delivered.quantile(0.5);
    let told = format!(
        "p99 {}; answered p50 {}; one sync here {}, after such a pause {}",
        time(delivered.quantile(0.99)),
        time(answered.quantile(0.5)),
        time(price),
        time(price_after)
    );
    Ok(vec![
        Figure::new("publish to delivery, durable, idle: p50", time(p50))
            .beside(told)
            .goal("one sync plus 1 ms", p50 < price + 1e6),
    ])
}
