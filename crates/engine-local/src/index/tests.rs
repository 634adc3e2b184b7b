//! The index against a map: random layers, reopening, every crash, every flipped byte.

mod crashes;
mod damage;
mod figures;
mod model;
mod space;
mod values;

use super::{Checkpoint, Index, IndexError, IndexOptions, IndexView, Sizes};
use crate::{layer::Layer, log::Position};
use bytes::Bytes;
use outrigger_kernel::{Wall, disk::Disk};
use outrigger_keyspace::{
    CommitId, Committed, Direction, KeyRange, ReadError, Value,
    sequencer::{Change, Plan},
};
use outrigger_sim::disk::SimDisk;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
};

/// What should be in the index.
type Map = BTreeMap<Bytes, Value>;

const OPTIONS: IndexOptions = IndexOptions { cache_bytes: 1 << 20, layer_bytes: 24 << 20 };

/// Sizes at which a handful of rows is a large store.
const SMALL: Sizes = Sizes {
    block_bytes: 500,
    table_bytes: 3_000,
    apart_bytes: 2_000,
    inline_bytes: 0,
    step_bytes: 5_000,
    slack_bytes: 4_000,
    runs_max: 3,
};

/// An empty index with small sizes.
fn create(disk: &SimDisk) -> Index {
    let mut index = Index::create(on(disk), OPTIONS, checkpoint(0)).unwrap();
    index.sizes = SMALL;
    index
}

fn open(disk: &SimDisk) -> Result<Index, IndexError> {
    let mut index = Index::open(on(disk), OPTIONS)?;
    index.sizes = SMALL;
    Ok(index)
}

fn on(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn checkpoint(revision: u64) -> Checkpoint {
    let committed = Committed { revision, time: Wall(revision) };
    Checkpoint {
        committed,
        log: Position { segment: revision / 7, offset: revision * 8, chain: !revision },
        ids: vec![(CommitId([7; 16]), committed); usize::from(revision % 2 == 1)],
    }
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("key/{number:05}"))
}

fn value(number: u64, revision: u64, bytes: usize) -> Value {
    let mut value = format!("{number}@{revision} ").into_bytes();
    value.resize(bytes.max(value.len()), b'.');
    let expires_at = number.is_multiple_of(3).then_some(Wall(u64::MAX - number - revision));
    Value { bytes: value.into(), revision, expires_at }
}

fn put(number: u64, revision: u64, bytes: usize) -> Change {
    Change { key: key(number), value: Some(value(number, revision, bytes)) }
}

fn delete(number: u64) -> Change {
    Change { key: key(number), value: None }
}

fn plan(revision: u64, clears: Vec<KeyRange>, mut changes: Vec<Change>) -> Plan {
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    changes.dedup_by(|a, b| a.key == b.key);
    let committed = Committed { revision, time: Wall(revision) };
    Plan { committed, id: None, clears, changes }
}

/// The same in a map.
fn apply_to(map: &mut Map, plan: &Plan) {
    map.retain(|key, _| !plan.clears.iter().any(|range| range.contains(key)));
    for change in &plan.changes {
        match &change.value {
            Some(value) => drop(map.insert(change.key.clone(), value.clone())),
            None => drop(map.remove(&change.key)),
        }
    }
}

fn layer(plans: &[Plan]) -> Layer {
    let mut layer = Layer::default();
    for plan in plans {
        layer.apply(plan);
    }
    layer
}

fn apply(index: &Index, plans: &[Plan], revision: u64) -> Result<Arc<IndexView>, IndexError> {
    index.apply(layer(plans).iter(), checkpoint(revision), &mut |_| {})
}

fn rows(
    view: &IndexView,
    range: &KeyRange,
    direction: Direction,
) -> Result<Vec<(Bytes, Value)>, ReadError> {
    view.range(range, direction).collect()
}

fn expected(map: &Map, range: &KeyRange) -> Vec<(Bytes, Value)> {
    let inside = map.iter().filter(|(key, _)| range.contains(key));
    inside.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Panics unless all ways of reading show `map`.
fn check(view: &IndexView, map: &Map, keys: u64) {
    for number in 0..keys {
        let key = key(number);
        assert_eq!(view.get(&key).unwrap().as_ref(), map.get(&key), "{key:?}");
        let expires_at = map.get(&key).and_then(|value| value.expires_at);
        assert_eq!(view.expiry(&key).unwrap(), expires_at, "{key:?}");
    }
    let mut ranges = vec![KeyRange::all()];
    for number in (0..keys).step_by(usize::try_from(keys / 8).unwrap_or(1)) {
        ranges.push(KeyRange { start: key(number), end: None });
        ranges.push(KeyRange::new(key(number), key(number + number % 40)));
        ranges.push(KeyRange::new(Bytes::new(), key(number)));
    }
    for range in &ranges {
        let mut wanted = expected(map, range);
        assert_eq!(rows(view, range, Direction::Forward).unwrap(), wanted, "{range:?}");
        wanted.reverse();
        assert_eq!(rows(view, range, Direction::Backward).unwrap(), wanted, "{range:?} backward");
    }
    for range in &ranges {
        check_expiries(view, map, range);
    }
}

/// Panics unless every expiry in `range` is visited, each key at most once and in order.
fn check_expiries(view: &IndexView, map: &Map, range: &KeyRange) {
    let mut visited = BTreeMap::new();
    view.expiries(range, &mut |due, key| {
        let key = Bytes::copy_from_slice(key);
        assert!(
            range.contains(&key) && visited.last_key_value().is_none_or(|(last, _)| *last < key)
        );
        visited.insert(key, due);
        ControlFlow::Continue(())
    })
    .unwrap();
    for (key, value) in map.iter().filter(|(key, _)| range.contains(key)) {
        if value.expires_at.is_some() {
            assert_eq!(visited.get(key), value.expires_at.as_ref(), "{key:?} expires");
        }
    }
    let stale = visited.keys().filter(|key| !map.contains_key(*key));
    assert_eq!(stale.count(), 0, "what is deleted does not expire");
}

/// How large an index is.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    /// What its files take, without those that only old views read.
    disk_bytes: u64,
    files: usize,
    /// What only old views still read.
    doomed_bytes: u64,
}

fn figures(index: &Index) -> Figures {
    let view = index.view();
    let mut figures = Figures::default();
    let mut counted = BTreeSet::new();
    for table in view.runs().iter().flat_map(|run| &run.tables) {
        // A file may be part of two runs: of the one being merged and of the base.
        if counted.insert(table.info.id) {
            figures.files += 1;
            figures.disk_bytes += table.info.bytes;
        }
    }
    for values in view.values() {
        figures.files += 1;
        figures.disk_bytes += values.info.bytes;
    }
    let state = index.state.lock().unwrap();
    let doomed = state.doomed_values.iter().map(|values| values.info.bytes);
    figures.doomed_bytes = state.doomed.iter().map(|table| table.info.bytes).chain(doomed).sum();
    figures
}

fn maintain(index: &Index) {
    while index.maintain(&mut |_| {}).unwrap() {}
}
