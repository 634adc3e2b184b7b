//! The simulated disk keeps what the contract says and loses the rest, the same way every time.

use super::{Kind, SECTOR_BYTES, SimDisk, Survivors, Trouble, draw};
use outrigger_kernel::disk::Disk;
use std::io;

/// A file whose name and first bytes are durable.
fn settled() -> SimDisk {
    let disk = SimDisk::new(1);
    let file = disk.create("a").unwrap();
    file.write_at(&[1; 2_000], 0).unwrap();
    file.sync().unwrap();
    disk.sync_folder().unwrap();
    disk
}

#[test]
fn what_is_synced_survives_and_the_rest_may_not() {
    let disk = settled();
    disk.open("a").unwrap().write_at(&[2; 100], 1_950).unwrap();
    assert_eq!(disk.bytes("a").unwrap().len(), 2_050);
    let before = [vec![1; 1_950], vec![2; 100]].concat();
    assert_eq!(disk.kill().bytes("a"), Some(before.clone()));
    assert_eq!(disk.crash(Survivors::Everything).bytes("a"), Some(before));
    assert_eq!(disk.crash(Survivors::Nothing).bytes("a"), Some(vec![1; 2_000]));
    disk.open("a").unwrap().sync().unwrap();
    assert_eq!(disk.crash(Survivors::Nothing).bytes("a").unwrap().len(), 2_050);
}

#[test]
fn a_killed_process_leaves_what_a_power_cut_still_takes() {
    let disk = settled();
    disk.open("a").unwrap().write_at(&[2; 10], 0).unwrap();
    let killed = disk.kill();
    assert_eq!(killed.bytes("a").unwrap()[0], 2);
    assert_eq!(killed.crash(Survivors::Nothing).bytes("a").unwrap()[0], 1);
}

#[test]
fn names_last_only_after_the_folder_is_synced() {
    let disk = settled();
    let file = disk.create("b").unwrap();
    file.write_at(b"bytes", 0).unwrap();
    file.sync().unwrap();
    disk.rename("a", "c").unwrap();
    let names = |survivors| disk.crash(survivors).list().unwrap();
    assert_eq!(names(Survivors::Nothing), ["a"]);
    assert_eq!(names(Survivors::Only(0)), ["a", "b"]);
    assert_eq!(names(Survivors::Only(1)), ["c"]);
    assert_eq!(names(Survivors::Everything), ["b", "c"]);
    disk.remove("c").unwrap();
    assert_eq!(names(Survivors::Without(2)), ["b", "c"]);
    disk.sync_folder().unwrap();
    assert_eq!(names(Survivors::Nothing), ["b"]);
}

#[test]
fn a_name_may_last_while_the_bytes_do_not() {
    let disk = settled();
    let file = disk.create("b").unwrap();
    file.write_at(b"bytes", 0).unwrap();
    disk.sync_folder().unwrap();
    assert_eq!(disk.crash(Survivors::Nothing).bytes("b"), Some(Vec::new()));
}

#[test]
fn a_replaced_file_comes_back_when_the_rename_is_lost() {
    let disk = settled();
    let file = disk.create("new").unwrap();
    file.write_at(b"new", 0).unwrap();
    file.sync().unwrap();
    disk.sync_folder().unwrap();
    disk.rename("new", "a").unwrap();
    assert_eq!(disk.crash(Survivors::Nothing).bytes("a"), Some(vec![1; 2_000]));
    assert_eq!(disk.crash(Survivors::Everything).bytes("a"), Some(b"new".to_vec()));
}

#[test]
fn a_torn_write_lasts_by_whole_sectors() {
    let disk = settled();
    disk.open("a").unwrap().write_at(&[9; 1_900], 50).unwrap();
    let mut kinds = [false; 3];
    for seed in 0..64 {
        let bytes = disk.crash(Survivors::Torn { change: 0, seed }).bytes("a").unwrap();
        let marks: Vec<bool> = bytes[50..1_950].chunks(1).map(|byte| byte[0] == 9).collect();
        for sector in 0..4 {
            let part =
                &bytes[(sector * SECTOR_BYTES).max(50)..((sector + 1) * SECTOR_BYTES).min(1_950)];
            assert!(part.iter().all(|byte| *byte == part[0]), "a sector is torn");
        }
        let all = marks.iter().all(|mark| *mark);
        let none = !marks.iter().any(|mark| *mark);
        kinds[usize::from(all) + 2 * usize::from(none && !all)] = true;
    }
    assert_eq!(kinds, [true; 3], "torn, whole and lost all happen");
}

#[test]
fn a_sector_never_has_a_later_write_without_an_earlier_one() {
    let disk = settled();
    let file = disk.open("a").unwrap();
    file.write_at(&[2; 8], 0).unwrap();
    file.write_at(&[3; 8], 8).unwrap();
    for seed in 0..64 {
        let bytes = disk.crash(Survivors::Random { seed }).bytes("a").unwrap();
        assert!(bytes[8] != 3 || bytes[0] == 2);
    }
    let bytes = disk.crash(Survivors::Only(1)).bytes("a").unwrap();
    assert_eq!((bytes[0], bytes[8]), (1, 1));
}

