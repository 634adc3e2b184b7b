//! A run from first line to last: build the node, start the apps, tell the user, wait for the end, drain in order.
//!
//! ```text
//!   node opened -> ports serve -> apps started -> app ports found -> ready
//!     -> first signal, shutdown request or the only app's end
//!       -> not ready, out of the directory -> block -> intake stops -> work in flight ends -> apps end -> ports close
//!         -> spans flushed -> store closed -> exit
//!   second signal, at any point: stop at once
//! ```
//!
//! The order of the drain is the point: an app keeps its runtime until it has ended itself, so that it can still save
//! what it was doing.

mod apps;
mod banner;
pub(crate) mod signals;

use crate::{
    control,
    failure::{Exit, Failure},
    logging::NOTICE,
    node::{Node, Side},
    plan::Plan,
    ports::WhenTaken,
    procfs,
    running::{self, Announcement, Running, RunningApp},
    settings::{Environment, node::DataPlace},
    world::RealWorld,
};
use apps::{Apps, Event};
use outrigger_api::Shutdown;
use outrigger_kernel::{Deadline, Mono, World, within};
use signals::{Asked, Signals};
use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// How a session behaves towards its user: what differs between `run` and `sidecar`.
#[derive(Clone, Debug)]
pub struct Manner {
    /// The command line, for `list`.
    pub line: String,
    /// The variables of the process.
    pub environment: Environment,
    /// Whether there is a person to show a screen to.
    pub banner: bool,
    /// Whether tools of the reference's CLI read the output.
    pub as_reference: bool,
    /// Whether apps that end unexpectedly are started again.
    pub restart: bool,
    /// What to do when a port is taken.
    pub when_taken: WhenTaken,
}

impl Manner {
    /// As `run` behaves.
    #[must_use]
    pub fn run(line: String, environment: Environment, as_reference: bool, restart: bool) -> Self {
        let when_taken = WhenTaken::Forward;
        Self { line, environment, banner: true, as_reference, restart, when_taken }
    }

    /// As `sidecar` behaves.
    #[must_use]
    pub fn sidecar(line: String, environment: Environment) -> Self {
        let when_taken = WhenTaken::Fail;
        Self { line, environment, banner: false, as_reference: false, restart: false, when_taken }
    }
}

/// Runs `plan` to its end.
///
/// # Errors
/// When it cannot start.
pub async fn run(plan: Plan, manner: Manner, world: Arc<RealWorld>) -> Result<ExitCode, Failure> {
    let started = world.mono();
    let mut signals = Signals::install()?;
    let outcome = tokio::select! {
        outcome = start(&plan, &manner, &world, started) => outcome,
        asked = signals.end() => return Ok(asked.exit().into()),
    };
    let mut session = outcome?;
    let ended = session.until_the_end(&mut signals).await;
    tokio::select! {
        code = session.drain(ended) => Ok(code),
        _ = signals.end() => {
            tracing::warn!(target: NOTICE, "stopped at once");
            Ok(Exit::Interrupted.into())
        }
    }
}

struct Session {
    node: Arc<Node>,
    apps: Apps,
    manner: Manner,
    world: Arc<RealWorld>,
    shutdowns: mpsc::Receiver<Shutdown>,
    announcement: Option<Announcement>,
    line: Option<control::Line>,
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// A signal.
    Signal(Asked),
    /// The shutdown API.
    Request(Shutdown),
    /// The apps, with this code.
    Apps(u8),
    /// The store cannot write any more, and was complained of.
    StoreFailed,
}

