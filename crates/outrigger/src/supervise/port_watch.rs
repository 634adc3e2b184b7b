//! When is an app ready, and on which port? Known ports are tried until they take a connection; unknown ones are found
//! by looking which ports the app's processes listen on.

use crate::procfs::{self, Glimpse};
use outrigger_kernel::{Mono, World};
use std::time::Duration;
use tokio::net::TcpStream;

/// How often to look: often at first, because "ready" is what a person waits for, and ever more seldom, because an app
/// that has not begun to listen by now may never do so.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// After this time looking costs next to nothing.
const EARLY: Duration = Duration::from_secs(30);
const PAUSE_LATE: Duration = Duration::from_secs(10);
/// Pauses from this length on are shared.
const PAUSE_SHARED: Duration = Duration::from_millis(500);

/// How often a look from afar may take the place of a close one, and how often nothing must have changed before.
const AFAR_MAX: u32 = 4;
const CALM_MIN: u32 = 2;

/// What an app looked like so far.
#[derive(Default)]
struct Looks {
    glimpse: Option<Glimpse>,
    /// How many glimpses were the same.
    calm: u32,
    afar: u32,
}

impl Looks {
    /// Whether to look closely now. Who opens a socket listens on it a moment later, so not only when something changes.
    fn closely(&mut self, root: i32) -> bool {
        let glimpse = procfs::glimpse(root);
        let same = glimpse.is_some() && glimpse == self.glimpse;
        self.calm = if same { self.calm.saturating_add(1) } else { 0 };
        self.glimpse = glimpse;
        self.afar = if self.calm <= CALM_MIN || self.afar >= AFAR_MAX { 0 } else { self.afar + 1 };
        self.afar == 0
    }
}

/// How long to sleep for a look about `pause` from now. Long pauses end at the same instants for all apps, so that ten that
/// never listen wake the process once, not ten times.
fn until_next_look(now: Mono, pause: Duration) -> Duration {
    let beat = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
    if pause < PAUSE_SHARED {
        return pause;
    }
    let wished = now.0.saturating_add(beat / 2);
    wished.checked_next_multiple_of(beat).map_or(pause, |at| Duration::from_nanos(at - now.0))
}

/// Which port to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppPort {
    /// This one, at this host.
    Known {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// Whichever the process or one of its descendants starts to listen on.
    Found {
        /// The process.
        root: i32,
        /// Ports that are not it, such as a debugger's.
        except: Vec<u16>,
    },
}

/// Waits until the app takes connections; answers the port. Never ends by itself: whoever waits races it with the end of
/// the app.
pub async fn wait_for_port(wanted: &AppPort, world: &dyn World) -> u16 {
    let (began, mut pause) = (world.mono(), PAUSE_MIN);
    let mut looks = Looks::default();
    loop {
        match wanted {
            AppPort::Known { host, port } => {
                if TcpStream::connect((host.as_str(), *port)).await.is_ok() {
                    return *port;
                }
            }
            AppPort::Found { root, except } if pause > PAUSE_MAX || looks.closely(*root) => {
                let ports = procfs::family_ports(*root);
                if let Some(port) = ports.into_iter().find(|port| !except.contains(port)) {
                    return port;
                }
            }
            AppPort::Found { .. } => {}
        }
        world.sleep(until_next_look(world.mono(), pause)).await;
        let longest = match wanted {
            // A port that somebody named will be listened on; knocking at it is cheap.
            AppPort::Known { .. } => PAUSE_MAX / 2,
            AppPort::Found { .. } if world.mono().since(began) < EARLY => PAUSE_MAX,
            AppPort::Found { .. } => PAUSE_LATE,
        };
        pause = (pause * 3 / 2).min(longest);
    }
}

#[cfg(test)]
mod tests {
    use super::until_next_look;
    use outrigger_kernel::Mono;
    use std::time::Duration;

    #[test]
    fn long_pauses_end_together() {
        let second = Duration::from_secs(1);
        for at_ms in [0, 1, 499, 500, 501, 999, 1_000, 12_345] {
            let now = Mono(at_ms * 1_000_000);
            let pause = until_next_look(now, second);
            assert!((second / 2..second * 3 / 2).contains(&pause), "{at_ms}: {pause:?}");
            assert_eq!((now.0 + u64::try_from(pause.as_nanos()).unwrap()) % 1_000_000_000, 0);
            let short = Duration::from_millis(10);
            assert_eq!(until_next_look(now, short), short);
        }
    }
}
