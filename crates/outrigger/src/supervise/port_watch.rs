//! When is an app ready, and on which port? Known ports are tried until they take a connection; unknown ones are found
//! by looking which ports the app's processes listen on.

use crate::procfs;
use outrigger_kernel::World;
use std::time::Duration;
use tokio::net::TcpStream;

/// How often to look. Short, because "ready" is what a person waits for; cheap, because it ends.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(200);

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
    /// Whichever the process group starts to listen on.
    Found {
        /// The group.
        group: i32,
        /// Ports that are not it, such as a debugger's.
        except: Vec<u16>,
    },
}

/// Waits until the app takes connections; answers the port. Never ends by itself: whoever waits races it with the end of
/// the app.
pub async fn wait_for_port(wanted: &AppPort, world: &dyn World) -> u16 {
    let mut pause = PAUSE_MIN;
    loop {
        match wanted {
            AppPort::Known { host, port } => {
                if TcpStream::connect((host.as_str(), *port)).await.is_ok() {
                    return *port;
                }
            }
            AppPort::Found { group, except } => {
                let ports = procfs::group_ports(*group);
                if let Some(port) = ports.into_iter().find(|port| !except.contains(port)) {
                    return port;
                }
            }
        }
        world.sleep(pause).await;
        pause = (pause * 3 / 2).min(PAUSE_MAX);
    }
}
