//! What a connection says, and who writes it.
//!
//! Answers that belong together go out with one write, by the connection's task at the end of its turn. An answer that
//! somebody waits for alone goes out at once, by whoever brings it, whatever thread that is: see `errand.rs`.

use crate::{
    socket::Mouth,
    wire::{self, Answer},
};
use futures_util::task::AtomicWaker;
use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

/// What is kept of a buffer that has been larger.
const KEPT_BYTES: usize = 256 * 1024;

pub(super) struct Outlet {
    mouth: Mouth,
    outbox: Mutex<Outbox>,
    /// The connection's task.
    task: AtomicWaker,
}

#[derive(Default)]
struct Outbox {
    bytes: Vec<u8>,
    /// How much of them is written.
    written: usize,
}

impl Outbox {
    fn unsent(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.written = 0;
    }
}

impl Outlet {
    pub(super) fn new(mouth: Mouth) -> Self {
        Self { mouth, outbox: Mutex::default(), task: AtomicWaker::new() }
    }

    /// The task that `cx` is of is the connection's.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
    }

    /// Ends the connection.
    pub(super) fn hang_up(&self) {
        self.mouth.hang_up();
    }

    /// Has the connection's task look around.
    pub(super) fn call(&self) {
        self.task.wake();
    }

    pub(super) fn say(&self, answer: &Answer) {
        wire::frame(&mut self.outbox().bytes, |out| answer.put(out));
    }

    /// Says `answer` and writes it, if the socket takes it; else the connection's task does.
    pub(super) fn say_now(&self, answer: &Answer) {
        let mut outbox = self.outbox();
        wire::frame(&mut outbox.bytes, |out| answer.put(out));
        // What goes wrong here goes wrong there again.
        if !matches!(self.write(&mut outbox), Ok(true)) {
            drop(outbox);
            self.call();
        }
    }

    /// How many bytes wait to be written.
    pub(super) fn unsent(&self) -> usize {
        self.outbox().unsent().len()
    }

    /// Writes what waits. Whether anything was written; the task is woken when more can be.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut outbox = self.outbox();
        let before = outbox.unsent().len();
        while !self.write(&mut outbox)? {
            match self.mouth.poll_room(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => return Ok(outbox.unsent().len() < before),
            }
        }
        Ok(before > 0)
    }

    /// Whether everything is written; else the socket is full.
    fn write(&self, outbox: &mut Outbox) -> io::Result<bool> {
        while !outbox.unsent().is_empty() {
            match self.mouth.try_write(outbox.unsent()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => outbox.written += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        outbox.clear();
        Ok(true)
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
