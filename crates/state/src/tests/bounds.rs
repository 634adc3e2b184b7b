//! Every bound is met exactly, and one more is refused without a trace.

use super::{apply, fresh, set, text};
use crate::{
    ANSWER_BYTES_MAX, ApplyError, Change, Delete, GetError, IllegalKey, KEYS_PER_READ_MAX,
    OPERATIONS_MAX, Set, Store,
};
use bytes::Bytes;
use outrigger_keyspace::limits;

#[tokio::test(start_paused = true)]
async fn keys() {
    let (_world, store) = fresh();
    let max = store.key_bytes_max();
    // Two bytes of table number, the region's name, two of terminator.
    assert_eq!(max, limits::KEY_BYTES_MAX - 2 - "test".len() - 2);
    let longest = "k".repeat(max);
    set(&store, Set::new(&longest, "v")).await.unwrap();
    assert_eq!(text(&store, &longest).await.as_deref(), Some("v"));

    let longer = format!("{longest}k");
    let too_long = IllegalKey::TooLong { bytes: max + 1, max };
    assert_eq!(set(&store, Set::new(&longer, "v")).await, Err(ApplyError::Key(too_long.clone())));
    assert_eq!(store.get(&longer).await, Err(GetError::Key(too_long)));
    assert_eq!(store.get("").await, Err(GetError::Key(IllegalKey::Empty)));
    let deleted = apply(&store, vec![Change::Delete(Delete::new(""))]).await;
    assert_eq!(deleted, Err(ApplyError::Key(IllegalKey::Empty)));
    let region = Store::new(store.space().clone(), "r".repeat(10_000));
    assert!(matches!(
        region.get("k").await,
        Err(GetError::Key(IllegalKey::TooLong { max: 0, .. }))
    ));
}

#[tokio::test(start_paused = true)]
async fn values() {
    let (_world, store) = fresh();
    // One byte of field number and four of length come before the data.
    let largest = Bytes::from(vec![7; limits::VALUE_BYTES_MAX - 5]);
    set(&store, Set::new("k", largest.clone())).await.unwrap();
    assert_eq!(store.get("k").await.unwrap().unwrap().data, largest);
    let larger = Bytes::from(vec![7; limits::VALUE_BYTES_MAX - 4]);
    let refused = set(&store, Set::new("k", larger)).await;
    let bytes = limits::VALUE_BYTES_MAX + 1;
    assert_eq!(refused, Err(ApplyError::ValueTooLarge { key: "k".to_owned(), bytes }));

    let three = (0..3).map(|n| Change::Set(Set::new(n.to_string(), largest.clone()))).collect();
    assert!(matches!(apply(&store, three).await, Err(ApplyError::TooLarge { .. })));
    assert_eq!(text(&store, "0").await, None);
}

#[tokio::test(start_paused = true)]
async fn operations_and_keys_per_request() {
    let (_world, store) = fresh();
    let changes = |count: usize| -> Vec<Change> {
        (0..count).map(|n| Change::Set(Set::new(n.to_string(), "v"))).collect()
    };
    apply(&store, changes(OPERATIONS_MAX)).await.unwrap();
    let count = OPERATIONS_MAX + 1;
    let refused = apply(&store, changes(count)).await;
    assert_eq!(refused, Err(ApplyError::TooManyOperations { count }));

    let keys: Vec<String> = (0..=KEYS_PER_READ_MAX).map(|n| n.to_string()).collect();
    let all = store.get_many(&keys[..KEYS_PER_READ_MAX]).await.unwrap();
    assert!(all.iter().all(Option::is_some));
    let refused = store.get_many(&keys).await;
    assert_eq!(refused, Err(GetError::TooManyKeys { count: KEYS_PER_READ_MAX + 1 }));
}

#[tokio::test(start_paused = true)]
async fn bytes_per_answer() {
    let (_world, store) = fresh();
    let large = Bytes::from(vec![7; 4_000_000]);
    set(&store, Set::new("large", large.clone())).await.unwrap();
    let fitting = vec!["large".to_owned(); ANSWER_BYTES_MAX / large.len() - 1];
    assert_eq!(store.get_many(&fitting).await.unwrap().len(), fitting.len());
    let too_many = vec!["large".to_owned(); ANSWER_BYTES_MAX / large.len() + 1];
    assert_eq!(store.get_many(&too_many).await, Err(GetError::AnswerTooLarge));
}
