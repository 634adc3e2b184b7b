//! Holding the folder: the engine is here, and others are let in.

use super::keeper::Keeping;
use crate::server::Server;
use outrigger_kernel::BoxFuture;
use outrigger_keyspace::KeySpace;
use std::{fmt, sync::Arc, time::Duration};
use tokio::net::UnixListener;

/// An engine that an opener has opened.
pub struct Opened {
    /// The engine.
    pub engine: Arc<dyn KeySpace>,
    /// Why it has stopped for good, if it has. Must cost nothing.
    pub failed: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// Closes it and lets the folder go.
    pub close: Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened")
    }
}

/// How often the holder looks whether its engine still works and its socket still stands.
const LOOK: Duration = Duration::from_millis(250);
/// What is left to answer for an engine that has failed takes no longer.
const FAILED_GRACE: Duration = Duration::from_secs(1);

impl Keeping {
    /// Serves until this process leaves or its engine fails; then lets the folder go.
    pub(super) async fn hold(self, opened: Opened, listener: Option<UnixListener>) {
        let Opened { engine, failed, close } = opened;
        let failed = self.fate.failed.get_or_init(|| failed);
        let server = Server::new(engine, self.world.clone());
        let mut closing = self.closing.clone();
        let grace = tokio::select! {
            biased;
            // An error is a keeper that was dropped, which says so first.
            grace = closing.wait_for(Option::is_some) => {
                grace.ok().and_then(|grace| *grace).unwrap_or(FAILED_GRACE)
            }
            why = self.serve(&server, listener, failed) => {
                tracing::error!(reason = why, "the engine has failed; the data folder is let go");
                self.fate.failure.get_or_init(|| why);
                FAILED_GRACE
            }
        };
        if !server.drain(grace).await {
            tracing::warn!("other processes are left without an answer; they ask the next holder");
        }
        self.place.leave();
        close().await;
        // Last, so that whoever waits for the end of its connection finds the folder free.
        drop(server);
    }

    /// Lets others in for as long as the engine works; answers why it no longer does.
    async fn serve(
        &self,
        server: &Server,
        mut listener: Option<UnixListener>,
        failed: &(dyn Fn() -> Option<String> + Send + Sync),
    ) -> String {
        loop {
            tokio::select! {
                () = accept(server, listener.as_ref()) => {}
                () = self.world.sleep(LOOK) => {}
            }
            if let Some(why) = failed() {
                return why;
            }
            if listener.is_none() || !self.place.stands() {
                listener = self.listener(listener);
            }
        }
    }

    /// A listener in place of `before`, whose name is gone, or who never was. Without one this process works alone.
    pub(super) fn listener(&self, before: Option<UnixListener>) -> Option<UnixListener> {
        let first = self.fate.first_listen();
        match self.place.listen() {
            Ok(listener) => Some(listener),
            Err(error) => {
                if first {
                    tracing::warn!(%error, "other processes cannot share the data folder");
                }
                before
            }
        }
    }
}

async fn accept(server: &Server, listener: Option<&UnixListener>) {
    match listener {
        Some(listener) => server.accept(listener).await,
        None => std::future::pending().await,
    }
}
