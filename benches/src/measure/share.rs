//! What does it cost a process to reach the store through another, and how long is it without one when that one dies?
//!
//! Two processes share a folder. Each times the same operations by turns, with nobody else there; what the follower's take
//! longer at the median is what it adds. Then the holder is killed while the follower writes.

use crate::{
    inside::{Inside, figure},
    process::Folder,
    report::{Figure, median, time},
};
use anyhow::{Result, ensure};
use std::{thread, time::Duration};

const ROUNDS: usize = 15;
const READS: usize = 2_000;
const WRITES: usize = 300;
const KILLS: usize = 7;

pub(crate) fn run() -> Result<Vec<Figure>> {
    let home = Folder::new()?;
    let folder = home.path().join("store");
    std::fs::create_dir_all(&folder)?;
    let mut holder = Inside::start("share", &folder)?;
    let mut follower = Inside::start("share", &folder)?;
    ensure!(holder.ask("holds")?["holds"] == true, "the first does not hold the folder");
    ensure!(follower.ask("holds")?["holds"] == false, "the second holds the folder too");
    let mut figures = Vec::new();
    for (what, line) in
        [("point read", format!("read {READS}")), ("durable commit", format!("write {WRITES}"))]
    {
        figures.push(added(&mut holder, &mut follower, what, &line)?);
    }
    let mut waits = Vec::new();
    for _ in 0..KILLS {
        follower.tell("last 2")?;
        thread::sleep(Duration::from_millis(300));
        holder.kill()?;
        let answer = follower.hear()?;
        ensure!(answer["holds"] == true, "nobody took over: {answer}");
        waits.push(figure(&answer, "longest")?);
        holder = follower;
        follower = Inside::start("share", &folder)?;
    }
    let longest = waits.iter().copied().fold(0.0, f64::max);
    figures.push(
        Figure::new(
            "takeover after kill -9 of the holder, under writes: the longest commit",
            time(longest),
        )
        .beside(format!("longest of {KILLS}; median {}", time(median(waits))))
        .goal("under 2 s", longest < 2e9),
    );
    Ok(figures)
}

fn added(holder: &mut Inside, follower: &mut Inside, what: &str, line: &str) -> Result<Figure> {
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        here.push(figure(&holder.ask(line)?, "p50")?);
        there.push(figure(&follower.ask(line)?, "p50")?);
    }
    let added = median(here.iter().zip(&there).map(|(here, there)| there - here).collect());
    let beside =
        format!("through another process {}, in it {}", time(median(there)), time(median(here)));
    let question = format!("{what} through another process: added at the median");
    Ok(Figure::new(&question, time(added)).beside(beside).goal("at most 60 us", added <= 60e3))
}
