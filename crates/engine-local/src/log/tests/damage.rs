//! Bytes that are not what was written, wherever they are, are found; and files that are not there.

use super::{STORE, append, append_synced, open, open_from, plan, shared, small};
use crate::log::{
    Frame, Log, LogError, Options, Position, Preparation,
    frame::{self, HEADER_BYTES},
    segment::{FRAMES_START, name},
};
use outrigger_kernel::disk::Disk;
use outrigger_sim::disk::{Kind, SimDisk, Trouble};
use proptest::prelude::*;

/// How a log that was tampered with opened.
#[derive(Debug, PartialEq)]
enum Outcome {
    Refused,
    /// Opened with everything, but not as one that was closed.
    Noticed,
    Unnoticed,
}

fn outcome(image: &SimDisk, options: &Options, all: &[u64]) -> Outcome {
    match open(image, options.clone()) {
        Err(LogError::Damaged { .. } | LogError::Newer { .. }) => Outcome::Refused,
        Err(other) => panic!("refused for another reason: {other}"),
        Ok((_, opened, revisions)) => {
            assert_eq!(revisions, all, "nothing is lost silently");
            if opened.clean { Outcome::Unnoticed } else { Outcome::Noticed }
        }
    }
}

/// A closed log over two segments, with a third one ready: each byte of it, one bit turned over.
#[test]
fn every_flipped_byte_of_a_closed_log_is_found() {
    let disk = SimDisk::new(1);
    let options = small(8_192, 8_192);
    let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
    for revision in 1..=7 {
        append_synced(&mut log, &plan(revision, 600));
    }
    // Closing is what makes the last one last.
    append(&mut log, &plan(8, 600));
    assert_eq!(log.end().segment, 2);
    let end = log.end();
    log.close().unwrap();
    let all: Vec<u64> = (1..=8).collect();
    assert_eq!(disk.list().unwrap().len(), 3);
    assert_eq!(outcome(&disk.kill(), &options, &all), Outcome::Unnoticed);
    let mut noticed = Vec::new();
    for number in 1..=3 {
        for at in 0..8_192_u64 {
            let image = disk.kill();
            assert!(image.flip(&name(number), at, (at % 8) as u8));
            match outcome(&image, &options, &all) {
                Outcome::Refused => {}
                Outcome::Noticed => noticed.push((number, at)),
                Outcome::Unnoticed => panic!("{number}:{at}"),
            }
        }
    }
    // Only the closing frame and the zeros after it look like a torn write, which loses nothing.
    let (first, last) = (noticed.first().unwrap(), noticed.last().unwrap());
    assert_eq!((*first, *last), ((2, end.offset), (2, 8_191)));
    assert_eq!(noticed.len() as u64, 8_192 - end.offset);
}

/// The same for a log of which a segment was used before: there, what an earlier life has left may change.
#[test]
fn every_flipped_byte_of_a_log_in_used_segments_is_found_or_harmless() {
    let disk = SimDisk::new(1);
    let options = small(8_192, 8_192);
    let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
    let mut from = log.end();
    for revision in 1..=30 {
        from = append_synced(&mut log, &plan(revision, 600));
        log.history().release(&from, 0);
    }
    let mut ends = vec![from];
    for revision in 31..=37 {
        ends.push(append_synced(&mut log, &plan(revision, 600)));
    }
    let end = log.end();
    log.close().unwrap();
    let all: Vec<u64> = (31..=37).collect();
    assert!(end.segment > from.segment, "it goes over several segments");
    assert!(disk.list().unwrap().contains(&name(end.segment + 1)));
    let mut harmless = 0;
    for number in from.segment..=end.segment + 1 {
        let written = match number {
            _ if number < end.segment => ends
                .iter()
                .filter(|end| end.segment == number)
                .map(|end| end.offset + HEADER_BYTES as u64)
                .max()
                .unwrap(),
            _ if number == end.segment => end.offset,
            _ => FRAMES_START,
        };
        for at in 0..8_192_u64 {
            let image = disk.kill();
            assert!(image.flip(&name(number), at, (at % 8) as u8));
            match open_from(&image, from, options.clone()) {
                Err(LogError::Damaged { .. } | LogError::Newer { .. }) => {}
                Err(other) => panic!("{number}:{at}: {other}"),
                Ok((_, opened, revisions)) => {
                    assert!(at >= written, "{number}:{at} is found");
                    assert_eq!(revisions, all, "{number}:{at}");
                    harmless += 1;
                    let closing = number == end.segment && at < end.offset + HEADER_BYTES as u64;
                    assert_eq!(opened.clean, !closing, "{number}:{at}");
                }
            }
        }
    }
    assert!(harmless > 1_000, "{harmless}");
}

