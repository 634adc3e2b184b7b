//! Reading the log back after whatever has happened.
//!
//! From the index's checkpoint on, every frame that chains on the one before is taken; the question is what to make of the
//! place where that ends.
//!
//! ```text
//!   | frame | frame | ????? | frame, durable before here | ...      torn: writes that no sync had confirmed; cut
//!   | frame | frame | ????? | frame, durable after here  | ...      damage: that was on disk, and is not any more; refused
//! ```
//!
//! Whoever writes a frame tells in it how far the segment was known to be on disk. So the bytes where the chain ends are
//! damage exactly when some sound frame after them says they were on disk; a search to the end of the log finds it. That
//! a last frame can be told from a torn one at all takes a frame behind it: the mark that is written when nothing else is,
//! and the close that is synced.
//!
//! A segment ends with a frame that says so, which is synced before anything is written to the next one. So a segment
//! whose chain ends without it is the last, and those after it, made ahead of need, are as they were made. That is how a lost
//! file is told from one that never was, too.
//!
//! What is cut is made harmless: zeroed as far as it can be told from what an earlier life of the file has left, which no
//! salt of this segment fits. And the first frame written then holds a random number, so that even a sector that
//! appears late from before the crash chains on nothing.
//!
//! What was read, names included, may be in the system's memory only. So everything is synced once before it is believed. A
//! sync alone does not do for that: when one has failed before, in a process that is gone, the system takes what it could not
//! write for written, goes on showing it and never tries again. So what no frame says was on disk is written again first.

use super::{
    LogError, Opened, Position,
    frame::{self, Header, Kind},
    segment::{self, FRAMES_START, PIECE_BYTES, SegmentReader},
    walk::{Walker, frame_at, remains, search, search_claims},
};
use crate::planted::{self, Bug};
use outrigger_kernel::disk::{Disk, DiskFile};
use outrigger_keyspace::{Committed, sequencer::Plan};
use std::{collections::BTreeMap, sync::Arc};

/// Segments' numbers and the sizes of their files.
pub(crate) type Sizes = BTreeMap<u64, u64>;

/// A log that was read to its end, and cut there.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) opened: Opened,
    /// The segment in which it ends.
    pub(crate) segment: SegmentReader,
    pub(crate) end: Position,
    pub(crate) begun: Sizes,
    pub(crate) ready: Sizes,
}

/// Reads everything from `from` on and shows it to `visit`; it is on disk when this returns. The disk is changed only when
/// nothing is wrong with it.
pub(crate) fn recover<E: From<LogError>>(
    disk: &Arc<dyn Disk>,
    store_id: [u8; 16],
    from: Position,
    visit: &mut dyn FnMut(Plan) -> Result<(), E>,
) -> Result<Recovered, E> {
    let ReadLog { files, mut walker, opened, cut, unsure } = read(disk, store_id, from, visit)?;
    for file in &files.unfinished {
        disk.remove(file).map_err(LogError::io(file))?;
    }
    if let Some(cut) = cut.filter(|_| !planted::is(Bug::LeaveTornTail)) {
        cut.apply()?;
    }
    if !planted::is(Bug::ShowUnsyncedTail) {
        confirm(&**disk, &mut walker, &unsure)?;
    }
    let (begun, ready) = files.sizes(&**disk, walker.at.segment)?;
    Ok(Recovered { opened, end: walker.at, segment: walker.segment, begun, ready })
}

