//! Clients that run at once and write down what they saw.
//!
//! They yield between reading and committing, so that even an engine that never waits has its transactions overlap.

use super::{
    Outcome, Seen,
    append::{Op, Transaction as Appends},
};
use crate::{
    CommitError, CommitId, Committed, Direction, Durability, Entry, KeyRange, Level, Snapshot,
    Transaction, Value, Write,
    exam::{model::changes_something, room::Room},
};
use bytes::Bytes;
use futures_util::future::{join, join_all};
use outrigger_kernel::World;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

const KEYS: u64 = 6;

pub(super) struct Recorder<'a> {
    room: &'a Room,
    events: AtomicU64,
    /// Every value and list element is used once, so that a read tells whose write it saw.
    unique: AtomicU64,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(room: &'a Room) -> Self {
        Self { room, events: AtomicU64::new(0), unique: AtomicU64::new(1) }
    }

    /// Transactions of every kind of read and write.
    pub(super) async fn mixed(&self, clients: u32, each: u32) -> Vec<Seen> {
        let client = async |_: u32| {
            let mut seen = Vec::new();
            for _ in 0..each {
                seen.push(self.run(Vec::new(), async |tx| self.mix(tx).await).await.0);
            }
            seen
        };
        join_all((0..clients).map(client)).await.concat()
    }

    /// Transactions that read lists and append to lists, and a last one that reads them all.
    pub(super) async fn appending(&self, clients: u32, each: u32) -> (Vec<Seen>, Vec<Appends>) {
        let client = async |_: u32| {
            let mut both = Vec::new();
            for _ in 0..each {
                both.push(self.run(Vec::new(), async |tx| self.append(tx).await).await);
            }
            both
        };
        let mut both = join_all((0..clients).map(client)).await.concat();
        let read_all = async |tx: &mut Reading| {
            for key in 0..KEYS {
                let list = read_list(tx, key).await;
                tx.ops.push(Op::Read { key, list });
            }
        };
        both.push(self.run(Vec::new(), read_all).await);
        let (seen, ops): (Vec<Seen>, Vec<Vec<Op>>) = both.into_iter().unzip();
        let lists = seen.iter().zip(ops).map(|(seen, ops)| Appends {
            invoked: seen.invoked,
            answered: seen.answered,
            ops,
            outcome: seen.outcome.into(),
        });
        let lists = lists.collect();
        (seen, lists)
    }

    fn tick(&self) -> u64 {
        self.events.fetch_add(1, Ordering::SeqCst)
    }

    fn fresh(&self) -> u64 {
        self.unique.fetch_add(1, Ordering::SeqCst)
    }

    fn below(&self, bound: u64) -> u64 {
        self.room.clock.random() % bound
    }

    async fn pause(&self) {
        for _ in 0..self.below(4) {
            tokio::task::yield_now().await;
        }
    }

    async fn run(&self, ops: Vec<Op>, body: impl AsyncFnOnce(&mut Reading)) -> (Seen, Vec<Op>) {
        let invoked = self.tick();
        let snapshot = self.room.sure(self.room.engine.snapshot(Level::Linearizable).await);
        let transaction = Transaction::default();
        let mut tx = Reading { snapshot, transaction, reads: vec![], scans: vec![], ops };
        body(&mut tx).await;
        self.pause().await;
        let Reading { snapshot, mut transaction, reads, scans, ops } = tx;
        // After the reads: a snapshot that is far away may learn its revision from them.
        transaction.read_revision = snapshot.revision();
        let mut writes = transaction.writes.clone();
        writes.retain(changes_something);
        let (outcome, again) = self.send(transaction).await;
        let (read_revision, answered) = (snapshot.revision(), self.tick());
        (Seen { invoked, answered, read_revision, reads, scans, writes, outcome, again }, ops)
    }

    /// Commits; every fourth transaction relaxed, and every fourth by name and twice, the second time at some moment
    /// between the first call and a while after its answer.
    async fn send(&self, mut transaction: Transaction) -> (Outcome, Option<Outcome>) {
        if self.below(4) == 0 {
            transaction.durability = Durability::Relaxed;
        }
        if self.below(4) != 0 {
            return (outcome(self.room.engine.commit(transaction).await), None);
        }
        transaction.id = Some(CommitId::random(&*self.room.clock));
        let first = self.room.engine.commit(transaction.clone());
        let second = async {
            for _ in 0..self.below(12) {
                tokio::task::yield_now().await;
            }
            self.room.engine.commit(transaction).await
        };
        let (first, second) = join(first, second).await;
        match (outcome(first), outcome(second)) {
            // The second answer settles what the first one left open.
            (Outcome::Unknown, Outcome::Committed(at)) => (Outcome::Committed(at), None),
            (first, second) => (first, Some(second)),
        }
    }

    async fn mix(&self, tx: &mut Reading) {
        for _ in 0..self.below(3) {
            tx.get(&key(self.below(KEYS))).await;
            self.pause().await;
        }
        if self.below(4) == 0 {
            tx.scan(&KeyRange::new(key(self.below(KEYS)), key(self.below(KEYS)))).await;
        }
        for _ in 0..self.below(3) {
            let at = key(self.below(KEYS));
            let value = Bytes::from(format!("value {}", self.fresh()));
            let write = match self.below(8) {
                0 => Write::Delete { key: at },
                1 => Write::DeleteRange { range: KeyRange::new(at, key(self.below(KEYS))) },
                2 => Write::Add { key: Bytes::from_static(b"counter"), delta: 1 },
                3 => {
                    let prefix = Bytes::from_static(b"stamped/");
                    Write::PutStamped { prefix, suffix: at, value, expires_at: None }
                }
                _ => Write::Put { key: at, value, expires_at: None },
            };
            tx.transaction.writes.push(write);
        }
    }

    async fn append(&self, tx: &mut Reading) {
        let mut lists: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for _ in 0..=self.below(3) {
            let number = self.below(KEYS);
            if lists.contains_key(&number) {
                continue;
            }
            let list = read_list(tx, number).await;
            tx.ops.push(Op::Read { key: number, list: list.clone() });
            lists.insert(number, list);
            self.pause().await;
        }
        for (number, mut list) in lists {
            // Nothing, one element or two: a read that ends between the two saw half a transaction.
            for _ in 0..self.below(3) {
                let element = self.fresh();
                tx.ops.push(Op::Append { key: number, element });
                list.push(element);
                let bytes: Vec<u8> = list.iter().flat_map(|e| e.to_be_bytes()).collect();
                let write = Write::Put { key: key(number), value: bytes.into(), expires_at: None };
                tx.transaction.writes.push(write);
            }
        }
    }
}