/// A log that was not closed: whatever was synced and told in a later frame is found damaged, only the last frame may pass for
/// torn, and with a mark behind it not even that.
#[test]
fn only_what_no_later_frame_tells_of_may_pass_for_torn() {
    for marked in [false, true] {
        let disk = SimDisk::new(1);
        let options = small(65_536, 65_536);
        let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
        let mut ends = vec![log.end().offset];
        for revision in 1..=4 {
            ends.push(append_synced(&mut log, &plan(revision, 50)).offset);
        }
        if marked {
            assert!(log.mark().unwrap());
        }
        drop(log);
        for at in FRAMES_START..ends[4] {
            let image = disk.kill();
            image.flip(&name(1), at, (at % 8) as u8);
            let opened = open(&image, options.clone());
            if marked || at < ends[3] {
                let Err(LogError::Damaged { file, offset, .. }) = opened else {
                    panic!("{at} passes, marked: {marked}");
                };
                let start = ends.iter().rev().find(|start| **start <= at).unwrap();
                assert_eq!((file, offset), (name(1), *start));
            } else {
                let (_, opened, revisions) = opened.unwrap();
                assert_eq!((revisions, opened.torn_bytes), (vec![1, 2, 3], ends[4] - ends[3]));
            }
        }
    }
}

/// Frames that no sync had confirmed are cut behind a hole; what a later frame tells of is not.
#[test]
fn a_hole_among_unsynced_frames_is_cut_and_one_before_synced_ones_is_not() {
    let disk = SimDisk::new(1);
    let options = small(65_536, 65_536);
    let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
    append_synced(&mut log, &plan(1, 50));
    let hole = log.end().offset;
    for revision in 2..=4 {
        append(&mut log, &plan(revision, 50));
    }
    let unsynced = disk.kill();
    log.sync().unwrap();
    append(&mut log, &plan(5, 50));
    let synced = disk.kill();
    for image in [&unsynced, &synced] {
        image.flip(&name(1), hole + 50, 0);
    }
    let (_, opened, revisions) = open(&unsynced, options.clone()).unwrap();
    assert_eq!(revisions, [1]);
    assert!(opened.torn_bytes > 150);
    let refused = open(&synced, options).unwrap_err();
    assert!(matches!(refused, LogError::Damaged { offset, .. } if offset == hole), "{refused}");
}

/// Two lives of the same store that went apart: a frame of the one is sound in the other, yet does not go on there.
#[test]
fn a_sound_frame_that_chains_on_another_is_none() {
    let options = small(65_536, 65_536);
    let life = |length| {
        let disk = SimDisk::new(1);
        let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
        let mut first = plan(1, 50);
        first.committed.time.0 += length;
        append_synced(&mut log, &first);
        let from = log.end().offset;
        append_synced(&mut log, &plan(2, 50));
        let bytes =
            disk.bytes(&name(1)).unwrap()[from as usize..log.end().offset as usize].to_vec();
        (disk, from, bytes)
    };
    let (disk, from, _) = life(0);
    let (_, other_from, other) = life(1);
    assert_eq!(from, other_from);
    disk.overwrite(&name(1), from, &other);
    let (_, opened, revisions) = open(&disk, options).unwrap();
    assert_eq!(revisions, [1]);
    assert_eq!(opened.torn_bytes, other.len() as u64);
}

/// Damage on both sides of a turn: the frame that turns, and the place of the first frame after it.
#[test]
fn a_turn_cannot_be_lost_with_what_follows_it() {
    for used_before in [false, true] {
        let options = small(8_192, 8_192);
        let disk = SimDisk::new(1);
        let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
        let (mut revision, mut from) = (0, log.end());
        while used_before && log.end().segment < 6 {
            revision += 1;
            from = append_synced(&mut log, &plan(revision, 600));
            log.history().release(&from, 0);
        }
        let mut before = from;
        while log.end().segment < from.segment + 1 {
            before = log.end();
            revision += 1;
            append_synced(&mut log, &plan(revision, 600));
        }
        append_synced(&mut log, &plan(revision + 1, 600));
        drop(log);
        disk.flip(&name(before.segment), before.offset, 0);
        disk.flip(&name(before.segment + 1), FRAMES_START + frame::PLACE_AT as u64, 0);
        let refused = open_from(&disk, from, options).unwrap_err();
        let found =
            matches!(&refused, LogError::Damaged { offset, .. } if *offset == before.offset);
        assert!(found, "used before: {used_before}: {refused}");
    }
}

