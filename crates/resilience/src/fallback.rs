//! Fallback: what to answer when the call has failed for good.
//!
//! ```text
//!   final outcome --- good ------------------------------------------------> it
//!                 --- bad ---> step 1 --- cannot ---> step 2 --- cannot ---> ... ---> the failure, as it is
//!                                |                      |
//!                                +--- an answer, marked as degraded
//! ```
//!
//! A [`Fallback`] is a ladder of steps, usually from good to poor: the last good answer, another target, a constant. It
//! sees only the end of the whole call, after all retries: inside the retrying, a fallback would hide the failure from the
//! retry, the breaker and the statistics, and the real target would never be asked again.
//!
//! Every answer it gives counts as *degraded*, neither as success nor as failure, so that nobody mistakes a good day of
//! the fallback for a good day of the service. The caller says so in the answer (`outrigger-degraded: 1`).
//!
//! | step | can | note |
//! |---|---|---|
//! | last good answer | if one younger than `age_max` is kept | see [`LastGood`]; its age belongs in the answer |
//! | alternate target | if `time_min` of the deadline is left, once | must not depend on what has failed |
//! | constant | always | the last step, if there is one |
//!
//! A way that is taken only in emergencies does not work in one. `exercise` is the share of good calls that are told to
//! take it all the same ([`Fallback::is_exercised`]): their own answer is used, the ladder's is only looked at.
//!
//! Default: no steps, nothing exercised.

use crate::{
    cache::{Store, StoreBounds},
    dice::unit,
};
use outrigger_kernel::{Deadline, Mono};
use std::{
    fmt,
    hash::Hash,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// How many steps a ladder has at most; more are not taken.
pub const STEPS_MAX: usize = 8;

/// One step: `T` names a target, `A` is an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<T, A> {
    /// The last good answer.
    LastGood {
        /// How old it may be.
        age_max: Duration,
    },
    /// Another target.
    Alternate {
        /// Which.
        target: T,
        /// How much time must be left to try it.
        time_min: Duration,
    },
    /// A constant.
    Answer(A),
}

/// A ladder of steps.
#[derive(Debug)]
pub struct Fallback<T, A> {
    steps: Vec<Step<T, A>>,
    exercise: f64,
    taken: [AtomicU64; STEPS_MAX],
    exhausted: AtomicU64,
}

/// What to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Degraded<'a, T, A> {
    /// The last good answer, this old.
    LastGood(Duration),
    /// What this target says. If it fails, ask for the next step.
    Alternate(&'a T),
    /// This.
    Answer(&'a A),
}

/// How far down the ladder a call has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rung(usize);

impl<T, A> Fallback<T, A> {
    /// A ladder of these steps; `exercise` is the share of good calls that take it as well.
    #[must_use]
    pub fn new(mut steps: Vec<Step<T, A>>, exercise: f64) -> Self {
        steps.truncate(STEPS_MAX);
        Self { steps, exercise, taken: Default::default(), exhausted: AtomicU64::new(0) }
    }

    /// What to answer a call with that has failed for good, from `rung` on; `None` for the failure itself.
    ///
    /// `last_good` is when the last good answer was given, if one is kept.
    pub fn next(
        &self,
        rung: &mut Rung,
        now: Mono,
        deadline: Deadline,
        last_good: Option<Mono>,
    ) -> Option<Degraded<'_, T, A>> {
        while let Some(step) = self.steps.get(rung.0) {
            let taken = &self.taken[rung.0];
            rung.0 += 1;
            let degraded = match step {
                Step::LastGood { age_max } => last_good
                    .map(|at| now.since(at))
                    .filter(|age| age <= age_max)
                    .map(Degraded::LastGood),
                Step::Alternate { target, time_min } => {
                    let left = deadline.remaining(now);
                    (!left.is_zero() && left >= *time_min).then_some(Degraded::Alternate(target))
                }
                Step::Answer(answer) => Some(Degraded::Answer(answer)),
            };
            if degraded.is_some() {
                taken.fetch_add(1, Relaxed);
                return degraded;
            }
        }
        self.exhausted.fetch_add(1, Relaxed);
        None
    }

    /// Whether a call that went well should take the ladder as well, for practice, given random bits.
    #[must_use]
    pub fn is_exercised(&self, random: u64) -> bool {
        !self.steps.is_empty() && unit(random) < self.exercise
    }

    /// The steps.
    #[must_use]
    pub fn steps(&self) -> &[Step<T, A>] {
        &self.steps
    }

    /// How often each step was taken.
    pub fn taken(&self) -> impl Iterator<Item = u64> {
        self.taken[..self.steps.len()].iter().map(|taken| taken.load(Relaxed))
    }

    /// How often there was no step left.
    #[must_use]
    pub fn exhausted(&self) -> u64 {
        self.exhausted.load(Relaxed)
    }
}

