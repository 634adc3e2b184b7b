//! When is an app ready, and on which port? Known ports are tried until they take a connection; unknown ones are found
//! by looking which ports the app's processes listen on.

use crate::procfs;
use outrigger_kernel::World;
use std::time::Duration;
use tokio::net::TcpStream;

/// How often to look: often at first, because "ready" is what a person waits for, and ever more seldom, because an app
/// that has not begun to listen by now may never do so.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// After this time looking costs next to nothing.
const EARLY: Duration = Duration::from_secs(30);
const PAUSE_LATE: Duration = Duration::from_secs(10);

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
    loop {
        match wanted {
            AppPort::Known { host, port } => {
                if TcpStream::connect((host.as_str(), *port)).await.is_ok() {
                    return *port;
                }
            }
            AppPort::Found { root, except } => {
                let ports = procfs::family_ports(*root);
                if let Some(port) = ports.into_iter().find(|port| !except.contains(port)) {
                    return port;
                }
            }
        }
        world.sleep(pause).await;
        let longest = match wanted {
            // A port that somebody named will be listened on; knocking at it is cheap.
            AppPort::Known { .. } => PAUSE_MAX / 2,
            AppPort::Found { .. } if world.mono().since(began) < EARLY => PAUSE_MAX,
            AppPort::Found { .. } => PAUSE_LATE,
        };
        pause = (pause * 3 / 2).min(longest);
    }
}
