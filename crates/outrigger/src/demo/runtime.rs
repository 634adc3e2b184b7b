//! The runtime under fire: a child process running `outrigger run -f` over a folder of the demo's own.

use super::services;
use crate::supervise::SHIM;
use anyhow::{Context, Result, bail};
use outrigger_kernel::World;
use std::{
    fmt::Write as _,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
};

/// How long the runtime and its services may take to be ready.
const READY_MAX: Duration = Duration::from_secs(20);

/// The child process and where it lives.
pub(super) struct Runtime {
    child: Child,
    folder: PathBuf,
    ports: Vec<AppPorts>,
    world: Arc<dyn World>,
}

struct AppPorts {
    app: u16,
    http: u16,
    grpc: u16,
    metrics: u16,
}

impl Runtime {
    /// Makes a folder, writes the run file and the components into it, and starts everything.
    pub(super) async fn start(world: Arc<dyn World>) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("outrigger-demo-{:016x}", world.random()));
        fs::create_dir_all(folder.join("resources"))?;
        let ports = services::NAMES.iter().map(|_| AppPorts::free()).collect::<Result<Vec<_>>>()?;
        fs::write(folder.join("demo.yaml"), run_file(&folder, &ports)?)?;
        fs::write(folder.join("resources/components.yaml"), COMPONENTS)?;
        let child = spawn(&folder)?;
        let mut runtime = Self { child, folder, ports, world };
        runtime.wait_ready().await?;
        Ok(runtime)
    }

    /// Where the demo keeps its data and logs.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The HTTP API beside the gateway: the demo's way in.
    pub(super) fn gateway_port(&self) -> u16 {
        self.ports[0].http
    }

    /// Kills one service with SIGKILL and says which.
    pub(super) fn kill_a_service(&self, world: &dyn World) -> String {
        let index = usize::try_from(world.random() % 5).unwrap_or(0);
        let name = services::NAMES[index];
        let pid = fs::read_to_string(self.folder.join(format!("{name}.pid")))
            .ok()
            .and_then(|text| text.trim().parse::<i32>().ok());
        match pid {
            Some(pid) if self.is_service(pid, name) => {
                let target = nix::unistd::Pid::from_raw(pid);
                match nix::sys::signal::kill(target, nix::sys::signal::Signal::SIGKILL) {
                    Ok(()) => format!("{name} (pid {pid}) killed with SIGKILL"),
                    Err(error) => format!("{name} (pid {pid}) could not be killed: {error}"),
                }
            }
            _ => format!("{name} is down already"),
        }
    }

    /// Whether `pid` is still our service: a pid from a file may have been given to a stranger since.
    fn is_service(&self, pid: i32, name: &str) -> bool {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
            let mut arguments = line.split(|byte| *byte == 0);
            arguments.any(|a| a == b"demo-service") && arguments.any(|a| a == name.as_bytes())
        })
    }

    /// Kills the runtime with SIGKILL, starts it again over the same folder and waits until it serves.
    pub(super) async fn kill_and_restart(&mut self) -> Result<()> {
        self.child.start_kill()?;
        self.child.wait().await?;
        // The services die with their runtime; their ports must be free before their successors want them.
        for ports in &self.ports {
            for _ in 0..100 {
                if TcpListener::bind(("127.0.0.1", ports.app)).is_ok() {
                    break;
                }
                self.world.sleep(Duration::from_millis(20)).await;
            }
        }
        self.child = spawn(&self.folder)?;
        self.wait_ready().await
    }

    /// Asks the runtime to drain, and ends it if it does not.
    pub(super) async fn stop(&mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let target = nix::unistd::Pid::from_raw(pid);
            // A runtime that is gone already needs no signal.
            let _ = nix::sys::signal::kill(target, nix::sys::signal::Signal::SIGTERM);
        }
        let patience = self.world.sleep(Duration::from_secs(15));
        tokio::select! {
            biased;
            _ = self.child.wait() => {}
            () = patience => drop(self.child.kill().await),
        }
    }

    /// Ends the runtime, and its services with it, at once.
    pub(super) async fn kill(&mut self) {
        // One that is gone already needs no end.
        drop(self.child.kill().await);
    }

    /// Removes the demo's folder, or says where it is kept.
    pub(super) fn remove_folder(&self, keep: bool) {
        if keep {
            eprintln!("data and logs are kept in {}", self.folder.display());
        } else if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} could not be removed: {error}", self.folder.display());
        }
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let limit = self.world.mono().plus(READY_MAX);
        for index in 0..self.ports.len() {
            while !is_healthy(self.ports[index].http).await || !listens(self.ports[index].app).await
            {
                if let Some(status) = self.child.try_wait()? {
                    bail!("the runtime ended at once ({status}):\n{}", self.last_log_lines());
                }
                if self.world.mono() >= limit {
                    let name = services::NAMES[index];
                    bail!("{name} was not ready in {READY_MAX:?}:\n{}", self.last_log_lines());
                }
                self.world.sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    fn last_log_lines(&self) -> String {
        let log = fs::read_to_string(self.folder.join("runtime.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl AppPorts {
    fn free() -> Result<Self> {
        // All four are held until all four are known, so that no two are the same.
        let held = [bind_any()?, bind_any()?, bind_any()?, bind_any()?];
        let [app, http, grpc, metrics] = held.each_ref().map(|l| l.local_addr().map(|a| a.port()));
        Ok(Self { app: app?, http: http?, grpc: grpc?, metrics: metrics? })
    }
}

fn bind_any() -> Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", 0)).context("no free port on loopback")
}

fn spawn(folder: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(folder.join("runtime.log"))?;
    let program = std::env::current_exe().context("the demo cannot find its own program")?;
    // Under the shim, which sees to it that nothing outlives the demo; and in a group of its own, so that Ctrl-C is the
    // demo's to hear, which has an audit to finish before anything may end.
    Command::new(&program)
        .arg(SHIM)
        .arg(std::process::id().to_string())
        .arg(&program)
        .args(["run", "--restart", "--components", "embedded", "-f"])
        .arg(folder.join("demo.yaml"))
        .arg("--data-dir")
        .arg(folder.join("data"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("the runtime could not be started")
}

fn run_file(folder: &Path, ports: &[AppPorts]) -> Result<String> {
    let program = std::env::current_exe()?;
    let program = serde_json::to_string(&program.to_string_lossy())?;
    let place = serde_json::to_string(&folder.to_string_lossy())?;
    let resources = serde_json::to_string(&folder.join("resources").to_string_lossy())?;
    let mut text = format!("version: 1\ncommon:\n  resourcesPath: {resources}\napps:\n");
    for (name, ports) in services::NAMES.iter().zip(ports) {
        let AppPorts { app, http, grpc, metrics } = ports;
        write!(
            text,
            "  - appID: {name}\n    appDirPath: {place}\n    appPort: {app}\n    daprHTTPPort: {http}\n    \
             daprGRPCPort: {grpc}\n    metricsPort: {metrics}\n    appLogDestination: console\n    \
             daprdLogDestination: console\n    env:\n      DEMO_FOLDER: {place}\n    \
             command: [{program}, demo-service, {name}]\n"
        )?;
    }
    Ok(text)
}

/// A store all five services share (keys carry the component's name, not the app's), and a broker. Both are types that
/// name an outside system, as a team's own files would; the demo's runtime serves them from its embedded store.
const COMPONENTS: &str = "\
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: store
spec:
  type: state.redis
  version: v1
  metadata:
    - name: redisHost
      value: localhost:6379
    - name: keyPrefix
      value: name
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: events
spec:
  type: pubsub.redis
  version: v1
  metadata:
    - name: redisHost
      value: localhost:6379
";

async fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).await.is_ok()
}

async fn is_healthy(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { return false };
    let request = b"GET /v1.0/healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut answer = [0_u8; 12];
    stream.write_all(request).await.is_ok()
        && stream.read_exact(&mut answer).await.is_ok()
        && &answer == b"HTTP/1.1 204"
}

#[cfg(test)]
mod tests {
    use super::{AppPorts, COMPONENTS, run_file};
    use crate::demo::services;
    use std::path::Path;

    #[test]
    fn the_files_it_writes_are_ones_the_runtime_reads() {
        let ports = services::NAMES.map(|_| AppPorts::free().unwrap());
        let folder = tempfolder();
        std::fs::create_dir_all(folder.join("resources")).unwrap();
        std::fs::write(folder.join("resources/components.yaml"), COMPONENTS).unwrap();
        std::fs::write(folder.join("demo.yaml"), run_file(&folder, &ports).unwrap()).unwrap();
        let (resources, issues) = outrigger_resources::load(&[folder.join("resources")]);
        assert_eq!((resources.len(), issues.len()), (2, 0), "{issues:?}");
        let (file, issues) = outrigger_resources::multi_app::load(&folder.join("demo.yaml"));
        assert!(issues.is_empty(), "{issues:?}");
        assert_eq!(file.unwrap().apps.len(), 5);
        std::fs::remove_dir_all(folder).unwrap();
    }

    fn tempfolder() -> std::path::PathBuf {
        let name = format!("outrigger-demo-test-{}", std::process::id());
        Path::new(&std::env::temp_dir()).join(name)
    }
}
