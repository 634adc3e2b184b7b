//! The desk: where commits wait, and where the hands that serve them find their tools.
//!
//! There are three tools, one of each, and a batch passes through them in this order:
//!
//! ```text
//!   Committer  decides and encodes      Writer  log, flush       Publisher  view, watches, answers
//! ```
//!
//! Whoever holds a tool does that part of the work, and takes the next tool before letting go of the last one. So batches
//! cannot overtake each other, and with two hands one batch is decided while the one before it is flushed. A hand that has
//! decided all there is and finds the writer away keeps gathering: the batch is as large as the disk is slow.
//!
//! A lone commit meets one hand, which carries it through all three without handing it to anybody.

use crate::{
    Options,
    batch::{Chore, Landed, Orders, Queued, Room},
    committer::Committer,
    lanes::{Bounds, Held, Lane, Lanes, Load},
    publisher::Publisher,
    upcoming::Found,
    writer::Writer,
};
use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Semaphore, watch};

/// After so long without work, what is written and not flushed is flushed. Half of what relaxed commits are promised,
/// since the oldest of them may have waited as long already.
const REST_AFTER: Duration = Duration::from_millis(50);

/// A hand that has a batch and waits for the writer is woken when so many commits have gathered: waking it for each costs more
/// than deciding on it.
const GATHERED: usize = 8;

/// When so many small commits wait while the disk idles, a hand takes half of them and leaves the rest to the other: that one
/// decides while this one flushes. With fewer, a second flush costs more than that saves.
const SHARED_MIN: usize = 32;

pub(crate) struct Desk {
    state: Mutex<State>,
    /// Idle hands wait here.
    work: Condvar,
    /// A hand with a batch waits here for the next tool, or for more orders.
    tool: Condvar,
    rooms: [Semaphore; 2],
    room_units: [usize; 2],
    idle_after: Duration,
    /// Up to which request for a step time has moved.
    stepped: watch::Sender<u64>,
    closed: watch::Sender<bool>,
}

struct State {
    lanes: Lanes<Queued>,
    /// How many steps were asked for, and how many of them were passed on.
    steps: (u64, u64),
    landed: Option<Landed>,
    found: Option<Found>,
    chore: Option<Chore>,
    committer: Option<Box<Committer>>,
    writer: Option<Box<Writer>>,
    publisher: Option<Publisher>,
    /// What waits because there is too much in memory.
    held: Held,
    holds_nothing: bool,
    phase: Phase,
    /// Batches that were begun.
    begun: u64,
    quiet: Quiet,
    /// Hands that wait for work, and whether one of them was called and has not looked yet.
    idle: usize,
    called: bool,
    /// Hands that wait for a tool.
    stuck: usize,
    /// How many commits the batch holds that is being answered.
    answering: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// What waits is still served; nothing else is taken.
    Closing,
    Over,
}

/// What was done about having nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quiet {
    Nothing,
    Rested,
    Sealed,
}

/// What a hand is to do.
pub(crate) enum Call {
    /// Make a batch of the orders.
    Work(Box<Committer>),
    /// Everything is served: put things away.
    Close(Tools),
    /// Another hand does that, or it is done.
    Over,
}

/// What a hand with a batch is to do.
pub(crate) enum Next {
    /// Decide on more orders.
    More,
    /// Write it.
    Write(Box<Writer>),
    /// Nothing: another hand has panicked.
    Over,
}

pub(crate) struct Tools {
    pub(crate) committer: Box<Committer>,
    pub(crate) writer: Box<Writer>,
    pub(crate) publisher: Publisher,
}

/// The engine takes no more commits.
#[derive(Debug)]
pub(crate) struct Refused;

