//! Keeping the index small and quick to read: runs are merged, in steps that fit between two layers.
//!
//! Two rules decide. When too many runs lie above the base, or scans have read more in them than folding would, a few
//! neighbours are folded into one: those that cost least for each run that is then less. When what runs hide in older ones comes near what there is to be seen, or folding would mean
//! very large runs, all that lies above the base is *drained* into it: the disk holds less than twice the live data, and
//! rows that are never replaced are not written again and again for that.
//!
//! Merges refer to values that stand apart and do not copy them. When much of their files is dead, the tables that refer to
//! the one that is dead the most are written anew with what lives of it (*gathered*), and it goes.
//!
//! While nothing is written to the store, less is allowed to be dead.
//!
//! A drain goes through the keys in order and stops after each step, however large the base is: what it has done lies
//! before the key at which the drained runs begin from then on ([`Run::from`]). Where the drained runs say nothing, the
//! base's files stay as they are; and a file of new rows that nothing overlaps becomes part of the base as it is, so rows
//! that only ever come at the end are written once.

use super::{
    BUSY, Index, IndexError, Pace, State,
    apply::{Paced, Tables},
    cell::{END, Family, Says, Written, after, decode_expiry, decode_row, expiry_of},
    merge::{Folding, Merged},
    refs,
    run::{Cursor, Run},
    table::{HEAD_BYTES, Table},
    values::ValuesInfo,
};
use crate::record;
use bytes::Bytes;
use outrigger_kernel::Wall;
use outrigger_keyspace::{Direction, ReadError};
use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// What has been due for so long is nobody's business any more: a row is invisible since, and the store had every occasion
/// to remove it.
const DUE_FOR: Duration = Duration::from_secs(3_600);

/// The base has at most about so many files.
const BASE_FILES: u64 = 256;

/// At rest so much less than otherwise may be dead whatever is live.
const REST_SLACK_PART: u64 = 12;

/// A file of values is gathered from when this part of it is unused. As long as all have less, a quarter of what is live is
/// unused at most.
const UNUSED_PART: u64 = 5;

/// A fold takes so many runs. Folding more at once would make fewer of them for the same writing, but all of it sooner:
/// much of a store is never folded at all.
const FOLD_MIN: usize = 4;
const FOLD_MAX: usize = 8;

impl Index {
    /// Does one step of merging, if anything is worth it and there is room for it. Whether there may be more to do.
    pub(crate) fn maintain(&self, pace: &mut Pace<'_>) -> Result<bool, IndexError> {
        self.change(|state| {
            let more = self.step(state, &mut Paced::new(pace))?;
            self.bury(state)?;
            Ok(more)
        })
    }

    pub(super) fn step(
        &self,
        state: &mut State,
        pace: &mut Paced<'_, '_>,
    ) -> Result<bool, IndexError> {
        let above = state.runs.len() - 1;
        let fresh = above - state.draining as usize;
        let free = self.disk.room().map_or(u64::MAX, |room| room.free_bytes);
        if let Some(folded) = self.what_to_fold(&state.runs[..fresh]) {
            // A merge must not take the room that commits need: there is time until there is more.
            if state.runs[folded.clone()].iter().map(Run::bytes).sum::<u64>() > free / 2 {
                return Ok(false);
            }
            self.fold(state, folded, pace)?;
            return Ok(true);
        }
        let enough = self.sizes.step_bytes.min(free / 8).max(1);
        match self.what_is_due(state) {
            None => Ok(false),
            Some(Due::Gather) => self.gather(state, enough, free / 2, pace),
            Some(Due::Drain) => {
                if drained_bytes(state, enough) > free / 2 {
                    return Ok(false);
                }
                if state.draining == 0 {
                    state.draining = u32::try_from(above).unwrap_or(u32::MAX);
                }
                self.drain(state, enough, pace)?;
                // Whoever asks again lets files go that nobody reads by then.
                Ok(true)
            }
        }
    }

