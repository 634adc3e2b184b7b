//! Who sits at a group's table, and whose turn it is. Pure: the time comes in as an argument.
//!
//! Consumers take turns. One that holds as much as it asked for is passed over, so a slow one gets less without anybody
//! measuring it.

use super::seat::Seat;
use crate::subscription::Left;
use outrigger_kernel::Mono;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The seats of one group.
#[derive(Default)]
pub(crate) struct Table {
    chairs: Vec<Chair>,
    turn: usize,
}

struct Chair {
    seat: Arc<Seat>,
    in_flight: usize,
    leaving: Option<Leaving>,
}

#[derive(Default)]
struct Leaving {
    replies: Vec<oneshot::Sender<Left>>,
    abandoned: usize,
    /// The verdict that has to be durable before the consumer is told that it has left; known once its chair is empty.
    last_note: Option<u64>,
}

/// What there is to hand out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stock {
    /// How many messages wait.
    pub(crate) messages: usize,
    /// Since when the oldest waits.
    pub(crate) since: Option<Mono>,
}

impl Table {
    pub(crate) fn join(&mut self, seat: Arc<Seat>) {
        self.chairs.push(Chair { seat, in_flight: 0, leaving: None });
    }

    /// Hands nothing more to `seat`. `noted` is the number of the last verdict so far.
    pub(crate) fn leave(
        &mut self,
        seat: &Arc<Seat>,
        reply: Option<oneshot::Sender<Left>>,
        noted: u64,
    ) {
        // Whoever left before is gone from the table; the reply is dropped, which tells it.
        let Some(chair) = self.chair(seat) else { return };
        let leaving = chair.leaving.get_or_insert_default();
        leaving.replies.extend(reply);
        if chair.in_flight == 0 {
            leaving.last_note.get_or_insert(noted);
        }
    }

    pub(crate) fn leave_all(&mut self, noted: u64) {
        for seat in self.chairs.iter().map(|chair| Arc::clone(&chair.seat)).collect::<Vec<_>>() {
            self.leave(&seat, None, noted);
        }
    }

    pub(crate) fn is_leaving(&self, seat: &Arc<Seat>) -> bool {
        self.chairs
            .iter()
            .find(|chair| Arc::ptr_eq(&chair.seat, seat))
            .is_none_or(|chair| chair.leaving.is_some())
    }

    /// Who gets the next delivery out of `stock`, and how many messages at most.
    pub(crate) fn pick(&mut self, stock: Stock, now: Mono) -> Option<(Arc<Seat>, usize)> {
        let count = self.chairs.len();
        for step in 0..count {
            let index = (self.turn + step) % count;
            let chair = &self.chairs[index];
            if let Some(messages) = chair.portion(stock, now) {
                self.turn = (index + 1) % count;
                return Some((Arc::clone(&chair.seat), messages));
            }
        }
        None
    }

    /// When somebody's batch has waited long enough for company.
    pub(crate) fn batch_due(&self, stock: Stock) -> Option<Mono> {
        let since = stock.since?;
        let open = self.chairs.iter().filter(|chair| chair.credit() > 0);
        open.filter_map(|chair| chair.seat.batch).map(|batch| since.plus(batch.max_wait)).min()
    }

    /// Whether anybody could be handed something.
    pub(crate) fn is_served(&self) -> bool {
        self.chairs.iter().any(|chair| chair.leaving.is_none() && !chair.seat.is_paused())
    }

    /// The most messages anybody wants at once.
    pub(crate) fn largest_batch(&self) -> usize {
        let batches = self.chairs.iter().filter_map(|chair| chair.seat.batch);
        batches.map(|batch| as_count(batch.max_messages)).max().unwrap_or(1)
    }

    /// `seat` was handed `messages`.
    pub(crate) fn handed(&mut self, seat: &Arc<Seat>, messages: usize) {
        if let Some(chair) = self.chair(seat) {
            chair.in_flight += messages;
        }
    }

    /// `seat` holds `messages` less, `abandoned` of them because they were taken back.
    pub(crate) fn returned(
        &mut self,
        seat: &Arc<Seat>,
        messages: usize,
        abandoned: usize,
        noted: u64,
    ) {
        let Some(chair) = self.chair(seat) else { return };
        chair.in_flight -= messages;
        let empty = chair.in_flight == 0;
        if let Some(leaving) = &mut chair.leaving {
            leaving.abandoned += abandoned;
            if empty {
                leaving.last_note = Some(noted);
            }
        }
    }

    /// Sends off whoever left, holds nothing, and has nothing left to be committed; all verdicts up to `saved` are.
    pub(crate) fn dismiss(&mut self, saved: u64) {
        let gone = |chair: &mut Chair| {
            let leaving = chair.leaving.as_ref();
            leaving.and_then(|leaving| leaving.last_note).is_some_and(|note| note <= saved)
        };
        for chair in self.chairs.extract_if(.., gone) {
            chair.seat.end();
            let Some(leaving) = chair.leaving else { continue };
            let left = Left { abandoned: leaving.abandoned, settled: true };
            for reply in leaving.replies {
                // Nobody may be waiting any more.
                let _: Result<(), Left> = reply.send(left);
            }
        }
    }

