//! What is written comes back: across segments, at their very ends, after closing and after none.

use super::{STORE, append, append_synced, files, open, open_from, plan, shared, small};
use crate::log::{
    Frame, Log, Options, Position, RESERVED_BYTES,
    frame::{HEADER_BYTES, Kind as FrameKind, frame_bytes},
    segment::FRAMES_START,
};
use bytes::Bytes;
use outrigger_kernel::Wall;
use outrigger_keyspace::{
    Committed,
    sequencer::{Change, Plan},
};
use outrigger_sim::disk::{Kind, SimDisk, Trouble};
use std::sync::atomic::Ordering;

#[test]
fn an_empty_log_is_two_syncs_and_opens_empty() {
    let disk = SimDisk::new(1);
    let log = Log::create(shared(&disk), STORE, small(16_384, 65_536)).unwrap();
    assert_eq!(log.end(), Position::START);
    assert_eq!((disk.seen(Kind::Sync), disk.seen(Kind::SyncFolder)), (1, 1));
    log.close().unwrap();
    let (log, opened, revisions) = open(&disk, small(16_384, 65_536)).unwrap();
    assert!(opened.clean && revisions.is_empty() && opened.last.is_none());
    drop(log);
    let (_, opened, _) = open(&disk, small(16_384, 65_536)).unwrap();
    assert!(!opened.clean, "it was not closed");
    assert_eq!(opened.torn_bytes, 0);
}

#[test]
fn one_group_is_one_write_and_one_sync() {
    let disk = SimDisk::new(1);
    let mut log = Log::create(
        shared(&disk),
        STORE,
        Options { preparation: crate::log::Preparation::Inline, ..Options::default() },
    )
    .unwrap();
    let (writes, syncs) = (disk.seen(Kind::Write), disk.seen(Kind::Sync));
    let mut frame = Frame::default();
    for round in 0..10 {
        for revision in 1..=100 {
            frame.push(&plan(round * 100 + revision, 100));
        }
        let length = frame.len();
        let before = log.end();
        let end = log.append(&mut frame).unwrap();
        assert!(frame.is_empty());
        assert_eq!(end.offset, before.offset + length as u64);
        log.sync().unwrap();
        log.sync().unwrap();
    }
    assert_eq!(disk.seen(Kind::Write) - writes, 10);
    assert_eq!(disk.seen(Kind::Sync) - syncs, 10);
    let counters = log.counters();
    assert_eq!(counters.syncs.load(Ordering::Relaxed), 10);
    let written = counters.bytes_written.load(Ordering::Relaxed);
    assert_eq!(written, log.end().offset - FRAMES_START);
    let payload = 1000 * (100 + 8);
    assert!(written * 100 < payload * 112, "{written} bytes for {payload}");
    drop(log);
    let (_, opened, revisions) = open(&disk, Options::default()).unwrap();
    assert_eq!(revisions, (1..=1000).collect::<Vec<_>>());
    assert_eq!((opened.plans, opened.bytes), (1000, written));
    assert_eq!(opened.last, Some(plan(1000, 0).committed));
}

/// A frame that fills a segment to the last byte, and one that is eight bytes too long for it.
#[test]
fn frames_at_the_very_end_of_a_segment() {
    let size = 16_384;
    let room = (size - FRAMES_START - RESERVED_BYTES) as usize;
    for over in [0, 8, 16] {
        let disk = SimDisk::new(1);
        let mut log = Log::create(shared(&disk), STORE, small(size, 65_536)).unwrap();
        let mut length = room - 100;
        let fits = |length: usize| {
            let mut frame = Frame::default();
            frame.push(&plan(1, length));
            frame.len()
        };
        while fits(length) < room + over {
            length += 1;
        }
        append_synced(&mut log, &plan(1, length));
        assert_eq!(log.end().segment, if over == 0 { 1 } else { 2 }, "{over} bytes too long");
        if over == 0 {
            assert!(!log.mark().unwrap(), "a mark is not worth a new segment");
            assert_eq!(log.end().segment, 1);
        }
        append_synced(&mut log, &plan(2, 10));
        assert_eq!(log.end().segment, 2);
        log.close().unwrap();
        let (mut log, opened, revisions) = open(&disk, small(size, 65_536)).unwrap();
        assert!(opened.clean);
        assert_eq!(revisions, [1, 2]);
        append_synced(&mut log, &plan(3, 10));
        drop(log);
        assert_eq!(open(&disk, small(size, 65_536)).unwrap().2, [1, 2, 3]);
    }
}

