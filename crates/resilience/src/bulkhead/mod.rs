//! A bulkhead: at most so many calls to one target at a time, so that one slow target cannot take everything with it.
//!
//! ```text
//!   enter --> rank below the threshold? --> SHED         (shed/, when switched on)
//!        \--> cannot end before its deadline? --> TOO LATE
//!        \--> a seat is free and nobody waits --> SEATED --> finish / drop --> the seat goes to the next in line
//!        \--> room in the queue --> QUEUED --+--> granted --> SEATED
//!        \--> FULL                           +--> waited too long, evicted, cancelled
//! ```
//!
//! The number of seats is fixed or found by itself ([`Seats::Adaptive`], see `limit/`). A [`Seat`] is given back when it
//! is dropped: a cancelled or panicking call leaks nothing. It is meant to be held while a call is on the wire and not
//! while it waits for a retry.
//!
//! The pure part of waiting is [`Waiter::poll_seat`]: the time comes in as an argument. [`Bulkhead::seat`] is the thin
//! driver that waits with the timer of a [`World`].
//!
//! | setting | default | bound |
//! |---|---|---|
//! | seats | adaptive, 2 to 1000 | 1 to 1 000 000 |
//! | queue | 100 waiting | at most 65 536 |
//! | wait | at most 50 ms and 10 % of the time left, and never into the time a call needs | |
//! | pressure | 5 ms, or as long as a call takes, once somebody has waited at any time for 100 ms, or while calls are shed; not for critical-plus | zero for no such limit |
//!
//! One atomic operation to take a free seat and one to give it back; everything else takes a short lock. Memory: some 700
//! bytes, 2 KiB more when it sheds by rank, some 64 bytes for each that waits.

mod cells;
mod queue;
mod seat;
mod seating;
mod settings;

use crate::{AdaptiveLimit, Rank, shed::Shedder};
pub use cells::{CellBulkhead, CellBulkheadSettings};
use outrigger_kernel::{Deadline, Mono, World};
use queue::{Queue, Wakers};
pub use seat::{Seat, SeatRef, Waiter};
use seating::{Core, WAITING, low, seated};
pub use settings::{BulkheadSettings, Seats};
use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Relaxed},
        },
    },
    task::Waker,
    time::Duration,
};

/// Who asks for a seat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entrant {
    /// What it is worth.
    pub rank: Rank,
    /// After when its answer is of no use.
    pub deadline: Option<Deadline>,
    /// Health checks and administration: always seated at once, outside all limits. For traffic that is bounded otherwise.
    pub exempt: bool,
}

/// A bulkhead. Clones are the same one.
///
/// ```
/// use outrigger_kernel::Mono;
/// use outrigger_resilience::{Bulkhead, BulkheadSettings, Entrant, Entry, Seats};
///
/// let bulkhead = Bulkhead::new(BulkheadSettings {
///     seats: Seats::Fixed(1),
///     queue_max: 0,
///     ..BulkheadSettings::default()
/// });
/// let first = bulkhead.enter(&Entrant::default(), Mono(0))?;
/// let refused = bulkhead.enter(&Entrant::default(), Mono(0)).unwrap_err();
/// assert_eq!(refused.why.as_str(), "full");
/// drop(first);
/// assert!(bulkhead.enter(&Entrant::default(), Mono(0)).is_ok());
/// # Ok::<(), outrigger_resilience::Refused>(())
/// ```
#[derive(Clone)]
pub struct Bulkhead(Arc<Core>);

/// A bulkhead as a metric or a console shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkheadStatus {
    /// How many seats there are now.
    pub seats: u32,
    /// How many are taken.
    pub seated: u32,
    /// How many wait.
    pub waiting: u32,
    /// What a call usually takes; zero when none has ended lately.
    pub service: Duration,
    /// The lowest rank that is let in, as a number below [`Rank::COUNT`]; 0 when nothing is shed.
    pub level: u16,
}

/// Why there was no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No seat and no room in the queue, or somebody worth more needed it.
    Full,
    /// Waited as long as may be waited.
    Waited,
    /// What is left of its time is less than a call usually takes.
    TooLate,
    /// Others are worth more while there is not enough for all.
    Shed,
}

impl Why {
    /// The reason as a word for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Waited => "waited",
            Self::TooLate => "too-late",
            Self::Shed => "shed",
        }
    }
}

/// There was no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for another call ({}); try again in {retry_after:?}", why.as_str())]
pub struct Refused {
    /// Why.
    pub why: Why,
    /// What to suggest in `Retry-After`: at least a second, longer the more is asked for than can be done.
    pub retry_after: Duration,
}

/// What became of an entrant.
#[derive(Debug)]
pub enum Entry {
    /// It may go ahead.
    Seated(Seat),
    /// It waits.
    Queued(Waiter),
}