async fn start(
    plan: &Plan,
    manner: &Manner,
    world: &Arc<RealWorld>,
    started: Mono,
) -> Result<Session, Failure> {
    let (ask, shutdowns) = mpsc::channel(4);
    let on_shutdown: Arc<dyn Fn(Shutdown) + Send + Sync> = Arc::new(move |how| {
        tracing::info!(scope = "dapr.runtime", "Shutdown requested via API");
        // A second request while the first is under way changes nothing.
        let _ = ask.try_send(how);
    });
    let node = Node::open(
        plan.node.clone(),
        manner.environment.clone(),
        Arc::clone(world) as _,
        on_shutdown,
    );
    node.open_store().await;
    let mut sides = Vec::with_capacity(plan.apps.len());
    for app in &plan.apps {
        sides.push(node.add_app(app.settings.clone(), manner.when_taken)?);
    }
    node.prove_identities(manner.when_taken).await?;
    node.meet_neighbours().await;
    if manner.banner {
        banner::show(&banner::head(plan, &sides, &node, manner));
    }
    for notice in node.take_notices() {
        notice.tell();
    }
    let apps = Apps::start(&plan.apps, &sides, manner, world)?;
    let announcement = announce(plan, &sides, manner, &**world);
    let session = Session {
        node: Arc::clone(&node),
        apps,
        manner: manner.clone(),
        world: Arc::clone(world),
        shutdowns,
        line: announcement.as_ref().and_then(|_| open_line(&node, manner, world)),
        announcement,
    };
    node.watch_resources();
    sides.iter().for_each(|side| side.started());
    let all_ready = ready(sides, manner.clone(), Arc::clone(world), started);
    drop(world.spawn("readiness", Box::pin(all_ready)));
    Ok(session)
}

/// Tells once everything is up. Apps that never listen do not keep the others waiting: only ports that were named are
/// waited for.
async fn ready(sides: Vec<Arc<Side>>, manner: Manner, world: Arc<RealWorld>, started: Mono) {
    for side in &sides {
        side.until_ready().await;
        tracing::info!(
            scope = "dapr.runtime",
            app_id = side.app_id(),
            "dapr initialized. Status: Running. Init Elapsed {}ms",
            world.mono().since(started).as_millis()
        );
    }
    if manner.banner {
        banner::show(&banner::ready(world.mono().since(started), manner.as_reference));
    }
}

impl Session {
    async fn until_the_end(&mut self, signals: &mut Signals) -> Ended {
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Reload => self.node.reload_now(),
                    Asked::Interrupt | Asked::Terminate => return Ended::Signal(asked),
                },
                reason = self.node.until_store_fails() => {
                    tracing::error!(target: NOTICE, "{}", store_failed(&self.node, &reason));
                    return Ended::StoreFailed;
                }
                Some(how) = self.shutdowns.recv() => return Ended::Request(how),
                event = self.apps.next() => match event {
                    Event::AllEnded(code) => return Ended::Apps(code),
                    Event::Changed => {
                        if let Some(announcement) = &self.announcement {
                            announcement.update(|running| self.apps.describe(&mut running.apps));
                        }
                    }
                },
            }
        }
    }

    async fn drain(mut self, ended: Ended) -> ExitCode {
        if ended == Ended::StoreFailed {
            // Others that share the folder go on at once; what is under way here is theirs to answer.
            self.node.leave();
            self.apps.stop(Duration::from_secs(1)).await;
            self.node.close(Deadline::after(&*self.world, Duration::from_secs(1))).await;
            return Exit::StoreFailed.into();
        }
        if ended == Ended::Request(Shutdown::Force) {
            self.world.sleep(Duration::from_millis(100)).await;
            return Exit::Failed.into();
        }
        if self.manner.banner && matches!(ended, Ended::Signal(_)) {
            banner::show("\n  stopping in order; once more stops at once\n");
        }
        let settings = self.node.settings().clone();
        let failed = self.apps.failed();
        self.node.leave();
        if let (Some(block), Ended::Signal(_)) = (settings.block, ended) {
            tracing::info!(
                scope = "dapr.runtime",
                "Blocking graceful shutdown for {block:?} or until app reports unhealthy..."
            );
            self.node.block(block).await;
            tracing::info!(
                scope = "dapr.runtime",
                "Block shutdown expired or app unhealthy, entering shutdown..."
            );
        }
        let deadline = Deadline::after(&*self.world, settings.grace);
        self.node.stop_intake(deadline).await;
        // An app that ends as soon as it is asked to would take with it what it has not answered yet. One that never
        // finishes a call is not waited for until it is too late to end in order.
        let half = Deadline::after(&*self.world, deadline.remaining(self.world.mono()) / 2);
        self.node.finish_calls(half).await;
        let left = deadline.remaining(self.world.mono()).max(Duration::from_millis(500));
        self.apps.stop(left).await;
        self.node.close(deadline).await;
        drop((self.announcement.take(), self.line.take()));
        let left = self.world.end(Duration::from_secs(2)).await;
        if !left.is_empty() {
            tracing::debug!(tasks = left.join(", "), "ended with work under way");
        }
        tracing::info!(scope = "dapr.runtime", "Daprd shutdown gracefully");
        match ended {
            Ended::Apps(code) => Exit::App(code).into(),
            // An app that had failed by itself before is not made good by a clean stop.
            Ended::Signal(_) | Ended::Request(_) => Exit::App(failed).into(),
            Ended::StoreFailed => Exit::StoreFailed.into(),
        }
    }
}

