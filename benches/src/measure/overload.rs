//! How much is still done, and how promptly, when ten times more is asked for than the server manages?

use crate::{
    field::{
        self, CAPACITY, Flood, Shots, Sleepy, THROUGH, WORK, WORKERS, haproxy, nginx, seconds,
    },
    process::Folder,
    report::{Figure, time},
};
use anyhow::Result;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(1);
const TIMES: f64 = 10.0;

pub(crate) fn run() -> Result<Vec<Figure>> {
    let home = Folder::new()?;
    let server = || Sleepy::start(&home, WORKERS, WORK);
    let (behind_plain, behind_told, behind_ours) = (server()?, server()?, server()?);
    let upstream = format!("    server 127.0.0.1:{};\n", behind_plain.port());
    let plain = nginx(&home, "plain", &upstream, "      proxy_read_timeout 1s;\n")?;
    let told = haproxy(
        &home,
        "told",
        &format!(
            "  timeout queue 50ms\n  server app 127.0.0.1:{} maxconn 10\n",
            behind_told.port()
        ),
    )?;
    // No number of seats: how many the server manages is found.
    let resources =
        field::resiliency(&home, "    bulkheads:\n      found: {}\n", "{bulkhead: found}")?;
    let ours = field::ours(&home, behind_ours.port(), &resources)?;

    let calm =
        |port, path| Flood::new(port, path, PATIENCE).then(CAPACITY / 4.0, seconds(4)).run_alone();
    let unloaded = calm(ours.port, THROUGH)?.quantile(0.99);
    let (warm, loaded) = (seconds(3), seconds(10));
    // One after the other: a load of 2,000 a second is enough for two cores.
    let storm = |port, path| -> Result<Shots> {
        let flood = Flood::new(port, path, PATIENCE).then(CAPACITY * TIMES, warm + loaded);
        Ok(flood.run_alone()?.between(warm, warm + loaded))
    };
    let (own, told, plain) =
        (storm(ours.port, THROUGH)?, storm(told.port, "/work")?, storm(plain.port, "/work")?);
    let share = |shots: &Shots| shots.good() / (CAPACITY * loaded.as_secs_f64());
    let tell = |shots: &Shots| match share(shots) {
        share if share < 0.005 => "0 %".to_owned(),
        share => format!("{:.0} %, p99 {}", 100.0 * share, time(shots.quantile(0.99))),
    };
    let times = own.quantile(0.99) / unloaded;
    Ok(vec![
        Figure::new(
            "ten times what the server manages: answered, of what is possible",
            format!("{:.0} %", 100.0 * share(&own)),
        )
        .beside(format!(
            "nginx without a limit: {}; HAProxy told the server's capacity: {}",
            tell(&plain),
            tell(&told)
        ))
        .goal("90 % or more", share(&own) >= 0.9),
        Figure::new(
            "ten times what the server manages: p99 of what is answered",
            format!("{times:.1}x of that without load"),
        )
        .beside(format!("{}, without load {}", time(own.quantile(0.99)), time(unloaded)))
        .goal("at most 2x", times <= 2.0),
    ])
}
