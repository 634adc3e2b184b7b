//! The laws of the clocks, over histories made at random.

use super::{
    Causality, HybridClock, HybridStamp, Lamport, LamportStamp, Siblings, TooFarAhead,
    VersionVector,
};
use crate::Wall;
use proptest::prelude::*;
use std::{collections::BTreeSet, time::Duration};

const NODES: usize = 4;
const SKEW: Duration = Duration::from_millis(500);

/// Something that happens at a node: a step of its own, a message sent, or one of the messages sent before heard of.
#[derive(Clone, Debug)]
enum Act {
    Step { node: usize },
    Hear { node: usize, event: prop::sample::Index },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        (0..NODES).prop_map(|node| Act::Step { node }),
        (0..NODES, any::<prop::sample::Index>())
            .prop_map(|(node, event)| Act::Hear { node, event }),
    ];
    prop::collection::vec(act, 1..80)
}

/// Plays `acts`. Every event is known by the set of events that could have influenced it, itself included: what all
/// clocks are held against.
fn play<S: Copy>(
    acts: &[Act],
    mut stamp: impl FnMut(usize, Option<S>) -> S,
) -> Vec<(BTreeSet<usize>, S)> {
    let mut known = vec![BTreeSet::new(); NODES];
    let mut events: Vec<(BTreeSet<usize>, S)> = Vec::new();
    for act in acts {
        let (node, heard) = match act {
            Act::Step { node } => (*node, None),
            Act::Hear { event, .. } if events.is_empty() => (event.index(NODES), None),
            Act::Hear { node, event } => (*node, Some(event.index(events.len()))),
        };
        if let Some(heard) = heard {
            let causes = events[heard].0.clone();
            known[node].extend(causes);
        }
        known[node].insert(events.len());
        let given = stamp(node, heard.map(|heard| events[heard].1));
        events.push((known[node].clone(), given));
    }
    events
}

/// Whether the first of two different events can have influenced the second.
fn caused<S>(events: &[(BTreeSet<usize>, S)], first: usize, second: usize) -> bool {
    first != second && events[second].0.contains(&first)
}

fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |first| (0..count).map(move |second| (first, second)))
}

proptest! {
    #[test]
    fn lamport_never_contradicts_cause_and_orders_all(acts in acts()) {
        let mut clocks: Vec<_> = (0..NODES as u64).map(Lamport::new).collect();
        let events = play(&acts, |node, heard: Option<LamportStamp>| match heard {
            None => clocks[node].tick(),
            Some(heard) => clocks[node].observe(heard),
        });
        for (first, second) in pairs(events.len()) {
            prop_assert_eq!(first == second, events[first].1 == events[second].1);
            if caused(&events, first, second) {
                prop_assert!(events[first].1 < events[second].1);
            }
        }
    }

    /// Nodes whose clocks differ by up to 400 ms, stand still, and are set back now and then.
    #[test]
    fn hybrid_never_contradicts_cause_however_the_walls_jump(
        acts in acts(),
        walls in prop::collection::vec(0_u64..400, 80),
    ) {
        let mut clocks = vec![HybridClock::new(); NODES];
        let mut walls = walls.into_iter();
        let events = play(&acts, |node, heard: Option<HybridStamp>| {
            let wall = Wall(1_700_000_000_000 + walls.next().unwrap());
            let stamp = match heard {
                None => clocks[node].tick(wall),
                Some(heard) => clocks[node].observe(heard, wall, SKEW).unwrap(),
            };
            // Never behind the wall, and no further ahead than the clocks differ.
            assert!(stamp.wall() >= wall && clocks[node].ahead_of(wall) < SKEW);
            stamp
        });
        for (first, second) in pairs(events.len()) {
            if caused(&events, first, second) {
                prop_assert!(events[first].1 < events[second].1);
            }
        }
    }

    #[test]
    fn vectors_know_exactly_what_caused_what(acts in acts()) {
        let mut vectors = vec![VersionVector::new(); NODES];
        let mut stamps = Vec::new();
        let events = play(&acts, |node, heard: Option<usize>| {
            if let Some(heard) = heard {
                let heard: &VersionVector<usize> = &stamps[heard];
                vectors[node].merge(heard);
            }
            vectors[node].advance(node);
            stamps.push(vectors[node].clone());
            stamps.len() - 1
        });
        for (first, second) in pairs(events.len()) {
            let expected = match (caused(&events, first, second), caused(&events, second, first)) {
                _ if first == second => Causality::Equal,
                (true, _) => Causality::Before,
                (_, true) => Causality::After,
                _ => Causality::Concurrent,
            };
            prop_assert_eq!(stamps[first].compare(&stamps[second]), expected);
        }
    }

    #[test]
    fn merging_vectors_is_a_join(a in vector(), b in vector(), c in vector()) {
        let merged = |x: &VersionVector<u8>, y: &VersionVector<u8>| {
            let mut x = x.clone();
            x.merge(y);
            x
        };
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        prop_assert_eq!(merged(&a, &a), a.clone());
        prop_assert!(a.is_within(&merged(&a, &b)));
    }
}

