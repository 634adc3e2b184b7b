//! The machine alone: time and the newest state are handed in, so nothing here waits for anything.

mod forgetting;

use super::{DUE_BYTES_PER_STEP, DUE_KEYS_PER_STEP, Latest, Plan, Sequencer, window::Window};
use crate::{
    CommitError, KeyRange, ReadError, Stamp, Transaction, Value, Write,
    limits::{KEY_BYTES_MAX, OVERHEAD_BYTES, TRANSACTION_AGE_MAX},
};
use bytes::Bytes;
use outrigger_kernel::{Mono, Wall};
use std::{collections::BTreeMap, time::Duration};

#[derive(Default)]
struct Map(BTreeMap<Bytes, Value>);

impl Latest for Map {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, ReadError> {
        Ok(self.0.get(key).cloned())
    }
}

fn key(name: &'static str) -> Bytes {
    Bytes::from_static(name.as_bytes())
}

fn put(name: &'static str, expires_at: Option<u64>) -> Write {
    Write::Put { key: key(name), value: key("v"), expires_at: expires_at.map(Wall) }
}

fn blind(writes: Vec<Write>) -> Transaction {
    Transaction { writes, ..Transaction::default() }
}

/// A sequencer with the state its plans lead to.
struct Bench {
    sequencer: Sequencer,
    map: Map,
    mono: Mono,
}

impl Bench {
    fn new() -> Self {
        let sequencer = Sequencer::new(0, Wall::default());
        Self { sequencer, map: Map::default(), mono: Mono::default() }
    }

    fn commit(&mut self, transaction: Transaction) -> Result<u64, CommitError> {
        let plan = self.sequencer.sequence(self.mono, transaction, &self.map)?;
        self.apply(&plan);
        Ok(plan.committed.revision)
    }

    fn advance(&mut self, to: Wall) -> Option<Plan> {
        self.sequencer.advance(to, self.mono, &self.map).unwrap()
    }

    fn apply(&mut self, plan: &Plan) {
        self.map.0.retain(|key, _| !plan.clears.iter().any(|clear| clear.contains(key)));
        for change in &plan.changes {
            match &change.value {
                Some(value) => drop(self.map.0.insert(change.key.clone(), value.clone())),
                None => drop(self.map.0.remove(&change.key)),
            }
        }
    }

    /// A key that was stored before the sequencer began.
    fn stored(&mut self, key: String, expires_at: Wall) {
        self.sequencer.restore_expiry(key.as_bytes(), expires_at);
        let expires_at = Some(expires_at);
        self.map.0.insert(key.into(), Value { bytes: Bytes::new(), revision: 0, expires_at });
    }

