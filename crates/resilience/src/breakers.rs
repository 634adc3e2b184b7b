//! Breakers by name, of which there may be as many as there are names, so their number is bounded.
//!
//! A target can have a breaker per method or per actor. Names come from requests, so whoever sends requests decides how
//! many there are; past the bound those used longest ago are forgotten. Forgetting an open breaker lets its target be
//! tried again, which is the lesser evil next to memory without end.

use crate::{Breaker, BreakerSettings, Forced, recent::Recent};
use outrigger_kernel::Mono;
use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Breakers by name, all with the same settings, bounded in number.
///
/// ```
/// use outrigger_resilience::{BreakerSettings, Breakers};
/// let breakers = Breakers::new(BreakerSettings::default(), 100);
/// let orders = breakers.get("shop:orders");
/// assert_eq!(breakers.len(), 1);
/// # drop(orders);
/// ```
pub struct Breakers {
    settings: BreakerSettings,
    seed: u64,
    known: Mutex<Recent<Breaker>>,
    /// What an operator made of all of them, those to come included.
    forced: Mutex<Option<Forced>>,
}

impl Breakers {
    /// At most `capacity` breakers (at least one) with these settings.
    #[must_use]
    pub fn new(settings: BreakerSettings, capacity: usize) -> Self {
        let known = Mutex::new(Recent::new(capacity));
        Self { settings, seed: 0, known, forced: Mutex::default() }
    }

    /// The same, with a seed for the random part of the open times; see [`Breaker::seeded`].
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The breaker called `name`, new if it is not known (any more).
    #[must_use]
    pub fn get(&self, name: &str) -> Breaker {
        let mut known = self.known();
        if let Some(breaker) = known.find(name) {
            return breaker.clone();
        }
        let seed = crate::shard::hash(self.seed, name.as_bytes());
        let breaker = Breaker::seeded(self.settings.clone(), seed);
        if let Some(forced) = self.forced() {
            breaker.force(Some(forced), Mono(0));
        }
        known.keep(name, breaker.clone());
        breaker
    }

    /// Makes something of all of them, those to come included; with `None` they stand for themselves again.
    ///
    /// ```
    /// use outrigger_kernel::Mono;
    /// use outrigger_resilience::{BreakerSettings, Breakers, Forced, Open};
    /// let breakers = Breakers::new(BreakerSettings::default(), 100);
    /// breakers.force(Some(Forced::Open), Mono(1));
    /// assert_eq!(breakers.get("new").peek(Mono(2)), Err(Open::Forced));
    /// breakers.force(None, Mono(3));
    /// assert!(breakers.get("other").peek(Mono(4)).is_ok());
    /// ```
    pub fn force(&self, forced: Option<Forced>, now: Mono) {
        // The known ones are held meanwhile, so that none is made in between and missed.
        let known = self.known();
        *self.forced.lock().unwrap_or_else(PoisonError::into_inner) = forced;
        for (_, breaker) in known.iter() {
            breaker.force(forced, now);
        }
    }

    /// What an operator made of them.
    #[must_use]
    pub fn forced(&self) -> Option<Forced> {
        *self.forced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The breaker called `name`, if it is known: for an operator, whose asking makes none.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Breaker> {
        self.known().peek(name).cloned()
    }

    /// All that are known, in the order of their names.
    #[must_use]
    pub fn all(&self) -> Vec<(Box<str>, Breaker)> {
        let known = self.known();
        let all = known.iter().map(|(name, breaker)| (Box::from(name), breaker.clone()));
        let mut all: Vec<(Box<str>, Breaker)> = all.collect();
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// How many are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known().len()
    }

    /// Whether none is known yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn known(&self) -> MutexGuard<'_, Recent<Breaker>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known();
        write!(f, "Breakers({} of {})", known.len(), known.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::Breakers;
    use crate::{BreakerSettings, Phase, Trip};
    use outrigger_kernel::Mono;

    #[test]
    fn the_one_used_longest_ago_goes_first() {
        let settings =
            BreakerSettings { trip: Trip::ConsecutiveFailures(0), ..BreakerSettings::default() };
        let breakers = Breakers::new(settings, 2);
        let now = Mono(0);
        for name in ["a", "b"] {
            let permit = breakers.get(name).admit(now).unwrap();
            permit.record(false, now);
        }
        assert_eq!(breakers.get("a").status(now).phase, Phase::Open);
        breakers.get("c").admit(now).unwrap().record(true, now);
        assert_eq!(breakers.len(), 2);
        assert_eq!(breakers.get("a").status(now).phase, Phase::Open, "used after b, so kept");
        let names: Vec<_> = breakers.all().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a".into(), "c".into()]);
        assert!(breakers.find("b").is_none() && breakers.find("c").is_some());
        assert_eq!(breakers.get("b").status(now).phase, Phase::Closed, "forgotten, so new");
    }
}