fn vector() -> impl Strategy<Value = VersionVector<u8>> {
    prop::collection::vec((0_u8..4, 0_u64..4), 0..4).prop_map(|known| known.into_iter().collect())
}

#[test]
fn a_full_millisecond_spills_into_the_next() {
    let mut clock = HybridClock::new();
    let first = clock.tick(Wall(7));
    let last = (0..u32::from(u16::MAX)).map(|_| clock.tick(Wall(7))).last().unwrap();
    assert_eq!((first.wall(), first.counter()), (Wall(7), 0));
    assert_eq!((last.wall(), last.counter()), (Wall(7), u16::MAX));
    let next = clock.tick(Wall(7));
    assert_eq!((next.wall(), next.counter()), (Wall(8), 0));
    assert_eq!(clock.ahead_of(Wall(7)), Duration::from_millis(1));
}

#[test]
fn a_wall_that_is_set_back_changes_nothing() {
    let mut clock = HybridClock::new();
    let before = clock.tick(Wall(60_000));
    let after = clock.tick(Wall(50_000));
    assert!(after > before);
    assert_eq!(clock.ahead_of(Wall(50_000)), Duration::from_secs(10));
}

#[test]
fn a_broken_clock_elsewhere_is_not_followed() {
    let mut clock = HybridClock::new();
    let known = clock.tick(Wall(1_000));
    let odd = HybridStamp::first_of(Wall(1_501));
    let refused = clock.observe(odd, Wall(1_000), SKEW).unwrap_err();
    assert_eq!(refused, TooFarAhead { ahead: Duration::from_millis(501), allowed: SKEW });
    assert_eq!(clock.last(), known);
    assert!(clock.observe(HybridStamp::first_of(Wall(1_500)), Wall(1_000), SKEW).is_ok());
    // The end of time is no way around it.
    assert!(clock.observe(HybridStamp::from_bits(u64::MAX), Wall(1_000), SKEW).is_err());
}

#[test]
fn after_a_restart_no_stamp_comes_again() {
    let mut clock = HybridClock::new();
    clock.tick(Wall(10_000));
    let written = clock.bound(Wall(10_000), Duration::from_secs(1));
    let last = (0..500).map(|ms| clock.tick(Wall(10_000 + ms))).last().unwrap();
    assert!(last < written);
    // The machine comes up an hour behind.
    let mut again = HybridClock::after(written);
    assert!(again.tick(Wall(0)) > last);
}

