//! Memory stays within its bounds, however fast the writes come.

use super::{clock, put, text};
use crate::{Local, Options};
use futures_util::future::join_all;
use outrigger_keyspace::{KeySpace, Transaction};
use std::path::Path;

const LAYER_BYTES: usize = 32 * 1024;
/// One batch may come on top of what was there.
const BATCH_BYTES: usize = 16 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_in_bulk_leaves_the_memory() {
    // A disk that is fast: the writer must outrun the thread that makes files.
    let fast = Path::new("/dev/shm");
    let folder = if fast.is_dir() { tempfile::tempdir_in(fast) } else { tempfile::tempdir() };
    let folder = folder.unwrap();
    let options = Options {
        layer_bytes_max: LAYER_BYTES,
        layer_bytes_bound: 2 * LAYER_BYTES,
        batch_bytes_max: BATCH_BYTES,
        ..Options::default()
    };
    let engine = Local::open(folder.path(), clock(), options.clone()).unwrap();
    let value = "x".repeat(400);
    for round in 0..200 {
        let writes = (0..20).map(|i| {
            let writes = vec![put(&format!("k/{}", (round * 20 + i) % 3_000), &value)];
            engine.commit(Transaction { writes, ..Transaction::default() })
        });
        assert!(join_all(writes).await.iter().all(Result::is_ok));
        let stack = &engine.current().unwrap().stack;
        let sealed = stack.sealed.as_ref().map_or(0, |layer| layer.bytes());
        // Cells take more memory than their bytes count for in a batch.
        let bound = 2 * LAYER_BYTES + 2 * BATCH_BYTES;
        assert!(stack.active.bytes() <= bound, "round {round}: {}", stack.active.bytes());
        assert!(sealed <= bound, "round {round}: {sealed}");
    }
    let figures = engine.figures();
    assert!(figures.checkpoints > 10, "{figures:?}");
    engine.close().await;
    drop(engine);
    let engine = Local::open(folder.path(), clock(), options).unwrap();
    assert_eq!(text(&engine, "k/999").await.as_ref(), Some(&value));
    engine.close().await;
}
