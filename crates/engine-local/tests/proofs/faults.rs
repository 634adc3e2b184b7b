//! Each operation of the disk fails in turn, syncs lie, the disk is full: never a wrong answer, and nothing
//! acknowledged is lost but by a disk that lied.

use crate::{
    run::{Look, Run, Store},
    script,
    story::{Clocks, State, Story},
    verdict::{compare, find},
};
use bytes::Bytes;
use outrigger_engine_local::OpenError;
use outrigger_keyspace::{KeySpace, Transaction, Write};
use outrigger_sim::disk::{Kind, SimDisk, Survivors, Trouble};

/// How a run among troubles ended.
struct Ended {
    disk: SimDisk,
    story: Story,
    clocks: Clocks,
    /// Whether the engine stopped.
    failed: bool,
    /// How many commits found the disk full.
    full: usize,
}

/// Plays the script on a disk that `trouble` has prepared; what the engine shows on the way must be true.
fn play(acts: &[script::Act], trouble: impl FnOnce(&SimDisk)) -> Result<Option<Ended>, String> {
    let disk = SimDisk::new(3);
    trouble(&disk);
    let Ok(mut run) = Run::start(disk.clone(), 3) else { return Ok(None) };
    run.troubled = true;
    let mut failed = false;
    for act in acts {
        let opens = matches!(act, script::Act::Reopen | script::Act::Kill);
        if opens && (run.store.engine.status().failed.is_some() || !run.story.unknown.is_empty()) {
            // What is found then is judged once, at the end.
            break;
        }
        match run.act(act) {
            Ok(()) => {}
            Err(error) if error.starts_with("cannot open again") => {
                failed = true;
                break;
            }
            Err(error) => return Err(error),
        }
    }
    failed |= run.store.engine.status().failed.is_some();
    run.gather()?;
    let (clocks, full) = (run.clocks(), run.full);
    if !failed {
        seen_is_true(&mut run)?;
    }
    disk.calm();
    disk.set_capacity(u64::MAX);
    let (disk, story) = run.end();
    Ok(Some(Ended { disk, story, clocks, failed, full }))
}

/// A reader is shown a state with everything acknowledged in it, or an error.
fn seen_is_true(run: &mut Run) -> Result<(), String> {
    let Ok(look) = run.store.look() else { return Ok(()) };
    let states = run.story.states()?;
    let promised = run.story.promised(usize::MAX, true);
    match_with_unknown(&states, &run.story.unknown, &look, promised)
        .map_err(|error| format!("a reader saw what never was: {error}"))
}

/// Finds the state that was looked at among the known ones, or as the last known one with some of the commits that
/// were never answered on top of it: in any order, since they were under way together and a small one passes a large one.
fn match_with_unknown(
    states: &[State],
    unknown: &[Transaction],
    look: &Look,
    promised: u64,
) -> Result<(), String> {
    let Err(error) = find(states, look, promised) else { return Ok(()) };
    let last = states.last().unwrap();
    // Nobody was told their revisions, so these are tried: what values say, and what comes right after the last known.
    let told = look.entries.iter().map(|entry| entry.value.revision).filter(|r| *r > last.revision);
    let tried = (last.revision + 1..).take(20).chain(told);
    for first in tried.flat_map(|revision| revision.saturating_sub(4).max(1)..=revision) {
        for order in orders(unknown) {
            let mut model = last.model.clone();
            for (offset, offered) in (0..).zip(order) {
                model.advance(look.now);
                if model.apply(&offered.writes, first + offset).is_err() {
                    break;
                }
                let state = State { revision: first + offset, model: model.clone() };
                if compare(&state, look).is_ok() {
                    return Ok(());
                }
            }
        }
    }
    Err(format!("{error}; {} commits without an answer do not explain it", unknown.len()))
}

/// Every order of a few transactions; of many only the one they were sent in.
fn orders(unknown: &[Transaction]) -> Vec<Vec<&Transaction>> {
    if unknown.len() > 4 {
        return vec![unknown.iter().collect()];
    }
    let mut orders: Vec<Vec<&Transaction>> = vec![Vec::new()];
    for offered in unknown {
        let mut longer = Vec::new();
        for order in orders {
            for place in 0..=order.len() {
                longer.push([&order[..place], &[offered], &order[place..]].concat());
            }
        }
        orders = longer;
    }
    orders
}

