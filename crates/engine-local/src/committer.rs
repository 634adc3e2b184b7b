//! The committer decides: it takes orders, gives every commit its place, and knows the newest state.
//!
//! It is the first of a batch's three stations and knows no disk but the index it reads. Its state runs ahead of what is
//! written: a decision may rest on a batch that is still being flushed, since nobody learns of it before that one is on
//! disk, and if that one never gets there, neither does this one.
//!
//! Steps of time are decisions too, but can be derived again after a crash. So they are visible at once and wait in the
//! frame for the next batch that is written anyway; neither for long nor in great numbers.

use crate::{
    Options,
    batch::{Answer, Batch, Chore, Flush, Landed, Orders, Picture, Queued, Room, Sealed},
    headroom::Headroom,
    lanes::{Held, Lane},
    log::Frame,
    shared::Shared,
    stack::Stack,
    upcoming::Upcoming,
};
use outrigger_kernel::{Mono, Wall, World};
use outrigger_keyspace::{
    CommitError, Committed, Durability, Transaction, Write,
    sequencer::{DUE_KEYS_PER_STEP, Plan, Sequencer},
};
use std::{collections::VecDeque, sync::Arc, time::Duration};

/// Steps of time that may be visible before they are in the log.
const UNWRITTEN_STEPS_MAX: u64 = 1_024;
/// How much more log than memory may lie behind a layer.
const LOG_BYTES_PER_LAYER_BYTE: usize = 2;

/// What a plan takes in the log beside what its transaction counts for, and its frame's header.
const PLAN_BYTES: usize = 128;
/// How often the store makes room by itself on a full disk, at most.
const MAKE_ROOM_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How far time got.
enum Reached {
    /// As far as it should.
    Now,
    /// Not yet: what falls due at once in great numbers takes several batches.
    Behind,
    /// The log has no room for what is due, and this says so.
    Starved(String),
}

pub(crate) struct Committer {
    sequencer: Sequencer,
    /// The newest state.
    stack: Stack,
    /// Counts how often a layer was put on the stack or taken off: what was noticed of one stack does not hold for another.
    generation: u64,
    /// What is decided and not in the log yet.
    frame: Frame,
    unwritten_steps: u64,
    /// Bytes that went into the log since the active layer was begun.
    logged_bytes: usize,
    /// Commits that rest on what is due: they are decided when time has moved as far as it must.
    pending: VecDeque<(usize, Queued)>,
    /// Whether time has not moved as far as it should.
    is_behind: bool,
    upcoming: Upcoming,
    /// The last state that was passed on to be shown.
    pictured: (u64, u64),
    headroom: Headroom,
    /// When the store last made room by itself, and whether the layer is to go into the index for that.
    made_room: Option<Mono>,
    lacks_room: bool,
    world: Arc<dyn World>,
    shared: Arc<Shared>,
    batch_bytes_max: usize,
    layer_bytes_max: usize,
    layer_bytes_bound: usize,
}

impl Committer {
    pub(crate) fn new(
        sequencer: Sequencer,
        stack: Stack,
        headroom: Headroom,
        world: Arc<dyn World>,
        shared: Arc<Shared>,
        options: &Options,
    ) -> Self {
        shared.time.set_horizon(sequencer.horizon());
        Self {
            pictured: (0, sequencer.revision()),
            sequencer,
            stack,
            generation: 0,
            frame: Frame::default(),
            unwritten_steps: 0,
            logged_bytes: 0,
            pending: VecDeque::new(),
            is_behind: false,
            upcoming: Upcoming::default(),
            headroom,
            made_room: None,
            lacks_room: false,
            world,
            shared,
            batch_bytes_max: options.batch_bytes_max,
            layer_bytes_max: options.layer_bytes_max,
            layer_bytes_bound: options.layer_bytes_bound.max(options.layer_bytes_max),
        }
    }

    /// What must wait, if the layer in memory is full and the one before it not in the index yet.
    pub(crate) fn held(&self) -> Held {
        let bytes = self.fullness();
        if self.stack.sealed.is_none() || self.shared.failure.happened() {
            Held::Nothing
        } else if bytes >= self.layer_bytes_bound {
            Held::All
        } else if bytes >= self.layer_bytes_max {
            Held::Bulk
        } else {
            Held::Nothing
        }
    }

    /// How full the active layer is. What is overwritten again and again takes little memory but a lot of log, all of which
    /// would have to be read after a crash.
    fn fullness(&self) -> usize {
        self.stack.active.bytes().max(self.logged_bytes / LOG_BYTES_PER_LAYER_BYTE)
    }

    /// Whether there is something left of the last batch that a next one has to begin with.
    pub(crate) fn has_pending(&self) -> bool {
        // What falls due makes the layer larger, too.
        let goes_on = self.is_behind && self.held() != Held::All;
        !self.pending.is_empty() || goes_on || self.upcoming.is_busy()
    }

