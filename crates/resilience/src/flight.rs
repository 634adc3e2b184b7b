//! Single flight: callers who want the same thing at the same time wait for one load of it.
//!
//! ```text
//!   join(key) --- no flight ---> a new one, this caller drives it
//!       |                                   |  its load is polled by one waiter, the driver
//!       +--- under way ---> waits           v
//!                           woken once <-- done: every waiter has a clone
//!
//!   driver goes away ---> the next waiter is woken and drives;   last waiter goes away ---> the load is dropped
//! ```
//!
//! A flight belongs to all who wait for it, not to who came first. Its load is a future in the middle that one of the
//! waiters, the *driver*, polls with a waker of its own, so progress wakes one task and not ten thousand; the others are
//! woken once, by the end. No waiter that goes away, the first one included, takes anything with it but itself.
//!
//! **Deadlines.** Each caller puts its own around its [`Joined`] (`within(world, deadline, joined)`): dropping it is
//! leaving. The load needs a deadline as well, given by whoever makes it. To let a load go on with nobody waiting, spawn
//! a [`Joined::keeper`].
//!
//! **Bounds.** A flight takes `waiters_max` (10,000) and turns further callers away; one older than `forget_after` (30 s)
//! is no longer joined, so that a load that hangs does not keep its key for ever. A load that panics ends its flight with
//! [`Lost`]; the panic goes on in the driver.
//!
//! What a load answers goes to the present waiters and is not kept; keeping is what a cache is for. Whoever joins for
//! different users must have them in the key.
//!
//! Source: Go's `singleflight`, of which it takes the forgetting and leaves the leader.

use outrigger_kernel::{BoxFuture, Mono};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    future::Future,
    hash::{BuildHasher, Hash, RandomState},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

/// How many flights are bounded and forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlightSettings {
    /// How many callers may wait for one flight; at least 1.
    pub waiters_max: usize,
    /// After how long a flight is no longer joined.
    pub forget_after: Duration,
}

impl Default for FlightSettings {
    fn default() -> Self {
        Self { waiters_max: 10_000, forget_after: Duration::from_secs(30) }
    }
}

/// As many wait for this flight as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many callers are waiting for the same answer")]
pub struct Crowded;

/// The load ended without an answer: it panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared call was lost")]
pub struct Lost;

/// Locks that flights are spread over, so that different keys hardly meet.
const SHARDS: usize = 16;

/// The flights under way. Clones share them.
///
/// ```
/// use outrigger_kernel::Mono;
/// use outrigger_resilience::{FlightSettings, Flights};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let flights = Flights::new(FlightSettings::default());
/// let first = flights.join("answer", Mono(0), || async { 42 })?;
/// let second = flights.join("answer", Mono(0), || async { unreachable!("it is under way") })?;
/// assert!(first.is_first() && !second.is_first());
/// drop(first);
/// assert_eq!(second.await?, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Flights<K, V>(Arc<Table<K, V>>);

struct Table<K, V> {
    settings: FlightSettings,
    hasher: RandomState,
    shards: [Mutex<HashMap<K, Entry<K, V>>>; SHARDS],
}

struct Entry<K, V> {
    flight: Arc<Flight<K, V>>,
    started: Mono,
}

struct Flight<K, V> {
    key: K,
    table: Weak<Table<K, V>>,
    state: Mutex<State<V>>,
}

struct State<V> {
    load: Load<V>,
    /// Waiters by number; `None` before they were polled for the first time.
    waiters: BTreeMap<u64, Option<Waker>>,
    next: u64,
    driver: Option<u64>,
}