impl Desk {
    pub(crate) fn new(tools: Tools, options: &Options) -> Self {
        let bounds = Bounds {
            batch_bytes_max: options.batch_bytes_max,
            bulk_bytes_beside_small: options.bulk_bytes_beside_small,
        };
        let Tools { committer, writer, publisher } = tools;
        let state = State {
            lanes: Lanes::new(bounds),
            steps: (0, 0),
            landed: None,
            found: None,
            chore: None,
            committer: Some(committer),
            writer: Some(writer),
            publisher: Some(publisher),
            held: Held::Nothing,
            holds_nothing: false,
            phase: Phase::Open,
            begun: 0,
            quiet: Quiet::Nothing,
            idle: 0,
            called: false,
            stuck: 0,
            answering: 0,
        };
        let room_units = [options.small_queue_bytes_max, options.bulk_queue_bytes_max]
            .map(|bytes| Room::units(bytes).min(Semaphore::MAX_PERMITS));
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            tool: Condvar::new(),
            rooms: room_units.map(Semaphore::new),
            room_units,
            idle_after: options.idle_after,
            stepped: watch::channel(0).0,
            closed: watch::channel(false).0,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // === for those who ask ===

    /// Waits until there is room for a commit of `bytes`, and takes it.
    pub(crate) async fn room(&self, bytes: usize) -> Result<(), Refused> {
        let lane = Lane::of(bytes) as usize;
        let units = Room::units(bytes).min(self.room_units[lane]);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let room = &self.rooms[lane];
        let permit = match room.try_acquire_many(units) {
            Ok(permit) => permit,
            Err(_) => room.acquire_many(units).await.map_err(|_| Refused)?,
        };
        permit.forget();
        Ok(())
    }

    /// Puts a commit into its lane, for which there must be room.
    pub(crate) fn push(&self, bytes: usize, queued: Queued) -> Result<(), Refused> {
        let mut state = self.state();
        if state.phase != Phase::Open {
            return Err(Refused);
        }
        state.lanes.push(bytes, queued);
        self.call(state);
        Ok(())
    }

    /// Asks for time to move. Answers whom to wait for: the number that [`Desk::stepped`] reaches.
    pub(crate) fn ask_step(&self) -> Result<u64, Refused> {
        let mut state = self.state();
        if state.phase != Phase::Open {
            return Err(Refused);
        }
        state.steps.0 += 1;
        let asked = state.steps.0;
        self.call(state);
        Ok(asked)
    }

    pub(crate) fn stepped(&self) -> watch::Receiver<u64> {
        self.stepped.subscribe()
    }

    /// Serves what waits and nothing else any more, then lets go of the store.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
            self.call(state);
            // Without the state: who is woken may run at once, and come here.
            self.rooms.iter().for_each(Semaphore::close);
        }
    }

    pub(crate) fn closed(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    /// The bytes of commits that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.state().lanes.bytes()
    }

    // === for the hands ===

    /// Waits until there is something to do. The orders are put into `orders`, which must be empty.
    pub(crate) fn begin(&self, load: &mut Load, orders: &mut Orders) -> Call {
        let mut state = self.state();
        loop {
            if state.phase == Phase::Over {
                return Call::Over;
            }
            if let Some(committer) = state.begin(load, orders) {
                return Call::Work(committer);
            }
            if let Some(tools) = state.begin_close() {
                return Call::Close(tools);
            }
            let patience = match state.quiet {
                Quiet::Nothing => Some(REST_AFTER),
                Quiet::Rested => Some(self.idle_after),
                Quiet::Sealed => None,
            };
            let before = (state.begun, state.quiet);
            state.idle += 1;
            let elapsed;
            (state, elapsed) = wait(&self.work, state, patience);
            state.idle -= 1;
            state.called = false;
            if elapsed && before == (state.begun, state.quiet) {
                let chore;
                (chore, state.quiet) = match state.quiet {
                    Quiet::Nothing => (Chore::Rest, Quiet::Rested),
                    _ => (Chore::Seal, Quiet::Sealed),
                };
                state.chore = Some(chore);
            }
        }
    }

    /// What there is to do without waiting, for whoever has no threads.
    pub(crate) fn try_begin(&self, load: &mut Load, orders: &mut Orders) -> Option<Box<Committer>> {
        self.state().begin(load, orders)
    }

    /// The tools, if all of them lie on the desk and the store is to be closed.
    pub(crate) fn try_close(&self) -> Option<Tools> {
        self.state().begin_close()
    }

    /// Waits until there is more for the batch, or the writer for it.
    pub(crate) fn next(&self, load: &mut Load, orders: &mut Orders) -> Next {
        let mut state = self.state();
        loop {
            if state.phase == Phase::Over {
                return Next::Over;
            }
            // Who is being answered comes again: a batch that went ahead of them all would keep them waiting for its flush.
            let is_early = load.commits() * 2 < state.answering;
            // What has come while this hand slept is taken along, and then the disk should not idle.
            let is_last_call = state.writer.is_some() && !is_early && load.call_last();
            if (state.writer.is_none() || is_early || is_last_call)
                && state.take_orders(load, orders)
            {
                return Next::More;
            }
            if !is_early && let Some(writer) = state.writer.take() {
                return Next::Write(writer);
            }
            state = self.wait_for_tool(state);
        }
    }

    pub(crate) fn return_committer(&self, committer: Box<Committer>) {
        let mut state = self.state();
        state.held = if state.holds_nothing { Held::Nothing } else { committer.held() };
        state.committer = Some(committer);
        if state.has_work() {
            self.call(state);
        }
    }

    pub(crate) fn try_writer(&self) -> Option<Box<Writer>> {
        self.state().writer.take()
    }

    pub(crate) fn return_writer(&self, writer: Box<Writer>) {
        self.state().writer = Some(writer);
    }

    pub(crate) fn try_publisher(&self) -> Option<Publisher> {
        self.state().publisher.take()
    }

    /// Waits for the publisher, and only then lets go of the writer: else the next batch might be published before this one.
    /// The batch that is to be published answers `commits`.
    pub(crate) fn exchange(&self, writer: Box<Writer>, commits: usize) -> Option<Publisher> {
        let mut state = self.state();
        loop {
            if state.phase == Phase::Over {
                return None;
            }
            if let Some(publisher) = state.publisher.take() {
                state.writer = Some(writer);
                state.answering = commits;
                self.offer_tool(&state);
                return Some(publisher);
            }
            state = self.wait_for_tool(state);
        }
    }

    pub(crate) fn return_publisher(&self, publisher: Publisher) {
        let mut state = self.state();
        state.publisher = Some(publisher);
        state.answering = 0;
        self.offer_tool(&state);
        if state.phase == Phase::Closing {
            // The last tool that whoever closes waits for.
            self.call(state);
        }
    }

    /// Gives back places in the queues.
    pub(crate) fn return_room(&self, room: Room) {
        for (semaphore, units) in self.rooms.iter().zip([room.small, room.bulk]) {
            if units > 0 {
                semaphore.add_permits(units);
            }
        }
    }

    pub(crate) fn tell_stepped(&self, step: u64) {
        self.stepped.send_if_modified(|stepped| {
            let newer = *stepped < step;
            *stepped = step.max(*stepped);
            newer
        });
    }

    // === for the checkpointer, and for the end ===

    /// There is a newer index.
    pub(crate) fn land(&self, mut landed: Landed) {
        let mut state = self.state();
        landed.holds_sealed |= state.landed.as_ref().is_some_and(|before| before.holds_sealed);
        state.landed = Some(landed);
        self.call(state);
    }

    /// Hands over expiries that were looked up.
    pub(crate) fn find(&self, found: Found) {
        let mut state = self.state();
        state.found = Some(found);
        self.call(state);
    }

    pub(crate) fn take_landed(&self) -> Option<Landed> {
        self.state().landed.take()
    }

    /// Whether all commits wait for the index.
    pub(crate) fn is_held(&self) -> bool {
        self.state().held == Held::All
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.state().phase != Phase::Open
    }

    pub(crate) fn order(&self, chore: Chore) {
        let mut state = self.state();
        state.chore = Some(chore);
        self.call(state);
    }

    /// Holds nothing back any more: who waits for memory would wait in vain.
    pub(crate) fn release(&self) {
        let mut state = self.state();
        (state.held, state.holds_nothing) = (Held::Nothing, true);
        self.call(state);
    }

    /// The store is closed, or nobody is left who could serve it. What still waits is not answered.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.phase = Phase::Over;
        state.lanes = Lanes::new(state.lanes.bounds());
        (state.committer, state.writer, state.publisher) = (None, None, None);
        drop(state);
        self.rooms.iter().for_each(Semaphore::close);
        self.work.notify_all();
        self.tool.notify_all();
        self.tell_stepped(u64::MAX);
    }

    pub(crate) fn tell_closed(&self) {
        self.closed.send_replace(true);
    }

    /// Calls a hand to what has come, if one is free for it and not called already.
    fn call(&self, mut state: MutexGuard<'_, State>) {
        if state.committer.is_some() {
            let call = state.idle > 0 && !state.called;
            state.called |= call;
            drop(state);
            if call {
                self.work.notify_one();
            }
        } else if state.lanes.len() >= GATHERED || !state.has_only_commits() {
            self.offer_tool(&state);
        }
    }

    fn offer_tool(&self, state: &State) {
        if state.stuck > 0 {
            self.tool.notify_all();
        }
    }

    fn wait_for_tool<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.stuck += 1;
        let (mut state, _) = wait(&self.tool, state, None);
        state.stuck -= 1;
        state
    }
}

