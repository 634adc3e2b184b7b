//! How long from start to ready, on an empty store?

use crate::{
    process::{Folder, outrigger_timed},
    report::{Figure, median, time},
};
use anyhow::Result;

const ROUNDS: usize = 11;

pub(crate) fn run() -> Result<Vec<Figure>> {
    let (mut empty, mut again) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let home = Folder::new()?;
        for times in [&mut empty, &mut again] {
            let (mut server, ready) = outrigger_timed(&home, &["--app-id", "start"])?;
            times.push(ready.as_secs_f64() * 1e9);
            server.stop()?;
        }
    }
    let (empty, again) = (median(empty), median(again));
    Ok(vec![
        Figure::new("start to ready, empty store", time(empty))
            .beside(format!("the same folder again: {}", time(again)))
            .goal("under 100 ms", empty < 100e6),
    ])
}