/// What to tell when the store has stopped for good.
fn store_failed(node: &Node, reason: &str) -> Failure {
    let what = "the store has failed: nothing can be acknowledged any more, so this runtime ends";
    let failure = Failure::new("OUTR-0029", Exit::StoreFailed, what);
    let failure = match &node.settings().data {
        DataPlace::Folder(folder) => failure.at(format!("--data-dir {}", folder.display())),
        DataPlace::Memory => failure,
    };
    failure
        .why(reason)
        .help("everything that was acknowledged is on the disk; what was under way may be or not be there")
        .help("check the disk and its room, then start again")
}

fn announce(
    plan: &Plan,
    sides: &[Arc<Side>],
    manner: &Manner,
    world: &dyn World,
) -> Option<Announcement> {
    let pid = i32::try_from(std::process::id()).ok()?;
    let apps = plan.apps.iter().zip(sides).map(|(app, side)| RunningApp {
        app_id: app.settings.id.clone(),
        http_port: side.ports().http,
        grpc_port: side.ports().grpc,
        metrics_port: side.ports().metrics.unwrap_or_default(),
        app_port: app.channel().and_then(|channel| channel.port).unwrap_or_default(),
        app_pid: 0,
        app_ended: None,
        command: app.command.as_ref().map(|command| command.line.join(" ")).unwrap_or_default(),
    });
    let running = Running {
        pid,
        started: procfs::started(pid)?,
        since: world.wall().0 / 1000,
        command: manner.line.clone(),
        run_file: plan.run_file.clone(),
        data_dir: match &plan.node.data {
            DataPlace::Folder(folder) => Some(folder.clone()),
            DataPlace::Memory => None,
        },
        apps: apps.collect(),
    };
    let folder = running::folder(&manner.environment);
    match Announcement::write(&folder, running) {
        Ok(announcement) => Some(announcement),
        Err(error) => {
            tracing::debug!(%error, folder = %folder.display(), "this runtime will not be listed");
            None
        }
    }
}

fn open_line(node: &Arc<Node>, manner: &Manner, world: &Arc<RealWorld>) -> Option<control::Line> {
    let pid = i32::try_from(std::process::id()).ok()?;
    let path = control::socket(&running::folder(&manner.environment), pid);
    let world: Arc<dyn World> = Arc::clone(world) as _;
    control::open(path, node, &world)
        .inspect_err(|error| tracing::debug!(%error, "no control line"))
        .ok()
}

/// Waits until the runtime at `port` is ready; what `daprd --wait` does.
///
/// # Errors
/// When it is not ready within a minute.
pub async fn wait_until_ready(port: u16, world: &dyn World) -> Result<ExitCode, Failure> {
    let deadline = Deadline::after(world, Duration::from_secs(60));
    let asked = async {
        while !is_ready(port).await {
            world.sleep(Duration::from_millis(50)).await;
        }
    };
    match within(world, deadline, asked).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(_) => Err(Failure::new(
            "OUTR-0023",
            Exit::Timeout,
            format!("the runtime at port {port} is not ready"),
        )),
    }
}

async fn is_ready(port: u16) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Ok(mut socket) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else {
        return false;
    };
    let request = b"GET /v1.0/healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut answer = [0; 12];
    socket.write_all(request).await.is_ok()
        && socket.read_exact(&mut answer).await.is_ok()
        && &answer == b"HTTP/1.1 204"
}

/// The folder as people write it.
fn shown(folder: &Path, environment: &Environment) -> String {
    crate::settings::data_dir::show(folder, environment)
}
