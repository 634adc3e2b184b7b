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
//! Everything that changes the store is a [`Change`] in one queue. A commit takes as many as fit, and the cursor that
//! goes with them: a message counts as settled exactly from the commit that says what became of it. A parked message is
//! loaded again only after the commit that parked it.

use crate::{
    ack_set::{AckSet, Span},
    keys::{GroupKeys, stamped},
    limits::MESSAGE_BYTES_MAX,
    records::{Attempts, Cursor},
};
use bytes::Bytes;
use outrigger_kernel::Mono;
use outrigger_keyspace::{Record, Stamp, Write};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A commit takes changes up to this many bytes, and one more.
const COMMIT_BYTES: usize = 2 * 1024 * 1024;
/// A commit takes at most this many changes that have writes of their own.
const COMMIT_CHANGES: usize = 2_000;
// A park or a dead letter beyond the budget still has to fit, with the cursor.
const _: () = assert!(
    COMMIT_BYTES + MESSAGE_BYTES_MAX + 1024 * 1024
        < outrigger_keyspace::limits::TRANSACTION_BYTES_MAX
);

/// A message in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) stamp: Stamp,
    /// Its number in the log; `None` for one that was parked, with which the log is done.
    pub(crate) ordinal: Option<u64>,
    /// How many attempts failed so far.
    pub(crate) failed: u32,
    /// When it came into memory.
    pub(crate) since: Mono,
    /// As stored.
    pub(crate) value: Bytes,
}

/// A message that failed and waits.
#[derive(Clone, Debug)]
struct Parked {
    failed: u32,
    first_failed_ms: u64,
}

/// Something to commit.
struct Change {
    /// Which of the verdicts it follows from; see [`Ledger::noted`].
    note: u64,
    writes: Vec<Write>,
    bytes: usize,
    /// What the log is done with once this is committed.
    settles: Option<(u64, Stamp)>,
    /// What may be loaded again, and when, once this is committed.
    arms: Option<(Mono, Stamp)>,
}

