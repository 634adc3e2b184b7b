//! Where attempts go: one place, or one of several.

use crate::{Ask, Balancer, Pick, Tried, Verdict};
use outrigger_kernel::{Mono, World};

/// Where the attempts of a call go. Each picks anew, so that a retry and a hedge go elsewhere.
pub trait Target: Sync {
    /// A place for one attempt, held while it is under way.
    type Place: Send;

    /// A place, if possible none of those tried; `None` if there is none at all.
    fn pick(&self, tried: &Tried, now: Mono, world: &dyn World) -> Option<Self::Place>;

    /// By what [`Tried`] knows the place. Of a place without a name nobody is told how long an attempt took.
    fn id(place: &Self::Place) -> Option<u64>;

    /// The attempt ended so.
    fn ended(place: Self::Place, verdict: Verdict, now: Mono);

    /// The attempt was dropped before it ended.
    fn cancelled(place: Self::Place, now: Mono);

    /// The attempt was dropped because a copy that was sent later was answered first.
    fn overtaken(place: Self::Place, now: Mono) {
        Self::cancelled(place, now);
    }
}

/// One place.
impl Target for () {
    type Place = ();

    fn pick(&self, _tried: &Tried, _now: Mono, _world: &dyn World) -> Option<()> {
        Some(())
    }

    fn id((): &()) -> Option<u64> {
        None
    }

    fn ended((): (), _verdict: Verdict, _now: Mono) {}

    fn cancelled((): (), _now: Mono) {}
}

/// The endpoints of a balancer, for a call that may belong to one of them.
#[derive(Debug)]
pub struct Balanced<'a, T> {
    /// The endpoints.
    pub balancer: &'a Balancer<T>,
    /// What a sticky call belongs to, as [`crate::sticky_key`] makes it.
    pub key: Option<u64>,
}

impl<T: Send + Sync> Target for Balanced<'_, T> {
    type Place = Pick<T>;

    fn pick(&self, tried: &Tried, now: Mono, world: &dyn World) -> Option<Pick<T>> {
        self.balancer.pick(Ask { tried: tried.ids(), key: self.key }, now, world.random()).ok()
    }

    fn id(place: &Pick<T>) -> Option<u64> {
        Some(place.id())
    }

    fn ended(place: Pick<T>, verdict: Verdict, now: Mono) {
        let _ = place.record(verdict, now);
    }

    fn cancelled(place: Pick<T>, now: Mono) {
        place.cancelled(now);
    }

    fn overtaken(place: Pick<T>, now: Mono) {
        place.overtaken(now);
    }
}
