//! Stacks against a plain map.

use super::{Bottom, Entries, Stack};
use crate::layer::{
    Layer,
    tests::{Step, key, plan, steps, value},
};
use bytes::Bytes;
use outrigger_kernel::Wall;
use outrigger_keyspace::{Direction, KeyRange, ReadError, Value};
use proptest::prelude::*;
use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

#[derive(Default)]
pub(crate) struct Map(BTreeMap<Bytes, Value>);

impl Bottom for Map {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, ReadError> {
        Ok(self.0.get(key).cloned())
    }

    fn range<'a>(&'a self, range: &KeyRange, direction: Direction) -> Entries<'a> {
        let range = range.clone();
        let within = self.0.iter().filter(move |(key, _)| range.contains(key));
        let mut found: Vec<_> = within.map(|(k, v)| Ok((k.clone(), v.clone()))).collect();
        if direction == Direction::Backward {
            found.reverse();
        }
        Box::new(found.into_iter())
    }

    fn expiries(
        &self,
        range: &KeyRange,
        visit: &mut dyn FnMut(Wall, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        for (key, value) in self.0.iter().filter(|(key, _)| range.contains(key)) {
            if let Some(at) = value.expires_at
                && visit(at, key).is_break()
            {
                break;
            }
        }
        Ok(())
    }
}

type Model = BTreeMap<u8, u64>;

fn run(model: &mut Model, layer: &mut Layer, steps: &[Step], first: u64) {
    for (step, revision) in steps.iter().zip(first..) {
        layer.apply(&plan(revision, step));
        match *step {
            Step::Put(byte) => {
                model.insert(byte, revision);
            }
            Step::Delete(byte) => {
                model.remove(&byte);
            }
            Step::Clear(from, to) => {
                model.retain(|byte, _| *byte < from || to.is_some_and(|to| *byte >= to));
            }
        }
    }
}

fn stack_of(bottom: &[u8], sealed: Option<&[Step]>, active: &[Step]) -> (Stack, Model) {
    let index = Map(bottom.iter().map(|byte| (key(*byte), value(1))).collect());
    let mut model: Model = bottom.iter().map(|byte| (*byte, 1)).collect();
    let sealed = sealed.map(|steps| {
        let mut layer = Layer::default();
        run(&mut model, &mut layer, steps, 1_000);
        layer
    });
    let mut layer = Layer::default();
    run(&mut model, &mut layer, active, 2_000);
    (Stack { active: layer, sealed, index: Arc::new(index) }, model)
}

fn seen(stack: &Stack, range: &KeyRange, limit: usize, direction: Direction) -> Vec<(u8, u64)> {
    let (page, _) = stack.page(range, limit, direction, Wall(0)).expect("the map can be read");
    page.entries.iter().map(|entry| (entry.key[0], entry.value.revision)).collect()
}

proptest! {
    #[test]
    fn a_stack_reads_as_one_map(
        bottom in proptest::collection::vec(0..45_u8, 0..30),
        sealed in proptest::option::of(steps(30)),
        active in steps(30),
        from in 0..50_u8,
        to in proptest::option::of(0..50_u8),
        limit in 1..20_usize,
    ) {
        let (stack, model) = stack_of(&bottom, sealed.as_deref(), &active);
        for byte in 0..50 {
            let found = stack.get(&[byte]).unwrap().map(|value| value.revision);
            prop_assert_eq!(found, model.get(&byte).copied());
        }
        let range = KeyRange { start: key(from), end: to.map(key) };
        let within = |byte: &u8| range.contains(&[*byte]);
        let mut expected: Vec<(u8, u64)> =
            model.iter().filter(|(byte, _)| within(byte)).map(|(b, r)| (*b, *r)).collect();
        let cut = |all: &[(u8, u64)]| all.iter().copied().take(limit).collect::<Vec<_>>();
        prop_assert_eq!(seen(&stack, &range, limit, Direction::Forward), cut(&expected));
        expected.reverse();
        prop_assert_eq!(seen(&stack, &range, limit, Direction::Backward), cut(&expected));
    }

    /// What a reader calls a desert may be folded, and nobody sees a difference.
    #[test]
    fn deserts_are_deserted(
        bottom in proptest::collection::vec(0..45_u8, 0..30),
        sealed in proptest::option::of(steps(30)),
        from in 0..100_u8,
        dead in 64..120_u8,
        live in proptest::collection::vec(50..220_u8, 0..4),
        limit in 1..5_usize,
        backward: bool,
    ) {
        let mut active: Vec<Step> = (50..50 + dead).map(Step::Delete).collect();
        active.extend(live.iter().copied().map(Step::Put));
        let (mut stack, model) = stack_of(&bottom, sealed.as_deref(), &active);
        let range = KeyRange { start: key(from), end: None };
        let direction = if backward { Direction::Backward } else { Direction::Forward };
        let (_, desert) = stack.page(&range, limit, direction, Wall(0)).unwrap();
        if let Some(desert) = desert {
            prop_assert!(stack.active.fold(&desert.0), "a desert has nothing alive in it");
            let all = seen(&stack, &KeyRange::all(), 1_000, Direction::Forward);
            prop_assert_eq!(all, model.into_iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn many_dead_in_a_row_are_told_once() {
    let active: Vec<Step> = (0..200).map(Step::Delete).collect();
    let (mut stack, _) = stack_of(&[220], None, &active);
    let page = |stack: &Stack| {
        stack.page(&KeyRange::all(), 1, Direction::Forward, Wall(0)).expect("the map can be read")
    };
    let (found, desert) = page(&stack);
    assert_eq!(found.entries.len(), 1);
    let desert = desert.expect("two hundred dead cells are a desert");
    assert!(stack.active.fold(&desert.0));
    assert_eq!(stack.active.iter().count(), 1);
    assert_eq!(page(&stack).1, None, "once folded, nothing is left to tell");
}
