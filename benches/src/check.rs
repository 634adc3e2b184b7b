//! The steady figures against committed ranges: memory, threads and size, and what a commit costs in flushes and bytes, do not
//! depend on the machine's mood, so a change that moves them is noticed when it is made.

use crate::{
    measure::{clear, commits, idle, size},
    process::Folder,
    store::Store,
};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;

const RANGES: &str = "benches/ranges.json";

pub(crate) fn run() -> Result<()> {
    let text = fs::read_to_string(RANGES).with_context(|| format!("cannot read {RANGES}"))?;
    let ranges: Value =
        serde_json::from_str(&text).with_context(|| format!("{RANGES} is not JSON"))?;
    let idle = idle::measure()?;
    let found = [
        ("binary_bytes", size::bytes()?),
        ("idle_rss_kib", idle.rss_kib),
        ("idle_threads", idle.threads),
    ];
    let found = found.into_iter().chain(engine()?);
    let mut outside = Vec::new();
    for (name, value) in found {
        let bound = |end: &str| {
            ranges[name][end].as_u64().with_context(|| format!("{RANGES}: {name} has no {end}"))
        };
        let (min, max) = (bound("min")?, bound("max")?);
        println!("    {name}: {value}, range {min} to {max}");
        if !(min..=max).contains(&value) {
            outside.push(name);
        }
    }
    if !outside.is_empty() {
        bail!(
            "outside {RANGES}: {}; find out why, and change the range in the same commit if it is meant",
            outside.join(", ")
        );
    }
    Ok(())
}

/// What commits cost the engine, counted: with one writer and with 64, values of 256 bytes under keys of 22.
fn engine() -> Result<Vec<(&'static str, u64)>> {
    let (one, many) = (commits::counted(1, 1_000)?, commits::counted(64, 50_000)?);
    let home = Folder::new()?;
    let store = Store::open(&home.path().join("store"))?;
    let cleared = clear::log_bytes(&store)?;
    store.close()?;
    Ok(vec![
        ("flushes_of_1000_commits_1_writer", one.flushes_per_1000),
        ("flushes_of_1000_commits_64_writers", many.flushes_per_1000),
        ("log_bytes_of_a_commit_1_writer", one.log_bytes_per_commit),
        ("log_bytes_of_a_commit_64_writers", many.log_bytes_per_commit),
        ("all_bytes_of_a_commit_1_writer", one.bytes_per_commit),
        ("all_bytes_of_a_commit_64_writers", many.bytes_per_commit),
        ("log_bytes_of_clearing_100000_rows", cleared),
    ])
}
