//! Power cuts and kills at every step of a workload, with every kind of survivors: what was acknowledged is there, what is
//! there is a beginning of what was written, and what was once cut never comes back.

use super::{STORE, append, open, open_from, plan, shared, small};
use crate::log::{
    Frame, Log, LogError, Options, Position, frame::HEADER_BYTES, segment::FRAMES_START,
};
use outrigger_sim::disk::{Moment, SECTOR_BYTES, SimDisk, Survivors};

/// What was known when.
#[derive(Default)]
struct Known {
    /// After which step of the disk which revision was synced.
    synced: Vec<(usize, u64)>,
    written: Vec<(usize, u64)>,
    /// Where the log ended, with the revision before.
    ends: Vec<(Position, u64)>,
}

impl Known {
    fn append(&mut self, disk: &SimDisk, log: &mut Log, revision: u64, length: usize) {
        self.written.push((disk.steps(), revision));
        self.ends.push((append(log, &plan(revision, length)), revision));
    }

    fn sync(&mut self, disk: &SimDisk, log: &mut Log) {
        log.sync().unwrap();
        let revision = self.written.last().map_or(0, |(_, revision)| *revision);
        self.synced.push((disk.steps(), revision));
    }

    /// The last revision that must be there after `steps`, and the last that may.
    fn bounds(&self, steps: usize) -> (u64, u64) {
        let last = |known: &[(usize, u64)], slack| {
            let before = known.iter().rev().find(|(step, _)| *step + slack <= steps);
            before.map_or(0, |(_, revision)| *revision)
        };
        // A write that was begun after this step is not in it.
        (last(&self.synced, 0), last(&self.written, 1))
    }
}

fn survivors(moment: &Moment, seeds: u64) -> Vec<Survivors> {
    let mut all = vec![Survivors::Nothing, Survivors::Everything];
    for change in 0..moment.pending().min(6) {
        all.push(Survivors::Before(change));
        all.push(Survivors::Without(change));
        all.push(Survivors::Only(change));
        for seed in 0..seeds {
            all.push(Survivors::Torn { change, seed });
            all.push(Survivors::Holed { change, seed });
        }
    }
    all.extend((0..seeds).map(|seed| Survivors::Random { seed }));
    all
}

/// Groups of one to three frames per sync, marks between, over several segments, some of them used again.
fn workload(disk: &SimDisk, options: &Options, known: &mut Known) {
    let mut log = Log::create(shared(disk), STORE, options.clone()).unwrap();
    let mut revision = 0;
    for round in 0..14_usize {
        for _ in 0..=round % 3 {
            revision += 1;
            let length = [10, 700, 3_000, 5_000][(revision % 4) as usize];
            known.append(disk, &mut log, revision, length);
        }
        known.sync(disk, &mut log);
        if round % 4 == 3 {
            log.mark().unwrap();
        }
        if round % 5 == 4 {
            log.history().release(&log.end(), 0);
        }
    }
    log.close().unwrap();
}

/// The oldest position known at `steps` that a checkpoint could still name: nothing after it was released.
fn from(known: &Known, disk: &SimDisk) -> Position {
    use outrigger_kernel::disk::Disk;
    let numbers: Vec<u64> = disk
        .list()
        .unwrap()
        .iter()
        .filter_map(|name| crate::log::segment::number_of(name))
        .collect();
    let first = numbers.first().copied().unwrap_or(0);
    let after = |end: &&(Position, u64)| end.0.segment >= first;
    match first {
        0 | 1 => Position::START,
        _ => known.ends.iter().find(after).expect("it ends somewhere").0,
    }
}

#[test]
fn every_crash_leaves_a_beginning_that_holds_all_that_was_synced() {
    let options = small(16_384, 16_384);
    let disk = SimDisk::new(1);
    let mut known = Known::default();
    workload(&disk, &options, &mut known);
    let created = 3;
    let (mut cuts, mut torn) = (0, 0);
    for (steps, moment) in disk.tape().moments().enumerate().skip(created) {
        let (least, most) = known.bounds(steps);
        let mut images: Vec<SimDisk> =
            survivors(&moment, 3).into_iter().map(|survivors| moment.crash(survivors)).collect();
        images.push(moment.kill());
        for image in images {
            use outrigger_kernel::disk::Disk;
            if image
                .list()
                .unwrap()
                .iter()
                .all(|name| crate::log::segment::number_of(name).is_none())
            {
                continue;
            }
            let from = from(&known, &image);
            let taken =
                known.ends.iter().find(|(end, _)| *end == from).map_or(0, |(_, taken)| *taken);
            let (log, opened, revisions) = open_from(&image, from, options.clone())
                .unwrap_or_else(|error| panic!("after step {steps}: {error}"));
            let last = revisions.last().copied().unwrap_or(taken);
            assert_eq!(revisions, (taken + 1..=last).collect::<Vec<_>>(), "after step {steps}");
            assert!(
                (least..=most).contains(&last),
                "after step {steps}: {last}, not {least}..={most}"
            );
            cuts += 1;
            torn += u64::from(opened.torn_bytes > 0);
            // What was shown is on disk, ..
            let shown = image.crash(Survivors::Nothing);
            let (_, _, same) = open_from(&shown, from, options.clone()).unwrap();
            assert_eq!(same, revisions, "after step {steps}: what was shown once stays");
            // .. and the log can be gone on with.
            let mut log = log;
            let count = 1 + cuts % 4;
            for more in 1..=count {
                append(&mut log, &plan(last + more, 7_000));
                log.sync().unwrap();
            }
            log.close().unwrap();
            let again = image.crash(Survivors::Nothing);
            let (_, opened, more) = open_from(&again, from, options.clone()).unwrap();
            assert_eq!(more, (taken + 1..=last + count).collect::<Vec<_>>(), "after step {steps}");
            assert!(opened.clean);
        }
    }
    assert!(cuts > 500 && torn > 50, "{cuts} crashes, {torn} of them tore something");
}

