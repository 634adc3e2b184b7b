//! What can go wrong while the power is on: which operation it befalls, and how.

use std::collections::BTreeMap;

/// The kinds of operations, each counted for itself from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`outrigger_kernel::disk::DiskFile::read_at`].
    Read,
    /// [`outrigger_kernel::disk::DiskFile::write_at`].
    Write,
    /// [`outrigger_kernel::disk::DiskFile::set_length`].
    SetLength,
    /// [`outrigger_kernel::disk::DiskFile::sync`].
    Sync,
    /// [`outrigger_kernel::disk::Disk::sync_folder`].
    SyncFolder,
    /// Creating, renaming or removing a name.
    Name,
    /// Opening a file, asking for its length or for the names.
    Look,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The operation fails and does nothing. A sync that fails so leaves the changes to be synced another time.
    Fails,
    /// A sync fails as on Linux: some of the changes reach the disk, the others never will, later syncs say yes, and
    /// reads see what was written as long as it is in memory.
    FailsAndForgets,
    /// The same, and reads see at once what the disk has.
    FailsAndReverts,
    /// A sync says yes and keeps nothing; an honest one later keeps everything.
    Lies,
    /// A write stops after so many bytes, with an error.
    Stops(usize),
    /// A read answers with one bit turned over, and says yes.
    Flips,
}

/// What is going to go wrong, and how often each kind of operation has been seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Troubles {
    planned: BTreeMap<(Kind, u64), Trouble>,
    lasting: BTreeMap<Kind, (u64, Trouble)>,
    seen: BTreeMap<Kind, u64>,
}

impl Troubles {
    pub(super) fn plan(&mut self, kind: Kind, nth: u64, trouble: Trouble) {
        self.planned.insert((kind, nth), trouble);
    }

    pub(super) fn plan_from(&mut self, kind: Kind, nth: u64, trouble: Trouble) {
        self.lasting.insert(kind, (nth, trouble));
    }

    pub(super) fn forget(&mut self) {
        self.planned.clear();
        self.lasting.clear();
    }

    pub(super) fn seen(&self, kind: Kind) -> u64 {
        self.seen.get(&kind).copied().unwrap_or(0)
    }

    /// Counts one operation of `kind` and answers what befalls it.
    pub(super) fn next(&mut self, kind: Kind) -> Option<Trouble> {
        let seen = self.seen.entry(kind).or_default();
        let nth = *seen;
        *seen += 1;
        let lasting = self.lasting.get(&kind).filter(|(from, _)| nth >= *from);
        self.planned.remove(&(kind, nth)).or(lasting.map(|(_, trouble)| *trouble))
    }
}