    /// What should be done for room, or for fewer runs.
    fn what_is_due(&self, state: &State) -> Option<Due> {
        let above = state.runs.len() - 1;
        if state.draining > 0 || above > self.sizes.runs_max {
            return Some(Due::Drain);
        }
        let Space { live, hidden, unused } = state.space();
        let slack = self.sizes.slack_bytes;
        let allowed = match self.rest.load(Ordering::Relaxed) {
            BUSY => live / 10 * 7 + slack,
            beside => (live / 5 * 4).saturating_sub(beside).max(live / 4) + slack / REST_SLACK_PART,
        };
        if hidden + unused <= allowed {
            return None;
        }
        let gathers = state.most_unused().is_some();
        match above > 0 && (hidden >= unused || !gathers) {
            true => Some(Due::Drain),
            false => gathers.then_some(Due::Gather),
        }
    }

    /// Which of the newest runs to fold, if any.
    fn what_to_fold(&self, runs: &[Run]) -> Option<Range<usize>> {
        if runs.len() <= self.sizes.runs_max.min(FOLD_MAX) {
            return None;
        }
        let sizes: Vec<u64> = runs.iter().map(Run::bytes).collect();
        let (bytes, folded) = cheapest_fold(&sizes, 4 * self.sizes.step_bytes)?;
        let read = self.shelf.scanned() * self.sizes.block_bytes as u64;
        if runs.len() <= self.sizes.runs_max && read < bytes {
            return None;
        }
        self.shelf.forget_scans();
        Some(folded)
    }

    /// Makes one run of a few neighbours.
    fn fold(
        &self,
        state: &mut State,
        at: Range<usize>,
        pace: &mut Paced<'_, '_>,
    ) -> Result<(), IndexError> {
        let folded: Vec<Run> = state.runs[at.clone()].to_vec();
        let tables = match side_by_side(&folded) {
            Some(tables) => tables,
            None => self.fold_tables(state, &folded, pace)?,
        };
        let run = (!tables.is_empty()).then(|| Run { tables, from: Bytes::new() });
        let (newer, older) = (&state.runs[..at.start], &state.runs[at.end..]);
        let runs = newer.iter().cloned().chain(run).chain(older.iter().cloned()).collect();
        let (draining, checkpoint) = (state.draining, state.checkpoint.clone());
        self.publish(state, runs, draining, checkpoint)?;
        Ok(())
    }

    fn fold_tables(
        &self,
        state: &mut State,
        folded: &[Run],
        pace: &mut Paced<'_, '_>,
    ) -> Result<Vec<Arc<Table>>, IndexError> {
        let mut tables = Tables::new(self, self.sizes.table_bytes);
        let mut cells = Folding::new(folded, Bytes::new(), END)?;
        while let Some(entry) = cells.next_cell()? {
            tables.push(state, &entry.written(), pace)?;
        }
        let before = folded.iter().flat_map(|run| &run.tables);
        let hidden: u64 = before.map(|table| table.info.hidden_bytes).sum();
        // What they hid in each other is gone now.
        let before: u64 = folded.iter().map(Run::all_bytes).sum();
        tables.hides(hidden.saturating_sub(before.saturating_sub(tables.all_bytes())));
        tables.finish(state)
    }

    /// Merges the next piece of the runs being drained into the base.
    fn drain(
        &self,
        state: &mut State,
        enough: u64,
        pace: &mut Paced<'_, '_>,
    ) -> Result<(), IndexError> {
        let draining = state.draining as usize;
        let fresh = state.runs.len() - 1 - draining;
        let (drained, base) = match state.runs[fresh..].split_last() {
            Some((base, drained)) => (drained.to_vec(), base.clone()),
            None => return Ok(()),
        };
        let from = drained.first().map(|run| run.from.clone()).unwrap_or_default();
        let done = base.tables_before(&from, false);
        let mut step = Step {
            index: self,
            tables: Tables::new(self, self.table_bytes(&base)),
            drained: &drained,
            rest: &base.tables[done..],
            from,
            written: 0,
            enough,
            dead_before: Wall(
                state.checkpoint.committed.time.0.saturating_sub(DUE_FOR.as_millis() as u64),
            ),
        };
        step.run(state, pace)?;
        let Step { tables, rest, from, .. } = step;
        let mut merged = base.tables[..done].to_vec();
        merged.extend(tables.finish(state)?);
        merged.extend(rest.iter().cloned());

        let mut runs = state.runs[..fresh].to_vec();
        let ended = from == END;
        if !ended {
            for run in &drained {
                let tables = run.tables.iter().filter(|table| !table.info.is_before(&from));
                let tables = tables.cloned().collect();
                // A run of which nothing is left stays, so that the count of the drained remains right.
                runs.push(Run { tables, from: from.clone() });
            }
        }
        runs.push(Run { tables: merged, from: Bytes::new() });
        let (draining, checkpoint) =
            (if ended { 0 } else { state.draining }, state.checkpoint.clone());
        self.publish(state, runs, draining, checkpoint)?;
        Ok(())
    }