/// A crash, a cut, the same writes again, a crash: what was cut is not what comes back.
#[test]
fn what_was_cut_never_comes_back() {
    for used_before in [false, true] {
        let disk = SimDisk::new(1);
        let options = small(16_384, 16_384);
        let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
        let mut revision = 0;
        let mut from = Position::START;
        while used_before && log.end().segment < 5 || revision == 0 {
            revision += 1;
            from = append(&mut log, &plan(revision, 2_000));
            log.sync().unwrap();
            log.history().release(&from, 0);
        }
        log.sync().unwrap();
        let steps = disk.steps();
        for next in 1..=4 {
            append(&mut log, &plan(revision + next, 1_500));
        }
        let moment = disk.tape().moment(steps + 4);
        assert_eq!(moment.pending(), 4);
        drop(log);
        let mut images = Vec::new();
        for change in 0..4 {
            images.push(moment.crash(Survivors::Without(change)));
            images.extend((0..20).map(|seed| moment.crash(Survivors::Holed { change, seed })));
        }
        images.extend((0..40).map(|seed| moment.crash(Survivors::Random { seed })));
        for image in images {
            let (mut log, _, first) = open_from(&image, from, options.clone()).unwrap();
            // The same plans again, the first of them only, and the power goes before or amid a sync.
            let last = first.last().copied().unwrap_or(revision);
            append(&mut log, &plan(last + 1, 1_500));
            for seed in 0..6 {
                let crashed = image.crash(Survivors::Random { seed });
                let (_, _, second) = open_from(&crashed, from, options.clone()).unwrap();
                let now = second.last().copied().unwrap_or(revision);
                assert!(now == last || now == last + 1, "{now} after {last} and one more");
            }
        }
    }
}

/// In a file that was used before, what says that it stands where it does loses its header, sound or not.
#[test]
fn what_is_cut_in_a_used_segment_is_no_frame_any_more() {
    let options = small(32_768, 32_768);
    let disk = SimDisk::new(1);
    let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
    let mut revision = 0;
    while log.end().segment < 5 {
        revision += 1;
        let end = append(&mut log, &plan(revision, 9_000));
        log.sync().unwrap();
        log.history().release(&end, 0);
    }
    let from = log.end();
    log.sync().unwrap();
    let starts: Vec<u64> = (1..=4)
        .map(|more| {
            let at = log.end().offset;
            append(&mut log, &plan(revision + more, 1_500));
            at
        })
        .collect();
    drop(log);
    let file = crate::log::segment::name(from.segment);
    // The first is torn, and so is the third.
    disk.overwrite(&file, starts[0] + 1_000, &[0; 100]);
    disk.overwrite(&file, starts[2] + 1_000, &[0; 100]);
    let (_, opened, revisions) = open_from(&disk, from, options).unwrap();
    assert!(revisions.is_empty() && opened.torn_bytes > 1_500);
    let bytes = disk.bytes(&file).unwrap();
    for start in &starts[1..] {
        let header = &bytes[*start as usize..*start as usize + HEADER_BYTES];
        assert_eq!(header, [0; HEADER_BYTES], "at {start}");
        assert!(bytes[*start as usize + HEADER_BYTES + 1] != 0, "only the header");
    }
}

/// A sector from before the crash appears late, behind the very frame it once stood behind: another life, another chain.
#[test]
fn no_two_lives_share_a_chain() {
    let options = small(65_536, 65_536);
    let disk = SimDisk::new(1);
    let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
    append(&mut log, &plan(1, 100));
    drop(log);
    let live = |nonce: u64, count: u64| {
        let image = disk.kill();
        let visit = &mut |_| Ok::<_, LogError>(());
        let from = Position::START;
        let opened = Log::open(shared(&image), STORE, from, nonce, options.clone(), visit);
        let (mut log, _) = opened.unwrap();
        let mut starts = Vec::new();
        for revision in 2..2 + count {
            starts.push(log.end().offset);
            append(&mut log, &plan(revision, 100));
        }
        (image, starts, log.end().offset)
    };
    let file = crate::log::segment::name(1);
    let (first, starts, end) = live(1, 2);
    let (second, ..) = live(2, 1);
    let late = first.bytes(&file).unwrap()[starts[1] as usize..end as usize].to_vec();
    for (image, last) in [(&second, 2), (&live(1, 1).0, 3)] {
        image.overwrite(&file, starts[1], &late);
        assert_eq!(open(image, options.clone()).unwrap().2.last(), Some(&last));
    }
}

