//! Handing events over: what is the same whichever [`Way`] they go.
//!
//! ```text
//!   delivery --open--> event --write--> letter --hand--> verdict     each traced, counted, and done in time
//!   batch --sort by path--> portions ----hand_all----> verdicts
//! ```

use super::{
    outlet::{Lane, Span, TOO_LATE},
    portion,
    reading::Event,
};
use outrigger_events::{Delivery, Verdict};
use outrigger_kernel::Deadline;
use std::future::Future;

/// A way to an app.
pub(super) trait Way: Send + Sync {
    /// An event in the shape that goes this way.
    type Letter: Send;

    /// Whose events they are.
    fn lane(&self) -> &Lane;

    /// Whether they go several at a time.
    fn bulk(&self) -> bool {
        false
    }

    /// Puts an event into its shape. The error says why it has none, which no other attempt will change.
    fn write(&self, event: &Event) -> Result<Self::Letter, String>;

    /// Hands an event to the app, which has until `due` to judge it.
    fn hand(
        &self,
        event: &Event,
        letter: Self::Letter,
        span: &Span,
        due: Deadline,
    ) -> impl Future<Output = Verdict> + Send;

    /// Hands several events to one path: a verdict for each, in their order. Only asked of ways that go in bulk.
    fn hand_all(
        &self,
        _path: &str,
        _events: &[Event],
        _span: &Span,
        _due: Deadline,
    ) -> impl Future<Output = Vec<Verdict>> + Send {
        std::future::ready(Vec::new())
    }
}

/// Delivers a batch by `way`: a verdict for each, in their order.
pub(super) async fn deliver<W: Way>(way: &W, batch: Vec<Delivery>) -> Vec<Verdict> {
    if !way.bulk() {
        let mut verdicts = Vec::with_capacity(batch.len());
        for delivery in batch {
            verdicts.push(one(way, delivery).await);
        }
        return verdicts;
    }
    let mut portions = portion::sort(way.lane(), batch);
    while let Some((path, events)) = portions.next() {
        portions.judge(several(way, &path, &events).await);
    }
    portions.finish()
}

async fn one<W: Way>(way: &W, delivery: Delivery) -> Verdict {
    let lane = way.lane();
    let opened = lane.open(delivery).and_then(|event| {
        let letter = way.write(&event).map_err(Verdict::drop)?;
        Ok((event, letter))
    });
    let (event, letter) = match opened {
        Ok(opened) => opened,
        Err(verdict) => {
            lane.refuse();
            return verdict;
        }
    };
    let due = lane.due(event.delivery.deadline);
    let leave = match lane.admit(due).await {
        Ok(leave) => leave,
        Err(open) => return Verdict::retry(open.to_string()),
    };
    let span = lane.begin(&event);
    let handing = way.hand(&event, letter, &span, due);
    let verdict = lane.in_time(due, handing).await.unwrap_or_else(|| Verdict::retry(TOO_LATE));
    lane.settle(leave, std::slice::from_ref(&verdict));
    lane.end(span, &verdict);
    verdict
}

async fn several<W: Way>(way: &W, path: &str, events: &[Event]) -> Vec<Verdict> {
    let Some(deadline) = portion::deadline(events) else { return Vec::new() };
    let lane = way.lane();
    let due = lane.due(deadline);
    let leave = match lane.admit(due).await {
        Ok(leave) => leave,
        Err(open) => return vec![Verdict::retry(open.to_string()); events.len()],
    };
    let span = lane.begin_bulk(events);
    let handing = way.hand_all(path, events, &span, due);
    let judged = lane.in_time(due, handing).await;
    let verdicts = judged.unwrap_or_else(|| vec![Verdict::retry(TOO_LATE); events.len()]);
    lane.settle(leave, &verdicts);
    lane.end_bulk(span, &verdicts);
    verdicts
}
