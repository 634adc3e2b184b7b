//! Layers against a plain map from key to what is known of it.

use super::{Cell, Layer};
use bytes::Bytes;
use outrigger_kernel::Wall;
use outrigger_keyspace::{
    Committed, KeyRange, Value,
    sequencer::{Change, Plan},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// One step of a plan over one-byte keys.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Put(u8),
    Delete(u8),
    Clear(u8, Option<u8>),
}

pub(crate) fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..40_u8).prop_map(Step::Put),
        3 => (0..40_u8).prop_map(Step::Delete),
        1 => (0..40_u8, 0..40_u8).prop_map(|(a, b)| Step::Clear(a.min(b), Some(a.max(b)))),
        1 => (30..40_u8).prop_map(|a| Step::Clear(a, None)),
    ];
    proptest::collection::vec(step, 0..count)
}

pub(crate) fn key(byte: u8) -> Bytes {
    Bytes::copy_from_slice(&[byte])
}

pub(crate) fn value(revision: u64) -> Value {
    Value { bytes: Bytes::from(revision.to_string()), revision, expires_at: None }
}

pub(crate) fn plan(revision: u64, step: &Step) -> Plan {
    let committed = Committed { revision, time: Wall(revision) };
    let (mut clears, mut changes) = (Vec::new(), Vec::new());
    match *step {
        Step::Put(byte) => changes.push(Change { key: key(byte), value: Some(value(revision)) }),
        Step::Delete(byte) => changes.push(Change { key: key(byte), value: None }),
        Step::Clear(from, to) => {
            clears.push(KeyRange { start: key(from), end: to.map(key) });
        }
    }
    Plan { committed, id: None, clears, changes }
}

type Model = BTreeMap<u8, Option<u64>>;

fn apply_to_model(model: &mut Model, revision: u64, step: &Step) {
    match *step {
        Step::Put(byte) => {
            model.insert(byte, Some(revision));
        }
        Step::Delete(byte) => {
            model.insert(byte, None);
        }
        Step::Clear(from, to) => {
            for byte in from..to.unwrap_or(60) {
                model.insert(byte, None);
            }
        }
    }
}

fn check_invariants(layer: &Layer) -> Result<(), TestCaseError> {
    let cells: Vec<_> = layer.iter().collect();
    for pair in cells.windows(2) {
        let [(_, cell), (next, _)] = pair else { unreachable!() };
        if let Cell::Gone { end } = cell {
            prop_assert!(
                end.as_ref().is_some_and(|end| end <= next),
                "an extent reaches over a cell"
            );
        }
    }
    let bytes: usize = layer.iter().map(|(key, cell)| super::cost(key.len(), cell)).sum();
    prop_assert!(bytes <= layer.bytes(), "more is seen than there is");
    prop_assert_eq!(layer.iter().filter(|(_, cell)| cell.is_extent()).count(), layer.extents);
    Ok(())
}

proptest! {
    #[test]
    fn a_layer_says_of_each_key_what_was_done_to_it_last(steps in steps(60)) {
        let (mut layer, mut model) = (Layer::default(), Model::new());
        for (step, revision) in steps.iter().zip(1..) {
            layer.apply(&plan(revision, step));
            apply_to_model(&mut model, revision, step);
            check_invariants(&layer)?;
        }
        for byte in 0..50 {
            let said = layer.get(&[byte]).map(|known| known.map(|value| value.revision));
            prop_assert_eq!(said, model.get(&byte).copied(), "key {}", byte);
        }
    }

    #[test]
    fn cells_of_a_range_are_those_that_speak_of_it(steps in steps(40), from in 0..45_u8, to in 0..45_u8) {
        let mut layer = Layer::default();
        for (step, revision) in steps.iter().zip(1..) {
            layer.apply(&plan(revision, step));
        }
        let range = KeyRange::new(key(from), key(to));
        let cells: Vec<_> = layer.range(&range).collect();
        for byte in from..to {
            let spoken = cells.iter().any(|(start, cell)| match cell {
                Cell::Live(_) => start[..] == [byte],
                Cell::Gone { end } => {
                    start[..] <= [byte][..] && super::before_end(&[byte], end.as_deref())
                }
            });
            prop_assert_eq!(spoken, layer.get(&[byte]).is_some());
        }
        if from >= to {
            prop_assert!(cells.is_empty());
        }
    }

    #[test]
    fn folding_changes_nothing_that_is_seen(steps in steps(60), from in 0..40_u8, to in 0..40_u8) {
        let mut layer = Layer::default();
        for (step, revision) in steps.iter().zip(1..) {
            layer.apply(&plan(revision, step));
        }
        let before = layer.clone();
        let range = KeyRange::new(key(from), key(to));
        let has_live = (from..to).any(|byte| matches!(layer.get(&[byte]), Some(Some(_))));
        prop_assert_eq!(layer.fold(&range), !has_live);
        check_invariants(&layer)?;
        for byte in 0..50 {
            let said = layer.get(&[byte]);
            if (from..to).contains(&byte) && !has_live {
                prop_assert_eq!(said, Some(None));
            } else {
                prop_assert_eq!(said, before.get(&[byte]));
            }
        }
    }
}

#[test]
fn a_cleared_range_is_one_cell() {
    let mut layer = Layer::default();
    for byte in 0..40 {
        layer.apply(&plan(u64::from(byte) + 1, &Step::Put(byte)));
    }
    layer.apply(&plan(50, &Step::Clear(0, Some(40))));
    assert_eq!(layer.iter().count(), 1);
    let small = layer.bytes();
    layer.apply(&plan(51, &Step::Delete(7)));
    assert_eq!(layer.bytes(), small, "deleting what is gone costs nothing");
}
