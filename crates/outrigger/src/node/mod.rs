//! A node: everything that the apps of one process share, wired in one place.
//!
//! ```text
//!   Node -- engines (the data folder, shared with other processes), directory of apps, metrics, trace export, reload
//!     |
//!     +- Side of app A -- ports, host (API), components, channel to the app, subscriptions, health
//!     +- Side of app B -- ...
//! ```
//!
//! The invariant: this module and its children are the only code that knows both a concrete engine and the API. What is
//! built here is handed down as a key space, a world, a directory; nothing below looks back up.

mod access;
pub(crate) mod components;
mod engines;
mod hosting;
pub(crate) mod identity;
pub(crate) mod neighbours;
pub(crate) mod policies;
mod reload;
pub(crate) mod resolution;
mod serving;
mod side;
mod sockets;
pub(crate) mod sources;
mod trip;

pub(crate) use engines::share;
pub use engines::{Engines, Hold};
pub use side::{Ports, Side};
pub use sources::resource_paths;

use crate::{
    failure::Failure,
    logging::NOTICE,
    ports::{Ours, WhenTaken},
    settings::{
        Environment,
        app::AppSettings,
        node::{DataPlace, NodeSettings},
    },
    telemetry::{self, Exporter},
};
use outrigger_api::{
    Shutdown,
    metrics::{Metrics, StoreReport},
    trace::{NoTelemetry, TelemetrySink},
};
use outrigger_calls::{Directory, Invoker, OutboundClient, OutboundSettings};
use outrigger_coordination::App;
use outrigger_events::Broker;
use outrigger_kernel::{Deadline, World};
use outrigger_resources::{Configuration, NameResolution, Tracing};
use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

/// How a host says that its app asked for the end.
pub type OnShutdown = Arc<dyn Fn(Shutdown) + Send + Sync>;

/// Everything that the apps of one process share.
pub struct Node {
    settings: NodeSettings,
    environment: Environment,
    world: Arc<dyn World>,
    engines: Engines,
    directory: Arc<Directory>,
    invoker: Arc<Invoker>,
    metrics: OnceLock<Arc<Metrics>>,
    exporter: OnceLock<Option<Arc<Exporter>>>,
    on_shutdown: OnShutdown,
    sides: Mutex<Vec<Arc<Side>>>,
    notices: Mutex<Vec<Notice>>,
    reload: reload::Trigger,
    ports: Ours,
    shelf: sources::Shelf,
    told_hold: Mutex<Option<Hold>>,
    /// The name resolution in force.
    resolves: Mutex<NameResolution>,
    /// Who the apps are to other hosts, once they are somebody.
    identities: OnceLock<Arc<identity::Identities>>,
}

/// Something the user should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notice {
    /// The code of a warning; `None` for what is merely good to know.
    pub code: Option<&'static str>,
    /// What to know.
    pub text: String,
}

impl Notice {
    fn plain(text: String) -> Self {
        Self { code: None, text }
    }

    /// Tells it, whatever the log level.
    pub fn tell(&self) {
        match self.code {
            Some(code) => tracing::warn!(target: NOTICE, code, "{}", self.text),
            None => tracing::info!(target: NOTICE, "{}", self.text),
        }
    }
}

/// What `run` shows of the components.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComponentSummary {
    /// Names with who serves them.
    pub list: String,
    /// Whether they are the defaults.
    pub defaults: bool,
}

impl Node {
    /// A node without apps. Opens nothing yet; see [`Node::open_store`].
    #[must_use]
    pub fn open(
        settings: NodeSettings,
        environment: Environment,
        world: Arc<dyn World>,
        on_shutdown: OnShutdown,
    ) -> Arc<Self> {
        let outbound = OutboundClient::new(OutboundSettings::default(), Arc::clone(&world));
        Arc::new(Self {
            engines: Engines::new(settings.data.clone(), Arc::clone(&world)),
            directory: Directory::new(),
            invoker: Invoker::new(outbound, Arc::clone(&world)),
            metrics: OnceLock::new(),
            exporter: OnceLock::new(),
            on_shutdown,
            sides: Mutex::default(),
            notices: Mutex::default(),
            reload: reload::Trigger::default(),
            ports: Ours::default(),
            shelf: sources::Shelf::default(),
            told_hold: Mutex::default(),
            resolves: Mutex::default(),
            identities: OnceLock::new(),
            settings,
            environment,
            world,
        })
    }

    /// What it was opened with.
    #[must_use]
    pub fn settings(&self) -> &NodeSettings {
        &self.settings
    }

    /// Opens the data folder, or joins the process that holds it. Before the first app; whether it worked shows when an
    /// app needs it.
    pub async fn open_store(&self) {
        self.engines.prepare().await;
        self.tell_of_hold();
    }

