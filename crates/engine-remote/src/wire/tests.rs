//! The codec: what is written is read, and whatever else is read ends in an error.

use super::{
    Answer, Ask, At, Malformed, Pulse, PulseStatus, Request, VERSION, frame, greeted, greeting,
    take_frame,
};
use crate::bounds::FRAME_BYTES_MAX;
use bytes::{Bytes, BytesMut};
use outrigger_kernel::Wall;
use outrigger_keyspace::{
    CommitError, CommitId, Committed, Direction, Durability, Entry, KeyRange, Level, Page,
    ReadError, Transaction, Value, Write, limits,
};
use proptest::{collection::vec, option, prelude::*};

fn key() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn range() -> impl Strategy<Value = KeyRange> {
    (key(), option::of(key())).prop_map(|(start, end)| KeyRange { start, end })
}

fn expiry() -> impl Strategy<Value = Option<Wall>> {
    option::of(any::<u64>().prop_map(Wall))
}

fn change() -> impl Strategy<Value = Write> {
    prop_oneof![
        (key(), key(), expiry()).prop_map(|(key, value, expires_at)| Write::Put {
            key,
            value,
            expires_at
        }),
        key().prop_map(|key| Write::Delete { key }),
        range().prop_map(|range| Write::DeleteRange { range }),
        (key(), any::<i64>()).prop_map(|(key, delta)| Write::Add { key, delta }),
        (key(), key(), key(), expiry()).prop_map(|(prefix, suffix, value, expires_at)| {
            Write::PutStamped { prefix, suffix, value, expires_at }
        }),
    ]
}

prop_compose! {
    fn transaction()(
        read_revision in any::<u64>(),
        read_keys in vec(key(), 0..4),
        read_ranges in vec(range(), 0..3),
        writes in vec(change(), 0..6),
        makes_room in any::<bool>(),
        id in option::of(any::<[u8; 16]>().prop_map(CommitId)),
        relaxed in any::<bool>(),
    ) -> Transaction {
        let durability = if relaxed { Durability::Relaxed } else { Durability::Flush };
        Transaction { read_revision, read_keys, read_ranges, writes, makes_room, id, durability }
    }
}

