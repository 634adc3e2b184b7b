//! Etags and first writes, one rule per test.

use super::{apply, delete, etag, fresh, mismatch, set, soon, text};
use crate::{ApplyError, Change, Concurrency, Delete, Set};
use bytes::Bytes;
use outrigger_keyspace::{KeyRange, Level, Write};

#[tokio::test(start_paused = true)]
async fn a_set_with_the_current_etag_wins_and_moves_it() {
    let (_world, store) = fresh();
    let first = set(&store, Set::new("k", "1")).await.unwrap();
    let old = etag(&store, "k").await;
    assert_eq!(old, crate::Store::etag_of(first.revision));
    set(&store, Set::new("k", "2").if_match(&old)).await.unwrap();
    assert_ne!(etag(&store, "k").await, old);
    assert_eq!(set(&store, Set::new("k", "3").if_match(&old)).await, mismatch("k"));
    assert_eq!(text(&store, "k").await.as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn an_etag_on_an_absent_key_is_a_mismatch() {
    let (_world, store) = fresh();
    assert_eq!(set(&store, Set::new("k", "1").if_match("7")).await, mismatch("k"));
    assert_eq!(delete(&store, Delete::new("k").if_match("7")).await, mismatch("k"));
    delete(&store, Delete::new("k")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_etag_does_not_come_back_with_the_value() {
    let (_world, store) = fresh();
    set(&store, Set::new("k", "same")).await.unwrap();
    let old = etag(&store, "k").await;
    delete(&store, Delete::new("k")).await.unwrap();
    set(&store, Set::new("k", "same")).await.unwrap();
    assert_eq!(delete(&store, Delete::new("k").if_match(&old)).await, mismatch("k"));
}

#[tokio::test(start_paused = true)]
async fn first_write_without_an_etag_wants_the_key_absent() {
    let (_world, store) = fresh();
    set(&store, Set::new("k", "1").first_write()).await.unwrap();
    assert_eq!(set(&store, Set::new("k", "2").first_write()).await, mismatch("k"));
    let first = Delete { concurrency: Concurrency::FirstWrite, ..Delete::new("k") };
    assert_eq!(delete(&store, first).await, mismatch("k"));
    let current = etag(&store, "k").await;
    set(&store, Set::new("k", "3").first_write().if_match(current)).await.unwrap();
    assert_eq!(text(&store, "k").await.as_deref(), Some("3"));
}

#[tokio::test(start_paused = true)]
async fn last_write_honours_an_etag_and_an_empty_one_is_none() {
    let (_world, store) = fresh();
    set(&store, Set::new("k", "1")).await.unwrap();
    set(&store, Set::new("k", "2").if_match("")).await.unwrap();
    assert_eq!(set(&store, Set::new("k", "3").if_match("1000")).await, mismatch("k"));
    assert_eq!(set(&store, Set::new("k", "4").if_match("").first_write()).await, mismatch("k"));
}

#[tokio::test(start_paused = true)]
async fn a_malformed_etag_says_so_before_anything_is_read() {
    let (_world, store) = fresh();
    set(&store, Set::new("k", "1")).await.unwrap();
    let changes = vec![
        Change::Set(Set::new("a", "x").if_match("7")),
        Change::Delete(Delete::new("k").if_match("\"1\"")),
    ];
    let error = apply(&store, changes).await.unwrap_err();
    assert_eq!(error, ApplyError::EtagMalformed { key: "k".to_owned(), etag: "\"1\"".to_owned() });
}

#[tokio::test(start_paused = true)]
async fn one_failed_condition_undoes_nothing_because_nothing_is_done() {
    let (_world, store) = fresh();
    set(&store, Set::new("b", "1")).await.unwrap();
    let before = store.space().snapshot(Level::Linearizable).await.unwrap().revision();
    let changes = vec![
        Change::Set(Set::new("a", "x")),
        Change::Set(Set::new("b", "2").first_write()),
        Change::Delete(Delete::new("c")),
    ];
    assert_eq!(apply(&store, changes).await, mismatch("b"));
    assert_eq!(text(&store, "a").await, None);
    let after = store.space().snapshot(Level::Linearizable).await.unwrap().revision();
    assert_eq!(after, before);
}

#[tokio::test(start_paused = true)]
async fn of_two_changes_to_a_key_the_later_wins_and_both_see_the_state_before() {
    let (_world, store) = fresh();
    set(&store, Set::new("k", "0")).await.unwrap();
    let current = etag(&store, "k").await;
    let changes = vec![
        Change::Set(Set::new("k", "1").if_match(&current)),
        Change::Delete(Delete::new("k").if_match(&current)),
        Change::Set(Set::new("k", "2").if_match(&current)),
        Change::Set(Set::new("new", "1").first_write()),
        Change::Set(Set::new("new", "2").first_write()),
    ];
    let committed = apply(&store, changes).await.unwrap();
    assert_eq!(text(&store, "k").await.as_deref(), Some("2"));
    assert_eq!(text(&store, "new").await.as_deref(), Some("2"));
    assert_eq!(etag(&store, "k").await, committed.revision.to_string());

    let changes = vec![Change::Set(Set::new("k", "3")), Change::Delete(Delete::new("k"))];
    apply(&store, changes).await.unwrap();
    assert_eq!(text(&store, "k").await, None);
}

#[tokio::test(start_paused = true)]
async fn an_empty_request_succeeds_and_writes_nothing() {
    let (_world, store) = fresh();
    let before = set(&store, Set::new("k", "1")).await.unwrap();
    assert_eq!(apply(&store, Vec::new()).await.unwrap().revision, before.revision);
}

#[tokio::test(start_paused = true)]
async fn added_writes_share_the_commit_and_its_conditions() {
    let (_world, store) = fresh();
    let outbox = Bytes::from_static(b"\x7f\x00event");
    let write =
        || vec![Write::Put { key: outbox.clone(), value: Bytes::from("paid"), expires_at: None }];
    let read = async |store: &crate::Store| {
        let snapshot = store.space().snapshot(Level::Linearizable).await.unwrap();
        snapshot.get(&outbox).await.unwrap()
    };
    set(&store, Set::new("k", "1")).await.unwrap();
    let refused = vec![Change::Set(Set::new("k", "2").first_write())];
    assert_eq!(store.apply_with(refused, write(), soon(&store)).await, mismatch("k"));
    assert_eq!(read(&store).await, None);
    for changes in [vec![Change::Set(Set::new("k", "3"))], Vec::new()] {
        let committed = store.apply_with(changes, write(), soon(&store)).await.unwrap();
        assert_eq!(read(&store).await.unwrap().revision, committed.revision);
    }
    // Both live in one map; a store's own range does not reach there.
    assert!(KeyRange::all().contains(&outbox));
    assert_eq!(store.list("", None, 10).await.unwrap().entries.len(), 1);
}