    /// Logs who holds the data folder, whenever that is somebody else than before.
    fn tell_of_hold(&self) {
        let (Some(hold), DataPlace::Folder(folder)) = (self.hold(), &self.settings.data) else {
            return;
        };
        let mut told = self.told_hold.lock().unwrap_or_else(PoisonError::into_inner);
        // Between two holders nobody is known, for a moment.
        if *told == Some(hold) || hold == Hold::Shares(None) {
            return;
        }
        *told = Some(hold);
        let folder = folder.display();
        match hold {
            Hold::Holds => tracing::info!("this process holds the data folder {folder}"),
            Hold::Shares(holder) => {
                let holder = holder.unwrap_or_default();
                tracing::info!(
                    holder,
                    "the data folder {folder} is shared with the process that holds it"
                );
            }
        }
    }

    /// How this process has the data folder; `None` where there is none.
    #[must_use]
    pub fn hold(&self) -> Option<Hold> {
        self.engines.hold()
    }

    /// Adds an app: reads its resources, binds its ports and serves its API. The app itself is reached once
    /// [`Side::attach`] says where.
    ///
    /// # Errors
    /// When its resources cannot be used, its ports are taken, or the data folder cannot be opened. Nothing is served then.
    pub fn add_app(
        self: &Arc<Self>,
        settings: AppSettings,
        when_taken: WhenTaken,
    ) -> Result<Arc<Side>, Failure> {
        let side = Side::serve(self, settings, when_taken)?;
        self.sides().push(Arc::clone(&side));
        self.merge_endpoints();
        self.resolve_names()?;
        Ok(side)
    }

    /// Makes the apps of this process known to the other runtimes that share the data folder, and theirs callable here.
    pub async fn meet_neighbours(self: &Arc<Self>) {
        let Some(hood) = self.engines.hood() else { return };
        match self.engines.durable() {
            Ok(Some(space)) => hood.begin(self, space).await,
            Ok(None) => {}
            // Components that need the folder have failed by now; without any, this runtime is alone and fine.
            Err(failure) => {
                tracing::info!("apps of other runtimes are not found: {}", failure.what())
            }
        }
    }

    /// The name of this process among those that share the data folder; empty where there is none.
    pub(crate) fn process_name(&self) -> &str {
        self.engines.hood().map_or("", |hood| hood.own())
    }

    /// What metrics say of the store.
    fn store_report(&self) -> StoreReport {
        let mut report = StoreReport { folder: self.engines.report(), components: Vec::new() };
        for side in self.sides().iter() {
            for (name, component) in &side.host().components.load().state {
                let durability = self.engines.durability(component.store.space());
                report.components.push((side.app_id().to_owned(), name.clone(), durability));
            }
        }
        report
    }

    /// What the registry is to say of this process.
    pub(crate) fn hosted_apps(&self) -> Vec<App> {
        self.sides().iter().filter_map(|side| side.listing()).collect()
    }

