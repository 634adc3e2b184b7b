//! Every crash of a recorded workload: what is opened afterwards is the state of one checkpoint, and none that was
//! acknowledged is missing.

use super::*;
use outrigger_sim::disk::Survivors;

/// The states a crash may lead to, and from which step on each was acknowledged.
fn workload(disk: &SimDisk) -> Vec<(usize, Checkpoint, Map)> {
    let index = create(disk);
    let mut map = Map::new();
    let mut states = vec![(disk.steps(), checkpoint(0), map.clone())];
    for round in 1..14_u64 {
        let clears = match round % 5 {
            4 => vec![KeyRange::new(key(round), key(round * 3))],
            _ => Vec::new(),
        };
        let changes = (0..12).map(|n| put((round * 31 + n * 7) % 60, round, 60));
        // Two of a few large values are put again each time, so that their files are gathered from.
        let large = [60, 61].map(|n| put(n + round % 3, round, 2_400));
        let changes = changes.chain(large).chain([delete(round * 4 % 60)]);
        let plan = plan(round, clears, changes.collect());
        apply_to(&mut map, &plan);
        apply(&index, &[plan], round).unwrap();
        states.push((disk.steps(), checkpoint(round), map.clone()));
        index.maintain(&mut |_| {}).unwrap();
    }
    maintain(&index);
    states
}

fn check_crash(crashed: &SimDisk, after: usize, states: &[(usize, Checkpoint, Map)], how: &str) {
    let acknowledged = states.iter().rposition(|(step, ..)| *step <= after);
    let index = match open(crashed) {
        Err(IndexError::Missing) if acknowledged.is_none() => return,
        opened => opened.unwrap_or_else(|error| panic!("after step {after}, {how}: {error}")),
    };
    let view = index.view();
    let found = states.iter().position(|(_, checkpoint, _)| checkpoint == view.checkpoint());
    assert!(found >= acknowledged, "after step {after}, {how}: {found:?} of {acknowledged:?}");
    check(&view, &states[found.unwrap()].2, 64);
    view.verify().unwrap();
    drop(view);
    // And it goes on from there, with nothing left of what was begun.
    apply(&index, &[plan(99, Vec::new(), vec![put(1, 99, 10)])], 99).unwrap();
    maintain(&index);
    let named = figures(&index).files;
    assert_eq!(on(crashed).list().unwrap().len(), named + 1, "after step {after}, {how}");
}

#[test]
fn every_crash_leads_to_a_checkpoint() {
    let disk = SimDisk::new(3);
    let states = workload(&disk);
    let tape = disk.tape();
    for (after, moment) in tape.moments().enumerate() {
        check_crash(&moment.kill(), after, &states, "killed");
        let mut fates = vec![Survivors::Nothing, Survivors::Everything];
        for change in 0..moment.pending() {
            fates.extend([
                Survivors::Before(change),
                Survivors::Without(change),
                Survivors::Only(change),
            ]);
        }
        fates.extend((0..3).map(|seed| Survivors::Random { seed: seed + after as u64 }));
        for fate in fates {
            let how = format!("{fate:?}");
            check_crash(&moment.crash(fate), after, &states, &how);
        }
    }
}

#[test]
fn the_same_work_writes_the_same_bytes() {
    let (first, second) = (SimDisk::new(1), SimDisk::new(2));
    workload(&first);
    workload(&second);
    assert_eq!(first.fingerprint(), second.fingerprint());
}

#[test]
fn an_empty_index_takes_few_syncs() {
    let disk = SimDisk::new(1);
    Index::create(on(&disk), OPTIONS, checkpoint(0)).unwrap();
    assert!(disk.seen(outrigger_sim::disk::Kind::Sync) <= 1);
    assert!(disk.seen(outrigger_sim::disk::Kind::SyncFolder) <= 2);
}
