//! What can be seen from outside: counters for metrics, and the state of topics and groups.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How a topic fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStats {
    /// The topic.
    pub topic: String,
    /// How many messages were ever published to it, dead letters included.
    pub published: u64,
    /// How many of them are still stored.
    pub stored: u64,
    /// Its groups, whether anybody is subscribed or not.
    pub groups: Vec<GroupStats>,
}

/// How a group fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// The group.
    pub group: String,
    /// Messages it is not done with: unread, waiting, being handled, or failed and to be tried again.
    pub lag: u64,
    /// What its dispatcher does; all zero when nobody is subscribed here.
    pub dispatch: DispatchStats,
}

/// What a dispatcher does, and did since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DispatchStats {
    /// Consumers subscribed.
    pub consumers: usize,
    /// Messages in memory, not handed out.
    pub waiting: usize,
    /// Messages handed out, not judged.
    pub in_flight: usize,
    /// Messages that failed and are to be tried again.
    pub parked: usize,
    /// Messages handed to consumers, every attempt counted.
    pub delivered: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// Attempts that failed and are to be followed by another.
    pub retried: u64,
    /// Messages given up and published to a dead-letter topic.
    pub dead_lettered: u64,
    /// Messages given up for good, because there is no dead-letter topic.
    pub dropped: u64,
    /// Messages given up because their time ran out; these are dead-lettered or dropped besides.
    pub expired: u64,
}

/// The same while it is counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) consumers: AtomicUsize,
    pub(crate) waiting: AtomicUsize,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) parked: AtomicUsize,
    pub(crate) delivered: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) expired: AtomicU64,
    /// How many messages of the log the group is done with, as far as the dispatcher knows.
    pub(crate) settled: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> DispatchStats {
        DispatchStats {
            consumers: self.consumers.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            parked: self.parked.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed),
            acked: self.acked.load(Ordering::Relaxed),
            retried: self.retried.load(Ordering::Relaxed),
            dead_lettered: self.dead_lettered.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            expired: self.expired.load(Ordering::Relaxed),
        }
    }
}

/// Counts `by` more.
pub(crate) fn add(counter: &AtomicU64, by: usize) {
    counter.fetch_add(u64::try_from(by).unwrap_or(u64::MAX), Ordering::Relaxed);
}
