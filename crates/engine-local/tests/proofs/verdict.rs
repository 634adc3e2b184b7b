//! Holds what a crash left against what was promised.

use crate::{
    run::{Look, Store},
    script,
    story::{Clocks, State, Story, entries, state_at},
};
use outrigger_engine_local::Local;
use outrigger_keyspace::{Durability, Transaction, Write};
use outrigger_sim::disk::{SimDisk, Survivors};
use std::{ops::RangeInclusive, sync::Arc};

/// One crash: after which step of which story, and whether the disk lost power or only the process ended.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) story: &'a Story,
    pub(crate) states: &'a [State],
    pub(crate) step: usize,
    pub(crate) kill: bool,
    /// How thoroughly to look.
    pub(crate) depth: Depth,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Depth {
    /// Open and compare.
    Compare,
    /// Also commit, ask again for old commits, and cut the power once more.
    GoOn,
    /// Also cut the power at every step of the recovery.
    Recoveries,
}

/// What was tried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) images: usize,
    pub(crate) second_crashes: usize,
}

impl Case<'_> {
    /// Whether `image` opens as a state that the store had, with everything acknowledged in it.
    pub(crate) fn judge(&self, image: &SimDisk, count: &mut Count) -> Result<(), String> {
        count.images += 1;
        let clocks = self.story.clocks_at(self.step);
        let promised = self.story.promised(self.step, self.kill);
        let (mut store, state) = self.open(image, clocks, promised)?;
        let opening = image.tape();
        // What it lets go of or keeps for others must be sound too, not only what a start looks at.
        Local::verify_by_hand(Arc::new(image.kill()))
            .map_err(|error| format!("verify: {error}"))?;
        if self.depth >= Depth::GoOn {
            // What was shown once must not be lost to a power cut right after it.
            let shown = self.states[*state.start()].revision.max(promised);
            self.open(&image.crash(Survivors::Nothing), clocks, shown)
                .map_err(|error| format!("after a power cut once it was open: {error}"))?;
            self.go_on(&mut store, image, &state, clocks)?;
        }
        if self.depth >= Depth::Recoveries {
            let promised = self.story.promised(self.step, false);
            for moment in opening.moments() {
                for survivors in [Survivors::Nothing, Survivors::Random { seed: promised }] {
                    count.second_crashes += 1;
                    let again = moment.crash(survivors);
                    self.open(&again, clocks, promised).map_err(|error| {
                        format!("after a second crash at step {} of the recovery ({survivors:?}): {error}", moment.after)
                    })?;
                }
            }
        }
        Ok(())
    }

    fn open(
        &self,
        image: &SimDisk,
        clocks: Clocks,
        promised: u64,
    ) -> Result<(Store, RangeInclusive<usize>), String> {
        let mut store =
            Store::open(image, clocks, 99).map_err(|error| format!("refused: {error}"))?;
        let look = store.look()?;
        let state = find(self.states, &look, promised)?;
        Ok((store, state))
    }

    /// The store is of use again: it numbers on, remembers commits by their id, and keeps all this through a power cut.
    fn go_on(
        &self,
        store: &mut Store,
        image: &SimDisk,
        state: &RangeInclusive<usize>,
        clocks: Clocks,
    ) -> Result<(), String> {
        let found = &self.states[*state.start()];
        let mut model = found.model.clone();
        let told = self.story.told(self.step).max(found.revision);
        let mut newest = told;
        let surely_lost = self.states[*state.end()].revision + 1;
        for accepted in self.asked_again(found.revision, surely_lost) {
            let answer = store.commit(accepted.transaction.clone())?;
            let answer = answer.map_err(|error| format!("asking again: {error}"))?;
            let known = accepted.committed.revision <= found.revision;
            if known && answer != accepted.committed {
                return Err(format!("asked again, {:?} became {answer:?}", accepted.committed));
            }
            if !known {
                self.fresh(answer.revision, newest)?;
                newest = answer.revision;
                model.advance(answer.time);
                model.time = answer.time;
                model
                    .apply(&accepted.transaction.writes, answer.revision)
                    .map_err(|e| e.to_string())?;
            }
        }
        // Large enough that the log may have to go on in another segment.
        let large = Write::Put {
            key: script::key(1).into(),
            value: vec![1; 5_000].into(),
            expires_at: None,
        };
        let writes = vec![Write::Add { key: script::counter(0).into(), delta: 1 }, large];
        let transaction = Transaction { writes: writes.clone(), ..Transaction::default() };
        let answer = store.commit(transaction)?.map_err(|error| format!("no commit: {error}"))?;
        self.fresh(answer.revision, newest)?;
        if answer.time < found.model.time {
            return Err(format!("time went back from {:?} to {:?}", found.model.time, answer.time));
        }
        model.advance(answer.time);
        model.time = answer.time;
        model.apply(&writes, answer.revision).map_err(|error| error.to_string())?;
        let expected = State { revision: answer.revision, model };
        let look = store.look()?;
        compare(&expected, &look).map_err(|error| format!("after going on: {error}"))?;
        store.clock.advance_ms(45);
        let later = store.look()?;
        compare(&expected, &later).map_err(|error| format!("a while after going on: {error}"))?;
        let later = Clocks { mono_ms: clocks.mono_ms + 45, ..clocks };
        let mut again = Store::open(&image.crash(Survivors::Nothing), later, 7)
            .map_err(|error| format!("refused after going on and another power cut: {error}"))?;
        let look = again.look()?;
        compare(&expected, &look)
            .map_err(|error| format!("after going on and another power cut: {error}"))
    }

    fn fresh(&self, revision: u64, newest: u64) -> Result<(), String> {
        if revision > newest {
            return Ok(());
        }
        Err(format!("revision {revision} was given out again after {newest}"))
    }

    /// Commits with an id: the last one that is there, and one that is not.
    fn asked_again(&self, known: u64, lost: u64) -> Vec<&crate::story::Accepted> {
        let named = |a: &&crate::story::Accepted| {
            a.transaction.id.is_some()
                && a.transaction.read_keys.is_empty()
                && a.transaction.durability == Durability::Flush
        };
        let accepted = &self.story.accepted;
        let known = accepted.range(..=known).rev().map(|(_, a)| a).find(named);
        let lost = accepted.range(lost..).map(|(_, a)| a).find(named);
        known.into_iter().chain(lost).collect()
    }
}

