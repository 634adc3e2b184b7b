//! Random scripts by seed, each with crashes at a few of its steps. A failing seed is named with the command that
//! plays it again.

use crate::{crashes::everywhere, dice::Dice, script, verdict::Depth};

/// How many seeds each of the two tests tries.
const SEEDS: u64 = 150 / crate::stride(10) as u64;

/// One seed: its script, its crash points and how closely each is looked at follow from the number alone.
pub(crate) fn one(seed: u64) -> Result<usize, String> {
    let mut dice = Dice(seed ^ 0x5eed);
    let acts = script::by_seed(seed, 20 + dice.below(100));
    if std::env::var_os("OUTRIGGER_SHOW").is_some() {
        show(&acts);
    }
    let every = 5 + dice.below(40);
    let offset = dice.below(every);
    let depth = if dice.chance(30) { Depth::Recoveries } else { Depth::GoOn };
    let wanted = |step: usize| step % every == offset;
    let count = everywhere(&acts, seed, wanted, |_| depth)
        .map_err(|error| format!("{error}\nto play it again: cargo xtask torture --seed {seed}"))?;
    Ok(count.images + count.second_crashes)
}

#[expect(clippy::print_stdout, reason = "asked for")]
fn show(acts: &[script::Act]) {
    for act in acts {
        println!("{act:?}");
    }
}

fn many(from: u64, seeds: u64) -> usize {
    (from..from + seeds).map(|seed| one(seed).unwrap_or_else(|error| panic!("{error}"))).sum()
}

/// Two tests, so that two cores have something to do.
#[test]
fn random_scripts_survive_random_crashes() {
    assert!(many(1_000, SEEDS) > 1_000);
}

#[test]
fn more_random_scripts_survive_more_random_crashes() {
    assert!(many(2_000, SEEDS) > 1_000);
}

#[test]
#[ignore = "as long as it is told to: `cargo xtask torture --seeds N`"]
#[expect(clippy::print_stdout, reason = "the figures are what was asked for")]
fn as_many_as_asked_for() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let from = number("OUTRIGGER_SEED").unwrap_or(0);
    let seeds = number("OUTRIGGER_SEEDS").unwrap_or(1);
    let crashes = many(from, seeds);
    println!("seeds {from}..{}: {crashes} crashes, every one survived", from + seeds);
}
