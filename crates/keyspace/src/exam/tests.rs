//! The reference engine sits the exam; and the exam is shown an engine that must fail.

use super::Examiner;
use crate::{KeySpace, memory::Memory};
use outrigger_sim::SimWorld;
use std::sync::Arc;

fn examiner(seed: u64) -> Examiner {
    Examiner::new(SimWorld::new(seed), |world| async { Memory::new(world) as Arc<dyn KeySpace> })
}

#[tokio::test(start_paused = true)]
async fn the_memory_engine_passes_every_exercise() {
    examiner(1).sit().await;
}

#[tokio::test(start_paused = true)]
async fn the_memory_engine_behaves_as_the_model() {
    examiner(2).property(256).await;
}

#[tokio::test(start_paused = true)]
async fn the_memory_engine_is_strictly_serializable() {
    examiner(3).histories(20).await;
}

#[tokio::test(start_paused = true)]
async fn both_judges_find_an_engine_without_conflict_detection() {
    for seed in 0..10 {
        let broken = Examiner::new(SimWorld::new(seed), |world| async {
            Memory::without_conflicts(world) as Arc<dyn KeySpace>
        });
        assert_eq!(broken.found_by_judges().await, (true, true), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "engine and model differ: accepted in spite of [Conflict]")]
async fn the_model_finds_an_engine_without_conflict_detection() {
    let broken = Examiner::new(SimWorld::new(4), |world| async {
        Memory::without_conflicts(world) as Arc<dyn KeySpace>
    });
    broken.property(256).await;
}
