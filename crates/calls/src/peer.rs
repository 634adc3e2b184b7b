//! The seam to other hosts: who makes the way to an app that another host's runtime has.
//!
//! ```text
//!   name resolution --Place--> PeerWays::way --> AppChannel --> the other host's runtime --> its app
//! ```
//!
//! Discovery knows where a runtime is that has the app; how it is spoken to, and how both prove who they are, is not its
//! business.

use crate::{AppChannel, CallError, discover::Place};
use outrigger_kernel::BoxFuture;
use std::{fmt, sync::Arc};

/// Makes the ways to apps that runtimes of other hosts have.
pub trait PeerWays: fmt::Debug + Send + Sync {
    /// The way to the app `app_id` of `namespace` by the runtime at `place`, whose [`Place::at`] is an address or a host
    /// with a port, never a channel.
    ///
    /// Asked once for a place; what it answers is kept for as long as the place is in the set, and is then dropped. Asked
    /// again, after a pause, where it failed. It may talk to the other runtime first, to learn what the app speaks, say:
    /// whoever asks does so beside the calls and gives up after a few seconds.
    ///
    /// # Errors
    /// Any; callers get to see the error when no place of the app has a way.
    fn way<'a>(
        &'a self,
        app_id: &'a str,
        namespace: &'a str,
        place: &'a Place,
    ) -> BoxFuture<'a, Result<Arc<AppChannel>, CallError>>;
}
