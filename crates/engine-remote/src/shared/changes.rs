//! What changes among the processes of a folder, for whoever would rather be told than ask.

use super::Shared;
use crate::client::Stage;
use std::fmt;
use tokio::sync::watch::Receiver;

/// News of the processes of a folder. What happened more than once while nobody listened is told once.
pub struct Changes {
    stages: Receiver<Stage>,
    departures: Receiver<u64>,
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Who holds the folder. Between two holders there may be nobody.
    Holder,
    /// A process has gone that this one, as the holder, had served. Which, its connection does not say.
    Departure,
}

impl Shared {
    /// What changes from now on.
    #[must_use]
    pub fn changes(&self) -> Changes {
        let core = &self.remote.core;
        Changes { stages: core.stages(), departures: core.departures().subscribe() }
    }
}

impl Changes {
    /// The next change. Nothing is lost when this is dropped and called again.
    pub async fn next(&mut self) -> Change {
        // Senders that are gone, with the `Shared`, change nothing any more.
        let (holder, departure) = tokio::select! {
            biased;
            holder = self.stages.changed() => (holder.is_ok(), false),
            departure = self.departures.changed() => (false, departure.is_ok()),
        };
        match (holder, departure) {
            (true, _) => Change::Holder,
            (_, true) => Change::Departure,
            _ => std::future::pending().await,
        }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Changes")
    }
}
