//! What is on the disk and what is only on its way there.

use super::{
    SECTOR_BYTES,
    content::{Content, index},
    survivors::{Fate, Survivors},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A file by its number; names come and go.
pub(super) type FileId = u64;

/// Everything about a disk that a power cut could change.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    files: BTreeMap<FileId, File>,
    pub(super) names: BTreeMap<String, FileId>,
    durable_names: BTreeMap<String, FileId>,
    pending_names: Vec<(u64, Naming)>,
    changes: u64,
    files_made: u64,
}

#[derive(Clone, Debug, Default)]
struct File {
    current: Content,
    durable: Content,
    pending: Vec<(u64, Change)>,
}

/// A change to a file. Written sectors are kept whole, as they were after the write.
#[derive(Clone, Debug)]
enum Change {
    Write { at: u64, sectors: Arc<[u8]>, length: Option<u64> },
    Length(u64),
}

/// A change to the names, told of the file: under which name it is from now on.
#[derive(Clone, Debug)]
struct Naming {
    file: FileId,
    name: Option<String>,
}

/// How a sync ends for what is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// All of it lasts.
    Kept,
    /// What survives lasts, the rest is never written; reads go on seeing it unless `reverted`.
    Forgotten { survivors: Survivors, reverted: bool },
}

impl State {
    pub(super) fn content(&self, file: FileId) -> &Content {
        static EMPTY: Content = Content::empty();
        self.files.get(&file).map_or(&EMPTY, |file| &file.current)
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let named: BTreeSet<_> = self.names.values().collect();
        named.into_iter().map(|file| self.content(*file).allocated_bytes()).sum()
    }

