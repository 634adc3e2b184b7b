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

use anyhow::{Result, bail};
use load::Load;
use outrigger_kernel::{Mono, World};
use runtime::Runtime;
use screen::{Key, Screen};
use std::{process::ExitCode, sync::Arc, time::Duration};

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

/// Runs the demo: exit code 0 when the audit finds nothing wrong, 1 when it does.
///
/// # Errors
/// When the runtime cannot be started.
pub async fn run(args: DemoArgs, world: Arc<dyn World>) -> Result<ExitCode> {
    let mut runtime = Runtime::start(world.clone()).await?;
    let mut screen = Screen::new(&args, runtime.folder());
    screen.note("five services are up: gateway, orders, inventory, payments, shipping");
    let load = Load::start(runtime.gateway_port(), args.rate, world.clone());
    let end = world.mono().plus(Duration::from_secs(args.seconds));
    let mut strike_at = world.mono().plus(CHAOS_EVERY);

    while world.mono() < end {
        screen.show(&load.figures(), end.since(world.mono()));
        let key = screen.key_within(&*world, Duration::from_millis(250)).await;
        let strike = if args.chaos && world.mono() >= strike_at {
            strike_at = world.mono().plus(CHAOS_EVERY);
            Some(if world.random().is_multiple_of(3) { Key::KillRuntime } else { Key::KillService })
        } else {
            key
        };
        match strike {
            Some(Key::KillService) => screen.note(&runtime.kill_a_service(&*world)),
            Some(Key::KillRuntime) => {
                screen.note("runtime killed with SIGKILL, and all services with it");
                let down_since = world.mono();
                runtime.kill_and_restart().await?;
                let down = world.mono().since(down_since);
                screen.note(&format!("runtime and services are back after {down:.1?}"));
            }
            Some(Key::Quit) => break,
            None => {}
        }
    }

    load.stop();
    screen.note("no more orders; those under way are finishing");
    settle(&load, &mut screen, &*world, world.mono().plus(SETTLE_MAX)).await;
    screen.show(&load.figures(), Duration::ZERO);
    let verdict =
        audit::run(&load, &web::Sidecar::new(runtime.gateway_port(), world.clone())).await;
    screen.end();
    runtime.stop().await;
    let keep = args.keep || verdict.as_ref().is_ok_and(|v| !v.clean());
    runtime.remove_folder(keep);
    match verdict {
        Ok(verdict) => {
            verdict.print();
            Ok(if verdict.clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) => bail!("the audit could not be finished: {error:#}"),
    }
}

/// Waits until every accepted order is shipped, or until `limit`.
async fn settle(load: &Load, screen: &mut Screen, world: &dyn World, limit: Mono) {
    while world.mono() < limit && !load.settled() {
        screen.show(&load.figures(), Duration::ZERO);
        world.sleep(Duration::from_millis(200)).await;
    }
}
