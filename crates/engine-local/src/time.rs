//! What time it is for this engine: the world's, but never earlier than what a commit was stamped with or a reader was
//! shown; not even after the world's clock went back.
//!
//! Time usually moves in the committer: what is due becomes absent with a revision of its own. A reader that finds a key
//! due asks it for such a step. When the committer is held up by the disk, the reader moves time alone and hides what is
//! due ([`Time::pass`]); the committer follows with its next turn. That is a correct order of events unless something
//! under way was decided on a key that is due in between: it saw the key and is not visible yet, so a reader must not
//! see the key gone before it sees that. The committer says until when each batch lets time pass ([`Time::decide`]).
//!
//! What expires late is not in memory ([`crate::upcoming`]). Time stands still before the first key of which that is so, for
//! those who decide and those who read. A lifetime is counted from the world's time all the same: else it would be over as
//! soon as time goes on.

use outrigger_kernel::Wall;
use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::watch;

pub(crate) struct Time {
    reached: Mutex<Reached>,
    /// Rung when time may go further than before.
    raised: watch::Sender<()>,
    /// Some reader has waited for a step in vain since the last batch was visible.
    stalled: AtomicBool,
}

struct Reached {
    /// The latest that something was decided at, or somebody was shown.
    time: Wall,
    /// The latest that somebody was shown who did not wait for the committer.
    shown: Wall,
    /// For every batch that is not visible yet, the oldest first: the first expiry on which something in it rests.
    rest_until: VecDeque<Option<Wall>>,
    /// Time does not get past this.
    ceiling: Wall,
}

/// The last instant before `horizon`.
fn before(horizon: Option<Wall>) -> Wall {
    horizon.map_or(Wall(u64::MAX), |horizon| Wall(horizon.0.saturating_sub(1)))
}

impl Time {
    pub(crate) fn new(time: Wall) -> Self {
        let (rest_until, ceiling) = (VecDeque::new(), before(None));
        let reached = Mutex::new(Reached { time, shown: time, rest_until, ceiling });
        Self { reached, raised: watch::channel(()).0, stalled: AtomicBool::new(false) }
    }

    fn reached(&self) -> MutexGuard<'_, Reached> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time that was shown to somebody already. What is decided at a later one is perhaps not visible yet.
    pub(crate) fn shown(&self) -> Wall {
        self.reached().shown
    }

    /// The time to count a lifetime from, given that the world's clock says `wall`.
    pub(crate) fn now(&self, wall: Wall) -> Wall {
        wall.max(self.reached().time)
    }

    /// How far towards `wall` time can get by now.
    pub(crate) fn reachable(&self, wall: Wall) -> Wall {
        let reached = self.reached();
        wall.min(reached.ceiling).max(reached.time)
    }

    /// Whether time cannot get to `wall` before it is known what expires by then.
    pub(crate) fn is_held(&self, wall: Wall) -> bool {
        let reached = self.reached();
        reached.ceiling < wall.max(reached.time)
    }

    /// What expires at `horizon` or later is not known: time stops before it.
    pub(crate) fn set_horizon(&self, horizon: Option<Wall>) {
        self.reached().ceiling = before(horizon);
        self.raised.send_replace(());
    }

    /// Tells when there is another horizon: who is held looks again.
    pub(crate) fn raised(&self) -> watch::Receiver<()> {
        self.raised.subscribe()
    }

    /// The same for an earlier horizon; `false` when time has got there already.
    pub(crate) fn lower_horizon(&self, horizon: Wall) -> bool {
        let mut reached = self.reached();
        let is_ahead = reached.time < horizon;
        if is_ahead {
            reached.ceiling = reached.ceiling.min(before(Some(horizon)));
        }
        is_ahead
    }

    /// A batch begins, after those that are not visible yet.
    pub(crate) fn begin(&self) {
        self.reached().rest_until.push_back(None);
    }

    /// Something is about to be decided in the batch that began last; answers as of when. `rests_until` answers the first
    /// expiry after that time on which the decisions rest.
    pub(crate) fn decide(
        &self,
        wall: Wall,
        rests_until: impl FnOnce(Wall) -> Option<Wall>,
    ) -> Wall {
        let mut reached = self.reached();
        reached.time = reached.time.max(wall.min(reached.ceiling));
        let rests_until = rests_until(reached.time);
        if let Some(batch) = reached.rest_until.back_mut() {
            *batch = batch.iter().copied().chain(rests_until).min();
        }
        reached.time
    }

