//! The processes of a session: one supervisor task each.

use super::Manner;
use crate::{
    failure::{Exit, Failure},
    logging::{NOTICE, Sink, coloured},
    node::Side,
    plan::AppPlan,
    running::RunningApp,
    supervise::{AppPort, Command, Destination, Ending, LineSink, Prefix, Process, wait_for_port},
    world::RealWorld,
};
use outrigger_kernel::World;
use outrigger_resources::multi_app::LogDestination;
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};
use tokio::sync::{mpsc, watch};

/// Colours of app names, as terminals number them.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];
/// Pauses before an app is started again.
const RESTART_MIN: Duration = Duration::from_millis(100);
const RESTART_MAX: Duration = Duration::from_secs(5);
/// An app that ran this long has recovered: its next restart is quick again.
const RECOVERED: Duration = Duration::from_secs(10);

/// An app that has not begun to listen after this time is waited for aloud.
const LATE: Duration = Duration::from_secs(2);

/// What happened to the apps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Something worth telling others: a process id, a port.
    Changed,
    /// Every app that we started has ended; the code of the first that failed, or 0.
    AllEnded(u8),
}

enum Told {
    Changed,
    Ended(Ending),
}

/// The apps of a session.
pub(super) struct Apps {
    slots: Vec<Slot>,
    told: mpsc::Receiver<Told>,
    stop: watch::Sender<Option<Duration>>,
    started: usize,
    ended: usize,
    code: u8,
}

struct Slot {
    side: Arc<Side>,
    pid: Arc<AtomicI32>,
    /// The exit code of an app that is not started again; negative while it runs.
    ended: Arc<AtomicI32>,
}

impl Apps {
    /// Starts every app that has a command, and looks for those that have none.
    pub(super) fn start(
        plans: &[AppPlan],
        sides: &[Arc<Side>],
        manner: &Manner,
        world: &Arc<RealWorld>,
    ) -> Result<Self, Failure> {
        let (tell, told) = mpsc::channel(64);
        let (stop, stopped) = watch::channel(None);
        let width = plans.iter().map(|plan| plan.settings.id.len()).max().unwrap_or_default();
        let mut slots = Vec::with_capacity(plans.len());
        let mut started = 0;
        for (index, (plan, side)) in plans.iter().zip(sides).enumerate() {
            let pid = Arc::new(AtomicI32::new(0));
            let ended = Arc::new(AtomicI32::new(-1));
            let slot =
                Slot { side: Arc::clone(side), pid: Arc::clone(&pid), ended: Arc::clone(&ended) };
            slots.push(slot);
            let Some(command) = &plan.command else {
                drop(world.spawn(
                    "app discovery",
                    Box::pin(discover(Arc::clone(side), Arc::clone(world))),
                ));
                continue;
            };
            let prefix = prefix(index, plans.len(), width, manner);
            let lines = lines(plan, prefix, &**world)?;
            let command = with_environment(command, plan, side);
            let process = Process::start(&command, Arc::clone(&lines), Arc::clone(world) as _)?;
            pid.store(process.pid(), Ordering::Release);
            describe(side, &command.line, process.pid());
            started += 1;
            let supervisor = Supervisor {
                command,
                lines,
                side: Arc::clone(side),
                pid,
                ended,
                restart: manner.restart,
                tell: tell.clone(),
                stop: stopped.clone(),
                world: Arc::clone(world),
            };
            drop(world.spawn("app supervisor", Box::pin(supervisor.run(process))));
        }
        Ok(Self { slots, told, stop, started, ended: 0, code: 0 })
    }

