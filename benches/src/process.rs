//! Servers as child processes: started on free ports, watched through `/proc`, ended by their pid.

use crate::wire::{Protocol, Wire, request};
use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

static NEXT_PORT: AtomicU16 = AtomicU16::new(0);
static NEXT_FOLDER: AtomicU32 = AtomicU32::new(0);

/// A free port below the range of outgoing connections.
pub(crate) fn port() -> Result<u16> {
    for _ in 0..5_000 {
        let port = 21_000 + NEXT_PORT.fetch_add(1, Ordering::Relaxed) % 9_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port")
}

/// Where everything that is measured keeps its data: one file system for all rivals.
pub(crate) fn scratch() -> Result<PathBuf> {
    let target = std::env::current_exe()?
        .parent()
        .and_then(Path::parent)
        .context("no target")?
        .to_path_buf();
    let path = target.join("bench");
    fs::create_dir_all(&path)?;
    Ok(path)
}

/// `size`, or a part of it where `OUTRIGGER_BENCH_PART` says so: to try a benchmark out, not to measure.
pub(crate) fn part(size: u64) -> u64 {
    let divisor = std::env::var("OUTRIGGER_BENCH_PART").ok().and_then(|text| text.parse().ok());
    size / divisor.unwrap_or(1).max(1)
}

/// Removes what runs that were killed have left behind.
pub(crate) fn sweep() -> Result<()> {
    for entry in fs::read_dir(scratch()?)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let process = name.split_once('-').and_then(|(process, _)| process.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// A folder that is removed when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Result<Self> {
        let number = NEXT_FOLDER.fetch_add(1, Ordering::Relaxed);
        let path = scratch()?.join(format!("{}-{number}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    log: PathBuf,
}

impl Server {
    /// Starts `command`, whose server will listen on `port`; its output goes to a file in `home`.
    pub(crate) fn start(mut command: Command, port: u16, home: &Path) -> Result<Self> {
        let log = home.join(format!("log-{port}"));
        let file = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child, port, log })
    }

    /// Waits until `GET path` answers with a status below 300; the time since `since` is the answer.
    pub(crate) fn wait_http(&mut self, path: &str, since: Instant) -> Result<Duration> {
        let bytes = request("GET", path, &[], b"");
        self.wait(since, |port| {
            let mut wire = Wire::open(port, Protocol::Http).ok()?;
            wire.exchange(&bytes).ok().filter(|status| *status < 300)
        })
    }

    /// Waits until the port accepts connections.
    pub(crate) fn wait_open(&mut self) -> Result<Duration> {
        self.wait(Instant::now(), |port| Wire::open(port, Protocol::Line).ok().map(|_| 0))
    }

    fn wait(&mut self, since: Instant, ready: impl Fn(u16) -> Option<u16>) -> Result<Duration> {
        while since.elapsed() < Duration::from_secs(30) {
            if ready(self.port).is_some() {
                return Ok(since.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status}: {}", self.said());
            }
            thread::sleep(Duration::from_micros(500));
        }
        bail!("not ready in time: {}", self.said())
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A field of `/proc/PID/status`, such as `VmRSS` (KiB) or `Threads`.
    pub(crate) fn status(&self, field: &str) -> Result<u64> {
        memory_kib(self.child.id(), field)
    }

    /// Processor time used so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        cpu(&self.child.id().to_string(), 11)
    }

    /// Ends it politely and waits.
    pub(crate) fn stop(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        let started = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(started.elapsed() < Duration::from_secs(20), "does not end: {}", self.said());
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.stop().is_err() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// A field of `/proc/PID/status`, such as `VmRSS`.
pub(crate) fn memory_kib(process: u32, field: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find(|line| line.starts_with(&format!("{field}:")));
    let value = line.and_then(|line| line.split_whitespace().nth(1));
    value.with_context(|| format!("no {field}"))?.parse().context("not a number")
}

/// Processor time this process has used so far, in seconds.
pub(crate) fn own_cpu() -> Result<f64> {
    cpu("self", 11)
}

/// Processor time of the children of this process that have ended, in seconds.
pub(crate) fn ended_cpu() -> Result<f64> {
    cpu("self", 13)
}

/// Two neighbouring fields of `/proc/PID/stat`, user and system, counted from the state.
fn cpu(process: &str, field: usize) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold spaces; what follows it does not.
    let fields: Vec<&str> =
        text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
    let (user, system) = (ticks(field).context("user")?, ticks(field + 1).context("system")?);
    Ok((user + system) / 100.0)
}

/// The binary under test.
pub(crate) fn binary() -> Result<PathBuf> {
    match std::env::var_os("OUTRIGGER_BIN") {
        Some(path) => Ok(PathBuf::from(path)),
        None => Ok(std::env::current_exe()?.with_file_name("outrigger")),
    }
}

/// Starts the runtime as a sidecar with extra flags and waits until it is ready.
pub(crate) fn outrigger(home: &Folder, flags: &[&str]) -> Result<Server> {
    outrigger_timed(home, flags).map(|(server, _)| server)
}

/// The same, with the time from start to ready.
pub(crate) fn outrigger_timed(home: &Folder, flags: &[&str]) -> Result<(Server, Duration)> {
    outrigger_from(&binary()?, home.path(), flags)
}

/// The same of a given binary, which is to keep everything in `home`.
pub(crate) fn outrigger_from(
    binary: &Path,
    home: &Path,
    flags: &[&str],
) -> Result<(Server, Duration)> {
    fs::create_dir_all(home)?;
    let http = port()?;
    let mut command = Command::new(binary);
    command.arg("sidecar").args(["--dapr-http-port", &http.to_string()]);
    command.args(["--dapr-grpc-port", &port()?.to_string()]);
    command.args(["--metrics-port", &port()?.to_string()]);
    command.arg("--data-dir").arg(home.join("data"));
    command.args(["--log-level", "warn"]).args(flags);
    command.env_clear().env("HOME", home).current_dir(home);
    let started = Instant::now();
    let mut server = Server::start(command, http, home)?;
    let ready = server.wait_http("/v1.0/healthz", started)?;
    Ok((server, ready))
}

/// A server of ours that does one simple thing, as a process of its own.
pub(crate) fn bare(home: &Folder, kind: &str) -> Result<Server> {
    let port = port()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", kind, &port.to_string()]);
    let mut server = Server::start(command, port, home.path())?;
    server.wait_open()?;
    Ok(server)
}
