//! What is there after closing and opening again.

use super::{clock, get, now, open, put, put_until, text, write};
use outrigger_keyspace::{Direction, KeyRange, KeySpace, Level, ReadError, Write};
use std::time::Duration;

#[tokio::test]
async fn everything_is_there_again_and_revisions_go_on() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let mut last = 0;
    for round in 0..4 {
        let engine = open(folder.path(), &clock);
        if round > 0 {
            assert_eq!(text(&engine, "round").await, Some((round - 1).to_string()));
            assert_eq!(get(&engine, "gone").await, None);
            let counter = get(&engine, "n").await.unwrap().bytes;
            assert_eq!(counter, i64::from(round).to_le_bytes()[..]);
        }
        let writes = vec![
            put("round", &round.to_string()),
            put("gone", "1"),
            Write::Add { key: super::key("n"), delta: 1 },
        ];
        let revision = write(&engine, writes).await.unwrap().revision;
        assert!(revision > last);
        assert_eq!(get(&engine, "round").await.unwrap().revision, revision);
        last =
            write(&engine, vec![Write::Delete { key: super::key("gone") }]).await.unwrap().revision;
        engine.close().await;
    }
}

#[tokio::test]
async fn the_index_by_expiry_is_there_again() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let soon = now(&clock).plus(Duration::from_secs(1));
    let later = now(&clock).plus(Duration::from_secs(2));
    let engine = open(folder.path(), &clock);
    write(&engine, vec![put_until("a", soon), put_until("b", soon), put_until("c", soon)])
        .await
        .unwrap();
    write(&engine, vec![put_until("b", later), put("c", "stays")]).await.unwrap();
    engine.close().await;

    clock.advance_ms(1_000);
    let engine = open(folder.path(), &clock);
    assert_eq!(get(&engine, "a").await, None);
    assert_eq!(get(&engine, "b").await.unwrap().expires_at, Some(later));
    engine.close().await;

    clock.advance_ms(1_000);
    let engine = open(folder.path(), &clock);
    assert_eq!(get(&engine, "b").await, None);
    assert_eq!(text(&engine, "c").await.as_deref(), Some("stays"));
    // What became absent is absent from the index too, or it would grow for ever.
    engine.close().await;
    let engine = open(folder.path(), &clock);
    let due = engine.snapshot(Level::Linearizable).await.unwrap().revision();
    assert_eq!(engine.snapshot(Level::Linearizable).await.unwrap().revision(), due);
}

#[tokio::test]
async fn a_revision_that_was_seen_never_comes_again() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let engine = open(folder.path(), &clock);
    let soon = now(&clock).plus(Duration::from_millis(5));
    write(&engine, vec![put_until("a", soon)]).await.unwrap();
    clock.advance_ms(5);
    // The step that made it absent was seen, but need not be on disk.
    let seen = engine.snapshot(Level::Linearizable).await.unwrap().revision();
    engine.close().await;
    let engine = open(folder.path(), &clock);
    let again = engine.snapshot(Level::AtLeast(seen)).await.unwrap().revision();
    assert!(again >= seen, "{again} < {seen}");
    assert!(write(&engine, vec![put("b", "1")]).await.unwrap().revision > seen);
}

#[tokio::test]
async fn a_closed_engine_refuses_politely() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let engine = open(folder.path(), &clock);
    let snapshot = engine.snapshot(Level::Local).await.unwrap();
    engine.close().await;
    engine.close().await;
    assert!(matches!(
        write(&engine, vec![put("a", "1")]).await,
        Err(outrigger_keyspace::CommitError::Unavailable(_))
    ));
    for level in [Level::Linearizable, Level::Local, Level::AtLeast(99)] {
        assert!(matches!(engine.snapshot(level).await, Err(ReadError::Unavailable(_))));
    }
    // Whoever still reads keeps the folder; then it is free.
    assert_eq!(snapshot.get(b"a").await, Ok(None));
    drop(snapshot);
    open(folder.path(), &clock).close().await;
}

/// A bound may be longer than any key; what is written down of it may not.
#[tokio::test]
async fn bounds_longer_than_any_key_do_no_harm() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let engine = open(folder.path(), &clock);
    let long = "b".repeat(100_000);
    write(&engine, vec![put("a", "1"), put("bb", "1"), put("c", "1"), put("d", "1")])
        .await
        .unwrap();
    let range = KeyRange::new(long.clone(), "d");
    write(&engine, vec![Write::DeleteRange { range }]).await.unwrap();
    let range = KeyRange::new("a", long);
    write(&engine, vec![Write::DeleteRange { range }]).await.unwrap();
    engine.close().await;
    let engine = open(folder.path(), &clock);
    let snapshot = engine.snapshot(Level::Linearizable).await.unwrap();
    let page = snapshot.scan(&KeyRange::all(), 10, Direction::Forward).await.unwrap();
    let keys: Vec<_> = page.entries.iter().map(|entry| entry.key.clone()).collect();
    assert_eq!(keys, ["d"]);
}