    /// What the user should be told and has not been told yet.
    #[must_use]
    pub fn take_notices(&self) -> Vec<Notice> {
        let all = std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner));
        // Ten apps that share a folder say the same ten times.
        let mut told = BTreeSet::new();
        all.into_iter().filter(|notice| told.insert(notice.clone())).collect()
    }

    /// What `run` shows of the components.
    #[must_use]
    pub fn component_summary(&self) -> ComponentSummary {
        let sides = self.sides();
        let place = match self.settings.data {
            DataPlace::Memory => "memory",
            DataPlace::Folder(_) => "embedded",
        };
        let mut names = BTreeSet::new();
        for side in sides.iter() {
            let components = side.host().components.load();
            for one in &components.registered {
                let by = match one.type_name.as_str() {
                    kind if kind.ends_with(".in-memory") => "memory",
                    kind if kind.starts_with("secretstores.") => "local",
                    _ => place,
                };
                names.insert(format!("{} ({by})", one.name));
            }
        }
        let list: Vec<String> = names.into_iter().collect();
        let list = if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        ComponentSummary { list, defaults: sides.iter().all(|side| side.has_default_resources()) }
    }

    /// Follows changes of resource files from now on; without `reload` in the settings, only when asked to.
    pub fn watch_resources(self: &Arc<Self>) {
        reload::start(self);
    }

    /// Reads every resource file again, now.
    pub fn reload_now(&self) {
        self.reload.now();
    }

    /// First step of a drain: not ready any more, and not to be found by callers.
    pub fn leave(&self) {
        for side in self.sides().iter() {
            side.leave();
        }
    }

    /// Serves on for `time`, or until an app is unhealthy.
    pub async fn block(&self, time: Duration) {
        let sides: Vec<Arc<Side>> = self.sides().clone();
        let deadline = Deadline::after(&*self.world, time);
        while !deadline.expired(self.world.mono()) && sides.iter().all(|side| side.is_app_healthy())
        {
            self.world
                .sleep(Duration::from_millis(50).min(deadline.remaining(self.world.mono())))
                .await;
        }
    }

    /// Takes no new events for the apps and lets them finish those they have, until `deadline`.
    pub async fn stop_intake(&self, deadline: Deadline) {
        let sides: Vec<Arc<Side>> = self.sides().clone();
        let stopping =
            sides.iter().map(|side| side.stop_intake(deadline.remaining(self.world.mono())));
        futures_util::future::join_all(stopping).await;
    }

    /// Waits until no app has a call under way, or until `deadline`: who found an app before it left may just now be
    /// calling it, so one moment without calls is not enough.
    pub async fn finish_calls(&self, deadline: Deadline) {
        let sides: Vec<Arc<Side>> = self.sides().clone();
        let mut quiet = 0;
        while quiet < 2 && !deadline.expired(self.world.mono()) {
            quiet = if sides.iter().all(|side| side.calls() == 0) { quiet + 1 } else { 0 };
            self.world.sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops serving, waits for requests under way until `deadline`, exports what is to be exported and closes the store.
    pub async fn close(&self, deadline: Deadline) {
        let sides: Vec<Arc<Side>> = self.sides().clone();
        futures_util::future::join_all(sides.iter().map(|side| side.close())).await;
        if let Some(identities) = self.identities.get() {
            self.directory.set_peer_ways(None);
            identities.close().await;
        }
        if let Some(Some(exporter)) = self.exporter.get() {
            let patience = deadline.remaining(self.world.mono()).max(Duration::from_secs(1));
            exporter.flush(patience, &*self.world).await;
        }
        if let Some(hood) = self.engines.hood() {
            hood.withdraw().await;
        }
        self.engines.close(deadline.remaining(self.world.mono()).max(Duration::from_secs(1))).await;
        if let Some(hood) = self.engines.hood() {
            hood.close().await;
        }
    }

    /// The broker `name` as the app `app_id` (or the first app) has it.
    #[must_use]
    pub fn broker(&self, app_id: Option<&str>, name: &str) -> Option<Arc<Broker>> {
        let sides = self.sides();
        let side = sides.iter().find(|side| app_id.is_none_or(|id| side.app_id() == id))?;
        Some(Arc::clone(&side.host().components.load().pubsub.get(name)?.broker))
    }

    /// Waits until the store has stopped for good; answers why. Nothing can be acknowledged any more then. Meanwhile tells
    /// who holds the data folder.
    pub async fn until_store_fails(&self) -> String {
        let Some(shared) = self.engines.shared() else { return std::future::pending().await };
        let mut changes = shared.changes();
        loop {
            self.tell_of_hold();
            tokio::select! {
                reason = shared.failure() => return reason,
                _ = changes.next() => {}
            }
        }
    }

    fn sides(&self) -> MutexGuard<'_, Vec<Arc<Side>>> {
        self.sides.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notice(&self, notices: impl IntoIterator<Item = Notice>) {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).extend(notices);
    }

    fn metrics(self: &Arc<Self>, configuration: &Configuration) -> Arc<Metrics> {
        // One registry for the process: the first app's configuration says how its latencies are sorted.
        let made = || {
            let buckets = configuration.metrics.latency_buckets_ms.as_deref();
            let metrics = Metrics::new(buckets, env!("CARGO_PKG_VERSION"));
            let node = Arc::downgrade(self);
            metrics.follow_store(move || node.upgrade().map(|node| node.store_report()));
            metrics
        };
        Arc::clone(self.metrics.get_or_init(made))
    }

    /// Where spans go; the first app's configuration that names a collector counts for the process.
    fn telemetry(&self, tracing: &Tracing) -> Result<Arc<dyn TelemetrySink>, Failure> {
        if let Some(exporter) = self.exporter.get() {
            return Ok(sink(exporter.as_ref()));
        }
        let (target, told) = telemetry::target(&self.environment, tracing);
        self.notice(told.map(Notice::plain));
        let started = target.map(|target| Exporter::start(&target, &self.world)).transpose()?;
        Ok(match started {
            None => sink(None),
            Some(_) => sink(self.exporter.get_or_init(|| started).as_ref()),
        })
    }

    /// Looks for apps of other hosts where the configurations say; where that has not changed, what is known stays.
    fn resolve_names(&self) -> Result<(), Failure> {
        let sides: Vec<Arc<Side>> = self.sides().clone();
        let configurations = sides.iter().map(|side| side.host().configuration.load_full());
        let named =
            |configuration: &Arc<Configuration>| configuration.name_resolution.component.is_some();
        let says = configurations.into_iter().find(named).unwrap_or_default();
        let mut present = self.resolves.lock().unwrap_or_else(PoisonError::into_inner);
        if *present == says.name_resolution {
            return Ok(());
        }
        let read = resolution::Resolution::read(&says, &self.world)?;
        present.clone_from(&says.name_resolution);
        drop(present);
        self.directory.set_lookup(read.lookup);
        self.notice(read.notices.into_iter().map(Notice::plain));
        Ok(())
    }

    /// Makes the outside services of all apps callable. Names are the process's: of two with one name, the later app's
    /// holds.
    fn merge_endpoints(&self) {
        let sides: Vec<Arc<Side>> = self.sides().clone();
        let mut all = Vec::new();
        for side in sides {
            all.extend(side.endpoints());
        }
        self.directory.set_endpoints(all);
    }
}

fn sink(exporter: Option<&Arc<Exporter>>) -> Arc<dyn TelemetrySink> {
    match exporter {
        Some(exporter) => Arc::clone(exporter) as _,
        None => Arc::new(NoTelemetry),
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("engines", &self.engines)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}
