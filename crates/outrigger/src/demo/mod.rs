//! `outrigger demo`: an order system that is shot at while it works, and an audit that counts the losses.
//!
//! Five small services ([`services`]) run under a runtime of their own, started as a child process ([`runtime`]) so that
//! it can be killed with `kill -9` like anything else. Orders come at a steady rate ([`load`]); a screen shows what
//! happens ([`screen`]); at the end every order that was accepted is looked up and every cent is counted ([`audit`]).
//!
//! The services know nothing of Outrigger but its HTTP API. What the demo proves is therefore what a user gets.

mod audit;
mod load;
mod runtime;
mod screen;
mod services;
mod web;

use crate::session::signals::Signals;
use anyhow::{Context, Result, anyhow};
use audit::Verdict;
use load::Load;
use outrigger_kernel::{Mono, World};
use runtime::Runtime;
use screen::{Key, Screen};
use std::{process::ExitCode, sync::Arc, time::Duration};
use tokio::sync::Notify;

/// What every item has in stock before the first order.
pub(crate) const STOCK_AT_START: i64 = 1_000_000;
/// What can be ordered.
const ITEMS: [&str; 5] = ["anchor", "paddle", "rope", "sail", "tiller"];
/// How many ledger accounts the charges are spread over.
const ACCOUNTS: u64 = 8;
/// How long orders under way may take to finish once no more are sent.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// Chaos strikes once in this time.
const CHAOS_EVERY: Duration = Duration::from_secs(4);

/// What `outrigger demo` can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Orders per second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub rate: u32,
    /// How many seconds orders are sent, before the audit.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Kill a service or the runtime every few seconds, without being asked.
    #[arg(long)]
    pub chaos: bool,
    /// Keep the demo's folder (state, logs) and say where it is.
    #[arg(long)]
    pub keep: bool,
}

/// The ledger account that an order is booked on.
pub(crate) fn ledger_key(order_id: &str) -> String {
    // FNV-1a: any spread will do, as long as it is the same in every process.
    let hash = order_id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("ledger-{}", hash % ACCOUNTS)
}

/// Runs one of the demo's services until the process is killed.
///
/// # Errors
/// When there is no such service or the runtime's environment is missing.
pub async fn service(name: &str, world: Arc<dyn World>) -> Result<()> {
    services::run(name, world).await
}

/// Runs the demo: exit code 0 when the audit finds nothing wrong, 1 when it does. Asked to end, it audits what it has; asked
/// twice, it ends at once.
///
/// # Errors
/// When the runtime cannot be started, or the audit not be finished.
pub async fn run(args: DemoArgs, world: Arc<dyn World>) -> Result<ExitCode> {
    let mut signals = Signals::install().map_err(|failure| anyhow!("{failure}"))?;
    let mut runtime = tokio::select! {
        started = Runtime::start(world.clone()) => started?,
        asked = signals.end() => return Ok(asked.exit().into()),
    };
    let mut screen = Screen::new(&args, runtime.folder());
    let asked = Notify::new();
    let verdict = {
        let play = play(&args, &mut runtime, &mut screen, &asked, &world);
        let asked_twice = async {
            signals.end().await;
            asked.notify_one();
            signals.end().await
        };
        tokio::select! {
            verdict = play => Ok(verdict),
            asked = asked_twice => Err(asked),
        }
    };
    screen.end();
    let verdict = match verdict {
        Ok(verdict) => verdict,
        Err(asked) => {
            runtime.kill().await;
            runtime.remove_folder(args.keep);
            return Ok(asked.exit().into());
        }
    };
    runtime.stop().await;
    runtime.remove_folder(args.keep || !verdict.as_ref().is_ok_and(Verdict::clean));
    let verdict = verdict?;
    verdict.print();
    Ok(if verdict.clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// From the first order to the verdict.
async fn play(
    args: &DemoArgs,
    runtime: &mut Runtime,
    screen: &mut Screen,
    asked: &Notify,
    world: &Arc<dyn World>,
) -> Result<Verdict> {
    screen.note("five services are up: gateway, orders, inventory, payments, shipping");
    let load = Load::start(runtime.gateway_port(), args.rate, world.clone());
    let end = world.mono().plus(Duration::from_secs(args.seconds));
    let mut strike_at = world.mono().plus(CHAOS_EVERY);
    while world.mono() < end {
        screen.show(&load.figures(), end.since(world.mono()));
        let key = tokio::select! {
            key = screen.key_within(&**world, Duration::from_millis(250)) => key,
            () = asked.notified() => Some(Key::Quit),
        };
        let strike = if key.is_none() && args.chaos && world.mono() >= strike_at {
            strike_at = world.mono().plus(CHAOS_EVERY);
            Some(if world.random().is_multiple_of(3) { Key::KillRuntime } else { Key::KillService })
        } else {
            key
        };
        match strike {
            Some(Key::KillService) => screen.note(&runtime.kill_a_service(&**world)),
            Some(Key::KillRuntime) => {
                screen.note("runtime killed with SIGKILL, and all services with it");
                let down_since = world.mono();
                runtime.kill_and_restart().await.context("the runtime did not come back")?;
                let down = world.mono().since(down_since);
                screen.note(&format!("runtime and services are back after {down:.1?}"));
            }
            Some(Key::Quit) => break,
            None => {}
        }
    }
    load.stop();
    screen.note("no more orders; those under way are finishing");
    settle(&load, screen, &**world, world.mono().plus(SETTLE_MAX)).await;
    screen.show(&load.figures(), Duration::ZERO);
    let sidecar = web::Sidecar::new(runtime.gateway_port(), world.clone());
    audit::run(&load, &sidecar).await.context("the audit could not be finished")
}

/// Waits until every accepted order is shipped, or until `limit`.
async fn settle(load: &Load, screen: &mut Screen, world: &dyn World, limit: Mono) {
    while world.mono() < limit && !load.settled() {
        screen.show(&load.figures(), Duration::ZERO);
        world.sleep(Duration::from_millis(200)).await;
    }
}
