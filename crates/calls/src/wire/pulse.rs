//! Whether the other end of an HTTP/2 connection is still there.
//!
//! ```text
//!   calls under way, nothing heard for `after` --PING--> answered: all is well, asked again after `again`
//!                                                 |
//!                                                 +----- no answer within `within`: the connection is given up
//! ```
//!
//! A machine that loses its power, or a network that is cut, says nothing: a connection to it stays open for as long as
//! nobody writes, and for many minutes if somebody does. A process that is stuck even has a kernel that goes on answering
//! for it. So, while calls are under way and only then, whoever is silent is asked. Calls on a connection that is given up
//! end at once, and the next ones go elsewhere.

use super::io::Meter;
use h2::{Ping, PingPong};
use outrigger_kernel::{Deadline, World, within};
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// How a silent connection is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PulseSettings {
    /// After how much silence, while calls are under way.
    pub(crate) after: Duration,
    /// How long the answer may take.
    pub(crate) within: Duration,
    /// After how much silence the next time, when it answered.
    pub(crate) again: Duration,
}

impl PulseSettings {
    /// For runtimes of other hosts: ten seconds at most until one that has vanished is noticed.
    pub(crate) const PEER: Self = Self {
        after: Duration::from_secs(5),
        within: Duration::from_secs(5),
        again: Duration::from_secs(5),
    };
    /// For anybody else. Servers of gRPC hang up on those who ask more often than every five minutes.
    pub(crate) const OUTSIDE: Self = Self {
        after: Duration::from_secs(10),
        within: Duration::from_secs(10),
        again: Duration::from_secs(310),
    };
}

/// What a connection shows of itself to whoever feels its pulse.
#[derive(Debug)]
pub(super) struct Signs {
    pub(super) streams: AtomicUsize,
    pub(super) meter: Arc<Meter>,
    /// Rung when the first of several calls begins.
    pub(super) busy: Notify,
}

/// Returns when the other side does not answer any more.
pub(super) async fn until_dead(
    signs: &Signs,
    mut pings: PingPong,
    settings: PulseSettings,
    world: &dyn World,
) {
    let mut wait = settings.after;
    loop {
        if signs.streams.load(Ordering::Acquire) == 0 {
            let idle = world.mono();
            signs.busy.notified().await;
            // After a long rest nobody knows; the call that ends the rest should not be the one to find out.
            let rested = world.mono().since(idle) >= settings.after;
            wait = if rested { Duration::ZERO } else { settings.after };
        }
        let heard = signs.meter.read();
        world.sleep(wait).await;
        if signs.meter.read() != heard {
            wait = settings.after;
            continue;
        }
        if signs.streams.load(Ordering::Acquire) == 0 {
            continue;
        }
        match ask(signs, &mut pings, settings.within, world).await {
            Ok(true) => wait = settings.again,
            Ok(false) => return,
            // The connection has ended, and says so itself.
            Err(_) => return std::future::pending().await,
        }
    }
}

/// Whether there is an answer. One that is slow because so much else comes is not missed.
async fn ask(
    signs: &Signs,
    pings: &mut PingPong,
    limit: Duration,
    world: &dyn World,
) -> Result<bool, h2::Error> {
    let mut asked = pin!(pings.ping(Ping::opaque()));
    loop {
        let heard = signs.meter.read();
        match within(world, Deadline::after(world, limit), asked.as_mut()).await {
            Ok(answered) => return answered.map(|_| true),
            Err(_) if signs.meter.read() == heard => return Ok(false),
            Err(_) => {}
        }
    }
}