    /// Tells everybody that nothing more will come.
    pub(crate) fn end(&self) {
        self.chairs.iter().for_each(|chair| chair.seat.end());
    }

    pub(crate) fn len(&self) -> usize {
        self.chairs.len()
    }

    fn chair(&mut self, seat: &Arc<Seat>) -> Option<&mut Chair> {
        self.chairs.iter_mut().find(|chair| Arc::ptr_eq(&chair.seat, seat))
    }
}

impl Chair {
    fn credit(&self) -> usize {
        if self.leaving.is_some() || self.seat.is_paused() {
            return 0;
        }
        as_count(self.seat.max_in_flight).saturating_sub(self.in_flight)
    }

    /// How many messages of `stock` this chair is to be handed now.
    fn portion(&self, stock: Stock, now: Mono) -> Option<usize> {
        let credit = self.credit();
        let since = stock.since?;
        if credit == 0 || stock.messages == 0 {
            return None;
        }
        let Some(batch) = self.seat.batch else { return Some(1) };
        let full = as_count(batch.max_messages).min(credit);
        let ripe = stock.messages >= full || since.plus(batch.max_wait) <= now;
        ripe.then_some(full.min(stock.messages))
    }
}

fn as_count(messages: u32) -> usize {
    usize::try_from(messages).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Stock, Table};
    use crate::{
        dispatch::seat::Seat,
        message::{Consumer, Delivery, Verdict},
        subscription::{Batch, Left, SubscribeOptions},
    };
    use outrigger_kernel::{BoxFuture, Mono};
    use std::{sync::Arc, time::Duration};
    use tokio::sync::oneshot;

    struct Nobody;

    impl Consumer for Nobody {
        fn deliver(&self, _: Vec<Delivery>) -> BoxFuture<'_, Vec<Verdict>> {
            Box::pin(async { vec![] })
        }
    }

    fn seat(max_in_flight: u32, batch: Option<Batch>) -> Arc<Seat> {
        let options = SubscribeOptions { max_in_flight, batch, ..SubscribeOptions::new("t", "g") };
        Arc::new(Seat::new("b", options, Arc::new(Nobody), Duration::from_secs(1)))
    }

    fn stock(messages: usize, since_ms: u64) -> Stock {
        Stock { messages, since: Some(Mono(since_ms * 1_000_000)) }
    }

    #[test]
    fn consumers_take_turns_within_their_credit() {
        let (one, two) = (seat(3, None), seat(1, None));
        let mut table = Table::default();
        table.join(Arc::clone(&one));
        table.join(Arc::clone(&two));
        let mut served = Vec::new();
        while let Some((seat, 1)) = table.pick(stock(9, 0), Mono(0)) {
            table.handed(&seat, 1);
            served.push(if Arc::ptr_eq(&seat, &one) { 1 } else { 2 });
        }
        assert_eq!(served, [1, 2, 1, 1]);
        one.pause(true);
        table.returned(&one, 1, 0, 0);
        assert!(table.pick(stock(9, 0), Mono(0)).is_none());
        one.pause(false);
        assert!(table.pick(stock(9, 0), Mono(0)).is_some());
        assert!(table.pick(Stock { messages: 0, since: None }, Mono(0)).is_none());
    }

    #[test]
    fn a_batch_is_full_or_ripe() {
        let batch = Batch { max_messages: 10, max_wait: Duration::from_millis(50) };
        let mut table = Table::default();
        table.join(seat(1, Some(batch)));
        let at = |ms: u64| Mono(ms * 1_000_000);
        assert!(table.pick(stock(9, 100), at(149)).is_none());
        assert_eq!(table.batch_due(stock(9, 100)), Some(at(150)));
        assert_eq!(table.pick(stock(9, 100), at(150)).unwrap().1, 9);
        let (seat, messages) = table.pick(stock(25, 100), at(100)).unwrap();
        assert_eq!(messages, 10);
        table.handed(&seat, messages);
        assert!(table.pick(stock(25, 100), at(100)).is_none());
        assert_eq!(table.batch_due(stock(25, 100)), None, "no timer for somebody without credit");
    }

    #[test]
    fn leaving_waits_for_what_is_held_and_for_the_commit() {
        let seat = seat(5, None);
        let mut table = Table::default();
        table.join(Arc::clone(&seat));
        table.handed(&seat, 2);
        let (reply, mut left) = oneshot::channel();
        table.leave(&seat, Some(reply), 0);
        assert!(table.pick(stock(9, 0), Mono(0)).is_none());
        table.returned(&seat, 1, 0, 7);
        table.dismiss(7);
        assert!(left.try_recv().is_err());
        table.returned(&seat, 1, 1, 8);
        table.dismiss(7);
        assert!(left.try_recv().is_err());
        table.dismiss(8);
        assert_eq!(left.try_recv(), Ok(Left { abandoned: 1, settled: true }));
        assert_eq!(table.len(), 0);
    }
}
