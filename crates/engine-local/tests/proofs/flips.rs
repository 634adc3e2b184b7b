//! One bit of one byte is turned over: the store refuses, or a read fails, or nothing is different. Tried for every byte
//! of every file of a small store.

use crate::{
    dice::Dice,
    run::{Run, Store},
    script::{self, Act},
    story::{Clocks, State},
    verdict::compare,
};
use outrigger_kernel::disk::Disk;
use outrigger_sim::disk::SimDisk;

/// What became of the flips.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) refused: usize,
    pub(crate) unreadable: usize,
    pub(crate) harmless: usize,
}

#[expect(clippy::print_stdout, reason = "the figures are part of the proof")]
fn say(what: &str, tally: &Tally) {
    println!("flips: every byte of the {what}: {tally:?}");
}

/// A store at rest: log with something the index does not have, index with something the log has no more.
fn at_rest() -> Result<(SimDisk, State, Clocks), String> {
    let mut acts: Vec<Act> = script::recorded().into_iter().take(8).collect();
    acts.extend([Act::Turn, Act::Seal, Act::Turn, Act::Checkpoint, Act::Turn]);
    acts.extend(script::recorded().into_iter().skip(8).take(8));
    acts.extend([Act::Turn, Act::Rest, Act::Turn]);
    let run = Run::whole(&acts, 4)?;
    let clocks = run.clocks();
    let (disk, story) = run.end();
    let state = story.states()?.pop().ok_or("no states")?;
    Ok((disk.kill(), state, clocks))
}

/// Flips one bit of every `stride`-th byte of the files whose names begin with `prefix`.
pub(crate) fn each(prefix: &str, stride: usize) -> Result<Tally, String> {
    let (disk, state, clocks) = at_rest()?;
    let mut tally = Tally::default();
    let mut dice = Dice(1);
    let names = disk.list().map_err(|error| error.to_string())?;
    for name in names.iter().filter(|name| name.starts_with(prefix)) {
        let length = disk.bytes(name).unwrap_or_default().len() as u64;
        for at in (0..length).step_by(stride) {
            let bit = dice.draw().to_le_bytes()[0] % 8;
            let image = disk.kill();
            assert!(image.flip(name, at, bit));
            let Ok(mut store) = Store::open(&image, clocks, 5) else {
                tally.refused += 1;
                continue;
            };
            let Ok(look) = store.look() else {
                tally.unreadable += 1;
                continue;
            };
            compare(&state, &look)
                .map_err(|error| format!("bit {bit} of byte {at} of {name}: {error}"))?;
            tally.harmless += 1;
        }
    }
    Ok(tally)
}

#[test]
fn every_byte_of_the_log_matters_or_is_noticed() {
    let tally = each("log", crate::stride(11)).unwrap();
    assert!(tally.refused > 1_000 / crate::stride(11), "{tally:?}");
    say("log", &tally);
}

#[test]
fn every_byte_of_the_index_matters_or_is_noticed() {
    let tables = each("run-", crate::stride(5)).unwrap();
    assert!(tables.refused + tables.unreadable > 500 / crate::stride(5), "{tables:?}");
    say("index", &tables);
    // It is there twice.
    let manifest = each("index", crate::stride(5)).unwrap();
    assert_eq!(manifest.refused + manifest.unreadable, 0, "{manifest:?}");
}

#[test]
fn every_byte_of_the_other_files_matters_or_is_noticed() {
    let tally = each("FORMAT", 1).unwrap();
    assert!(tally.refused + tally.harmless > 10, "{tally:?}");
}
