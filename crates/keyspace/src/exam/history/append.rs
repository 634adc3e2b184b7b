//! The judge who knows nothing of the engine: finds isolation anomalies in transactions over lists that only grow.
//!
//! A list that is read whole tells the order of all appends to it before. From that follow edges between transactions:
//! *ww* (appended right before), *wr* (read what the other appended), *rw* (read what was there before the other
//! appended), and *rt* (answered before the other began). A cycle is an anomaly, named after the edges it needs. The
//! method is that of Kingsbury and Alvaro, "Elle: inferring isolation anomalies from experimental observations" (2020),
//! the names those of Adya's thesis (1999).

use super::graph::{Edge, Graph};
use std::collections::{BTreeMap, HashMap, HashSet};

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Puts `element` at the end of the list at `key`. An element is appended at most once in a history.
    Append {
        /// Which list.
        key: u64,
        /// What.
        element: u64,
    },
    /// Read the list at `key`, as it was before this transaction's own appends.
    Read {
        /// Which list.
        key: u64,
        /// What it held.
        list: Vec<u64>,
    },
}

/// What the client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It happened.
    Committed,
    /// It did not happen.
    Refused,
    /// Nobody knows: it happened if somebody saw it.
    Unknown,
}

impl From<super::Outcome> for Fate {
    fn from(outcome: super::Outcome) -> Self {
        match outcome {
            super::Outcome::Committed(_) => Self::Committed,
            super::Outcome::Refused => Self::Refused,
            super::Outcome::Unknown => Self::Unknown,
        }
    }
}

/// One transaction of a history.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// When its client began, on a clock that counts events.
    pub invoked: u64,
    /// When it had its answer.
    pub answered: u64,
    /// What it did, in order.
    pub ops: Vec<Op>,
    /// What became of it.
    pub outcome: Fate,
}

/// Something a serializable, real-time ordered system never shows. Transactions are named by their place in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// A read saw an element that nobody appended.
    Garbage {
        /// Who read.
        reader: usize,
        /// What.
        element: u64,
    },
    /// A read saw an element twice.
    DuplicateAppend {
        /// Who read.
        reader: usize,
        /// What.
        element: u64,
    },
    /// A read saw its own transaction's append.
    Internal {
        /// Who read.
        reader: usize,
    },
    /// G1a: a read saw an append of a transaction that was refused.
    AbortedRead {
        /// Who read.
        reader: usize,
        /// Whose append.
        writer: usize,
    },
    /// G1b: a read saw half of a transaction's appends to one list.
    IntermediateRead {
        /// Who read.
        reader: usize,
        /// Whose appends.
        writer: usize,
    },
    /// Two reads of a list of which neither begins with the other.
    IncompatibleOrder {
        /// Which list.
        key: u64,
        /// Who read one of them.
        reader: usize,
    },
    /// A committed append that a read which began after its answer does not see.
    LostAppend {
        /// Who appended.
        writer: usize,
        /// What.
        element: u64,
    },
    /// G0: a cycle of writes alone.
    WriteCycle(Vec<usize>),
    /// G1c: a cycle of writes and reads of writes.
    CircularInformation(Vec<usize>),
    /// G-single: a cycle with exactly one read of what another was about to change (lost update, read skew).
    SingleAntiDependency(Vec<usize>),
    /// G2: a cycle with more of them (write skew).
    AntiDependencyCycle(Vec<usize>),
    /// A cycle that needs real time: serializable, but in an order that contradicts the clock on the wall.
    RealTimeCycle(Vec<usize>),
}

/// What is wrong with the history; nothing, if it is strictly serializable as far as can be told.
#[must_use]
pub fn check(history: &[Transaction]) -> Vec<Anomaly> {
    let index = Index::new(history);
    let mut anomalies = Vec::new();
    index.check_reads(&mut anomalies);
    let orders = index.orders(&mut anomalies);
    index.check_lost(&orders, &mut anomalies);
    let mut graph = Graph::new(history.len());
    index.link(&orders, &mut graph);
    link_real_time(&index, &mut graph);
    anomalies.extend(graph.cycles());
    anomalies
}

struct Index<'a> {
    history: &'a [Transaction],
    /// Who appended an element to a list.
    writers: HashMap<(u64, u64), usize>,
    /// Elements that are not their transaction's last to that list.
    intermediate: HashSet<(u64, u64)>,
    happened: Vec<bool>,
}

impl<'a> Index<'a> {
    fn new(history: &'a [Transaction]) -> Self {
        let mut writers = HashMap::new();
        let mut intermediate = HashSet::new();
        for (writer, transaction) in history.iter().enumerate() {
            let mut last = HashMap::new();
            for op in &transaction.ops {
                if let Op::Append { key, element } = op {
                    writers.insert((*key, *element), writer);
                    if let Some(before) = last.insert(*key, *element) {
                        intermediate.insert((*key, before));
                    }
                }
            }
        }
        let mut happened: Vec<bool> =
            history.iter().map(|t| t.outcome == Fate::Committed).collect();
        let mut index = Self { history, writers, intermediate, happened: Vec::new() };
        for (_, key, list) in index.all_reads(&happened.clone()) {
            for element in list {
                if let Some(&writer) = index.writers.get(&(key, *element))
                    && history[writer].outcome == Fate::Unknown
                {
                    happened[writer] = true;
                }
            }
        }
        index.happened = happened;
        index
    }