/// The last good answers, by what was asked. The key must hold whatever an answer depends on, who asked included.
pub struct LastGood<K, A>(Store<K, (Mono, A)>);

impl<K: Clone + Eq + Hash, A: Clone> LastGood<K, A> {
    /// None yet.
    #[must_use]
    pub fn new(bounds: StoreBounds) -> Self {
        Self(Store::new(bounds))
    }

    /// A good answer of `bytes` was given.
    pub fn keep(&self, key: K, answer: A, bytes: usize, now: Mono) {
        self.0.put(key, (now, answer), bytes);
    }

    /// The last one, and when it was given.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<(Mono, A)> {
        self.0.get(key)
    }
}

impl<K, A> fmt::Debug for LastGood<K, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LastGood")
    }
}

#[cfg(test)]
mod tests {
    use super::{Degraded, Fallback, LastGood, Rung, Step};
    use crate::cache::StoreBounds;
    use outrigger_kernel::{Deadline, Mono};
    use std::time::Duration;

    const START: Mono = Mono(1 << 40);

    fn ladder() -> Fallback<&'static str, &'static str> {
        let steps = vec![
            Step::LastGood { age_max: Duration::from_secs(60) },
            Step::Alternate { target: "replica", time_min: Duration::from_millis(100) },
            Step::Answer("sorry"),
        ];
        Fallback::new(steps, 0.01)
    }

    fn at(ms: u64) -> Mono {
        START.plus(Duration::from_millis(ms))
    }

    #[test]
    fn steps_are_taken_in_order_and_skipped_when_they_cannot() {
        let (ladder, deadline) = (ladder(), Deadline(at(61_000)));
        let mut rung = Rung::default();
        let young = ladder.next(&mut rung, at(60_000), deadline, Some(START));
        assert_eq!(young, Some(Degraded::LastGood(Duration::from_secs(60))));
        assert_eq!(
            ladder.next(&mut rung, at(60_000), deadline, None),
            Some(Degraded::Alternate(&"replica"))
        );
        assert_eq!(
            ladder.next(&mut rung, at(60_500), deadline, None),
            Some(Degraded::Answer(&"sorry"))
        );
        assert_eq!(ladder.next(&mut rung, at(60_500), deadline, None), None);

        let mut rung = Rung::default();
        // Too old, and too late for another target.
        let poor = ladder.next(&mut rung, at(60_901), deadline, Some(START));
        assert_eq!(poor, Some(Degraded::Answer(&"sorry")));
        assert_eq!((ladder.taken().collect::<Vec<_>>(), ladder.exhausted()), (vec![1, 1, 2], 1));
    }

    #[test]
    fn practice_is_as_frequent_as_told() {
        let exercised = |ladder: &Fallback<_, _>| {
            (0..10_000_u64).filter(|n| ladder.is_exercised(n * (u64::MAX / 10_000))).count()
        };
        assert!(exercised(&ladder()).abs_diff(100) <= 1);
        assert_eq!(exercised(&Fallback::new(Vec::new(), 1.0)), 0);
    }

    #[test]
    fn a_dead_target_for_ten_minutes_is_all_degraded_answers() {
        let last_good = LastGood::new(StoreBounds::default());
        last_good.keep("key", "good", 4, START);
        let ladder = ladder();
        for second in 1..=600 {
            let now = at(second * 1_000);
            let (kept, answer) = last_good.get(&"key").unwrap();
            let mut rung = Rung::default();
            let deadline = Deadline(now.plus(Duration::from_millis(50)));
            match ladder.next(&mut rung, now, deadline, Some(kept)) {
                Some(Degraded::LastGood(age)) => assert!(age.as_secs() <= 60 && answer == "good"),
                other => assert!(second > 60 && other == Some(Degraded::Answer(&"sorry"))),
            }
        }
        assert_eq!(ladder.taken().sum::<u64>(), 600);
    }
}
