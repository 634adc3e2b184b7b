//! A cache that loads what it has not, once at a time.
//!
//! ```text
//!   get(key) -- fresh ---------------------------------------> value
//!            -- early or stale -- a refresh in the background, value
//!            -- else -- join the flight -- look again -- load -- keep --> value
//!                                             |            | fails
//!                                   kept meanwhile?        +--> the stale value, if it may; else the error,
//!                                                               kept for a moment
//! ```
//!
//! The second look happens inside the flight: a reader that missed just before another one's load ended, and came to join
//! just after, finds what was kept and loads nothing.
//!
//! A removal voids the loads under way: what they bring goes to those who wait for it and is not kept, because it may be
//! from before whatever the removal was for.
//!
//! Errors are kept for `errors_for` (100 ms), so that a target that fails is asked ten times a second and not by every
//! reader. A load has its own deadline, `load_within` (30 s), whoever waits for it.

use super::{Early, Lifetime, Standing, Store, StoreBounds};
use crate::{FlightSettings, Flights};
use outrigger_kernel::{Deadline, Mono, World, within};
use std::{
    fmt,
    future::Future,
    hash::{BuildHasher, Hash, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

/// Counters that removals are spread over.
const LEASES: usize = 64;

/// How a read-through cache behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadThroughSettings {
    /// What it may hold.
    pub bounds: StoreBounds,
    /// When a fresh entry is refreshed already.
    pub early: Early,
    /// By up to which share lifetimes are shortened.
    pub jitter: f64,
    /// How long an error is kept; zero for not at all.
    pub errors_for: Duration,
    /// How long a load may take.
    pub load_within: Duration,
    /// How many may wait for one load.
    pub waiters_max: usize,
}

impl Default for ReadThroughSettings {
    fn default() -> Self {
        Self {
            bounds: StoreBounds::default(),
            early: Early::default(),
            jitter: 0.1,
            errors_for: Duration::from_millis(100),
            load_within: Duration::from_secs(30),
            waiters_max: 20_000,
        }
    }
}

/// What a load brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<V> {
    /// The value.
    pub value: V,
    /// What it weighs.
    pub bytes: usize,
    /// How long it is fresh; zero for not to be kept.
    pub fresh_for: Duration,
    /// How long after that it may be used while it is refreshed.
    pub stale_for: Duration,
    /// How long after being fresh it may be used when a load fails.
    pub on_error_for: Duration,
}

/// How old an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Loaded for this caller, or for others at the same time.
    Loaded,
    /// From the cache, within its lifetime.
    Fresh,
    /// From the cache, past its lifetime by so much, while it is refreshed.
    Stale(Duration),
    /// The same because a load failed: a degraded answer.
    OnError(Duration),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served<V> {
    /// The value.
    pub value: V,
    /// How old it is.
    pub freshness: Freshness,
}

/// No answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missed<E> {
    /// The load failed.
    #[error(transparent)]
    Failed(E),
    /// The load took longer than a load may, or was lost in a panic.
    #[error("the load did not end in time")]
    Unfinished,
    /// Too many wait already.
    #[error(transparent)]
    Crowded(#[from] crate::Crowded),
}

type Outcome<V, E> = Result<Served<V>, Missed<E>>;

enum Kept<V, E> {
    Value(Aged<V>),
    /// An error, and what was there before it.
    Error {
        error: Missed<E>,
        until: Mono,
        before: Option<Aged<V>>,
    },
}

#[derive(Clone)]
struct Aged<V> {
    value: V,
    bytes: usize,
    lifetime: Lifetime,
}

/// A read-through cache. Clones are the same cache.
pub struct ReadThrough<K, V, E>(Arc<Inner<K, V, E>>);

struct Inner<K, V, E> {
    settings: ReadThroughSettings,
    store: Store<K, Arc<Kept<V, E>>>,
    flights: Flights<K, Outcome<V, E>>,
    /// Counts the removals of the keys that share it; what was begun at another count is void.
    leases: [AtomicU64; LEASES],
    hasher: RandomState,
}

impl<K, V, E> ReadThrough<K, V, E>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// An empty cache.
    #[must_use]
    pub fn new(settings: ReadThroughSettings) -> Self {
        let flights = Flights::new(FlightSettings {
            waiters_max: settings.waiters_max,
            forget_after: settings.load_within,
        });
        Self(Arc::new(Inner {
            settings,
            store: Store::new(settings.bounds),
            flights,
            leases: std::array::from_fn(|_| AtomicU64::new(0)),
            hasher: RandomState::new(),
        }))
    }

    /// The value of `key`, loaded if need be. `load` is called at most once, and outlives this caller if others wait.
    ///
    /// # Errors
    /// [`Missed`], when there is nothing in the cache to use instead.
    pub async fn get<F, L>(&self, world: &Arc<dyn World>, key: K, load: L) -> Outcome<V, E>
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    {
        let now = world.mono();
        if let Some(kept) = self.0.store.get(&key) {
            let found = self.0.usable(&kept, now, world.random());
            if let Some((answer, is_due)) = found {
                if is_due {
                    self.refresh(world, key, load);
                }
                return answer;
            }
        }
        self.fly(world, key, load)?.await.unwrap_or(Err(Missed::Unfinished))
    }

    /// Forgets `key`, and keeps a load of it that is under way from being kept by those who come now.
    pub fn remove(&self, key: &K) {
        // The lease before the entry: what is kept in between is removed, what comes after is refused.
        self.0.lease(key).fetch_add(1, SeqCst);
        self.0.flights.forget(key);
        self.0.store.remove(key);
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.store.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.store.is_empty()
    }

    fn fly<F, L>(
        &self,
        world: &Arc<dyn World>,
        key: K,
        load: L,
    ) -> Result<crate::Joined<K, Outcome<V, E>>, crate::Crowded>
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    {
        let (inner, own, wanted) = (Arc::clone(&self.0), Arc::clone(world), key.clone());
        let begin = move || async move { inner.load(&*own, wanted, load).await };
        self.0.flights.join(key, world.mono(), begin)
    }

    /// Loads in the background, unless somebody does already.
    fn refresh<F, L>(&self, world: &Arc<dyn World>, key: K, load: L)
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    {
        // With the waiters at their bound, the flight needs no other.
        let Ok(joined) = self.fly(world, key, load) else { return };
        if joined.is_first() {
            let task = async move { drop(joined.await) };
            drop(world.spawn("cache refresh", Box::pin(task)));
        }
    }
}