    fn all_reads(&self, of: &[bool]) -> Vec<(usize, u64, &'a [u64])> {
        let mut found = Vec::new();
        for (reader, transaction) in self.history.iter().enumerate().filter(|(i, _)| of[*i]) {
            for op in &transaction.ops {
                if let Op::Read { key, list } = op {
                    found.push((reader, *key, &list[..]));
                }
            }
        }
        found
    }

    fn reads(&self) -> Vec<(usize, u64, &'a [u64])> {
        self.all_reads(&self.happened)
    }

    fn check_reads(&self, anomalies: &mut Vec<Anomaly>) {
        for (reader, key, list) in self.reads() {
            let mut seen = HashSet::new();
            for &element in list {
                if !seen.insert(element) {
                    anomalies.push(Anomaly::DuplicateAppend { reader, element });
                }
                match self.writers.get(&(key, element)) {
                    None => anomalies.push(Anomaly::Garbage { reader, element }),
                    Some(&writer) if writer == reader => {
                        anomalies.push(Anomaly::Internal { reader });
                    }
                    Some(&writer) if self.history[writer].outcome == Fate::Refused => {
                        anomalies.push(Anomaly::AbortedRead { reader, writer });
                    }
                    Some(_) => {}
                }
            }
            if let Some(&last) = list.last()
                && self.intermediate.contains(&(key, last))
                && let Some(&writer) = self.writers.get(&(key, last))
            {
                anomalies.push(Anomaly::IntermediateRead { reader, writer });
            }
        }
    }

    /// The order of appends per list: the longest read, of which all others must be the beginning.
    fn orders(&self, anomalies: &mut Vec<Anomaly>) -> BTreeMap<u64, &'a [u64]> {
        let mut orders: BTreeMap<u64, &[u64]> = BTreeMap::new();
        for (_, key, list) in self.reads() {
            let longest = orders.entry(key).or_default();
            if list.len() > longest.len() {
                *longest = list;
            }
        }
        for (reader, key, list) in self.reads() {
            if !orders[&key].starts_with(list) {
                anomalies.push(Anomaly::IncompatibleOrder { key, reader });
            }
        }
        orders
    }

    fn check_lost(&self, orders: &BTreeMap<u64, &[u64]>, anomalies: &mut Vec<Anomaly>) {
        let mut last_read: HashMap<u64, u64> = HashMap::new();
        for (reader, key, _) in self.reads() {
            let began = last_read.entry(key).or_default();
            *began = self.history[reader].invoked.max(*began);
        }
        let present: HashSet<(u64, u64)> = orders
            .iter()
            .flat_map(|(key, list)| list.iter().map(|element| (*key, *element)))
            .collect();
        let mut lost: Vec<_> = self
            .writers
            .iter()
            .filter(|(at, writer)| {
                let answered = self.history[**writer].answered;
                self.history[**writer].outcome == Fate::Committed
                    && !present.contains(at)
                    && last_read.get(&at.0).is_some_and(|began| *began > answered)
            })
            .map(|((_, element), writer)| Anomaly::LostAppend {
                writer: *writer,
                element: *element,
            })
            .collect();
        lost.sort_by_key(|anomaly| format!("{anomaly:?}"));
        anomalies.extend(lost);
    }

    fn link(&self, orders: &BTreeMap<u64, &[u64]>, graph: &mut Graph) {
        let writer = |key: u64, element: &u64| {
            self.writers.get(&(key, *element)).copied().filter(|writer| self.happened[*writer])
        };
        for (&key, order) in orders {
            for pair in order.windows(2) {
                if let (Some(before), Some(after)) = (writer(key, &pair[0]), writer(key, &pair[1]))
                {
                    graph.link(before, after, Edge::WriteWrite);
                }
            }
        }
        for (reader, key, list) in self.reads() {
            if let Some(before) = list.last().and_then(|element| writer(key, element)) {
                graph.link(before, reader, Edge::WriteRead);
            }
            let order = orders[&key];
            if let Some(after) = order.get(list.len()).and_then(|element| writer(key, element)) {
                graph.link(reader, after, Edge::ReadWrite);
            }
        }
    }
}

/// Real time as a chain of instants: an answer leads to its instant, an instant to whoever begins after it. So the
/// number of edges stays linear.
fn link_real_time(index: &Index<'_>, graph: &mut Graph) {
    let known = |(i, _): &(usize, &Transaction)| index.happened[*i];
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (number, transaction) in index.history.iter().enumerate().filter(known) {
        events.push((transaction.invoked, true, number));
        // Nobody answered the unknown ones: they may happen arbitrarily late.
        if transaction.outcome == Fate::Committed {
            events.push((transaction.answered, false, number));
        }
    }
    events.sort_unstable();
    let mut instant = None;
    for (_, begins, number) in events {
        if begins {
            if let Some(instant) = instant {
                graph.link(instant, number, Edge::RealTime);
            }
        } else {
            let next = graph.node();
            graph.link(number, next, Edge::RealTime);
            if let Some(instant) = instant {
                graph.link(instant, next, Edge::RealTime);
            }
            instant = Some(next);
        }
    }
}