fn ask() -> impl Strategy<Value = Ask> {
    let direction = prop_oneof![Just(Direction::Forward), Just(Direction::Backward)];
    prop_oneof![
        Just(Ask::Pin),
        key().prop_map(Ask::Get),
        vec(key(), 0..5).prop_map(Ask::Many),
        (range(), 0..=limits::PAGE_ENTRIES_MAX, direction)
            .prop_map(|(range, limit, direction)| Ask::Scan { range, limit, direction }),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let at = prop_oneof![
        Just(At::Pinned),
        Just(At::Fresh(Level::Linearizable)),
        any::<u64>().prop_map(|revision| At::Fresh(Level::AtLeast(revision))),
        Just(At::Fresh(Level::Local)),
    ];
    prop_oneof![
        (any::<u64>(), any::<u64>(), at, ask()).prop_map(|(id, snapshot, at, ask)| Request::Read {
            id,
            snapshot,
            at,
            ask
        }),
        (any::<u64>(), option::of(any::<u64>()), transaction()).prop_map(
            |(id, resent, transaction)| {
                Request::Commit { id, resent, transaction: Box::new(transaction) }
            }
        ),
        (any::<u64>(), any::<bool>(), range()).prop_map(|(watch, tell, range)| Request::Watch {
            watch,
            tell,
            range
        }),
        any::<u64>().prop_map(|watch| Request::Unwatch { watch }),
        any::<u64>().prop_map(|snapshot| Request::Release { snapshot }),
        any::<u64>().prop_map(|id| Request::Cancel { id }),
        any::<bool>().prop_map(|status| Request::Pulse { status }),
        (any::<u64>(), vec(any::<u8>(), 0..50))
            .prop_map(|(id, path)| Request::Checkpoint { id, path }),
    ]
}

prop_compose! {
    fn value()(bytes in key(), revision in any::<u64>(), expires_at in expiry()) -> Value {
        Value { bytes, revision, expires_at }
    }
}

fn commit_error() -> impl Strategy<Value = CommitError> {
    prop_oneof![
        Just(CommitError::Conflict),
        any::<u64>().prop_map(|read| CommitError::TooOld { read }),
        Just(CommitError::KeyEmpty),
        any::<usize>().prop_map(|bytes| CommitError::KeyTooLong { bytes }),
        any::<usize>().prop_map(|bytes| CommitError::ValueTooLarge { bytes }),
        any::<usize>().prop_map(|bytes| CommitError::TransactionTooLarge { bytes }),
        any::<usize>().prop_map(|count| CommitError::TooManyStamped { count }),
        Just(CommitError::NotACounter),
        "[a-z ]{0,20}".prop_map(CommitError::Full),
        "[a-z ]{0,20}".prop_map(CommitError::Unavailable),
        "[a-z ]{0,20}".prop_map(CommitError::Unknown),
    ]
}

fn pulse() -> impl Strategy<Value = Pulse> {
    let failed = option::of("[a-z ]{0,20}");
    let status = (any::<bool>(), any::<u64>(), failed)
        .prop_map(|(durable, disk_bytes, failed)| PulseStatus { durable, disk_bytes, failed });
    (any::<u64>(), any::<u64>(), option::of(status)).prop_map(|(now, revision, status)| Pulse {
        now: Wall(now),
        revision,
        status,
    })
}

fn answer() -> impl Strategy<Value = Answer> {
    let (id, revision) = (any::<u64>, any::<u64>);
    let entry = (key(), value()).prop_map(|(key, value)| Entry { key, value });
    let page = (vec(entry, 0..5), any::<bool>()).prop_map(|(entries, more)| Page { entries, more });
    let read_error = prop_oneof![
        "[a-z ]{0,20}".prop_map(ReadError::Damaged),
        "[a-z ]{0,20}".prop_map(ReadError::Unavailable),
    ];
    prop_oneof![
        (id(), revision()).prop_map(|(id, revision)| Answer::Pinned { id, revision }),
        (id(), revision(), option::of(value())).prop_map(|(id, revision, value)| Answer::Value {
            id,
            revision,
            value
        }),
        (id(), revision(), vec(option::of(value()), 0..5))
            .prop_map(|(id, revision, values)| Answer::Values { id, revision, values }),
        (id(), revision(), page).prop_map(|(id, revision, page)| Answer::Page {
            id,
            revision,
            page
        }),
        id().prop_map(|id| Answer::Gone { id }),
        (id(), read_error).prop_map(|(id, error)| Answer::ReadFailed { id, error }),
        (id(), revision(), any::<u64>()).prop_map(|(id, revision, time)| Answer::Committed {
            id,
            committed: Committed { revision, time: Wall(time) }
        }),
        (id(), commit_error()).prop_map(|(id, error)| Answer::CommitFailed { id, error }),
        (id(), revision()).prop_map(|(id, revision)| Answer::Copied { id, revision }),
        (id(), revision()).prop_map(|(watch, revision)| Answer::Changed { watch, revision }),
        pulse().prop_map(Answer::Pulse),
        "[a-z ]{0,20}".prop_map(|why| Answer::Refused { why }),
        Just(Answer::Leaving),
    ]
}

fn bytes_of(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_request_is_read_as_it_was_written(request in request()) {
        let bytes = bytes_of(|out| request.put(out));
        prop_assert_eq!(Request::take(&bytes), Ok(request));
        for end in 0..bytes.len() {
            prop_assert!(Request::take(&bytes[..end]).is_err(), "cut off at {}", end);
        }
    }

    #[test]
    fn an_answer_is_read_as_it_was_written(answer in answer()) {
        let bytes = bytes_of(|out| answer.put(out));
        for end in 0..bytes.len() {
            prop_assert!(Answer::take(&bytes[..end]).is_err(), "cut off at {}", end);
        }
        let named = Answer::id_of(&bytes);
        let expected = match &answer {
            Answer::Changed { .. } | Answer::Pulse(_) | Answer::Refused { .. } | Answer::Leaving => None,
            Answer::Pinned { id, .. } | Answer::Value { id, .. } | Answer::Values { id, .. }
            | Answer::Page { id, .. } | Answer::Gone { id } | Answer::ReadFailed { id, .. }
            | Answer::Committed { id, .. } | Answer::CommitFailed { id, .. }
            | Answer::Copied { id, .. } => Some(*id),
        };
        prop_assert_eq!(named, Ok(expected));
        prop_assert_eq!(Answer::take(&bytes), Ok(answer));
    }

    #[test]
    fn any_bytes_are_read_to_an_end(bytes in vec(any::<u8>(), 0..200), tag in 0..15_u8) {
        let mut tagged = vec![tag];
        tagged.extend_from_slice(&bytes);
        // What can be read at all is read the same when it is written again: there is nothing hidden in it.
        if let Ok(request) = Request::take(&tagged) {
            let again = bytes_of(|out| request.put(out));
            prop_assert_eq!(Request::take(&again), Ok(request));
        }
        if let Ok(answer) = Answer::take(&tagged) {
            let again = bytes_of(|out| answer.put(out));
            prop_assert_eq!(Answer::take(&again), Ok(answer));
        }
    }

    #[test]
    fn a_flipped_bit_is_read_to_an_end(request in request(), at in any::<prop::sample::Index>()) {
        let mut bytes = bytes_of(|out| request.put(out));
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = Request::take(&bytes) {
            let again = bytes_of(|out| other.put(out));
            prop_assert_eq!(Request::take(&again), Ok(other));
        }
    }

    #[test]
    fn frames_come_out_whole_however_they_come_in(
        contents in vec(vec(any::<u8>(), 0..50), 0..6),
        cuts in vec(1..20_usize, 1..10),
    ) {
        let stream = bytes_of(|out| {
            for content in &contents {
                frame(out, |out| out.extend_from_slice(content));
            }
        });
        let (mut inbox, mut found, mut rest) = (BytesMut::new(), Vec::new(), &stream[..]);
        for cut in cuts.iter().cycle() {
            while let Some(frame) = take_frame(&mut inbox).unwrap() {
                found.push(frame.to_vec());
            }
            if rest.is_empty() {
                break;
            }
            let (piece, later) = rest.split_at((*cut).min(rest.len()));
            inbox.extend_from_slice(piece);
            rest = later;
        }
        prop_assert_eq!(found, contents);
        prop_assert!(inbox.is_empty());
    }
}

#[test]
fn lists_and_frames_are_bounded() {
    let read_many = |count: &[u8]| {
        let mut bytes = vec![1, 0, 0, 1, 2];
        bytes.extend_from_slice(count);
        bytes.resize(100_000, 0);
        Request::take(&bytes)
    };
    let refused = Err(Malformed("a list is longer than it can be"));
    assert_eq!(read_many(&[0x91, 0x4e]), refused, "10,001 keys");
    assert_eq!(read_many(&[0xff, 0xff, 0xff, 0xff, 0x0f]), refused, "2^32 keys");
    let endless = [0xff; 11];
    assert_eq!(read_many(&endless), Err(Malformed("a number has more than 64 bits")));
    let length = u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_le_bytes();
    assert!(take_frame(&mut BytesMut::from(&length[..])).is_err());
}

/// The largest of what the contract allows fits a frame.
#[test]
fn the_largest_transaction_and_page_fit() {
    let count = limits::TRANSACTION_BYTES_MAX / (limits::OVERHEAD_BYTES + 1);
    let key = Bytes::from_static(b"k");
    let small = Write::Put { key, value: Bytes::new(), expires_at: Some(Wall(u64::MAX)) };
    let many = Transaction { writes: vec![small; count], ..Transaction::default() };
    let half = limits::TRANSACTION_BYTES_MAX / 2 - limits::OVERHEAD_BYTES - 1;
    let large = |name: &'static [u8]| Write::Put {
        key: Bytes::from_static(name),
        value: vec![0; half].into(),
        expires_at: None,
    };
    let two = Transaction { writes: vec![large(b"a"), large(b"b")], ..Transaction::default() };
    for transaction in [many, two] {
        outrigger_keyspace::sequencer::size(&transaction).unwrap();
        let bytes = bytes_of(|out| super::commit(out, u64::MAX, Some(u64::MAX), &transaction));
        assert!(bytes.len() <= FRAME_BYTES_MAX, "{}", bytes.len());
        assert!(Request::take(&bytes).is_ok());
    }
    let entry = |bytes: usize| Entry {
        key: vec![0; limits::KEY_BYTES_MAX].into(),
        value: Value {
            bytes: vec![0; bytes].into(),
            revision: u64::MAX,
            expires_at: Some(Wall(u64::MAX)),
        },
    };
    let mut entries = vec![entry(0); limits::PAGE_BYTES_MAX / limits::KEY_BYTES_MAX];
    entries.push(entry(limits::VALUE_BYTES_MAX));
    let page = Page { entries, more: true };
    let bytes = bytes_of(|out| Answer::Page { id: 1, revision: 1, page }.put(out));
    assert!(bytes.len() <= FRAME_BYTES_MAX, "{}", bytes.len());
    assert!(Answer::take(&bytes).is_ok());
}

#[test]
fn texts_are_cut_between_letters() {
    let why = "\u{e9}".repeat(10_000);
    let bytes = bytes_of(|out| Answer::Refused { why: why.clone() }.put(out));
    let Ok(Answer::Refused { why: cut }) = Answer::take(&bytes) else { panic!("unreadable") };
    assert!(why.starts_with(&cut) && cut.len() > 4_000 && cut.len() <= 4_096);
}

#[test]
fn greetings() {
    assert_eq!(greeted(greeting(VERSION)), Ok(VERSION));
    assert_eq!(greeted(greeting(77)), Ok(77));
    assert!(greeted(*b"GET / HTTP/1").is_err());
}
