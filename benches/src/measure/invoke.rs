//! What does a call through the runtime add to a call of the app itself?

use crate::{
    load::{Aim, Sample},
    process::{Folder, bare, outrigger},
    report::{Figure, median, time},
    wire::{Protocol, request},
};
use anyhow::Result;
use std::time::Duration;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(4);
const RATE: f64 = 1000.0;
const CONNECTIONS: usize = 4;

pub(crate) fn run() -> Result<Vec<Figure>> {
    let home = Folder::new()?;
    let app = bare(&home, "constant")?;
    let app_port = app.port.to_string();
    let ours = outrigger(&home, &["--app-id", "callee", "--app-port", &app_port])?;
    let (mut through, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        through.push(sample(ours.port, "/v1.0/invoke/callee/method/work")?);
        direct.push(sample(app.port, "/work")?);
    }
    let pick = |samples: &[Sample], share: f64| {
        median(samples.iter().map(|s| s.quantile(share)).collect())
    };
    let tell = |share: f64| {
        let (with, without) = (pick(&through, share), pick(&direct, share));
        (with - without, format!("through {}, direct {}", time(with), time(without)))
    };
    let ((p50, p50_told), (p99, p99_told)) = (tell(0.5), tell(0.99));
    Ok(vec![
        Figure::new("invocation at 1,000/s: added p50", time(p50))
            .beside(p50_told)
            .goal("under 150 us", p50 < 150e3),
        Figure::new("invocation at 1,000/s: added p99", time(p99))
            .beside(p99_told)
            .goal("under 1 ms", p99 < 1e6),
    ])
}

fn sample(port: u16, path: &str) -> Result<Sample> {
    let bytes = request("GET", path, &[], b"");
    let make = |_, _| bytes.clone();
    let aim = Aim {
        port,
        protocol: Protocol::Http,
        connections: CONNECTIONS,
        request: &make,
        statuses: &[200],
    };
    aim.open(RATE, ROUND)
}
