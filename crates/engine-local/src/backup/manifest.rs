//! The manifest of a backup: which parts there are, and what each leads to. A text, so that a person can read it.
//!
//! ```text
//! outrigger-backup 1 <store id>
//! <rows|plans> <file> <from revision> <to revision> <time> <bytes> <checksum> <position>
//! end <checksum>
//! ```
//!
//! A `rows` part is the whole map at its `to` revision. A `plans` part is what was committed after its `from` revision up to
//! its `to` revision, and continues the part before it. `time` is that of the last commit in it, in ms since 1970; `position`
//! is where the log of the store went on. Checksums, positions and ids are hexadecimal; the last line's checksum is XXH3-64
//! of all bytes before that line.

use super::{BackupError, part::Seal};
use crate::log::Position;
use outrigger_kernel::{Wall, disk::Disk};
use outrigger_keyspace::Committed;
use std::{fmt::Write, io};
use xxhash_rust::xxh3::xxh3_64;

pub(super) const FILE: &str = "BACKUP";
const FILE_NEW: &str = "BACKUP.new";
const NAME: &str = "outrigger-backup";
/// The newest form this release reads and writes.
pub(super) const FORMAT: u32 = 1;
/// Larger than any manifest: some hundred bytes for each of ten thousand parts.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) store_id: u128,
    pub(super) parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) kind: PartKind,
    pub(super) name: String,
    /// The revision it begins after.
    pub(super) from: u64,
    /// The last commit in it.
    pub(super) last: Committed,
    pub(super) seal: Seal,
    /// Where the log goes on after it.
    pub(super) position: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartKind {
    Rows,
    Plans,
}

impl PartKind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Plans => "plans",
        }
    }
}

impl Manifest {
    /// The manifest in the folder; `None` when there is none.
    pub(super) fn read(disk: &dyn Disk) -> Result<Option<Self>, BackupError> {
        let failed = |error| BackupError::io(FILE, error);
        let file = match disk.open(FILE) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let length = file.length().map_err(failed)?.min(BYTES_MAX);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_at(&mut bytes, 0).map_err(failed)?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| BackupError::damaged(FILE, "it is not a text"))?;
        parse(text).map(Some)
    }

    /// Puts the manifest in place of the one before. Everything it names is on disk, names included, before it is.
    pub(super) fn write(&self, disk: &dyn Disk) -> io::Result<()> {
        match disk.remove(FILE_NEW) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create(FILE_NEW)?;
        file.write_at(self.text().as_bytes(), 0)?;
        file.sync()?;
        disk.sync_folder()?;
        disk.rename(FILE_NEW, FILE)?;
        disk.sync_folder()
    }

    fn text(&self) -> String {
        let mut text = format!("{NAME} {FORMAT} {:032x}\n", self.store_id);
        for part in &self.parts {
            let Part { kind, name, from, last, seal, position } = part;
            let position = position.encode().map(|byte| format!("{byte:02x}")).concat();
            let Committed { revision, time } = last;
            // Writing to a string cannot fail.
            let _written = writeln!(
                text,
                "{} {name} {from} {revision} {} {} {:016x} {position}",
                kind.word(),
                time.0,
                seal.bytes,
                seal.checksum
            );
        }
        let checksum = xxh3_64(text.as_bytes());
        let _written = writeln!(text, "end {checksum:016x}");
        text
    }
}

fn parse(text: &str) -> Result<Manifest, BackupError> {
    let damaged = |reason: &str| BackupError::damaged(FILE, reason);
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [NAME, version, store_id] = head[..] else {
        return Err(damaged("it does not begin as a backup's manifest does"));
    };
    match version.parse::<u32>() {
        Ok(FORMAT) => {}
        Ok(found) if found > FORMAT => return Err(BackupError::Newer { found, known: FORMAT }),
        _ => return Err(damaged("its version is not one that ever was")),
    }
    let unreadable = || damaged("a line in it cannot be read");
    let store_id = u128::from_str_radix(store_id, 16).map_err(|_| unreadable())?;
    let end = text.rfind("end ").ok_or_else(|| damaged("its end is missing"))?;
    let sealed = format!("end {:016x}\n", xxh3_64(&text.as_bytes()[..end]));
    if text[end..] != sealed {
        return Err(damaged("it has another checksum than it was written with"));
    }
    let parts = text[..end].lines().skip(1).map(|line| parse_part(line).ok_or_else(unreadable));
    Ok(Manifest { store_id, parts: parts.collect::<Result<_, _>>()? })
}

fn parse_part(line: &str) -> Option<Part> {
    let words: Vec<&str> = line.split(' ').collect();
    let [kind, name, from, revision, time, bytes, checksum, position] = words[..] else {
        return None;
    };
    let kind = [PartKind::Rows, PartKind::Plans].into_iter().find(|known| known.word() == kind)?;
    let last = Committed { revision: revision.parse().ok()?, time: Wall(time.parse().ok()?) };
    let checksum = u64::from_str_radix(checksum, 16).ok()?;
    let seal = Seal { bytes: bytes.parse().ok()?, checksum };
    let position = Position::decode(parse_hex(position)?);
    Some(Part { kind, name: name.to_owned(), from: from.parse().ok()?, last, seal, position })
}

fn parse_hex(text: &str) -> Option<[u8; 24]> {
    let mut bytes = [0; 24];
    if text.len() != 2 * bytes.len() || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}
