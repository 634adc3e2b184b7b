//! From messages to deliveries, and from the outcomes of deliveries to changes of the ledger.

use super::{
    Dispatcher, Out, delivery,
    inbox::{End, Order, Outcome},
    seat::Seat,
};
use crate::{
    dead_letter::{self, Cause, Story, clipped},
    error::SubscribeError,
    ledger::Letter,
    message::{Delivery, Verdict},
    publish,
    records::{Attempts, Message},
    stats::add,
};
use outrigger_kernel::{Deadline, Wall};
use outrigger_keyspace::{Record, Stamp};
use std::{sync::Arc, time::Duration};

/// When a message is tried again that was to become a dead letter, for which there is no room.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(5);

/// What a message is called outside.
pub(crate) fn id(stamp: Stamp) -> String {
    format!("{:016x}{:04x}", stamp.revision, stamp.index)
}

impl Dispatcher {
    /// Reads orders and outcomes.
    pub(super) fn read_post(&mut self) {
        let post = self.start.inbox.take();
        for order in post.orders {
            self.obey(order);
        }
        for outcome in post.outcomes {
            self.judge(outcome);
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Join { seat, reply } => {
                let answer = if self.closing.is_empty() {
                    self.table.join(Arc::clone(&seat));
                    Ok(())
                } else {
                    Err(SubscribeError::Closed)
                };
                // Who gave up waiting has left, or is about to: its handle says so when it is dropped.
                drop(reply.send(answer));
            }
            Order::Leave { seat, reply } => self.table.leave(&seat, reply, self.ledger.noted()),
            Order::Abandon { seat } => self.take_back(|out| Arc::ptr_eq(&out.seat, &seat)),
            Order::Close { done } => {
                self.closing.push(done);
                self.table.leave_all(self.ledger.noted());
            }
            Order::AbandonAll => self.take_back(|_| true),
        }
    }

    /// Stops deliveries; their outcomes arrive like all others.
    fn take_back(&mut self, which: impl Fn(&Out) -> bool) {
        for out in self.out.values_mut().filter(|out| which(out)) {
            out.task.take().into_iter().for_each(outrigger_kernel::TaskHandle::abort);
        }
    }

