//! Bounds: going over one is an error that names it, and changes nothing.

use super::room::{Room, key, put};
use crate::{
    CommitError, Transaction, Write,
    limits::{
        KEY_BYTES_MAX, OVERHEAD_BYTES, STAMPED_WRITES_MAX, TRANSACTION_BYTES_MAX, VALUE_BYTES_MAX,
    },
};
use bytes::Bytes;

fn of(bytes: usize) -> Bytes {
    Bytes::from(vec![b'k'; bytes])
}

fn put_bytes(key: Bytes, value: Bytes) -> Write {
    Write::Put { key, value, expires_at: None }
}

fn stamped_bytes(prefix: Bytes, suffix: Bytes, value: Bytes) -> Write {
    Write::PutStamped { prefix, suffix, value, expires_at: None }
}

pub(super) async fn each_bound_has_its_own_error_and_no_effect(room: &Room) {
    let long = KEY_BYTES_MAX + 1;
    let large = VALUE_BYTES_MAX + 1;
    let many = STAMPED_WRITES_MAX + 1;
    let cases = [
        (vec![put_bytes(Bytes::new(), of(1))], CommitError::KeyEmpty),
        (vec![Write::Delete { key: Bytes::new() }], CommitError::KeyEmpty),
        (vec![put_bytes(of(long), of(1))], CommitError::KeyTooLong { bytes: long }),
        (vec![Write::Delete { key: of(long) }], CommitError::KeyTooLong { bytes: long }),
        (vec![Write::Add { key: of(long), delta: 1 }], CommitError::KeyTooLong { bytes: long }),
        (
            vec![stamped_bytes(of(KEY_BYTES_MAX - 10), of(1), of(1))],
            CommitError::KeyTooLong { bytes: long },
        ),
        (vec![put_bytes(of(1), of(large))], CommitError::ValueTooLarge { bytes: large }),
        (
            vec![stamped_bytes(of(1), Bytes::new(), of(large))],
            CommitError::ValueTooLarge { bytes: large },
        ),
        (
            vec![stamped_bytes(of(1), Bytes::new(), Bytes::new()); many],
            CommitError::TooManyStamped { count: many },
        ),
    ];
    for (mut writes, expected) in cases {
        writes.push(put("witness", "1"));
        let outcome = room.try_write(writes).await;
        room.same(outcome.map(|_| ()), Err(expected), "each bound has its own error");
    }
    let everything = crate::KeyRange::all();
    room.same(room.keys(&everything).await, Vec::new(), "a refused commit changes nothing");
    room.same(room.snapshot().await.revision(), 0, "a refused commit takes no revision");
}

pub(super) async fn the_bound_itself_is_within_bounds(room: &Room) {
    room.write(vec![put_bytes(of(KEY_BYTES_MAX), of(VALUE_BYTES_MAX))]).await;
    let stamped = of(KEY_BYTES_MAX - crate::Stamp::BYTES);
    let committed = room.write(vec![stamped_bytes(stamped.clone(), Bytes::new(), of(1))]).await;
    let snapshot = room.snapshot().await;
    let value = room.sure(snapshot.get(&of(KEY_BYTES_MAX)).await);
    room.same(value.map(|value| value.bytes.len()), Some(VALUE_BYTES_MAX), "the longest key");
    let longest = [&stamped[..], &committed.stamp(0).to_bytes()].concat();
    room.check(room.sure(snapshot.get(&longest).await).is_some(), "the longest stamped key");
    let many = vec![stamped_bytes(key("s"), Bytes::new(), Bytes::new()); STAMPED_WRITES_MAX];
    room.write(many).await;
}

pub(super) async fn a_transaction_is_bounded_as_a_whole(room: &Room) {
    let half = TRANSACTION_BYTES_MAX / 2;
    let exactly = |extra: usize| {
        let first = put_bytes(key("a"), of(half - OVERHEAD_BYTES - 1));
        let second = put_bytes(key("b"), of(half - OVERHEAD_BYTES - 1));
        let read_keys = if extra == 0 { Vec::new() } else { vec![of(extra)] };
        Transaction { read_keys, writes: vec![first, second], ..Transaction::default() }
    };
    let outcome = room.engine.commit(exactly(1)).await.map(|_| ());
    let bytes = TRANSACTION_BYTES_MAX + OVERHEAD_BYTES + 1;
    room.same(outcome, Err(CommitError::TransactionTooLarge { bytes }), "reads count too");
    room.same(room.snapshot().await.revision(), 0, "a refused commit takes no revision");
    room.sure(room.engine.commit(exactly(0)).await);
}
