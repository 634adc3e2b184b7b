//! What all who hold a bulkhead share: who sits, who waits, and how a seat passes from one to the next.

use super::{
    BulkheadSettings, Entrant,
    queue::{Queue, Wakers},
};
use crate::{AdaptiveLimit, Ended, shed::Shedder};
use outrigger_kernel::Mono;
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    task::Waker,
    time::Duration,
};

pub(super) struct Core {
    /// Waiting (upper half) and seated (lower half). Only the holder of the queue's lock changes the upper half.
    pub(super) taken: AtomicU64,
    pub(super) limit: AdaptiveLimit,
    pub(super) shedder: Option<Shedder>,
    /// The latest time anybody has told of, for seats that are dropped without one.
    pub(super) heard: AtomicU64,
    pub(super) queue: Mutex<Queue>,
    pub(super) settings: BulkheadSettings,
}

pub(super) const WAITING: u64 = 1 << 32;

pub(super) const fn seated(taken: u64) -> u64 {
    taken & (WAITING - 1)
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
pub(super) const fn low(word: u64) -> u32 {
    word as u32
}

impl Core {
    /// Takes a free seat if nobody waits.
    #[inline]
    pub(super) fn sit(&self) -> bool {
        let seats = u64::from(self.seats());
        let mut taken = self.taken.load(Relaxed);
        // Anybody waiting makes the number larger than any number of seats.
        while taken < seats {
            match self.taken.compare_exchange_weak(taken, taken + 1, AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(other) => taken = other,
            }
        }
        false
    }

    #[inline]
    pub(super) fn stand_up(&self) -> u64 {
        let before = self.taken.fetch_sub(1, AcqRel);
        if before >= WAITING {
            self.next_please(Mono(self.heard.load(Relaxed)));
        }
        before
    }

    /// How many there are now.
    #[inline]
    pub(super) fn seats(&self) -> u32 {
        self.limit.limit()
    }

    pub(super) fn full(&self) -> bool {
        self.taken.load(Relaxed) >= u64::from(self.seats())
    }

    pub(super) fn too_late(&self, entrant: &Entrant, now: Mono) -> bool {
        entrant.deadline.is_some_and(|deadline| {
            deadline.expired(now) || deadline.remaining(now) < self.limit.service(now)
        })
    }

    pub(super) fn wait_until(&self, entrant: &Entrant, now: Mono) -> Mono {
        let until = now.plus(self.settings.wait_max);
        let Some(deadline) = entrant.deadline else { return until };
        let left = deadline.remaining(now);
        let share = now.plus(left / 100 * self.settings.wait_percent);
        let service = self.limit.service(now);
        until.min(share).min(now.plus(left.saturating_sub(service)))
    }

    #[cold]
    pub(super) fn next_please(&self, now: Mono) {
        let mut wakers = Wakers::new();
        let mut queue = self.queue(now);
        self.hand_on(&mut queue, now, &mut wakers);
        drop(queue);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Gives free seats to those who wait. While anybody waits only this raises the number of the seated.
    pub(super) fn hand_on(&self, queue: &mut Queue, now: Mono, wakers: &mut Wakers) {
        let shedding = self.shedder.as_ref().is_some_and(|shedder| shedder.level() > 0);
        let service = self.limit.service(now);
        while queue.waiting() > 0 && seated(self.taken.load(Acquire)) < u64::from(self.seats()) {
            let (granted, refused) = queue.grant(now, shedding, service, wakers);
            self.gone(refused);
            if granted {
                // One that waits less and one that sits more, in one step.
                self.taken.fetch_sub(WAITING - 1, AcqRel);
                if let Some(shedder) = &self.shedder {
                    shedder.served();
                }
            } else if refused == 0 {
                return;
            }
        }
    }

    /// So many of those who waited have been refused.
    pub(super) fn gone(&self, refused: usize) {
        if refused > 0 {
            self.taken.fetch_sub(WAITING * refused as u64, AcqRel);
            if let Some(shedder) = &self.shedder {
                (0..refused).for_each(|_| shedder.refused());
            }
        }
    }

    pub(super) fn queue(&self, now: Mono) -> MutexGuard<'_, Queue> {
        self.heard.fetch_max(now.0, Relaxed);
        // A waker that panics does so after the lock is released; nothing else in here does.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns from an ended call how many seats there should be.
    pub(super) fn learn(&self, took: Duration, ended: Ended, taken: u64, now: Mono) {
        let in_flight = low(taken);
        let changed = self.limit.observe(took, ended, in_flight, now).is_some();
        if changed && self.taken.load(Relaxed) >= WAITING {
            self.next_please(now);
        }
    }
}
