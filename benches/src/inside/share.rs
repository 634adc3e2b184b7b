//! A process that shares a folder with others.

use super::{answer_lines, number, say};
use crate::{
    load::Sample,
    store::{nanoseconds, put, runtime},
    world::RealWorld,
};
use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use outrigger_engine_local::{Local, OpenError, Options};
use outrigger_engine_remote::{Opened, Refused, Shared};
use outrigger_keyspace::{KeySpace, Level};
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

const KEY: &str = "a key of a common length";
const VALUE_BYTES: usize = 128;

/// `holds`, `read COUNT`, `write COUNT`, `last SECONDS`.
pub(super) fn serve(folder: &Path) -> Result<()> {
    let runtime = runtime()?;
    let (opened, folder) = (folder.to_owned(), folder.to_owned());
    let shared = runtime.block_on(runtime.spawn(async move {
        let world = RealWorld::new();
        let of_opener = Arc::clone(&world);
        Shared::open(&opened, world, move || open(&folder, &of_opener)).await
    }))??;
    let run = |work: BoxedWork| runtime.block_on(runtime.spawn(work))?;
    say(&run(Box::pin(writes(Arc::clone(&shared), 1)))?)?;
    answer_lines(|words| match words[0] {
        "holds" => Ok(json!({ "holds": shared.holds() })),
        "read" => run(Box::pin(reads(Arc::clone(&shared), number(words, 1)?))),
        "write" => run(Box::pin(writes(Arc::clone(&shared), number(words, 1)?))),
        "last" => run(Box::pin(longest(Arc::clone(&shared), number(words, 1)?))),
        other => bail!("there is no '{other}'"),
    })
}

type BoxedWork = outrigger_kernel::BoxFuture<'static, Result<Value>>;

fn open(folder: &Path, world: &Arc<RealWorld>) -> Result<Opened, Refused> {
    let local = Local::open(folder, world.clone(), Options::default()).map_err(|error| {
        if matches!(error, OpenError::InUse { .. }) {
            Refused::InUse(Box::new(error))
        } else {
            Refused::Failed(Box::new(error))
        }
    })?;
    let (asked, closed) = (Arc::clone(&local), Arc::clone(&local));
    Ok(Opened {
        engine: local,
        failure: Box::pin(async move { asked.failure().await }),
        close: Box::new(move || Box::pin(async move { closed.close().await })),
    })
}

async fn reads(shared: Arc<Shared>, count: usize) -> Result<Value> {
    let mut latencies = Vec::with_capacity(count);
    for _ in 0..count {
        let asked = Instant::now();
        let snapshot = shared.snapshot(Level::Linearizable).await?;
        ensure!(snapshot.get(KEY.as_bytes()).await?.is_some(), "the key is not there");
        latencies.push(nanoseconds(asked.elapsed()));
    }
    Ok(json!({ "p50": Sample::new(latencies, 1.0).quantile(0.5) }))
}

async fn writes(shared: Arc<Shared>, count: usize) -> Result<Value> {
    let mut latencies = Vec::with_capacity(count);
    for _ in 0..count {
        let asked = Instant::now();
        shared.commit(put(Bytes::from(KEY), Bytes::from(vec![7; VALUE_BYTES]))).await?;
        latencies.push(nanoseconds(asked.elapsed()));
    }
    Ok(json!({ "p50": Sample::new(latencies, 1.0).quantile(0.5) }))
}

/// Writes one after the other for some time; how long the longest took, and whether this process holds the folder at the end.
async fn longest(shared: Arc<Shared>, seconds: u64) -> Result<Value> {
    let (begun, mut longest) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(seconds) {
        let asked = Instant::now();
        shared.commit(put(Bytes::from(KEY), Bytes::from(vec![7; VALUE_BYTES]))).await?;
        longest = longest.max(nanoseconds(asked.elapsed()));
    }
    Ok(json!({ "longest": longest, "holds": shared.holds() }))
}
