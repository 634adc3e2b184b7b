//! One client's connection: a state machine that does what can be done and then waits for whatever comes first.
//!
//! Every turn goes through the same steps: read and start requests, collect what the engine has answered, collect news for
//! watches, write. A step that would go over a bound is left out; what it waits for is one of the later steps, so the turns
//! go on until nothing moves.

use super::{
    Busy,
    errand::Errand,
    outlet::Outlet,
    reads::{Begun, Reads},
    watches::Watches,
};
use crate::{
    bounds::{REMEMBERED_COMMITS, REQUEST_BYTES_MAX, REQUESTS_MAX, TICK, UNSENT_BYTES_MAX},
    socket::{self, Ear},
    wire::{self, Answer, Pulse, PulseStatus, Request},
};
use bytes::BytesMut;
use futures_util::{
    FutureExt,
    stream::{FuturesUnordered, StreamExt},
};
use outrigger_kernel::{BoxFuture, World};
use outrigger_keyspace::{CommitError, Committed, KeySpace, Level, ReadError, Status, Transaction};
use std::{
    ffi::OsStr,
    future::poll_fn,
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::net::UnixStream;
use tokio_util::io::poll_read_buf;

/// Read at once, where there is as much.
const READ_BYTES: usize = 64 * 1024;
/// News are old by the time they are read if more than this waits before them.
const UNSENT_NEWS_BYTES_MAX: usize = 4 * 1024;
/// Turns before others of the same thread have theirs.
const TURNS_MAX: usize = 32;

/// What a request left to wait for: its answer, and how many bytes its request had.
type Waiting = BoxFuture<'static, (Answer, usize)>;

pub(super) struct Connection {
    ear: Ear,
    outlet: Arc<Outlet>,
    engine: Arc<dyn KeySpace>,
    world: Arc<dyn World>,
    inbox: BytesMut,
    /// Commits and copies. Not given up when the client asks: they happen anyway.
    waiting: FuturesUnordered<Waiting>,
    /// A commit that came alone. Beside the bounds of what waits, which is no more than one commit more.
    errand: Option<Arc<Errand>>,
    waiting_bytes: usize,
    reads: Reads,
    watches: Watches,
    /// Runs while there are snapshots that could be forgotten.
    tick: Option<BoxFuture<'static, ()>>,
    /// Something is under way, as far as whoever drains is concerned.
    busy: Option<Busy>,
    draining: bool,
    /// The client was told that there is nothing more to come.
    left: bool,
}

impl Connection {
    pub(super) fn new(
        stream: UnixStream,
        engine: Arc<dyn KeySpace>,
        world: Arc<dyn World>,
        busy: Busy,
    ) -> io::Result<Self> {
        let (ear, mouth) = socket::split(stream)?;
        let connection = Self {
            ear,
            outlet: Arc::new(Outlet::new(mouth)),
            reads: Reads::new(engine.clone()),
            watches: Watches::new(engine.clone()),
            tick: None,
            engine,
            world,
            inbox: BytesMut::new(),
            waiting: FuturesUnordered::new(),
            errand: None,
            waiting_bytes: 0,
            busy: Some(busy),
            draining: false,
            left: false,
        };
        connection.pulse(true);
        Ok(connection)
    }

    /// From now on answers what is under way and starts nothing.
    pub(super) fn drain(&mut self) {
        self.draining = true;
        // Reads are asked for again, elsewhere; an engine that is about to close wants its snapshots back.
        self.reads.clear();
        self.watches.clear();
    }

    /// Ends with the connection; nothing is lost when it is dropped and called again.
    pub(super) async fn run(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outlet.register(cx);
        for _ in 0..TURNS_MAX {
            let mut moved = false;
            if !self.draining {
                moved |= match self.read(cx) {
                    Ok(Read::Something) => true,
                    Ok(Read::Nothing) => false,
                    Ok(Read::End) => return Poll::Ready(Ok(())),
                    Err(error) => return Poll::Ready(Err(error)),
                };
                moved |= self.collect_reads(cx);
                moved |= self.collect_news(cx);
                moved |= self.tick(cx);
            }
            moved |= self.collect_waiting(cx);
            match self.outlet.poll_write(cx) {
                Ok(wrote) => moved |= wrote,
                Err(error) => return Poll::Ready(Err(error)),
            }
            if !moved {
                let answered = || self.errand.as_ref().is_none_or(|errand| errand.await_end());
                if !self.draining || !self.waiting.is_empty() || !answered() {
                    return Poll::Pending;
                }
                if self.outlet.unsent() > 0 {
                    return Poll::Pending;
                }
                if self.left {
                    self.busy = None;
                    return Poll::Pending;
                }
                self.left = true;
                self.say(&Answer::Leaving);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn has_room(&self) -> bool {
        self.outlet.unsent() < UNSENT_BYTES_MAX
    }

    fn may_start(&self) -> bool {
        self.has_room()
            && self.waiting.len() + self.reads.waiting() < REQUESTS_MAX
            && self.waiting_bytes < REQUEST_BYTES_MAX
    }

    /// Starts what has come, then looks once for more.
    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<Read> {
        let mut moved = Read::Nothing;
        while self.may_start() {
            let Some(frame) = wire::take_frame(&mut self.inbox).map_err(io::Error::other)? else {
                break;
            };
            let request = Request::take(&frame).map_err(io::Error::other)?;
            self.start(cx, request, frame.len())?;
            moved = Read::Something;
        }
        if !self.may_start() {
            return Ok(moved);
        }
        self.inbox.reserve(READ_BYTES);
        match poll_read_buf(Pin::new(&mut self.ear), cx, &mut self.inbox) {
            Poll::Ready(Ok(0)) => Ok(Read::End),
            Poll::Ready(Ok(_)) => Ok(Read::Something),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(moved),
        }
    }

    fn start(&mut self, cx: &mut Context<'_>, request: Request, bytes: usize) -> io::Result<()> {
        match request {
            Request::Read { id, snapshot, at, ask } => {
                if let Begun::Answered(answer) = self.reads.begin(cx, id, snapshot, at, ask) {
                    self.say(&answer);
                }
            }
            Request::Commit { id, resent, transaction } => {
                let engine = self.engine.clone();
                let work = async move {
                    match commit(&*engine, resent, *transaction).await {
                        Ok(committed) => Answer::Committed { id, committed },
                        Err(error) => Answer::CommitFailed { id, error },
                    }
                };
                if self.is_alone() {
                    self.errand = Some(Errand::begin(Box::pin(work), self.outlet.clone()));
                } else {
                    self.wait(cx, bytes, work);
                }
            }
            Request::Watch { watch, tell, range } => {
                self.watches.begin(watch, tell, range).map_err(io::Error::other)?;
            }
            Request::Unwatch { watch } => self.watches.end(watch),
            Request::Release { snapshot } => self.reads.release(snapshot),
            Request::Cancel { id } => self.reads.cancel(id),
            Request::Pulse { status } => self.pulse(status),
            Request::Checkpoint { id, path } => {
                let engine = self.engine.clone();
                self.wait(cx, bytes, async move {
                    match engine.checkpoint(Path::new(OsStr::from_bytes(&path))).await {
                        Ok(revision) => Answer::Copied { id, revision },
                        Err(error) => Answer::ReadFailed { id, error },
                    }
                });
            }
        }
        Ok(())
    }

    fn wait(
        &mut self,
        cx: &mut Context<'_>,
        bytes: usize,
        answer: impl Future<Output = Answer> + Send + 'static,
    ) {
        let mut waiting: Waiting = Box::pin(async move { (answer.await, bytes) });
        match waiting.as_mut().poll(cx) {
            Poll::Ready((answer, _)) => self.say(&answer),
            Poll::Pending => {
                self.waiting_bytes += bytes;
                self.waiting.push(waiting);
            }
        }
    }

    /// Whether nothing else of this connection waits to be answered, or to be begun.
    fn is_alone(&self) -> bool {
        self.waiting.is_empty()
            && self.inbox.is_empty()
            && self.errand.as_ref().is_none_or(|errand| errand.is_done())
    }

    fn say(&self, answer: &Answer) {
        self.outlet.say(answer);
    }

    /// Says what the engine has come to. Its status may take a look at a disk, so not every time.
    fn pulse(&self, status: bool) {
        let status = status.then(|| {
            let Status { durable, disk_bytes, failed, .. } = self.engine.status();
            PulseStatus { durable, disk_bytes, failed }
        });
        // Engines know their latest view at once.
        let revision = revision_of(&*self.engine).now_or_never().and_then(Result::ok);
        let pulse = Pulse { now: self.engine.now(), revision: revision.unwrap_or(0), status };
        self.say(&Answer::Pulse(pulse));
    }

    fn collect_waiting(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while self.has_room()
            && let Poll::Ready(Some((answer, bytes))) = self.waiting.poll_next_unpin(cx)
        {
            self.waiting_bytes -= bytes;
            self.say(&answer);
            moved = true;
        }
        moved
    }

    fn collect_reads(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while self.has_room()
            && let Poll::Ready(answer) = self.reads.poll(cx)
        {
            self.say(&answer);
            moved = true;
        }
        moved
    }

    /// News wait in the engine, each watch's folded into one, for as long as the client does not keep up.
    fn collect_news(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while self.outlet.unsent() < UNSENT_NEWS_BYTES_MAX
            && let Poll::Ready((watch, revision)) = self.watches.poll(cx)
        {
            self.say(&Answer::Changed { watch, revision });
            moved = true;
        }
        moved
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> bool {
        if self.tick.is_none() && self.reads.holds_snapshots() {
            self.tick = Some(self.world.sleep(TICK));
        }
        let Some(tick) = &mut self.tick else { return false };
        if tick.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.tick = None;
        self.reads.tick();
        true
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // An engine may know the outlet for a while yet.
        self.outlet.hang_up();
        if let Some(errand) = &self.errand {
            errand.drop_work();
        }
    }
}

/// What a look at the socket brought.
enum Read {
    Nothing,
    Something,
    End,
}

/// Commits; what was perhaps sent before only if its name is surely still remembered in case it was.
pub(crate) async fn commit(
    engine: &dyn KeySpace,
    resent: Option<u64>,
    transaction: Transaction,
) -> Result<Committed, CommitError> {
    if let Some(known) = resent {
        let latest = revision_of(engine).await;
        let latest = latest.map_err(|error| CommitError::Unknown(error.to_string()))?;
        if latest.saturating_sub(known) > REMEMBERED_COMMITS {
            let why =
                "the connection broke while it was under way, and too much was committed since";
            return Err(CommitError::Unknown(why.to_owned()));
        }
    }
    engine.commit(transaction).await
}

/// The last revision that readers see.
pub(crate) async fn revision_of(engine: &dyn KeySpace) -> Result<u64, ReadError> {
    Ok(engine.snapshot(Level::Local).await?.revision())
}
