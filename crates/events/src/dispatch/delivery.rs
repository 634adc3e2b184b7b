//! One delivery: a task that hands a batch to a consumer and brings back how it ended, whatever happens.

use super::inbox::{End, Inbox, Outcome};
use super::seat::Seat;
use crate::message::Delivery;
use futures_util::FutureExt;
use outrigger_kernel::{Deadline, TaskHandle, World, within};
use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

/// Starts delivery number `delivery` of `batch` to the consumer of `seat`. Exactly one outcome reaches `inbox`, even when
/// the task is stopped before it ran.
pub(crate) fn start(
    world: &Arc<dyn World>,
    inbox: &Arc<Inbox>,
    seat: &Arc<Seat>,
    delivery: u64,
    deadline: Deadline,
    batch: Vec<Delivery>,
) -> TaskHandle {
    let mut answer = Answer { inbox: Arc::clone(inbox), delivery, end: End::Cut };
    let (seat, clock) = (Arc::clone(seat), Arc::clone(world));
    let task = async move {
        // Inside the block, so that a consumer that panics before it returns a future is caught as well.
        let work = AssertUnwindSafe(async { seat.consumer.deliver(batch).await }).catch_unwind();
        answer.set(match within(&*clock, deadline, work).await {
            Ok(Ok(verdicts)) => End::Judged(verdicts),
            Ok(Err(panic)) => End::Failed(format!("the consumer panicked: {}", said(&*panic))),
            Err(_) => End::Failed(format!("no verdict within {:?}", seat.delivery_timeout)),
        });
    };
    world.spawn("events delivery", Box::pin(task))
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("something that is no text")
}

/// Sends the outcome when dropped, so that no way out of the task can forget it.
struct Answer {
    inbox: Arc<Inbox>,
    delivery: u64,
    end: End,
}

impl Answer {
    fn set(&mut self, end: End) {
        self.end = end;
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let end = std::mem::replace(&mut self.end, End::Cut);
        self.inbox.outcome(Outcome { delivery: self.delivery, end });
    }
}