    /// Writes tables anew that refer to the file of values that is dead the most, with the values they refer to. Whether
    /// there was room.
    fn gather(
        &self,
        state: &mut State,
        enough: u64,
        room: u64,
        pace: &mut Paced<'_, '_>,
    ) -> Result<bool, IndexError> {
        let Some(file) = state.most_unused() else { return Ok(false) };
        let mut runs = state.runs.clone();
        let mut moved = Tables::new(self, self.sizes.table_bytes);
        let mut written = 0;
        for table in runs.iter_mut().flat_map(|run| &mut run.tables) {
            let Some(its_bytes) = table.info.refs.get(&file) else { continue };
            let bytes = table.info.bytes + its_bytes;
            match written {
                0 if bytes > room => return Ok(false),
                0 => {}
                _ if written + bytes > enough.min(room) => break,
                _ => {}
            }
            written += bytes;
            *table = self.without(state, table, file, &mut moved, pace)?;
        }
        moved.finish(state)?;
        let checkpoint = state.checkpoint.clone();
        self.publish(state, runs, 0, checkpoint)?;
        Ok(true)
    }

    /// The same table, with the values in `file` moved to `moved`.
    fn without(
        &self,
        state: &mut State,
        table: &Arc<Table>,
        file: u64,
        moved: &mut Tables<'_>,
        pace: &mut Paced<'_, '_>,
    ) -> Result<Arc<Table>, IndexError> {
        let mut tables = Tables::new(self, u64::MAX);
        let alone = Run { tables: vec![table.clone()], from: Bytes::new() };
        let (mut cursor, mut row) = (Cursor::through(&alone), Vec::new());
        cursor.seek(&[])?;
        while let Some(entry) = cursor.take() {
            let mut cell = entry.written();
            if let Says::Put(payload, _) = cell.says
                && let Some(place) = cell.place(payload).filter(|place| place.file == file)
            {
                let value = decode_row(payload, &state.values)?;
                debug_assert_eq!(value.bytes.len() as u64, place.bytes, "all of it is there");
                let place = moved.push_value(state, &value.bytes, pace)?;
                row.clear();
                record::encode_apart(value.revision, value.expires_at, &place, &mut row);
                cell.says = Says::Put(&row, &[]);
            }
            tables.push(state, &cell, pace)?;
            cursor.step()?;
        }
        tables.hides(table.info.hidden_bytes);
        let anew = tables.finish(state)?.pop();
        anew.ok_or_else(|| IndexError::Failed("a table of the index has no cells".to_owned()))
    }

    /// How large a file of the base becomes: larger in a large base, so that there are not too many.
    fn table_bytes(&self, base: &Run) -> u64 {
        self.sizes.table_bytes.max(base.bytes() / BASE_FILES)
    }
}

impl State {
    /// What the files take. The base hides nothing, whatever its files hid before they became part of it.
    fn space(&self) -> Space {
        let above = self.runs.split_last().map_or(&[][..], |(_, above)| above);
        let values = self.values.iter().map(|values| values.info.bytes);
        let all: u64 = self.runs.iter().map(Run::bytes).chain(values).sum();
        let hidden = above.iter().flat_map(|run| &run.tables).map(|table| table.info.hidden_bytes);
        let hidden = hidden.sum();
        let unused = self.unused().map(|(_, unused, _)| unused).sum();
        Space { live: all.saturating_sub(hidden + unused), hidden, unused }
    }

