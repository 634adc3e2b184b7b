//! How much is on the disk, what is read of it, and what is asked of the caller.

use super::*;
use outrigger_sim::disk::Kind;

fn live_bytes(map: &Map) -> u64 {
    map.iter().map(|(key, value)| (key.len() + value.bytes.len() + 40) as u64).sum()
}

#[test]
fn overwriting_everything_keeps_the_disk_within_twice_the_live_rows() {
    let disk = SimDisk::new(1);
    let index = create(&disk);
    let mut map = Map::new();
    let mut worst = 0.0;
    for round in 1..120_u64 {
        let first = round * 50 % 1_000;
        let plans =
            [plan(round, Vec::new(), (first..first + 50).map(|n| put(n, round, 100)).collect())];
        apply_to(&mut map, &plans[0]);
        apply(&index, &plans, round).unwrap();
        maintain(&index);
        if round > 20 {
            let slack = SMALL.slack_bytes;
            let ratio =
                figures(&index).disk_bytes.saturating_sub(slack) as f64 / live_bytes(&map) as f64;
            worst = f64::max(worst, ratio);
        }
    }
    assert!(worst < 2.0, "{worst} of the live rows");
}

#[test]
fn a_cleared_range_gives_its_room_back() {
    let disk = SimDisk::new(1);
    let index = create(&disk);
    let plans = [plan(1, Vec::new(), (0..2_000).map(|n| put(n, 1, 100)).collect())];
    apply(&index, &plans, 1).unwrap();
    maintain(&index);
    let full = disk.used_bytes();
    let cleared = [plan(2, vec![KeyRange::new(key(0), key(1_900))], Vec::new())];
    apply(&index, &cleared, 2).unwrap();
    maintain(&index);
    assert!(disk.used_bytes() < full / 5, "{} of {full}", disk.used_bytes());
    assert_eq!(rows(&index.view(), &KeyRange::all(), Direction::Forward).unwrap().len(), 100);
}

#[test]
fn what_is_taken_from_a_queue_becomes_one_extent() {
    let disk = SimDisk::new(1);
    let index = Index::create(on(&disk), OPTIONS, checkpoint(0)).unwrap();
    let plans = [plan(1, Vec::new(), (0..3_000).map(|n| put(n, 1, 100)).collect())];
    apply(&index, &plans, 1).unwrap();
    let taken = [plan(2, Vec::new(), (0..2_500).map(delete).collect())];
    let view = apply(&index, &taken, 2).unwrap();
    // One among the rows, one among the expiries.
    assert_eq!(view.verify().unwrap().extents, 2);

    let before = disk.seen(Kind::Read);
    let first = view.range(&KeyRange::prefix("key/"), Direction::Forward).next();
    assert_eq!(first.unwrap().unwrap().0, key(2_500));
    let reads = disk.seen(Kind::Read) - before;
    assert!(reads <= 12, "{reads} reads to find the head of the queue");
}

#[test]
fn rows_that_come_in_order_are_written_once() {
    let disk = SimDisk::new(1);
    let index = create(&disk);
    let mut written = 0;
    for round in 1..100_u64 {
        // No expiries: those come first in a file.
        let numbers = (round * 300..round * 300 + 300).filter(|n| n % 3 != 0);
        let plans = [plan(round, Vec::new(), numbers.map(|n| put(n, round, 40)).collect())];
        apply(&index, &plans, round).unwrap();
        maintain(&index);
        written = index.state.lock().unwrap().next_id;
    }
    let files = figures(&index).files as u64;
    assert!(written < files * 3 / 2, "{written} files were written for {files}");
}

#[test]
fn small_memory_is_enough_and_is_kept_to() {
    let disk = SimDisk::new(1);
    let options = IndexOptions { cache_bytes: 4_000, ..OPTIONS };
    let mut index = Index::create(on(&disk), options, checkpoint(0)).unwrap();
    index.sizes = SMALL;
    let plans = [plan(1, Vec::new(), (0..2_000).map(|n| put(n, 1, 100)).collect())];
    apply(&index, &plans, 1).unwrap();
    let view = index.view();
    let files = || view.runs().iter().flat_map(|run| &run.tables);
    assert!(files().count() > 50);
    for number in 0..2_000 {
        assert!(view.get(&key(number)).unwrap().is_some());
        assert!(files().filter(|table| table.is_at_hand()).count() <= 8);
    }
}

