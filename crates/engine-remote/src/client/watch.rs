//! A watch over whatever there is between it and its engine: a line, a gap, another line, and in the end perhaps the engine
//! itself, when this process has become the holder.

use super::{Core, Stage};
use crate::server::revision_of;
use outrigger_kernel::BoxFuture;
use outrigger_keyspace::{KeyRange, KeySpace, Watch, WatchSource};
use std::sync::Arc;
use tokio::sync::watch;

pub(super) struct Source {
    core: Arc<Core>,
    name: u64,
    range: KeyRange,
    latest: watch::Receiver<u64>,
    own: Option<Own>,
}

/// The engine is here.
struct Own {
    engine: Arc<dyn KeySpace>,
    watch: Watch,
    /// What happened between the last line's end and this watch's beginning is still to be told.
    owed: bool,
}

impl Core {
    pub(crate) fn watch(self: &Arc<Self>, range: KeyRange) -> Watch {
        let name = self.name();
        let latest = self.known.watch(name, range.clone());
        let source = Source { core: self.clone(), name, range, latest, own: None };
        Watch::new(0, Box::new(source))
    }
}

impl WatchSource for Source {
    fn newer_than(&mut self, seen: u64) -> BoxFuture<'_, u64> {
        Box::pin(async move {
            loop {
                if let Some(own) = &mut self.own {
                    let revision = own.newer_than(seen).await;
                    if revision > seen {
                        return revision;
                    }
                    continue;
                }
                match self.told_or_taken(seen).await {
                    Heard::Changed(revision) => return revision,
                    Heard::Own(engine) => {
                        let watch = engine.watch(self.range.clone());
                        self.own = Some(Own { engine, watch, owed: true });
                    }
                }
            }
        })
    }
}

impl Source {
    async fn told_or_taken(&mut self, seen: u64) -> Heard {
        let mut stages = self.core.stages();
        let told = async {
            // The sender is with the core, which is held here.
            let told = self.latest.wait_for(|latest| *latest > seen).await.map(|latest| *latest);
            told.unwrap_or(seen + 1)
        };
        let taken = async {
            let is_own = |stage: &Stage| matches!(stage, Stage::Own(_));
            stages.wait_for(is_own).await.ok().and_then(|stage| stage.own())
        };
        tokio::select! {
            biased;
            revision = told => Heard::Changed(revision),
            Some(engine) = taken => Heard::Own(engine),
        }
    }
}

/// What ends a wait.
enum Heard {
    Changed(u64),
    Own(Arc<dyn KeySpace>),
}

impl Own {
    async fn newer_than(&mut self, seen: u64) -> u64 {
        if self.owed {
            // An engine that cannot say is worth a wake-up too.
            let revision = revision_of(&*self.engine).await.unwrap_or(seen + 1);
            self.owed = false;
            return revision;
        }
        self.watch.changed().await
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.core.known.unwatch(self.name);
    }
}
