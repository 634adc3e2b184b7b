//! What is handed out: seats, and places in the line for one.

use super::{
    Bulkhead, Refused, Why,
    queue::Place,
    seating::{Core, WAITING},
};
use crate::Ended;
use outrigger_kernel::Mono;
use std::{
    fmt,
    sync::atomic::Ordering::AcqRel,
    task::{Poll, Waker},
};

/// A seat. Given back when it is dropped.
#[must_use = "a seat that is dropped at once is free again"]
pub struct Seat {
    pub(super) bulkhead: Option<Bulkhead>,
    pub(super) since: Mono,
    /// An exempt call's seat is none.
    pub(super) counted: bool,
}

impl Seat {
    /// Gives it back and says how the call ended, which is what an adaptive bulkhead learns from.
    pub fn finish(mut self, ended: Ended, now: Mono) {
        let Some(bulkhead) = self.bulkhead.take().filter(|_| self.counted) else { return };
        let core = &bulkhead.0;
        let before = core.taken.fetch_sub(1, AcqRel);
        core.learn(now.since(self.since), ended, before, now);
        if before >= WAITING {
            core.next_please(now);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(bulkhead) = self.bulkhead.take().filter(|_| self.counted) {
            bulkhead.0.stand_up();
        }
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seat(since {:?})", self.since)
    }
}

/// A seat that borrows its bulkhead and measures nothing.
#[must_use = "a seat that is dropped at once is free again"]
pub struct SeatRef<'a> {
    pub(super) core: &'a Core,
}

impl Drop for SeatRef<'_> {
    #[inline]
    fn drop(&mut self) {
        self.core.stand_up();
    }
}

impl fmt::Debug for SeatRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeatRef")
    }
}

/// Somebody waiting for a seat. Dropping it gives up the place, and the seat if one had just been granted.
#[must_use = "a waiter that is dropped waits no more"]
pub struct Waiter {
    pub(super) bulkhead: Bulkhead,
    pub(super) place: Option<Place>,
    pub(super) until: Mono,
}

impl Waiter {
    /// Until when it waits at the longest; ask again by then.
    #[must_use]
    pub fn until(&self) -> Mono {
        self.until
    }

    /// Whether there is a seat at `now`. `waker` is woken when that may have changed; only the last one given is.
    pub fn poll_seat(&mut self, now: Mono, waker: &Waker) -> Poll<Result<Seat, Refused>> {
        let Some(place) = self.place else {
            return Poll::Ready(Err(self.bulkhead.refused(Why::Waited)));
        };
        let core = &self.bulkhead.0;
        let mut queue = core.queue(now);
        let waiting = queue.waiting();
        let Some(settled) = queue.ask(place, now, waker) else { return Poll::Pending };
        core.gone(waiting - queue.waiting());
        drop(queue);
        self.place = None;
        Poll::Ready(match settled {
            // The seat came, but too late to be of use: it goes on to the next.
            Ok(()) if now > self.until => {
                core.stand_up();
                Err(self.bulkhead.refused(Why::Waited))
            }
            Ok(()) => Ok(self.bulkhead.seat_of(now, true)),
            Err(why) => Err(self.bulkhead.refused(why)),
        })
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        let core = &self.bulkhead.0;
        let mut queue = core.queue(Mono(0));
        let (granted, waited) = queue.leave(place);
        if waited {
            core.taken.fetch_sub(WAITING, AcqRel);
        }
        drop(queue);
        if granted {
            core.stand_up();
        }
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waiter(until {:?})", self.until)
    }
}