    /// Of each file of values: its id, how much of it nothing refers to, and its length.
    fn unused(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        let refs = refs(&self.runs);
        self.values.iter().map(move |values| {
            let ValuesInfo { id, bytes } = values.info;
            let used = HEAD_BYTES as u64 + refs.get(&id).copied().unwrap_or(0);
            (id, bytes.saturating_sub(used), bytes)
        })
    }

    /// The file of values of which most is unused, if that is a part of it worth gathering the rest.
    fn most_unused(&self) -> Option<u64> {
        let worth = self.unused().filter(|(_, unused, bytes)| unused * UNUSED_PART >= *bytes);
        worth.max_by_key(|(id, unused, _)| (*unused, *id)).map(|(id, ..)| id)
    }
}

/// What the files of an index take.
struct Space {
    /// About what is to be seen.
    live: u64,
    /// About what newer runs hide.
    hidden: u64,
    /// Values that stand apart and that no row has any more.
    unused: u64,
}

/// What is worth doing.
enum Due {
    /// What lies above the base should be drained into it.
    Drain,
    /// Values that are used should be taken out of files that are mostly not.
    Gather,
}

/// About how much a step of a drain writes at most: it ends within one file of the base and what is merged with it.
fn drained_bytes(state: &State, enough: u64) -> u64 {
    let Some((base, above)) = state.runs.split_last() else { return 0 };
    let files = u64::try_from(base.tables.len()).unwrap_or(u64::MAX).max(1);
    let largest = base.tables.iter().map(|table| table.info.bytes).max().unwrap_or(0);
    let share = above.iter().map(Run::bytes).sum::<u64>() / files;
    (enough + largest + 2 * share).min(state.space().live + enough / 8)
}

/// The files of all runs in order, if no two say anything about the same keys: they are one run as they are.
fn side_by_side(runs: &[Run]) -> Option<Vec<Arc<Table>>> {
    let mut tables: Vec<_> = runs.iter().flat_map(|run| &run.tables).cloned().collect();
    tables.sort_by(|a, b| a.info.first.cmp(&b.info.first));
    let apart = |pair: &[Arc<Table>]| match pair {
        [before, after] => before.info.is_before(&after.info.first),
        _ => true,
    };
    tables.windows(2).all(apart).then_some(tables)
}

/// Which neighbours of runs with these sizes to fold: those for which least is written for each run that there is less.
/// None when all would be larger than `bytes_max`. With it how much is written.
fn cheapest_fold(sizes: &[u64], bytes_max: u64) -> Option<(u64, Range<usize>)> {
    let mut best: Option<(u64, u64, Range<usize>)> = None;
    for start in 0..sizes.len() {
        let mut bytes = 0;
        for (count, size) in (1..=FOLD_MAX).zip(&sizes[start..]) {
            bytes += size;
            if bytes > bytes_max {
                break;
            }
            let each = bytes / (count as u64 - 1).max(1);
            if count >= FOLD_MIN && best.as_ref().is_none_or(|(least, ..)| each < *least) {
                best = Some((each, bytes, start..start + count));
            }
        }
    }
    best.map(|(_, bytes, folded)| (bytes, folded))
}

/// One step of a drain.
struct Step<'a> {
    index: &'a Index,
    tables: Tables<'a>,
    /// What is drained, newest first.
    drained: &'a [Run],
    /// The files of the base that were not reached.
    rest: &'a [Arc<Table>],
    /// Everything before this key is done.
    from: Bytes,
    written: u64,
    /// How much a step writes, about.
    enough: u64,
    dead_before: Wall,
}