/// What cannot be cut is not gone on from.
#[test]
fn a_cut_that_fails_is_told() {
    let disk = SimDisk::new(1);
    let options = small(65_536, 65_536);
    let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
    append_synced(&mut log, &plan(1, 50));
    append_synced(&mut log, &plan(2, 50));
    disk.flip(&name(1), log.end().offset - 20, 0);
    drop(log);
    for kind in [Kind::Write, Kind::Sync, Kind::SyncFolder] {
        let image = disk.kill();
        image.plan(kind, 0, Trouble::Fails);
        let refused = open(&image, options.clone()).unwrap_err();
        assert!(matches!(refused, LogError::Io { .. }), "{refused}");
    }
}

#[test]
fn a_refusal_changes_nothing() {
    let disk = SimDisk::new(1);
    let options = small(8_192, 8_192);
    let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
    for revision in 1..=8 {
        append_synced(&mut log, &plan(revision, 600));
    }
    disk.create(&(name(9) + ".new")).unwrap();
    disk.flip(&name(1), FRAMES_START + 100, 3);
    let before = disk.fingerprint();
    let refused = open(&disk, options).unwrap_err();
    assert_eq!(disk.fingerprint(), before);
    let text = refused.to_string();
    assert!(text.contains("log-00000000000000000001 is damaged at byte 4096"), "{text}");
    assert!(text.contains("restore the store from a backup"), "{text}");
}

#[test]
fn a_lost_file_is_missed() {
    let disk = SimDisk::new(1);
    let options = small(8_192, 8_192);
    let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
    let mut middle = log.end();
    for revision in 1..=24 {
        append_synced(&mut log, &plan(revision, 600));
        if revision == 14 {
            middle = log.end();
        }
    }
    let last = log.end().segment;
    assert!(middle.segment > 2 && last > middle.segment, "{middle:?} {last}");
    drop(log);
    for number in 1..=last {
        let image = disk.kill();
        image.remove(&name(number)).unwrap();
        for from in [Position::START, middle] {
            let result = open_from(&image, from, options.clone());
            // History may begin anywhere; what is needed may not.
            if number == 1 && from.segment > 1 {
                result.unwrap();
            } else {
                let refused = result.unwrap_err();
                let missing =
                    matches!(&refused, LogError::Missing { file } if *file == name(number));
                assert!(missing, "{number}: {refused}");
            }
        }
    }
}

#[test]
fn a_file_under_another_number_is_refused() {
    let disk = SimDisk::new(1);
    let options = small(8_192, 8_192);
    let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
    for revision in 1..=14 {
        append_synced(&mut log, &plan(revision, 600));
    }
    assert_eq!(log.end().segment, 3);
    drop(log);
    for (from, to) in [(1, 2), (2, 3), (3, 4), (4, 1)] {
        let image = disk.kill();
        let bytes = image.bytes(&name(from)).unwrap();
        image.overwrite(&name(to), 0, &bytes);
        let refused = open(&image, options.clone()).unwrap_err();
        let told = refused.to_string();
        assert!(told.contains(&format!("it says it is segment {from}")), "{told}");
    }
}

/// The index is ahead of the log: the disk has kept the one and not the other.
#[test]
fn a_log_that_ends_before_the_checkpoint_is_refused() {
    let options = small(16_384, 16_384);
    let disk = SimDisk::new(1);
    let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
    append_synced(&mut log, &plan(1, 500));
    let earlier = disk.kill();
    let second = append_synced(&mut log, &plan(2, 500));
    let mut far = second;
    for revision in 3..=12 {
        far = append_synced(&mut log, &plan(revision, 2_000));
    }
    assert!(far.segment > 1);
    drop(log);
    for from in [second, far] {
        let refused = open_from(&earlier, from, options.clone()).unwrap_err();
        assert!(matches!(refused, LogError::Short { .. }), "{refused}");
        assert!(refused.to_string().contains("honours flushes"), "{refused}");
    }
    // A position of some other log of the same store.
    for from in [
        Position { chain: second.chain ^ 1, ..second },
        Position { offset: second.offset - 8, ..second },
        Position { offset: second.offset + 8, ..second },
    ] {
        let refused = open_from(&disk, from, options.clone()).unwrap_err();
        assert!(matches!(refused, LogError::Damaged { .. }), "{refused}");
    }
    // The same, with the sync of the log's only segment having lied.
    let disk = SimDisk::new(1);
    let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
    disk.let_syncs_lie("log-");
    let end = append_synced(&mut log, &plan(1, 500));
    let crashed = disk.crash(outrigger_sim::disk::Survivors::Nothing);
    let refused = open_from(&crashed, end, options).unwrap_err();
    assert!(matches!(refused, LogError::Short { .. }), "{refused}");
}