    /// Everything decided in the oldest batch is visible, or will never be.
    pub(crate) fn end(&self) {
        self.reached().rest_until.pop_front();
        self.stalled.store(false, Ordering::SeqCst);
    }

    /// Lets time reach `now` without the committer; `false` when something under way rests on what would be gone, or when it
    /// is not known what would be. Whoever lets it pass looks at what is visible afterwards.
    pub(crate) fn pass(&self, now: Wall) -> bool {
        let mut reached = self.reached();
        let rests = reached.rest_until.iter().flatten().any(|until| *until <= now);
        let passes = now <= reached.ceiling && !rests;
        if passes {
            (reached.time, reached.shown) = (reached.time.max(now), reached.shown.max(now));
        }
        passes
    }

    /// Notes that the committer did not step in time.
    pub(crate) fn note_stall(&self) {
        self.stalled.store(true, Ordering::SeqCst);
    }

    pub(crate) fn forget_stall(&self) {
        self.stalled.store(false, Ordering::SeqCst);
    }

    /// Whether asking the committer for a step is known to take long.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::Time;
    use outrigger_kernel::Wall;

    #[test]
    fn time_passes_for_readers_up_to_what_a_batch_rests_on() {
        let time = Time::new(Wall(10));
        assert!(time.pass(Wall(20)));
        time.begin();
        // The batch comes after what was shown, whatever the world's clock says.
        assert_eq!(time.decide(Wall(15), |now| Some(Wall(now.0 + 5))), Wall(20));
        assert!(time.pass(Wall(24)));
        assert!(!time.pass(Wall(25)), "what the batch saw is gone before the batch is seen");
        assert_eq!(time.shown(), Wall(24));
        time.end();
        assert!(time.pass(Wall(25)));
        assert_eq!(time.now(Wall(3)), Wall(25));
        assert_eq!(time.now(Wall(30)), Wall(30));
    }

    #[test]
    fn what_was_decided_later_is_not_shown_before_it_is_seen() {
        let time = Time::new(Wall(10));
        time.begin();
        time.decide(Wall(10), |_| Some(Wall(30)));
        time.begin();
        assert_eq!(time.decide(Wall(40), |_| None), Wall(40));
        // The first batch saw what the second one sees gone, and neither is visible.
        assert_eq!(time.shown(), Wall(10));
        assert!(!time.pass(Wall(40)));
        time.end();
        assert!(time.pass(Wall(40)));
        assert_eq!(time.shown(), Wall(40));
    }

    #[test]
    fn time_stops_before_what_is_not_known() {
        let time = Time::new(Wall(10));
        assert!(time.lower_horizon(Wall(30)));
        assert_eq!(time.reachable(Wall(50)), Wall(29));
        assert_eq!(time.now(Wall(50)), Wall(50), "a lifetime is not over before it begins");
        assert!(time.pass(Wall(29)) && !time.pass(Wall(30)));
        assert_eq!(time.shown(), Wall(29));
        time.begin();
        assert_eq!(time.decide(Wall(50), |_| None), Wall(29));
        time.end();
        assert!(!time.lower_horizon(Wall(29)), "somebody may have seen that");
        let raised = time.raised();
        assert!(!raised.has_changed().unwrap());
        time.set_horizon(Some(Wall(40)));
        assert!(raised.has_changed().unwrap(), "who is held is told");
        assert_eq!(time.reachable(Wall(50)), Wall(39));
        assert!(time.is_held(Wall(40)) && !time.is_held(Wall(39)));
        time.set_horizon(None);
        assert!(!time.is_held(Wall(u64::MAX)));
        assert_eq!(time.reachable(Wall(50)), Wall(50));
    }

    #[test]
    fn every_batch_under_way_holds_time_until_it_is_seen() {
        let time = Time::new(Wall(10));
        time.begin();
        time.decide(Wall(10), |_| Some(Wall(30)));
        time.begin();
        time.decide(Wall(10), |_| Some(Wall(20)));
        time.decide(Wall(10), |_| None);
        assert!(!time.pass(Wall(20)));
        time.end();
        assert!(!time.pass(Wall(20)), "the second one still rests on it");
        time.end();
        assert!(time.pass(Wall(40)));
    }
}
