//! Bulk deliveries: a batch of messages, sorted by the path they go to, one request per path.

use super::{outlet::Lane, reading::Event};
use outrigger_events::{Delivery, Verdict};
use outrigger_kernel::Deadline;
use std::collections::BTreeMap;

/// A batch, portion by portion, and the verdicts so far.
pub(crate) struct Portions {
    verdicts: Vec<Option<Verdict>>,
    waiting: BTreeMap<String, Portion>,
    /// Where the messages of the portion that was handed out last stand in the batch.
    places: Vec<usize>,
}

#[derive(Default)]
struct Portion {
    places: Vec<usize>,
    events: Vec<Event>,
}

/// Opens a batch; what is no event is judged at once.
pub(crate) fn sort(lane: &Lane, batch: Vec<Delivery>) -> Portions {
    let mut portions = Portions {
        verdicts: vec![None; batch.len()],
        waiting: BTreeMap::new(),
        places: Vec::new(),
    };
    for (place, delivery) in batch.into_iter().enumerate() {
        match lane.open(delivery) {
            Ok(event) => {
                let portion = portions.waiting.entry(event.path.clone()).or_default();
                portion.places.push(place);
                portion.events.push(event);
            }
            Err(verdict) => {
                lane.refuse();
                portions.set(place, verdict);
            }
        }
    }
    portions
}

impl Portions {
    /// The path and the events of the next portion. Portions go one after the other, as an app with one path sees them.
    pub(crate) fn next(&mut self) -> Option<(String, Vec<Event>)> {
        let (path, portion) = self.waiting.pop_first()?;
        self.places = portion.places;
        Some((path, portion.events))
    }

    /// Takes the verdicts on the portion that was handed out last.
    pub(crate) fn judge(&mut self, verdicts: Vec<Verdict>) {
        for (place, verdict) in std::mem::take(&mut self.places).into_iter().zip(verdicts) {
            self.set(place, verdict);
        }
    }

    /// One verdict for each message of the batch.
    pub(crate) fn finish(self) -> Vec<Verdict> {
        let missing = || Verdict::retry("nobody judged it");
        self.verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(missing)).collect()
    }

    fn set(&mut self, place: usize, verdict: Verdict) {
        if let Some(slot) = self.verdicts.get_mut(place) {
            *slot = Some(verdict);
        }
    }
}

/// By when a portion must be judged.
pub(crate) fn deadline(events: &[Event]) -> Option<Deadline> {
    events.iter().map(|event| event.delivery.deadline).min()
}

/// By what names its events are judged.
pub(crate) fn ids(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.entry_id.clone()).collect()
}

/// What is said of a bulk as a whole.
pub(crate) fn metadata(lane: &Lane) -> BTreeMap<String, String> {
    BTreeMap::from([("pubsubName".to_owned(), lane.pubsub.to_string())])
}
