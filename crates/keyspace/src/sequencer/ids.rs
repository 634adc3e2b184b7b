//! The names of recent commits and how they were answered.

use crate::{
    CommitId, Committed,
    hashing::Hashing,
    limits::{COMMIT_ID_AGE_MAX, COMMIT_IDS_MAX},
};
use outrigger_kernel::Mono;
use std::collections::{HashMap, VecDeque};

#[derive(Debug, Default)]
pub(super) struct Ids {
    answers: HashMap<CommitId, Committed, Hashing>,
    /// By age, the oldest first.
    order: VecDeque<(Mono, CommitId)>,
}

impl Ids {
    pub(super) fn get(&self, id: &CommitId) -> Option<Committed> {
        self.answers.get(id).copied()
    }

    pub(super) fn remember(&mut self, id: CommitId, committed: Committed, mono: Mono) {
        if self.answers.insert(id, committed).is_none() {
            self.order.push_back((mono, id));
        }
        self.forget(mono);
    }

    /// Lets go of what is too old, or too much.
    pub(super) fn forget(&mut self, now: Mono) {
        while let Some((at, id)) = self.order.front() {
            let aged = now.since(*at) > COMMIT_ID_AGE_MAX;
            if !aged && self.order.len() <= COMMIT_IDS_MAX {
                break;
            }
            self.answers.remove(id);
            self.order.pop_front();
        }
    }

    /// All of them, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (CommitId, Committed)> {
        let answered = |(_, id): &(Mono, CommitId)| Some((*id, self.get(id)?));
        self.order.iter().filter_map(answered)
    }
}
