//! Version vectors (D. S. Parker et al., "Detection of Mutual Inconsistency in Distributed Systems", 1983): per replica,
//! how many of its events are known.

use std::{borrow::Borrow, collections::BTreeMap};

/// How two histories relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Causality {
    /// They know the same.
    Equal,
    /// The other knows all of this and more.
    Before,
    /// This knows all of the other and more.
    After,
    /// Each knows something that the other does not.
    Concurrent,
}

/// One event: the `counter`-th of `replica`, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot<R> {
    /// The replica it happened at.
    pub replica: R,
    /// Which of its events it is.
    pub counter: u64,
}

/// Of each replica, how many events are known; all up to that number, none beyond.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VersionVector<R> {
    /// Never with a zero, so that equal histories are equal values.
    known: BTreeMap<R, u64>,
}

impl<R: Ord> Default for VersionVector<R> {
    fn default() -> Self {
        Self { known: BTreeMap::new() }
    }
}

impl<R: Ord> VersionVector<R> {
    /// Nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many events of `replica` are known.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, replica: &Q) -> u64
    where
        R: Borrow<Q>,
    {
        self.known.get(replica).copied().unwrap_or(0)
    }

    /// Whether an event is known.
    #[must_use]
    pub fn contains(&self, dot: &Dot<R>) -> bool {
        self.get(&dot.replica) >= dot.counter
    }

    /// Adds the next event of `replica`, and says which that is.
    pub fn advance(&mut self, replica: R) -> Dot<R>
    where
        R: Clone,
    {
        let counter = self.known.entry(replica.clone()).or_insert(0);
        *counter = counter.saturating_add(1);
        Dot { counter: *counter, replica }
    }

    /// Learns of all events of `replica` up to the `counter`-th.
    pub fn learn(&mut self, replica: R, counter: u64) {
        if counter > 0 {
            let known = self.known.entry(replica).or_insert(0);
            *known = counter.max(*known);
        }
    }

    /// Learns all that `other` knows.
    pub fn merge(&mut self, other: &Self)
    where
        R: Clone,
    {
        for (replica, counter) in &other.known {
            self.learn(replica.clone(), *counter);
        }
    }

    /// How this history relates to `other`.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Causality {
        match (self.is_within(other), other.is_within(self)) {
            (true, true) => Causality::Equal,
            (true, false) => Causality::Before,
            (false, true) => Causality::After,
            (false, false) => Causality::Concurrent,
        }
    }

    /// Whether `other` knows all of this.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.known.iter().all(|(replica, counter)| other.get(replica) >= *counter)
    }

    /// The replicas of which anything is known, and how much, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&R, u64)> {
        self.known.iter().map(|(replica, counter)| (replica, *counter))
    }

    /// Forgets a replica that will never be heard of again. Safe only once every other replica has heard of all of it.
    pub fn forget<Q: Ord + ?Sized>(&mut self, replica: &Q)
    where
        R: Borrow<Q>,
    {
        self.known.remove(replica);
    }
}

impl<R: Ord> FromIterator<(R, u64)> for VersionVector<R> {
    fn from_iter<I: IntoIterator<Item = (R, u64)>>(known: I) -> Self {
        let mut vector = Self::new();
        for (replica, counter) in known {
            vector.learn(replica, counter);
        }
        vector
    }
}
