//! What a dispatcher knows about the messages of its group, and what it has to commit. Pure: no clock, no store.
//!
//! ```text
//!   log --read--> waiting --take--> in flight --+- acknowledged -> settled           (cursor)
//!                    ^                          +- given up -----> settled           (cursor + dead letter)
//!                    +-------- put back --------+
//!                                               +- failed -------> parked, and settled in the log
//!                                                                    |               (cursor + attempts + message)
//!            take <-- due <--load--  ... pause over ...  <-----------+
//! ```
//!
//! A message that failed is copied out of the log into the tables of failed messages, and the log is done with it: the
//! floor moves on, the front of the log can be deleted, and however long a poisonous message is retried, it holds up
//! nothing but itself.
//!
//! A store that is full has no room for copies and dead letters. Then these messages *rest*: they stay unsettled in the
//! log and are tried again out of memory, while acknowledgements go on being committed. So consumers can drain a store
//! that is full, and what is drained makes room.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | where each message is |
//! | `line.rs` | letters in a row |
//! | `changes.rs` | what is to be committed, and in which commits |

mod changes;
mod line;

pub(crate) use changes::Plan;
pub(crate) use line::Letter;

use crate::{
    ack_set::{AckSet, Span, pack},
    keys::{GroupKeys, stamped},
    records::{Attempts, Cursor},
};
use bytes::Bytes;
use changes::{Change, Changes};
use line::Line;
use outrigger_kernel::Mono;
use outrigger_keyspace::{Record, Stamp, Write};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A message in the tables of failed messages.
#[derive(Clone, Debug)]
struct Parked {
    failed: u32,
    first_failed_ms: u64,
    bytes: usize,
}

/// The messages of one group on one partition.
pub(crate) struct Ledger {
    keys: GroupKeys,
    settled: AckSet,
    /// How many messages the log is done with, since the beginning of the topic.
    settled_count: u64,
    /// Stored runs that the reader has not come to yet.
    restored: VecDeque<Span>,
    read_to: Stamp,
    next_ordinal: u64,
    waiting: Line,
    due: Line,
    /// Whose turn it is when both lines have letters.
    due_turn: bool,
    parked: BTreeMap<Stamp, Parked>,
    sleeping: BTreeSet<(Mono, Stamp)>,
    resting: BTreeMap<(Mono, Stamp), Letter>,
    /// Letters of the log that rest, or did and are not settled since; and their bytes. They count as read ahead, so
    /// that a store that is full does not have memory filled with what fails.
    rested: (usize, usize),
    changes: Changes,
    cursor_dirty: bool,
    /// Whether the commit under way has the cursor, and would have to be made up for.
    cursor_underway: bool,
}

impl Ledger {
    /// The ledger of a group that is done with what `cursor` says; `spans` are its runs, unpacked.
    pub(crate) fn new(keys: GroupKeys, cursor: &Cursor, spans: Vec<Span>) -> Self {
        let floor = Stamp::from(cursor.floor);
        Self {
            keys,
            settled: AckSet::new(floor),
            settled_count: cursor.settled,
            restored: spans.into(),
            read_to: floor,
            next_ordinal: 0,
            waiting: Line::default(),
            due: Line::default(),
            due_turn: false,
            parked: BTreeMap::new(),
            sleeping: BTreeSet::new(),
            resting: BTreeMap::new(),
            rested: (0, 0),
            changes: Changes::default(),
            cursor_dirty: false,
            cursor_underway: false,
        }
    }

    /// A message that was parked before a restart; it may be tried again at `due`.
    pub(crate) fn restore(&mut self, stamp: Stamp, record: &Attempts, due: Mono) {
        let parked = Parked {
            failed: record.failed,
            first_failed_ms: record.first_failed_ms,
            bytes: usize::try_from(record.message_bytes).unwrap_or(usize::MAX),
        };
        self.parked.insert(stamp, parked);
        self.sleeping.insert((due, stamp));
    }

    // Reading.

    /// Where to read on: after the first stamp, and before the second where there is one.
    pub(crate) fn unread(&self) -> (Stamp, Option<Stamp>) {
        (self.read_to, self.restored.front().map(|span| span.first))
    }

    /// Takes in the letters of the range [`Ledger::unread`] named, as far as they were read; `more` says that the range
    /// goes on. Answers whether there may be more to read at once.
    pub(crate) fn read(&mut self, letters: Vec<(Stamp, Bytes)>, more: bool, now: Mono) -> bool {
        for (stamp, value) in letters {
            let ordinal = Some(self.next_ordinal);
            self.next_ordinal += 1;
            self.read_to = stamp;
            self.waiting.push_back(Letter {
                stamp,
                ordinal,
                failed: 0,
                rested: false,
                since: now,
                value,
            });
        }
        if more {
            return true;
        }
        // The gap before a stored run is read; the run itself counts as one message that is settled already.
        let Some(span) = self.restored.pop_front() else { return false };
        self.settled.settle(self.next_ordinal, span);
        self.next_ordinal += 1;
        self.read_to = span.last;
        true
    }

