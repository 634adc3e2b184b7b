//! A connection's watches. News are taken from the engine one by one and only when there is room to pass them on; until
//! then the engine keeps one number per watch, so a client that does not listen costs nothing.

use crate::{bounds::WATCHES_MAX, server::connection::revision_of, wire::Malformed};
use futures_util::{
    future::{AbortHandle, Abortable, Aborted},
    stream::{FuturesUnordered, StreamExt},
};
use outrigger_kernel::BoxFuture;
use outrigger_keyspace::{KeyRange, KeySpace, Watch};
use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
};

/// A watch's name, what it has to tell, and itself again.
type News = (u64, u64, Watch);

pub(super) struct Watches {
    engine: Arc<dyn KeySpace>,
    standing: HashMap<u64, AbortHandle>,
    waiting: FuturesUnordered<Abortable<BoxFuture<'static, News>>>,
}

impl Watches {
    pub(super) fn new(engine: Arc<dyn KeySpace>) -> Self {
        Self { engine, standing: HashMap::new(), waiting: FuturesUnordered::new() }
    }

    /// Watches from this moment on. With `tell`, says at once what has been reached: the client has watched elsewhere and
    /// cannot know what it missed in between.
    pub(super) fn begin(
        &mut self,
        watch: u64,
        tell: bool,
        range: KeyRange,
    ) -> Result<(), Malformed> {
        if self.standing.len() >= WATCHES_MAX {
            return Err(Malformed("more watches than a connection may have"));
        }
        let standing = self.engine.watch(range);
        let engine = self.engine.clone();
        self.wait(watch, async move {
            match revision_of(&*engine).await {
                Ok(revision) if tell => (watch, revision, standing),
                _ => next(watch, standing).await,
            }
        });
        Ok(())
    }

    fn wait(&mut self, watch: u64, news: impl Future<Output = News> + Send + 'static) {
        let (handle, registration) = AbortHandle::new_pair();
        if let Some(replaced) = self.standing.insert(watch, handle) {
            replaced.abort();
        }
        self.waiting.push(Abortable::new(Box::pin(news), registration));
    }

    pub(super) fn end(&mut self, watch: u64) {
        if let Some(handle) = self.standing.remove(&watch) {
            handle.abort();
        }
    }

    /// The next that has changed, and up to which revision.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(u64, u64)> {
        loop {
            match self.waiting.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok((watch, revision, standing)))) => {
                    self.wait(watch, next(watch, standing));
                    return Poll::Ready((watch, revision));
                }
                Poll::Ready(Some(Err(Aborted))) => {}
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.standing.clear();
        self.waiting = FuturesUnordered::new();
    }
}

async fn next(name: u64, mut watch: Watch) -> News {
    let revision = watch.changed().await;
    (name, revision, watch)
}