    /// Begins a batch, after all that were begun before.
    pub(crate) fn begin(&mut self, batch: &mut Batch, orders: &mut Orders) {
        self.shared.time.begin();
        if !self.pending.is_empty() {
            std::mem::swap(&mut self.pending, &mut orders.commits);
            orders.commits.extend(self.pending.drain(..));
        }
        self.take(batch, orders);
    }

    /// Decides on `orders`, leaving none, as part of `batch`.
    pub(crate) fn take(&mut self, batch: &mut Batch, orders: &mut Orders) {
        batch.step = orders.step.take().or(batch.step);
        if let Some(landed) = orders.landed.take() {
            self.land(batch, landed);
        }
        if let Some(found) = orders.found.take() {
            self.upcoming.note(found);
        }
        self.upcoming.take(&mut self.sequencer, &self.shared.time);
        match orders.chore.take() {
            Some(Chore::Rest) => batch.rest = true,
            Some(Chore::Seal) => {
                // Also when there is nothing to seal: what waits to be written is written.
                (batch.seals, batch.flush) = (true, Flush::Yes);
            }
            None => {}
        }
        let (wall, mono) = (self.world.wall(), self.world.mono());
        let now = self.shared.time.decide(wall, |now| {
            let each = orders.commits.iter().map(|(_, queued)| &queued.transaction);
            each.filter_map(|transaction| self.sequencer.rests_until(transaction, now)).min()
        });
        let now = now.max(wall);
        let reached = match self.shared.failure.reason() {
            Some(reason) => Err(CommitError::Unavailable(format!("{reason}; restart the process"))),
            None => self.advance(batch, now, mono),
        };
        self.is_behind = matches!(reached, Ok(Reached::Behind));
        self.fold_desert();
        let mut lacks_room = matches!(reached, Ok(Reached::Starved(_)));
        for (bytes, queued) in orders.commits.drain(..) {
            // Who is decided on must not see what somebody else may have seen gone. Others need not wait for a million keys.
            if self.is_behind && self.sequencer.rests_on_due(&queued.transaction, now) {
                self.pending.push_back((bytes, queued));
                continue;
            }
            let decided = match &reached {
                Err(refusal) => Err(refusal.clone()),
                Ok(Reached::Starved(reason)) if self.needs_time(&queued.transaction, now) => {
                    Err(CommitError::Full(reason.clone()))
                }
                Ok(_) => self.decide(batch, bytes, queued.transaction, mono),
            };
            lacks_room |= matches!(decided, Err(CommitError::Full(_)));
            batch.answers.push((queued.answer, decided));
            match Lane::of(bytes) {
                Lane::Small => batch.room.small += Room::units(bytes),
                Lane::Bulk => batch.room.bulk += Room::units(bytes),
            }
        }
        if lacks_room {
            self.make_room(mono);
        }
        if self.held() == Held::All {
            batch.load.close();
        }
    }

    /// Ends the batch: nothing is decided in it any more.
    pub(crate) fn finish(&mut self, batch: &mut Batch) {
        // Only now: the layer ends where the batch ends in the log.
        let lacks_room = std::mem::take(&mut self.lacks_room);
        if batch.seals || lacks_room || self.fullness() >= self.layer_bytes_max {
            self.seal(batch);
        }
        if batch.flush != Flush::No || batch.has_changes() {
            batch.frame = std::mem::replace(&mut self.frame, self.shared.frames.take());
            self.headroom.promise(batch.frame.len());
            self.unwritten_steps = 0;
            // Of a batch that seals, it is in the layer that goes.
            self.logged_bytes += if batch.sealed.is_some() { 0 } else { batch.frame.len() };
        }
        let last = self.last();
        batch.last = last.revision;
        let pictured = (self.generation, last.revision);
        if self.pictured != pictured {
            self.pictured = pictured;
            let next_due = self.sequencer.next_due();
            let (stack, generation) = (self.stack.clone(), self.generation);
            batch.picture = Some(Picture { last, next_due, stack, generation });
        }
        batch.wanted = self.upcoming.bound(&mut self.sequencer, &self.shared.time, &self.stack);
        self.shared.tally.note_memory(&self.stack);
    }

    fn last(&self) -> Committed {
        Committed { revision: self.sequencer.revision(), time: self.sequencer.time() }
    }

    /// Lets time reach `now`: what is due becomes absent.
    fn advance(
        &mut self,
        batch: &mut Batch,
        now: Wall,
        mono: Mono,
    ) -> Result<Reached, CommitError> {
        loop {
            if let Some(bytes) = self.sequencer.step_bytes(now)
                && let Some(reason) =
                    self.headroom.log_refuses_step(self.frame.len() + bytes + PLAN_BYTES)
            {
                return Ok(Reached::Starved(reason));
            }
            let many = self.unwritten_steps >= UNWRITTEN_STEPS_MAX;
            if many || self.frame.len() >= self.batch_bytes_max {
                batch.flush = Flush::Yes;
                batch.load.close();
                return Ok(Reached::Behind);
            }
            let step = self.sequencer.advance(now, mono, &self.stack);
            let step = step.map_err(|error| CommitError::Unavailable(error.to_string()))?;
            let Some(plan) = step else { return Ok(Reached::Now) };
            self.unwritten_steps += 1;
            let is_full = plan.changes.len() >= DUE_KEYS_PER_STEP;
            self.record(batch, plan);
            if is_full {
                // Others get their turn: the next batch goes on.
                batch.load.close();
                return Ok(Reached::Behind);
            }
        }
    }

