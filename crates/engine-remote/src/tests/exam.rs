//! The exam over a socket, and what the exam cannot know.

use super::{connect, serve, share};
use outrigger_kernel::World;
use outrigger_keyspace::{KeySpace, exam::Examiner, memory::Memory};
use outrigger_sim::SimWorld;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tempfile::TempDir;

/// Examines a client of the memory engine. Whoever holds the folder holds the sockets that are in it.
fn over_memory(seed: u64) -> (TempDir, Examiner) {
    let folder = tempfile::tempdir().unwrap();
    let (parent, opened) = (folder.path().to_owned(), AtomicU64::new(0));
    let examiner = Examiner::new(SimWorld::new(seed), move |world: Arc<dyn World>| {
        let dir = parent.join(opened.fetch_add(1, Ordering::SeqCst).to_string());
        async move {
            std::fs::create_dir(&dir).unwrap();
            serve(&dir, Memory::new(world.clone()), &world);
            connect(&dir, &world).await as Arc<dyn KeySpace>
        }
    });
    (folder, examiner)
}

/// Examines a process that follows one with the local engine.
fn over_local(seed: u64) -> (TempDir, Examiner) {
    let folder = tempfile::tempdir().unwrap();
    let (parent, opened) = (folder.path().to_owned(), AtomicU64::new(0));
    let examiner = Examiner::new(SimWorld::new(seed), move |world: Arc<dyn World>| {
        let dir = parent.join(opened.fetch_add(1, Ordering::SeqCst).to_string());
        async move {
            let holder = share(&dir, &world).await.unwrap();
            let follower = share(&dir, &world).await.unwrap();
            assert!(holder.holds() && !follower.holds());
            let stays = async move {
                std::future::pending::<()>().await;
                drop(holder);
            };
            drop(world.spawn("holder", Box::pin(stays)));
            follower as Arc<dyn KeySpace>
        }
    });
    (folder, examiner)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_exercise_over_memory() {
    let (_folder, examiner) = over_memory(1);
    examiner.sit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_behaves_as_the_model() {
    let (_folder, examiner) = over_memory(2);
    examiner.property(48).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_strictly_serializable() {
    let (_folder, examiner) = over_memory(3);
    examiner.histories(6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_exercise_over_local() {
    let (_folder, examiner) = over_local(4);
    examiner.sit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_behaves_as_the_model() {
    let (_folder, examiner) = over_local(5);
    examiner.property(16).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_is_strictly_serializable() {
    let (_folder, examiner) = over_local(6);
    examiner.histories(3).await;
}
