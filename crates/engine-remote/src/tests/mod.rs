//! Engines over sockets, in one process: the exam, the bounds, what happens when a holder goes.

mod bounds;
mod exam;
mod greeting;
mod sharing;

use crate::{Opened, Refused, Remote, Server, ShareError, Shared, place::Place};
use bytes::Bytes;
use outrigger_engine_local::{Local, OpenError, Options};
use outrigger_kernel::World;
use outrigger_keyspace::{
    CommitError, Committed, KeySpace, Level, ReadError, Transaction, Value, Write,
};
use std::{path::Path, sync::Arc};

/// Serves `engine` in `folder` for as long as the runtime lives.
fn serve(folder: &Path, engine: Arc<dyn KeySpace>, world: &Arc<dyn World>) {
    let listener = Place::of_folder(folder).listen().unwrap();
    let server = Server::new(engine, world.clone());
    let serving = async move { server.accept(&listener).await };
    drop(world.spawn("server", Box::pin(serving)));
}

async fn connect(folder: &Path, world: &Arc<dyn World>) -> Arc<Remote> {
    Remote::connect(folder, world.clone()).await.unwrap()
}

/// How a process opens the local engine in `folder`.
fn opener(
    folder: &Path,
    world: Arc<dyn World>,
) -> impl Fn() -> Result<Opened, Refused> + Send + Sync + 'static {
    let folder = folder.to_owned();
    move || match Local::open(&folder, world.clone(), Options::default()) {
        Ok(local) => {
            let (failing, closing) = (local.clone(), local.clone());
            Ok(Opened {
                engine: local,
                failure: Box::pin(async move { failing.failure().await }),
                close: Box::new(move || Box::pin(async move { closing.close().await })),
            })
        }
        Err(error @ OpenError::InUse { .. }) => Err(Refused::InUse(Box::new(error))),
        Err(error) => Err(Refused::Failed(Box::new(error))),
    }
}

async fn share(folder: &Path, world: &Arc<dyn World>) -> Result<Arc<Shared>, ShareError> {
    Shared::open(folder, world.clone(), opener(folder, world.clone())).await
}

fn put(key: &str, value: &str) -> Write {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    Write::Put { key, value, expires_at: None }
}

async fn write(engine: &dyn KeySpace, writes: Vec<Write>) -> Result<Committed, CommitError> {
    engine.commit(Transaction { writes, ..Transaction::default() }).await
}

async fn get(engine: &dyn KeySpace, key: &str) -> Result<Option<Value>, ReadError> {
    engine.snapshot(Level::Linearizable).await?.get(key.as_bytes()).await
}

async fn text(engine: &dyn KeySpace, key: &str) -> Option<Bytes> {
    get(engine, key).await.unwrap().map(|value| value.bytes)
}