    /// Whether `transaction` cannot be decided on before time gets to `now`. Only what reads nothing that is due, and takes
    /// no room that somebody else needs for getting there, can.
    fn needs_time(&self, transaction: &Transaction, now: Wall) -> bool {
        let frees = transaction.writes.iter().all(frees);
        !self.is_known(transaction) && (!frees || self.sequencer.rests_on_due(transaction, now))
    }

    /// Whether it was accepted before: it is answered as it was then.
    fn is_known(&self, transaction: &Transaction) -> bool {
        transaction.id.is_some_and(|id| self.sequencer.answered(&id).is_some())
    }

    fn decide(
        &mut self,
        batch: &mut Batch,
        bytes: usize,
        transaction: Transaction,
        mono: Mono,
    ) -> Answer {
        if let Some(reason) = self.lacks_room(bytes, &transaction, mono) {
            return Err(CommitError::Full(reason));
        }
        let writes = !transaction.writes.is_empty();
        let asks = writes && transaction.durability == Durability::Flush;
        let plan = self.sequencer.sequence(mono, transaction, &self.stack)?;
        let committed = plan.committed;
        let flush = match (asks, plan.is_empty()) {
            (true, false) => Flush::Yes,
            // It was committed before: in the log already, but perhaps not flushed.
            (true, true) => Flush::Before,
            (false, _) => Flush::No,
        };
        batch.flush = batch.flush.max(flush);
        // What changes nothing need not be written down, but its answer still waits for what it rests on.
        if !plan.is_empty() {
            batch.commits += 1;
            self.record(batch, plan);
        }
        Ok(committed)
    }

    /// Why the disk is too full for `transaction`. Deletes are always taken, and so is what was accepted before.
    fn lacks_room(
        &mut self,
        bytes: usize,
        transaction: &Transaction,
        mono: Mono,
    ) -> Option<String> {
        if transaction.writes.is_empty() || self.is_known(transaction) {
            return None;
        }
        let frees = transaction.writes.iter().all(frees);
        let refusal =
            if frees { None } else { self.headroom.refuses(bytes, transaction.makes_room, mono) };
        refusal.or_else(|| {
            let total = self.frame.len() + bytes + PLAN_BYTES;
            self.headroom.log_refuses(total, frees || transaction.makes_room)
        })
    }

    fn record(&mut self, batch: &mut Batch, plan: Plan) {
        self.frame.push(&plan);
        self.stack.active.apply(&plan);
        batch.plans.push(plan);
    }

    /// The disk is full: what is kept of the log to look back goes, and what is in memory goes into the index, which lets go
    /// of the log that holds it. Who is refused comes again and again, so nobody else would ever find the time for that.
    fn make_room(&mut self, mono: Mono) {
        if self.made_room.is_none_or(|made| mono.since(made) >= MAKE_ROOM_AGAIN_AFTER) {
            self.made_room = Some(mono);
            self.lacks_room = true;
            self.headroom.release_kept();
        }
    }

    /// Puts an empty layer on top, and the one before on its way into the index, unless another one is under way.
    fn seal(&mut self, batch: &mut Batch) {
        if self.stack.sealed.is_some()
            || self.stack.active.is_empty()
            || self.shared.failure.happened()
        {
            return;
        }
        let layer = std::mem::take(&mut self.stack.active);
        self.stack.sealed = Some(layer.clone());
        self.generation += 1;
        self.logged_bytes = 0;
        let ids = self.sequencer.ids().collect();
        batch.sealed = Some(Sealed { layer, committed: self.last(), ids });
        // Everything in it must be in the log that the index will say it covers, and on disk.
        batch.flush = Flush::Yes;
    }

    /// Reads go to a newer index, and no more to the sealed layer if that is in it.
    fn land(&mut self, batch: &mut Batch, landed: Landed) {
        self.stack.index = landed.index;
        if landed.holds_sealed {
            batch.retired = self.stack.sealed.take();
        }
        self.generation += 1;
    }

    /// Follows a hint of a reader: where nothing but the dead lies, make one of them.
    fn fold_desert(&mut self) {
        if let Some(desert) = self.shared.hints.take(self.generation) {
            self.stack.active.fold(&desert.0);
        }
    }
}

/// Whether there is less afterwards.
fn frees(write: &Write) -> bool {
    matches!(write, Write::Delete { .. } | Write::DeleteRange { .. })
}
