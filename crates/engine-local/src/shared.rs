//! What the parts of an engine share: the published view, the time, who watches, and whether it still works.

use crate::{figures::Tally, log::Frame, stack::Desert, time::Time, view::View};
use outrigger_keyspace::watch::Registry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

pub(crate) struct Shared {
    /// The last state that may be seen; `None` once closed.
    pub(crate) view: watch::Sender<Option<Arc<View>>>,
    pub(crate) failure: Failure,
    pub(crate) registry: Registry,
    pub(crate) time: Time,
    pub(crate) hints: Arc<Hints>,
    pub(crate) frames: Frames,
    pub(crate) tally: Tally,
}

/// Frames between two uses: their memory is used again.
#[derive(Default)]
pub(crate) struct Frames(Mutex<Vec<Frame>>);

impl Frames {
    /// As many as there can be batches under way.
    const KEPT_MAX: usize = 3;

    pub(crate) fn take(&self) -> Frame {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub(crate) fn give(&self, mut frame: Frame) {
        frame.clear();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < Self::KEPT_MAX {
            kept.push(frame);
        }
    }
}

/// Why the engine has stopped for good, if it has. The first reason counts.
pub(crate) struct Failure(watch::Sender<Option<String>>);

impl Failure {
    pub(crate) fn none() -> Self {
        Self(watch::channel(None).0)
    }

    pub(crate) fn reason(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    pub(crate) fn happened(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Takes note of `reason`; answers the first one.
    pub(crate) fn note(&self, reason: String) -> String {
        let mut first = String::new();
        self.0.send_modify(|noted| {
            if noted.is_none() {
                tracing::error!(
                    reason,
                    "the local engine has stopped; restart to see what is stored"
                );
            }
            first.clone_from(noted.get_or_insert(reason));
        });
        first
    }

    /// Waits for a failure; for ever, when the engine is gone without one.
    pub(crate) fn told(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }
}

/// What readers tell the committer: where they had to walk over nothing but the dead. One place: a hint that is lost is
/// given again.
#[derive(Default)]
pub(crate) struct Hints(Mutex<Option<(u64, Desert)>>);

impl Hints {
    fn hint(&self) -> MutexGuard<'_, Option<(u64, Desert)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was found in the stack of `generation`.
    pub(crate) fn give(&self, generation: u64, desert: Desert) {
        *self.hint() = Some((generation, desert));
    }

    /// Takes what was found in the stack of `generation`, and forgets what was found in earlier ones.
    pub(crate) fn take(&self, generation: u64) -> Option<Desert> {
        // What is newer was found in a stack that the committer is yet to pass on: there is no such thing.
        let (of, desert) = self.hint().take()?;
        (of == generation).then_some(desert)
    }
}
