//! Many at once, of every kind, and a store that is closed under them: everybody is answered, and truly.

use super::{clock, put};
use crate::{Local, Options};
use futures_util::future::join_all;
use outrigger_kernel::World;
use outrigger_keyspace::{CommitError, Durability, KeySpace, Level, Transaction, exam::Clock};
use std::{path::Path, sync::Arc};

const WRITERS: u64 = 24;
const COMMITS: u64 = 60;

/// Everything is small, so that layers are sealed, segments turned and commits held all the time.
fn tiny() -> Options {
    Options {
        layer_bytes_max: 48 * 1024,
        layer_bytes_bound: 64 * 1024,
        log_first_bytes: 128 * 1024,
        log_max_bytes: 256 * 1024,
        small_queue_bytes_max: 16 * 1024,
        bulk_queue_bytes_max: 64 * 1024,
        ..Options::default()
    }
}

/// What one writer was answered: the number of the last commit that was accepted, and why there was no next one.
async fn write(engine: &Local, clock: &Clock, writer: u64) -> (u64, Option<CommitError>) {
    for number in 1..=COMMITS {
        let kind = clock.random() % 8;
        let filler = if kind == 0 { 40_000 } else { 100 };
        let value = format!("{number:04}{}", "x".repeat(filler));
        let writes = vec![put(&format!("last/{writer}"), &value), put(&format!("{number}"), "1")];
        let durability = if kind < 4 { Durability::Relaxed } else { Durability::Flush };
        let transaction = Transaction { writes, durability, ..Transaction::default() };
        if clock.random().is_multiple_of(16) {
            // Somebody who gives up; whether it happens is nobody's business.
            let transaction =
                Transaction { writes: vec![put("given up", "1")], ..transaction.clone() };
            let given_up = engine.commit(transaction);
            tokio::select! { biased; _ = given_up => {}, () = std::future::ready(()) => {} }
        }
        if let Err(error) = engine.commit(transaction).await {
            return (number - 1, Some(error));
        }
    }
    (COMMITS, None)
}

async fn last(dir: &Path, clock: &Arc<Clock>) -> Vec<u64> {
    let engine = Local::open(dir, clock.clone(), tiny()).unwrap();
    let snapshot = engine.snapshot(Level::Linearizable).await.unwrap();
    let mut found = Vec::new();
    for writer in 0..WRITERS {
        let value = snapshot.get(format!("last/{writer}").as_bytes()).await.unwrap();
        let number = |bytes: &[u8]| std::str::from_utf8(&bytes[..4]).unwrap().parse().unwrap();
        found.push(value.map_or(0, |value| number(&value.bytes)));
    }
    drop(snapshot);
    engine.close().await;
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_is_answered_and_truly() {
    for closed_after in [u64::MAX, 400, 100, 1] {
        let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
        let engine = Local::open(folder.path(), clock.clone(), tiny()).unwrap();
        let closing = async {
            while engine.figures().commits < closed_after.min(WRITERS * COMMITS) {
                tokio::task::yield_now().await;
            }
            engine.close().await;
        };
        let writing = join_all((0..WRITERS).map(|writer| write(&engine, &clock, writer)));
        let (answers, ()) = tokio::join!(writing, closing);
        assert_eq!(engine.failed(), None);
        drop(engine);
        let found = last(folder.path(), &clock).await;
        for (writer, ((accepted, error), found)) in answers.into_iter().zip(found).enumerate() {
            assert_eq!(accepted, found, "writer {writer}, closed after {closed_after}");
            let refused = |error| matches!(error, CommitError::Unavailable(_));
            assert!(error.is_none_or(refused), "closing is no accident");
        }
    }
}