impl Bulkhead {
    /// An empty bulkhead.
    #[must_use]
    pub fn new(settings: BulkheadSettings) -> Self {
        let settings = settings.bounded();
        let limit = AdaptiveLimit::new(match settings.seats {
            Seats::Fixed(seats) => crate::LimitSettings::fixed(seats),
            Seats::Adaptive(limit) => limit,
        });
        Self(Arc::new(Core {
            taken: AtomicU64::new(0),
            limit,
            shedder: settings.sheds.then(Shedder::new),
            heard: AtomicU64::new(0),
            queue: Mutex::new(Queue::new(
                settings.queue_max,
                settings.pressure_target,
                settings.pressure_interval,
            )),
            settings,
        }))
    }

    /// A seat if one is free and nobody waits; nothing is queued, measured or shed. What a hedge uses.
    #[inline]
    #[must_use]
    pub fn try_seat(&self) -> Option<SeatRef<'_>> {
        self.0.sit().then(|| SeatRef { core: &self.0 })
    }

    /// The same, for a call that outlives the borrow and is to be measured.
    #[must_use]
    pub fn try_seat_owned(&self, now: Mono) -> Option<Seat> {
        self.0.sit().then(|| self.seat_of(now, true))
    }

    /// Asks for a seat.
    ///
    /// # Errors
    /// [`Refused`] when there is none and no waiting for one.
    pub fn enter(&self, entrant: &Entrant, now: Mono) -> Result<Entry, Refused> {
        if entrant.exempt {
            return Ok(Entry::Seated(self.seat_of(now, false)));
        }
        if let Some(shedder) = &self.0.shedder {
            let busy = self.0.full();
            if !shedder.keeps(entrant.rank, busy, now) {
                return Err(self.refused(Why::Shed));
            }
        }
        if self.0.too_late(entrant, now) {
            return Err(self.refused(Why::TooLate));
        }
        if self.0.sit() {
            if let Some(shedder) = &self.0.shedder {
                shedder.served();
            }
            return Ok(Entry::Seated(self.seat_of(now, true)));
        }
        self.line_up(entrant, now)
    }

    /// Asks for a seat, and waits for it if it comes to that.
    ///
    /// # Errors
    /// [`Refused`] when there is none.
    pub async fn seat(&self, world: &dyn World, entrant: &Entrant) -> Result<Seat, Refused> {
        let now = world.mono();
        let mut waiter = match self.enter(entrant, now)? {
            Entry::Seated(seat) => return Ok(seat),
            Entry::Queued(waiter) => waiter,
        };
        let until = waiter.until();
        let mut timer = Some(world.sleep(until.since(now)));
        poll_fn(|cx| {
            if timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
                timer = None;
            }
            // A timer may be early by the difference of two clocks; what it stands for has come all the same.
            let now = world.mono();
            waiter.poll_seat(if timer.is_none() { now.max(until) } else { now }, cx.waker())
        })
        .await
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self, now: Mono) -> BulkheadStatus {
        let taken = self.0.taken.load(Relaxed);
        BulkheadStatus {
            seats: self.0.seats(),
            seated: low(taken),
            waiting: low(taken >> 32),
            service: self.0.limit.service(now),
            level: self.level(),
        }
    }

    /// The lowest rank that is let in now, for callers to know before they ask; 0 when nothing is shed.
    #[must_use]
    pub fn level(&self) -> u16 {
        self.0.shedder.as_ref().map_or(0, Shedder::level)
    }

    fn refused(&self, why: Why) -> Refused {
        let retry_after = self.0.shedder.as_ref().map_or(RETRY_AFTER_MIN, Shedder::retry_after);
        Refused { why, retry_after }
    }

    fn seat_of(&self, now: Mono, counted: bool) -> Seat {
        Seat { bulkhead: Some(self.clone()), since: now, counted }
    }

    fn line_up(&self, entrant: &Entrant, now: Mono) -> Result<Entry, Refused> {
        let core = &self.0;
        let until = core.wait_until(entrant, now);
        let mut wakers = Wakers::new();
        let mut queue = core.queue(now);
        // Those whose time is up make room before anybody is refused for want of it.
        core.hand_on(&mut queue, now, &mut wakers);
        let pushed = if until > now && core.settings.queue_max > 0 {
            queue.push(entrant.rank, now, until, &mut wakers)
        } else {
            None
        };
        if let Some((_, evicted)) = pushed {
            core.taken.fetch_add(WAITING, AcqRel);
            core.gone(evicted);
            // A seat may have been given back before anybody could see that somebody waits.
            core.hand_on(&mut queue, now, &mut wakers);
        }
        drop(queue);
        wakers.into_iter().for_each(Waker::wake);
        match pushed {
            Some((place, _)) => {
                Ok(Entry::Queued(Waiter { bulkhead: self.clone(), place: Some(place), until }))
            }
            // Somebody may have left in the meantime.
            None if core.sit() => Ok(Entry::Seated(self.seat_of(now, true))),
            None => {
                if let Some(shedder) = &core.shedder {
                    shedder.refused();
                }
                Err(self.refused(Why::Full))
            }
        }
    }
}

const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taken = self.0.taken.load(Relaxed);
        let seats = self.0.seats();
        write!(f, "Bulkhead({} of {seats}, {} waiting)", seated(taken), taken >> 32)
    }
}

#[cfg(test)]
mod tests;
