//! What is kept of the log, what is used again, and how others read it meanwhile.

use super::{STORE, append, append_synced, files, open_from, plan, shared, small};
use crate::log::{
    History, Log, LogError, Options, Position, Preparation,
    segment::{FRAMES_START, SegmentReader, name},
    verify,
};
use outrigger_kernel::disk::Disk;
use outrigger_sim::disk::{Kind, SimDisk, Trouble};
use std::sync::Arc;

const SIZE: u64 = 16_384;

fn filled(disk: &SimDisk, options: &Options, revisions: u64) -> (Log, Vec<Position>) {
    let mut log = Log::create(shared(disk), STORE, options.clone()).unwrap();
    let mut ends = vec![log.end()];
    for revision in 1..=revisions {
        ends.push(append_synced(&mut log, &plan(revision, 3_000)));
    }
    (log, ends)
}

fn numbers(history: &History) -> Vec<u64> {
    history.segments().iter().map(|segment| segment.number).collect()
}

fn read_all(history: &History, from: Position, to: Position) -> Result<Vec<u64>, LogError> {
    let mut reader = history.read(from, to)?;
    let mut revisions = Vec::new();
    while let Some(plan) = reader.next()? {
        revisions.push(plan.committed.revision);
    }
    assert_eq!(reader.position(), to);
    Ok(revisions)
}

#[test]
fn released_segments_are_used_again_and_the_disk_does_not_grow() {
    let disk = SimDisk::new(1);
    let options = small(SIZE, SIZE);
    let (mut log, _) = filled(&disk, &options, 20);
    let history = log.history();
    assert!(numbers(&history).len() > 5);
    history.release(&log.end(), 0);
    assert_eq!(numbers(&history).len(), 3, "two are kept to be used again");
    let prepared = disk.used_bytes();
    for revision in 21..=100 {
        let end = append_synced(&mut log, &plan(revision, 3_000));
        history.release(&end, 0);
        assert!(files(&disk).len() <= 5, "{:?}", files(&disk));
    }
    assert!(disk.used_bytes() <= prepared + SIZE);
    let reader = SegmentReader::open(&disk, STORE, log.end().segment).unwrap();
    assert!(reader.header.used_before);
    let from = log.end();
    for revision in 101..=110 {
        append_synced(&mut log, &plan(revision, 3_000));
    }
    drop(log);
    assert_eq!(open_from(&disk, from, options).unwrap().2, (101..=110).collect::<Vec<_>>());
}

#[test]
fn what_fits_is_kept_and_nothing_from_the_checkpoint_on_goes() {
    let disk = SimDisk::new(1);
    let (log, ends) = filled(&disk, &small(SIZE, SIZE), 24);
    let history = log.history();
    let all = numbers(&history);
    let checkpoint = ends[15];
    history.release(&checkpoint, u64::MAX);
    assert_eq!(numbers(&history), all);
    history.release(&checkpoint, 2 * SIZE);
    let first = checkpoint.segment - 2;
    assert!(first > 2);
    assert_eq!(numbers(&history)[2..], (first..=log.end().segment).collect::<Vec<_>>());
    assert_eq!(numbers(&history)[0], first - 2, "two more are there, to be used again");
    history.release(&Position::START, 0);
    history.release(&checkpoint, u64::MAX);
    history.release(&checkpoint, 0);
    assert_eq!(
        numbers(&history)[2..],
        (checkpoint.segment..=log.end().segment).collect::<Vec<_>>()
    );
}

#[test]
fn plans_are_read_between_any_two_positions() {
    let disk = SimDisk::new(1);
    let (log, ends) = filled(&disk, &small(SIZE, SIZE), 14);
    let history = log.history();
    assert_eq!(history.start().unwrap(), Some(Position::START));
    for (first, from) in ends.iter().enumerate() {
        for (last, to) in ends.iter().enumerate().skip(first) {
            let expected: Vec<u64> = (first as u64 + 1..=last as u64).collect();
            assert_eq!(read_all(&history, *from, *to).unwrap(), expected);
        }
    }
    history.release(&log.end(), 0);
    let start = history.start().unwrap().unwrap();
    assert!(start.segment > 1);
    let read = read_all(&history, start, log.end()).unwrap();
    assert_eq!(read.last(), Some(&14));
    let gone = history.read(Position::START, log.end()).unwrap_err();
    assert!(matches!(gone, LogError::Missing { .. }), "{gone}");
}