    /// The next event. Cancel-safe. Never ends when no app is ours.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            match self.told.recv().await {
                Some(Told::Changed) => return Event::Changed,
                Some(Told::Ended(ending)) => {
                    self.ended += 1;
                    if self.code == 0 {
                        self.code = ending.exit_code();
                    }
                    if self.ended == self.started {
                        return Event::AllEnded(self.code);
                    }
                    return Event::Changed;
                }
                None => std::future::pending().await,
            }
        }
    }

    /// The code of the first app that failed by itself; 0 for none.
    pub(super) fn failed(&self) -> u8 {
        self.code
    }

    /// Asks all apps to end and waits until they have; after `grace` they are ended.
    pub(super) async fn stop(&mut self, grace: Duration) {
        self.stop.send_replace(Some(grace));
        while self.ended < self.started {
            match self.told.recv().await {
                Some(Told::Ended(_)) => self.ended += 1,
                Some(Told::Changed) => {}
                None => return,
            }
        }
    }

    /// Writes process ids and ports into what others see.
    pub(super) fn describe(&self, apps: &mut [RunningApp]) {
        for (app, slot) in apps.iter_mut().zip(&self.slots) {
            app.app_pid = slot.pid.load(Ordering::Acquire);
            app.app_ended = u8::try_from(slot.ended.load(Ordering::Acquire)).ok();
            if let Some(port) = slot.side.app_port() {
                app.app_port = port;
            }
        }
    }
}

struct Supervisor {
    command: Command,
    lines: Arc<LineSink>,
    side: Arc<Side>,
    pid: Arc<AtomicI32>,
    ended: Arc<AtomicI32>,
    restart: bool,
    tell: mpsc::Sender<Told>,
    stop: watch::Receiver<Option<Duration>>,
    world: Arc<RealWorld>,
}

impl Supervisor {
    async fn run(mut self, mut process: Process) {
        let mut pause = RESTART_MIN;
        loop {
            let began = self.world.mono();
            let ending = match self.one_life(&mut process).await {
                Life::Ended(ending) => ending,
                Life::Stopped(ending) => return self.end(ending).await,
            };
            self.side.detach();
            self.pid.store(0, Ordering::Release);
            if !self.restart {
                if !ending.is_success() {
                    tracing::warn!(target: NOTICE, "{} ended with {ending}", self.side.app_id());
                }
                return self.end(ending).await;
            }
            if self.world.mono().since(began) > RECOVERED {
                pause = RESTART_MIN;
            }
            process = match self.start_again(ending, &mut pause).await {
                Some(process) => process,
                None => return self.end(ending).await,
            };
            self.pid.store(process.pid(), Ordering::Release);
        }
    }

    /// From start to end: finds the port meanwhile.
    async fn one_life(&mut self, process: &mut Process) -> Life {
        self.changed().await;
        let port = self.side.wanted_port(process.pid());
        let mut found = pin!(wait_for_port(&port, &*self.world));
        let mut looking = true;
        let mut late = self.world.sleep(LATE);
        let mut told = false;
        loop {
            tokio::select! {
                biased;
                ending = process.wait() => return Life::Ended(ending),
                grace = stop_asked(&mut self.stop) => return Life::Stopped(process.stop(grace).await),
                () = &mut late, if looking && !told => {
                    told = true;
                    if let AppPort::Known { host, port } = &port {
                        let name = self.side.app_id();
                        tracing::info!(target: NOTICE, "waiting for {name} to listen on {host}:{port}");
                    }
                }
                port = &mut found, if looking => {
                    looking = false;
                    self.side.attach(port);
                    self.changed().await;
                }
            }
        }
    }

    async fn start_again(&mut self, ending: Ending, pause: &mut Duration) -> Option<Process> {
        loop {
            let name = self.side.app_id();
            tracing::warn!(target: NOTICE, "{name} ended with {ending}; starting it again in {pause:?}");
            tokio::select! {
                () = self.world.sleep(*pause) => {}
                _ = stop_asked(&mut self.stop) => return None,
            }
            *pause = (*pause * 2).min(RESTART_MAX);
            match Process::start(
                &self.command,
                Arc::clone(&self.lines),
                Arc::clone(&self.world) as _,
            ) {
                Ok(process) => return Some(process),
                Err(failure) => tracing::error!(target: NOTICE, "{failure}"),
            }
        }
    }

    async fn changed(&self) {
        // The session may be gone already; then nobody wants to know.
        drop(self.tell.send(Told::Changed).await);
    }

    async fn end(self, ending: Ending) {
        self.pid.store(0, Ordering::Release);
        self.ended.store(i32::from(ending.exit_code()), Ordering::Release);
        drop(self.tell.send(Told::Ended(ending)).await);
    }
}

enum Life {
    Ended(Ending),
    Stopped(Ending),
}

