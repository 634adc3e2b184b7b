//! Flipped bytes, cut files, missing files, newer formats, failing disks: an error or no difference, never a wrong answer.

use super::*;
use crate::index::{manifest::FORMAT, verify};
use outrigger_sim::disk::{Kind, Trouble};

/// A small index with runs, extents, large values and expiries.
fn sample() -> (SimDisk, Map) {
    let disk = SimDisk::new(1);
    let mut index = create(&disk);
    index.sizes.slack_bytes = 20_000;
    let mut map = Map::new();
    let rounds = [
        plan(1, Vec::new(), (0..40).map(|n| put(n, 1, 30)).collect()),
        plan(
            2,
            Vec::new(),
            (0..40).step_by(4).map(|n| put(n, 2, if n == 20 { 2_100 } else { 1_200 })).collect(),
        ),
        plan(3, vec![KeyRange::new(key(10), key(17))], vec![put(12, 3, 10), delete(30)]),
    ];
    for (at, plan) in rounds.into_iter().enumerate() {
        apply_to(&mut map, &plan);
        apply(&index, &[plan], at as u64 + 1).unwrap();
    }
    (disk, map)
}

/// Whether everything could be read; panics when something that could be read is wrong.
fn read_all(disk: &SimDisk, map: &Map) -> Result<(), IndexError> {
    let index = open(disk)?;
    let view = index.view();
    let mut outcome = Ok(());
    for number in 0..45 {
        match view.get(&key(number)) {
            Ok(value) => assert_eq!(value.as_ref(), map.get(&key(number)), "{number}"),
            Err(error) => outcome = Err(error.into()),
        }
    }
    for direction in [Direction::Forward, Direction::Backward] {
        match rows(&view, &KeyRange::all(), direction) {
            Ok(rows) => assert_eq!(rows.len(), map.len()),
            Err(error) => outcome = Err(error.into()),
        }
    }
    match view.expiries(&KeyRange::all(), &mut |_, _| ControlFlow::Continue(())) {
        Ok(()) => outcome,
        Err(error) => Err(error.into()),
    }
}

#[test]
fn every_flipped_byte_is_an_error_or_no_difference() {
    let (disk, map) = sample();
    read_all(&disk, &map).unwrap();
    let (mut found, mut unread) = (0, 0);
    for name in on(&disk).list().unwrap() {
        for at in 0..disk.bytes(&name).unwrap().len() as u64 {
            let bit = u8::try_from(at % 8).unwrap();
            let damaged = disk.kill();
            assert!(damaged.flip(&name, at, bit));
            match read_all(&damaged, &map) {
                Err(IndexError::Damaged(what)) => {
                    assert!(what.contains(&name) || what.contains("index"), "{what}");
                    found += 1;
                }
                Ok(()) => {
                    assert_eq!(name, "index", "byte {at} of {name} was not missed");
                    unread += 1;
                }
                Err(other) => panic!("byte {at} of {name}: {other}"),
            }
        }
    }
    // The manifest is there twice: either half may be damaged.
    assert_eq!(unread, disk.bytes("index").unwrap().len());
    assert!(found > 10_000, "{found}");
}

#[test]
fn a_manifest_damaged_twice_is_refused() {
    let (disk, map) = sample();
    let length = disk.bytes("index").unwrap().len() as u64;
    assert!(disk.flip("index", 50, 1) && disk.flip("index", length - 50, 1));
    assert!(matches!(read_all(&disk, &map), Err(IndexError::Damaged(_))));
}

#[test]
fn cut_files_are_refused() {
    let (disk, map) = sample();
    for name in on(&disk).list().unwrap() {
        let length = disk.bytes(&name).unwrap().len() as u64;
        for kept in [0, 1, 31, length / 2, length - 1] {
            let cut = disk.kill();
            on(&cut).open(&name).unwrap().set_length(kept).unwrap();
            let outcome = read_all(&cut, &map);
            assert!(
                matches!(outcome, Err(IndexError::Damaged(_))),
                "{name} at {kept}: {outcome:?}"
            );
        }
    }
}

#[test]
fn missing_files_are_told_apart() {
    let (disk, map) = sample();
    for name in on(&disk).list().unwrap() {
        let without = disk.kill();
        on(&without).remove(&name).unwrap();
        let outcome = read_all(&without, &map).unwrap_err();
        match &name[..] {
            "index" => assert_eq!(outcome, IndexError::Missing),
            _ => assert!(matches!(outcome, IndexError::Damaged(_)), "{outcome}"),
        }
    }
}

#[test]
fn files_put_in_place_of_each_other_are_found() {
    let (disk, map) = sample();
    let runs: Vec<String> =
        on(&disk).list().unwrap().into_iter().filter(|name| name.starts_with("run-")).collect();
    let bytes = disk.bytes(&runs[0]).unwrap();
    disk.overwrite(&runs[1], 0, &bytes);
    assert!(matches!(read_all(&disk, &map), Err(IndexError::Damaged(_))));
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let (disk, map) = sample();
    let mut copy = disk.bytes("index").unwrap();
    copy.truncate(copy.len() / 2);
    copy[8..12].copy_from_slice(&(FORMAT + 1).to_le_bytes());
    let content = copy.len() - 8;
    let checksum = xxhash_rust::xxh3::xxh3_64(&copy[..content]);
    copy[content..].copy_from_slice(&checksum.to_le_bytes());
    copy.extend_from_within(..);
    disk.overwrite("index", 0, &copy);
    assert_eq!(read_all(&disk, &map), Err(IndexError::Newer { found: FORMAT + 1, known: FORMAT }));
}

