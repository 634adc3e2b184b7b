//! Several sources as one, and sets of places as endpoints of a balancer.

use super::{At, FindError, Found, PLACES_MAX, Place, PlaceSet, Source};
use outrigger_kernel::BoxFuture;
use outrigger_resilience::Endpoint;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long the set of a source that fails is taken for what it was, before the source is asked again.
const FAILED_FOR: Duration = Duration::from_secs(5);

/// The places of several sources together. Of two with the same name that of the earlier source holds.
///
/// A source that fails is represented by what it found last; only when none has ever found anything, that is an error.
#[derive(Debug)]
pub struct Several {
    sources: Vec<Arc<dyn Source>>,
    last: Mutex<Vec<Option<Vec<Place>>>>,
}

impl Several {
    /// These sources.
    #[must_use]
    pub fn new(sources: Vec<Arc<dyn Source>>) -> Self {
        let last = Mutex::new(vec![None; sources.len()]);
        Self { sources, last }
    }
}

impl Source for Several {
    fn find(&self) -> BoxFuture<'_, Result<Found, FindError>> {
        Box::pin(async move {
            let looks = self.sources.iter().map(|source| source.find());
            let looks = futures_util::future::join_all(looks).await;
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut places, mut valid_for, mut failure) = (Vec::<Place>::new(), None, None);
            let mut names = std::collections::HashSet::new();
            let mut is_known = false;
            for (look, last) in looks.into_iter().zip(last.iter_mut()) {
                let holds = match look {
                    Ok(found) => {
                        *last = Some(found.places);
                        found.valid_for
                    }
                    Err(error) => {
                        failure = Some(error);
                        Some(FAILED_FOR)
                    }
                };
                valid_for = match (valid_for, holds) {
                    (Some(one), Some(other)) => Some(Duration::min(one, other)),
                    (one, other) => one.or(other),
                };
                is_known |= last.is_some();
                let known = last.iter().flatten();
                places.extend(known.filter(|place| names.insert(Arc::clone(&place.name))).cloned());
            }
            places.truncate(PLACES_MAX);
            match failure {
                Some(failure) if !is_known => Err(failure),
                _ => Ok(Found { places, valid_for }),
            }
        })
    }
}

/// Makes endpoints of places, and for a place that stays uses what was made before: its connections stay as well.
pub struct Endpoints<T> {
    make: Box<dyn Fn(&Place) -> T + Send + Sync>,
    made: Mutex<HashMap<Arc<str>, (At, T)>>,
}

impl<T: Clone> Endpoints<T> {
    /// `make` makes what reaches a place, such as a channel.
    #[must_use]
    pub fn new(make: impl Fn(&Place) -> T + Send + Sync + 'static) -> Self {
        Self { make: Box::new(make), made: Mutex::default() }
    }

    /// The endpoints of a set; what belongs to places that are not in it any more is let go of.
    #[must_use]
    pub fn of(&self, set: &PlaceSet) -> Vec<Endpoint<T>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *made);
        let endpoint = |place: &Place| {
            let known = before.remove(&place.name).filter(|(at, _)| *at == place.at);
            let value = known.map_or_else(|| (self.make)(place), |(_, value)| value);
            made.insert(Arc::clone(&place.name), (place.at.clone(), value.clone()));
            let (name, zone) = (Arc::clone(&place.name), place.zone.clone());
            Endpoint { name, weight: place.weight, zone, value }
        };
        set.places.iter().map(endpoint).collect()
    }
}

impl<T> fmt::Debug for Endpoints<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Endpoints")
    }
}
