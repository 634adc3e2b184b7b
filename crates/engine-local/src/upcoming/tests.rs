//! What is found of expiries, and what memory holds of them.

use super::{
    DROPPED_PER_BATCH, EXPIRIES_MAX, FOUND_MAX, Found, Nearest, SEEN_AT_ONCE, Upcoming, Wanted,
    find,
};
use crate::{
    layer::Layer,
    stack::{Bottom, Entries, Stack},
    time::Time,
};
use bytes::Bytes;
use outrigger_kernel::{Mono, Wall};
use outrigger_keyspace::{
    Direction, KeyRange, ReadError, Transaction, Value, Write, sequencer::Sequencer,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Counts how many expiries are looked at.
struct Expiring {
    keys: BTreeMap<Bytes, Wall>,
    seen: Arc<AtomicUsize>,
}

impl Bottom for Expiring {
    fn get(&self, _key: &[u8]) -> Result<Option<Value>, ReadError> {
        Ok(None)
    }

    fn range<'a>(&'a self, _range: &KeyRange, _direction: Direction) -> Entries<'a> {
        Box::new(std::iter::empty())
    }

    fn expiries(
        &self,
        range: &KeyRange,
        visit: &mut dyn FnMut(Wall, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        for (key, at) in self.keys.iter().filter(|(key, _)| range.contains(key)) {
            self.seen.fetch_add(1, Ordering::Relaxed);
            if visit(*at, key).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// So many keys that expire at 50, and among them some that expire at 60.
fn of_one_instant(count: u64) -> (Wanted, Arc<AtomicUsize>) {
    let at = |n: u64| if n.is_multiple_of(100) { Wall(60) } else { Wall(50) };
    let keys = (0..count).map(|n| (Bytes::copy_from_slice(&n.to_be_bytes()), at(n))).collect();
    let seen = Arc::new(AtomicUsize::new(0));
    let index = Arc::new(Expiring { keys, seen: seen.clone() });
    let stack = Stack { active: Layer::default(), sealed: None, index };
    (Wanted { from: (Wall(50), Bytes::new()), stack }, seen)
}

#[test]
fn of_one_instant_all_are_found_by_reading_them_once() {
    let count = 10 * FOUND_MAX;
    let (mut wanted, seen) = of_one_instant(count as u64);
    let (mut all, mut rounds) = (BTreeSet::new(), 0);
    loop {
        let Found { expiries, horizon } = find(&wanted, &mut || true).unwrap().unwrap();
        assert!(expiries.len() <= FOUND_MAX);
        for expiry in expiries {
            assert!(all.insert(expiry), "each but once");
        }
        rounds += 1;
        let Some(from) = horizon else { break };
        assert!(all.iter().all(|expiry| *expiry < from), "the nearest first");
        wanted.from = from;
    }
    assert_eq!(all.len(), count);
    assert!(rounds >= 10);
    let seen = seen.load(Ordering::Relaxed);
    assert!(seen < 4 * count, "{seen} were looked at to find {count}");
}

#[test]
fn others_are_served_in_between_and_may_end_it() {
    let (wanted, seen) = of_one_instant(FOUND_MAX as u64);
    let mut served = 0;
    let mut serve = || {
        served += 1;
        served < 3
    };
    assert!(find(&wanted, &mut serve).unwrap().is_none());
    assert_eq!((served, seen.load(Ordering::Relaxed)), (3, 3 * SEEN_AT_ONCE));
}

fn put_until(sequencer: &mut Sequencer, stack: &Stack, key: u64, at: u64) {
    let (key, expires_at) = (Bytes::from(key.to_string()), Some(Wall(at)));
    let writes = vec![Write::Put { key, value: Bytes::new(), expires_at }];
    sequencer.sequence(Mono(0), Transaction { writes, ..Transaction::default() }, stack).unwrap();
}

fn nothing() -> Stack {
    let index = Arc::new(crate::stack::tests::Map::default());
    Stack { active: Layer::default(), sealed: None, index }
}

#[test]
fn while_others_are_looked_up_memory_is_bounded_too() {
    let (mut sequencer, time) = (Sequencer::new(0, Wall(1)), Time::new(Wall(1)));
    let (stack, mut upcoming) = (nothing(), Upcoming::default());
    let max = EXPIRIES_MAX as u64;
    for n in 0..=max {
        put_until(&mut sequencer, &stack, n, 10 + n);
        assert!(upcoming.bound(&mut sequencer, &time, &stack).is_none());
    }
    assert_eq!(sequencer.advance(Wall(10 + max / 2), Mono(0), &stack), Ok(None));
    assert!(upcoming.bound(&mut sequencer, &time, &stack).is_some());
    for n in 0..3 * max {
        put_until(&mut sequencer, &stack, 10 * max + n, 10 * max + n);
        assert!(upcoming.bound(&mut sequencer, &time, &stack).is_none());
        assert!(sequencer.expiries() <= 2 * EXPIRIES_MAX);
    }
    assert_eq!(sequencer.horizon(), Some(Wall(10 + max)), "nobody has said what comes there");
    upcoming.note(Found { expiries: Vec::new(), horizon: None });
    upcoming.take(&mut sequencer, &time);
    let horizon = sequencer.horizon().unwrap();
    assert!(horizon > Wall(11 * max) && horizon < Wall(12 * max), "{horizon:?}");
    assert_eq!(time.reachable(Wall(u64::MAX)), Wall(horizon.0 - 1));
    let mut turns = 0;
    loop {
        let before = sequencer.expiries();
        assert!(upcoming.bound(&mut sequencer, &time, &stack).is_none());
        assert!(before - sequencer.expiries() <= DROPPED_PER_BATCH, "a little with each batch");
        turns += 1;
        if !upcoming.is_busy() {
            break;
        }
    }
    assert!(turns > 1);
    assert_eq!(sequencer.expiries(), EXPIRIES_MAX);
    let horizon = sequencer.horizon().unwrap();
    assert_eq!(time.reachable(Wall(u64::MAX)), Wall(horizon.0 - 1));
    assert!(sequencer.latest_expiry() < Some(horizon));
}

#[test]
fn the_nearest_are_found_key_by_key_within_one_instant() {
    let key = |n: u64| n.to_be_bytes();
    let mut from = None;
    let mut all = Vec::new();
    loop {
        let mut nearest = Nearest::new(from.clone(), 10);
        for n in 0..100 {
            // All at three instants: there are more at each than are found at once.
            nearest.offer(Wall(n % 3), &key(n * 37 % 100));
        }
        let found = nearest.found();
        assert!(found.expiries.len() <= 10);
        let mut expiries = found.expiries;
        expiries.sort();
        all.extend(expiries);
        from = found.horizon;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(all.len(), 100);
    assert!(all.is_sorted(), "each but once, the nearest first");
}

#[test]
fn memory_holds_so_many_and_asks_for_more_when_half_are_gone() {
    let (mut sequencer, time) = (Sequencer::new(0, Wall(1)), Time::new(Wall(1)));
    let (stack, mut upcoming) = (nothing(), Upcoming::default());
    let many = 3 * EXPIRIES_MAX as u64;
    for n in 0..many {
        put_until(&mut sequencer, &stack, n, 10 + n * 7 % many);
        assert!(upcoming.bound(&mut sequencer, &time, &stack).is_none());
        assert!(sequencer.expiries() <= EXPIRIES_MAX);
    }
    assert_eq!(sequencer.horizon(), Some(Wall(10 + EXPIRIES_MAX as u64)));
    assert_eq!(time.reachable(Wall(u64::MAX)), Wall(9 + EXPIRIES_MAX as u64));
    // What is in the agenda is not in this map: its time passes, and it is gone from the agenda.
    let halfway = Wall(10 + EXPIRIES_MAX as u64 / 2);
    assert_eq!(sequencer.advance(halfway, Mono(0), &stack), Ok(None));
    assert!(upcoming.bound(&mut sequencer, &time, &stack).is_some());
    assert!(upcoming.bound(&mut sequencer, &time, &stack).is_none(), "once is enough");
}
