//! Sees to it that there is a way to the engine: a line to the holder, or the engine itself.
//!
//! One task per process. While it follows, it reads the line; when the line ends, it asks again and again, some fifty times
//! a second: does somebody serve? May I hold? The engine's lock on the folder answers the second question, to exactly one
//! process, so there is nothing here to agree on.

use super::{BoxError, Opened, Opener, Refused, ShareError};
use crate::{
    bounds::{HELLO_PATIENCE, OPEN_PATIENCE},
    client::{Core, Dialed, Line, dial},
    place::Place,
    socket::Ear,
    wire::Pulse,
};
use outrigger_kernel::{Deadline, World};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{net::UnixListener, sync::watch};

/// How long an engine that does not open is tried before that is given up.
const FAILING_PATIENCE: Duration = Duration::from_secs(2);
/// A line that ends sooner than this may end for a reason that is still there.
const SHORT_LINE: Duration = Duration::from_millis(100);
/// So many attempts in quick succession: a holder that leaves is replaced within the first few.
const HURRIED_ATTEMPTS: u32 = 100;

/// A process's hold on its keeper task. Dropped, it ends the task.
pub(crate) struct Keeper {
    closing: watch::Sender<Option<Duration>>,
    closed: watch::Receiver<bool>,
    fate: Arc<Fate>,
}

/// What has become of the engine of this process.
pub(super) struct Fate {
    failure: watch::Sender<Option<String>>,
    complained: AtomicBool,
}

impl Fate {
    fn new() -> Arc<Self> {
        Arc::new(Self { failure: watch::channel(None).0, complained: AtomicBool::new(false) })
    }

    /// The first reason counts.
    pub(super) fn fail(&self, why: String) {
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert(why);
            first
        });
    }

    /// Whether this is the first time: what fails again and again is told of once.
    pub(super) fn first_complaint(&self) -> bool {
        !self.complained.swap(true, Ordering::Relaxed)
    }
}

/// The task's side.
pub(super) struct Keeping {
    pub(super) core: Arc<Core>,
    pub(super) world: Arc<dyn World>,
    pub(super) place: Place,
    opener: Option<Arc<Opener>>,
    pub(super) closing: watch::Receiver<Option<Duration>>,
    pub(super) fate: Arc<Fate>,
    _closed: Closed,
}

/// Says that the task is over, however it ends.
struct Closed(watch::Sender<bool>);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// What one attempt found.
enum Sought {
    Line(Arc<Line>, Ear, Pulse),
    Engine(Opened),
    /// Held by somebody who does not serve, or not yet.
    InUse(BoxError),
    Nobody(std::io::Error),
    Failed(BoxError),
    Version(u32),
    Stranger(u32),
}

impl Keeper {
    /// Finds the engine, or opens it; the task goes on in the background.
    pub(crate) async fn start(
        folder: &Path,
        world: Arc<dyn World>,
        opener: Option<Arc<Opener>>,
    ) -> Result<(Arc<Core>, Self), ShareError> {
        let core = Core::new(world.clone());
        let (closing, to_close) = watch::channel(None);
        let (closed, is_closed) = watch::channel(false);
        let fate = Fate::new();
        let keeping = Keeping {
            core: core.clone(),
            world: world.clone(),
            place: Place::of_folder(folder),
            opener,
            closing: to_close,
            fate: fate.clone(),
            _closed: Closed(closed),
        };
        let first = keeping.find().await?;
        // Before anybody calls: whoever opened this finds a way at once.
        let first = keeping.take(first);
        drop(world.spawn("data folder keeper", Box::pin(keeping.run(first))));
        Ok((core, Self { closing, closed: is_closed, fate }))
    }

    pub(crate) fn failed(&self) -> Option<String> {
        self.fate.failure.borrow().clone()
    }

    pub(crate) async fn failure(&self) -> String {
        let mut failure = self.fate.failure.subscribe();
        // The sender is held here, so that it cannot be gone.
        let told = failure.wait_for(Option::is_some).await.ok();
        told.and_then(|told| told.clone()).unwrap_or_default()
    }

    pub(crate) async fn close(&self, grace: Duration) {
        self.closing.send_replace(Some(grace));
        let mut closed = self.closed.clone();
        // An error is the end of the task as well.
        let _closed = closed.wait_for(|closed| *closed).await;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.closing.send_if_modified(|closing| {
            let open = closing.is_none();
            closing.get_or_insert(Duration::from_secs(1));
            open
        });
    }
}

/// What the keeper looks after, once it has found something.
enum Kept {
    Line(Arc<Line>, Ear),
    Engine(Opened, Option<UnixListener>),
    Nothing,
}