enum Load<V> {
    Waiting(BoxFuture<'static, V>),
    /// In the hands of the driver, or lost in them.
    Taken,
    Done(V),
    Lost,
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + 'static,
{
    /// No flights yet.
    #[must_use]
    pub fn new(settings: FlightSettings) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self(Arc::new(Table { settings, hasher: RandomState::new(), shards }))
    }

    /// Joins the flight of `key`, or begins it with what `load` makes.
    ///
    /// # Errors
    /// [`Crowded`] when as many wait already as may.
    pub fn join<F>(
        &self,
        key: K,
        now: Mono,
        load: impl FnOnce() -> F,
    ) -> Result<Joined<K, V>, Crowded>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut flights = self.0.shard(&key);
        if let Some(entry) = flights.get(&key)
            && now.since(entry.started) < self.0.settings.forget_after
        {
            // One that ended or lost its last waiter this very moment is not joined any more.
            match entry.flight.enter(self.0.settings.waiters_max.max(1)) {
                Entered::As(number) => {
                    let flight = Arc::clone(&entry.flight);
                    return Ok(Joined { flight, number, is_first: false });
                }
                Entered::Crowded => return Err(Crowded),
                Entered::Over => {}
            }
        }
        let state = State {
            load: Load::Waiting(Box::pin(load())),
            waiters: BTreeMap::from([(0, None)]),
            next: 1,
            driver: None,
        };
        let table = Arc::downgrade(&self.0);
        let flight = Arc::new(Flight { key: key.clone(), table, state: Mutex::new(state) });
        flights.insert(key, Entry { flight: Arc::clone(&flight), started: now });
        Ok(Joined { flight, number: 0, is_first: true })
    }

    /// Stops the present flight of `key` from being joined, as after a write that its answer would not show.
    pub fn forget(&self, key: &K) {
        let forgotten = self.0.shard(key).remove(key);
        // Outside the lock: what it holds may be the last of a load that does anything when dropped.
        drop(forgotten);
    }

    /// How many flights are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.shards.iter().map(|shard| locked(shard).len()).sum()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Eq + Hash, V> Table<K, V> {
    fn shard(&self, key: &K) -> MutexGuard<'_, HashMap<K, Entry<K, V>>> {
        locked(&self.shards[self.hasher.hash_one(key) as usize % SHARDS])
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks but the clone of an answer, which leaves them as they are.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Entered {
    As(u64),
    Crowded,
    Over,
}

impl<K, V> Flight<K, V> {
    fn enter(&self, waiters_max: usize) -> Entered {
        let mut state = locked(&self.state);
        let over = matches!(state.load, Load::Done(_) | Load::Lost) || state.waiters.is_empty();
        if over {
            return Entered::Over;
        }
        if state.waiters.len() >= waiters_max {
            return Entered::Crowded;
        }
        let number = state.next;
        state.next += 1;
        state.waiters.insert(number, None);
        Entered::As(number)
    }

