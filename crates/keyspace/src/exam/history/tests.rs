//! The judges judged: every kind of bad history by hand, good ones with one entry changed, and good ones left alone.

use super::{
    Outcome, Seen,
    append::{self, Fate, Op, Transaction},
    replay,
};
use crate::{Committed, Value, Write};
use bytes::Bytes;
use outrigger_kernel::{Wall, World};
use outrigger_sim::SimWorld;

/// `r1:2,3` reads list 1 as [2, 3], `a1:4` appends 4 to it. All transactions are concurrent unless told otherwise.
fn tx(steps: &str) -> Transaction {
    let ops = steps.split_whitespace().map(|step| {
        let (key, rest) = step[1..].split_once(':').unwrap();
        let key = key.parse().unwrap();
        let numbers: Vec<u64> =
            rest.split(',').filter(|n| !n.is_empty()).map(|n| n.parse().unwrap()).collect();
        match &step[..1] {
            "r" => Op::Read { key, list: numbers },
            _ => Op::Append { key, element: numbers[0] },
        }
    });
    Transaction { invoked: 0, answered: 1_000, ops: ops.collect(), outcome: Fate::Committed }
}

fn at(invoked: u64, answered: u64, steps: &str) -> Transaction {
    Transaction { invoked, answered, ..tx(steps) }
}

fn with(outcome: Fate, steps: &str) -> Transaction {
    Transaction { outcome, ..tx(steps) }
}

fn names(history: &[Transaction]) -> Vec<String> {
    let mut names: Vec<String> = append::check(history)
        .iter()
        .map(|anomaly| format!("{anomaly:?}").split(['(', ' ']).next().unwrap().to_owned())
        .collect();
    names.dedup();
    names
}

#[test]
fn good_histories_are_left_alone() {
    let histories = [
        vec![],
        vec![tx("r1: a1:1"), tx("r1:1 a1:2"), tx("r1:1,2")],
        // Two that did not see each other, on different lists.
        vec![tx("r1: a1:1"), tx("r2: a2:2"), tx("r1:1 r2:2")],
        // Refused and unknown ones leave nothing behind, or everything.
        vec![with(Fate::Refused, "a1:1"), tx("r1: a1:2"), tx("r1:2")],
        vec![with(Fate::Unknown, "a1:1"), tx("r1:")],
        vec![with(Fate::Unknown, "r1: a1:1 a2:2"), tx("r1:1 r2:2")],
        // Two appends of one transaction, seen together.
        vec![tx("a1:1 a1:2"), tx("r1:1,2")],
        // Reads may be stale as long as nothing contradicts the clock.
        vec![at(0, 10, "a1:1"), at(5, 20, "r1:"), at(30, 40, "r1:1")],
        // An append that nobody could have seen is not lost.
        vec![at(0, 10, "r1:"), at(20, 30, "a1:1")],
    ];
    for history in histories {
        assert_eq!(append::check(&history), [], "{history:?}");
    }
}

#[test]
fn every_bad_history_is_named() {
    let cases: [(&str, Vec<Transaction>); 20] = [
        ("Garbage", vec![tx("r1:7")]),
        ("DuplicateAppend", vec![tx("a1:1"), tx("r1:1,1")]),
        ("Internal", vec![tx("r1:1 a1:1")]),
        ("AbortedRead", vec![with(Fate::Refused, "a1:1"), tx("r1:1")]),
        ("AbortedRead", vec![tx("a1:1"), with(Fate::Refused, "a1:2"), tx("r1:1,2")]),
        ("IntermediateRead", vec![tx("a1:1 a1:2"), tx("r1:1"), tx("r1:1,2")]),
        ("IncompatibleOrder", vec![tx("a1:1"), tx("a1:2"), tx("r1:1,2"), tx("r1:2")]),
        ("IncompatibleOrder", vec![tx("a1:1"), tx("a1:2"), tx("r1:1,2"), tx("r1:2,1")]),
        ("LostAppend", vec![at(0, 1, "a1:1"), at(2, 3, "r1:")]),
        ("LostAppend", vec![at(0, 1, "a1:1"), at(0, 1, "a1:2"), at(2, 3, "r1:2")]),
        // Two transactions that append to two lists in opposite orders.
        ("WriteCycle", vec![tx("a1:1 a2:2"), tx("a1:3 a2:4"), tx("r1:1,3"), tx("r2:4,2")]),
        (
            "WriteCycle",
            vec![
                tx("a1:1 a2:2"),
                tx("a2:3 a3:4"),
                tx("a3:5 a1:6"),
                tx("r1:6,1"),
                tx("r2:2,3"),
                tx("r3:4,5"),
            ],
        ),
        // Each read what the other wrote.
        ("CircularInformation", vec![tx("a1:1 r2:2"), tx("a2:2 r1:1")]),
        ("CircularInformation", vec![tx("a1:1 r3:3"), tx("r1:1 a2:2"), tx("r2:2 a3:3")]),
        // Read skew: one list from before the other transaction, one from after it.
        ("SingleAntiDependency", vec![tx("a1:1 a2:2"), tx("r1:1 r2:"), tx("r2:2")]),
        // Lost update: both read the empty list, both appended, both appends are there.
        ("SingleAntiDependency", vec![tx("r1: a1:1"), tx("r1: a1:2"), tx("r1:1,2")]),
        // Write skew: each read what the other then appended to.
        ("AntiDependencyCycle", vec![tx("r1: a2:2"), tx("r2: a1:1"), tx("r1:1 r2:2")]),
        (
            "AntiDependencyCycle",
            vec![tx("r1: a2:2"), tx("r2: a3:3"), tx("r3: a1:1"), tx("r1:1 r2:2 r3:3")],
        ),
        // Stale: began after the append was answered, and did not see it; a later reader saw it.
        ("LostAppend", vec![at(0, 1, "a1:1"), at(2, 3, "r1:"), at(4, 5, "r2:")]),
        ("RealTimeCycle", vec![at(0, 1, "a1:1"), at(2, 3, "r1:"), at(4, 5, "r1:1")]),
    ];
    for (name, history) in cases {
        assert!(names(&history).contains(&name.to_owned()), "{name}: {:?}", names(&history));
    }
}

