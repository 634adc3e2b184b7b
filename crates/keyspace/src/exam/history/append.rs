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
    let reads = index.reads();
    index.check_reads(&reads, &index.sound_orders(&reads), &mut anomalies);
    let orders = index.orders(&mut anomalies);
    index.check_lost(&orders, &mut anomalies);
    let mut graph = Graph::new(history.len());
    index.link(&orders, &mut graph);
    link_real_time(&index, &mut graph);
    anomalies.extend(graph.cycles());
    anomalies
}

/// Lists by their keys, and where in them each element stands.
type Orders<'a> = HashMap<u64, (&'a [u64], HashMap<u64, usize>)>;

/// The longest read of each list.
fn longest<'a>(reads: &[(usize, u64, &'a [u64])]) -> HashMap<u64, &'a [u64]> {
    let mut longest: HashMap<u64, &[u64]> = HashMap::new();
    for (_, key, list) in reads {
        let known = longest.entry(*key).or_default();
        if list.len() > known.len() {
            *known = list;
        }
    }
    longest
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
        let reads = index.all_reads(&happened.clone());
        let longest = longest(&reads);
        let others = reads.into_iter().map(|(_, key, list)| (key, list));
        let others = others.filter(|(key, list)| !longest[key].starts_with(list));
        for (key, list) in longest.iter().map(|(key, list)| (*key, *list)).chain(others) {
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

    /// Of every list that holds nothing strange, its longest read, and where in it each element stands.
    fn sound_orders(&self, reads: &[(usize, u64, &'a [u64])]) -> Orders<'a> {
        let is_sound = |key: u64, element: &u64| {
            let writer = self.writers.get(&(key, *element));
            writer.is_some_and(|writer| self.history[*writer].outcome != Fate::Refused)
        };
        let mut orders = Orders::new();
        for (key, list) in longest(reads) {
            let places: HashMap<u64, usize> =
                list.iter().enumerate().map(|(place, element)| (*element, place)).collect();
            if places.len() == list.len() && list.iter().all(|element| is_sound(key, element)) {
                orders.insert(key, (list, places));
            }
        }
        orders
    }

    /// What is wrong with single reads. Reads that are the beginning of a list of `sound` are not gone through one by one:
    /// all reads together are as long as the square of what was appended.
    fn check_reads(
        &self,
        reads: &[(usize, u64, &'a [u64])],
        sound: &Orders<'a>,
        anomalies: &mut Vec<Anomaly>,
    ) {
        for &(reader, key, list) in reads {
            match sound.get(&key).filter(|(order, _)| order.starts_with(list)) {
                Some((_, places)) => {
                    for op in &self.history[reader].ops {
                        if let Op::Append { key: its, element } = op
                            && *its == key
                            && places.get(element).is_some_and(|place| *place < list.len())
                        {
                            anomalies.push(Anomaly::Internal { reader });
                        }
                    }
                }
                None => self.check_elements(reader, key, list, anomalies),
            }
            if let Some(&last) = list.last()
                && self.intermediate.contains(&(key, last))
                && let Some(&writer) = self.writers.get(&(key, last))
            {
                anomalies.push(Anomaly::IntermediateRead { reader, writer });
            }
        }
    }

    fn check_elements(&self, reader: usize, key: u64, list: &[u64], anomalies: &mut Vec<Anomaly>) {
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

#[cfg(test)]
mod tests {
    use super::{Fate, Index, Op, Orders, Transaction};

    fn one(ops: Vec<Op>, outcome: Fate) -> Transaction {
        Transaction { invoked: 0, answered: 1, ops, outcome }
    }

    /// Reads that are not gone through are judged like those that are.
    #[test]
    fn beginnings_are_judged_like_whole_lists() {
        let append = |element, outcome| one(vec![Op::Append { key: 1, element }], outcome);
        let read =
            |list: &[u64]| one(vec![Op::Read { key: 1, list: list.to_vec() }], Fate::Committed);
        let own = |element, list: &[u64]| {
            let list = list.to_vec();
            one(vec![Op::Read { key: 1, list }, Op::Append { key: 1, element }], Fate::Committed)
        };
        let mut found = 0;
        for strange in [&[][..], &[1], &[9], &[4]] {
            let mut whole = vec![1, 2, 3, 5, 6];
            whole.extend(strange);
            let history = [
                append(1, Fate::Committed),
                append(2, Fate::Unknown),
                append(3, Fate::Committed),
                append(4, Fate::Refused),
                own(5, &[1, 2, 3]),
                own(6, &[1, 2, 3, 5, 6]),
                read(&whole),
                read(&whole[..4]),
                read(&[2, 1]),
                read(&[]),
            ];
            let index = Index::new(&history);
            assert!(index.happened[1] && !index.happened[3]);
            let reads = index.reads();
            let (mut with, mut without) = (Vec::new(), Vec::new());
            let sound = index.sound_orders(&reads);
            assert_eq!(sound.len(), usize::from(strange.is_empty()));
            index.check_reads(&reads, &sound, &mut with);
            index.check_reads(&reads, &Orders::new(), &mut without);
            assert_eq!(with, without);
            found += with.len();
        }
        assert!(found >= 7, "{found}");
    }
}
