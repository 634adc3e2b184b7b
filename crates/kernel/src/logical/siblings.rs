//! Dotted version vectors, as a set (N. Preguica, C. Baquero, P. S. Almeida et al., "Brief Announcement: Efficient
//! Causality Tracking in Distributed Storage Systems With Dotted Version Vectors", 2012): several values of one key, each
//! with the event that wrote it.
//!
//! A plain version vector per value takes a writer that read nothing for one that read everything the server knew, or
//! needs an entry per writer. Here the entries are the servers, few and lasting; who writes says what he has read, and
//! exactly the values he had read go.
//!
//! ```
//! use outrigger_kernel::logical::{Siblings, VersionVector};
//!
//! let mut cart = Siblings::new();
//! cart.write(&VersionVector::new(), "node-1", "bread");
//! let read = cart.context();
//! // Somebody who has read nothing, and somebody who has read the bread:
//! cart.write(&VersionVector::new(), "node-1", "milk");
//! cart.write(&read, "node-1", "bread, butter");
//! assert_eq!(cart.values().copied().collect::<Vec<_>>(), ["bread, butter", "milk"]);
//! ```

use super::{Dot, VersionVector};
use std::collections::{BTreeMap, VecDeque};

/// The values of one key that nobody has overwritten knowingly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Siblings<R, V> {
    replicas: BTreeMap<R, Written<V>>,
}

/// What one replica has written: the newest values, of which the first has the dot `counter`, the next `counter - 1`,
/// and so on. All dots up to `counter` are known; those without a value were overwritten.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written<V> {
    counter: u64,
    values: VecDeque<V>,
}

impl<V> Written<V> {
    /// The oldest dot that still has a value, less one.
    fn floor(&self) -> u64 {
        self.counter.saturating_sub(self.values.len() as u64)
    }

    /// Lets go of what was written up to `counter`.
    fn forget_up_to(&mut self, counter: u64) {
        let kept = usize::try_from(self.counter.saturating_sub(counter)).unwrap_or(usize::MAX);
        self.values.truncate(kept);
    }

    /// What both know. Of a dot that only one has a value for, the other has seen it overwritten.
    fn join(self, other: Self) -> Self {
        let (mut newer, older) =
            if self.counter >= other.counter { (self, other) } else { (other, self) };
        newer.forget_up_to(older.floor().max(newer.floor()));
        newer
    }
}

impl<R: Ord, V> Default for Siblings<R, V> {
    fn default() -> Self {
        Self { replicas: BTreeMap::new() }
    }
}

impl<R: Ord + Clone, V> Siblings<R, V> {
    /// No value, nothing known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What whoever reads the values now has read: to be handed back with the next [`write`](Self::write).
    #[must_use]
    pub fn context(&self) -> VersionVector<R> {
        self.replicas.iter().map(|(replica, written)| (replica.clone(), written.counter)).collect()
    }

    /// Writes `value` at `replica`, in place of what the writer had `read`. Values he had not read stay beside it. The
    /// answer is the event that this write is.
    ///
    /// A context may know more than this set does, when it was read at another replica.
    pub fn write(&mut self, read: &VersionVector<R>, replica: R, value: V) -> Dot<R> {
        self.overwrite(read);
        let written = self
            .replicas
            .entry(replica.clone())
            .or_insert_with(|| Written { counter: 0, values: VecDeque::new() });
        written.counter = written.counter.saturating_add(1);
        written.values.push_front(value);
        Dot { counter: written.counter, replica }
    }

    /// Takes away what somebody has `read`, and puts nothing in its place.
    pub fn overwrite(&mut self, read: &VersionVector<R>) {
        for (replica, counter) in read.iter() {
            let written = self
                .replicas
                .entry(replica.clone())
                .or_insert_with(|| Written { counter: 0, values: VecDeque::new() });
            written.forget_up_to(counter);
            written.counter = written.counter.max(counter);
        }
    }

    /// Learns all that `other` knows: values new to this one come in, values that `other` saw overwritten go.
    pub fn merge(&mut self, other: Self) {
        for (replica, theirs) in other.replicas {
            let joined = match self.replicas.remove(&replica) {
                Some(own) => own.join(theirs),
                None => theirs,
            };
            self.replicas.insert(replica, joined);
        }
    }

    /// The values, by replica and the newest of each first.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.replicas.values().flat_map(|written| &written.values)
    }

    /// Each value with the event that wrote it.
    pub fn dotted(&self) -> impl Iterator<Item = (Dot<&R>, &V)> {
        self.replicas.iter().flat_map(|(replica, written)| {
            let dots = (0..).map(|age| written.counter.saturating_sub(age));
            dots.zip(&written.values).map(move |(counter, value)| (Dot { replica, counter }, value))
        })
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.replicas.values().map(|written| written.values.len()).sum()
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
