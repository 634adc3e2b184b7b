//! A crash after every step of a script.

use crate::{
    run::Run,
    script::{self, Act},
    story::Story,
    verdict::{Case, Count, Depth},
};
use outrigger_sim::disk::{Moment, Survivors, Tape};

/// How many single changes are lost, kept or torn per moment, at most; the others are left to chance.
const SINGLES_MAX: usize = 12;

/// Every way to lose power at `moment` that is tried there.
fn ways(moment: &Moment, seed: u64) -> Vec<Survivors> {
    let pending = moment.pending();
    let mut ways = vec![Survivors::Nothing];
    if pending == 0 {
        return ways;
    }
    ways.push(Survivors::Everything);
    for change in (0..pending).rev().take(SINGLES_MAX) {
        let seed = seed + change as u64;
        ways.extend([
            Survivors::Without(change),
            Survivors::Only(change),
            Survivors::Before(change),
            Survivors::Torn { change, seed },
            Survivors::Holed { change, seed },
        ]);
    }
    ways.extend((0..4).map(|n| Survivors::Random { seed: seed.wrapping_mul(31) + n }));
    ways
}

/// Plays `acts`, then crashes at every moment that `wanted` picks; the first broken promise is the answer.
pub(crate) fn everywhere(
    acts: &[Act],
    seed: u64,
    wanted: impl Fn(usize) -> bool,
    depth: impl Fn(usize) -> Depth,
) -> Result<Count, String> {
    let run = Run::whole(acts, seed)?;
    let tape = run.disk.tape();
    let (_, story) = run.end();
    on(&tape, &story, seed, wanted, depth)
}

/// Crashes at every moment of `tape` that `wanted` picks.
pub(crate) fn on(
    tape: &Tape,
    story: &Story,
    seed: u64,
    wanted: impl Fn(usize) -> bool,
    depth: impl Fn(usize) -> Depth,
) -> Result<Count, String> {
    let states = story.states()?;
    let mut count = Count::default();
    for moment in tape.moments().filter(|moment| wanted(moment.after)) {
        let step = moment.after;
        let describe = |how: &dyn std::fmt::Debug, error: String| {
            let last = step.checked_sub(1).map(|last| tape.steps()[last].describe());
            format!("seed {seed}, after step {step} ({last:?}), {how:?}: {error}")
        };
        let case = |kill| Case { story, states: &states, step, kill, depth: depth(step) };
        for way in ways(&moment, seed + step as u64) {
            let judged = case(false).judge(&moment.crash(way), &mut count);
            judged.map_err(|error| describe(&way, error))?;
        }
        let killed = case(true).judge(&moment.kill(), &mut count);
        killed.map_err(|error| describe(&"killed", error))?;
    }
    Ok(count)
}

#[test]
fn the_recorded_script_survives_a_crash_at_every_step() {
    let depth = |step| match step % 10 {
        0 => Depth::Recoveries,
        1..=4 => Depth::GoOn,
        _ => Depth::Compare,
    };
    let wanted = |step| step % crate::stride(3) == 0;
    // Two seeds, for two sets of sizes.
    let [mut count, other] =
        [1, 6].map(|seed| everywhere(&script::recorded(), seed, wanted, depth).unwrap());
    count.images += other.images;
    count.second_crashes += other.second_crashes;
    assert!(count.images > 3_000 / crate::stride(5), "{count:?}");
    assert!(count.second_crashes > 5_000 / crate::stride(10), "{count:?}");
    #[expect(clippy::print_stdout, reason = "the figures are part of the proof")]
    {
        println!("crashes: {count:?}");
    }
}

#[test]
fn the_same_script_gives_the_same_bytes() {
    let acts = script::by_seed(5, 120);
    let [first, second] = [(); 2].map(|()| Run::whole(&acts, 5).unwrap());
    assert_eq!(first.disk.steps(), second.disk.steps());
    assert_eq!(first.disk.fingerprint(), second.disk.fingerprint());
    assert!(first.story.looks() > 5, "readers were answered on the way");
    assert_eq!(first.story.looks(), second.story.looks());
}