    /// Hands out what there is to whoever has credit.
    pub(super) fn hand_out(&mut self) {
        while !self.is_blocked() {
            let now = self.start.shared.space.world().mono();
            let Some((seat, messages)) = self.table.pick(self.stock(), now) else { break };
            let deadline = Deadline(now.plus(seat.delivery_timeout));
            let settings = &self.start.shared.settings;
            let room = settings.in_flight_bytes.saturating_sub(self.out_size.1).max(1);
            let (mut letters, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
            while letters.len() < messages
                && bytes < room
                && let Some(letter) = self.ledger.take()
            {
                bytes += letter.value.len();
                match self.open(&letter, deadline) {
                    Ok(delivery) => {
                        letters.push(letter);
                        batch.push(delivery);
                    }
                    Err((cause, reason)) => self.give_up(&seat, letter, cause, reason),
                }
            }
            if !letters.is_empty() {
                self.hand_over(seat, letters, batch, deadline);
            }
        }
    }

    fn hand_over(
        &mut self,
        seat: Arc<Seat>,
        letters: Vec<Letter>,
        batch: Vec<Delivery>,
        deadline: Deadline,
    ) {
        self.table.handed(&seat, letters.len());
        self.out_size.0 += letters.len();
        self.out_size.1 += size(&letters);
        add(&self.start.counters.delivered, letters.len());
        self.deliveries += 1;
        let (world, number) = (self.start.shared.space.world(), self.deliveries);
        let task = delivery::start(world, &self.start.inbox, &seat, number, deadline, batch);
        self.out.insert(number, Out { seat, letters, task: Some(task) });
    }

    /// What a consumer gets of `letter`; nothing, if its time ran out or it cannot be read.
    fn open(&self, letter: &Letter, deadline: Deadline) -> Result<Delivery, (Cause, &'static str)> {
        let Ok(message) = Message::decode_record(letter.value.clone()) else {
            return Err((Cause::Damaged, "its stored bytes are not a message"));
        };
        let now = self.start.shared.space.world().wall();
        if message.expires_at_ms.is_some_and(|at| at <= now.0) {
            add(&self.start.counters.expired, 1);
            return Err((Cause::Expired, "its time to live ran out"));
        }
        Ok(Delivery {
            id: id(letter.stamp),
            topic: Arc::clone(&self.start.topic),
            stamp: letter.stamp,
            data: message.data,
            content_type: message.content_type,
            metadata: message.metadata,
            published_at: Wall(message.published_at_ms),
            attempt: letter.failed.saturating_add(1),
            deadline,
        })
    }

    fn judge(&mut self, outcome: Outcome) {
        let Some(Out { seat, letters, .. }) = self.out.remove(&outcome.delivery) else { return };
        let count = letters.len();
        self.out_size.0 -= count;
        self.out_size.1 -= size(&letters);
        let leaving = self.table.is_leaving(&seat);
        let mut taken_back = Vec::new();
        match outcome.end {
            End::Cut => taken_back = letters,
            End::Failed(_) if leaving => taken_back = letters,
            End::Failed(reason) => {
                for letter in letters {
                    self.retry(&seat, letter, &reason);
                }
            }
            End::Judged(verdicts) => {
                let missing =
                    std::iter::repeat_with(|| Verdict::retry("the consumer gave no verdict"));
                for (letter, verdict) in
                    letters.into_iter().zip(verdicts.into_iter().chain(missing))
                {
                    match verdict {
                        Verdict::Ack => {
                            add(&self.start.counters.acked, 1);
                            self.ledger.settle(&letter);
                        }
                        Verdict::Retry { .. } if leaving => taken_back.push(letter),
                        Verdict::Retry { reason } => self.retry(&seat, letter, &reason),
                        Verdict::Drop { reason } => {
                            self.give_up(&seat, letter, Cause::Dropped, &reason);
                        }
                    }
                }
            }
        }
        let abandoned = taken_back.len();
        self.ledger.put_back(taken_back);
        self.table.returned(&seat, count, abandoned, self.ledger.noted());
    }

    /// After a failed attempt: another one later, or none.
    fn retry(&mut self, seat: &Seat, letter: Letter, reason: &str) {
        let failed = letter.failed.saturating_add(1);
        if seat.retry.max_retries.is_some_and(|max| failed > max) {
            self.give_up(seat, letter, Cause::Exhausted, reason);
            return;
        }
        add(&self.start.counters.retried, 1);
        let world = self.start.shared.space.world();
        let (mono, wall) = (world.mono(), world.wall());
        let pause = seat.retry.backoff.delay(failed, world.random());
        let record = Attempts {
            failed,
            not_before_ms: wall.plus(pause).0,
            pause_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            reason: clipped(reason).to_owned(),
            first_failed_ms: wall.0,
            message_bytes: 0,
        };
        self.ledger.park(letter, record, mono.plus(pause));
    }

    /// No further attempt: to the dead letters, or nowhere.
    fn give_up(&mut self, seat: &Seat, letter: Letter, cause: Cause, reason: &str) {
        let (topic, group) = (&self.start.topic, &self.start.group);
        let (id, counters) = (id(letter.stamp), &self.start.counters);
        let attempts = match cause {
            Cause::Dropped | Cause::Exhausted => letter.failed.saturating_add(1),
            Cause::Expired | Cause::Damaged => letter.failed,
        };
        let Some(keys) = &seat.dead_letters else {
            add(&counters.dropped, 1);
            let cause = cause.word();
            tracing::warn!(%topic, %group, id, cause, reason, attempts, "message dropped for good");
            self.ledger.settle(&letter);
            return;
        };
        add(&counters.dead_lettered, 1);
        let world = self.start.shared.space.world();
        let story = Story { cause, reason, topic, group, id: &id, attempts };
        let value = dead_letter::write(&letter.value, story, world.wall());
        let writes =
            vec![publish::append(keys, value), publish::count(keys, 1), publish::exists(keys)];
        let or_else = world.mono().plus(NO_ROOM_PAUSE);
        self.ledger.give_up(letter, attempts, writes, or_else);
    }
}

fn size(letters: &[Letter]) -> usize {
    letters.iter().map(|letter| letter.value.len()).sum()
}
