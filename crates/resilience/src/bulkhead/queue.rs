//! The queue of a bulkhead, pure: who waits, who is next, who is let go of.
//!
//! Eight lines for each criticality, by cohort; the highest criticality that has somebody waiting is served first. Within it:
//!
//! * usually the one that has waited longest is next, whatever the cohort;
//! * *under pressure*, when there has been somebody waiting for a whole `interval` or calls are being shed at the door, the
//!   newest of the highest line is next, and nobody but critical-plus waits longer than `target`, or than a call takes. A queue that never empties
//!   gives nothing but delay, and serving it in order means to serve exactly those whose time is nearly over.
//!
//! When it is full, room is made by the oldest of the lowest line below the newcomer's criticality, and under pressure below
//! its cohort or beside it.
//!
//! Whoever waits is a place in a slab, so that a grant, a refusal and a cancellation cost the same however many wait.
//!
//! Source: CoDel (Nichols and Jacobson 2012) in the form for servers with adaptive last-in-first-out of Maurer, "Fail at
//! Scale", ACM Queue 2015.

use super::Why;
use crate::{Criticality, Rank};
use outrigger_kernel::Mono;
use std::{collections::VecDeque, task::Waker, time::Duration};

/// How many lines a class has.
const BANDS: usize = 8;
const LINES: usize = Criticality::COUNT * BANDS;

/// Who waits: a place in the slab and which use of that place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    index: usize,
    turn: u64,
}

#[derive(Debug)]
pub(super) enum Stand {
    Free,
    Waiting(Option<Waker>),
    Granted,
    Refused(Why),
}

#[derive(Debug)]
struct Cell {
    stand: Stand,
    turn: u64,
    since: Mono,
    until: Mono,
    line: usize,
}

#[derive(Debug)]
pub(super) struct Queue {
    cells: Vec<Cell>,
    free: Vec<usize>,
    lines: [VecDeque<Place>; LINES],
    waiting: usize,
    /// Since when there has been somebody waiting.
    busy_since: Option<Mono>,
    max: usize,
    target: Duration,
    interval: Duration,
}

/// Those to wake once the lock is released.
pub(super) type Wakers = Vec<Waker>;

