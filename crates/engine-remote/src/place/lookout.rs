//! Notices that a name in a folder is gone, without looking again and again: the kernel tells.
//!
//! Where it does not (another system, no watches left, a file system without), somebody looks every now and then. That is
//! no promise to anybody: whoever does not find a socket tries again, for longer than that.

use super::Place;
use outrigger_kernel::World;
use std::time::Duration;

/// How often to look where nobody tells; well within the patience of those who look for the socket.
const LOOK: Duration = Duration::from_secs(2);

impl Place {
    /// Waits until one of `places` has lost its name, because somebody removed it or moved it away. Answers at once where a
    /// name is not there.
    pub async fn lost(places: &[&Self], world: &dyn World) {
        let mut told = told::Told::of(places);
        // Only now: what happens after this look is told.
        while places.iter().all(|place| place.stands()) {
            told = match told {
                // Anew, because the folder may be another one by now.
                Some(ears) if ears.heard().await => told::Told::of(places),
                _ => {
                    world.sleep(LOOK).await;
                    None
                }
            };
        }
    }

    /// A pause before the next attempt at what the folder does not allow.
    pub(crate) async fn pause(world: &dyn World) {
        world.sleep(LOOK).await;
    }
}

#[cfg(target_os = "linux")]
mod told {
    use super::super::Place;
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    use std::os::fd::OwnedFd;
    use tokio::net::unix::pipe::Receiver;

    /// What the kernel tells of the folders of some names. It is read like a pipe.
    pub(super) struct Told(Receiver);

    impl Told {
        pub(super) fn of(places: &[&Place]) -> Option<Self> {
            let ears = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
            let gone = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM;
            let folder_gone = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
            for place in places {
                ears.add_watch(&place.folder, gone | folder_gone).ok()?;
            }
            Some(Self(Receiver::from_owned_fd_unchecked(OwnedFd::from(ears)).ok()?))
        }

        /// Waits until something is told; what, is for the caller to look at. Whether this works.
        pub(super) async fn heard(&self) -> bool {
            self.0.readable().await.is_ok()
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod told {
    use super::super::Place;

    /// Nobody tells.
    pub(super) struct Told;

    impl Told {
        pub(super) fn of(_places: &[&Place]) -> Option<Self> {
            None
        }

        pub(super) async fn heard(&self) -> bool {
            false
        }
    }
}
