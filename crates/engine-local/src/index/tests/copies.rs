//! Copies in another folder: whole ones, and ones that are brought up to date.

use super::*;
use crate::index::verify;

fn no_pace() -> impl FnMut(usize) {
    |_| {}
}

/// An index with a few runs and the rows in it.
fn filled(disk: &SimDisk) -> (Index, Map) {
    let index = create(disk);
    let mut map = Map::new();
    for round in 1..12 {
        let changes = (0..40).map(|n| put((n * 13 + round * 41) % 300, round, 60)).collect();
        let plan = plan(round, Vec::new(), changes);
        apply_to(&mut map, &plan);
        apply(&index, &[plan], round).unwrap();
        index.maintain(&mut no_pace()).unwrap();
    }
    (index, map)
}

#[test]
fn a_copy_shows_what_the_view_showed() {
    let (disk, target) = (SimDisk::new(1), SimDisk::new(2));
    let (index, map) = filled(&disk);
    let copied = index.view().copy_to(&target, &mut no_pace()).unwrap();
    assert_eq!(copied.copied_bytes, index.figures().disk_bytes);
    let copy = open(&target).unwrap();
    check(&copy.view(), &map, 310);
    assert_eq!(copy.view().checkpoint(), &checkpoint(11));
    // It is an index like any other.
    apply(&copy, &[plan(12, vec![KeyRange::all()], Vec::new())], 12).unwrap();
    maintain(&copy);
    check(&copy.view(), &Map::new(), 310);
}

#[test]
fn a_copy_is_brought_up_to_date_with_what_is_new() {
    let (disk, target) = (SimDisk::new(1), SimDisk::new(2));
    let (index, mut map) = filled(&disk);
    index.view().copy_to(&target, &mut no_pace()).unwrap();
    let next = plan(20, Vec::new(), vec![put(1, 20, 50), delete(2)]);
    apply_to(&mut map, &next);
    apply(&index, &[next], 20).unwrap();
    let copied = index.view().copy_to(&target, &mut no_pace()).unwrap();
    assert!(copied.copied_bytes < copied.kept_bytes / 10, "{copied:?}");
    let again = index.view().copy_to(&target, &mut no_pace()).unwrap();
    assert_eq!(again.copied_bytes, 0);
    check(&open(&target).unwrap().view(), &map, 310);
    // And what is no longer part of it goes.
    apply(&index, &[plan(21, vec![KeyRange::all()], Vec::new())], 21).unwrap();
    maintain(&index);
    index.view().copy_to(&target, &mut no_pace()).unwrap();
    assert_eq!(on(&target).list().unwrap().len(), index.figures().files + 1);
}

#[test]
fn a_copy_that_is_cut_off_leaves_the_earlier_one() {
    let (disk, target) = (SimDisk::new(1), SimDisk::new(2));
    let (index, map) = filled(&disk);
    index.view().copy_to(&target, &mut no_pace()).unwrap();
    let begun = target.steps();
    let mut later = map.clone();
    let next = plan(20, Vec::new(), (0..100).map(|n| put(n, 20, 50)).collect());
    apply_to(&mut later, &next);
    apply(&index, &[next], 20).unwrap();
    index.view().copy_to(&target, &mut no_pace()).unwrap();
    for moment in target.tape().moments().skip(begun) {
        for crashed in [moment.kill(), moment.crash(outrigger_sim::disk::Survivors::Nothing)] {
            let copy = open(&crashed).unwrap();
            let map = if copy.view().checkpoint() == &checkpoint(20) { &later } else { &map };
            check(&copy.view(), map, 310);
            index.view().copy_to(&crashed, &mut no_pace()).unwrap();
            check(&open(&crashed).unwrap().view(), &later, 310);
        }
    }
}

#[test]
fn another_stores_copy_is_refused() {
    let (disk, other, target) = (SimDisk::new(1), SimDisk::new(2), SimDisk::new(3));
    let (index, _) = filled(&disk);
    index.view().copy_to(&target, &mut no_pace()).unwrap();
    let stranger = create(&other);
    for round in 1..40 {
        apply(&stranger, &[plan(round, Vec::new(), vec![put(round, round, 10)])], round).unwrap();
    }
    let refused = stranger.view().copy_to(&target, &mut no_pace()).unwrap_err();
    assert!(matches!(refused, IndexError::Failed(_)), "{refused}");
}

#[test]
fn damage_is_not_copied_and_is_found_offline() {
    let disk = SimDisk::new(1);
    let (index, map) = filled(&disk);
    let (checkpoint, verified) = verify(&on(&disk)).unwrap();
    assert_eq!(&checkpoint, index.view().checkpoint());
    assert!(verified.rows >= map.len() as u64);
    drop(index);
    let names = on(&disk).list().unwrap();
    for name in names {
        let length = disk.bytes(&name).unwrap().len() as u64;
        for at in (0..length).step_by(97) {
            let damaged = disk.kill();
            assert!(damaged.flip(&name, at, 3));
            assert!(matches!(verify(&on(&damaged)), Err(IndexError::Damaged(_))), "{name} {at}");
            if name != "index" {
                let index = open(&damaged).unwrap();
                let copied = index.view().copy_to(&SimDisk::new(9), &mut no_pace());
                assert!(matches!(copied, Err(IndexError::Damaged(_))), "{name} {at}");
            }
        }
    }
}