impl Queue {
    pub(super) fn new(max: u32, target: Duration, interval: Duration) -> Self {
        Self {
            cells: Vec::new(),
            free: Vec::new(),
            lines: Default::default(),
            waiting: 0,
            busy_since: None,
            max: usize::try_from(max).unwrap_or(usize::MAX),
            target,
            interval,
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    fn pressed(&self, now: Mono) -> bool {
        self.busy_since.is_some_and(|since| now.since(since) >= self.interval)
    }

    /// Lines somebody up until `until` at most. How many had to make room, or `None` when there was none to be made.
    pub(super) fn push(
        &mut self,
        rank: Rank,
        now: Mono,
        until: Mono,
        wakers: &mut Wakers,
    ) -> Option<(Place, usize)> {
        let line = rank.index() * LINES / Rank::COUNT;
        let mut evicted = 0;
        if self.waiting >= self.max {
            let own = if self.pressed(now) { line + 1 } else { line - line % BANDS };
            let victim = self.oldest_below(own)?;
            self.refuse(victim, Why::Full, wakers);
            evicted = 1;
        }
        if self.waiting == 0 {
            self.busy_since = Some(now);
        }
        let stand = Stand::Waiting(None);
        let place = if let Some(index) = self.free.pop() {
            let cell = self.cells.get_mut(index)?;
            *cell = Cell { stand, turn: cell.turn + 1, since: now, until, line };
            Place { index, turn: cell.turn }
        } else {
            self.cells.push(Cell { stand, turn: 0, since: now, until, line });
            Place { index: self.cells.len() - 1, turn: 0 }
        };
        self.waiting += 1;
        let mut standing = std::mem::take(self.lines.get_mut(line)?);
        if standing.len() >= self.max.saturating_mul(2).max(16) {
            standing.retain(|place| self.waits(*place));
        }
        standing.push_back(place);
        *self.lines.get_mut(line)? = standing;
        Some((place, evicted))
    }

    /// The first in the lowest of these lines. Those who left still stand in theirs and are passed over.
    fn oldest_below(&mut self, lines: usize) -> Option<Place> {
        for index in 0..lines.min(LINES) {
            while let Some(place) = self.lines.get_mut(index)?.pop_front() {
                if self.waits(place) {
                    return Some(place);
                }
            }
        }
        None
    }

    /// Grants the next one its seat. Those whose time is up on the way there are refused; their number comes with it.
    /// `shedding` is as good as pressure; `service` is what a call takes.
    pub(super) fn grant(
        &mut self,
        now: Mono,
        shedding: bool,
        service: Duration,
        wakers: &mut Wakers,
    ) -> (bool, usize) {
        let pressed = (shedding || self.pressed(now)).then(|| self.target.max(service));
        let mut refused = 0;
        for class in (0..Criticality::COUNT).rev() {
            for line in class * BANDS..(class + 1) * BANDS {
                refused += self.sweep(line, now, pressed, wakers);
            }
            while let Some(place) = self.take(class, pressed.is_some()) {
                if !self.waits(place) {
                    continue;
                }
                if self.late(place, now, pressed) {
                    self.refuse(place, Why::Waited, wakers);
                    refused += 1;
                    continue;
                }
                self.settle(place, Stand::Granted, wakers);
                return (true, refused);
            }
        }
        (false, refused)
    }

    /// Under pressure the oldest would otherwise stand at the front until their callers give up.
    fn sweep(
        &mut self,
        line: usize,
        now: Mono,
        pressed: Option<Duration>,
        wakers: &mut Wakers,
    ) -> usize {
        let mut refused = 0;
        while let Some(place) = self.lines.get(line).and_then(|line| line.front().copied()) {
            let waits = self.waits(place);
            if waits && !self.late(place, now, pressed) {
                break;
            }
            self.lines.get_mut(line).and_then(VecDeque::pop_front);
            if waits {
                self.refuse(place, Why::Waited, wakers);
                refused += 1;
            }
        }
        refused
    }

    /// Under pressure the newest of the highest line of a class that has any, otherwise the oldest of all its lines.
    fn take(&mut self, class: usize, pressed: bool) -> Option<Place> {
        let lines = class * BANDS..(class + 1) * BANDS;
        if pressed {
            return self.lines.get_mut(lines)?.iter_mut().rev().find_map(VecDeque::pop_back);
        }
        let since = |line: &usize| {
            let place = self.lines.get(*line)?.front()?;
            Some(self.cells.get(place.index)?.since)
        };
        let oldest = lines.filter_map(|line| Some((since(&line)?, line))).min();
        self.lines.get_mut(oldest?.1)?.pop_front()
    }

    fn late(&self, place: Place, now: Mono, pressed: Option<Duration>) -> bool {
        let longest = pressed.unwrap_or(self.interval);
        self.cells.get(place.index).is_some_and(|cell| {
            // The first line is served before all others; what keeps it waiting is not a queue of its own making.
            let first = cell.line / BANDS == Criticality::CriticalPlus.index();
            let spared = first || self.target.is_zero();
            now >= cell.until || (!spared && now.since(cell.since) >= longest)
        })
    }

    fn cell(&mut self, place: Place) -> Option<&mut Cell> {
        self.cells.get_mut(place.index).filter(|cell| cell.turn == place.turn)
    }

    fn waits(&self, place: Place) -> bool {
        self.cells.get(place.index).is_some_and(|cell| {
            let Stand::Waiting(_) = cell.stand else { return false };
            cell.turn == place.turn
        })
    }

    fn refuse(&mut self, place: Place, why: Why, wakers: &mut Wakers) {
        self.settle(place, Stand::Refused(why), wakers);
    }

    fn settle(&mut self, place: Place, stand: Stand, wakers: &mut Wakers) {
        let Some(cell) = self.cell(place) else { return };
        if let Stand::Waiting(Some(waker)) = std::mem::replace(&mut cell.stand, stand) {
            wakers.push(waker);
        }
        self.one_less();
    }

    fn one_less(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting == 0 {
            self.busy_since = None;
        }
    }

    /// What became of somebody. What is settled is told once and then forgotten.
    pub(super) fn ask(
        &mut self,
        place: Place,
        now: Mono,
        waker: &Waker,
    ) -> Option<Result<(), Why>> {
        let cell = self.cell(place)?;
        let until = cell.until;
        let settled = match &mut cell.stand {
            Stand::Waiting(_) if now >= until => {
                self.leave(place);
                return Some(Err(Why::Waited));
            }
            Stand::Waiting(known) => {
                if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
                    *known = Some(waker.clone());
                }
                return None;
            }
            Stand::Granted => Ok(()),
            Stand::Refused(why) => Err(*why),
            Stand::Free => return Some(Err(Why::Waited)),
        };
        self.leave(place);
        Some(settled)
    }

    /// Forgets somebody. Whether a seat had been granted, and whether it had still been waiting.
    pub(super) fn leave(&mut self, place: Place) -> (bool, bool) {
        let Some(cell) = self.cell(place) else { return (false, false) };
        let stood = std::mem::replace(&mut cell.stand, Stand::Free);
        if let Stand::Free = stood {
            return (false, false);
        }
        self.free.push(place.index);
        match stood {
            Stand::Granted => (true, false),
            Stand::Waiting(_) => {
                self.one_less();
                (false, true)
            }
            Stand::Refused(_) | Stand::Free => (false, false),
        }
    }
}
