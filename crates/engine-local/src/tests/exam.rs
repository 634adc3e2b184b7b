//! The exam, on fresh folders.

use crate::{Local, Options};
use outrigger_keyspace::{KeySpace, exam::Examiner};
use outrigger_sim::SimWorld;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tempfile::TempDir;

/// Whoever holds the folder holds the engines that are in it.
fn examiner(seed: u64) -> (TempDir, Examiner) {
    let folder = tempfile::tempdir().unwrap();
    let (parent, opened) = (folder.path().to_owned(), AtomicU64::new(0));
    let examiner = Examiner::new(SimWorld::new(seed), move |world| {
        let dir = parent.join(opened.fetch_add(1, Ordering::SeqCst).to_string());
        async move { Local::open(&dir, world, Options::default()).unwrap() as Arc<dyn KeySpace> }
    });
    (folder, examiner)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_exercise() {
    let (_folder, examiner) = examiner(1);
    examiner.sit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behaves_as_the_model() {
    let (_folder, examiner) = examiner(2);
    examiner.property(48).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_strictly_serializable() {
    let (_folder, examiner) = examiner(3);
    examiner.histories(4).await;
}
