//! One bit of one byte is turned over: the store refuses, or a read fails, or nothing is different. Tried for every byte
//! of every file of a small store. Then sectors that are lost or mixed up, and files that are gone or too short.

use crate::{
    dice::Dice,
    run::{Run, Store},
    script::{self, Act},
    story::{Clocks, State},
    verdict::compare,
};
use outrigger_kernel::disk::Disk;
use outrigger_sim::disk::{SECTOR_BYTES, SimDisk};

/// What became of the flips.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) refused: usize,
    pub(crate) unreadable: usize,
    pub(crate) harmless: usize,
}

impl Tally {
    /// Opens what was damaged: it must be refused, or a read must fail, or nothing is different.
    fn take(&mut self, image: &SimDisk, state: &State, clocks: Clocks) -> Result<(), String> {
        let Ok(mut store) = Store::open(image, clocks, 5) else {
            self.refused += 1;
            return Ok(());
        };
        let Ok(look) = store.look() else {
            self.unreadable += 1;
            return Ok(());
        };
        compare(state, &look)?;
        self.harmless += 1;
        Ok(())
    }
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
            tally
                .take(&image, &state, clocks)
                .map_err(|error| format!("bit {bit} of byte {at} of {name}: {error}"))?;
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

#[test]
fn lost_and_mixed_up_sectors_are_noticed() {
    let (disk, state, clocks) = at_rest().unwrap();
    let names: Vec<String> = disk.list().unwrap();
    let mut tally = Tally::default();
    for name in &names {
        let bytes = disk.bytes(name).unwrap();
        let sectors: Vec<&[u8]> = bytes.chunks(SECTOR_BYTES).collect();
        // The sector in which a log ends holds its last frame and the mark behind it. Whatever takes both leaves a log that
        // ends earlier, which no log can tell from one that did: a disk that lost what it had confirmed.
        let written = |sector: &&[u8]| sector.iter().any(|byte| *byte != 0);
        let last = sectors.iter().rposition(written);
        let last = last.filter(|_| name.starts_with("log-"));
        for (number, sector) in sectors.iter().enumerate().filter(|(n, _)| Some(*n) != last) {
            let elsewhere = sectors[(number + 3) % sectors.len()];
            let elsewhere = &elsewhere[..elsewhere.len().min(sector.len())];
            for put in [&vec![0; sector.len()][..], &vec![0xff; sector.len()], elsewhere] {
                let image = disk.kill();
                image.overwrite(name, (number * SECTOR_BYTES) as u64, put);
                let taken = tally.take(&image, &state, clocks);
                taken.unwrap_or_else(|error| panic!("sector {number} of {name}: {error}"));
            }
        }
    }
    assert!(tally.refused > 50, "{tally:?}");
}

#[test]
fn lost_and_shortened_files_are_noticed() {
    let (disk, state, clocks) = at_rest().unwrap();
    let mut tally = Tally::default();
    for name in disk.list().unwrap() {
        let length = disk.bytes(&name).unwrap().len() as u64;
        let cuts = (0..length).step_by(97 * crate::stride(7)).map(Some);
        for cut in cuts.chain([None]) {
            let image = disk.kill();
            match cut {
                Some(length) => image.open(&name).unwrap().set_length(length).unwrap(),
                None => image.remove(&name).unwrap(),
            }
            let taken = tally.take(&image, &state, clocks);
            taken.unwrap_or_else(|error| panic!("{name} cut to {cut:?}: {error}"));
        }
    }
    assert!(tally.refused > 50, "{tally:?}");
}