#[test]
fn a_cut_tail_does_not_come_back_by_growing() {
    let disk = settled();
    let file = disk.open("a").unwrap();
    file.set_length(100).unwrap();
    file.set_length(300).unwrap();
    let kept = disk.crash(Survivors::Everything).bytes("a").unwrap();
    assert_eq!(kept, [vec![1; 100], vec![0; 200]].concat());
    assert_eq!(disk.crash(Survivors::Before(1)).bytes("a"), Some(vec![1; 100]));
    assert_eq!(disk.crash(Survivors::Nothing).bytes("a"), Some(vec![1; 2_000]));
    let mut buffer = [0; 1];
    let beyond = file.read_at(&mut buffer, 300).unwrap_err();
    assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_sync_fails_lies_and_forgets() {
    let disk = settled();
    let file = disk.open("a").unwrap();
    file.write_at(&[2; 2_000], 0).unwrap();
    disk.plan(Kind::Sync, 0, Trouble::Lies);
    file.sync().unwrap();
    assert_eq!(disk.crash(Survivors::Nothing).bytes("a"), Some(vec![1; 2_000]));
    disk.plan(Kind::Sync, 0, Trouble::FailsAndForgets);
    file.sync().unwrap_err();
    file.sync().unwrap();
    assert_eq!(disk.bytes("a"), Some(vec![2; 2_000]), "reads still see it");
    assert_eq!(disk.now().pending(), 0, "nothing is left to sync");
    let mut lost = false;
    for seed in 0..16 {
        let disk = disk.kill();
        disk.set_seed(seed);
        let file = disk.open("a").unwrap();
        file.write_at(&[3; 2_000], 0).unwrap();
        disk.plan(Kind::Sync, 0, Trouble::FailsAndReverts);
        file.sync().unwrap_err();
        assert_eq!(disk.bytes("a"), disk.crash(Survivors::Nothing).bytes("a"));
        lost |= disk.bytes("a") != Some(vec![3; 2_000]);
    }
    assert!(lost, "a failed sync loses something");
}

#[test]
fn the_syncs_of_some_files_lie() {
    let disk = settled();
    disk.let_syncs_lie("a");
    let file = disk.open("a").unwrap();
    file.write_at(&[2; 2_000], 0).unwrap();
    file.sync().unwrap();
    assert_eq!(disk.crash(Survivors::Nothing).bytes("a"), Some(vec![1; 2_000]));
    disk.calm();
    file.sync().unwrap();
    assert_eq!(disk.crash(Survivors::Nothing).bytes("a"), Some(vec![2; 2_000]));
}

#[test]
fn a_full_disk_takes_what_fits_and_says_so() {
    let disk = settled();
    disk.set_capacity(8_192);
    assert_eq!(disk.room().unwrap().free_bytes, 4_096);
    let file = disk.create("b").unwrap();
    let full = file.write_at(&[2; 10_000], 0).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.bytes("b").unwrap().len(), 10_000 - 2 * 4_096);
    file.write_at(&[3; 4_000], 0).unwrap();
    disk.remove("b").unwrap();
    assert_eq!(disk.room().unwrap().free_bytes, 4_096);
}

#[test]
fn other_troubles_befall_the_operation_they_were_planned_for() {
    let disk = settled();
    let file = disk.open("a").unwrap();
    disk.plan(Kind::Write, 1, Trouble::Stops(3));
    file.write_at(&[2; 8], 0).unwrap();
    file.write_at(&[3; 8], 0).unwrap_err();
    assert_eq!(disk.bytes("a").unwrap()[..8], [3, 3, 3, 2, 2, 2, 2, 2]);
    disk.plan(Kind::Read, 0, Trouble::Fails);
    let mut buffer = [0; 8];
    file.read_at(&mut buffer, 0).unwrap_err();
    disk.plan(Kind::Read, 0, Trouble::Flips);
    file.read_at(&mut buffer, 16).unwrap();
    let wrong: u32 = buffer.iter().map(|byte| (byte ^ 1).count_ones()).sum();
    assert_eq!(wrong, 1);
    assert!(disk.flip("a", 5, 0));
    assert!(!disk.flip("a", 2_000, 0));
    assert_eq!(disk.crash(Survivors::Nothing).bytes("a").unwrap()[5], 0);
    disk.pull_out();
    file.read_at(&mut buffer, 0).unwrap_err();
}

#[test]
fn a_tape_gives_every_moment_again() {
    let disk = settled();
    let file = disk.open("a").unwrap();
    let mut seen = vec![disk.fingerprint()];
    for round in 0..10_u8 {
        file.write_at(&[round; 700], u64::from(round) * 300).unwrap();
        seen.push(disk.fingerprint());
    }
    let tape = disk.tape();
    let first = tape.len() - 10;
    let again: Vec<u64> = tape.moments().skip(first).map(|m| m.kill().fingerprint()).collect();
    assert_eq!(again, seen);
    assert_eq!(tape.moment(first + 3).kill().fingerprint(), seen[3]);
}

/// Everything that can be done to a disk, by a seed; what a power cut leaves of it, as one number.
fn play(seed: u64) -> u64 {
    let mut stream = seed;
    let disk = SimDisk::new(seed);
    for round in 0..200_u64 {
        let number = draw(&mut stream);
        let name = format!("f{}", number % 5);
        let file = disk.open(&name).or_else(|_| disk.create(&name)).unwrap();
        let at = (number >> 8) % 9_000;
        match (number >> 40) % 12 {
            0 => disk.remove(&name).unwrap(),
            1 => disk.rename(&name, &format!("f{}", round % 5)).unwrap(),
            2 => file.set_length(at).unwrap(),
            3 => disk.sync_folder().unwrap(),
            4 => file.sync().unwrap(),
            5 => {
                disk.plan(Kind::Sync, 0, Trouble::FailsAndForgets);
                file.sync().unwrap_err();
            }
            _ => file.write_at(&[number.to_le_bytes()[0]; 1_500], at).unwrap(),
        }
    }
    let crashes = (0..8).map(|seed| disk.crash(Survivors::Random { seed }).fingerprint());
    crashes.fold(0, |sum, fingerprint| sum.rotate_left(7) ^ fingerprint)
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for seed in 0..50 {
        assert_eq!(play(seed), play(seed));
    }
    assert_ne!(play(1), play(2));
}