/// Closing never needs a new segment, and opening what is full to the last byte goes on in the next one.
#[test]
fn a_full_segment_can_be_closed_and_gone_on_from() {
    let disk = SimDisk::new(1);
    let size = 16_384;
    let mut log = Log::create(shared(&disk), STORE, small(size, size)).unwrap();
    let mut revision = 0;
    while size - log.end().offset >= RESERVED_BYTES + frame_bytes(30) as u64 {
        revision += 1;
        append_synced(&mut log, &plan(revision, 1));
        assert_eq!(log.end().segment, 1);
    }
    assert!(size - log.end().offset - RESERVED_BYTES < 2 * HEADER_BYTES as u64);
    for life in 1..4 {
        log.close().unwrap();
        let (next, opened, revisions) = open(&disk, small(size, size)).unwrap();
        log = next;
        assert!(opened.clean, "life {life}");
        assert_eq!(revisions, (1..=revision).collect::<Vec<_>>());
    }
    assert_eq!(log.end().segment, 2);
    append_synced(&mut log, &plan(revision + 1, 1));
    drop(log);
    assert_eq!(open(&disk, small(size, size)).unwrap().2, (1..=revision + 1).collect::<Vec<_>>());
}

#[test]
fn segments_double_and_a_large_frame_gets_one_that_fits() {
    let disk = SimDisk::new(1);
    let mut log = Log::create(shared(&disk), STORE, small(16_384, 65_536)).unwrap();
    for revision in 1..=60 {
        append_synced(&mut log, &plan(revision, 4_000));
    }
    let sizes: Vec<u64> = log.history().segments().iter().map(|segment| segment.bytes).collect();
    assert_eq!(sizes, [16_384, 32_768, 65_536, 65_536, 65_536, 65_536]);
    // The next one is ready by now, and too small.
    append_synced(&mut log, &plan(61, 50_000));
    append_synced(&mut log, &plan(62, 1_000_000));
    append_synced(&mut log, &plan(63, 1_000));
    assert!(log.history().segments().last().unwrap().bytes > 1_000_000);
    drop(log);
    let (_, opened, revisions) = open(&disk, small(16_384, 65_536)).unwrap();
    assert_eq!(revisions, (1..=63).collect::<Vec<_>>());
    assert_eq!(opened.torn_bytes, 0);
}

#[test]
fn reading_begins_where_the_index_says() {
    let disk = SimDisk::new(1);
    let mut log = Log::create(shared(&disk), STORE, small(16_384, 16_384)).unwrap();
    let mut ends = vec![Position::START];
    for revision in 1..=12 {
        ends.push(append_synced(&mut log, &plan(revision, 3_000)));
    }
    drop(log);
    for (taken, from) in ends.into_iter().enumerate() {
        assert_eq!(Position::decode(from.encode()), from);
        let (_, _, revisions) = open_from(&disk.kill(), from, small(16_384, 16_384)).unwrap();
        assert_eq!(revisions, (taken as u64 + 1..=12).collect::<Vec<_>>());
    }
}

#[test]
fn what_the_visitor_refuses_comes_back_and_nothing_is_changed() {
    #[derive(Debug, PartialEq)]
    struct Refused(u64);
    impl From<crate::log::LogError> for Refused {
        fn from(_: crate::log::LogError) -> Self {
            Self(0)
        }
    }
    let disk = SimDisk::new(1);
    let mut log = Log::create(shared(&disk), STORE, small(16_384, 16_384)).unwrap();
    append_synced(&mut log, &plan(1, 10));
    append_synced(&mut log, &plan(2, 10));
    drop(log);
    let before = disk.fingerprint();
    let refused = Log::open(
        shared(&disk),
        STORE,
        Position::START,
        1,
        small(16_384, 16_384),
        &mut |plan: Plan| match plan.committed.revision {
            2 => Err(Refused(2)),
            _ => Ok(()),
        },
    );
    assert_eq!(refused.unwrap_err(), Refused(2));
    assert_eq!(disk.fingerprint(), before);
}

/// After a write or a sync that fails nothing is taken, and nothing is tried again.
#[test]
fn an_error_poisons_the_log_for_good() {
    for (kind, trouble) in [
        (Kind::Write, Trouble::Fails),
        (Kind::Write, Trouble::Stops(50)),
        (Kind::Sync, Trouble::Fails),
        (Kind::Sync, Trouble::FailsAndForgets),
        (Kind::Sync, Trouble::FailsAndReverts),
    ] {
        let disk = SimDisk::new(1);
        let mut log = Log::create(shared(&disk), STORE, small(65_536, 65_536)).unwrap();
        append_synced(&mut log, &plan(1, 100));
        disk.plan(kind, 0, trouble);
        let mut frame = Frame::default();
        frame.push(&plan(2, 100));
        let failed = log.append(&mut frame).map(|_| ()).and_then(|()| log.sync());
        assert!(failed.is_err() && log.poisoned.is_some(), "{kind:?} {trouble:?}");
        assert!(frame.is_empty());
        let (writes, syncs) = (disk.seen(Kind::Write), disk.seen(Kind::Sync));
        frame.push(&plan(3, 100));
        assert!(log.append(&mut frame).is_err());
        assert!(log.sync().is_err() && log.mark().is_err() && log.close().is_err());
        assert_eq!((disk.seen(Kind::Write), disk.seen(Kind::Sync)), (writes, syncs));
        let (_, _, revisions) = open(&disk, small(65_536, 65_536)).unwrap();
        assert!(revisions == [1] || revisions == [1, 2], "{revisions:?}");
    }
}