fn outcome(answer: Result<Committed, CommitError>) -> Outcome {
    match answer {
        Ok(committed) => Outcome::Committed(committed),
        Err(CommitError::Unknown(_)) => Outcome::Unknown,
        Err(_) => Outcome::Refused,
    }
}

struct Reading {
    snapshot: Arc<dyn Snapshot>,
    transaction: Transaction,
    reads: Vec<(Bytes, Option<Value>)>,
    scans: Vec<(KeyRange, Vec<Entry>)>,
    ops: Vec<Op>,
}

impl Reading {
    async fn get(&mut self, key: &Bytes) -> Option<Value> {
        let found = self.snapshot.get(key).await;
        let found = found.unwrap_or_else(|error| panic!("history: a read failed: {error}"));
        self.transaction.read_keys.push(key.clone());
        self.reads.push((key.clone(), found.clone()));
        found
    }

    async fn scan(&mut self, range: &KeyRange) {
        let page = self.snapshot.scan(range, usize::MAX, Direction::Forward).await;
        let page = page.unwrap_or_else(|error| panic!("history: a scan failed: {error}"));
        self.transaction.read_ranges.push(range.clone());
        self.scans.push((range.clone(), page.entries));
    }
}

async fn read_list(tx: &mut Reading, number: u64) -> Vec<u64> {
    let bytes = tx.get(&key(number)).await.map(|value| value.bytes).unwrap_or_default();
    let (elements, _) = bytes.as_chunks::<8>();
    elements.iter().map(|element| u64::from_be_bytes(*element)).collect()
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("key {number}"))
}
