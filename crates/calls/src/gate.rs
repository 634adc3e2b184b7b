//! So many at a time, so many waiting, the rest are told at once.

use crate::{CallError, Patience, Phase};
use outrigger_kernel::{World, within};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lets a bounded number of calls in and a bounded number wait, first come, first served.
#[derive(Debug)]
pub(crate) struct Gate {
    limit: usize,
    queue: usize,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// One call's place; dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct Turn {
    _place: OwnedSemaphorePermit,
}

/// Counts a call among the waiting for as long as it waits, however it stops.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    pub(crate) fn new(limit: u32, queue: u32) -> Self {
        let limit = usize::try_from(limit.max(1)).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self {
            limit,
            queue: usize::try_from(queue).unwrap_or(usize::MAX),
            places: Arc::new(Semaphore::new(limit)),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Waits for a place, at most until the call's patience ends.
    pub(crate) async fn enter(
        &self,
        world: &dyn World,
        patience: Patience,
        target: &str,
    ) -> Result<Turn, CallError> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(Turn { _place: place });
        }
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if waiting >= self.queue {
            let target = target.to_owned();
            return Err(CallError::Overloaded { target, limit: self.limit, waiting });
        }
        let out_of_time =
            || CallError::Timeout { target: target.to_owned(), waiting_for: Phase::Turn };
        let entering = Arc::clone(&self.places).acquire_owned();
        let entered = match patience.ends(world) {
            Some(deadline) => within(world, deadline, entering).await.map_err(|_| out_of_time())?,
            None => entering.await,
        };
        // The semaphore is never closed; if it were, nobody would ever get in.
        entered.map(|place| Turn { _place: place }).map_err(|_| out_of_time())
    }

    /// How many are inside.
    pub(crate) fn inside(&self) -> usize {
        self.limit - self.places.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::Gate;
    use crate::{CallError, Patience, Phase};
    use outrigger_kernel::Deadline;
    use outrigger_sim::SimWorld;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_in_length_and_time() {
        let world = SimWorld::new(1);
        let gate = Gate::new(1, 1);
        let patience = Patience::until(Deadline::after(&*world, Duration::from_millis(50)));
        let first = gate.enter(&*world, patience, "app").await.unwrap();
        assert_eq!(gate.inside(), 1);

        let (second, third) = tokio::join!(
            gate.enter(&*world, patience, "app"),
            gate.enter(&*world, patience, "app"),
        );
        let waiting_for = Phase::Turn;
        assert!(
            matches!(second, Err(CallError::Timeout { waiting_for: w, .. }) if w == waiting_for)
        );
        assert!(matches!(third, Err(CallError::Overloaded { limit: 1, waiting: 1, .. })));

        let silent = Patience::moving(Duration::from_secs(1));
        let (second, ()) = tokio::join!(gate.enter(&*world, silent, "app"), async { drop(first) });
        drop(second.unwrap());
        assert_eq!(gate.inside(), 0);
    }
}
