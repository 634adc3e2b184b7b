//! Every record comes back as it was, and bytes that are no record are refused without harm.

use super::{
    Base, Malformed, decode_plan, decode_plan_after, decode_value, encode_plan, encode_plan_after,
    encode_value,
};
use bytes::Bytes;
use outrigger_kernel::Wall;
use outrigger_keyspace::{
    CommitId, Committed, KeyRange, Value,
    sequencer::{Change, Plan},
};
use proptest::{collection::vec, option, prelude::*};

fn any_bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..300_u64,
        any::<u64>(),
        Just(u64::MAX),
        Just(1 << 63),
        1_700_000_000_000..1_800_000_000_000_u64
    ]
}

prop_compose! {
    fn any_value()(bytes in any_bytes(300), revision in number(), at in option::of(number())) -> Value {
        Value { bytes, revision, expires_at: at.map(Wall) }
    }
}

prop_compose! {
    fn any_plan()(
        revision in number(),
        time in number(),
        id in option::of(any::<[u8; 16]>()),
        clears in vec((any_bytes(20), option::of(any_bytes(20))), 0..3),
        changes in vec((any_bytes(200), option::of(any_value())), 0..5),
    ) -> Plan {
        let stamped = |value: Value| Value { revision, ..value };
        Plan {
            committed: Committed { revision, time: Wall(time) },
            id: id.map(CommitId),
            clears: clears.into_iter().map(|(start, end)| KeyRange { start, end }).collect(),
            changes: changes
                .into_iter()
                .map(|(key, value)| Change { key, value: value.map(stamped) })
                .collect(),
        }
    }
}

proptest! {
    #[test]
    fn a_plan_comes_back(plan in any_plan()) {
        let mut bytes = Vec::new();
        encode_plan(&plan, &mut bytes);
        prop_assert_eq!(decode_plan(&bytes), Ok(plan));
        bytes.push(0);
        prop_assert!(decode_plan(&bytes).is_err(), "a trailing byte is refused");
    }

    #[test]
    fn plans_of_a_frame_come_back(plans in vec(any_plan(), 0..5), first in number()) {
        let mut bytes = Vec::new();
        let mut base = Base { revision: first, time: Wall(0) };
        for plan in &plans {
            encode_plan_after(plan, &mut base, &mut bytes);
        }
        let mut rest = &bytes[..];
        let mut base = Base { revision: first, time: Wall(0) };
        for plan in plans {
            prop_assert_eq!(decode_plan_after(&mut rest, &mut base), Ok(plan));
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn a_value_comes_back(value in any_value()) {
        let mut bytes = Vec::new();
        encode_value(&value, &mut bytes);
        prop_assert_eq!(decode_value(&bytes), Ok(value));
    }

    #[test]
    fn no_part_of_a_plan_is_a_plan(plan in any_plan()) {
        let mut bytes = Vec::new();
        encode_plan(&plan, &mut bytes);
        for end in 0..bytes.len() {
            prop_assert!(decode_plan(&bytes[..end]).is_err(), "cut at {}", end);
        }
    }

    /// Any bytes are refused or are the one form of what they say.
    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..400)) {
        if let Ok(plan) = decode_plan(&bytes) {
            let mut again = Vec::new();
            encode_plan(&plan, &mut again);
            prop_assert_eq!(&again, &bytes);
        }
        if let Ok(value) = decode_value(&bytes) {
            let mut again = Vec::new();
            encode_value(&value, &mut again);
            prop_assert_eq!(&again, &bytes);
        }
    }

    /// The same with bytes that look like a plan for a while.
    #[test]
    fn a_changed_plan_is_survived(plan in any_plan(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = Vec::new();
        encode_plan(&plan, &mut bytes);
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(plan) = decode_plan(&bytes) {
            let mut again = Vec::new();
            encode_plan(&plan, &mut again);
            prop_assert_eq!(again, bytes);
        }
    }
}

#[test]
fn a_put_costs_little() {
    let put = |revision| Plan {
        committed: Committed { revision, time: Wall(1_790_000_000_000) },
        id: None,
        clears: Vec::new(),
        changes: vec![Change {
            key: Bytes::from_static(b"key"),
            value: Some(Value { bytes: Bytes::from_static(b"value"), revision, expires_at: None }),
        }],
    };
    let mut base = Base { revision: 1_000_000, time: Wall(0) };
    let mut bytes = Vec::new();
    encode_plan_after(&put(1_000_000), &mut base, &mut bytes);
    assert_eq!(bytes.len(), 11 + 8);
    encode_plan_after(&put(1_000_001), &mut base, &mut bytes);
    assert_eq!(bytes.len(), 11 + 8 + 6 + 8);
}

/// A count of four billion changes in ten bytes must not reserve room for them.
#[test]
fn a_count_reserves_no_more_than_its_input() {
    let many = [0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    assert_eq!(decode_plan(&many), Err(Malformed("more parts than bytes")));
    let clears = [0, 0, 2, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    assert_eq!(decode_plan(&clears), Err(Malformed("more parts than bytes")));
}

#[test]
fn a_number_has_one_form() {
    assert_eq!(decode_value(&[0, 0x85, 0]), Err(Malformed("a number with a needless byte")));
    let long = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
    assert_eq!(decode_value(&long), Err(Malformed("a number of more than 64 bits")));
}