#[test]
fn what_is_being_read_stays_until_it_is_read() {
    let disk = SimDisk::new(1);
    let (mut log, ends) = filled(&disk, &small(SIZE, SIZE), 16);
    let history = log.history();
    let to = log.end();
    let mut reader = history.read(ends[7], to).unwrap();
    assert!(ends[7].segment > 2);
    for revision in 17..=40 {
        let end = append_synced(&mut log, &plan(revision, 3_000));
        history.release(&end, 0);
    }
    assert_eq!(numbers(&history)[0], ends[7].segment);
    let mut revisions = Vec::new();
    while let Some(plan) = reader.next().unwrap() {
        revisions.push(plan.committed.revision);
    }
    assert_eq!(revisions, (8..=16).collect::<Vec<_>>());
    drop(reader);
    assert_eq!(numbers(&history).len(), 3, "what waited for the reader goes then");
}

#[test]
fn a_reader_finds_damage_before_its_end() {
    let disk = SimDisk::new(1);
    let options = small(SIZE, SIZE);
    let (log, ends) = filled(&disk, &options, 8);
    drop(log);
    let (log, ..) = open_from(&disk, ends[8], options).unwrap();
    let history = log.history();
    let in_one = |revision: usize| ends[revision].segment == 1;
    let damaged = (1..=8).rev().find(|revision| in_one(*revision)).unwrap();
    disk.flip(&name(1), ends[damaged].offset - 100, 5);
    let refused = read_all(&history, ends[0], ends[8]).unwrap_err();
    let start = ends[damaged - 1].offset;
    assert!(matches!(refused, LogError::Damaged { offset, .. } if offset == start), "{refused}");
    let mut until = ends[2];
    until.offset -= 8;
    let refused = read_all(&history, ends[0], until).unwrap_err();
    assert!(refused.to_string().contains("not between two frames"), "{refused}");
}

/// After opening, segments from before the checkpoint are history again.
#[test]
fn history_outlives_the_process() {
    let disk = SimDisk::new(1);
    let options = small(SIZE, SIZE);
    let (log, ends) = filled(&disk, &options, 16);
    log.close().unwrap();
    let (log, opened, _) = open_from(&disk, ends[12], options).unwrap();
    let history = log.history();
    assert_eq!(history.start().unwrap(), Some(Position::START));
    assert_eq!(numbers(&history).len(), opened.segments);
    assert_eq!(read_all(&history, ends[0], log.end()).unwrap(), (1..=16).collect::<Vec<_>>());
}

/// Every byte of what is kept is looked at, from before the checkpoint too, and nothing is changed.
#[test]
fn verifying_reads_everything_and_changes_nothing() {
    let disk = SimDisk::new(1);
    let options = small(SIZE, SIZE);
    let (log, ends) = filled(&disk, &options, 24);
    log.history().release(&ends[15], 0);
    let first = log.history().start().unwrap().unwrap();
    drop(log);
    disk.create(&(name(20) + ".new")).unwrap();
    let before = disk.fingerprint();
    let checkpoint = ends[20];
    let verified = verify(&shared(&disk), STORE, checkpoint).unwrap();
    let kept = ends.iter().filter(|end| end.segment >= first.segment).count() as u64;
    assert!(verified.plans >= kept && verified.plans < 24, "{verified:?}");
    assert_eq!(disk.fingerprint(), before);
    for end in ends.iter().filter(|end| end.segment >= first.segment) {
        let image = disk.kill();
        image.flip(&name(end.segment), end.offset - 50, 1);
        let verified = verify(&shared(&image), STORE, checkpoint);
        // Of the last one it cannot be told.
        assert!(verified.is_err() || *end == ends[24], "{end:?}");
    }
    let beyond = Position { offset: ends[24].offset + 64, ..ends[24] };
    let short = verify(&shared(&disk), STORE, beyond).unwrap_err();
    assert!(matches!(short, LogError::Short { .. }), "{short}");
    disk.flip(&name(first.segment), FRAMES_START + 3, 1);
    assert!(verify(&shared(&disk), STORE, checkpoint).is_err());
    let (log, ..) = open_from(&disk, checkpoint, options).unwrap();
    assert!(log.history().start().is_err(), "what the store does not need is damaged");
}

