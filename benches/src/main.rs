//! # Benches: one question each, side by side with a rival, in one run
//!
//! `cargo xtask bench [NAME..]` builds this and the binary in release mode and runs it. A figure is never compared across
//! runs or machines: every round measures us and the rival one after the other, rounds alternate, and what is reported
//! is the median of the rounds and, where there is a rival, the ratio within the run.
//!
//! ```text
//!   outrigger-benches --- load (blocking connections, closed or open loop) ---> outrigger | rival
//!                    \--- serve constant  (a child process: the app, or the bare server)
//! ```
//!
//! Servers run as processes of their own, pinned to nothing; the generator shares the machine with them, which costs
//! both sides the same. What limits a figure is said beside it.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the real clock and runs real threads"
)]
#![expect(clippy::print_stdout, reason = "a benchmark reports on its standard output")]

mod bare;
mod check;
mod etcd;
mod field;
mod inside;
mod load;
mod machine;
mod measure;
mod process;
mod report;
mod servers;
mod store;
mod swarm;
mod wire;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the binary's own world, of which a part is used")
)]
#[expect(unreachable_pub, reason = "public in the crate it is from")]
#[path = "../../crates/outrigger/src/world.rs"]
mod world;

use anyhow::{Context, Result, bail};
use report::Figure;

// The binary's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Measure = fn() -> Result<Vec<Figure>>;

const MEASURES: [(&str, Measure); 22] = [
    ("size", measure::size::run),
    ("start", measure::start::run),
    ("idle", measure::idle::run),
    ("reads", measure::reads::run),
    ("writes", measure::writes::run),
    ("invoke", measure::invoke::run),
    ("bodies", measure::bodies::run),
    ("delivery", measure::delivery::run),
    ("drain", measure::drain::run),
    ("commits", measure::commits::run),
    ("http", measure::http::run),
    ("tail", measure::tail::run),
    ("queue", measure::queue::run),
    ("clear", measure::clear::run),
    ("large", measure::large::run),
    ("share", measure::share::run),
    ("metastable", measure::metastable::run),
    ("overload", measure::overload::run),
    ("chain", measure::chain::run),
    ("replicas", measure::replicas::run),
    ("neighbour", measure::neighbour::run),
    ("herd", measure::herd::run),
];

/// What `resilience` stands for.
const RESILIENCE: [&str; 6] = ["metastable", "overload", "chain", "replicas", "neighbour", "herd"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => servers::serve(&arguments[1..]),
        Some("inside") => inside::run(&arguments[1..]),
        Some("ask") => measure::http::alone(&arguments[1..]),
        Some("load") => measure::commits::alone(&arguments[1..]),
        Some("--check") => check::run(),
        Some("--list") => {
            for (name, _) in MEASURES {
                println!("{name}");
            }
            Ok(())
        }
        _ => all(&arguments),
    }
}

fn all(names: &[String]) -> Result<()> {
    let each = |name: &String| match name.as_str() {
        "resilience" => RESILIENCE.map(ToOwned::to_owned).to_vec(),
        _ => vec![name.clone()],
    };
    let names: Vec<String> = names.iter().flat_map(each).collect();
    for name in &names {
        if !MEASURES.iter().any(|(known, _)| known == name) {
            bail!("there is no benchmark '{name}'; `--list` shows them");
        }
    }
    process::sweep()?;
    println!(
        "{}, load average {} before the first\n",
        machine::describe(),
        machine::load_average()
    );
    if process::part(1_000_000) != 1_000_000 {
        println!("only a part of `queue` and `large`: to try them out, not to measure\n");
    }
    report::heading();
    let mut failed = Vec::new();
    for (name, measure) in MEASURES {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        let begun = std::time::Instant::now();
        match measure().with_context(|| format!("benchmark {name}")) {
            Ok(figures) => figures.iter().for_each(report::line),
            Err(error) => {
                println!("| {name} | failed: {error:#} | | | |");
                failed.push(name);
            }
        }
        eprintln!(
            "{name}: {:.0} s, load average {}",
            begun.elapsed().as_secs_f64(),
            machine::load_average()
        );
    }
    if !failed.is_empty() {
        bail!("no figure for {}", failed.join(", "));
    }
    Ok(())
}
