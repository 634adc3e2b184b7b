//! Hybrid logical clocks (S. Kulkarni et al., "Logical Physical Clocks and Consistent Snapshots in Globally Distributed
//! Databases", 2014): Lamport's guarantee in a stamp that stays close to the time of day.
//!
//! A stamp is 64 bits: milliseconds since 1970 above, a counter of 16 bits below. As long as the wall clock moves on, the
//! counter begins at 0; where it stands still, is set back, or a peer is ahead, the counter grows instead. Past 65,535
//! events in a millisecond the clock runs ahead of the wall by one.
//!
//! **Skew.** A stamp from another node that is further ahead than the skew allowed is refused, so one broken clock cannot
//! take everybody's into the future. The refusal is the receiver's evidence that one of the two clocks is wrong.
//!
//! **Restart.** A clock that is set back while its process is down would give stamps that were given before. So whoever
//! needs stamps that never repeat writes down a bound that they stay below ([`HybridClock::bound`]) before he uses them, and
//! begins after it the next time ([`HybridClock::after`]).

use crate::Wall;
use std::{fmt, time::Duration};

/// How many bits of a stamp are its counter.
const COUNTER_BITS: u32 = 16;
/// The latest time a stamp can have: the year 10889.
const MILLIS_MAX: u64 = u64::MAX >> COUNTER_BITS;

/// When an event happened, by a hybrid clock. Later is larger.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HybridStamp(u64);

impl HybridStamp {
    /// The first stamp of a millisecond. Times beyond the year 10889 are that year's end.
    #[must_use]
    pub fn first_of(wall: Wall) -> Self {
        Self(wall.0.min(MILLIS_MAX) << COUNTER_BITS)
    }

    /// The stamp that was [written](Self::to_bits).
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As it is written: as a number, and big-endian as a key, it keeps its order.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The time of day it stands for; ahead of the true one by no more than the skew allowed.
    #[must_use]
    pub fn wall(self) -> Wall {
        Wall(self.0 >> COUNTER_BITS)
    }

    /// Which of the events of its millisecond it is, from 0.
    #[must_use]
    pub fn counter(self) -> u16 {
        (self.0 & u64::from(u16::MAX)) as u16
    }
}

impl fmt::Debug for HybridStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms+{}", self.wall().0, self.counter())
    }
}

impl fmt::Display for HybridStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A stamp from elsewhere lies further in the future than clocks may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a stamp is {ahead:?} ahead of the clock here and {allowed:?} is allowed; one of the two machines has the wrong time"
)]
pub struct TooFarAhead {
    /// How far.
    pub ahead: Duration,
    /// How far clocks may differ.
    pub allowed: Duration,
}

/// The clock of one node. `wall` comes in; nothing is asked of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HybridClock {
    last: HybridStamp,
}

impl HybridClock {
    /// A clock that has given no stamp.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A clock whose first stamp is later than `stamp`.
    #[must_use]
    pub fn after(stamp: HybridStamp) -> Self {
        Self { last: stamp }
    }

    /// The last stamp given or heard of.
    #[must_use]
    pub fn last(&self) -> HybridStamp {
        self.last
    }

    /// The stamp of an event here: something done, or a message sent. Later than every one before.
    pub fn tick(&mut self, wall: Wall) -> HybridStamp {
        let next = HybridStamp(self.last.0.saturating_add(1));
        self.last = next.max(HybridStamp::first_of(wall));
        self.last
    }

    /// The stamp of having heard of `other`; later than both.
    ///
    /// # Errors
    /// [`TooFarAhead`] when `other` is ahead of `wall` by more than `allowed`. Nothing was learned then.
    pub fn observe(
        &mut self,
        other: HybridStamp,
        wall: Wall,
        allowed: Duration,
    ) -> Result<HybridStamp, TooFarAhead> {
        let ahead = other.wall().since(wall);
        if ahead > allowed {
            return Err(TooFarAhead { ahead, allowed });
        }
        self.last = self.last.max(other);
        Ok(self.tick(wall))
    }

    /// How far this clock is ahead of the wall: by what it has heard, by a wall that was set back, or by having been asked
    /// more often than a millisecond has counters.
    #[must_use]
    pub fn ahead_of(&self, wall: Wall) -> Duration {
        self.last.wall().since(wall)
    }

    /// A bound above all stamps that will be given within `ahead` of `wall`, to be written down before they are used.
    #[must_use]
    pub fn bound(&self, wall: Wall, ahead: Duration) -> HybridStamp {
        let reserved = HybridStamp::first_of(wall.plus(ahead));
        reserved.max(HybridStamp::first_of(self.last.wall().plus(ahead)))
    }
}
