//! The reference engine sits the exam; and the exam is shown an engine that must fail.

mod planting;

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
