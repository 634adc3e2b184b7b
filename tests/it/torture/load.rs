//! Clients that append to lists over HTTP and write down what they were told, and the judgement of it all.

use anyhow::{Result, ensure};
use outrigger_keyspace::exam::history::append::{self, Fate, Op, Transaction};
use outrigger_tests::http::Connection;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

const WRITERS: u64 = 8;
const LISTS: u64 = 8;
const STORE: &str = "/v1.0/state/statestore";
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// What clients saw, counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) committed: usize,
    pub(super) refused: usize,
    pub(super) unknown: usize,
    pub(super) reads: usize,
}

impl Figures {
    pub(super) fn add(&mut self, other: Self) {
        self.committed += other.committed;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.reads += other.reads;
    }

    pub(super) fn describe(&self) -> String {
        format!(
            "{} commits acknowledged and none lost, {} refused, {} without an answer, {} reads",
            self.committed, self.refused, self.unknown, self.reads
        )
    }
}

/// A history in the making: lists of its own, and everything that is done to them.
pub(super) struct Bout {
    ports: Vec<u16>,
    number: usize,
    clock: AtomicU64,
    over: AtomicBool,
    history: Mutex<Vec<Transaction>>,
}

/// A list as it was read, and what to name it by when it is written.
struct Found {
    list: Vec<u64>,
    etag: String,
}

impl Bout {
    /// Makes empty lists. Ports are those of nodes on one folder; clients are spread over them.
    pub(super) fn new(ports: &[u16], number: usize) -> Result<Self> {
        let bout = Self {
            ports: ports.to_vec(),
            number,
            clock: AtomicU64::new(0),
            over: AtomicBool::new(false),
            history: Mutex::default(),
        };
        let mut connection = Connection::open(ports[0])?;
        for list in 0..LISTS {
            let body = json!([{ "key": bout.name(list), "value": [] }]).to_string();
            let answer = connection.request("POST", STORE, &JSON, body.as_bytes())?;
            ensure!(answer.status == 204, "a list cannot be made: {}", answer.text());
        }
        Ok(bout)
    }

    fn name(&self, list: u64) -> String {
        format!("bout{}-list{list}", self.number)
    }