impl State {
    fn begin(&mut self, load: &mut Load, orders: &mut Orders) -> Option<Box<Committer>> {
        let is_pending = self.committer.as_ref()?.has_pending();
        if self.writer.is_some() && self.lanes.small() >= SHARED_MIN {
            load.bound(self.lanes.small() / 2);
        }
        if !self.take_orders(load, orders) && !is_pending {
            return None;
        }
        self.begun += 1;
        if !orders.commits.is_empty() {
            self.quiet = Quiet::Nothing;
        }
        self.committer.take()
    }

    /// Once everything is served and every tool is back.
    fn begin_close(&mut self) -> Option<Tools> {
        let complete =
            self.committer.is_some() && self.writer.is_some() && self.publisher.is_some();
        // Commits that are held wait for the checkpointer, not in vain.
        if self.phase != Phase::Closing || !complete || !self.lanes.is_empty() {
            return None;
        }
        let (committer, writer) = (self.committer.take()?, self.writer.take()?);
        Some(Tools { committer, writer, publisher: self.publisher.take()? })
    }

    fn has_work(&self) -> bool {
        let commits = self.lanes.has_free(self.held);
        let pending = self.committer.as_ref().is_some_and(|committer| committer.has_pending());
        commits || pending || !self.has_only_commits()
    }

    /// Whether nothing waits but commits.
    fn has_only_commits(&self) -> bool {
        self.steps.0 == self.steps.1
            && self.landed.is_none()
            && self.found.is_none()
            && self.chore.is_none()
            && self.phase == Phase::Open
    }

    /// Puts what there is into `orders`; whether there is any.
    fn take_orders(&mut self, load: &mut Load, orders: &mut Orders) -> bool {
        self.lanes.take(load, self.held, &mut orders.commits);
        if self.steps.0 > self.steps.1 {
            self.steps.1 = self.steps.0;
            orders.step = Some(self.steps.1);
        }
        orders.landed = self.landed.take();
        orders.found = self.found.take();
        orders.chore = self.chore.take();
        !orders.is_empty()
    }
}

fn wait<'a>(
    condition: &Condvar,
    state: MutexGuard<'a, State>,
    patience: Option<Duration>,
) -> (MutexGuard<'a, State>, bool) {
    match patience {
        None => (condition.wait(state).unwrap_or_else(PoisonError::into_inner), false),
        Some(patience) => {
            let (state, elapsed) =
                condition.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner);
            (state, elapsed.timed_out())
        }
    }
}
