//! What the sequencer keeps and lets go: entries of the agenda that are overtaken, and names of commits.

use super::{Bench, Map, blind, key, put};
use crate::{
    CommitError, CommitId, Committed, KeyRange, ReadError, Transaction, Value, Write,
    limits::{COMMIT_ID_AGE_MAX, COMMIT_IDS_MAX},
    sequencer::Latest,
};
use outrigger_kernel::{Mono, Wall};
use std::time::Duration;

#[test]
fn a_key_that_is_refreshed_has_one_entry() {
    let mut bench = Bench::new();
    for until in 1..=10_000 {
        bench.commit(blind(vec![put("a", Some(100 + until))])).unwrap();
    }
    assert_eq!(bench.sequencer.agenda.len(), 1);
    assert_eq!(bench.sequencer.next_due(), Some(Wall(10_100)));
}

#[test]
fn what_a_clear_took_leaves_the_agenda_when_its_time_comes() {
    let mut bench = Bench::new();
    bench.commit(blind(vec![put("a", Some(20)), put("b", Some(20)), put("c", Some(30))])).unwrap();
    let range = KeyRange::all();
    let cleared = bench.commit(blind(vec![Write::DeleteRange { range }])).unwrap();
    bench.commit(blind(vec![put("b", None), put("c", Some(40))])).unwrap();
    assert_eq!(bench.sequencer.agenda.len(), 2, "nothing is looked for when a range is cleared");
    assert_eq!(bench.advance(Wall(39)), None, "nothing that is there falls due");
    assert_eq!(bench.sequencer.revision(), cleared + 1, "and that takes no revision");
    assert_eq!(bench.sequencer.time(), Wall(39));
    let plan = bench.advance(Wall(40)).unwrap();
    assert_eq!(plan.changes.len(), 1);
    assert_eq!(plan.changes[0].key, key("c"));
    assert_eq!(bench.sequencer.agenda.len(), 0);
}

#[test]
fn restored_entries_may_be_overtaken_in_any_order() {
    for entries in [[20, 50, 90], [90, 50, 20], [50, 20, 90]] {
        let mut bench = Bench::new();
        bench.stored("a".to_owned(), Wall(50));
        for at in entries {
            bench.sequencer.restore_expiry(b"a", Wall(at));
        }
        assert_eq!(bench.advance(Wall(49)), None);
        let plan = bench.advance(Wall(50)).unwrap();
        assert_eq!((plan.changes.len(), plan.committed.time), (1, Wall(50)));
        bench.apply(&plan);
        assert_eq!(bench.advance(Wall(1_000)), None);
    }
}

#[test]
fn a_step_takes_nothing_before_its_time() {
    let mut bench = Bench::new();
    for i in 0..5_000 {
        bench.stored(format!("{i}"), Wall(10));
    }
    bench.stored("later".to_owned(), Wall(50));
    bench.sequencer.restore_expiry(b"later", Wall(5));
    while let Some(plan) = bench.advance(Wall(100)) {
        let takes_it = plan.changes.iter().any(|change| change.key == key("later"));
        assert_eq!(takes_it, plan.committed.time >= Wall(50), "at {:?}", plan.committed.time);
        bench.apply(&plan);
    }
    assert!(bench.map.0.is_empty());
}

#[test]
fn many_overtaken_entries_are_dropped_in_one_go() {
    let mut bench = Bench::new();
    for i in 0..10_000_u64 {
        bench.sequencer.restore_expiry(&i.to_be_bytes(), Wall(10 + i / 100));
    }
    bench.stored("last".to_owned(), Wall(200));
    assert_eq!(bench.advance(Wall(199)), None);
    assert_eq!(bench.sequencer.agenda.len(), 1);
}

struct Unreadable;

impl Latest for Unreadable {
    fn get(&self, _key: &[u8]) -> Result<Option<Value>, ReadError> {
        Err(ReadError::Unavailable("gone".to_owned()))
    }
}