impl Keeping {
    /// Tries until there is a way, or surely none.
    async fn find(&self) -> Result<Sought, ShareError> {
        let until = Deadline::after(&*self.world, OPEN_PATIENCE);
        let mut attempt = 0;
        loop {
            let found = self.seek(until).await;
            let late = until.expired(self.world.mono());
            match found {
                Sought::Line(..) | Sought::Engine(_) => return Ok(found),
                Sought::Version(theirs) => return Err(ShareError::Version { theirs }),
                Sought::Stranger(uid) => return Err(ShareError::Stranger { uid }),
                Sought::Failed(error) => return Err(ShareError::Failed(error)),
                Sought::Nobody(error) => return Err(ShareError::Nobody(error)),
                Sought::InUse(error) if late => return Err(ShareError::InUse(error)),
                Sought::InUse(_) => {}
            }
            attempt += 1;
            self.pause(attempt).await;
        }
    }

    async fn seek(&self, until: Deadline) -> Sought {
        let nobody = match dial(&self.place, &*self.world, until).await {
            Dialed::Line(line, ear, pulse) => return Sought::Line(line, ear, pulse),
            Dialed::Version(theirs) => return Sought::Version(theirs),
            Dialed::Stranger(uid) => return Sought::Stranger(uid),
            Dialed::Nobody(error) => error,
        };
        let Some(opener) = self.opener.clone() else { return Sought::Nobody(nobody) };
        match tokio::task::spawn_blocking(move || opener()).await {
            Ok(Ok(opened)) => Sought::Engine(opened),
            Ok(Err(Refused::InUse(error))) => Sought::InUse(error),
            Ok(Err(Refused::Failed(error))) => Sought::Failed(error),
            Err(error) => Sought::Failed(Box::new(error)),
        }
    }

    /// Sends the calls where the engine was found.
    fn take(&self, found: Sought) -> Kept {
        let why = match found {
            Sought::Line(line, ear, pulse) => {
                self.core.known.saw_pulse(pulse);
                self.core.follow(line.clone());
                return Kept::Line(line, ear);
            }
            Sought::Engine(opened) => {
                self.core.hold(opened.engine.clone());
                let listener = self.listener();
                return Kept::Engine(opened, listener);
            }
            Sought::InUse(error) | Sought::Failed(error) => error.to_string(),
            Sought::Nobody(error) => error.to_string(),
            Sought::Version(theirs) => ShareError::Version { theirs }.to_string(),
            Sought::Stranger(uid) => ShareError::Stranger { uid }.to_string(),
        };
        self.core.seek(Some(&why));
        Kept::Nothing
    }

    async fn run(mut self, first: Kept) {
        let mut kept = first;
        let mut attempt = 0;
        let mut failing: Option<Deadline> = None;
        loop {
            match kept {
                Kept::Engine(opened, listener) => return self.hold(opened, listener).await,
                Kept::Line(line, ear) => {
                    let begun = self.world.mono();
                    if self.listen(&line, ear).await {
                        return self.core.end("the data folder was closed");
                    }
                    self.core.seek(None);
                    attempt = u32::from(self.world.mono().since(begun) < SHORT_LINE);
                }
                Kept::Nothing => attempt += 1,
            }
            // At once when a holder is gone, but not when holders are gone one after the other.
            if attempt > 0 && self.pause_or_close(attempt).await {
                return self.core.end("the data folder was closed");
            }
            let found = self.seek(Deadline::after(&*self.world, HELLO_PATIENCE)).await;
            if let Sought::Failed(error) = &found {
                let patience = || Deadline::after(&*self.world, FAILING_PATIENCE);
                let until = *failing.get_or_insert_with(patience);
                if until.expired(self.world.mono()) {
                    return self.fail(&error.to_string());
                }
            } else {
                failing = None;
            }
            kept = self.take(found);
        }
    }

    /// Works on the line until it ends; whether that is because this process leaves.
    async fn listen(&mut self, line: &Line, ear: Ear) -> bool {
        tokio::select! {
            biased;
            _closing = self.closing.wait_for(Option::is_some) => true,
            ended = line.run(ear, &self.core.known, &*self.world) => {
                let reason = ended.err().map(|error| error.to_string());
                tracing::debug!(reason, "the process that held the data folder is gone");
                false
            }
        }
    }

    fn fail(&self, why: &str) {
        tracing::error!(reason = why, "the data folder cannot be taken over");
        self.fate.fail(why.to_owned());
        self.core.end(why);
    }

    async fn pause_or_close(&mut self, attempt: u32) -> bool {
        let pause = self.pause(attempt);
        let mut closing = self.closing.clone();
        tokio::select! {
            biased;
            _closing = closing.wait_for(Option::is_some) => true,
            () = pause => false,
        }
    }

    /// Between attempts: of different length, so that those who wait do not come all at once.
    fn pause(&self, attempt: u32) -> impl Future<Output = ()> + use<> {
        let shortest_ms = if attempt < HURRIED_ATTEMPTS { 10 } else { 50 };
        let pause_ms = shortest_ms + self.world.random() % shortest_ms;
        self.world.sleep(Duration::from_millis(pause_ms))
    }
}
