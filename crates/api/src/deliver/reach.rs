//! Patience with an app that is away.
//!
//! An app that restarts refuses connections for a moment. Were each refusal a failed attempt, a second of restart would
//! use up the retries of every message under way and fill the dead-letter topic. So an attempt of which the app has
//! certainly seen nothing is simply made again, within the same delivery, until the delivery's deadline is near. The
//! messages that wait like this fill the subscription's window, so nothing new is handed out meanwhile.
//!
//! It is not a retry: whatever the app may have seen is judged, and counts.

use super::outlet::Lane;
use outrigger_calls::CallError;
use outrigger_kernel::{Deadline, Kind};
use std::{future::Future, time::Duration};

/// The first pause before calling again.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Makes `attempt` until the app answers, may have seen something, the deadline is near, or the subscription leaves.
///
/// `unseen` tells of an error whether the app has certainly seen nothing.
pub(crate) async fn until_seen<T, E, F>(
    lane: &Lane,
    deadline: Deadline,
    mut attempt: impl FnMut() -> F,
    unseen: impl Fn(&E) -> bool,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut pause = PAUSE_FIRST;
    loop {
        let error = match attempt().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let world = lane.world();
        // What is left must be enough for the pause and an attempt: else the reason would be lost in a timeout.
        let soon = deadline.remaining(world.mono()) <= pause * 2;
        if soon || !unseen(&error) || lane.leaving.is_cancelled() {
            return Err(error);
        }
        tokio::select! {
            () = world.sleep(pause) => {}
            () = lane.leaving.cancelled() => return Err(error),
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Whether the app has seen nothing of the call, and calling again may help.
pub(crate) fn is_away(error: &CallError) -> bool {
    let passing = matches!(
        error.kind(),
        Kind::Unavailable | Kind::Exhausted | Kind::Timeout | Kind::NotConfigured
    );
    error.nothing_sent() && passing
}
