//! Reading everything, for `verify` and for tests: every file, block, cell and checksum.

use super::{
    Checkpoint, Index, IndexError, IndexOptions, IndexView,
    cell::{Entry, Family, Item, decode_expiry, decode_row},
    filter,
    manifest::Manifest,
    read_manifest_file,
    run::Run,
    table::Table,
    unreadable,
    values::{Refs, Values},
};
use bytes::Bytes;
use outrigger_kernel::disk::Disk;
use outrigger_keyspace::ReadError;
use std::sync::Arc;

/// What was read, and found as it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) files: u64,
    pub(crate) blocks: u64,
    pub(crate) rows: u64,
    pub(crate) extents: u64,
    pub(crate) bytes: u64,
}

/// Reads everything of the index on `disk`, which nobody has open, and changes nothing. The first damage is the answer.
pub(crate) fn verify(disk: &Arc<dyn Disk>) -> Result<(Checkpoint, Verified), IndexError> {
    let manifest = Manifest::decode_both(&read_manifest_file(&**disk)?).map_err(unreadable)?;
    let index =
        Index::with(disk.clone(), &IndexOptions { cache_bytes: 0, layer_bytes: 0 }, manifest);
    let view = index.view();
    Ok((view.checkpoint().clone(), view.verify()?))
}

impl IndexView {
    /// Reads every file from end to end. The first damage is the answer; readers and writers do not wait meanwhile.
    pub(crate) fn verify(&self) -> Result<Verified, IndexError> {
        let mut verified = Verified::default();
        let base = self.runs().len().saturating_sub(1);
        for (at, run) in self.runs().iter().enumerate() {
            verify_run(run, self.values(), at == base, &mut verified)?;
        }
        for values in self.values() {
            // What rows refer to was compared with its checksum. A disk that cannot read the rest is found out, too.
            values.read_through()?;
            verified.files += 1;
            verified.bytes += values.info.bytes;
        }
        Ok(verified)
    }
}

fn verify_run(
    run: &Run,
    values: &[Arc<Values>],
    is_base: bool,
    verified: &mut Verified,
) -> Result<(), IndexError> {
    let mut reached = Bytes::new();
    for table in &run.tables {
        let extents = verified.extents;
        verify_table(table, values, &mut reached, verified)?;
        if is_base && verified.extents > extents {
            return Err(malformed(table, "it is part of the base and has extents").into());
        }
    }
    Ok(())
}

fn verify_table(
    table: &Arc<Table>,
    values: &[Arc<Values>],
    reached: &mut Bytes,
    verified: &mut Verified,
) -> Result<(), IndexError> {
    let guide = table.guide()?;
    let (mut puts, mut extents, mut last, mut refs) = (0, 0, Bytes::new(), Refs::new());
    for index in 0..guide.blocks() {
        let block = table.block(&guide, index)?;
        for at in 0..block.count() {
            let entry = block.entry(at)?;
            verify_entry(table, values, &entry, reached)?;
            if !guide.may_hold(filter::hash(&entry.key)) {
                return Err(malformed(table, "its filter does not know a key").into());
            }
            match &entry.item {
                Item::Put(payload) => {
                    puts += 1;
                    if let Some(place) = entry.written().place(payload) {
                        *refs.entry(place.file).or_default() += place.bytes;
                    }
                }
                Item::Gone(_) => extents += 1,
            }
            last = Bytes::copy_from_slice(&entry.key);
        }
        verified.blocks += 1;
    }
    let info = &table.info;
    if (puts, extents, &last, &refs) != (info.puts, info.extents, &info.last, &info.refs) {
        return Err(malformed(table, "it holds other cells than the manifest says").into());
    }
    verified.files += 1;
    verified.rows += puts;
    verified.extents += extents;
    verified.bytes += info.bytes;
    Ok(())
}

fn verify_entry(
    table: &Table,
    values: &[Arc<Values>],
    entry: &Entry,
    reached: &mut Bytes,
) -> Result<(), ReadError> {
    if entry.key < *reached {
        return Err(malformed(table, "its cells are out of order"));
    }
    *reached = match &entry.item {
        Item::Put(payload) => {
            if Family::Rows.has(&entry.key) {
                decode_row(payload, values)?;
            } else {
                decode_expiry(payload)?;
            }
            super::cell::after(&entry.key)
        }
        Item::Gone(end) if *end <= entry.key => {
            return Err(malformed(table, "an extent ends before it begins"));
        }
        Item::Gone(end) => Bytes::copy_from_slice(end),
    };
    Ok(())
}

fn malformed(table: &Table, what: &str) -> ReadError {
    ReadError::Damaged(format!("file {} of the index: {what}", table.file_name()))
}
