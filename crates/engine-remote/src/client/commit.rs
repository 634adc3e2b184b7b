//! A commit over a line that may break. It has a name, so that it can be sent again: whoever holds the folder then knows
//! whether it is in there.

use super::{Core, Lost, Way};
use crate::{
    server,
    wire::{self, Answer},
};
use bytes::Bytes;
use outrigger_kernel::{Deadline, within};
use outrigger_keyspace::{CommitError, CommitId, Committed, Transaction, sequencer};
use std::{sync::Arc, time::Duration};

/// How long a holder that says it cannot go on may take to leave.
const LEAVING_PATIENCE: Duration = Duration::from_secs(2);

impl Core {
    pub(crate) async fn commit(
        &self,
        mut transaction: Transaction,
    ) -> Result<Committed, CommitError> {
        // What is over a bound need not travel.
        let bytes = sequencer::size(&transaction)?;
        transaction.id.get_or_insert_with(|| CommitId::random(&*self.world));
        let (until, known) = (self.patience(), self.known.revision());
        let mut sent = false;
        loop {
            let line = match self.way(until).await {
                Ok(Way::Line(line)) => line,
                Ok(Way::Own(engine)) => {
                    return server::commit(&*engine, sent.then_some(known), transaction).await;
                }
                Err(why) if sent => return Err(CommitError::Unknown(why)),
                Err(why) => return Err(CommitError::Unavailable(why)),
            };
            let resent = sent.then_some(known);
            let answer = line
                .call(bytes, Some(until), false, |out, id| {
                    wire::commit(out, id, resent, &transaction);
                })
                .await;
            let error = match answer {
                Ok(frame) => match self.committed(&frame) {
                    Ok(committed) => return Ok(committed),
                    Err(error) => error,
                },
                Err(Lost::Unsent) => continue,
                Err(Lost::Sent) => {
                    sent = true;
                    continue;
                }
                Err(Lost::Late) => {
                    let why = "the process that holds the data folder does not answer";
                    return Err(CommitError::Unknown(why.to_owned()));
                }
            };
            let leaving = match error {
                CommitError::Unknown(_) => {
                    sent = true;
                    true
                }
                // Said by an engine that has stopped; another one may take it.
                CommitError::Unavailable(_) => true,
                _ => false,
            };
            if !leaving || until.expired(self.world.mono()) || !self.leaves(&line).await {
                return Err(error);
            }
        }
    }

    fn committed(&self, frame: &Bytes) -> Result<Committed, CommitError> {
        match Answer::take(frame) {
            Ok(Answer::Committed { committed, .. }) => {
                self.known.saw_revision(committed.revision);
                self.known.saw_time(committed.time);
                Ok(committed)
            }
            Ok(Answer::CommitFailed { error, .. }) => Err(error),
            Ok(_) => Err(CommitError::Unknown("the answer is one to another question".to_owned())),
            Err(malformed) => Err(CommitError::Unknown(malformed.to_string())),
        }
    }

    /// Whether the holder at the other end of `line` is gone soon.
    async fn leaves(&self, line: &Arc<super::Line>) -> bool {
        let until = Deadline::after(&*self.world, LEAVING_PATIENCE);
        let mut stages = self.stages();
        let elsewhere = stages.wait_for(|stage| match stage {
            super::Stage::Line(now) => !Arc::ptr_eq(now, line),
            _ => true,
        });
        matches!(within(&*self.world, until, elsewhere).await, Ok(Ok(_)))
    }
}
