//! The judge who knows revisions: replays commits in revision order on the naive model.
//!
//! Every read must equal the model at the revision it was read at, and, for a transaction that was committed, still at
//! the revision just before its own: that is serializability, with the revisions as witness. And revisions must agree
//! with real time: who began after an answer must see what was answered. Linear in the length of the history.

use super::{Outcome, Seen};
use crate::{Entry, Value, Write, exam::model::Model};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};

/// Something that cannot happen on a correct engine. Transactions are named by their place in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Two commits were given the same revision.
    RevisionTwice {
        /// One of the two.
        transaction: usize,
    },
    /// A later commit carries an earlier time.
    TimeWentBack {
        /// The later one.
        transaction: usize,
    },
    /// A read differs from what the commits up to its revision amount to.
    WrongRead {
        /// Who read.
        transaction: usize,
        /// Where.
        key: Bytes,
    },
    /// A commit was accepted although something it read had changed.
    ChangedSinceRead {
        /// The commit.
        transaction: usize,
        /// What had changed.
        key: Bytes,
    },
    /// A transaction read at, or committed as, a revision before one that was answered before it began.
    BehindRealTime {
        /// The transaction.
        transaction: usize,
    },
    /// A named commit that was sent twice was answered in two ways.
    AnsweredInTwoWays {
        /// The transaction.
        transaction: usize,
    },
}

/// What is wrong with the history; nothing, if it is serializable in the order of its revisions and of real time.
#[must_use]
pub fn check(history: &[Seen]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let commits = in_order(history, &mut faults);
    check_snapshots(history, &commits, &mut faults);
    check_decisions(history, &commits, &mut faults);
    check_real_time(history, &mut faults);
    check_repeats(history, &mut faults);
    faults
}

/// Transactions that happened, by revision.
fn in_order(history: &[Seen], faults: &mut Vec<Fault>) -> BTreeMap<u64, usize> {
    let seen_values = revisions_of_values(history);
    let mut commits = BTreeMap::new();
    for (transaction, seen) in history.iter().enumerate() {
        let revision = match seen.outcome {
            // Without writes there is no commit to order: its reads are judged at its snapshot.
            _ if seen.writes.is_empty() => continue,
            Outcome::Refused => continue,
            Outcome::Committed(committed) => committed.revision,
            // It happened if and only if somebody saw something of it.
            Outcome::Unknown => {
                let Some(revision) = seen.writes.iter().find_map(|w| seen_values.get(value(w)?))
                else {
                    continue;
                };
                *revision
            }
        };
        if commits.insert(revision, transaction).is_some() {
            faults.push(Fault::RevisionTwice { transaction });
        }
    }
    let mut last = None;
    for &transaction in commits.values() {
        if let Outcome::Committed(committed) = history[transaction].outcome {
            if last.is_some_and(|last| committed.time < last) {
                faults.push(Fault::TimeWentBack { transaction });
            }
            last = Some(committed.time);
        }
    }
    commits
}

fn value(write: &Write) -> Option<&Bytes> {
    match write {
        Write::Put { value, .. } | Write::PutStamped { value, .. } => Some(value),
        _ => None,
    }
}

fn revisions_of_values(history: &[Seen]) -> HashMap<&Bytes, u64> {
    let single = history.iter().flat_map(|seen| seen.reads.iter().filter_map(|(_, v)| v.as_ref()));
    let scanned =
        history.iter().flat_map(|seen| seen.scans.iter()).flat_map(|(_, entries)| entries);
    single.chain(scanned.map(|e| &e.value)).map(|value| (&value.bytes, value.revision)).collect()
}

/// Every transaction, happened or not, must have read what the commits up to its revision amount to.
fn check_snapshots(history: &[Seen], commits: &BTreeMap<u64, usize>, faults: &mut Vec<Fault>) {
    let mut readers: Vec<usize> = (0..history.len()).collect();
    readers.sort_by_key(|transaction| history[*transaction].read_revision);
    let mut model = Model::default();
    let mut ahead = commits.iter().peekable();
    for transaction in readers {
        let seen = &history[transaction];
        while let Some((revision, writer)) = ahead.next_if(|(r, _)| **r <= seen.read_revision) {
            replay(&mut model, &history[*writer], *revision);
        }
        if let Some(key) = difference(&model, seen) {
            faults.push(Fault::WrongRead { transaction, key });
        }
    }
}

/// What a commit read must still be so just before it.
fn check_decisions(history: &[Seen], commits: &BTreeMap<u64, usize>, faults: &mut Vec<Fault>) {
    let mut model = Model::default();
    for (revision, &transaction) in commits {
        let seen = &history[transaction];
        if seen.read_revision >= *revision {
            faults.push(Fault::BehindRealTime { transaction });
        }
        if let Some(key) = difference(&model, seen) {
            faults.push(Fault::ChangedSinceRead { transaction, key });
        }
        replay(&mut model, seen, *revision);
    }
}

/// A commit that fails on the model was accepted with writes that cannot be applied; what was read then tells.
fn replay(model: &mut Model, seen: &Seen, revision: u64) {
    if let Outcome::Committed(committed) = seen.outcome {
        model.advance(committed.time);
    }
    if model.clone().apply(&seen.writes, revision).is_ok() {
        let _applied: Result<(), _> = model.apply(&seen.writes, revision);
    }
}

fn difference(model: &Model, seen: &Seen) -> Option<Bytes> {
    let wrong = |(key, found): &&(Bytes, Option<Value>)| model.map.get(key) != found.as_ref();
    if let Some((key, _)) = seen.reads.iter().find(wrong) {
        return Some(key.clone());
    }
    seen.scans.iter().find_map(|(range, found)| {
        let inside = model.map.iter().filter(|(key, _)| range.contains(key));
        let expected: Vec<Entry> =
            inside.map(|(k, v)| Entry { key: k.clone(), value: v.clone() }).collect();
        (expected != *found).then(|| range.start.clone())
    })
}

/// Who began after an answer must read at its revision or later, and commit later.
fn check_real_time(history: &[Seen], faults: &mut Vec<Fault>) {
    let mut answers: Vec<(u64, u64)> = history
        .iter()
        .filter_map(|seen| match seen.outcome {
            Outcome::Committed(committed) => Some((seen.answered, committed.revision)),
            _ => None,
        })
        .collect();
    answers.sort_unstable();
    let mut beginners: Vec<usize> = (0..history.len()).collect();
    beginners.sort_by_key(|transaction| history[*transaction].invoked);
    let (mut answers, mut known) = (answers.into_iter().peekable(), 0);
    for transaction in beginners {
        let seen = &history[transaction];
        while let Some((_, revision)) = answers.next_if(|(at, _)| *at < seen.invoked) {
            known = known.max(revision);
        }
        let behind = match seen.outcome {
            Outcome::Committed(at) if !seen.writes.is_empty() => at.revision <= known,
            _ => false,
        };
        if behind || seen.read_revision < known {
            faults.push(Fault::BehindRealTime { transaction });
        }
    }
}

/// Whoever commits is told once and for all. That it happened once only shows in what others read.
fn check_repeats(history: &[Seen], faults: &mut Vec<Fault>) {
    for (transaction, seen) in history.iter().enumerate() {
        // Without writes nothing happened that could be remembered: the answer is where it was judged.
        let told = match (seen.outcome, seen.again) {
            _ if seen.writes.is_empty() => continue,
            (_, None) | (Outcome::Unknown, _) | (_, Some(Outcome::Unknown)) => continue,
            (first, Some(again)) => first == again,
        };
        if !told {
            faults.push(Fault::AnsweredInTwoWays { transaction });
        }
    }
}