    /// The next moment of the history's clock.
    pub(super) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Does `work` while all clients are at it. Keep it short: reads of whole lists take the square of what is appended.
    pub(super) fn under_load<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                scope.spawn(move || self.write(writer));
            }
            let outcome = work();
            self.over.store(true, Ordering::Release);
            outcome
        })
    }

    fn write(&self, writer: u64) {
        let mut dice = writer;
        let mut number = 0;
        let port = self.ports[usize::try_from(writer).unwrap_or(0) % self.ports.len()];
        while !self.over.load(Ordering::Acquire) {
            let Ok(mut connection) = Connection::open(port) else {
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            while !self.over.load(Ordering::Acquire) {
                number += 1;
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1 + number);
                let element = writer << 32 | number;
                if self.one(&mut connection, dice >> 33, element).is_err() {
                    break;
                }
            }
        }
    }

    /// One transaction: read one list or two, and mostly append to all that was read.
    fn one(&self, connection: &mut Connection, dice: u64, element: u64) -> Result<()> {
        let first = dice % LISTS;
        let second = (dice >> 8) % LISTS;
        let lists =
            if dice & 0x80 == 0 || second == first { vec![first] } else { vec![first, second] };
        let invoked = self.tick();
        let mut found = BTreeMap::new();
        for list in lists {
            found.insert(list, self.read(connection, list)?);
        }
        let reading = dice >> 16 & 3 == 0;
        if reading {
            // Two reads are not one moment, so each is a transaction for itself.
            let answered = self.tick();
            let one = |(key, found): (u64, Found)| {
                let ops = vec![Op::Read { key, list: found.list }];
                Transaction { invoked, answered, ops, outcome: Fate::Committed }
            };
            self.note(found.into_iter().map(one));
            return Ok(());
        }
        let operations: Vec<Value> =
            found.iter().map(|(list, found)| self.upsert(*list, found, element)).collect();
        let body = json!({ "operations": operations }).to_string();
        let path = format!("{STORE}/transaction");
        let answer = connection.request("POST", &path, &JSON, body.as_bytes());
        let outcome = match &answer {
            Ok(answer) if answer.status == 204 => Fate::Committed,
            Ok(answer) if answer.text().contains("etag") => Fate::Refused,
            _ => Fate::Unknown,
        };
        // What a refused transaction had read may never have been there at one moment.
        let believed = outcome == Fate::Committed;
        let reads = found.into_iter().flat_map(|(key, found)| {
            let read = believed.then_some(Op::Read { key, list: found.list });
            read.into_iter().chain([Op::Append { key, element }])
        });
        let ops = reads.collect();
        self.note([Transaction { invoked, answered: self.tick(), ops, outcome }]);
        answer.map(drop)
    }

    fn upsert(&self, list: u64, found: &Found, element: u64) -> Value {
        let mut value = found.list.clone();
        value.push(element);
        json!({
            "operation": "upsert",
            "request": {
                "key": self.name(list),
                "value": value,
                "etag": found.etag,
                "options": { "concurrency": "first-write" },
            },
        })
    }

    fn read(&self, connection: &mut Connection, list: u64) -> Result<Found> {
        let path = format!("{STORE}/{}", self.name(list));
        let answer = connection.request("GET", &path, &[], b"")?;
        ensure!(answer.status == 200, "list {list}: {} {}", answer.status, answer.text());
        let list =
            answer.json().as_array().map(|list| list.iter().filter_map(Value::as_u64).collect());
        let etag = answer.header("etag").map(str::to_owned);
        Ok(Found { list: list.unwrap_or_default(), etag: etag.unwrap_or_default() })
    }

    fn note(&self, transactions: impl IntoIterator<Item = Transaction>) {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).extend(transactions);
    }

    /// Reads every list from every node once more, and asks the checker.
    pub(super) fn judge(&self) -> Result<Figures> {
        for port in &self.ports {
            let last = self.read_all(*port)?;
            self.note(last);
        }
        let history = self.history();
        blame(&history)?;
        Ok(count(&history))
    }

    /// Reads every list once more, from another node: everything is as it was when this bout was judged.
    pub(super) fn judge_later(&self, port: u16) -> Result<()> {
        let mut history = self.history();
        history.extend(self.read_all(port)?);
        blame(&history)
    }

    /// Asks the checker about a copy of the store that was taken at some moment of `cut`: what was answered before is
    /// in it, what was under way may be, what began later is not its business.
    pub(super) fn judge_cut(&self, cut: Range<u64>, port: u16) -> Result<()> {
        let mut history = self.history();
        history.retain(|transaction| {
            let reads_only = transaction.ops.iter().all(|op| matches!(op, Op::Read { .. }));
            transaction.answered < cut.start || transaction.invoked < cut.end && !reads_only
        });
        for transaction in history.iter_mut().filter(|t| t.answered >= cut.start) {
            if transaction.outcome == Fate::Committed {
                transaction.outcome = Fate::Unknown;
                transaction.ops.retain(|op| matches!(op, Op::Append { .. }));
            }
        }
        history.extend(self.read_all(port)?);
        blame(&history)
    }

    fn read_all(&self, port: u16) -> Result<Vec<Transaction>> {
        let mut connection = Connection::open(port)?;
        let one = |list| {
            let invoked = self.tick();
            let found = self.read(&mut connection, list)?;
            let ops = vec![Op::Read { key: list, list: found.list }];
            Ok(Transaction { invoked, answered: self.tick(), ops, outcome: Fate::Committed })
        };
        (0..LISTS).map(one).collect()
    }

    fn history(&self) -> Vec<Transaction> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn blame(history: &[Transaction]) -> Result<()> {
    let anomalies = append::check(history);
    ensure!(
        anomalies.is_empty(),
        "{} anomalies, the first ones: {:#?}",
        anomalies.len(),
        &anomalies[..anomalies.len().min(3)]
    );
    Ok(())
}

fn count(history: &[Transaction]) -> Figures {
    let mut figures = Figures::default();
    for transaction in history {
        let appends = transaction.ops.iter().any(|op| matches!(op, Op::Append { .. }));
        match transaction.outcome {
            Fate::Committed if appends => figures.committed += 1,
            Fate::Committed => figures.reads += 1,
            Fate::Refused => figures.refused += 1,
            Fate::Unknown => figures.unknown += 1,
        }
    }
    figures
}

/// The judge must be able to see a loss: a history with one acknowledged append taken out of every list is refused.
#[test]
fn a_lost_append_is_seen() {
    let read = |invoked, list: Vec<u64>| Transaction {
        invoked,
        answered: invoked + 1,
        ops: vec![Op::Read { key: 0, list }],
        outcome: Fate::Committed,
    };
    let append = |invoked, element| Transaction {
        invoked,
        answered: invoked + 1,
        ops: vec![Op::Append { key: 0, element }],
        outcome: Fate::Committed,
    };
    let good = [append(0, 1), append(2, 2), read(4, vec![1, 2])];
    assert!(append::check(&good).is_empty());
    let lost = [append(0, 1), append(2, 2), read(4, vec![1])];
    assert!(!append::check(&lost).is_empty());
}
