//! The real binary, killed and cut off again and again under load, and judged by a checker that believes nothing.
//!
//! ```text
//!   clients --HTTP--> nodes on one data folder        SIGKILL, or the file system shut down under them
//!      |                                                  |
//!      '--> history: what was read, written, answered     '--> the next start: how long until it serves
//!                    |
//!                    '--> keyspace::exam::history::append: lost, doubled, torn or reordered commits
//! ```
//!
//! Clients append to lists: a list read whole tells every commit that made it. What was answered with success must be in
//! the lists for ever after, what was refused never, and what got no answer wholly or not at all; and the order must be
//! one that a single client could have seen. The short forms of the kills run in every test run, everything else with
//! `cargo xtask torture`.

mod load;
mod powercut;

use anyhow::{Context, Result, ensure};
use load::{Bout, Figures};
use outrigger_tests::{Folder, Node, Start, node::Ports, patience::Stopwatch};
use std::{path::Path, time::Duration};

/// Kills between two judgements; the lists of one bout stay short enough to be read whole.
const KILLS_PER_BOUT: usize = 4;

/// What a run of many kills came to.
#[derive(Debug, Default)]
struct Summary {
    kills: usize,
    figures: Figures,
    starts: Vec<Duration>,
}

impl Summary {
    /// Says it, for whoever waits for the long form.
    #[expect(clippy::print_stdout, reason = "the figures are what the run is for")]
    fn say(&mut self, what: &str) {
        self.starts.sort_unstable();
        let median = self.starts.get(self.starts.len() / 2).copied().unwrap_or_default();
        let worst = self.starts.last().copied().unwrap_or_default();
        println!(
            "torture: {} {what}, {}; start after it: median {} ms, worst {} ms",
            self.kills,
            self.figures.describe(),
            median.as_millis(),
            worst.as_millis()
        );
    }
}

fn sidecar(data: &Path, ports: Option<Ports>) -> Start {
    let start = Start::sidecar("torture").components().data(data);
    match ports {
        Some(ports) => start.ports(ports),
        None => start,
    }
}

/// A small random number that differs from run to run; what it decides need not be repeatable, since time is not.
fn toss(below: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) % below.max(1)
}

/// Kills one of `count` nodes that share a folder, `kills` times, under load.
fn kill_again_and_again(kills: usize, count: usize) -> Result<Summary> {
    let data = Folder::new("torture")?;
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(sidecar(data.path(), None).ready()?);
    }
    let ports: Vec<u16> = nodes.iter().map(|node| node.ports.http).collect();
    let mut summary = Summary::default();
    let mut before: Option<Bout> = None;
    while summary.kills < kills {
        let bout = Bout::new(&ports, summary.kills)?;
        let shooting = bout.under_load(|| {
            for _ in 0..KILLS_PER_BOUT.min(kills - summary.kills) {
                std::thread::sleep(Duration::from_millis(100 + toss(500)));
                let victim = usize::try_from(toss(count as u64))?;
                shoot(&mut nodes[victim], data.path(), &mut summary.starts)?;
                summary.kills += 1;
            }
            Ok(())
        });
        shooting?;
        let told =
            || format!("after {} kills; the folder: {}", summary.kills, data.path().display());
        let figures = bout.judge().with_context(told)?;
        if let Some(before) = before.replace(bout) {
            before.judge_later(ports[0]).with_context(told)?;
        }
        summary.figures.add(figures);
        if summary.kills.is_multiple_of(100) && summary.kills < kills {
            summary.say("kills so far");
        }
    }
    for node in &nodes {
        node.assert_calm();
    }
    Ok(summary)
}

fn shoot(node: &mut Node, data: &Path, starts: &mut Vec<Duration>) -> Result<()> {
    node.assert_calm();
    node.kill()?;
    let watch = Stopwatch::start();
    *node = sidecar(data, Some(node.ports)).ready()?;
    starts.push(watch.elapsed());
    Ok(())
}

/// What the long forms were told to do.
fn asked(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn twenty_kills_lose_nothing() -> Result<()> {
    let mut summary = kill_again_and_again(20, 1)?;
    ensure!(summary.figures.committed > 200, "too little was under way: {summary:?}");
    summary.say("kills of the only process");
    Ok(())
}

#[test]
fn twenty_kills_among_three_processes_lose_nothing() -> Result<()> {
    let mut summary = kill_again_and_again(20, 3)?;
    ensure!(summary.figures.committed > 200, "too little was under way: {summary:?}");
    summary.say("kills among three processes with one folder");
    Ok(())
}

#[test]
#[ignore = "many minutes: `cargo xtask torture`"]
fn a_thousand_kills_lose_nothing() -> Result<()> {
    let rounds = asked("OUTRIGGER_ROUNDS", 1_000);
    kill_again_and_again(rounds, 1)?.say("kills of the only process");
    // Others go on while one is killed; whoever held the folder is among them one time in three.
    kill_again_and_again(rounds / 4, 3)?.say("kills among three processes with one folder");
    Ok(())
}
