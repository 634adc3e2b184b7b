//! Holding the folder: the engine is here, and others are let in.

use super::keeper::Keeping;
use crate::{place::Place, server::Server};
use outrigger_kernel::BoxFuture;
use outrigger_keyspace::KeySpace;
use std::{convert::Infallible, fmt, io, sync::Arc, time::Duration};
use tokio::net::UnixListener;

/// An engine that an opener has opened.
pub struct Opened {
    /// The engine.
    pub engine: Arc<dyn KeySpace>,
    /// Ends when the engine has stopped for good, with the reason; never otherwise.
    pub failure: BoxFuture<'static, String>,
    /// Closes it and lets the folder go.
    pub close: Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened")
    }
}

/// What is left to answer for an engine that has failed takes no longer.
const FAILED_GRACE: Duration = Duration::from_secs(1);

impl Keeping {
    /// Serves until this process leaves or its engine fails; then lets the folder go.
    pub(super) async fn hold(self, opened: Opened, listener: Option<UnixListener>) {
        let Opened { engine, failure, close } = opened;
        let server = Server::new(engine, self.world.clone()).telling(self.core.departures());
        let mut closing = self.closing.clone();
        let grace = tokio::select! {
            biased;
            // An error is a keeper that was dropped, which says so first.
            grace = closing.wait_for(Option::is_some) => {
                grace.ok().and_then(|grace| *grace).unwrap_or(FAILED_GRACE)
            }
            why = failure => {
                tracing::error!(reason = why, "the engine has failed; the data folder is let go");
                self.fate.fail(why);
                FAILED_GRACE
            }
            never = self.serve(&server, listener) => match never {},
        };
        if !server.drain(grace).await {
            tracing::warn!("other processes are left without an answer; they ask the next holder");
        }
        self.place.leave();
        close().await;
        // Last, so that whoever waits for the end of its connection finds the folder free.
        drop(server);
    }

    /// Lets others in, and back in when the socket was removed.
    async fn serve(&self, server: &Server, mut listener: Option<UnixListener>) -> Infallible {
        let own = [&self.place];
        loop {
            tokio::select! {
                () = accept(server, listener.as_ref()) => {}
                () = Place::lost(&own, &*self.world) => {}
            }
            match self.listener() {
                Some(again) => listener = Some(again),
                None => Place::pause(&*self.world).await,
            }
        }
    }

    /// A listener, if the folder allows one. Without, this process works alone.
    pub(super) fn listener(&self) -> Option<UnixListener> {
        self.place.listen().inspect_err(|error| self.complain(error)).ok()
    }

    fn complain(&self, error: &io::Error) {
        if self.fate.first_complaint() {
            tracing::warn!(%error, "other processes cannot share the data folder");
        }
    }
}

async fn accept(server: &Server, listener: Option<&UnixListener>) {
    match listener {
        Some(listener) => server.accept(listener).await,
        None => std::future::pending().await,
    }
}
