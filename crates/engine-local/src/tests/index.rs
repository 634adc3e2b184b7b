//! The index by expiry says exactly what the data says, whatever was written at once.

use super::{clock, key, open, write};
use crate::{
    Options,
    tables::{Tables, decode_value},
};
use fjall::Readable;
use outrigger_kernel::World;
use outrigger_keyspace::{KeyRange, KeySpace, Level, Write};
use std::{collections::BTreeSet, time::Duration};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_agrees_with_the_data() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    for round in 0..10 {
        let engine = open(folder.path(), &clock);
        let writer = async |_: u64| {
            for _ in 0..40 {
                let at = key(&format!("k{}", clock.random() % 6));
                let ttl = Duration::from_millis(clock.random() % 30);
                let expires_at = Some(clock.wall().plus(ttl));
                let value = key("v");
                let change = match clock.random() % 8 {
                    0 => Write::Delete { key: at },
                    1 => Write::DeleteRange { range: KeyRange::new(at, "k4") },
                    2 => Write::Put { key: at, value, expires_at: None },
                    _ => Write::Put { key: at, value, expires_at },
                };
                write(&engine, vec![change]).await.unwrap();
                if clock.random() % 16 == 0 {
                    clock.advance_ms(1);
                    engine.snapshot(Level::Linearizable).await.unwrap();
                }
            }
        };
        // At once, so that several writes of a key share a group.
        futures_util::future::join_all((0..8).map(writer)).await;
        engine.close().await;
        drop(engine);
        compare(folder.path(), round);
    }
}

fn compare(dir: &std::path::Path, round: u64) {
    let tables = Tables::open(dir, &Options::default(), None).unwrap();
    let mut indexed = BTreeSet::new();
    tables.expiries(|at, key| assert!(indexed.insert((at, key)))).unwrap();
    let mut expected = BTreeSet::new();
    for guard in tables.database.snapshot().iter(&tables.data) {
        let (key, stored) = guard.into_inner().unwrap();
        if let Some(at) = decode_value(stored).unwrap().expires_at {
            expected.insert((at, key.into()));
        }
    }
    assert_eq!(indexed, expected, "round {round}");
}