/// Which states the store may be in (two may look alike); it must be one it had, and not before `promised`.
pub(crate) fn find(
    states: &[State],
    look: &Look,
    promised: u64,
) -> Result<RangeInclusive<usize>, String> {
    let from = states.partition_point(|state| state.revision < promised);
    let until = states.partition_point(|state| state.revision <= look.revision);
    let alike = |index: &usize| compare(&states[*index], look).is_ok();
    let mut candidates = from..until.max(from);
    let Some(first) = candidates.find(alike) else {
        let near = state_at(states, look.revision);
        let difference = compare(near, look).err().unwrap_or_default();
        return Err(format!(
            "no state from revision {promised} on is what was found at {}; compared with that of revision {}: {difference}",
            look.revision, near.revision
        ));
    };
    let last = candidates.rev().find(alike).unwrap_or(first);
    Ok(first..=last)
}

/// Whether a reader sees exactly this state.
pub(crate) fn compare(state: &State, look: &Look) -> Result<(), String> {
    let expected = entries(&state.model, look.now);
    if expected == look.entries {
        return Ok(());
    }
    let missing = expected.iter().find(|entry| !look.entries.contains(entry));
    let excess = look.entries.iter().find(|entry| !expected.contains(entry));
    let brief = |entry: Option<&outrigger_keyspace::Entry>| {
        entry.map(|entry| {
            let value = &entry.value;
            format!(
                "{:?} = {} bytes of revision {}, expires {:?}",
                entry.key,
                value.bytes.len(),
                value.revision,
                value.expires_at
            )
        })
    };
    Err(format!("missing {:?}, excess {:?}", brief(missing), brief(excess)))
}
