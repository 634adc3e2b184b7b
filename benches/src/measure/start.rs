//! How long from start to ready, on an empty store?

use crate::{
    process::{Folder, outrigger_timed},
    report::{Figure, median, time},
};
use anyhow::Result;

const ROUNDS: usize = 11;

pub(crate) fn run() -> Result<Vec<Figure>> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let home = Folder::new()?;
        let (mut server, ready) = outrigger_timed(&home, &["--app-id", "start"])?;
        times.push(ready.as_secs_f64() * 1e9);
        server.stop()?;
    }
    let median = median(times);
    let figure = Figure::new("start to ready, empty store", time(median));
    Ok(vec![figure.goal("under 100 ms", median < 100e6)])
}
