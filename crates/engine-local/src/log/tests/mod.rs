//! The log on a disk that a test owns. Everything here ends in one of two ways: what was written comes back, or an error says
//! where it does not.

mod crashing;
mod damage;
mod format;
mod retaining;
mod writing;

use super::{Frame, Log, LogError, Opened, Options, Position, Preparation};
use bytes::Bytes;
use outrigger_kernel::{Wall, disk::Disk};
use outrigger_keyspace::{
    Committed, Value,
    sequencer::{Change, Plan},
};
use outrigger_sim::disk::SimDisk;
use std::sync::Arc;

const STORE: [u8; 16] = *b"sixteen bytes id";

/// Small segments, made in the call.
fn small(first_bytes: u64, max_bytes: u64) -> Options {
    Options { first_bytes, max_bytes, preparation: Preparation::Inline }
}

fn shared(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

/// A plan that is known by its revision, and whose value takes `length` bytes.
fn plan(revision: u64, length: usize) -> Plan {
    let value =
        Value { bytes: Bytes::from(vec![revision as u8; length]), revision, expires_at: None };
    Plan {
        committed: Committed { revision, time: Wall(1_790_000_000_000 + revision) },
        id: None,
        clears: Vec::new(),
        changes: vec![Change { key: Bytes::from(format!("key {revision}")), value: Some(value) }],
    }
}

fn append(log: &mut Log, plan: &Plan) -> Position {
    let mut frame = Frame::default();
    frame.push(plan);
    log.append(&mut frame).unwrap()
}

fn append_synced(log: &mut Log, plan: &Plan) -> Position {
    let end = append(log, plan);
    log.sync().unwrap();
    end
}

/// Opens the log and answers the revisions in it.
fn open_from(
    disk: &SimDisk,
    from: Position,
    options: Options,
) -> Result<(Log, Opened, Vec<u64>), LogError> {
    let mut revisions = Vec::new();
    let nonce = 0x6e6f_6e63_6500 + disk.steps() as u64;
    let opened = Log::open(shared(disk), STORE, from, nonce, options, &mut |read: Plan| {
        let revision = read.committed.revision;
        let length = read.changes[0].value.as_ref().map_or(0, |value| value.bytes.len());
        assert_eq!(read, plan(revision, length), "a plan comes back as it was or not at all");
        revisions.push(revision);
        Ok::<_, LogError>(())
    });
    opened.map(|(log, opened)| (log, opened, revisions))
}

fn open(disk: &SimDisk, options: Options) -> Result<(Log, Opened, Vec<u64>), LogError> {
    open_from(disk, Position::START, options)
}

/// The files of the log.
fn files(disk: &SimDisk) -> Vec<String> {
    disk.list().unwrap()
}