    fn reading(
        &self,
        read_revision: u64,
        keys: &[&'static str],
        ranges: &[KeyRange],
    ) -> Transaction {
        Transaction {
            read_revision,
            read_keys: keys.iter().map(|name| key(name)).collect(),
            read_ranges: ranges.to_vec(),
            writes: vec![put("witness", None)],
            ..Transaction::default()
        }
    }
}

#[test]
fn a_read_key_that_changed_is_a_conflict_and_an_unread_one_is_not() {
    let mut bench = Bench::new();
    let first = bench.commit(blind(vec![put("a", None)])).unwrap();
    assert_eq!(bench.commit(blind(vec![put("b", None)])), Ok(first + 1));
    assert_eq!(bench.commit(bench.reading(first, &["a"], &[])), Ok(first + 2));
    assert_eq!(bench.commit(bench.reading(first, &["b"], &[])), Err(CommitError::Conflict));
    let gap = KeyRange::new(key("aa"), key("b"));
    assert_eq!(bench.commit(bench.reading(first, &[], &[gap])), Ok(first + 3));
    let wide = KeyRange::new(key("aa"), key("b\0"));
    assert_eq!(bench.commit(bench.reading(first, &[], &[wide])), Err(CommitError::Conflict));
}

#[test]
fn a_transaction_from_the_future_is_refused() {
    let mut bench = Bench::new();
    assert_eq!(bench.commit(bench.reading(9, &["a"], &[])), Err(CommitError::Conflict));
}

#[test]
fn what_was_written_before_the_window_makes_a_reader_too_old() {
    let mut bench = Bench::new();
    let first = bench.commit(blind(vec![put("a", None)])).unwrap();
    let second = bench.commit(blind(vec![put("a", None)])).unwrap();
    bench.mono = bench.mono.plus(TRANSACTION_AGE_MAX + Duration::from_millis(1));
    bench.commit(blind(vec![put("b", None)])).unwrap();
    let old = bench.reading(first, &["c"], &[]);
    assert_eq!(bench.commit(old), Err(CommitError::TooOld { read: first }));
    assert!(bench.commit(bench.reading(second, &["c"], &[])).is_ok());
}

#[test]
fn the_window_is_bounded_in_bytes() {
    let mut window = Window::bounded(1_000);
    for revision in 1..=100_u64 {
        window.record(
            revision,
            Mono::default(),
            [revision.to_string().as_bytes()].into_iter(),
            &[],
        );
    }
    assert!(window.floor() > 80, "floor {}", window.floor());
    assert!(window.key_changed(b"100", 99));
}

#[test]
fn a_step_in_time_takes_all_that_is_due_and_counts_as_a_write() {
    let mut bench = Bench::new();
    assert_eq!(bench.advance(Wall(10)), None);
    let writes = vec![put("a", Some(20)), put("b", Some(21)), put("c", None), put("d", Some(10))];
    let read = bench.commit(blind(writes)).unwrap();
    assert!(!bench.map.0.contains_key("d".as_bytes()), "due already when it was put");
    assert!(!bench.sequencer.is_due(Wall(19)));
    let plan = bench.advance(Wall(20)).unwrap();
    assert_eq!(plan.changes.len(), 1);
    bench.apply(&plan);
    assert_eq!(bench.advance(Wall(20)), None);
    assert_eq!(bench.commit(bench.reading(read, &["a"], &[])), Err(CommitError::Conflict));
    assert!(bench.commit(bench.reading(read, &["b"], &[])).is_ok());
}

#[test]
fn time_never_goes_back_and_many_due_keys_are_taken_in_steps() {
    let mut bench = Bench::new();
    for i in 0..10_000_u64 {
        bench.stored(format!("{i:05}"), Wall(1 + i / 2));
    }
    let (mut taken, mut times) = (0, Vec::new());
    while let Some(plan) = bench.advance(Wall(100_000)) {
        taken += plan.changes.len();
        bench.apply(&plan);
        times.push(plan.committed.time);
    }
    assert_eq!(taken, 10_000);
    let whole_steps = (1..40).map(|step| Wall(step * DUE_KEYS_PER_STEP as u64 / 2));
    assert_eq!(times, whole_steps.chain([Wall(100_000)]).collect::<Vec<_>>());
    assert_eq!(bench.advance(Wall(5)), None);
    assert_eq!(bench.sequencer.time(), Wall(100_000));
}

#[test]
fn time_stands_still_before_expiries_that_were_forgotten() {
    let mut bench = Bench::new();
    for i in 0..10_u64 {
        bench
            .commit(blind(vec![put(
                ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"][i as usize],
                Some(10 + i),
            )]))
            .unwrap();
    }
    while bench.sequencer.expiries() > 4 {
        bench.sequencer.forget_latest_expiry();
    }
    assert_eq!(bench.sequencer.latest_expiry(), Some(Wall(13)));
    // What expires beyond is not taken in, what expires before is.
    bench.commit(blind(vec![put("k", Some(14))])).unwrap();
    bench.commit(blind(vec![put("l", Some(12))])).unwrap();
    assert_eq!(bench.sequencer.expiries(), 5);
    let mut gone = 0;
    while let Some(plan) = bench.advance(Wall(100)) {
        gone += plan.changes.len();
        bench.apply(&plan);
    }
    assert_eq!((gone, bench.sequencer.time()), (5, Wall(13)));
    // While they are looked up, everything is taken in.
    assert_eq!(bench.sequencer.fill(), Some((Wall(14), key("e"))));
    bench.commit(blind(vec![put("m", Some(90))])).unwrap();
    for (name, at) in [("e", 14), ("k", 14), ("f", 15)] {
        bench.sequencer.restore_expiry(name.as_bytes(), Wall(at));
    }
    bench.sequencer.end_filling(Some((Wall(16), key("g"))));
    let mut gone = 0;
    while let Some(plan) = bench.advance(Wall(100)) {
        gone += plan.changes.len();
        bench.apply(&plan);
    }
    assert_eq!((gone, bench.sequencer.time()), (3, Wall(15)));
    assert_eq!(bench.sequencer.next_due(), Some(Wall(16)));
}

#[test]
fn what_is_forgotten_while_others_are_looked_up_is_looked_up_later() {
    for found in [None, Some((Wall(25), key("e")))] {
        let mut bench = Bench::new();
        bench.commit(blind(vec![put("a", Some(10)), put("b", Some(20))])).unwrap();
        bench.sequencer.forget_latest_expiry();
        assert_eq!(bench.sequencer.fill(), Some((Wall(20), key("b"))));
        bench.commit(blind(vec![put("c", Some(30)), put("d", Some(22))])).unwrap();
        assert_eq!(bench.sequencer.expiries(), 3);
        bench.sequencer.forget_latest_expiry();
        assert_eq!(bench.sequencer.horizon(), Some(Wall(20)), "nothing is known there yet");
        // As late as what was forgotten: it is too much, too.
        bench.commit(blind(vec![put("e", Some(30))])).unwrap();
        assert_eq!(bench.sequencer.expiries(), 2);
        bench.sequencer.restore_expiry(b"b", Wall(20));
        bench.sequencer.end_filling(found.clone());
        let horizon = found.map_or(Wall(30), |(at, _)| at);
        assert_eq!(bench.sequencer.horizon(), Some(horizon));
        while let Some(plan) = bench.advance(Wall(100)) {
            bench.apply(&plan);
        }
        assert_eq!(bench.sequencer.time().0, horizon.0 - 1);
        assert_eq!(bench.map.0.keys().collect::<Vec<_>>(), [&key("c"), &key("e")]);
    }
}

#[test]
fn what_was_taken_in_beyond_the_horizon_is_no_reason_to_pass_it() {
    let mut bench = Bench::new();
    bench.commit(blind(vec![put("a", Some(20))])).unwrap();
    bench.sequencer.forget_latest_expiry();
    bench.sequencer.fill();
    bench.commit(blind(vec![put("z", Some(90))])).unwrap();
    bench.sequencer.end_filling(Some((Wall(20), key("a"))));
    assert!(bench.sequencer.knows_beyond_horizon());
    assert_eq!(bench.advance(Wall(100)), None);
    assert_eq!(bench.sequencer.time(), Wall(19));
    bench.sequencer.forget_latest_expiry();
    assert!(!bench.sequencer.knows_beyond_horizon());
    assert_eq!(bench.sequencer.horizon(), Some(Wall(20)));
}

#[test]
fn an_overwritten_key_follows_its_new_expiry_only() {
    let mut bench = Bench::new();
    bench.commit(blind(vec![put("a", Some(20))])).unwrap();
    bench.commit(blind(vec![put("a", Some(90))])).unwrap();
    assert_eq!(bench.sequencer.next_due(), Some(Wall(90)));
    bench.commit(blind(vec![Write::Delete { key: key("a") }])).unwrap();
    assert_eq!(bench.sequencer.next_due(), None);
}

#[test]
fn later_writes_see_earlier_ones() {
    let mut bench = Bench::new();
    bench.commit(blind(vec![put("a1", None)])).unwrap();
    let all_a = KeyRange::prefix("a");
    let revision = bench
        .commit(blind(vec![
            put("a2", None),
            Write::DeleteRange { range: all_a },
            Write::Add { key: key("a1"), delta: 5 },
            Write::Add { key: key("a1"), delta: -7 },
            Write::PutStamped {
                prefix: key("s"),
                suffix: key("!"),
                value: key("v"),
                expires_at: None,
            },
            Write::PutStamped {
                prefix: key("s"),
                suffix: key("!"),
                value: key("w"),
                expires_at: None,
            },
        ]))
        .unwrap();
    let stamped = |index| {
        let stamp = Stamp { revision, index }.to_bytes();
        Bytes::from([&b"s"[..], &stamp, b"!"].concat())
    };
    let keys: Vec<Bytes> = bench.map.0.keys().cloned().collect();
    assert_eq!(keys, [key("a1"), stamped(0), stamped(1)]);
    assert_eq!(bench.map.0[&key("a1")].bytes[..], (-2_i64).to_le_bytes());
}

#[test]
fn a_refused_transaction_changes_nothing() {
    let mut bench = Bench::new();
    bench.commit(blind(vec![put("text", None)])).unwrap();
    let refused =
        bench.commit(blind(vec![put("b", Some(50)), Write::Add { key: key("text"), delta: 1 }]));
    assert_eq!(refused, Err(CommitError::NotACounter));
    assert_eq!(bench.sequencer.next_due(), None);
    assert_eq!(bench.sequencer.revision(), 1);
}

#[test]
fn a_step_may_end_inside_one_instant() {
    let mut bench = Bench::new();
    for i in 0..10_000_u32 {
        bench.stored(format!("{i:05}"), Wall(50));
    }
    let (mut sizes, mut times) = (Vec::new(), Vec::new());
    while let Some(plan) = bench.advance(Wall(60)) {
        sizes.push(plan.changes.len());
        bench.apply(&plan);
        times.push(plan.committed.time);
    }
    assert_eq!(sizes, [vec![DUE_KEYS_PER_STEP; 39], vec![16]].concat());
    // Nothing is stamped at the instant before all of it is gone.
    assert_eq!(times, [vec![Wall(49); 39], vec![Wall(60)]].concat());
}

#[test]
fn what_is_too_old_is_forgotten_without_another_write() {
    let mut bench = Bench::new();
    let read = bench.commit(blind(vec![put("a", None)])).unwrap();
    assert_eq!(bench.sequencer.window.floor(), 0);
    bench.mono = bench.mono.plus(TRANSACTION_AGE_MAX + Duration::from_millis(1));
    assert_eq!(bench.advance(Wall(1)), None);
    assert_eq!(bench.sequencer.window.floor(), read);
}

#[test]
fn a_decision_rests_on_what_it_read_until_that_expires() {
    let mut bench = Bench::new();
    bench.commit(blind(vec![put("a", Some(20)), put("b", Some(30)), put("c", None)])).unwrap();
    let until = |keys: &[&'static str], ranges: &[KeyRange], now| {
        bench.sequencer.rests_until(&bench.reading(1, keys, ranges), Wall(now))
    };
    assert_eq!(until(&[], &[], 0), None);
    assert_eq!(until(&["c", "absent"], &[], 0), None);
    assert_eq!(until(&["c", "b", "a"], &[], 0), Some(Wall(20)));
    // It is due, unless it was put to live longer and this is old news: nobody may pass it unseen.
    assert_eq!(until(&["a", "b"], &[], 20), Some(Wall(21)));
    assert_eq!(until(&[], &[KeyRange::prefix("b")], 0), Some(Wall(20)));
    assert_eq!(until(&[], &[KeyRange::all()], 30), None);
    let adding = blind(vec![Write::Add { key: Bytes::from_static(b"b"), delta: 1 }]);
    assert_eq!(bench.sequencer.rests_until(&adding, Wall(0)), Some(Wall(30)), "a sum is read too");
}

#[test]
fn a_decision_rests_on_what_is_not_known_until_the_horizon() {
    let mut bench = Bench::new();
    bench.commit(blind(vec![put("a", Some(20)), put("b", Some(30)), put("c", Some(40))])).unwrap();
    bench.sequencer.forget_latest_expiry();
    bench.sequencer.forget_latest_expiry();
    let until =
        |transaction: &Transaction, now| bench.sequencer.rests_until(transaction, Wall(now));
    assert_eq!(until(&bench.reading(1, &["c"], &[]), 0), Some(Wall(30)));
    assert_eq!(until(&bench.reading(1, &["a", "c"], &[]), 0), Some(Wall(20)));
    let adding = blind(vec![Write::Add { key: key("c"), delta: 1 }]);
    assert_eq!(until(&adding, 0), Some(Wall(30)));
    assert_eq!(until(&blind(vec![put("c", None)]), 0), None, "nothing is read");
}

#[test]
fn a_step_takes_no_more_bytes_than_it_may_and_says_before() {
    let mut bench = Bench::new();
    for i in 0..100_u64 {
        let bytes = if i < 40 { 10 } else { KEY_BYTES_MAX };
        bench.stored(format!("{i:0bytes$}"), Wall(10 + i));
    }
    assert_eq!(bench.sequencer.step_bytes(Wall(9)), None);
    let (mut taken, mut steps) = (0, 0);
    while let Some(asked) = bench.sequencer.step_bytes(Wall(200)) {
        let plan = bench.advance(Wall(200)).unwrap();
        let bytes: usize =
            plan.changes.iter().map(|change| change.key.len() + OVERHEAD_BYTES).sum();
        assert!(bytes <= asked && asked <= DUE_BYTES_PER_STEP, "{bytes} of {asked}");
        taken += plan.changes.len();
        steps += 1;
        bench.apply(&plan);
    }
    assert_eq!((taken, steps), (100, 4));
    assert_eq!(bench.sequencer.time(), Wall(200));
}

#[test]
fn what_is_beyond_the_horizon_asks_for_no_step() {
    let mut bench = Bench::new();
    bench.commit(blind(vec![put("a", Some(20)), put("b", Some(30))])).unwrap();
    bench.sequencer.forget_latest_expiry();
    assert!(bench.sequencer.step_bytes(Wall(20)).is_some());
    let plan = bench.advance(Wall(25)).unwrap();
    bench.apply(&plan);
    assert!(bench.sequencer.is_due(Wall(30)), "it may be");
    assert_eq!(bench.sequencer.step_bytes(Wall(30)), None);
}

#[test]
fn what_rests_on_something_due_is_told() {
    let mut bench = Bench::new();
    bench.commit(blind(vec![put("a", Some(20)), put("b", Some(30)), put("c", None)])).unwrap();
    let rests = |keys: &[&'static str], ranges: &[KeyRange], now| {
        bench.sequencer.rests_on_due(&bench.reading(1, keys, ranges), Wall(now))
    };
    assert!(rests(&["c", "a"], &[], 20) && rests(&[], &[KeyRange::all()], 20));
    assert!(!rests(&["c", "a"], &[], 19) && !rests(&["b"], &[], 20) && !rests(&[], &[], 50));
    let adding = blind(vec![Write::Add { key: key("b"), delta: 1 }]);
    assert!(bench.sequencer.rests_on_due(&adding, Wall(30)));
}