impl Ended {
    /// What the next start finds, after a power cut and after the end of the process.
    fn judge(&self, lied: bool) -> Result<usize, String> {
        let states = self.story.states()?;
        let images = [
            ("killed", self.disk.kill(), true),
            ("nothing pending survives", self.disk.crash(Survivors::Nothing), false),
            ("chance", self.disk.crash(Survivors::Random { seed: 11 }), false),
        ];
        let mut refused = 0;
        for (how, image, kill) in images {
            let promised = if lied { 0 } else { self.story.promised(usize::MAX, kill) };
            match Store::open(&image, self.clocks, 77) {
                Ok(mut store) => {
                    let look = match store.look() {
                        Ok(look) => look,
                        Err(error) if lied && error.contains("damaged") => {
                            refused += 1;
                            continue;
                        }
                        Err(error) => return Err(format!("{how}: {error}")),
                    };
                    match_with_unknown(&states, &self.story.unknown, &look, promised)
                        .map_err(|error| format!("{how}: {error}"))?;
                    if !lied {
                        self.goes_on(store, &image, &look)
                            .map_err(|error| format!("{how}, then gone on from: {error}"))?;
                        self.start_fails(how, &look)?;
                    }
                }
                Err(OpenError::Damaged { .. }) if lied => refused += 1,
                Err(error) => return Err(format!("{how}: refused: {error}")),
            }
        }
        Ok(refused)
    }
}

impl Ended {
    /// What was shown once the store was open again, and what is committed then, is there after a power cut: also when the
    /// process was started anew on a system that shows what a failed sync has not written.
    fn goes_on(&self, mut store: Store, image: &SimDisk, shown: &Look) -> Result<(), String> {
        let cut = image.crash(Survivors::Nothing);
        let mut again = Store::open(&cut, self.clocks, 78).map_err(|error| error.to_string())?;
        same(&again.look()?, shown).map_err(|error| format!("shown, then lost: {error}"))?;
        let value = Bytes::from_static(b"after the trouble");
        let write = Write::Put { key: script::key(0).into(), value, expires_at: None };
        let transaction = Transaction { writes: vec![write], ..Transaction::default() };
        let committed = store.commit(transaction)?.map_err(|error| error.to_string())?;
        let told = self.story.told(usize::MAX);
        if committed.revision <= told {
            return Err(format!(
                "revision {} was given out again after {told}",
                committed.revision
            ));
        }
        let look = store.look()?;
        let cut = image.crash(Survivors::Nothing);
        let mut again = Store::open(&cut, self.clocks, 79).map_err(|error| error.to_string())?;
        same(&again.look()?, &look).map_err(|error| format!("committed, then lost: {error}"))
    }

    /// Each sync of the next start fails too; the start after that finds the same.
    fn start_fails(&self, how: &str, shown: &Look) -> Result<(), String> {
        for nth in 0.. {
            let image = match how {
                "killed" => self.disk.kill(),
                "chance" => self.disk.crash(Survivors::Random { seed: 11 }),
                _ => return Ok(()),
            };
            image.set_seed(nth);
            let before = image.seen(Kind::Sync);
            image.plan(Kind::Sync, nth, Trouble::FailsAndForgets);
            // It may open: when it was only a segment ahead of need that could not be made.
            drop(Store::open(&image, self.clocks, 80));
            if image.seen(Kind::Sync) - before <= nth {
                break;
            }
            image.calm();
            let again = |error: String| format!("{how}, sync {nth} of the start failed: {error}");
            let mut store = Store::open(&image, self.clocks, 81);
            let store = store.as_mut().map_err(|error| again(error.to_string()))?;
            same(&store.look()?, shown).map_err(again)?;
            let store = Store::open(&image, self.clocks, 82);
            let mut store = store.map_err(|error| again(error.to_string()))?;
            let look = store.look()?;
            self.goes_on(store, &image, &look).map_err(again)?;
        }
        Ok(())
    }
}

