//! What a group is done with: a floor, and runs of messages above it.
//!
//! Messages are settled out of order: the third may be acknowledged while the first is still being handled. Everything
//! up to the floor is settled; above it, neighbours that are settled form a run, and a run that reaches the floor
//! becomes part of it.
//!
//! ```text
//!    stamps   10  12  13  20  21  30  31  32
//!             ##  ##  ..  ##  ##  ..  ##  ##        ## settled    .. not yet
//!                 ^       `----'      `----'
//!               floor      run         run
//! ```
//!
//! Stamps have gaps, so two stamps do not tell whether they are neighbours. Messages are therefore numbered as they are
//! read (their *ordinal*), and neighbours have neighbouring ordinals. Only stamps are stored; after a restart the
//! reader reads the gaps between the stored runs, and numbers each run as if it were one message.
//!
//! Runs are stored as four numbers each: how far the revision of the first stamp is past that of the last stamp before
//! it, its index, and the same for the last stamp of the run.

use outrigger_keyspace::{Corrupt, Stamp};
use std::collections::BTreeMap;

/// The set. See the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AckSet {
    floor: Stamp,
    /// The lowest ordinal that is not settled.
    next: u64,
    /// By the first ordinal.
    runs: BTreeMap<u64, Run>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    last: u64,
    stamps: Span,
}

/// Two stamps and whatever lies between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: Stamp,
    pub(crate) last: Stamp,
}

impl AckSet {
    /// Settled up to `floor`; the first message after it will have ordinal 0.
    pub(crate) fn new(floor: Stamp) -> Self {
        Self { floor, ..Self::default() }
    }

    /// Everything up to this stamp is settled.
    pub(crate) fn floor(&self) -> Stamp {
        self.floor
    }

    /// Settles the message, or the restored run, with ordinal `ordinal`. Again is as good as once.
    pub(crate) fn settle(&mut self, ordinal: u64, stamps: Span) {
        if ordinal < self.next {
            return;
        }
        if ordinal == self.next {
            self.next += 1;
            self.floor = stamps.last;
            while let Some(run) = self.runs.remove(&self.next) {
                self.next = run.last + 1;
                self.floor = run.stamps.last;
            }
            return;
        }
        let mut first = ordinal;
        let mut merged = Run { last: ordinal, stamps };
        if let Some((&before, run)) = self.runs.range_mut(..=ordinal).next_back() {
            if run.last >= ordinal {
                return;
            }
            if run.last + 1 == ordinal {
                first = before;
                merged.stamps.first = run.stamps.first;
            }
        }
        if let Some(after) = self.runs.remove(&(ordinal + 1)) {
            merged.last = after.last;
            merged.stamps.last = after.stamps.last;
        }
        self.runs.insert(first, merged);
    }

    /// The stamps of the runs, in order.
    pub(crate) fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        self.runs.values().map(|run| run.stamps)
    }
}

/// The stored form of `spans`, which lie above `floor`, in order and apart.
pub(crate) fn pack(floor: Stamp, spans: impl Iterator<Item = Span>) -> Vec<u64> {
    let mut packed = Vec::new();
    let mut before = floor.revision;
    for span in spans {
        for stamp in [span.first, span.last] {
            packed.push(stamp.revision - before);
            packed.push(stamp.index.into());
            before = stamp.revision;
        }
    }
    packed
}

/// The inverse of [`pack`].
pub(crate) fn unpack(floor: Stamp, packed: &[u64]) -> Result<Vec<Span>, Corrupt> {
    let (numbers, rest) = packed.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Corrupt("a run is cut short"));
    }
    let mut before = floor;
    let mut next = |revisions: u64, index: u64, strictly: bool| {
        let revision =
            before.revision.checked_add(revisions).ok_or(Corrupt("a run without end"))?;
        let index = u16::try_from(index).map_err(|_| Corrupt("an index that is none"))?;
        let stamp = Stamp { revision, index };
        if stamp < before || (strictly && stamp == before) {
            return Err(Corrupt("runs out of order"));
        }
        before = stamp;
        Ok(stamp)
    };
    numbers
        .iter()
        .map(|&[a, b, c, d]| Ok(Span { first: next(a, b, true)?, last: next(c, d, false)? }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{AckSet, Span, pack, unpack};
    use outrigger_keyspace::Stamp;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// A log with gaps: every third revision, now and then two messages in one commit.
    fn stamp(ordinal: u64) -> Stamp {
        Stamp { revision: 5 + ordinal / 2 * 3, index: u16::try_from(ordinal % 2).unwrap() }
    }

    fn one(ordinal: u64) -> Span {
        Span { first: stamp(ordinal), last: stamp(ordinal) }
    }

    #[test]
    fn the_drawing_in_the_head() {
        let mut set = AckSet::new(Stamp::default());
        for ordinal in [4, 0, 6, 1, 3, 7] {
            set.settle(ordinal, one(ordinal));
        }
        assert_eq!(set.floor(), stamp(1));
        let spans: Vec<Span> = set.spans().collect();
        let span = |first, last| Span { first: stamp(first), last: stamp(last) };
        assert_eq!(spans, [span(3, 4), span(6, 7)]);
        set.settle(2, one(2));
        assert_eq!((set.floor(), set.runs.len()), (stamp(4), 1));
        set.settle(5, one(5));
        assert_eq!((set.floor(), set.runs.len()), (stamp(7), 0));
    }

    #[test]
    fn damaged_runs_are_refused() {
        let floor = Stamp { revision: 10, index: 0 };
        for bad in [
            &[1, 0, 0][..],
            &[0, 0, 0, 0],
            &[1, 70_000, 0, 0],
            &[1, 5, 0, 4],
            &[u64::MAX, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(unpack(floor, bad).is_err(), "{bad:?}");
        }
        assert_eq!(unpack(floor, &[]).unwrap(), []);
    }

    proptest! {
        /// Whatever the order of settling, the set holds exactly what was settled, in as few runs as can be, and its
        /// stored form gives the same runs back.
        #[test]
        fn is_the_set_of_what_was_settled(order in proptest::collection::vec(0..40_u64, 0..120)) {
            let mut set = AckSet::new(Stamp::default());
            let mut model = BTreeSet::new();
            for ordinal in order {
                set.settle(ordinal, one(ordinal));
                model.insert(ordinal);
                let below = (0..).take_while(|ordinal| model.contains(ordinal)).last();
                prop_assert_eq!(set.floor(), below.map(stamp).unwrap_or_default());
                let mut spans: Vec<Span> = Vec::new();
                let mut previous = None;
                for &above in model.iter().filter(|&&o| below.is_none_or(|below| o > below)) {
                    match spans.last_mut() {
                        Some(span) if previous == Some(above - 1) => span.last = stamp(above),
                        _ => spans.push(one(above)),
                    }
                    previous = Some(above);
                }
                let got: Vec<Span> = set.spans().collect();
                prop_assert_eq!(&got, &spans);
                prop_assert_eq!(set.runs.len(), spans.len());
                let packed = pack(set.floor(), set.spans());
                prop_assert_eq!(unpack(set.floor(), &packed).unwrap(), got);
            }
        }
    }
}
