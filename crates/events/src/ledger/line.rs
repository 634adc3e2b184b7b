//! Letters in a row, and how many bytes they take.

use bytes::Bytes;
use outrigger_kernel::Mono;
use outrigger_keyspace::Stamp;
use std::collections::VecDeque;

/// A message in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) stamp: Stamp,
    /// Its number in the log; `None` for one that is parked, with which the log is done.
    pub(crate) ordinal: Option<u64>,
    /// How many attempts failed so far.
    pub(crate) failed: u32,
    /// Whether there once was no room to park it or to give it up; see [`super::Ledger`].
    pub(crate) rested: bool,
    /// When it came into memory.
    pub(crate) since: Mono,
    /// As stored.
    pub(crate) value: Bytes,
}

/// Letters that wait.
#[derive(Debug, Default)]
pub(super) struct Line {
    letters: VecDeque<Letter>,
    bytes: usize,
}

impl Line {
    pub(super) fn push_back(&mut self, letter: Letter) {
        self.bytes += letter.value.len();
        self.letters.push_back(letter);
    }

    pub(super) fn push_front(&mut self, letter: Letter) {
        self.bytes += letter.value.len();
        self.letters.push_front(letter);
    }

    pub(super) fn pop_front(&mut self) -> Option<Letter> {
        let letter = self.letters.pop_front()?;
        self.bytes -= letter.value.len();
        Some(letter)
    }

    pub(super) fn len(&self) -> usize {
        self.letters.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Since when the first waits.
    pub(super) fn since(&self) -> Option<Mono> {
        self.letters.front().map(|letter| letter.since)
    }
}