    /// How many messages wait to be handed out.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len() + self.due.len()
    }

    /// How many messages were read ahead out of the log and are not in anybody's hands, and how many bytes they take.
    pub(crate) fn read_ahead(&self) -> (usize, usize) {
        let (changes, change_bytes) = self.changes.heavy();
        let (rested, rested_bytes) = self.rested;
        (self.waiting.len() + changes + rested, self.waiting.bytes() + change_bytes + rested_bytes)
    }

    /// How many failed messages are loaded again, and how many bytes they take.
    pub(crate) fn due(&self) -> (usize, usize) {
        (self.due.len(), self.due.bytes())
    }

    /// How many messages are in the tables of failed messages, including those in memory.
    pub(crate) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Since when the oldest waiting message waits.
    pub(crate) fn waiting_since(&self) -> Option<Mono> {
        [self.waiting.since(), self.due.since()].into_iter().flatten().min()
    }

    // Handing out and taking back.

    /// The next letter: in turn from the log and from those whose pause is over, so that neither can starve the other.
    pub(crate) fn take(&mut self) -> Option<Letter> {
        self.due_turn = !self.due_turn;
        let (first, second) = if self.due_turn {
            (&mut self.due, &mut self.waiting)
        } else {
            (&mut self.waiting, &mut self.due)
        };
        first.pop_front().or_else(|| second.pop_front())
    }

    /// Takes back letters that were handed out and not judged; they are the next to be handed out again.
    pub(crate) fn put_back(&mut self, letters: Vec<Letter>) {
        for letter in letters.into_iter().rev() {
            let line = if letter.ordinal.is_some() { &mut self.waiting } else { &mut self.due };
            line.push_front(letter);
        }
    }

    // Verdicts.

    /// The group is done with `letter`, and nothing else comes of it.
    pub(crate) fn settle(&mut self, letter: &Letter) {
        let note = self.changes.note();
        match letter.ordinal {
            Some(ordinal) => {
                self.settle_in_log(ordinal, letter);
                self.cursor_dirty = true;
            }
            None => {
                let writes = self.unpark(letter.stamp);
                self.changes.push(Change::light(note, writes));
            }
        }
    }

    /// The group is done with `letter`, after so many failed attempts, once `writes` are committed; where there is no
    /// room for them, it is tried again at `or_else`.
    pub(crate) fn give_up(
        &mut self,
        mut letter: Letter,
        failed: u32,
        mut writes: Vec<Write>,
        or_else: Mono,
    ) {
        let note = self.changes.note();
        if letter.ordinal.is_none() {
            writes.extend(self.unpark(letter.stamp));
        }
        letter.failed = failed;
        self.changes.push(Change::heavy(note, writes, letter, or_else, false));
    }

    /// `letter` failed once more, as `record` says; it may be tried again at `due`.
    pub(crate) fn park(&mut self, mut letter: Letter, mut record: Attempts, due: Mono) {
        let note = self.changes.note();
        let bytes = letter.value.len();
        let parked = self.parked.entry(letter.stamp).or_insert(Parked {
            failed: 0,
            first_failed_ms: record.first_failed_ms,
            bytes,
        });
        if parked.first_failed_ms == 0 {
            parked.first_failed_ms = record.first_failed_ms;
        }
        parked.failed = record.failed;
        letter.failed = record.failed;
        record.first_failed_ms = parked.first_failed_ms;
        record.message_bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let put = |prefix, value| Write::Put {
            key: stamped(prefix, letter.stamp),
            value,
            expires_at: None,
        };
        let mut writes = vec![put(&self.keys.attempts, record.encode_record())];
        if letter.ordinal.is_some() {
            writes.push(put(&self.keys.parked, letter.value.clone()));
        }
        self.changes.push(Change::heavy(note, writes, letter, due, true));
    }

    fn unpark(&mut self, stamp: Stamp) -> Vec<Write> {
        self.parked.remove(&stamp);
        vec![
            Write::Delete { key: stamped(&self.keys.attempts, stamp) },
            Write::Delete { key: stamped(&self.keys.parked, stamp) },
        ]
    }

    fn settle_in_log(&mut self, ordinal: u64, letter: &Letter) {
        self.settled.settle(ordinal, Span { first: letter.stamp, last: letter.stamp });
        self.settled_count += 1;
        if letter.rested {
            self.rested.0 -= 1;
            self.rested.1 -= letter.value.len();
        }
    }

    // Waking up who paused.

    /// When the next message may be tried again.
    pub(crate) fn next_due(&self) -> Option<Mono> {
        let sleeping = self.sleeping.first().map(|&(due, _)| due);
        let resting = self.resting.first_key_value().map(|(&(due, _), _)| due);
        [sleeping, resting].into_iter().flatten().min()
    }

    /// Makes messages due whose pause is over: those that rest at once; of those that are parked, answers up to `limit`
    /// that take up to `bytes` and one more. Each of these is to be loaded and given back with [`Ledger::load`].
    pub(crate) fn wake(&mut self, now: Mono, limit: usize, mut bytes: usize) -> Vec<Stamp> {
        while let Some(entry) = self.resting.first_entry()
            && entry.key().0 <= now
        {
            let letter = entry.remove();
            self.due.push_back(Letter { since: now, ..letter });
        }
        let mut stamps = Vec::new();
        while stamps.len() < limit
            && bytes > 0
            && let Some(&(due, stamp)) = self.sleeping.first()
            && due <= now
        {
            self.sleeping.pop_first();
            bytes = bytes.saturating_sub(self.parked.get(&stamp).map_or(0, |parked| parked.bytes));
            stamps.push(stamp);
        }
        stamps
    }

    /// Takes in a parked message that was loaded; `None` when it is not there any more.
    pub(crate) fn load(&mut self, stamp: Stamp, value: Option<Bytes>, now: Mono) {
        let Some(parked) = self.parked.get(&stamp) else { return };
        match value {
            Some(value) => {
                let failed = parked.failed;
                self.due.push_back(Letter {
                    stamp,
                    ordinal: None,
                    failed,
                    rested: false,
                    since: now,
                    value,
                });
            }
            None => {
                let note = self.changes.note();
                let writes = self.unpark(stamp);
                self.changes.push(Change::light(note, writes));
            }
        }
    }

    /// Puts a woken message back to sleep until `due`, because it could not be loaded.
    pub(crate) fn sleep(&mut self, stamp: Stamp, due: Mono) {
        self.sleeping.insert((due, stamp));
    }

    // Committing.

    /// The number of the last verdict.
    pub(crate) fn noted(&self) -> u64 {
        self.changes.noted()
    }

    /// How many messages the log is done with, since the beginning of the topic.
    pub(crate) fn settled_count(&self) -> u64 {
        self.settled_count
    }

    /// Whether something is to be committed; `room` says that changes which need room may be tried.
    pub(crate) fn is_dirty(&self, room: bool) -> bool {
        self.cursor_dirty || self.changes.any(room)
    }

    /// What waits to be committed: changes with writes of their own, and their bytes.
    pub(crate) fn backlog(&self) -> (usize, usize) {
        self.changes.backlog()
    }

    /// The next commit, of up to `limit` changes. Either [`Ledger::saved`] or [`Ledger::refused`] has to follow before
    /// another plan is asked for.
    pub(crate) fn plan(&mut self, room: bool, limit: usize) -> Plan {
        let mut plan = self.changes.take(room, limit);
        // On a copy: whether these are settled is known only when the commit is.
        let mut settled = self.settled.clone();
        let mut count = self.settled_count;
        for (ordinal, stamp) in self.changes.underway() {
            settled.settle(ordinal, Span { first: stamp, last: stamp });
            count += 1;
        }
        plan.floor = settled.floor();
        self.cursor_underway = std::mem::take(&mut self.cursor_dirty);
        if self.cursor_underway || count > self.settled_count {
            let floor = settled.floor();
            let spans = settled.spans().chain(self.restored.iter().copied());
            let runs = pack(floor, spans);
            let cursor = Cursor { floor: floor.into(), runs, settled: count };
            let (key, value) = (self.keys.cursor.clone(), cursor.encode_record());
            plan.writes.push(Write::Put { key, value, expires_at: None });
        }
        plan
    }

    /// The last plan is durable.
    pub(crate) fn saved(&mut self) {
        for change in self.changes.done() {
            let Some(heavy) = change.heavy else { continue };
            if let Some(ordinal) = heavy.letter.ordinal {
                self.settle_in_log(ordinal, &heavy.letter);
            }
            if heavy.parks {
                self.sleeping.insert((heavy.due, heavy.letter.stamp));
            }
        }
    }

    /// The last plan was refused. What needs room in it is tried again later, out of memory; the rest of it is in the next
    /// plan. Where there is no room for `all` that needs some, whatever else needs room shares that fate.
    pub(crate) fn refused(&mut self, all: bool) {
        self.cursor_dirty |= self.cursor_underway;
        for heavy in self.changes.back(all) {
            let (mut letter, due) = (heavy.letter, heavy.due);
            if letter.ordinal.is_some() {
                self.parked.remove(&letter.stamp);
                if !std::mem::replace(&mut letter.rested, true) {
                    self.rested.0 += 1;
                    self.rested.1 += letter.value.len();
                }
                self.resting.insert((due, letter.stamp), letter);
            } else {
                let (failed, bytes) = (letter.failed, letter.value.len());
                let parked = Parked { failed, first_failed_ms: 0, bytes };
                self.parked.entry(letter.stamp).or_insert(parked).failed = failed;
                self.sleeping.insert((due, letter.stamp));
            }
        }
    }
}