/// The writes of one commit, the condition aside.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) writes: Vec<Write>,
    /// The floor that this commit makes durable.
    pub(crate) floor: Stamp,
    /// All verdicts up to this one are durable with it.
    pub(crate) covers: u64,
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
    waiting: VecDeque<Letter>,
    waiting_bytes: usize,
    due: VecDeque<Letter>,
    /// Whose turn it is when both queues have letters.
    due_turn: bool,
    parked: BTreeMap<Stamp, Parked>,
    sleeping: BTreeSet<(Mono, Stamp)>,
    changes: VecDeque<Change>,
    changes_bytes: usize,
    cursor_dirty: bool,
    noted: u64,
    /// What the commit under way will arm.
    arming: Vec<(Mono, Stamp)>,
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
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            due: VecDeque::new(),
            due_turn: false,
            parked: BTreeMap::new(),
            sleeping: BTreeSet::new(),
            changes: VecDeque::new(),
            changes_bytes: 0,
            cursor_dirty: false,
            noted: 0,
            arming: Vec::new(),
        }
    }

    /// A message that was parked before a restart; it may be tried again at `due`.
    pub(crate) fn restore(&mut self, stamp: Stamp, record: &Attempts, due: Mono) {
        let parked = Parked { failed: record.failed, first_failed_ms: record.first_failed_ms };
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
            self.waiting_bytes += value.len();
            let ordinal = Some(self.next_ordinal);
            self.next_ordinal += 1;
            self.read_to = stamp;
            self.waiting.push_back(Letter { stamp, ordinal, failed: 0, since: now, value });
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

    /// How many of those came from the log, and how many bytes they take.
    pub(crate) fn read_ahead(&self) -> (usize, usize) {
        (self.waiting.len(), self.waiting_bytes)
    }

    /// How many messages are in the tables of failed messages, including those in memory.
    pub(crate) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Since when the oldest waiting message waits.
    pub(crate) fn waiting_since(&self) -> Option<Mono> {
        let front = |queue: &VecDeque<Letter>| queue.front().map(|letter| letter.since);
        [front(&self.waiting), front(&self.due)].into_iter().flatten().min()
    }

    // Handing out and taking back.

    /// The next letter: in turn from the log and from those whose pause is over, so that neither can starve the other.
    pub(crate) fn take(&mut self) -> Option<Letter> {
        self.due_turn = !self.due_turn;
        if self.due_turn
            && let Some(letter) = self.due.pop_front()
        {
            return Some(letter);
        }
        let Some(letter) = self.waiting.pop_front() else { return self.due.pop_front() };
        self.waiting_bytes -= letter.value.len();
        Some(letter)
    }

    /// Takes back letters that were handed out and not judged; they are the next to be handed out again.
    pub(crate) fn put_back(&mut self, letters: Vec<Letter>) {
        for letter in letters.into_iter().rev() {
            if letter.ordinal.is_some() {
                self.waiting_bytes += letter.value.len();
                self.waiting.push_front(letter);
            } else {
                self.due.push_front(letter);
            }
        }
    }

    // Verdicts.

    /// The group is done with `letter`, and nothing else comes of it.
    pub(crate) fn settle(&mut self, letter: &Letter) {
        self.noted += 1;
        match letter.ordinal {
            Some(ordinal) => self.settle_in_log(ordinal, letter.stamp),
            None => {
                let writes = self.unpark(letter.stamp);
                self.change(writes, 0, None, None);
            }
        }
    }

    /// The group is done with `letter` once `writes`, `bytes` long, are committed.
    pub(crate) fn settle_with(&mut self, letter: &Letter, mut writes: Vec<Write>, bytes: usize) {
        self.noted += 1;
        if letter.ordinal.is_none() {
            writes.extend(self.unpark(letter.stamp));
        }
        self.change(writes, bytes, letter.ordinal.map(|ordinal| (ordinal, letter.stamp)), None);
    }

    /// `letter` failed once more; it may be tried again at `due`, which `record` says in wall-clock terms.
    pub(crate) fn park(&mut self, letter: &Letter, mut record: Attempts, due: Mono) {
        self.noted += 1;
        let parked = self
            .parked
            .entry(letter.stamp)
            .or_insert(Parked { failed: 0, first_failed_ms: record.first_failed_ms });
        parked.failed = record.failed;
        record.first_failed_ms = parked.first_failed_ms;
        let key = stamped(&self.keys.attempts, letter.stamp);
        let value = record.encode_record();
        let mut writes = vec![Write::Put { key, value, expires_at: None }];
        let mut bytes = 0;
        if letter.ordinal.is_some() {
            let key = stamped(&self.keys.parked, letter.stamp);
            bytes = letter.value.len();
            writes.push(Write::Put { key, value: letter.value.clone(), expires_at: None });
        }
        let settles = letter.ordinal.map(|ordinal| (ordinal, letter.stamp));
        self.change(writes, bytes, settles, Some((due, letter.stamp)));
    }

    fn unpark(&mut self, stamp: Stamp) -> Vec<Write> {
        self.parked.remove(&stamp);
        vec![
            Write::Delete { key: stamped(&self.keys.attempts, stamp) },
            Write::Delete { key: stamped(&self.keys.parked, stamp) },
        ]
    }

    fn change(
        &mut self,
        writes: Vec<Write>,
        bytes: usize,
        settles: Option<(u64, Stamp)>,
        arms: Option<(Mono, Stamp)>,
    ) {
        self.changes_bytes += bytes;
        self.changes.push_back(Change { note: self.noted, writes, bytes, settles, arms });
    }

    fn settle_in_log(&mut self, ordinal: u64, stamp: Stamp) {
        self.settled.settle(ordinal, Span { first: stamp, last: stamp });
        self.settled_count += 1;
        self.cursor_dirty = true;
    }

    // Waking up the parked.

    /// When the next parked message may be tried again.
    pub(crate) fn next_due(&self) -> Option<Mono> {
        self.sleeping.first().map(|&(due, _)| due)
    }

    /// Takes up to `limit` messages whose pause is over; each is to be loaded and given back with [`Ledger::load`].
    pub(crate) fn wake(&mut self, now: Mono, limit: usize) -> Vec<Stamp> {
        let mut stamps = Vec::new();
        while stamps.len() < limit
            && let Some(&(due, stamp)) = self.sleeping.first()
            && due <= now
        {
            self.sleeping.pop_first();
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
                self.due.push_back(Letter { stamp, ordinal: None, failed, since: now, value });
            }
            None => {
                let writes = self.unpark(stamp);
                self.change(writes, 0, None, None);
            }
        }
    }

    /// Puts a woken message back to sleep until `due`, because it could not be loaded.
    pub(crate) fn sleep(&mut self, stamp: Stamp, due: Mono) {
        self.sleeping.insert((due, stamp));
    }

    // Committing.

    /// How many verdicts there were.
    pub(crate) fn noted(&self) -> u64 {
        self.noted
    }

    /// How many messages the log is done with, since the beginning of the topic.
    pub(crate) fn settled_count(&self) -> u64 {
        self.settled_count
    }

    /// Whether something is to be committed.
    pub(crate) fn is_dirty(&self) -> bool {
        self.cursor_dirty || !self.changes.is_empty()
    }

    /// What waits to be committed: changes with writes of their own, and their bytes.
    pub(crate) fn backlog(&self) -> (usize, usize) {
        (self.changes.len(), self.changes_bytes)
    }

    /// The next commit. Its writes are to be committed before another plan is asked for, however often it takes; then
    /// [`Ledger::saved`] is to be called.
    pub(crate) fn plan(&mut self) -> Plan {
        let (mut writes, mut bytes) = (Vec::new(), 0);
        for _ in 0..COMMIT_CHANGES {
            if bytes > COMMIT_BYTES {
                break;
            }
            let Some(change) = self.changes.pop_front() else { break };
            bytes += change.bytes;
            self.changes_bytes -= change.bytes;
            writes.extend(change.writes);
            self.arming.extend(change.arms);
            if let Some((ordinal, stamp)) = change.settles {
                self.settle_in_log(ordinal, stamp);
            }
        }
        if std::mem::take(&mut self.cursor_dirty) {
            let key = self.keys.cursor.clone();
            writes.push(Write::Put { key, value: self.cursor().encode_record(), expires_at: None });
        }
        let covers = self.changes.front().map_or(self.noted, |change| change.note - 1);
        Plan { writes, floor: self.settled.floor(), covers }
    }

    /// The last plan is durable.
    pub(crate) fn saved(&mut self) {
        self.sleeping.extend(self.arming.drain(..));
    }

    fn cursor(&self) -> Cursor {
        let floor = self.settled.floor();
        let spans = self.settled.spans().chain(self.restored.iter().copied());
        let runs = crate::ack_set::pack(floor, spans);
        Cursor { floor: floor.into(), runs, settled: self.settled_count }
    }
}