#[test]
fn files_that_an_old_view_reads_stay_until_it_is_gone() {
    let disk = SimDisk::new(1);
    let index = create(&disk);
    apply(&index, &[plan(1, Vec::new(), (0..200).map(|n| put(n, 1, 100)).collect())], 1).unwrap();
    let old = index.view();
    let cleared = vec![KeyRange::all()];
    apply(&index, &[plan(2, cleared, Vec::new())], 2).unwrap();
    maintain(&index);
    assert_eq!(rows(&old, &KeyRange::all(), Direction::Forward).unwrap().len(), 200);
    assert!(figures(&index).doomed_bytes > 20_000);
    drop(old);
    maintain(&index);
    assert_eq!(figures(&index).doomed_bytes, 0);
    let left = on(&disk).list().unwrap();
    assert_eq!(left, ["index"], "an empty index has no other files");
}

#[test]
fn work_is_paced() {
    let disk = SimDisk::new(1);
    let index = Index::create(on(&disk), OPTIONS, checkpoint(0)).unwrap();
    let rows = layer(&[plan(1, Vec::new(), (0..2_000).map(|n| put(n, 1, 1_000)).collect())]);
    let mut pauses = Vec::new();
    index.apply(rows.iter(), checkpoint(1), &mut |bytes| pauses.push(bytes)).unwrap();
    assert!(pauses.len() >= 7, "{pauses:?}");
    assert!(pauses.iter().all(|bytes| *bytes < 300_000), "{pauses:?}");
}

#[test]
fn what_has_long_been_due_is_dropped() {
    let disk = SimDisk::new(1);
    let mut index = create(&disk);
    index.sizes.slack_bytes = 0;
    let due = |number: u64| Change {
        key: key(number),
        value: Some(Value { bytes: "due".into(), revision: 1, expires_at: Some(Wall(1_000)) }),
    };
    let changes = (0..100).map(due).chain((100..200).map(|n| put(n, 1, 100))).collect();
    apply(&index, &[plan(1, Vec::new(), changes)], 1).unwrap();
    let late = 1_000 + 3_600_000;
    for (revision, left) in [(late, 50), (late + 1, 0)] {
        let again = plan(1, Vec::new(), (0..200).step_by(2).map(|n| put(n, 2, 100)).collect());
        apply(&index, &[again], revision).unwrap();
        maintain(&index);
        let rows = rows(&index.view(), &KeyRange::all(), Direction::Forward).unwrap();
        let due = rows.iter().filter(|(_, value)| value.expires_at == Some(Wall(1_000)));
        assert_eq!(due.count(), left);
    }
}

#[test]
fn ranges_whose_ends_are_longer_than_any_key_are_cut() {
    let disk = SimDisk::new(1);
    let index = create(&disk);
    let mut map = Map::new();
    let long = |number: u64| {
        let mut bound = key(number).to_vec();
        bound.resize(100_000, b'x');
        Bytes::from(bound)
    };
    let plans = [
        plan(1, Vec::new(), (0..100).map(|n| put(n, 1, 50)).collect()),
        plan(2, vec![KeyRange::new(long(10), long(20))], Vec::new()),
        plan(3, vec![KeyRange::new(long(30), [&long(30)[..], b"y"].concat())], Vec::new()),
    ];
    for (at, plan) in plans.into_iter().enumerate() {
        apply_to(&mut map, &plan);
        apply(&index, &[plan], at as u64).unwrap();
    }
    assert_eq!(map.len(), 90);
    check(&index.view(), &map, 100);
    drop(index);
    let index = open(&disk).unwrap();
    maintain(&index);
    check(&index.view(), &map, 100);
    index.view().verify().unwrap();
}

#[test]
fn small_deletions_here_and_there_give_their_room_back() {
    for (how, single) in [("keys", true), ("ranges", false)] {
        let disk = SimDisk::new(1);
        let mut index = create(&disk);
        index.sizes.block_bytes = 8 << 10;
        let rows = (0..1_200).map(|n| put(n, 1, 100)).collect();
        apply(&index, &[plan(1, Vec::new(), rows)], 1).unwrap();
        maintain(&index);
        let full = figures(&index).disk_bytes;
        // Three of each four rows, in an order that never lets two deletions of a layer lie side by side.
        for round in 0..6 {
            let blocks = (0..300).filter(|n| n % 6 == round);
            let gone = match single {
                true => {
                    let keys = blocks.flat_map(|n| n * 4..n * 4 + 3).map(delete).collect();
                    plan(2 + round, Vec::new(), keys)
                }
                false => {
                    let ranges = blocks.map(|n| KeyRange::new(key(n * 4), key(n * 4 + 3)));
                    plan(2 + round, ranges.collect(), Vec::new())
                }
            };
            apply(&index, &[gone], 2 + round).unwrap();
            maintain(&index);
        }
        let left = figures(&index).disk_bytes;
        assert!(left < full / 2 + SMALL.slack_bytes, "{how}: {left} of {full}");
    }
}
