//! Lamport's clock (L. Lamport, "Time, Clocks, and the Ordering of Events in a Distributed System", 1978): a counter that
//! is taken further by every event and by every message heard.

/// When an event happened, by Lamport's clock. Ordered by counter, then by node, so that no two events are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LamportStamp {
    /// How many events lie before it on its longest chain of causes, itself included.
    pub counter: u64,
    /// The node it happened on.
    pub node: u64,
}

/// The clock of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lamport {
    node: u64,
    counter: u64,
}

impl Lamport {
    /// The clock of `node`, a number that no other node has.
    #[must_use]
    pub fn new(node: u64) -> Self {
        Self { node, counter: 0 }
    }

    /// The stamp of an event here: something done, or a message sent.
    pub fn tick(&mut self) -> LamportStamp {
        // 2^64 events take centuries; a stamp from outside cannot bring it near, see `observe`.
        self.counter = self.counter.saturating_add(1);
        LamportStamp { counter: self.counter, node: self.node }
    }

    /// The stamp of having heard of `other`; later than both.
    ///
    /// A node that lies about its counter takes everybody's with it: whoever hears strangers bounds what they may say.
    pub fn observe(&mut self, other: LamportStamp) -> LamportStamp {
        self.counter = self.counter.max(other.counter);
        self.tick()
    }
}