/// The grace given, once somebody asks to stop. Cancel-safe.
async fn stop_asked(stop: &mut watch::Receiver<Option<Duration>>) -> Duration {
    loop {
        if let Some(grace) = *stop.borrow_and_update() {
            return grace;
        }
        if stop.changed().await.is_err() {
            // The session is gone without a word: a crash of ours.
            return Duration::ZERO;
        }
    }
}

/// What tools of the reference's CLI look for in the metadata.
fn describe(side: &Side, line: &[String], pid: i32) {
    let host = side.host();
    // Three small entries always find room.
    let _ = host.set_extended("appCommand", &line.join(" "));
    let _ = host.set_extended("appPID", &pid.to_string());
    let _ = host.set_extended("cliPID", &std::process::id().to_string());
}

/// Waits for an app that somebody else starts.
async fn discover(side: Arc<Side>, world: Arc<RealWorld>) {
    let Some(channel) = side.channel_settings() else { return };
    let Some(port) = channel.port else { return };
    let app_id = side.app_id();
    tracing::info!(
        scope = "dapr.runtime",
        app_id,
        "application protocol: {}. waiting on port {port}. This will block until the app is listening on that port.",
        channel.protocol
    );
    let wanted = AppPort::Known { host: channel.host.clone(), port };
    wait_for_port(&wanted, &*world).await;
    tracing::info!(scope = "dapr.runtime", app_id, "application discovered on port {port}");
    side.attach(port);
}

fn prefix(index: usize, count: usize, width: usize, manner: &Manner) -> Prefix {
    match (manner.as_reference, count) {
        (true, 1) => Prefix::Banner,
        (true, _) => Prefix::NamedBanner,
        (false, _) => {
            let colour = coloured(Sink::Stdout).then(|| COLOURS[index % COLOURS.len()]);
            Prefix::Column { width, colour }
        }
    }
}

fn lines(plan: &AppPlan, prefix: Prefix, world: &dyn World) -> Result<Arc<LineSink>, Failure> {
    let console = plan.output != LogDestination::File;
    let file = match plan.output {
        LogDestination::Console => None,
        LogDestination::File | LogDestination::FileAndConsole => {
            let name = format!("{}_app_{}.log", plan.settings.id, world.wall().0 / 1000);
            let path = plan.logs_dir.join(name);
            let opened = LineSink::open_file(&path).map_err(|error| {
                Failure::new("OUTR-0017", Exit::Failed, "the app's log file cannot be written")
                    .at(path.display())
                    .why(error)
            });
            Some(opened?)
        }
    };
    Ok(LineSink::new(plan.settings.id.clone(), prefix, Destination { console, file }))
}

/// What apps expect to find in their environment.
fn with_environment(command: &Command, plan: &AppPlan, side: &Side) -> Command {
    let settings = &plan.settings;
    let ports = side.ports();
    let mut ours = vec![
        ("APP_ID", settings.id.clone()),
        ("DAPR_HTTP_PORT", ports.http.to_string()),
        ("DAPR_GRPC_PORT", ports.grpc.to_string()),
        // Output that is piped is held back by some languages until it is much; a person is waiting for it.
        ("PYTHONUNBUFFERED", "1".to_owned()),
    ];
    if let Some(port) = ports.metrics {
        ours.push(("DAPR_METRICS_PORT", port.to_string()));
    }
    if let Some(channel) = &settings.channel {
        ours.push(("APP_PROTOCOL", channel.protocol.clone()));
        ours.push(("APP_CHANNEL_ADDRESS", channel.host.clone()));
        ours.extend(channel.port.map(|port| ("APP_PORT", port.to_string())));
        ours.extend(channel.api_token.clone().map(|token| ("APP_API_TOKEN", token)));
    }
    ours.extend(settings.api_token.clone().map(|token| ("DAPR_API_TOKEN", token)));
    if !settings.namespace.is_empty() {
        ours.push(("NAMESPACE", settings.namespace.clone()));
    }
    let mut command = command.clone();
    for (name, value) in ours {
        // The user's own word is the last one, but ports are facts.
        if name.ends_with("_PORT") && name.starts_with("DAPR_") {
            command.env.insert(name.to_owned(), value);
        } else {
            command.env.entry(name.to_owned()).or_insert(value);
        }
    }
    command
}
