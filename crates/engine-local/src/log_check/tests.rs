//! A log written by the engine, bent in every way: what was acknowledged is there, or the engine says that it is not.

use super::{Verdict, batch, data_end, judge, log_files};
use crate::{Local, OpenError, Options, tests as house};
use outrigger_kernel::World;
use outrigger_keyspace::{KeySpace, Level};
use outrigger_sim::SimWorld;
use std::{
    fs,
    path::{Path, PathBuf},
};

const COMMITS: usize = 40;

/// A closed store with some commits; its log file and where each batch of it begins.
async fn store(dir: &Path) -> (PathBuf, Vec<u8>, Vec<usize>) {
    let clock = house::clock();
    let engine = house::open(dir, &clock);
    for i in 0..COMMITS {
        let value = "0123456789".repeat(5 + i * 3);
        house::write(&engine, vec![house::put(&format!("k/{i:03}"), &value)]).await.unwrap();
    }
    engine.close().await;
    let log = log_files(&dir.join("store")).unwrap().pop().unwrap();
    let bytes = fs::read(&log).unwrap();
    let mut starts = Vec::new();
    let mut at = 0;
    while at < data_end(&bytes) {
        starts.push(at);
        at += batch(&bytes[at..]).unwrap_or_else(|| panic!("another format at {at}")).1;
    }
    (log, bytes, starts)
}

/// How many commits an engine finds from the first one on; `None` when it refuses because of damage.
async fn found(dir: &Path) -> Option<usize> {
    let engine = match Local::open(dir, house::clock(), Options::default()) {
        Ok(engine) => engine,
        Err(OpenError::Damaged { .. }) => return None,
        Err(other) => panic!("{other}"),
    };
    let snapshot = engine.snapshot(Level::Local).await.unwrap();
    let mut found = 0;
    while snapshot.get(format!("k/{found:03}").as_bytes()).await.unwrap().is_some() {
        found += 1;
    }
    drop(snapshot);
    engine.close().await;
    Some(found)
}

/// Opening cuts, writes and syncs; each attempt works on a copy of its own.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.path().extension().is_none_or(|extension| extension != "jnl") {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn found_with(dir: &Path, log: &Path, bytes: &[u8]) -> Option<usize> {
    let scratch = tempfile::tempdir().unwrap();
    copy(dir, scratch.path());
    fs::write(scratch.path().join("store").join(log.file_name().unwrap()), bytes).unwrap();
    found(scratch.path()).await
}

#[tokio::test]
async fn a_log_as_fjall_writes_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (log, bytes, starts) = store(folder.path()).await;
    // One batch per commit: nobody else was waiting.
    assert_eq!(starts.len(), COMMITS);
    assert_eq!(judge(&bytes, &mut None, true), Verdict::Whole);
    assert_eq!(found_with(folder.path(), &log, &bytes).await, Some(COMMITS));
}

#[tokio::test]
async fn a_flipped_bit_is_never_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let (log, bytes, _) = store(folder.path()).await;
    let random = SimWorld::new(5);
    let end = data_end(&bytes);
    for _ in 0..60 {
        let mut bent = bytes[..end].to_vec();
        let at = usize::try_from(random.random()).unwrap_or(0) % end;
        bent[at] ^= 1 << (random.random() % 8);
        bent.resize(end + 4_096, 0);
        let found = found_with(folder.path(), &log, &bent).await;
        assert!(found.is_none_or(|found| found == COMMITS), "byte {at}: {found:?} found");
    }
}

#[tokio::test]
async fn a_torn_last_write_is_cut_off_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (log, bytes, starts) = store(folder.path()).await;
    let (last, end) = (*starts.last().unwrap(), data_end(&bytes));
    for kept in (last + 1..end).step_by(97) {
        // The file ends there, or it goes on with the zeros it was made with.
        for zeros in [0, 10_000] {
            let mut torn = bytes[..kept].to_vec();
            torn.resize(kept + zeros, 0);
            let found = found_with(folder.path(), &log, &torn).await;
            assert_eq!(found, Some(COMMITS - 1), "{kept} kept, {zeros} zeros");
        }
    }
    // Or its last sector reached the disk before another one did.
    let sector = last.next_multiple_of(super::SECTOR_BYTES);
    let mut torn = bytes[..end].to_vec();
    torn[sector..sector + super::SECTOR_BYTES].fill(0);
    torn.resize(end + 10_000, 0);
    assert_eq!(found_with(folder.path(), &log, &torn).await, Some(COMMITS - 1));
}

#[tokio::test]
async fn what_is_cut_off_stays_away() {
    let folder = tempfile::tempdir().unwrap();
    let (log, bytes, starts) = store(folder.path()).await;
    fs::write(&log, &bytes[..*starts.last().unwrap() + 30]).unwrap();
    let clock = house::clock();
    let engine = house::open(folder.path(), &clock);
    house::write(&engine, vec![house::put("after", "1")]).await.unwrap();
    engine.close().await;
    assert_eq!(found(folder.path()).await, Some(COMMITS - 1));
    let engine = house::open(folder.path(), &clock);
    assert_eq!(house::text(&engine, "after").await.as_deref(), Some("1"));
}