impl Step<'_> {
    fn run(&mut self, state: &mut State, pace: &mut Paced<'_, '_>) -> Result<(), IndexError> {
        let end = END;
        while self.from < end && !self.is_enough() {
            match self.rest {
                [table, ..] if self.from < table.info.first => {
                    let until = table.info.first.clone();
                    self.gap(state, until, pace)?;
                }
                [table, rest @ ..] => {
                    let table = table.clone();
                    self.file(state, table, pace)?;
                    self.rest = rest;
                }
                [] => self.gap(state, end.clone(), pace)?,
            }
        }
        Ok(())
    }

    fn is_enough(&self) -> bool {
        self.written >= self.enough
    }

    /// Where one file of the base lies.
    fn file(
        &mut self,
        state: &mut State,
        table: Arc<Table>,
        pace: &mut Paced<'_, '_>,
    ) -> Result<(), IndexError> {
        let until = after(&table.info.last);
        let alone = self.next_drained(&self.from)?.is_none_or(|(key, ..)| key >= until);
        // A small file before it is rather continued than left behind.
        let small = 1..self.index.sizes.table_bytes / 4;
        if alone && !small.contains(&self.tables.open_bytes()) {
            self.tables.take_over(table)?;
        } else {
            let mut runs = self.drained.to_vec();
            runs.push(Run { tables: vec![table], from: Bytes::new() });
            self.merge(state, &runs, &until, false, pace)?;
        }
        self.from = until;
        Ok(())
    }

    /// Where the base has nothing, up to `until`.
    fn gap(
        &mut self,
        state: &mut State,
        until: Bytes,
        pace: &mut Paced<'_, '_>,
    ) -> Result<(), IndexError> {
        while self.from < until && !self.is_enough() {
            let Some((key, run, table)) =
                self.next_drained(&self.from)?.filter(|(key, ..)| *key < until)
            else {
                self.from = until;
                return Ok(());
            };
            if self.is_movable(&key, run, &table, &until)? {
                self.from = after(&table.info.last);
                self.tables.take_over(table)?;
                continue;
            }
            // Up to where a file might be taken over as it is.
            let firsts = self.drained.iter().flat_map(|run| &run.tables);
            let firsts = firsts.map(|table| &table.info.first).filter(|first| **first > key);
            let stop = firsts.min().map_or(&until, |first| first.min(&until)).clone();
            let drained = self.drained.to_vec();
            self.merge(state, &drained, &stop, true, pace)?;
        }
        Ok(())
    }

    /// Merges what `runs` say up to `until`; where it may, it stops before when it is enough.
    fn merge(
        &mut self,
        state: &mut State,
        runs: &[Run],
        until: &Bytes,
        may_stop: bool,
        pace: &mut Paced<'_, '_>,
    ) -> Result<(), IndexError> {
        let mut rows = Merged::through(runs, self.from.clone(), until.clone())?;
        while let Some((key, payload)) = rows.next_row()? {
            if may_stop && self.is_enough() {
                self.from = key;
                return Ok(());
            }
            if self.is_dead(&key, &payload) {
                continue;
            }
            let cell = Written { key: &key, says: Says::Put(&payload, &[]) };
            self.written += cell.bytes() as u64;
            self.tables.push(state, &cell, pace)?;
        }
        self.from = until.clone();
        Ok(())
    }

    fn is_dead(&self, key: &[u8], payload: &[u8]) -> bool {
        let due = match Family::Rows.has(key) {
            true => expiry_of(payload),
            false => decode_expiry(payload).ok(),
        };
        due.is_some_and(|due| due < self.dead_before)
    }

    /// The first cell of the drained runs from `from` on, and where it is.
    fn next_drained(&self, from: &[u8]) -> Result<Option<(Bytes, usize, Arc<Table>)>, ReadError> {
        let mut first: Option<(Bytes, usize, Arc<Table>)> = None;
        for (at, run) in self.drained.iter().enumerate() {
            let mut cursor = Cursor::new(run, Direction::Forward);
            cursor.seek(from)?;
            if let Some((entry, table)) = cursor.current().zip(cursor.table())
                && first.as_ref().is_none_or(|(key, ..)| entry.key < *key)
            {
                first = Some((entry.key.clone(), at, table));
            }
        }
        Ok(first)
    }

    /// Whether `table` of the drained run `run`, in which `key` is the next cell, can become part of the base as it is.
    fn is_movable(
        &self,
        key: &Bytes,
        run: usize,
        table: &Table,
        until: &Bytes,
    ) -> Result<bool, ReadError> {
        let info = &table.info;
        let large_enough = info.bytes >= self.index.sizes.table_bytes / 8;
        if info.first != *key || info.extents > 0 || info.last >= *until || !large_enough {
            return Ok(false);
        }
        for (at, other) in self.drained.iter().enumerate() {
            let mut cursor = Cursor::new(other, Direction::Forward);
            cursor.seek(&info.first)?;
            if at != run && cursor.current().is_some_and(|entry| entry.key <= info.last) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
