//! Crashing the store, for as long as one likes.
//!
//! | part | what | how often |
//! |---|---|---|
//! | simulation | random scripts on a simulated disk, the power cut at some steps of each | `--seeds N` (2,000) |
//! | kills | `kill -9` of the real binary under load over HTTP, alone and with others on the same folder | `--rounds N` (1,000) |
//! | power cuts | instant copies of the disk under the real binary; needs root, loop devices and XFS | `--cuts N` (300) |
//!
//! A part with 0 is left out. `--seed S` plays one seed of the simulation, shows its acts, and nothing else. Every part prints one line
//! that begins with `torture:` and says what was tried and what was lost; anything lost fails the chore.

use crate::shell::{self, step};
use anyhow::{Context, Result, bail};

/// The short form of the simulation is the tests of this target; the long one is its ignored test.
const PROOFS: [&str; 4] = ["--package", "outrigger-engine-local", "--test", "proofs"];

struct Plan {
    first_seed: u64,
    seeds: u64,
    rounds: u64,
    cuts: u64,
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let plan = plan(arguments)?;
    if plan.seeds > 0 {
        step("simulated crashes", || simulate(&plan))?;
    }
    if plan.rounds > 0 || plan.cuts > 0 {
        let build = ["build", "--release", "--locked", "--package", "outrigger"];
        step("release build", || shell::run(&mut shell::cargo(&build)))?;
    }
    if plan.rounds > 0 {
        step("kills", || real("torture::a_thousand_kills", "OUTRIGGER_ROUNDS", plan.rounds))?;
    }
    if plan.cuts > 0 {
        step("power cuts", || real("torture::powercut::many", "OUTRIGGER_CUTS", plan.cuts))?;
    }
    Ok(())
}

fn plan(arguments: &[String]) -> Result<Plan> {
    let mut plan = Plan { first_seed: 0, seeds: 2_000, rounds: 1_000, cuts: 300 };
    let mut rest = arguments.iter();
    while let Some(flag) = rest.next() {
        let number = rest.next().and_then(|value| value.parse().ok());
        let number = number.with_context(|| format!("{flag} needs a number"))?;
        match flag.as_str() {
            "--seed" => plan = Plan { first_seed: number, seeds: 1, rounds: 0, cuts: 0 },
            "--from" => plan.first_seed = number,
            "--seeds" => plan.seeds = number,
            "--rounds" => plan.rounds = number,
            "--cuts" => plan.cuts = number,
            other => bail!("torture knows --seed, --from, --seeds, --rounds, --cuts; not {other}"),
        }
    }
    Ok(plan)
}

fn simulate(plan: &Plan) -> Result<()> {
    let mut arguments = vec!["test", "--release", "--locked"];
    arguments.extend(PROOFS);
    arguments.extend(["--", "--ignored", "--nocapture", "--exact", "seeds::as_many_as_asked_for"]);
    let mut command = shell::cargo(&arguments);
    command.env("OUTRIGGER_SEED", plan.first_seed.to_string());
    command.env("OUTRIGGER_SEEDS", plan.seeds.to_string());
    if plan.seeds == 1 {
        command.env("OUTRIGGER_SHOW", "1");
    }
    shell::run(&mut command)
}

/// Runs the ignored end-to-end tests whose names begin with `name` against the release build.
fn real(name: &str, variable: &str, times: u64) -> Result<()> {
    let binary = shell::target()?.join("release/outrigger");
    let arguments = [
        "test",
        "--locked",
        "--package",
        "outrigger-tests",
        "--test",
        "it",
        "--",
        "--ignored",
        "--nocapture",
        "--test-threads=1",
        name,
    ];
    let mut command = shell::cargo(&arguments);
    command.env("OUTRIGGER_BIN", binary).env(variable, times.to_string());
    shell::run(&mut command)
}

#[cfg(test)]
mod tests {
    use super::plan;

    #[test]
    fn reads_what_is_asked_for() {
        let asked =
            |text: &str| plan(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let one = asked("--seed 17").unwrap();
        assert_eq!((one.first_seed, one.seeds, one.rounds, one.cuts), (17, 1, 0, 0));
        let some = asked("--rounds 5 --cuts 0").unwrap();
        assert_eq!((some.seeds, some.rounds, some.cuts), (2_000, 5, 0));
        assert!(asked("--seeds many").is_err());
    }
}
