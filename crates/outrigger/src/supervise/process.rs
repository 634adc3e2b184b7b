//! One child process and everything it starts.

use super::{SHIM, lines::LineSink};
use crate::failure::{Exit, Failure};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use outrigger_kernel::World;
use std::{
    collections::BTreeMap,
    fmt,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::process::Child;

/// What to start. Data only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments; not empty.
    pub line: Vec<String>,
    /// Where it runs.
    pub folder: PathBuf,
    /// Variables it gets besides ours.
    pub env: BTreeMap<String, String>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Its exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

impl Ending {
    fn of(status: ExitStatus) -> Self {
        Self { code: status.code(), signal: status.signal() }
    }

    /// Whether it ended as programs do that have nothing left to do.
    #[must_use]
    pub fn is_success(self) -> bool {
        self.code == Some(0)
    }

    /// The code a shell would report.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        let signalled = || self.signal.map_or(1, |signal| 128 + signal);
        u8::try_from(self.code.unwrap_or_else(signalled)).unwrap_or(1)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(number)) => match Signal::try_from(number) {
                Ok(signal) => write!(f, "{signal}"),
                Err(_) => write!(f, "signal {number}"),
            },
            (None, None) => f.write_str("an unknown ending"),
        }
    }
}

/// A running child, the leader of its own process group.
pub struct Process {
    child: Child,
    group: Pid,
    lines: Arc<LineSink>,
    world: Arc<dyn World>,
}

impl Process {
    /// Starts `command`, its output going to `lines`.
    ///
    /// # Errors
    /// When the folder or the program does not exist or may not be run.
    pub fn start(
        command: &Command,
        lines: Arc<LineSink>,
        world: Arc<dyn World>,
    ) -> Result<Self, Failure> {
        let program =
            command.line.first().ok_or_else(|| Failure::internal("an empty command line"))?;
        if !command.folder.is_dir() {
            let what = format!("the folder {} does not exist", command.folder.display());
            return Err(
                Failure::new("OUTR-0017", Exit::Usage, what).at(format!("app {}", lines.name()))
            );
        }
        check_program(program, command)?;
        let own = std::env::current_exe()
            .map_err(|error| Failure::internal("cannot find our own program").why(error))?;
        let mut start = std::process::Command::new(own);
        start
            .arg(SHIM)
            .arg(std::process::id().to_string())
            .args(&command.line)
            .current_dir(&command.folder)
            .envs(&command.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = tokio::process::Command::from(start).spawn().map_err(|error| {
            Failure::new("OUTR-0017", Exit::Failed, format!("{program} could not be started"))
                .why(error)
        })?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let group = Pid::from_raw(pid.ok_or_else(|| Failure::internal("a child without an id"))?);
        lines.pump(&*world, child.stdout.take(), child.stderr.take());
        Ok(Self { child, group, lines, world })
    }

    /// Its id, which is also the id of its group.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.group.as_raw()
    }

    /// Waits until it has ended and its last line is written. Cancel-safe.
    pub async fn wait(&mut self) -> Ending {
        let ending = match self.child.wait().await {
            Ok(status) => Ending::of(status),
            Err(_) => Ending { code: None, signal: None },
        };
        // What it started and left behind would keep ports and pipes open.
        let _ = killpg(self.group, Signal::SIGKILL);
        self.lines.drained(&*self.world, Duration::from_secs(1)).await;
        ending
    }

    /// Asks the group to end, and ends it when `grace` has passed.
    pub async fn stop(&mut self, grace: Duration) -> Ending {
        // A group that is gone already needs no signal.
        let _ = killpg(self.group, Signal::SIGTERM);
        let patience = self.world.sleep(grace);
        tokio::select! {
            ending = self.wait() => return ending,
            () = patience => {}
        }
        let _ = killpg(self.group, Signal::SIGKILL);
        self.wait().await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = killpg(self.group, Signal::SIGKILL);
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({})", self.group)
    }
}

/// The shim would say it too, but late and on the app's stderr.
fn check_program(program: &str, command: &Command) -> Result<(), Failure> {
    let found = if program.contains('/') {
        command.folder.join(program).exists()
    } else {
        let own = command.env.get("PATH").map(std::ffi::OsString::from);
        let path = own.or_else(|| std::env::var_os("PATH")).unwrap_or_default();
        std::env::split_paths(&path)
            .any(|folder: PathBuf| Path::new(&folder).join(program).exists())
    };
    if found {
        return Ok(());
    }
    Err(Failure::new(
        "OUTR-0017",
        Exit::NotFound,
        format!("{program} is not a program that can be found"),
    )
    .at(command.line.join(" "))
    .help("give its path, or check PATH; shell syntax needs `sh -c '...'`"))
}