/// Reads a log that nobody has open, from the oldest segment that is kept, and changes nothing. It must hold `checkpoint`.
///
/// # Errors
/// When it could not be opened, or when what is kept of the time before the checkpoint is damaged.
pub(crate) fn verify(
    disk: &Arc<dyn Disk>,
    store_id: [u8; 16],
    checkpoint: Position,
) -> Result<Opened, LogError> {
    let nothing = &mut |_| Ok::<_, LogError>(());
    read(disk, store_id, checkpoint, nothing)?;
    let number = Files::list(&**disk, checkpoint)?.numbers.first().copied();
    let start = Position { offset: FRAMES_START, ..checkpoint };
    let mut oldest = Position { segment: number.unwrap_or(start.segment), ..start };
    let mut segment = SegmentReader::open(&**disk, store_id, oldest.segment)?;
    oldest.chain = match frame_at(&mut segment, FRAMES_START)? {
        Some(first) => first.previous,
        None if oldest.segment == checkpoint.segment => checkpoint.chain,
        None => {
            let what = "the segment should begin with a frame";
            return Err(LogError::damaged(segment.name, FRAMES_START, what));
        }
    };
    Ok(read(disk, store_id, oldest, nothing)?.opened)
}

/// A log as it is.
struct ReadLog {
    files: Files,
    /// At the end.
    walker: Walker,
    opened: Opened,
    /// What is torn there.
    cut: Option<Cut>,
    /// What of it nobody has said was on disk.
    unsure: Unsure,
}

/// The last frames of a log: whoever wrote them may not have lived to see them synced. A segment's are all on disk once
/// something was written to the next one.
#[derive(Clone, Copy)]
struct Unsure {
    /// The segment they are in, ..
    segment: u64,
    /// .. where the first of them begins, ..
    from: u64,
    /// .. and where the last one ends.
    to: u64,
}

fn read<E: From<LogError>>(
    disk: &Arc<dyn Disk>,
    store_id: [u8; 16],
    from: Position,
    visit: &mut dyn FnMut(Plan) -> Result<(), E>,
) -> Result<ReadLog, E> {
    let files = Files::list(&**disk, from)?;
    let mut walker = reach(disk, store_id, from)?;
    let mut opened = Opened::default();
    let mut closed = false;
    let mut unsure = Unsure { segment: from.segment, from: from.offset, to: from.offset };
    while let Some(header) = walker.look()? {
        closed = header.kind == Kind::Close;
        if header.kind == Kind::Plans {
            deliver(&mut walker, &header, &mut opened, visit)?;
        }
        opened.bytes += header.frame_bytes() as u64;
        if unsure.segment != walker.at.segment {
            let Position { segment, offset, .. } = walker.at;
            unsure = Unsure { segment, from: offset, to: offset };
        }
        unsure.from = unsure.from.max(header.durable.min(walker.at.offset));
        walker.pass(&header);
        unsure.to = walker.at.offset;
        if header.kind == Kind::Turn {
            walker.turn()?;
        }
    }
    let cut = end(&mut walker, files.last)?;
    opened.torn_bytes = cut.as_ref().map_or(0, |cut| cut.bytes);
    opened.clean = closed && opened.torn_bytes == 0;
    let end = walker.at.segment;
    opened.segments = files.numbers.iter().filter(|number| **number <= end).count();
    Ok(ReadLog { files, walker, opened, cut, unsure })
}

/// The files of a log.
struct Files {
    numbers: Vec<u64>,
    last: u64,
    unfinished: Vec<String>,
}

impl Files {
    fn list(disk: &dyn Disk, from: Position) -> Result<Self, LogError> {
        let names = disk.list().map_err(LogError::io("the folder"))?;
        let mut numbers: Vec<u64> =
            names.iter().filter_map(|name| segment::number_of(name)).collect();
        numbers.sort_unstable();
        let last = numbers.last().copied().unwrap_or(0);
        if last < from.segment {
            return Err(LogError::short(segment::name(from.segment), 0, from));
        }
        let first = numbers.first().copied().unwrap_or(0).min(from.segment);
        for (expected, number) in (first..).zip(&numbers) {
            if *number != expected {
                return Err(LogError::Missing { file: segment::name(expected) });
            }
        }
        let unfinished = names.into_iter().filter(|name| segment::is_unfinished(name)).collect();
        Ok(Self { numbers, last, unfinished })
    }

