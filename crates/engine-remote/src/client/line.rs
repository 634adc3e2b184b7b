//! One connection to a holder, shared by all callers of the process.
//!
//! A caller writes its request to the socket itself; while one is writing, what others add goes out with its next write.
//! Only when the socket is full does the line's task take over. That task reads, hands each answer to whoever waits for it,
//! and beats: once a second while somebody calls, and more seldom while nobody does.

use super::Known;
use crate::{
    bounds::{IDLE_TICK, REQUEST_BYTES_MAX, REQUESTS_MAX, TICK},
    socket::{self, Ear, Mouth},
    wire::{self, Answer, Request},
};
use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use outrigger_kernel::{BoxFuture, Deadline, World};
use std::{
    collections::HashMap,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};
use tokio::{
    net::UnixStream,
    sync::{Semaphore, oneshot},
};
use tokio_util::io::poll_read_buf;

/// Room for requests is counted in pieces of this many bytes.
const ROOM_UNIT_BYTES: usize = 1_024;
const ROOM_UNITS: usize = REQUEST_BYTES_MAX / 2 / ROOM_UNIT_BYTES;
/// What the smallest request takes, so that there are never more than a server reads.
const ROOM_UNITS_MIN: usize = ROOM_UNITS / REQUESTS_MAX;
const READ_BYTES: usize = 64 * 1024;
const KEPT_BYTES: usize = 256 * 1024;
/// So many releases wait for company at most.
const LAZY_MAX: usize = 64;
/// Every how many ticks the status is asked for, which may cost the other side a look at its disk.
const STATUS_TICKS: u64 = 5;

pub(crate) struct Line {
    mouth: Mouth,
    /// The process at the other end, as far as the system knows.
    holder: Option<u32>,
    outbox: Mutex<Outbox>,
    pending: Mutex<Pending>,
    room: Arc<Semaphore>,
    names: AtomicU64,
    /// Wakes the line's task, to write what did not fit the socket or to end.
    task: AtomicWaker,
    stuck: AtomicBool,
    /// Somebody has called since the last beat.
    used: AtomicBool,
    /// The holder takes no more requests; its engine is being closed.
    leaving: AtomicBool,
    ended: AtomicBool,
}

#[derive(Default)]
struct Outbox {
    unsent: Vec<u8>,
    /// A buffer to write from while others add to `unsent`.
    spare: Vec<u8>,
    /// Somebody is writing and will look again.
    writing: bool,
    lazy: usize,
}

#[derive(Default)]
struct Pending {
    waiting: HashMap<u64, Waiting>,
    ended: bool,
}

struct Waiting {
    answer: oneshot::Sender<Result<Bytes, Lost>>,
    until: Option<Deadline>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The line ended before the request was read.
    Unsent,
    /// The line ended after it; perhaps it was read.
    Sent,
    /// The holder took longer than the caller would wait.
    Late,
}

impl Line {
    /// A connection on which both sides have greeted each other.
    pub(super) fn new(stream: UnixStream) -> io::Result<(Arc<Self>, Ear)> {
        let holder = stream.peer_cred().ok().and_then(|peer| u32::try_from(peer.pid()?).ok());
        let (ear, mouth) = socket::split(stream)?;
        let line = Self {
            mouth,
            holder,
            outbox: Mutex::default(),
            pending: Mutex::default(),
            room: Arc::new(Semaphore::new(ROOM_UNITS)),
            names: AtomicU64::new(1),
            task: AtomicWaker::new(),
            stuck: AtomicBool::new(false),
            used: AtomicBool::new(true),
            leaving: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        };
        Ok((Arc::new(line), ear))
    }

    pub(crate) fn holder(&self) -> Option<u32> {
        self.holder
    }

    /// Whether there is any point in calling.
    pub(crate) fn is_open(&self) -> bool {
        !self.leaving.load(Ordering::Acquire) && !self.has_ended()
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Ends the line as if the other side had.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.task.wake();
    }

    /// Sends a request of about `bytes` and waits for its answer.
    pub(crate) async fn call(
        &self,
        bytes: usize,
        until: Option<Deadline>,
        cancellable: bool,
        write: impl FnOnce(&mut Vec<u8>, u64),
    ) -> Result<Bytes, Lost> {
        let units = (bytes / ROOM_UNIT_BYTES).clamp(ROOM_UNITS_MIN, ROOM_UNITS);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        // Closed when the line ends.
        let _room = self.room.acquire_many(units).await.map_err(|_| Lost::Unsent)?;
        let id = self.names.fetch_add(1, Ordering::Relaxed);
        self.used.store(true, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        {
            let mut pending = self.pending();
            if pending.ended {
                return Err(Lost::Unsent);
            }
            pending.waiting.insert(id, Waiting { answer, until });
        }
        let mut waits = Waits { line: self, id, cancellable, done: false };
        self.send(|out| write(out, id));
        let answer = answered.await.unwrap_or(Err(Lost::Sent));
        waits.done = true;
        answer
    }

    /// Sends what has no answer.
    pub(super) fn send(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut outbox = self.outbox();
        wire::frame(&mut outbox.unsent, write);
        if !outbox.writing && !self.stuck.load(Ordering::Acquire) {
            self.write(outbox);
        }
    }

    /// Sends what is in no hurry: with the next request, or the next beat.
    pub(super) fn send_lazily(&self, request: &Request) {
        let mut outbox = self.outbox();
        wire::frame(&mut outbox.unsent, |out| request.put(out));
        outbox.lazy += 1;
        if outbox.lazy >= LAZY_MAX && !outbox.writing && !self.stuck.load(Ordering::Acquire) {
            self.write(outbox);
        }
    }

    /// Writes until nothing is left or the socket is full.
    fn write<'a>(&'a self, mut outbox: MutexGuard<'a, Outbox>) {
        outbox.writing = true;
        outbox.lazy = 0;
        while !outbox.unsent.is_empty() {
            if self.has_ended() {
                outbox.unsent.clear();
                break;
            }
            let spare = std::mem::take(&mut outbox.spare);
            let mut batch = std::mem::replace(&mut outbox.unsent, spare);
            drop(outbox);
            let written = self.try_write(&batch);
            outbox = self.outbox();
            if written < batch.len() {
                // Before what was added meanwhile. Rare, so what it costs to move does not matter.
                batch.drain(..written);
                batch.append(&mut outbox.unsent);
                outbox.unsent = batch;
                if !self.has_ended() {
                    self.stuck.store(true, Ordering::Release);
                    self.task.wake();
                }
                break;
            }
            batch.clear();
            batch.shrink_to(KEPT_BYTES);
            outbox.spare = batch;
        }
        outbox.writing = false;
    }

