//! Starting the binary, and ending it in every way a process can end.

use crate::{Folder, components::COMPONENTS, http, patience, ports, tools};
use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

/// How to start a node. Everything not said is on free ports and in a folder of its own.
#[derive(Debug)]
pub struct Start {
    verb: &'static str,
    flags: Vec<OsString>,
    resources: Vec<(String, String)>,
    environment: Vec<(OsString, OsString)>,
    data: Option<PathBuf>,
    command: Vec<OsString>,
    folder: Option<PathBuf>,
    ports: Ports,
}

/// The ports of one node.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// HTTP API.
    pub http: u16,
    /// gRPC API.
    pub grpc: u16,
    /// Metrics.
    pub metrics: u16,
}

impl Start {
    /// The runtime alone, as a sidecar of `app_id`.
    #[must_use]
    pub fn sidecar(app_id: &str) -> Self {
        let ports = Ports { http: ports::free(), grpc: ports::free(), metrics: ports::free() };
        let flags = vec!["--app-id".into(), app_id.into()];
        Self {
            verb: "sidecar",
            flags,
            resources: Vec::new(),
            environment: Vec::new(),
            data: None,
            command: Vec::new(),
            folder: None,
            ports,
        }
    }

    /// The runtime and an app: `run -- command`.
    #[must_use]
    pub fn run(app_id: &str, command: &[&std::ffi::OsStr]) -> Self {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Self { verb: "run", command, ..Self::sidecar(app_id) }
    }

    /// Many apps: `run -f file`. Ports are in the file.
    #[must_use]
    pub fn run_file(file: &Path) -> Self {
        let flags = vec!["-f".into(), file.into()];
        Self { verb: "run", flags, ..Self::sidecar("") }
    }

    /// Where the app listens.
    #[must_use]
    pub fn app_port(self, port: u16) -> Self {
        self.flag("--app-port", &port.to_string())
    }

    /// A flag with its value.
    #[must_use]
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.extend([name.into(), value.into()]);
        self
    }

    /// A flag of the form `--name` or `--name=value`.
    #[must_use]
    pub fn switch(mut self, flag: &str) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// A resource file with this text.
    #[must_use]
    pub fn resource(mut self, name: &str, text: &str) -> Self {
        self.resources.push((name.to_owned(), text.to_owned()));
        self
    }

    /// The components most tests use, served from the embedded store.
    #[must_use]
    pub fn components(self) -> Self {
        self.resource("components.yaml", COMPONENTS).flag("--components", "embedded")
    }

    /// A variable of the environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Keeps its data here, so that another start can go on with it.
    #[must_use]
    pub fn data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_path_buf());
        self
    }

    /// Runs in this folder.
    #[must_use]
    pub fn within(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_path_buf());
        self
    }

    /// The ports of an earlier start.
    #[must_use]
    pub fn ports(mut self, ports: Ports) -> Self {
        self.ports = ports;
        self
    }

    /// Starts and waits until the node says it is ready.
    ///
    /// # Errors
    /// When it ends before; the error holds its log.
    pub fn ready(self) -> Result<Node> {
        let mut node = self.launch()?;
        node.wait_ready()?;
        Ok(node)
    }

    /// Starts without waiting.
    ///
    /// # Errors
    /// When the binary is missing or cannot be run.
    pub fn launch(self) -> Result<Node> {
        let home = Folder::new(self.verb)?;
        let mut command = Command::new(tools::binary()?);
        command.arg(self.verb).args(&self.flags);
        let several = self.flags.first().is_some_and(|flag| flag == "-f");
        if !several {
            let ports = &self.ports;
            command.args(["--dapr-http-port", &ports.http.to_string()]);
            command.args(["--dapr-grpc-port", &ports.grpc.to_string()]);
            command.args(["--metrics-port", &ports.metrics.to_string()]);
        }
        for (name, text) in &self.resources {
            home.write(&format!("resources/{name}"), text)?;
        }
        // Without resources of its own a node has what is there by default.
        if !self.resources.is_empty() {
            command.arg("--resources-path").arg(home.join("resources"));
        }
        let data = self.data.clone().unwrap_or_else(|| home.join("data"));
        command.arg("--data-dir").arg(&data);
        if !self.command.is_empty() {
            command.arg("--").args(&self.command);
        }
        command.env_clear().env("HOME", home.path());
        command.envs(std::env::var_os("PATH").map(|path| (OsString::from("PATH"), path)));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.folder.as_deref().unwrap_or(home.path()));
        command.stdin(Stdio::null());
        command.stdout(File::create(home.join("stdout"))?);
        command.stderr(File::create(home.join("stderr"))?);
        let child = command.spawn().context("cannot start the binary under test")?;
        Ok(Node { child, ports: self.ports, home, data })
    }
}

/// A running node. Dropping it kills it by its pid.
#[derive(Debug)]
pub struct Node {
    child: Child,
    /// Where it listens.
    pub ports: Ports,
    /// Its home: resources, log, data unless given.
    pub home: Folder,
    /// Where its data is.
    pub data: PathBuf,
}

impl Node {
    /// Waits until the node answers that it is ready.
    ///
    /// # Errors
    /// When it ends before, or takes too long; the error holds its log.
    pub fn wait_ready(&mut self) -> Result<()> {
        let patience = patience::Patience::of(patience::SOON);
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status} before it was ready\n{}", self.log());
            }
            let health = self.get("/v1.0/healthz");
            if health.is_ok_and(|answer| answer.status == 204) {
                return Ok(());
            }
            ensure!(!patience.is_over(), "not ready in time\n{}", self.log());
            patience.pause();
        }
    }

    /// Everything it wrote, standard error first.
    #[must_use]
    pub fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.home.join(name)).unwrap_or_default();
        format!("{}{}", read("stderr"), read("stdout"))
    }

    /// What it wrote to standard output.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read_to_string(self.home.join("stdout")).unwrap_or_default()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `GET path` on the HTTP API.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn get(&self, path: &str) -> Result<http::Response> {
        http::send(self.ports.http, "GET", path, &[], b"")
    }

    /// `POST path` with a JSON body on the HTTP API.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn post(&self, path: &str, body: &Value) -> Result<http::Response> {
        let headers = [("content-type", "application/json")];
        http::send(self.ports.http, "POST", path, &headers, body.to_string().as_bytes())
    }

    /// Any request on the HTTP API.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<http::Response> {
        http::send(self.ports.http, method, path, headers, body)
    }

    /// Ends it as a power cut would: SIGKILL, nothing is flushed, nobody says goodbye.
    ///
    /// # Errors
    /// When it had ended already.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("had ended already with {status}\n{}", self.log());
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(patience::SOON)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end within `time`.
    pub fn wait(&mut self, time: Duration) -> Result<ExitStatus> {
        let patience = patience::Patience::of(time);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(!patience.is_over(), "still running after {time:?}\n{}", self.log());
            patience.pause();
        }
    }

    /// Fails if it has panicked.
    ///
    /// # Panics
    /// When the log holds a panic.
    pub fn assert_calm(&self) {
        let log = self.log();
        assert!(!log.contains("panicked"), "the node panicked:\n{log}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            report(&self.log());
        }
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            // Asked first, so that it can end its own children; then made to.
            drop(self.signal(Signal::SIGTERM));
            let patience = patience::Patience::of(Duration::from_secs(10));
            while !patience.is_over() {
                if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                    return;
                }
                patience.pause();
            }
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// Shows the log of a node whose test failed.
#[expect(clippy::print_stdout, reason = "the test harness captures standard output per test")]
fn report(log: &str) {
    println!("--- log of the node ---\n{log}\n--- end of the log ---");
}