    fn change(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    pub(super) fn create(&mut self, name: &str) -> FileId {
        self.files_made += 1;
        let file = self.files_made;
        self.files.insert(file, File::default());
        self.rename(file, Some(name));
        file
    }

    /// Gives the file a name (which may have been another's), or none.
    pub(super) fn rename(&mut self, file: FileId, name: Option<&str>) {
        let naming = Naming { file, name: name.map(str::to_owned) };
        naming.apply(&mut self.names);
        let change = self.change();
        self.pending_names.push((change, naming));
    }

    pub(super) fn write(&mut self, file: FileId, bytes: &[u8], at: u64) {
        if bytes.is_empty() {
            return;
        }
        let change = self.change();
        let Some(file) = self.files.get_mut(&file) else { return };
        let end = at + bytes.len() as u64;
        file.current.put(bytes, at);
        let length = (end > file.current.length).then_some(end);
        file.current.length = file.current.length.max(end);
        let sector = SECTOR_BYTES as u64;
        let first = at / sector * sector;
        let mut sectors = vec![0; index(end.next_multiple_of(sector) - first)];
        file.current.read(&mut sectors, first);
        let write = Change::Write { at: first, sectors: sectors.into(), length };
        file.pending.push((change, write));
    }

    pub(super) fn set_length(&mut self, file: FileId, length: u64) {
        let change = self.change();
        if let Some(file) = self.files.get_mut(&file) {
            file.current.set_length(length);
            file.pending.push((change, Change::Length(length)));
        }
    }

    pub(super) fn sync(&mut self, file: FileId, ending: Ending) {
        let order = self.pending();
        let Some(file) = self.files.get_mut(&file) else { return };
        let survivors = match ending {
            Ending::Kept => Survivors::Everything,
            Ending::Forgotten { survivors, .. } => survivors,
        };
        file.durable = file.survive(&order, &mut Fate::new(survivors));
        file.pending.clear();
        if let Ending::Forgotten { reverted: true, .. } = ending {
            file.current = file.durable.clone();
        }
    }

    pub(super) fn sync_folder(&mut self) {
        self.pending_names.clear();
        self.durable_names = self.names.clone();
    }

    /// The numbers of all pending changes, in the order they were made.
    pub(super) fn pending(&self) -> Vec<u64> {
        let names = self.pending_names.iter().map(|(change, _)| *change);
        let files = self.files.values().flat_map(|file| file.pending.iter().map(|(c, _)| *c));
        let mut pending: Vec<u64> = names.chain(files).collect();
        pending.sort_unstable();
        pending
    }

    /// What is there after a power cut.
    pub(super) fn crash(&self, survivors: Survivors) -> Self {
        let order = self.pending();
        let mut fate = Fate::new(survivors);
        let mut names = self.durable_names.clone();
        for (change, naming) in &self.pending_names {
            if fate.lasts(rank(&order, *change)) {
                naming.apply(&mut names);
            }
        }
        let named: BTreeSet<FileId> = names.values().copied().collect();
        let mut files = BTreeMap::new();
        for file in named {
            let durable =
                self.files.get(&file).map(|f| f.survive(&order, &mut fate)).unwrap_or_default();
            files.insert(file, File { current: durable.clone(), durable, pending: Vec::new() });
        }
        Self {
            files,
            durable_names: names.clone(),
            names,
            pending_names: Vec::new(),
            changes: self.changes,
            files_made: self.files_made,
        }
    }

    /// Turns over one bit of what reads see and of what a power cut leaves.
    pub(super) fn flip(&mut self, file: FileId, at: u64, bit: u8) {
        let Some(file) = self.files.get_mut(&file) else { return };
        for content in [&mut file.current, &mut file.durable] {
            let mut byte = [0];
            content.read(&mut byte, at);
            content.put(&[byte[0] ^ (1 << (bit % 8))], at);
        }
    }

    /// Puts bytes over what is at rest.
    pub(super) fn overwrite(&mut self, file: FileId, bytes: &[u8], at: u64) {
        let Some(file) = self.files.get_mut(&file) else { return };
        file.current.put(bytes, at);
        file.durable.put(bytes, at);
    }
}

impl File {
    /// The durable content with those pending changes that last.
    fn survive(&self, order: &[u64], fate: &mut Fate) -> Content {
        let mut content = self.durable.clone();
        // A block or a length that has missed one change is as it was at that moment, whatever came after.
        let mut stale_blocks: BTreeSet<u64> = BTreeSet::new();
        let mut stale_length = false;
        for (change, what) in &self.pending {
            let rank = rank(order, *change);
            match what {
                Change::Write { at, sectors, length } => {
                    for (at, block) in blocks(*at, sectors, fate.block_bytes) {
                        let number = at / fate.block_bytes as u64;
                        if stale_blocks.contains(&number) {
                            continue;
                        }
                        if fate.lasts(rank) {
                            content.put(block, at);
                        } else {
                            stale_blocks.insert(number);
                        }
                    }
                    if let Some(length) = length.filter(|_| !stale_length) {
                        match fate.lasts(rank) {
                            true => content.length = length,
                            false => stale_length = true,
                        }
                    }
                }
                Change::Length(length) if !stale_length => match fate.lasts(rank) {
                    false => stale_length = true,
                    true => {
                        if *length < content.length {
                            content.cut(*length);
                            stale_blocks.retain(|b| b * (fate.block_bytes as u64) < *length);
                        }
                        content.length = *length;
                    }
                },
                Change::Length(_) => {}
            }
        }
        content.cut(content.length);
        content
    }
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, FileId>) {
        names.retain(|_, file| *file != self.file);
        if let Some(name) = &self.name {
            names.insert(name.clone(), self.file);
        }
    }
}

fn rank(order: &[u64], change: u64) -> usize {
    order.partition_point(|other| *other < change)
}

/// Cuts `bytes` at `at` where blocks of the disk end.
fn blocks(at: u64, bytes: &[u8], block_bytes: usize) -> impl Iterator<Item = (u64, &[u8])> {
    let mut rest = bytes;
    let mut here = at;
    std::iter::from_fn(move || {
        let room = block_bytes - index(here % block_bytes as u64);
        let (block, tail) = rest.split_at_checked(room).unwrap_or((rest, &[]));
        let start = here;
        rest = tail;
        here += block.len() as u64;
        (!block.is_empty()).then_some((start, block))
    })
}
