//! The publisher: the last of a batch's three stations. What is on disk is shown, whoever watches it is told, and then who
//! asked for it is answered, in that order: an answer never comes before a reader could see what it says.

use crate::{
    batch::{Batch, Picture},
    engine::Engine,
    folder::Lock,
    log::Position,
    planted::{self, Bug},
    view::View,
};
use outrigger_keyspace::CommitError;
use std::sync::Arc;

/// The right to publish, of which an engine has one: batches are published in their order.
pub(crate) struct Publisher {
    /// Every view holds the folder.
    lock: Option<Arc<Lock>>,
}

impl Publisher {
    pub(crate) fn new(lock: Option<Arc<Lock>>) -> Self {
        Self { lock }
    }

    pub(crate) fn view(&self, picture: Picture, position: Position, engine: &Engine) -> Arc<View> {
        let hints = engine.shared.hints.clone();
        Arc::new(View::new(picture, position, hints, self.lock.clone()))
    }

    pub(crate) fn publish(&mut self, mut batch: Batch, engine: &Engine) {
        let shared = &engine.shared;
        if planted::is(Bug::ShowWhatFailed) && batch.failed.is_some() {
            self.show(&mut batch, engine);
        }
        if let Some(reason) = &batch.failed {
            for (_, decided) in batch.answers.iter_mut().filter(|(_, decided)| decided.is_ok()) {
                *decided = Err(CommitError::Unknown(reason.clone()));
            }
            engine.desk.release();
        } else {
            self.show(&mut batch, engine);
        }
        shared.time.end();
        shared.tally.note_batch(batch.commits);
        for (answer, decided) in batch.answers {
            // Whoever asked may have given up; the commit stands.
            let _gone: Result<(), _> = answer.send(decided);
        }
        engine.desk.return_room(batch.room);
        if let Some(step) = batch.step {
            engine.desk.tell_stepped(step);
        }
        shared.frames.give(batch.frame);
    }

    fn show(&self, batch: &mut Batch, engine: &Engine) {
        let shared = &engine.shared;
        if let (Some(picture), Some(position)) = (batch.picture.take(), batch.position) {
            let shown = self.view(picture, position, engine);
            drop(shared.view.send_replace(Some(shown)));
        }
        if !batch.plans.is_empty() {
            let changed = batch.plans.iter().flat_map(|plan| plan.changed());
            let cleared = batch.plans.iter().flat_map(|plan| plan.cleared());
            shared.registry.notify(changed, cleared);
        }
        if let Some(layer) = batch.retired.take() {
            engine.checkpointer.retire(layer);
        }
        if let Some(wanted) = batch.wanted.take() {
            engine.checkpointer.want(wanted);
        }
        if let (Some(sealed), Some(position)) = (batch.sealed.take(), batch.position) {
            engine.checkpointer.submit(sealed, position, batch.seals);
        }
    }
}
