//! Memory and log stay within their bounds, however fast the writes come.

use super::{clock, put};
use crate::{Local, Options, tables::Tables};
use futures_util::future::join_all;
use outrigger_keyspace::{KeySpace, Transaction};
use std::path::Path;

const MEMTABLE_BYTES: u64 = 32 * 1024;
/// One group may come on top of what was there.
const GROUP_BYTES: u64 = 64 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_in_bulk_leaves_the_memory() {
    // A disk that is fast: the writer must outrun the thread that makes files.
    let fast = Path::new("/dev/shm");
    let folder = if fast.is_dir() { tempfile::tempdir_in(fast) } else { tempfile::tempdir() };
    let folder = folder.unwrap();
    let options = Options {
        memtable_bytes: MEMTABLE_BYTES,
        group_bytes_max: usize::try_from(GROUP_BYTES / 4).unwrap(),
        ..Options::default()
    };
    let engine = Local::open(folder.path(), clock(), options).unwrap();
    let value = "x".repeat(400);
    for round in 0..400 {
        let writes = (0..10).map(|i| {
            let writes = vec![put(&format!("k/{}", (round * 10 + i) % 3_000), &value)];
            engine.commit(Transaction { writes, ..Transaction::default() })
        });
        assert!(join_all(writes).await.iter().all(Result::is_ok));
        let view = engine.current().unwrap();
        let (active, sealed) = memory(&view.tables);
        assert!(active <= MEMTABLE_BYTES + GROUP_BYTES, "round {round}: {active} bytes");
        assert!(sealed <= 3, "round {round}: {sealed} wait to become files");
    }
    let view = engine.current().unwrap();
    assert!(view.tables.data.table_count() > 0, "files were made");
    drop(view);
    engine.close().await;
}

fn memory(tables: &Tables) -> (u64, usize) {
    use fjall::AbstractTree;
    (tables.data.tree.active_memtable().size(), tables.data.sealed_memtable_count())
}