#[test]
fn revisions_only_go_up() {
    let disk = SimDisk::new(1);
    let mut log = Log::create(shared(&disk), STORE, small(65_536, 65_536)).unwrap();
    append_synced(&mut log, &plan(7, 100));
    let mut frame = Frame::default();
    frame.push(&plan(7, 100));
    assert!(log.append(&mut frame).is_err());
    drop(log);
    let (mut log, ..) = open(&disk, small(65_536, 65_536)).unwrap();
    frame.push(&plan(6, 100));
    assert!(log.append(&mut frame).is_err());
    drop(log);
    let (mut log, ..) = open(&disk, small(65_536, 65_536)).unwrap();
    frame.push(&plan(9, 100));
    frame.push(&plan(8, 100));
    assert!(log.append(&mut frame).is_err());
    drop(log);
    let (mut log, _, revisions) = open(&disk, small(65_536, 65_536)).unwrap();
    assert_eq!(revisions, [7]);
    frame.push(&plan(8, 100));
    log.append(&mut frame).unwrap();
}

/// What this log would not write is not believed either.
#[test]
fn a_sound_frame_with_falling_revisions_is_refused() {
    let disk = SimDisk::new(1);
    let mut log = Log::create(shared(&disk), STORE, small(65_536, 65_536)).unwrap();
    append_synced(&mut log, &plan(7, 100));
    let mut frame = Frame::default();
    frame.push(&plan(7, 100));
    log.write(FrameKind::Plans, &mut frame).unwrap();
    drop(log);
    let refused = open(&disk, small(65_536, 65_536)).unwrap_err();
    assert!(refused.to_string().contains("revision 7 comes after a later one"), "{refused}");
}

/// A plan without changes, as one that only moves the revision.
#[test]
fn an_empty_plan_comes_back() {
    let disk = SimDisk::new(1);
    let mut log = Log::create(shared(&disk), STORE, small(65_536, 65_536)).unwrap();
    let empty = Plan {
        committed: Committed { revision: 1 << 40, time: Wall(5) },
        id: None,
        clears: Vec::new(),
        changes: Vec::new(),
    };
    append(&mut log, &empty);
    drop(log);
    let mut read = Vec::new();
    let visit = &mut |plan| {
        read.push(plan);
        Ok::<_, crate::log::LogError>(())
    };
    Log::open(shared(&disk), STORE, Position::START, 1, small(65_536, 65_536), visit).unwrap();
    assert_eq!(read, [empty]);
}

/// A mark costs one write and no sync, and is written once.
#[test]
fn a_mark_is_written_when_it_says_something() {
    let disk = SimDisk::new(1);
    let mut log = Log::create(shared(&disk), STORE, small(65_536, 65_536)).unwrap();
    assert!(!log.mark().unwrap(), "there is nothing to tell");
    append(&mut log, &plan(1, 100));
    assert!(!log.mark().unwrap(), "it is not on disk yet");
    log.sync().unwrap();
    let (writes, syncs) = (disk.seen(Kind::Write), disk.seen(Kind::Sync));
    assert!(log.mark().unwrap());
    assert!(!log.mark().unwrap(), "it was told");
    assert_eq!((disk.seen(Kind::Write), disk.seen(Kind::Sync)), (writes + 1, syncs));
    append_synced(&mut log, &plan(2, 100));
    drop(log);
    let (mut log, _, revisions) = open(&disk, small(65_536, 65_536)).unwrap();
    assert_eq!(revisions, [1, 2]);
    assert!(!log.mark().unwrap(), "the opening frame says that what was read is on disk");
    assert_eq!(files(&disk).len(), 1);
}

/// A step of time may remove thousands of the longest keys: more than any transaction may.
#[test]
fn a_frame_may_be_larger_than_any_transaction() {
    let disk = SimDisk::new(1);
    let mut log = Log::create(shared(&disk), STORE, small(65_536, 65_536)).unwrap();
    let key = |number: u32| Bytes::from([vec![1; 4_092], number.to_be_bytes().to_vec()].concat());
    let gone = Plan {
        committed: plan(1, 0).committed,
        id: None,
        clears: Vec::new(),
        changes: (0..4_096).map(|number| Change { key: key(number), value: None }).collect(),
    };
    append_synced(&mut log, &gone);
    append_synced(&mut log, &plan(2, 4 << 20));
    drop(log);
    let mut read = Vec::new();
    let visit = &mut |plan| {
        read.push(plan);
        Ok::<_, crate::log::LogError>(())
    };
    Log::open(shared(&disk), STORE, Position::START, 1, small(65_536, 65_536), visit).unwrap();
    assert!(read == [gone, plan(2, 4 << 20)]);
}