/// A serial history of reads and appends on four lists, and what a client would have recorded of it.
fn serial(seed: u64, count: u64) -> (Vec<Transaction>, Vec<Seen>) {
    let world = SimWorld::new(seed);
    let mut lists: Vec<(Vec<u64>, Option<Value>)> = vec![(Vec::new(), None); 4];
    let (mut appends, mut seen) = (Vec::new(), Vec::new());
    for number in 0..count {
        let key = world.random() % 4;
        let (list, value) = &mut lists[usize::try_from(key).unwrap()];
        let name = Bytes::from(format!("key {key}"));
        let mut ops = vec![Op::Read { key, list: list.clone() }];
        let reads = vec![(name.clone(), value.clone())];
        let revision = number + 1;
        list.push(number);
        ops.push(Op::Append { key, element: number });
        let bytes = Bytes::from(format!("{list:?}"));
        *value = Some(Value { bytes: bytes.clone(), revision, expires_at: None });
        let committed = Committed { revision, time: Wall(number) };
        appends.push(at(2 * number, 2 * number + 1, ""));
        appends.last_mut().unwrap().ops = ops;
        seen.push(Seen {
            invoked: 2 * number,
            answered: 2 * number + 1,
            read_revision: number,
            reads,
            scans: Vec::new(),
            writes: vec![Write::Put { key: name, value: bytes, expires_at: None }],
            outcome: Outcome::Committed(committed),
            again: None,
        });
    }
    (appends, seen)
}

#[tokio::test]
async fn one_changed_read_is_always_found() {
    let (mut tried, mut found) = (0, 0);
    for seed in 0..400 {
        let world = SimWorld::new(seed ^ 0x5eed);
        let (good, _) = serial(seed, 40);
        assert_eq!(append::check(&good), []);
        let victim = usize::try_from(world.random() % 40).unwrap();
        let mut bad = good;
        let Op::Read { list, .. } = &mut bad[victim].ops[0] else { continue };
        let changed = match world.random() % 4 {
            0 => list.pop().is_some(),
            1 if list.len() > 1 => {
                list.swap(0, 1);
                true
            }
            2 if !list.is_empty() => {
                list.remove(0);
                true
            }
            _ => {
                list.push(39);
                true
            }
        };
        if changed {
            tried += 1;
            found += u32::from(!append::check(&bad).is_empty());
        }
    }
    assert!(tried > 300, "{tried} tried");
    assert_eq!(found, tried);
}

#[tokio::test]
async fn one_changed_record_is_always_found_by_replay() {
    for seed in 0..400 {
        let world = SimWorld::new(seed ^ 0x5eed);
        let (_, good) = serial(seed, 40);
        assert_eq!(replay::check(&good), []);
        let victim = usize::try_from(1 + world.random() % 39).unwrap();
        let mut bad = good;
        let at = &mut bad[victim];
        match world.random() % 8 {
            6 => at.again = Some(Outcome::Refused),
            7 => {
                let at_revision = Committed { revision: 99, time: Wall(99) };
                at.again = Some(Outcome::Committed(at_revision));
            }
            0 => at.read_revision -= 1,
            1 => match &mut at.reads[0].1 {
                Some(value) => value.revision -= 1,
                absent => {
                    let bytes = Bytes::from_static(b"?");
                    *absent = Some(Value { bytes, revision: 1, expires_at: None });
                }
            },
            2 => at.reads[0].1 = Some(Value { bytes: Bytes::new(), revision: 1, expires_at: None }),
            3 => {
                if let Outcome::Committed(committed) = &mut at.outcome {
                    committed.revision -= 1;
                }
            }
            4 => {
                if let Outcome::Committed(committed) = &mut at.outcome {
                    committed.time = Wall(1_000);
                }
                bad.push(bad[0].clone());
            }
            _ => {
                let next =
                    bad.iter().skip(victim + 1).any(|s| s.reads[0].0 == bad[victim].reads[0].0);
                if !next {
                    continue;
                }
                bad[victim].outcome = Outcome::Refused;
            }
        }
        assert_ne!(replay::check(&bad), [], "seed {seed}: {:?}", bad[victim]);
    }
}

#[test]
fn an_unknown_outcome_counts_if_somebody_saw_it() {
    let name = Bytes::from_static(b"a");
    let value = Value { bytes: Bytes::from_static(b"v"), revision: 1, expires_at: None };
    let writer = Seen {
        invoked: 0,
        answered: 1,
        read_revision: 0,
        reads: Vec::new(),
        scans: Vec::new(),
        writes: vec![Write::Put {
            key: name.clone(),
            value: value.bytes.clone(),
            expires_at: None,
        }],
        outcome: Outcome::Unknown,
        again: None,
    };
    let reader = |revision, found: Option<Value>| Seen {
        read_revision: revision,
        reads: vec![(name.clone(), found)],
        writes: Vec::new(),
        outcome: Outcome::Refused,
        ..writer.clone()
    };
    assert_eq!(replay::check(&[writer.clone(), reader(1, Some(value.clone()))]), []);
    assert_eq!(replay::check(&[writer.clone(), reader(1, None)]), []);
    let lost = [writer.clone(), reader(1, Some(value)), reader(1, None)];
    assert_ne!(replay::check(&lost), []);
}
