//! What is to be committed: changes in two queues, and how many of them go into one commit.
//!
//! Acknowledgements of messages in the log are no changes: they are in the cursor. A change has writes of its own. It is
//! *light* when it only deletes, and *heavy* when it needs room: the copy of a failed message, or a dead letter. Changes
//! are of different messages, so their order does not matter.

use super::Letter;
use crate::limits::{IN_FLIGHT_MAX, MESSAGE_BYTES_MAX, WINDOW_MAX};
use outrigger_kernel::Mono;
use outrigger_keyspace::{Stamp, Write, limits::TRANSACTION_BYTES_MAX};
use std::collections::VecDeque;

/// A commit takes changes up to this many bytes, and one more.
const COMMIT_BYTES: usize = 2 * 1024 * 1024;
/// A cursor is never larger than this: it has at most one run more than messages are in flight or read ahead, and a run
/// takes at most 26 bytes.
const CURSOR_BYTES: usize = 26 * (IN_FLIGHT_MAX + WINDOW_MAX);
// The change beyond the budget still has to fit: a message with its notes and keys, and the cursor.
const _: () =
    assert!(COMMIT_BYTES + CURSOR_BYTES + MESSAGE_BYTES_MAX + 64 * 1024 < TRANSACTION_BYTES_MAX);
/// What the key space counts for a key besides its bytes.
const KEY_OVERHEAD: usize = 32;

/// Something to commit.
pub(super) struct Change {
    /// The verdict it follows from.
    note: u64,
    writes: Vec<Write>,
    bytes: usize,
    pub(super) heavy: Option<Heavy>,
}

/// What becomes of the message of a heavy change.
pub(super) struct Heavy {
    pub(super) letter: Letter,
    /// When it may be tried again: after it was parked, or because there was no room.
    pub(super) due: Mono,
    /// Whether it is parked; given up otherwise.
    pub(super) parks: bool,
}

impl Change {
    pub(super) fn light(note: u64, writes: Vec<Write>) -> Self {
        Self { note, bytes: size(&writes), writes, heavy: None }
    }

    pub(super) fn heavy(
        note: u64,
        writes: Vec<Write>,
        letter: Letter,
        due: Mono,
        parks: bool,
    ) -> Self {
        let heavy = Some(Heavy { letter, due, parks });
        Self { note, bytes: size(&writes), writes, heavy }
    }
}

/// What the key space will count for `writes`.
fn size(writes: &[Write]) -> usize {
    let sizes = writes.iter().map(|write| match write {
        Write::Put { key, value, .. } => key.len() + value.len(),
        Write::Delete { key } | Write::Add { key, .. } => key.len() + 8,
        Write::PutStamped { prefix, suffix, value, .. } => {
            prefix.len() + Stamp::BYTES + suffix.len() + value.len()
        }
        Write::DeleteRange { range } => {
            range.start.len() + range.end.as_ref().map_or(0, bytes::Bytes::len)
        }
    });
    sizes.map(|bytes| bytes + KEY_OVERHEAD).sum()
}

/// The writes of one commit, the condition aside.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) writes: Vec<Write>,
    /// The floor that this commit makes durable.
    pub(crate) floor: Stamp,
    /// All verdicts up to this one are durable with it.
    pub(crate) covers: u64,
    /// Whether there is nothing in it that needs room.
    pub(crate) makes_room: bool,
}

/// Changes that wait, and those under way.
#[derive(Default)]
pub(super) struct Changes {
    light: VecDeque<Change>,
    heavy: VecDeque<Change>,
    /// Of both.
    bytes: usize,
    underway: Vec<Change>,
    noted: u64,
}

impl Changes {
    /// Numbers the next verdict.
    pub(super) fn note(&mut self) -> u64 {
        self.noted += 1;
        self.noted
    }

    pub(super) fn noted(&self) -> u64 {
        self.noted
    }

    pub(super) fn push(&mut self, change: Change) {
        self.bytes += change.bytes;
        let queue = if change.heavy.is_some() { &mut self.heavy } else { &mut self.light };
        queue.push_back(change);
    }

    pub(super) fn any(&self, room: bool) -> bool {
        !self.light.is_empty() || (room && !self.heavy.is_empty())
    }

    pub(super) fn backlog(&self) -> (usize, usize) {
        (self.light.len() + self.heavy.len(), self.bytes)
    }

    /// How many heavy changes wait, and the bytes of all that wait.
    pub(super) fn heavy(&self) -> (usize, usize) {
        (self.heavy.len(), self.bytes)
    }

    /// Takes the changes of one commit, up to `limit` of them.
    pub(super) fn take(&mut self, room: bool, limit: usize) -> Plan {
        let mut plan = Plan { makes_room: true, ..Plan::default() };
        let mut bytes = 0;
        while self.underway.len() < limit && bytes <= COMMIT_BYTES {
            let heavy = if room { &mut self.heavy } else { &mut VecDeque::new() };
            let Some(mut change) = self.light.pop_front().or_else(|| heavy.pop_front()) else {
                break;
            };
            bytes += change.bytes;
            self.bytes -= change.bytes;
            plan.makes_room &= change.heavy.is_none();
            // A heavy change that is refused starts over from its letter, a light one from its writes.
            let writes = if change.heavy.is_some() {
                std::mem::take(&mut change.writes)
            } else {
                change.writes.clone()
            };
            plan.writes.extend(writes);
            self.underway.push(change);
        }
        let first = [self.light.front(), self.heavy.front()].into_iter().flatten();
        let first = first.map(|change| change.note).min();
        plan.covers = first.map_or(self.noted, |note| note.saturating_sub(1));
        plan
    }

    /// What the log is done with once the commit under way is durable.
    pub(super) fn underway(&self) -> impl Iterator<Item = (u64, Stamp)> {
        let heavy = self.underway.iter().filter_map(|change| change.heavy.as_ref());
        heavy.filter_map(|heavy| Some((heavy.letter.ordinal?, heavy.letter.stamp)))
    }

    /// The changes under way, which are durable.
    pub(super) fn done(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.underway)
    }

    /// The heavy ones of those under way, which are not to be, and with `all` those that wait as well; the light ones
    /// under way are the first of the next commit.
    pub(super) fn back(&mut self, all: bool) -> Vec<Heavy> {
        let mut refused = Vec::new();
        for change in std::mem::take(&mut self.underway).into_iter().rev() {
            match change.heavy {
                Some(heavy) => refused.push(heavy),
                None => {
                    self.bytes += change.bytes;
                    self.light.push_front(change);
                }
            }
        }
        if all {
            for change in std::mem::take(&mut self.heavy) {
                self.bytes -= change.bytes;
                refused.extend(change.heavy);
            }
        }
        refused
    }
}
