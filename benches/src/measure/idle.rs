//! What does it cost to do nothing, with ten apps?

use crate::{
    process::{Folder, Server, binary, port},
    report::Figure,
};
use anyhow::Result;
use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

const APPS: usize = 10;
const SETTLE: Duration = Duration::from_secs(3);
const WATCH: Duration = Duration::from_secs(20);

/// What `/proc` says about the idle runtime.
pub(crate) struct Idle {
    pub(crate) rss_kib: u64,
    pub(crate) threads: u64,
    pub(crate) cpu_share: f64,
}

pub(crate) fn measure() -> Result<Idle> {
    watch(Duration::ZERO)
}

fn watch(time: Duration) -> Result<Idle> {
    let home = Folder::new()?;
    let mut file = String::from("version: 1\napps:\n");
    let mut last = 0;
    for number in 0..APPS {
        last = port()?;
        let (grpc, metrics) = (port()?, port()?);
        file.push_str(&format!(
            "  - appID: app-{number}\n    appDirPath: .\n    command: [\"sleep\", \"600\"]\n    \
             daprHTTPPort: {last}\n    daprGRPCPort: {grpc}\n    metricsPort: {metrics}\n"
        ));
    }
    let file = home.write("dapr.yaml", &file)?;
    let mut command = Command::new(binary()?);
    command.arg("run").arg("-f").arg(&file).arg("--data-dir").arg(home.path().join("data"));
    command
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", "/usr/bin:/bin")
        .current_dir(home.path());
    let mut server = Server::start(command, last, home.path())?;
    server.wait_http("/v1.0/healthz", Instant::now())?;
    thread::sleep(SETTLE);
    let before = server.cpu()?;
    thread::sleep(time);
    let used = server.cpu()? - before;
    let idle = Idle {
        rss_kib: server.status("VmRSS")?,
        threads: server.status("Threads")?,
        cpu_share: used / time.as_secs_f64().max(1.0),
    };
    server.stop()?;
    Ok(idle)
}

pub(crate) fn run() -> Result<Vec<Figure>> {
    let Idle { rss_kib, threads, cpu_share } = watch(WATCH)?;
    let mebibytes = rss_kib as f64 / 1024.0;
    Ok(vec![
        Figure::new("idle with ten apps: resident memory", format!("{mebibytes:.1} MB"))
            .goal("under 30 MB", mebibytes < 30.0),
        Figure::new("idle with ten apps: threads", threads.to_string())
            .goal("at most 8", threads <= 8),
        Figure::new("idle with ten apps: share of a core", format!("{:.2} %", cpu_share * 100.0))
            .goal("under 0.2 %", cpu_share < 0.002),
    ])
}