#[test]
fn time_stands_still_while_the_newest_state_cannot_be_read() {
    let mut bench = Bench::new();
    bench.commit(blind(vec![put("a", Some(20))])).unwrap();
    let failed = bench.sequencer.advance(Wall(30), bench.mono, &Unreadable);
    assert_eq!(failed, Err(ReadError::Unavailable("gone".to_owned())));
    assert_eq!(bench.sequencer.time(), Wall(0));
    assert_eq!(bench.advance(Wall(30)).unwrap().changes.len(), 1);
    let failed = bench.sequencer.sequence(
        bench.mono,
        blind(vec![Write::Add { key: key("n"), delta: 1 }]),
        &Unreadable,
    );
    assert!(matches!(failed, Err(CommitError::Unavailable(_))), "{failed:?}");
}

/// Values that are large and elsewhere.
struct Heads<'a>(&'a Map);

impl Latest for Heads<'_> {
    fn get(&self, _key: &[u8]) -> Result<Option<Value>, ReadError> {
        Err(ReadError::Unavailable("that takes long".to_owned()))
    }

    fn expiry(&self, key: &[u8]) -> Result<Option<Wall>, ReadError> {
        self.0.expiry(key)
    }
}

#[test]
fn a_step_of_time_reads_no_values() {
    let mut bench = Bench::new();
    bench.commit(blind(vec![put("a", Some(20)), put("b", Some(30))])).unwrap();
    let step = bench.sequencer.advance(Wall(20), bench.mono, &Heads(&bench.map)).unwrap().unwrap();
    assert_eq!(step.changes.len(), 1);
}

fn named(number: u64) -> Transaction {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Transaction { id: Some(CommitId(id)), ..blind(vec![put("a", None)]) }
}

#[test]
fn a_known_name_is_an_empty_plan() {
    let mut bench = Bench::new();
    let first = bench.sequencer.sequence(bench.mono, named(1), &bench.map).unwrap();
    assert_eq!(first.id, named(1).id);
    bench.commit(blind(vec![put("b", None)])).unwrap();
    let again = bench.sequencer.sequence(bench.mono, named(1), &bench.map).unwrap();
    assert!(again.is_empty());
    assert_eq!((again.committed, again.id), (first.committed, None));
    assert_eq!(bench.sequencer.answered(&named(1).id.unwrap()), Some(first.committed));
    assert_eq!(bench.sequencer.revision(), 2);
}

#[test]
fn a_commit_that_changes_nothing_is_not_remembered() {
    let mut bench = Bench::new();
    let nothing = Transaction { writes: Vec::new(), ..named(1) };
    assert_eq!(bench.commit(nothing), Ok(0));
    assert_eq!(bench.commit(named(1)), Ok(1));
}

#[test]
fn names_are_forgotten_by_age_and_by_number() {
    let mut bench = Bench::new();
    let first = bench.commit(named(0)).unwrap();
    bench.mono = bench.mono.plus(COMMIT_ID_AGE_MAX);
    assert_eq!(bench.commit(named(0)), Ok(first));
    bench.mono = bench.mono.plus(Duration::from_nanos(1));
    bench.advance(Wall(1));
    assert_eq!(bench.sequencer.ids().count(), 0);
    assert_eq!(bench.commit(named(0)), Ok(first + 1), "a name that is forgotten is new");
    let many = u64::try_from(COMMIT_IDS_MAX).unwrap();
    for number in 1..many {
        bench.commit(named(number)).unwrap();
    }
    assert_eq!(bench.commit(named(0)), Ok(first + 1), "the last so many are known");
    bench.commit(named(many)).unwrap();
    assert_eq!(bench.sequencer.ids().count(), COMMIT_IDS_MAX);
    assert!(bench.commit(named(0)).unwrap() > first + 1, "one more, and the oldest goes");
}

#[test]
fn names_are_told_and_restored_in_their_order() {
    let mut bench = Bench::new();
    for number in 0..5 {
        bench.commit(named(number)).unwrap();
    }
    let told: Vec<(CommitId, Committed)> = bench.sequencer.ids().collect();
    assert!(told.is_sorted_by_key(|(_, committed)| committed.revision));
    let mut other = Bench::new();
    for (id, committed) in &told {
        other.sequencer.remember(*id, *committed, Mono(7));
    }
    other.sequencer.remember(told[0].0, told[0].1, Mono(8));
    assert_eq!(other.sequencer.ids().collect::<Vec<_>>(), told, "each of them once");
    assert_eq!(other.commit(named(3)), Ok(4));
    assert_eq!(other.sequencer.revision(), 0, "and nothing is done again");
}