    /// Ends it, and answers who is to be woken.
    fn end(&self, load: Load<V>) -> Vec<Waker> {
        let mut state = locked(&self.state);
        state.load = load;
        state.waiters.values_mut().filter_map(Option::take).collect()
    }
}

impl<K: Eq + Hash, V> Flight<K, V> {
    /// Takes it out of the table, if it is still there.
    fn leave_table(self: &Arc<Self>) {
        let Some(table) = self.table.upgrade() else { return };
        let mut flights = table.shard(&self.key);
        let is_own = |entry: &Entry<K, V>| Arc::ptr_eq(&entry.flight, self);
        let removed = if flights.get(&self.key).is_some_and(is_own) {
            flights.remove(&self.key)
        } else {
            None
        };
        drop(flights);
        drop(removed);
    }
}

/// Wakes whoever drives the flight at the time.
struct DriverWaker<K, V>(Weak<Flight<K, V>>);

impl<K, V> Wake for DriverWaker<K, V>
where
    K: Send + Sync,
    V: Send,
{
    fn wake(self: Arc<Self>) {
        let Some(flight) = self.0.upgrade() else { return };
        let state = locked(&flight.state);
        let driver = state.driver.and_then(|number| state.waiters.get(&number)).cloned();
        drop(state);
        // Without a driver there is nothing to tell: the next one polls the load in any case.
        if let Some(Some(driver)) = driver {
            driver.wake();
        }
    }
}

/// One caller's part in a flight: a future of the answer. Dropping it leaves the flight.
#[must_use = "a flight is driven by those who wait for it"]
pub struct Joined<K: Eq + Hash, V> {
    flight: Arc<Flight<K, V>>,
    number: u64,
    is_first: bool,
}

impl<K: Eq + Hash, V> Joined<K, V> {
    /// Whether this caller began the flight.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// A waiter that wants no answer: spawned, it carries the flight to its end though everybody else leaves.
    pub fn keeper(&self) -> impl Future<Output = ()> + use<K, V>
    where
        K: Send + Sync + 'static,
        V: Clone + Send + 'static,
    {
        let mut state = locked(&self.flight.state);
        let number = state.next;
        state.next += 1;
        state.waiters.insert(number, None);
        drop(state);
        let kept = Self { flight: Arc::clone(&self.flight), number, is_first: false };
        async move { drop(kept.await) }
    }
}

impl<K, V> Future for Joined<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + 'static,
{
    type Output = Result<V, Lost>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut state = locked(&this.flight.state);
        match &state.load {
            Load::Done(answer) => return Poll::Ready(Ok(answer.clone())),
            Load::Lost => return Poll::Ready(Err(Lost)),
            Load::Waiting(_) | Load::Taken => {}
        }
        let waker = state.waiters.entry(this.number).or_default();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        if *state.driver.get_or_insert(this.number) != this.number {
            return Poll::Pending;
        }
        let Load::Waiting(mut load) = std::mem::replace(&mut state.load, Load::Taken) else {
            return Poll::Pending;
        };
        drop(state);
        // From here until the load is put back or ends, unwinding means it is lost.
        let mut fallen = Fallen(Some(&this.flight));
        let waker = Waker::from(Arc::new(DriverWaker(Arc::downgrade(&this.flight))));
        let polled = load.as_mut().poll(&mut Context::from_waker(&waker));
        fallen.0 = None;
        match polled {
            Poll::Pending => {
                locked(&this.flight.state).load = Load::Waiting(load);
                Poll::Pending
            }
            Poll::Ready(answer) => {
                drop(load);
                this.flight.leave_table();
                let waiters = this.flight.end(Load::Done(answer.clone()));
                waiters.into_iter().for_each(Waker::wake);
                Poll::Ready(Ok(answer))
            }
        }
    }
}

/// Ends the flight when the load unwinds.
struct Fallen<'a, K: Eq + Hash, V>(Option<&'a Arc<Flight<K, V>>>);

impl<K: Eq + Hash, V> Drop for Fallen<'_, K, V> {
    fn drop(&mut self) {
        if let Some(flight) = self.0 {
            flight.leave_table();
            flight.end(Load::Lost).into_iter().for_each(Waker::wake);
        }
    }
}

impl<K: Eq + Hash, V> Drop for Joined<K, V> {
    fn drop(&mut self) {
        let mut state = locked(&self.flight.state);
        state.waiters.remove(&self.number);
        let is_over = matches!(state.load, Load::Done(_) | Load::Lost);
        if is_over {
            return;
        }
        if state.waiters.is_empty() {
            let load = std::mem::replace(&mut state.load, Load::Lost);
            drop(state);
            // The table first: who comes now must not find a flight that nobody flies.
            self.flight.leave_table();
            drop(load);
            return;
        }
        if state.driver.is_none_or(|driver| driver == self.number) {
            state.driver = None;
            let heir = state.waiters.values().flatten().next().cloned();
            drop(state);
            // If none was polled yet, the first that is becomes the driver.
            heir.into_iter().for_each(Waker::wake);
        }
    }
}

impl<K, V> Clone for Flights<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> fmt::Debug for Flights<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flights({:?})", self.0.settings)
    }
}

impl<K: Eq + Hash, V> fmt::Debug for Joined<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Joined(waiter {})", self.number)
    }
}

#[cfg(test)]
mod tests;