/// A segment that cannot be made ahead of need is made when it is needed; one whose sync failed ends the log.
#[test]
fn failures_of_preparation() {
    for (kind, trouble, survives) in [
        (Kind::Write, Trouble::Fails, true),
        (Kind::Write, Trouble::Stops(4096), true),
        (Kind::Name, Trouble::Fails, true),
        (Kind::Sync, Trouble::Fails, false),
        (Kind::SyncFolder, Trouble::Fails, false),
    ] {
        let disk = SimDisk::new(1);
        let options = small(65_536, 65_536);
        let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
        append_synced(&mut log, &plan(1, 9_000));
        assert_eq!(files(&disk).len(), 1);
        // The next append makes it time: its own write comes first.
        disk.plan(kind, if kind == Kind::Write { 1 } else { 0 }, trouble);
        append(&mut log, &plan(2, 9_000));
        log.sync().unwrap();
        assert!(!files(&disk).contains(&name(2)) || kind == Kind::SyncFolder, "{kind:?}");
        let mut last = 2;
        let ended = loop {
            last += 1;
            let mut frame = crate::log::Frame::default();
            frame.push(&plan(last, 9_000));
            if let Err(error) = log.append(&mut frame) {
                break Some(error);
            }
            if log.end().segment == 2 {
                break None;
            }
        };
        assert_eq!(ended.is_none(), survives, "{kind:?} {trouble:?}: {ended:?}");
        let all = if survives { last } else { last - 1 };
        log.sync().unwrap_or_else(|_| assert!(!survives));
        drop(log);
        let (_, _, revisions) = open_from(&disk, Position::START, options).unwrap();
        assert_eq!(revisions, (1..=all).collect::<Vec<_>>());
    }
}

/// What is half made when the disk is full gives its room back.
#[test]
fn a_full_disk_is_not_filled_with_a_half_made_segment() {
    let disk = SimDisk::new(1);
    let options = small(65_536, 1 << 20);
    let mut log = Log::create(shared(&disk), STORE, options).unwrap();
    disk.set_capacity(150_000);
    append_synced(&mut log, &plan(1, 20_000));
    assert_eq!(disk.used_bytes(), 65_536);
    append_synced(&mut log, &plan(2, 20_000));
    disk.set_capacity(300_000);
    append_synced(&mut log, &plan(3, 40_000));
    assert_eq!(log.end().segment, 2);
}

/// Nothing is left to do for a history whose log is gone: somebody else has the folder.
#[test]
fn a_history_without_its_log_touches_nothing() {
    let disk = SimDisk::new(1);
    let (log, _) = filled(&disk, &small(SIZE, SIZE), 20);
    let (history, end) = (log.history(), log.end());
    log.close().unwrap();
    let before = disk.fingerprint();
    history.release(&end, 0);
    assert_eq!(disk.fingerprint(), before);
}

/// The thread makes segments ahead of need, stops in the middle when it must, and leaves nothing behind.
#[test]
fn the_thread_prepares_uses_again_and_ends() {
    let disk = SimDisk::new(1);
    let options = Options { preparation: Preparation::Thread, ..small(SIZE, 65_536) };
    let (mut log, ends) = filled(&disk, &options, 60);
    let history = log.history();
    for revision in 61..=200 {
        let end = append_synced(&mut log, &plan(revision, 3_000));
        if revision % 10 == 0 {
            history.release(&end, 65_536);
        }
    }
    log.close().unwrap();
    assert_eq!(Arc::strong_count(&history), 1);
    let listed = disk.list().unwrap();
    let oldest = history.start().unwrap().unwrap();
    assert!(oldest.segment > ends[10].segment && listed.len() < 10, "{listed:?}");
    let (_, opened, revisions) = open_from(&disk, oldest, options).unwrap();
    assert!(opened.clean);
    assert_eq!(revisions.last(), Some(&200));
}

/// What a crash left half made is removed when the log is opened.
#[test]
fn half_made_segments_are_removed() {
    let disk = SimDisk::new(1);
    let options = small(SIZE, SIZE);
    let (log, _) = filled(&disk, &options, 3);
    log.close().unwrap();
    let half = name(7) + ".new";
    disk.create(&half).unwrap().write_at(&[1; 5_000], 0).unwrap();
    disk.create("somebody else's").unwrap();
    let (log, _, revisions) = open_from(&disk, Position::START, options).unwrap();
    assert_eq!(revisions, [1, 2, 3]);
    assert!(!files(&disk).contains(&half));
    assert!(files(&disk).contains(&"somebody else's".to_owned()));
    assert!(log.end().offset > FRAMES_START);
}
