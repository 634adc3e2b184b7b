//! The steady figures against committed ranges: memory, threads and size do not depend on the machine's mood, so a change
//! that moves them is noticed when it is made.

use crate::measure::{idle, size};
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