#[test]
fn after_a_failure_nothing_is_changed_any_more() {
    for kind in [Kind::Write, Kind::Sync, Kind::SyncFolder, Kind::Name] {
        let (disk, mut map) = sample();
        let index = open(&disk).unwrap();
        disk.plan(kind, 0, Trouble::Fails);
        let next = plan(4, Vec::new(), vec![put(41, 4, 10)]);
        let failed = apply(&index, std::slice::from_ref(&next), 4).unwrap_err();
        assert!(matches!(failed, IndexError::Failed(_)), "{kind:?}: {failed}");
        assert_eq!(apply(&index, std::slice::from_ref(&next), 4).unwrap_err(), failed);
        assert_eq!(index.maintain(&mut |_| {}).unwrap_err(), failed);
        // What was there is still read, and opening again goes on from it.
        check(&index.view(), &map, 45);
        drop(index);
        disk.calm();
        let index = open(&disk).unwrap();
        apply_to(&mut map, &next);
        apply(&index, std::slice::from_ref(&next), 4).unwrap();
        check(&index.view(), &map, 45);
    }
}

#[test]
fn a_read_that_fails_may_be_tried_again() {
    let (disk, map) = sample();
    let index = open(&disk).unwrap();
    let view = index.view();
    disk.plan(Kind::Read, 0, Trouble::Fails);
    assert!(matches!(view.get(&key(5)), Err(ReadError::Unavailable(_))));
    check(&view, &map, 45);
}

#[test]
fn damage_anywhere_is_found_offline() {
    let disk = SimDisk::new(1);
    let index = create(&disk);
    for round in 1..12 {
        let changes = (0..40).map(|n| put((n * 13 + round * 41) % 300, round, 60)).collect();
        apply(&index, &[plan(round, Vec::new(), changes)], round).unwrap();
        index.maintain(&mut |_| {}).unwrap();
    }
    let (checkpoint, verified) = verify(&on(&disk)).unwrap();
    assert_eq!(&checkpoint, index.view().checkpoint());
    assert!(verified.rows >= 200);
    drop(index);
    let names = on(&disk).list().unwrap();
    for name in names {
        let length = disk.bytes(&name).unwrap().len() as u64;
        for at in (0..length).step_by(97) {
            let damaged = disk.kill();
            assert!(damaged.flip(&name, at, 3));
            assert!(matches!(verify(&on(&damaged)), Err(IndexError::Damaged(_))), "{name} {at}");
        }
    }
}

#[test]
fn a_full_disk_stops_nothing_for_good() {
    let (disk, mut map) = sample();
    let index = open(&disk).unwrap();
    let used = disk.used_bytes();
    let next = plan(4, Vec::new(), (100..140).map(|n| put(n, 4, 500)).collect());
    let names = on(&disk).list().unwrap();
    // Full at every point of writing a layer: nothing is left of it, and what is there is read.
    for room in (0..40).map(|pages| pages * 4_096) {
        disk.set_capacity(used + room);
        match apply(&index, std::slice::from_ref(&next), 4) {
            Ok(_) => {
                assert!(room > 20_000, "{room}");
                apply_to(&mut map, &next);
                check(&index.view(), &map, 150);
                drop(index);
                check(&open(&disk).unwrap().view(), &map, 150);
                return;
            }
            Err(error) => assert!(matches!(error, IndexError::Full(_)), "{error}"),
        }
        assert_eq!(on(&disk).list().unwrap(), names);
        assert_eq!(disk.used_bytes(), used);
        check(&index.view(), &map, 45);
    }
    panic!("it never fitted");
}

#[test]
fn merging_waits_for_room_and_gives_some_back() {
    let disk = SimDisk::new(1);
    let index = create(&disk);
    let mut map = Map::new();
    for round in 1..8 {
        let plan = plan(round, Vec::new(), (0..150).map(|n| put(n, round, 100)).collect());
        apply_to(&mut map, &plan);
        apply(&index, &[plan], round).unwrap();
    }
    disk.set_capacity(disk.used_bytes() + 8_192);
    let steps = disk.steps();
    assert_eq!(index.maintain(&mut |_| {}), Ok(false));
    assert_eq!(disk.steps(), steps, "nothing is begun without room");
    // Once much of it is gone, a merge needs little and gives back much.
    let cleared = plan(9, vec![KeyRange::new(key(5), key(150))], Vec::new());
    apply_to(&mut map, &cleared);
    disk.set_capacity(disk.used_bytes() + 64 * 1_024);
    apply(&index, &[cleared], 9).unwrap();
    let before = disk.used_bytes();
    maintain(&index);
    assert!(disk.used_bytes() < before / 4, "{} of {before}", disk.used_bytes());
    check(&index.view(), &map, 160);
}