    fn try_write(&self, batch: &[u8]) -> usize {
        let mut written = 0;
        while written < batch.len() {
            match self.mouth.try_write(&batch[written..]) {
                Ok(bytes) if bytes > 0 => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    self.end();
                    break;
                }
            }
        }
        written
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all who wait that there will be no answer, and whoever comes later.
    fn let_go(&self, lost: Lost) {
        self.room.close();
        let mut pending = self.pending();
        pending.ended = true;
        for (_, waiting) in pending.waiting.drain() {
            let _gone: Result<(), _> = waiting.answer.send(Err(lost));
        }
    }

    /// Works until the line ends; then tells everybody who waits.
    pub(crate) async fn run(&self, ear: Ear, known: &Known, world: &dyn World) -> io::Result<()> {
        // Whoever waits is told even if this is dropped half-way.
        let _over = Over(self);
        let tick = world.sleep(TICK);
        let inbox = BytesMut::new();
        let mut task = Task { line: self, ear, inbox, known, world, tick, ticks: 0 };
        poll_fn(|cx| task.poll(cx)).await
    }
}

/// A caller that waits, or has stopped to.
struct Waits<'a> {
    line: &'a Line,
    id: u64,
    cancellable: bool,
    done: bool,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let waited = self.line.pending().waiting.remove(&self.id).is_some();
        if waited && self.cancellable {
            self.line.send_lazily(&Request::Cancel { id: self.id });
        }
    }
}

struct Over<'a>(&'a Line);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
        // Views and watches may know the line for a while yet; the other side is to know that it has ended.
        self.0.mouth.hang_up();
        self.0.let_go(Lost::Sent);
    }
}

struct Task<'a> {
    line: &'a Line,
    ear: Ear,
    inbox: BytesMut,
    known: &'a Known,
    world: &'a dyn World,
    tick: BoxFuture<'static, ()>,
    ticks: u64,
}

impl Task<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.task.register(cx.waker());
        loop {
            if self.line.has_ended() {
                return Poll::Ready(Ok(()));
            }
            self.write_stuck(cx)?;
            if self.tick.as_mut().poll(cx).is_ready() {
                self.beat();
                continue;
            }
            self.inbox.reserve(READ_BYTES);
            match poll_read_buf(Pin::new(&mut self.ear), cx, &mut self.inbox) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
            while let Some(frame) = wire::take_frame(&mut self.inbox).map_err(io::Error::other)? {
                self.hear(frame)?;
            }
        }
    }

    fn write_stuck(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.line.stuck.load(Ordering::Acquire) {
            match self.line.mouth.poll_room(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => return Ok(()),
            }
            let outbox = self.line.outbox();
            // Cleared under the lock: whoever adds something later writes it.
            self.line.stuck.store(false, Ordering::Release);
            if !outbox.writing {
                self.line.write(outbox);
            }
        }
        Ok(())
    }

    fn hear(&mut self, frame: Bytes) -> io::Result<()> {
        if let Some(id) = Answer::id_of(&frame).map_err(io::Error::other)? {
            if let Some(waiting) = self.line.pending().waiting.remove(&id) {
                let _gone: Result<(), _> = waiting.answer.send(Ok(frame));
            }
            return Ok(());
        }
        match Answer::take(&frame).map_err(io::Error::other)? {
            Answer::Changed { watch, revision } => self.known.saw_change(watch, revision),
            Answer::Pulse(pulse) => self.known.saw_pulse(pulse),
            Answer::Leaving => {
                self.line.leaving.store(true, Ordering::Release);
                self.line.let_go(Lost::Unsent);
            }
            _ => {}
        }
        Ok(())
    }

    /// Asks what the engine has come to, which also takes along what was in no hurry; gives up what took too long.
    fn beat(&mut self) {
        let waited_for = self.line.used.swap(false, Ordering::Relaxed)
            || !self.line.pending().waiting.is_empty()
            || self.known.is_guessing();
        self.tick = self.world.sleep(if waited_for { TICK } else { IDLE_TICK });
        self.ticks += 1;
        let status = !waited_for || self.ticks.is_multiple_of(STATUS_TICKS);
        self.line.send(|out| Request::Pulse { status }.put(out));
        let now = self.world.mono();
        let late = |waiting: &mut Waiting| waiting.until.is_some_and(|until| until.expired(now));
        let late: Vec<_> =
            self.line.pending().waiting.extract_if(|_, waiting| late(waiting)).collect();
        for (_, waiting) in late {
            let _gone: Result<(), _> = waiting.answer.send(Err(Lost::Late));
        }
    }
}