impl<K, V, E> Inner<K, V, E>
where
    K: Clone + Eq + Hash,
    V: Clone,
    E: Clone,
{
    /// What can be answered from the cache, and whether a refresh is due.
    fn usable(&self, kept: &Kept<V, E>, now: Mono, random: u64) -> Option<(Outcome<V, E>, bool)> {
        match kept {
            Kept::Value(Aged { value, lifetime, .. }) => {
                let standing = lifetime.standing(now, self.settings.early, random);
                let late = now.since(lifetime.stored).saturating_sub(lifetime.fresh_for);
                let (freshness, is_due) = match standing {
                    Standing::Fresh => (Freshness::Fresh, false),
                    Standing::Early => (Freshness::Fresh, true),
                    Standing::Stale => (Freshness::Stale(late), true),
                    Standing::OnError | Standing::Gone => return None,
                };
                Some((Ok(Served { value: value.clone(), freshness }), is_due))
            }
            Kept::Error { error, until, before } => {
                if now >= *until {
                    return None;
                }
                let before = before.as_ref().and_then(|before| rescue(before, now));
                Some((before.ok_or_else(|| error.clone()), false))
            }
        }
    }

    fn lease(&self, key: &K) -> &AtomicU64 {
        &self.leases[self.hasher.hash_one(key) as usize % LEASES]
    }

    async fn load<F, L>(&self, world: &dyn World, key: K, load: L) -> Outcome<V, E>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<Loaded<V>, E>>,
    {
        let begun = world.mono();
        let lease = self.lease(&key).load(SeqCst);
        let kept = self.store.get(&key);
        // Another flight may have ended between this caller's first look and its joining. The draw is the one that finds a
        // refresh due wherever one can be: this may be such a refresh.
        if let Some(kept) = &kept
            && let Some((answer, false)) = self.usable(kept, begun, 0)
        {
            return answer;
        }
        let deadline = Deadline(begun.plus(self.settings.load_within));
        let error = match within(world, deadline, load()).await {
            Ok(Ok(loaded)) => return Ok(self.keep(world, key, (begun, lease), loaded)),
            Ok(Err(error)) => Missed::Failed(error),
            Err(_) => Missed::Unfinished,
        };
        let now = world.mono();
        let before = kept.as_deref().and_then(|kept| match kept {
            Kept::Value(aged) => Some(aged.clone()),
            Kept::Error { before, .. } => before.clone(),
        });
        let rescued = before.as_ref().and_then(|before| rescue(before, now));
        if !self.settings.errors_for.is_zero() {
            let until = now.plus(self.settings.errors_for);
            let bytes = before.as_ref().map_or(0, |before| before.bytes);
            let kept = Arc::new(Kept::Error { error: error.clone(), until, before });
            self.store.put_if(key.clone(), kept, bytes, || self.lease(&key).load(SeqCst) == lease);
        }
        rescued.ok_or(error)
    }

    fn keep(
        &self,
        world: &dyn World,
        key: K,
        (begun, lease): (Mono, u64),
        loaded: Loaded<V>,
    ) -> Served<V> {
        let now = world.mono();
        let Loaded { value, bytes, fresh_for, stale_for, on_error_for } = loaded;
        if fresh_for.is_zero() {
            self.store.remove(&key);
        } else {
            let load_took = now.since(begun);
            let lifetime = Lifetime { stored: now, fresh_for, stale_for, on_error_for, load_took };
            let lifetime = lifetime.jittered(self.settings.jitter, world.random());
            let kept = Arc::new(Kept::Value(Aged { value: value.clone(), bytes, lifetime }));
            self.store.put_if(key.clone(), kept, bytes, || self.lease(&key).load(SeqCst) == lease);
        }
        Served { value, freshness: Freshness::Loaded }
    }
}

/// The value of before, if a failed load lets it be used.
fn rescue<V: Clone>(before: &Aged<V>, now: Mono) -> Option<Served<V>> {
    let lifetime = &before.lifetime;
    let late = now.since(lifetime.stored).saturating_sub(lifetime.fresh_for);
    (late.is_zero() || late < lifetime.useful_after())
        .then(|| Served { value: before.value.clone(), freshness: Freshness::OnError(late) })
}

impl<K, V, E> Clone for ReadThrough<K, V, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V, E> fmt::Debug for ReadThrough<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadThrough({:?})", self.0.settings)
    }
}
