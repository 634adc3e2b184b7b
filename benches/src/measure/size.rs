//! How large is the binary?

use crate::{process, report::Figure};
use anyhow::Result;

const GOAL_BYTES: u64 = 40_000_000;

pub(crate) fn bytes() -> Result<u64> {
    Ok(std::fs::metadata(process::binary()?)?.len())
}

pub(crate) fn run() -> Result<Vec<Figure>> {
    let bytes = bytes()?;
    let figure = Figure::new("size of the binary", format!("{:.1} MB", bytes as f64 / 1e6));
    Ok(vec![figure.goal("under 40 MB", bytes < GOAL_BYTES)])
}
