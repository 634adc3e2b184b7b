//! What a call waits for: the end of an attempt, or an instant.

use super::{Course, Running, Target};
use crate::{Refused, Seat, Waiter};
use outrigger_kernel::{BoxFuture, Mono, World};
use std::{
    future::{Future, poll_fn},
    task::{Context, Poll},
};

/// Which of the attempts under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The first or repeated one.
    First,
    /// Its companion.
    Second,
}

/// What happened.
pub(super) enum Event<O> {
    /// An attempt has ended; without an outcome it is out of time. When, if anybody asked for the time.
    Ended(Which, Option<O>, Option<Mono>),
    /// It is time for a companion.
    Hedge(Mono),
}

/// The one timer of a call.
#[derive(Default)]
pub(super) struct Alarm(Option<(Mono, BoxFuture<'static, ()>)>);

impl Alarm {
    /// Waits until `at`.
    pub(super) async fn until(&mut self, world: &dyn World, at: Mono) {
        poll_fn(|cx| self.poll(world, at, cx)).await;
    }

    /// Waits for a seat.
    pub(super) async fn seat(
        &mut self,
        world: &dyn World,
        mut waiter: Waiter,
    ) -> Result<Seat, Refused> {
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(seated) = waiter.poll_seat(world.mono(), cx.waker()) {
                    return Poll::Ready(seated);
                }
                if self.poll(world, waiter.until(), cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    fn poll(&mut self, world: &dyn World, at: Mono, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.as_ref().is_none_or(|(set, _)| *set != at) {
            self.0 = Some((at, world.sleep(at.since(world.mono()))));
        }
        let Some((_, sleep)) = &mut self.0 else { return Poll::Pending };
        let rung = sleep.as_mut().poll(cx);
        if rung.is_ready() {
            self.0 = None;
        }
        rung
    }
}

/// Waits for what happens next.
pub(super) async fn next<T: Target, O, Fut: Future<Output = O>>(
    course: &mut Course<'_, T>,
    running: &mut Running<'_, '_, T, O, Fut>,
) -> Event<O> {
    let world = course.stack.world;
    loop {
        let first = running.first.is_some().then(|| running.first_held.deadline());
        let second = running.second.as_ref().map(|(_, held)| held.deadline());
        let hedge = course.attempts.wake_at();
        // The end of all time needs no timer.
        let at = [first, second, hedge].into_iter().flatten().min().filter(|at| at.0 < u64::MAX);
        let alarm = &mut course.alarm;
        let ended = poll_fn(|cx| {
            if let Some(future) = running.first.as_mut().as_pin_mut()
                && let Poll::Ready(outcome) = future.poll(cx)
            {
                return Poll::Ready(Some((Which::First, outcome)));
            }
            if let Some((future, _)) = &mut running.second
                && let Poll::Ready(outcome) = future.as_mut().poll(cx)
            {
                return Poll::Ready(Some((Which::Second, outcome)));
            }
            match at {
                Some(at) => alarm.poll(world, at, cx).map(|()| None),
                None => Poll::Pending,
            }
        });
        if let Some((which, outcome)) = ended.await {
            return Event::Ended(which, Some(outcome), None);
        }
        let now = world.mono();
        // A timer that rings a little early has rung all the same.
        let now = at.map_or(now, |at| now.max(at));
        if first.is_some_and(|first| now >= first) {
            return Event::Ended(Which::First, None, Some(now));
        }
        if second.is_some_and(|second| now >= second) {
            return Event::Ended(Which::Second, None, Some(now));
        }
        if course.attempts.hedge_due(now) {
            return Event::Hedge(now);
        }
    }
}