#[test]
fn a_newer_format_and_another_store_are_refused() {
    use xxhash_rust::xxh3::xxh3_64;
    let options = small(8_192, 8_192);
    let disk = SimDisk::new(1);
    Log::create(shared(&disk), STORE, options.clone()).unwrap().close().unwrap();
    let mut header = disk.bytes(&name(1)).unwrap()[..64].to_vec();
    header[8] = 2;
    let checksum = xxh3_64(&header[..56]);
    header[56..].copy_from_slice(&checksum.to_le_bytes());
    let newer = disk.kill();
    newer.overwrite(&name(1), 0, &header);
    let refused = open(&newer, options.clone()).unwrap_err();
    assert!(matches!(refused, LogError::Newer { found: 2, known: 1, .. }), "{refused}");
    let opened =
        Log::open(shared(&disk), *b"another store id", Position::START, 1, options, &mut |_| {
            Ok::<_, LogError>(())
        });
    let refused = opened.unwrap_err();
    assert!(refused.to_string().contains("belongs to another store"), "{refused}");
}

/// Somebody stores the log itself, frame by frame and byte by byte, as values: none of it is taken for frames.
#[test]
fn a_value_that_holds_a_frame_is_not_one() {
    let options = small(65_536, 65_536);
    let disk = SimDisk::new(1);
    let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
    append_synced(&mut log, &plan(1, 64));
    append_synced(&mut log, &plan(2, 64));
    let stolen = disk.bytes(&name(1)).unwrap()[4096..5120].to_vec();
    let mut stored = plan(3, 0);
    let start = log.end().offset;
    stored.changes[0].value.as_mut().unwrap().bytes = stolen.into();
    append(&mut log, &stored);
    drop(log);
    disk.flip(&name(1), start, 0);
    let (_, opened, revisions) = open(&disk, options).unwrap();
    assert_eq!(revisions, [1, 2], "the torn frame is cut, the frames within it were no frames");
    assert!(opened.torn_bytes > 200);
}

#[test]
fn a_read_that_fails_or_flips_never_loses_what_was_synced() {
    let options = small(8_192, 8_192);
    let disk = SimDisk::new(1);
    let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
    for revision in 1..=8 {
        append_synced(&mut log, &plan(revision, 600));
    }
    log.close().unwrap();
    let all: Vec<u64> = (1..=8).collect();
    for nth in 0..40 {
        for trouble in [Trouble::Fails, Trouble::Flips] {
            let image = disk.kill();
            image.set_seed(nth);
            image.plan(Kind::Read, nth, trouble);
            if let Ok((_, _, revisions)) = open(&image, options.clone()) {
                assert_eq!(revisions, all, "read {nth}, {trouble:?}");
            }
        }
    }
}

fn frames() -> (Vec<u8>, u64) {
    let disk = SimDisk::new(1);
    let options =
        Options { first_bytes: 8_192, max_bytes: 8_192, preparation: Preparation::Inline };
    let mut log = Log::create(shared(&disk), STORE, options).unwrap();
    let mut frame = Frame::default();
    for revision in 1..=6 {
        frame.push(&plan(revision, 100));
        log.append(&mut frame).unwrap();
        log.sync().unwrap();
    }
    log.close().unwrap();
    (disk.bytes(&name(1)).unwrap(), 8_192)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Any bytes where the frames should be, and pieces of a true log moved about: reading ends, with a beginning of the truth
    /// or an error.
    #[test]
    fn any_bytes_are_survived(
        edits in proptest::collection::vec(
            (FRAMES_START..8_192, FRAMES_START..8_192, 1..600_usize, any::<u8>()), 1..6),
    ) {
        let (truth, size) = frames();
        let mut bytes = truth.clone();
        for (from, to, length, byte) in edits {
            let length = length.min((size - from) as usize).min((size - to) as usize);
            if byte < 128 {
                let piece = truth[from as usize..from as usize + length].to_vec();
                bytes[to as usize..to as usize + length].copy_from_slice(&piece);
            } else {
                bytes[to as usize..to as usize + length].fill(byte);
            }
        }
        let disk = SimDisk::new(1);
        let file = disk.create(&name(1)).unwrap();
        file.write_at(&bytes, 0).unwrap();
        let options = small(8_192, 8_192);
        if let Ok((_, _, revisions)) = open(&disk, options) {
            let last = revisions.last().copied().unwrap_or(0);
            prop_assert_eq!(revisions, (1..=last).collect::<Vec<_>>());
        }
    }

    /// A header of any bytes claims nothing beyond its bounds.
    #[test]
    fn any_header_is_survived(bytes in proptest::collection::vec(any::<u8>(), HEADER_BYTES..200), salt in any::<u64>()) {
        let header = bytes.first_chunk::<HEADER_BYTES>().unwrap();
        if let Some(length) = frame::claimed_length(header, salt, 4096) {
            prop_assert!(length <= frame::PAYLOAD_BYTES_MAX);
        }
        prop_assert!(frame::verify(&bytes, salt).is_none());
        prop_assert!(frame::verify(&bytes[..HEADER_BYTES - 1], salt).is_none());
    }
}