    /// The sizes of the segments up to `end`, and of those after it, which were never written to or are cut to nothing.
    fn sizes(&self, disk: &dyn Disk, end: u64) -> Result<(Sizes, Sizes), LogError> {
        let mut begun = BTreeMap::new();
        for number in &self.numbers {
            let name = segment::name(*number);
            let size = disk.open(&name).and_then(|file| file.length());
            begun.insert(*number, size.map_err(LogError::io(name))?);
        }
        let ready = begun.split_off(&(end + 1));
        Ok((begun, ready))
    }
}

/// A walker at `from`, after it was made sure that the log holds what comes before it in its segment.
fn reach(disk: &Arc<dyn Disk>, store_id: [u8; 16], from: Position) -> Result<Walker, LogError> {
    let start = Position { offset: FRAMES_START, ..from };
    let mut walker = Walker::new(Arc::clone(disk), store_id, start)?;
    let first = frame_at(&mut walker.segment, FRAMES_START)?;
    if from.offset == FRAMES_START {
        return Ok(walker);
    }
    walker.at.chain = first.map_or(0, |first| first.previous);
    while walker.at.offset < from.offset {
        let Some(header) = walker.look()? else {
            let at = walker.at.offset;
            let tail = Tail::of(&mut walker.segment, at)?;
            tail.refuse_claims(&walker.segment, at)?;
            let name = &walker.segment.name;
            let what = "the frame here is not the one that was written, and the index says that it was on disk";
            return Err(match tail.end {
                Some(_) => LogError::damaged(name, at, what),
                None => LogError::short(name, at, from),
            });
        };
        walker.pass(&header);
    }
    if walker.at != from {
        let what =
            "the index does not belong to this log: its checkpoint is not where a frame ends";
        return Err(LogError::damaged(&walker.segment.name, from.offset, what));
    }
    Ok(walker)
}

fn deliver<E: From<LogError>>(
    walker: &mut Walker,
    header: &Header,
    opened: &mut Opened,
    visit: &mut dyn FnMut(Plan) -> Result<(), E>,
) -> Result<(), E> {
    /// Tells what is wrong with the bytes from what whoever is shown the plans finds wrong.
    enum Stop<E> {
        Bytes(crate::record::Malformed),
        Order(Committed),
        Visit(E),
    }
    impl<E> From<crate::record::Malformed> for Stop<E> {
        fn from(malformed: crate::record::Malformed) -> Self {
            Self::Bytes(malformed)
        }
    }
    let offset = walker.at.offset;
    let payload = walker.payload(header)?;
    let read = frame::decode_plans(payload, header.revision, &mut |plan| {
        let committed = plan.committed;
        if opened.last.is_some_and(|last| last.revision >= committed.revision) {
            return Err(Stop::Order(committed));
        }
        opened.last = Some(committed);
        opened.plans += 1;
        visit(plan).map_err(Stop::Visit)
    });
    let name = &walker.segment.name;
    read.map_err(|stop| match stop {
        Stop::Bytes(malformed) => LogError::malformed(name, offset, malformed).into(),
        Stop::Order(Committed { revision, .. }) => {
            let what =
                format!("its checksum holds, yet revision {revision} comes after a later one");
            LogError::damaged(name, offset, what).into()
        }
        Stop::Visit(error) => error,
    })
}

/// What follows a place where the chain ends, in one segment.
struct Tail {
    /// Where what was written ends, if anything was.
    end: Option<u64>,
    /// Whether a sound frame says that the bytes where the chain ends were on disk.
    claims: bool,
}

impl Tail {
    fn of(segment: &mut SegmentReader, from: u64) -> Result<Self, LogError> {
        let mut tail = Self { end: remains(segment, from)?, claims: false };
        if tail.end.is_some() || segment.header.used_before {
            search(segment, from, &mut |header| tail.claims |= header.durable > from)?;
        }
        Ok(tail)
    }

    fn refuse_claims(&self, segment: &SegmentReader, from: u64) -> Result<(), LogError> {
        if self.claims {
            let what = "the frame here is not the one that was written, and later ones say that it was on disk";
            return Err(LogError::damaged(&segment.name, from, what));
        }
        Ok(())
    }
}