/// Whether two readers saw the same.
fn same(one: &Look, other: &Look) -> Result<(), String> {
    if one.entries == other.entries {
        return Ok(());
    }
    Err(format!("{:?} and {:?}", one.entries, other.entries))
}

/// Every `stride`-th operation of `kind` suffers each of `troubles`; how many runs that were, and how many stopped the engine.
pub(crate) fn each(
    kind: Kind,
    troubles: &[Trouble],
    stride: usize,
) -> Result<(usize, usize), String> {
    let acts = script::recorded();
    let whole = Run::whole(&acts, 3)?;
    let operations = whole.disk.seen(kind);
    let (mut runs, mut stopped) = (0, 0);
    for nth in (0..operations).step_by(stride) {
        for trouble in troubles {
            let ended = play(&acts, |disk| disk.plan(kind, nth, *trouble))
                .and_then(|ended| {
                    let Some(ended) = ended else { return Ok(true) };
                    ended.judge(false)?;
                    Ok(ended.failed)
                })
                .map_err(|error| format!("{kind:?} number {nth} {trouble:?}: {error}"))?;
            runs += 1;
            stopped += usize::from(ended);
        }
    }
    Ok((runs, stopped))
}

#[test]
fn a_failed_sync_is_never_believed() {
    let troubles = [Trouble::FailsAndForgets, Trouble::FailsAndReverts];
    let (runs, stopped) = each(Kind::Sync, &troubles, crate::stride(3)).unwrap();
    assert!(stopped > 3 && runs >= stopped, "{runs} runs, {stopped} stopped");
}

#[test]
fn a_failed_write_loses_nothing_acknowledged() {
    let troubles = [Trouble::Fails, Trouble::Stops(100), Trouble::Stops(600)];
    let (_, stopped) = each(Kind::Write, &troubles, crate::stride(5)).unwrap();
    assert!(stopped > 3);
}

#[test]
fn failed_names_and_lengths_lose_nothing_acknowledged() {
    for kind in [Kind::Name, Kind::SyncFolder, Kind::SetLength] {
        each(kind, &[Trouble::Fails], crate::stride(3)).unwrap();
    }
}

#[test]
fn a_failed_or_wrong_read_is_an_error_and_nothing_else() {
    each(Kind::Read, &[Trouble::Fails, Trouble::Flips], crate::stride(7)).unwrap();
}

#[test]
fn a_disk_that_lies_is_found_out_or_loses_only_the_newest() {
    let acts = script::recorded();
    let mut refused = 0;
    for prefix in ["log", "index", ""] {
        let ended = play(&acts, |disk| disk.let_syncs_lie(prefix)).unwrap().unwrap();
        refused += ended.judge(true).unwrap();
    }
    let whole = Run::whole(&acts, 3).unwrap();
    for nth in (0..whole.disk.seen(Kind::Sync)).step_by(crate::stride(3)) {
        let lie = |disk: &SimDisk| disk.plan(Kind::Sync, nth, Trouble::Lies);
        let ended = play(&acts, lie).unwrap().unwrap();
        refused += ended.judge(true).unwrap_or_else(|error| panic!("lie {nth}: {error}"));
    }
    assert!(refused > 0, "an index ahead of its log is refused");
}

#[test]
fn a_full_disk_loses_nothing_acknowledged() {
    let acts = script::recorded();
    let whole = Run::whole(&acts, 3).unwrap();
    let used = whole.disk.used_bytes();
    let mut refused = 0;
    for capacity in (8_192..used + 8_192).step_by(4_096 * crate::stride(3)) {
        let ended = play(&acts, |disk| disk.set_capacity(capacity));
        let ended = ended.unwrap_or_else(|error| panic!("capacity {capacity}: {error}"));
        let Some(ended) = ended else { continue };
        refused += ended.full;
        // Writes are refused before the log meets the end of the disk.
        assert!(!ended.failed, "capacity {capacity}: the engine stopped");
        ended.judge(false).unwrap_or_else(|error| panic!("capacity {capacity}: {error}"));
    }
    assert!(refused > 10, "{refused}");
}