/// Sets of values played on replicas: whoever writes replaces what he has read and nothing else. Held against a model in
/// which every value carries the set of all values that its writer had read, and those that they had replaced.
mod values {
    use super::{NODES, Siblings, VersionVector};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(Clone, Debug)]
    enum Act {
        /// A client reads at a replica.
        Read { client: usize, replica: usize },
        /// A client writes at a replica with what it read last.
        Write { client: usize, replica: usize },
        /// A client takes away what it read last.
        Overwrite { client: usize, replica: usize },
        /// One replica tells another all it knows.
        Sync { from: usize, to: usize },
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let any = || (0..NODES, 0..NODES);
        let act = prop_oneof![
            any().prop_map(|(client, replica)| Act::Read { client, replica }),
            any().prop_map(|(client, replica)| Act::Write { client, replica }),
            any().prop_map(|(client, replica)| Act::Overwrite { client, replica }),
            any().prop_map(|(from, to)| Act::Sync { from, to }),
        ];
        prop::collection::vec(act, 1..80)
    }

    /// What a replica has seen written, and what it has seen replaced.
    #[derive(Clone, Debug, Default)]
    struct Model {
        written: BTreeSet<usize>,
        replaced: BTreeSet<usize>,
    }

    impl Model {
        fn present(&self) -> BTreeSet<usize> {
            self.written.difference(&self.replaced).copied().collect()
        }

        fn replace(&mut self, read: &Self) {
            // Whoever has read a value knows of it, and of what it replaced.
            self.written.extend(&read.written);
            self.replaced.extend(&read.replaced);
            self.replaced.extend(read.present());
        }
    }

    proptest! {
        #[test]
        fn exactly_what_was_read_is_replaced(acts in acts()) {
            let mut replicas = vec![(Siblings::new(), Model::default()); NODES];
            let mut clients = vec![(VersionVector::new(), Model::default()); NODES];
            for (number, act) in acts.into_iter().enumerate() {
                match act {
                    Act::Read { client, replica } => {
                        let (siblings, model) = &replicas[replica];
                        clients[client] = (siblings.context(), model.clone());
                    }
                    Act::Write { client, replica } => {
                        let (read, seen) = &clients[client];
                        let (siblings, model) = &mut replicas[replica];
                        let dot = siblings.write(read, replica, number);
                        prop_assert_eq!(dot.replica, replica);
                        let newest = siblings.dotted().find(|(dot, _)| *dot.replica == replica);
                        prop_assert_eq!(newest.map(|(_, value)| *value), Some(number));
                        model.replace(seen);
                        model.written.insert(number);
                    }
                    Act::Overwrite { client, replica } => {
                        let (read, seen) = &clients[client];
                        let (siblings, model) = &mut replicas[replica];
                        siblings.overwrite(read);
                        model.replace(seen);
                    }
                    Act::Sync { from, to } => {
                        let (siblings, model) = replicas[from].clone();
                        replicas[to].0.merge(siblings);
                        replicas[to].1.written.extend(&model.written);
                        replicas[to].1.replaced.extend(&model.replaced);
                    }
                }
                for (siblings, model) in &replicas {
                    let values: BTreeSet<usize> = siblings.values().copied().collect();
                    prop_assert_eq!(values.len(), siblings.len());
                    prop_assert_eq!(values, model.present());
                }
            }
        }

        #[test]
        fn all_that_hear_of_all_agree(acts in acts()) {
            let mut replicas = vec![Siblings::new(); NODES];
            let mut clients = vec![VersionVector::new(); NODES];
            for (number, act) in acts.into_iter().enumerate() {
                match act {
                    Act::Read { client, replica } => clients[client] = replicas[replica].context(),
                    Act::Write { client, replica } => {
                        replicas[replica].write(&clients[client], replica, number);
                    }
                    Act::Overwrite { client, replica } => {
                        replicas[replica].overwrite(&clients[client]);
                    }
                    Act::Sync { from, to } => {
                        let told = replicas[from].clone();
                        replicas[to].merge(told);
                    }
                }
            }
            let (mut forward, mut backward) = (Siblings::new(), Siblings::new());
            replicas.iter().cloned().for_each(|replica| forward.merge(replica));
            replicas.iter().rev().cloned().for_each(|replica| backward.merge(replica));
            prop_assert_eq!(&forward, &backward);
            // Telling it again changes nothing.
            replicas.into_iter().for_each(|replica| forward.merge(replica));
            prop_assert_eq!(&forward, &backward);
        }
    }
}
