//! Values that stand apart: merges leave them where they are, and what nobody has any more gives its room back.

use super::*;
use crate::counted::Counted;
use std::sync::atomic::Ordering;

const LARGE: usize = 5_000;

/// An empty index whose files of values hold several.
fn create_roomy(disk: &SimDisk) -> Index {
    let mut index = create(disk);
    index.sizes.table_bytes = 60_000;
    index
}

/// The bytes of all files of values that the manifest names.
fn values_bytes(index: &Index) -> u64 {
    index.view().values().iter().map(|values| values.info.bytes).sum()
}

#[test]
fn merges_do_not_copy_them() {
    let disk = SimDisk::new(1);
    let (counted, written) = Counted::over(on(&disk));
    let mut index = Index::create(counted, OPTIONS, checkpoint(0)).unwrap();
    index.sizes = SMALL;
    let mut map = Map::new();
    for round in 1..40_u64 {
        let changes = (0..10).map(|n| put((round * 7 + n * 13) % 400, round, LARGE));
        let plans = [plan(round, Vec::new(), changes.collect())];
        apply_to(&mut map, &plans[0]);
        apply(&index, &plans, round).unwrap();
        // What is put again is not what this is about.
        index.sizes.slack_bytes = 1 << 30;
        maintain(&index);
    }
    let put = 39 * 10 * LARGE as u64;
    let written = written.load(Ordering::Relaxed);
    assert!(written < put * 3 / 2, "{written} bytes were written for {put}");
    assert!(index.state.lock().unwrap().next_id > 60, "it was merged again and again");
    check(&index.view(), &map, 400);
    index.view().verify().unwrap();
}

#[test]
fn what_is_put_again_and_again_keeps_the_disk_within_twice_the_live_values() {
    let disk = SimDisk::new(1);
    let index = create_roomy(&disk);
    let (mut map, mut number, mut worst) = (Map::new(), 17_u64, 0.0);
    for round in 1..150 {
        let mut changes = Vec::new();
        for _ in 0..10 {
            number = (number * 6_364_136_223 + 1_442_695) % 1_000_003;
            changes.push(put(number % 100, round, LARGE));
        }
        let plans = [plan(round, Vec::new(), changes)];
        apply_to(&mut map, &plans[0]);
        apply(&index, &plans, round).unwrap();
        maintain(&index);
        if round > 30 {
            let live = (map.len() * LARGE) as f64;
            worst = f64::max(worst, figures(&index).disk_bytes as f64 / live);
        }
    }
    assert!(worst < 2.0, "{worst} of the live values");
    check(&index.view(), &map, 100);
    index.view().verify().unwrap();
}

#[test]
fn deleting_most_gives_room_back_once_nothing_is_written() {
    let disk = SimDisk::new(1);
    let index = create_roomy(&disk);
    let rows = (0..100).map(|n| put(n, 1, LARGE)).collect();
    apply(&index, &[plan(1, Vec::new(), rows)], 1).unwrap();
    maintain(&index);
    let old = index.view();
    let gone = (0..100).filter(|n| n % 10 != 0).map(delete).collect();
    apply(&index, &[plan(2, Vec::new(), gone)], 2).unwrap();
    index.set_rest(Some(0));
    maintain(&index);
    let live = 10 * LARGE as u64;
    assert!(figures(&index).disk_bytes < live * 3 / 2, "{:?}", figures(&index));
    // Who reads what was, reads it still.
    assert_eq!(old.get(&key(55)).unwrap().unwrap().bytes.len(), LARGE);
    assert!(index.has_doomed());
    drop(old);
    maintain(&index);
    assert!(!index.has_doomed());
    assert!(disk.used_bytes() < live * 2, "{}", disk.used_bytes());
    drop(index);
    let index = open(&disk).unwrap();
    assert_eq!(index.view().get(&key(50)).unwrap(), Some(value(50, 1, LARGE)));
    assert!(values_bytes(&index) < live * 3 / 2);
}

#[test]
fn a_few_large_values_stay_with_their_rows() {
    let disk = SimDisk::new(1);
    let mut index = create_roomy(&disk);
    index.sizes.inline_bytes = 3 * LARGE;
    let rows = (0..3).map(|n| put(n, 1, LARGE)).collect();
    apply(&index, &[plan(1, Vec::new(), rows)], 1).unwrap();
    assert_eq!(values_bytes(&index), 0);
    let rows = (0..9).map(|n| put(n, 2, LARGE)).collect();
    apply(&index, &[plan(2, Vec::new(), rows)], 2).unwrap();
    assert_eq!(values_bytes(&index), 6 * LARGE as u64 + 32);
    assert_eq!(index.view().get(&key(8)).unwrap(), Some(value(8, 2, LARGE)));
}

#[test]
fn damage_in_a_value_is_an_error_and_does_not_end_merging() {
    let disk = SimDisk::new(1);
    let index = create_roomy(&disk);
    let rows = (0..6).map(|n| put(n, 1, LARGE)).collect();
    apply(&index, &[plan(1, Vec::new(), rows)], 1).unwrap();
    let names = on(&disk).list().unwrap();
    let name = names.iter().find(|name| name.starts_with("values-")).unwrap();
    assert!(disk.flip(name, 32 + 2 * LARGE as u64 + 7, 3));
    assert!(matches!(index.view().get(&key(2)), Err(ReadError::Damaged(_))));
    assert!(matches!(index.view().verify(), Err(IndexError::Damaged(_))));
    assert_eq!(index.view().get(&key(3)).unwrap(), Some(value(3, 1, LARGE)));
    // What is left of the file cannot be moved; everything else goes on.
    let gone = [0, 1, 4, 5].map(delete).to_vec();
    apply(&index, &[plan(2, Vec::new(), gone)], 2).unwrap();
    index.set_rest(Some(0));
    let mut outcome = Ok(true);
    while outcome == Ok(true) {
        outcome = index.maintain(&mut |_| {});
    }
    assert!(matches!(outcome, Err(IndexError::Damaged(_))), "{outcome:?}");
    apply(&index, &[plan(3, Vec::new(), vec![put(9, 3, 10)])], 3).unwrap();
    assert_eq!(index.view().get(&key(9)).unwrap(), Some(value(9, 3, 10)));
    assert_eq!(index.view().get(&key(3)).unwrap(), Some(value(3, 1, LARGE)));
}

#[test]
fn every_byte_is_read_to_verify_them() {
    let disk = SimDisk::new(1);
    let mut index = create_roomy(&disk);
    // What nothing refers to stays where it is.
    index.sizes.slack_bytes = 1 << 30;
    for round in 1..20_u64 {
        let changes = (0..10).map(|n| put((round * 7 + n * 13) % 40, round, LARGE));
        apply(&index, &[plan(round, Vec::new(), changes.collect())], round).unwrap();
        maintain(&index);
    }
    let (verified, figures) = (index.view().verify().unwrap(), figures(&index));
    assert_eq!(
        (verified.files, verified.bytes),
        (figures.files as u64, figures.disk_bytes),
        "{verified:?}"
    );
    let view = index.view();
    for name in view.values().iter().map(|values| values.file_name()) {
        let damaged = disk.kill();
        let file = on(&damaged).open(&name).unwrap();
        file.set_length(file.length().unwrap() - 1).unwrap();
        let found = super::super::verify(&on(&damaged));
        assert!(matches!(found, Err(IndexError::Damaged(_))), "the end of {name}: {found:?}");
    }
}