/// The log ends here, and nowhere else. Answers what is to be cut.
fn end(walker: &mut Walker, last: u64) -> Result<Option<Cut>, LogError> {
    let at = walker.at;
    let tail = Tail::of(&mut walker.segment, at.offset)?;
    tail.refuse_claims(&walker.segment, at.offset)?;
    for number in at.segment + 1..=last {
        let mut unused = walker.segment_at(number)?;
        let mut written = remains(&mut unused, FRAMES_START)?.is_some();
        if unused.header.used_before {
            search(&mut unused, FRAMES_START, &mut |_| written = true)?;
        }
        if written {
            let what = format!(
                "no frame goes on here, yet something was written to {}, which comes after it",
                unused.name
            );
            return Err(LogError::damaged(&walker.segment.name, at.offset, what));
        }
    }
    Cut::of(&mut walker.segment, at.offset, tail.end)
}

/// Bytes that no sync had confirmed and that make no sense.
struct Cut {
    file: Arc<dyn DiskFile>,
    name: String,
    /// How much was torn.
    bytes: u64,
    /// From where to where to write zeros.
    zeros: Vec<(u64, u64)>,
}

impl Cut {
    /// What is to be cut from `from` on, where something that was written ends at `end`.
    ///
    /// In a file that was used before, the headers of all that looks like a frame of this life go; what is left of them then
    /// is no frame, whatever is written around it.
    fn of(
        segment: &mut SegmentReader,
        from: u64,
        end: Option<u64>,
    ) -> Result<Option<Self>, LogError> {
        let bytes = end.map_or(0, |end| end - from);
        let mut zeros = Vec::new();
        if segment.header.used_before {
            search_claims(segment, from, &mut |offset| {
                zeros.push((offset, offset + frame::HEADER_BYTES as u64));
            })?;
        } else if let Some(end) = end {
            zeros.push((from, end));
        }
        let (file, name) = (Arc::clone(&segment.file), segment.name.clone());
        Ok(if zeros.is_empty() { None } else { Some(Self { file, name, bytes, zeros }) })
    }

    fn apply(&self) -> Result<(), LogError> {
        let zeros = vec![0; PIECE_BYTES];
        for (from, to) in &self.zeros {
            let mut at = *from;
            while at < *to {
                let piece = (to - at).min(PIECE_BYTES as u64);
                let written = self.file.write_at(&zeros[..piece as usize], at);
                written.map_err(LogError::io(&self.name))?;
                at += piece;
            }
        }
        Ok(())
    }
}

/// Makes what was read and what was cut last: the process may have ended before it was synced, or because it could not be.
fn confirm(disk: &dyn Disk, walker: &mut Walker, unsure: &Unsure) -> Result<(), LogError> {
    disk.sync_folder().map_err(LogError::io("the folder"))?;
    if unsure.segment != walker.at.segment {
        // The frame that turned to this segment is the newest.
        let mut before = walker.segment_at(unsure.segment)?;
        write_again(&mut before, unsure)?;
        before.file.sync().map_err(LogError::io(&before.name))?;
    } else {
        write_again(&mut walker.segment, unsure)?;
    }
    walker.segment.file.sync().map_err(LogError::io(&walker.segment.name))
}

/// Writes frames over themselves, so that the next sync is about them.
fn write_again(segment: &mut SegmentReader, unsure: &Unsure) -> Result<(), LogError> {
    if planted::is(Bug::TrustWhatIsShown) {
        return Ok(());
    }
    let file = Arc::clone(&segment.file);
    let mut at = unsure.from;
    while at < unsure.to {
        // They are read a second time here, and only what is as sound as it was is written.
        let Some(header) = frame_at(segment, at)? else {
            let what = "what is read here is not what was read a moment ago";
            return Err(LogError::damaged(&segment.name, at, what));
        };
        let bytes = segment.bytes(at, header.frame_bytes())?;
        file.write_at(bytes, at).map_err(LogError::io(&segment.name))?;
        at += header.frame_bytes() as u64;
    }
    Ok(())
}