/// A frame of many sectors whose bytes end, or have a hole, at any of them.
#[test]
fn a_frame_torn_at_any_sector_is_cut() {
    let options = small(16_384, 16_384);
    let disk = SimDisk::new(1);
    let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
    append(&mut log, &plan(1, 100));
    log.sync().unwrap();
    let start = log.end().offset;
    append(&mut log, &plan(2, 6_000));
    let end = log.end().offset;
    drop(log);
    let whole = disk.bytes("log-00000000000000000001").unwrap();
    let sector = SECTOR_BYTES as u64;
    for boundary in (start / sector..=end / sector).map(|number| number * sector) {
        let part = |from: u64, to: u64| {
            let (from, to) = (from.max(start), to.min(end));
            let image = disk.kill();
            if from < to && whole[from as usize..to as usize].iter().any(|byte| *byte != 0) {
                image.overwrite("log-00000000000000000001", from, &vec![0; (to - from) as usize]);
                let (_, opened, revisions) = open(&image, options.clone()).unwrap();
                assert_eq!(revisions, [1], "{from}..{to}");
                assert_eq!(opened.torn_bytes > 0, from > start || to < end, "{from}..{to}");
                let bytes = image.bytes("log-00000000000000000001").unwrap();
                let opening = start as usize + HEADER_BYTES + 8;
                assert!(bytes[opening..].iter().all(|byte| *byte == 0), "{from}..{to} is zeroed");
            }
        };
        part(boundary, end);
        part(start, boundary);
        part(boundary, boundary + sector);
    }
}

/// The file cut short by a copy that stopped, at every length: refused, for a segment has the size it says.
#[test]
fn a_file_of_another_length_is_refused() {
    let options = small(8_192, 8_192);
    let disk = SimDisk::new(1);
    let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
    append(&mut log, &plan(1, 100));
    log.close().unwrap();
    use outrigger_kernel::disk::Disk;
    for length in (0..8_192).step_by(7).chain([8_191, 8_193, 9_000]) {
        let image = disk.kill();
        image.open("log-00000000000000000001").unwrap().set_length(length).unwrap();
        assert!(open(&image, options.clone()).is_err(), "{length}");
    }
}

/// Every truncation of what was written, with zeros behind it as in a preallocated file: the whole frames come back.
#[test]
fn every_truncation_leaves_the_whole_frames_before_it() {
    let options = small(16_384, 16_384);
    let disk = SimDisk::new(1);
    let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
    let mut frame = Frame::default();
    let mut ends = Vec::new();
    for revision in 1..=5 {
        frame.push(&plan(revision, 20 * revision as usize));
        ends.push(log.append(&mut frame).unwrap().offset);
    }
    let end = log.end().offset;
    drop(log);
    for cut in FRAMES_START..end {
        let image = disk.kill();
        image.overwrite("log-00000000000000000001", cut, &vec![0; (end - cut) as usize]);
        let (_, _, revisions) = open(&image, options.clone()).unwrap();
        let tail_was_zero = disk.bytes("log-00000000000000000001").unwrap();
        let whole = ends
            .iter()
            .filter(|end| {
                **end <= cut || tail_was_zero[cut as usize..**end as usize].iter().all(|b| *b == 0)
            })
            .count();
        assert_eq!(revisions, (1..=whole as u64).collect::<Vec<_>>(), "cut at {cut}");
    }
}

/// The process is killed while the next segment gets its name: the name may not last, unless it is made to before anything is
/// written there.
#[test]
fn a_name_that_was_not_synced_is_not_built_on() {
    let options = small(65_536, 65_536);
    let disk = SimDisk::new(1);
    let mut log = Log::create(shared(&disk), STORE, options.clone()).unwrap();
    let created = disk.steps();
    append(&mut log, &plan(1, 14_000));
    log.sync().unwrap();
    let moments: Vec<_> = disk.tape().moments().skip(created).collect();
    for (step, moment) in moments.iter().enumerate() {
        let image = moment.kill();
        let (mut log, _, revisions) = open(&image, options.clone()).unwrap();
        let mut last = revisions.last().copied().unwrap_or(0);
        while log.end().segment == 1 {
            last += 1;
            append(&mut log, &plan(last, 9_000));
            log.sync().unwrap();
        }
        let crashed = image.crash(Survivors::Nothing);
        let (_, _, revisions) = open(&crashed, options.clone())
            .unwrap_or_else(|error| panic!("killed after step {step}: {error}"));
        assert_eq!(revisions.last(), Some(&last), "killed after step {step}");
    }
}
