//! Asking an app which topics it wants.
//!
//! The app may not listen yet, listen but not answer yet, or answer errors while it starts. Each has its own patience:
//!
//! | what happens | what follows |
//! |---|---|
//! | nobody listens, no answer in time | asked again for as long as it takes |
//! | a server error, "too many requests" | asked again up to 10 times, then no answer, with an error |
//! | 404, 405, `UNIMPLEMENTED` | the app wants nothing |
//! | any other refusal, an answer that cannot be read | no answer, with an error that says what was wrong |
//!
//! No answer leaves what the app said before; where it has said nothing yet, that is nothing.
//!
//! One entry that makes no sense never hides the others.

mod grpc;
mod http;
mod listing;

use super::subscription::Subscription;
use outrigger_calls::AppChannel;
use outrigger_kernel::{Deadline, World};
use outrigger_resilience::Backoff;
use std::{sync::Arc, time::Duration};

/// Most subscriptions an app can ask for.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 1_000;
/// How often an app that answers errors is asked.
const TROUBLES_MAX: u32 = 10;
/// How long one answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How often to look whether somebody listens.
const KNOCK_EVERY: Duration = Duration::from_millis(100);
/// The first pause between questions.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How asking once ended.
pub(crate) enum Asked {
    /// The app said what it wants; perhaps nothing.
    Wants(Vec<Subscription>),
    /// It is not there yet.
    Away(String),
    /// It is there, but not well.
    Troubled(String),
    /// It answered, and asking again would change nothing.
    Refused(String),
}

/// Waits until the app listens.
pub(crate) async fn listening(channel: &AppChannel) {
    channel.wait_until_open(KNOCK_EVERY).await;
}

/// Asks until there is an answer; `None` when there is none that says anything.
pub(crate) async fn ask(channel: &Arc<AppChannel>, world: &dyn World) -> Option<Vec<Subscription>> {
    let pauses = Backoff::exponential(PAUSE_FIRST, PAUSE_MAX);
    let (mut round, mut troubles) = (0_u32, 0);
    loop {
        let deadline = Deadline::after(world, ANSWER_WAIT);
        let asked = if channel.target().protocol.is_grpc() {
            grpc::ask(channel, deadline, world).await
        } else {
            http::ask(channel, deadline, world).await
        };
        match asked {
            Asked::Wants(list) => {
                tracing::info!(topics = list.len(), "the app was asked for its subscriptions");
                return Some(list);
            }
            Asked::Refused(reason) => {
                tracing::error!(%reason, "the app did not say what it subscribes to");
                return None;
            }
            Asked::Troubled(reason) if troubles >= TROUBLES_MAX => {
                tracing::error!(%reason, "the app did not say what it subscribes to");
                return None;
            }
            Asked::Troubled(reason) => {
                troubles += 1;
                tracing::warn!(%reason, "the app could not say what it subscribes to; it is asked again");
            }
            Asked::Away(reason) => tracing::debug!(%reason, "the app does not answer yet"),
        }
        round = round.saturating_add(1);
        world.sleep(pauses.delay(round, world.random())).await;
    }
}
