//! Everything that happened to a disk, step by step, so that a crash can be put after any of them.

use super::{
    SimDisk,
    state::{Ending, FileId, State},
    survivors::Survivors,
};
use std::sync::Arc;

/// The steps of a disk from an image on. Reads are no steps: they change nothing.
#[derive(Clone, Debug, Default)]
pub struct Tape {
    pub(super) start: State,
    pub(super) steps: Vec<Step>,
    pub(super) capacity_bytes: u64,
}

/// One thing that changed the disk, or made changes last.
#[derive(Clone, Debug)]
pub struct Step(pub(super) Doing);

#[derive(Clone, Debug)]
pub(super) enum Doing {
    Create { name: String },
    Name { file: FileId, name: Option<String> },
    Write { file: FileId, at: u64, bytes: Arc<[u8]> },
    SetLength { file: FileId, length: u64 },
    Sync { file: FileId, ending: Option<Ending> },
    SyncFolder { kept: bool },
}

impl Step {
    /// What kind of step it is, in a word or two.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.0 {
            Doing::Create { name } => format!("create {name}"),
            Doing::Name { file, name: Some(name) } => format!("rename file {file} to {name}"),
            Doing::Name { file, name: None } => format!("remove file {file}"),
            Doing::Write { file, at, bytes } => {
                format!("write {} bytes at {at} of file {file}", bytes.len())
            }
            Doing::SetLength { file, length } => format!("set length of file {file} to {length}"),
            Doing::Sync { file, ending: Some(_) } => format!("sync file {file}"),
            Doing::Sync { file, ending: None } => format!("sync file {file}, in vain"),
            Doing::SyncFolder { kept: true } => "sync the folder".to_owned(),
            Doing::SyncFolder { kept: false } => "sync the folder, in vain".to_owned(),
        }
    }

    /// Does it to `state`.
    pub(super) fn apply(&self, state: &mut State) {
        match &self.0 {
            Doing::Create { name } => {
                state.create(name);
            }
            Doing::Name { file, name } => state.rename(*file, name.as_deref()),
            Doing::Write { file, at, bytes } => state.write(*file, bytes, *at),
            Doing::SetLength { file, length } => state.set_length(*file, *length),
            Doing::Sync { file, ending: Some(ending) } => state.sync(*file, *ending),
            Doing::SyncFolder { kept: true } => state.sync_folder(),
            Doing::Sync { ending: None, .. } | Doing::SyncFolder { kept: false } => {}
        }
    }
}

impl Tape {
    /// How many steps there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The steps, in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Every moment: before the first step, and after each.
    pub fn moments(&self) -> impl Iterator<Item = Moment> {
        let mut state = self.start.clone();
        (0..=self.steps.len()).map(move |after| {
            if let Some(step) = after.checked_sub(1).and_then(|last| self.steps.get(last)) {
                step.apply(&mut state);
            }
            Moment { after, state: state.clone(), capacity_bytes: self.capacity_bytes }
        })
    }

    /// The moment after the first `after` steps.
    #[must_use]
    pub fn moment(&self, after: usize) -> Moment {
        let mut state = self.start.clone();
        for step in self.steps.iter().take(after) {
            step.apply(&mut state);
        }
        Moment { after, state, capacity_bytes: self.capacity_bytes }
    }
}

/// The state between two steps.
#[derive(Clone, Debug)]
pub struct Moment {
    /// After how many steps.
    pub after: usize,
    state: State,
    capacity_bytes: u64,
}

impl Moment {
    pub(super) fn of(after: usize, state: State, capacity_bytes: u64) -> Self {
        Self { after, state, capacity_bytes }
    }

    /// How many changes a power cut might lose.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.state.pending().len()
    }

    /// The disk after a power cut at this moment.
    #[must_use]
    pub fn crash(&self, survivors: Survivors) -> SimDisk {
        SimDisk::over(self.state.crash(survivors), self.capacity_bytes)
    }

    /// The disk after the end of the process at this moment: everything written is there, and what was not synced may
    /// still be lost to a power cut.
    #[must_use]
    pub fn kill(&self) -> SimDisk {
        SimDisk::over(self.state.clone(), self.capacity_bytes)
    }
}
