//! The follower's side: an engine that is in another process.
//!
//! [`Core`] is the engine as a follower sees it, whatever the line to the holder is doing: a call takes the line that there
//! is, waits for the next one while there is none, and asks again when its line breaks, until its patience ends. A *keeper*
//! (`crate::shared`) sees to it that there is a line, or that the engine is in this process after all.

mod commit;
mod dial;
mod known;
mod line;
mod remote;
mod view;
mod watch;

pub use remote::Remote;

pub(crate) use dial::{Dialed, dial};
pub(crate) use known::Known;
pub(crate) use line::{Line, Lost};
pub(crate) use view::View;

use outrigger_kernel::{Deadline, World, within};
use outrigger_keyspace::KeySpace;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::watch::{Receiver, Sender, channel};

/// What all calls of a follower share.
pub(crate) struct Core {
    pub(crate) world: Arc<dyn World>,
    pub(crate) known: Arc<Known>,
    stage: Sender<Stage>,
    /// The engine, once it is in this process. It stays here until the process ends.
    own: OnceLock<Arc<dyn KeySpace>>,
    names: AtomicU64,
    /// How many processes have gone that were served here.
    departures: Arc<Sender<u64>>,
}

/// Where the engine is.
#[derive(Clone)]
pub(crate) enum Stage {
    /// Nowhere yet, and perhaps why.
    Seeking(Option<Arc<str>>),
    /// At the other end of a line.
    Line(Arc<Line>),
    /// Here.
    Own(Arc<dyn KeySpace>),
    /// Nowhere any more.
    Ended(Arc<str>),
}

/// Where a call goes.
pub(crate) enum Way {
    Line(Arc<Line>),
    Own(Arc<dyn KeySpace>),
}

impl Core {
    pub(crate) fn new(world: Arc<dyn World>) -> Arc<Self> {
        Arc::new(Self {
            world,
            known: Arc::default(),
            stage: channel(Stage::Seeking(None)).0,
            own: OnceLock::new(),
            names: AtomicU64::new(1),
            departures: Arc::new(channel(0).0),
        })
    }

    pub(crate) fn own(&self) -> Option<&Arc<dyn KeySpace>> {
        self.own.get()
    }

    /// The process that has the engine, as far as is known.
    pub(crate) fn holder(&self) -> Option<u32> {
        match &*self.stage.borrow() {
            Stage::Own(_) => Some(std::process::id()),
            Stage::Line(line) => line.holder(),
            Stage::Seeking(_) | Stage::Ended(_) => None,
        }
    }

    pub(crate) fn stages(&self) -> Receiver<Stage> {
        self.stage.subscribe()
    }

    pub(crate) fn departures(&self) -> Arc<Sender<u64>> {
        self.departures.clone()
    }

    /// Calls go to `engine` from now on.
    pub(crate) fn hold(&self, engine: Arc<dyn KeySpace>) {
        let engine = self.own.get_or_init(|| engine).clone();
        self.known.detach();
        self.stage.send_replace(Stage::Own(engine));
    }

    /// Calls go over `line` from now on. Standing watches go first: nothing that is committed over this line may come
    /// before them.
    pub(crate) fn follow(&self, line: Arc<Line>) {
        self.known.attach(&line);
        self.stage.send_replace(Stage::Line(line));
    }

    pub(crate) fn seek(&self, why: Option<&str>) {
        self.stage.send_replace(Stage::Seeking(why.map(Arc::from)));
    }

    /// Calls are refused from now on. An engine in this process says for itself what has become of it.
    pub(crate) fn end(&self, why: &str) {
        if self.own().is_none() {
            // With the last who knows the line, the holder learns that this process has gone.
            self.known.detach();
            self.stage.send_replace(Stage::Ended(Arc::from(why)));
        }
    }

    /// A number that nothing else of this process's connection has.
    fn name(&self) -> u64 {
        self.names.fetch_add(1, Ordering::Relaxed)
    }

    fn patience(&self) -> Deadline {
        Deadline::after(&*self.world, crate::bounds::PATIENCE)
    }

    /// The way to the engine, once there is one; nothing when the caller's patience is over, however often it asks.
    async fn way(&self, until: Deadline) -> Result<Way, String> {
        if until.expired(self.world.mono()) {
            return Err(self.why_not());
        }
        if let Some(way) = self.stage.borrow().way() {
            return way;
        }
        let mut stages = self.stages();
        let there = within(&*self.world, until, stages.wait_for(|stage| stage.way().is_some()));
        if let Ok(Ok(stage)) = there.await
            && let Some(way) = stage.way()
        {
            return way;
        }
        Err(self.why_not())
    }

    fn why_not(&self) -> String {
        match &*self.stage.borrow() {
            Stage::Seeking(Some(why)) => format!("nobody serves the data folder: {why}"),
            _ => "the process that holds the data folder does not answer".to_owned(),
        }
    }
}

impl Stage {
    fn way(&self) -> Option<Result<Way, String>> {
        match self {
            Self::Line(line) if line.is_open() => Some(Ok(Way::Line(line.clone()))),
            // Its keeper is about to notice.
            Self::Line(_) | Self::Seeking(_) => None,
            Self::Own(engine) => Some(Ok(Way::Own(engine.clone()))),
            Self::Ended(why) => Some(Err(why.as_ref().to_owned())),
        }
    }

    fn own(&self) -> Option<Arc<dyn KeySpace>> {
        match self {
            Self::Own(engine) => Some(engine.clone()),
            _ => None,
        }
    }
}
