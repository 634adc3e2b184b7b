//! Keeps the set of one source up to date.
//!
//! ```text
//!            found                   valid_for is over, and somebody has asked since
//!   FRESH <-----------+ LOOKING <------------------------------------- FRESH
//!                     |    | not known                                   ^
//!                     |    v                                             |
//!                     +- STALE: the last set goes on; another look after 1 s, 2 s, 4 s, ... 30 s
//! ```
//!
//! One look at a time, in a task of its own; readers take the present set and never wait. A set that nobody has asked for
//! since it was found is not refreshed: the next reader gets it as it is and sets off the look. So what is not called
//! costs nothing, and the first call after a long silence may meet an old set, which the balancing survives.
//!
//! **Empty sets.** That there is nothing is believed when it was said twice in a row, with a second in between; a single
//! such answer is more often a source that has just started. And it is believed for 5 s at most: what was not there may have
//! come.
//!
//! **Bounds.** A look ends after `look_within` (5 s). What a source says of validity is held within `valid_min` (1 s) and
//! `valid_max` (5 min), less up to a tenth by chance, so that many nodes do not ask in step.

use super::{FindError, Found, Place, Source};
use arc_swap::ArcSwap;
use outrigger_kernel::{Deadline, Mono, TaskHandle, World, within};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::{Notify, watch};

/// For how long an old set is not good enough where a present one is wanted.
const REFRESH_WITHIN: Duration = Duration::from_secs(1);

/// For how long it is believed at most that there is nothing.
const EMPTY_FOR: Duration = Duration::from_secs(5);

/// The shortest wait between two looks, whatever the settings say.
const WAIT_MIN: Duration = Duration::from_millis(10);

/// How a source is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoverySettings {
    /// How long one look may take.
    pub look_within: Duration,
    /// How long a set holds at least.
    pub valid_min: Duration,
    /// How long a set holds at most.
    pub valid_max: Duration,
    /// After how long a source that does not know is asked again, at first.
    pub retry_min: Duration,
    /// The same, after many times.
    pub retry_max: Duration,
}

impl Default for DiscoverySettings {
    fn default() -> Self {
        Self {
            look_within: Duration::from_secs(5),
            valid_min: Duration::from_secs(1),
            valid_max: Duration::from_secs(300),
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(30),
        }
    }
}

/// The set of a source at some time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlaceSet {
    /// The places.
    pub places: Arc<[Place]>,
    /// When it was found; `None` before the first one.
    pub found_at: Option<Mono>,
    /// Why the source does not know better, if that is so.
    pub stale: Option<FindError>,
    /// Counts the sets that differed from the one before.
    pub version: u64,
}

/// The present set of one source, and the task that keeps it. Dropping it ends the task.
pub struct Discovery {
    inner: Arc<Inner>,
    task: Option<TaskHandle>,
}

struct Inner {
    world: Arc<dyn World>,
    source: Arc<dyn Source>,
    settings: DiscoverySettings,
    set: ArcSwap<PlaceSet>,
    changes: watch::Sender<u64>,
    /// How many looks have come to an end, whatever they found.
    looked: watch::Sender<u64>,
    /// When the present set ceases to hold.
    over_at: AtomicU64,
    asked: AtomicBool,
    hurried: AtomicBool,
    wanted: Notify,
}

impl Discovery {
    /// Begins to look. `changed` is told every set that differs from the one before, in order.
    pub fn start(
        world: Arc<dyn World>,
        source: Arc<dyn Source>,
        mut settings: DiscoverySettings,
        changed: impl Fn(&PlaceSet) + Send + Sync + 'static,
    ) -> Self {
        // Settings of zero must not make a busy loop.
        settings.valid_min = settings.valid_min.max(WAIT_MIN);
        settings.retry_min = settings.retry_min.max(WAIT_MIN);
        let inner = Arc::new(Inner {
            world: Arc::clone(&world),
            source,
            settings,
            set: ArcSwap::default(),
            changes: watch::Sender::new(0),
            looked: watch::Sender::new(0),
            over_at: AtomicU64::new(u64::MAX),
            asked: AtomicBool::new(true),
            hurried: AtomicBool::new(false),
            wanted: Notify::new(),
        });
        let own = Arc::clone(&inner);
        let task = world.spawn("discovery", Box::pin(async move { own.keep(changed).await }));
        Self { inner, task: Some(task) }
    }

    /// The present set, at once.
    #[must_use]
    pub fn present(&self) -> Arc<PlaceSet> {
        self.used();
        self.inner.set.load_full()
    }

    /// Whether the present set has any places; asking does not keep it up.
    #[must_use]
    pub fn has_places(&self) -> bool {
        self.inner.has_places()
    }

    /// Says that the set is in use, for those who hold it elsewhere: what is not used is not refreshed.
    pub fn used(&self) {
        // Looked at before it is written: on a busy target this is the same answer to everyone.
        if !self.inner.asked.load(SeqCst) && !self.inner.asked.swap(true, SeqCst) {
            self.inner.wanted.notify_one();
        }
    }

    /// The present set; before the first one, the first one, or what there is by `deadline`.
    pub async fn first(&self, deadline: Deadline) -> Arc<PlaceSet> {
        let mut changes = self.inner.changes.subscribe();
        let known = changes.wait_for(|version| *version > 0);
        let _in_time = within(&*self.inner.world, deadline, known).await.is_ok();
        self.present()
    }

    /// The present set; before the first look has ended, what there is when it has, or by `deadline`.
    pub async fn settled(&self, deadline: Deadline) -> Arc<PlaceSet> {
        let mut looked = self.inner.looked.subscribe();
        let ended = looked.wait_for(|looked| *looked > 0);
        let _in_time = within(&*self.inner.world, deadline, ended).await.is_ok();
        self.present()
    }

    /// The present set if it still holds. One that does not is looked for anew, which is waited for until `deadline` and
    /// for no longer than [`REFRESH_WITHIN`]: then the old one has to do.
    pub async fn current(&self, deadline: Deadline) -> Arc<PlaceSet> {
        let mut looked = self.inner.looked.subscribe();
        let before = *looked.borrow_and_update();
        let world = &*self.inner.world;
        if before == 0 {
            return self.settled(deadline).await;
        }
        let holds = self.inner.over_at.load(SeqCst) > world.mono().0;
        // A source that is down makes nobody wait.
        if holds || self.inner.set.load().stale.is_some() {
            return self.present();
        }
        self.used();
        let soon = deadline.earliest(Deadline::after(world, REFRESH_WITHIN));
        let ended = looked.wait_for(|looked| *looked > before);
        let _in_time = within(world, soon, ended).await.is_ok();
        self.present()
    }

    /// Looks again soon, though the present set still holds: after a refused connection, say.
    pub fn hurry(&self) {
        self.inner.hurried.store(true, SeqCst);
        self.inner.wanted.notify_one();
    }
}

impl Inner {
    async fn keep(&self, changed: impl Fn(&PlaceSet)) {
        let (mut failures, mut empties) = (0_u32, 0_u32);
        loop {
            self.asked.store(false, SeqCst);
            let now = self.world.mono();
            let deadline = Deadline(now.plus(self.settings.look_within));
            let found = within(&*self.world, deadline, self.source.find()).await;
            let found = found.unwrap_or_else(|_| {
                Err(FindError(format!("no answer within {:?}", self.settings.look_within)))
            });
            match found {
                Ok(found) if found.places.is_empty() && empties == 0 && self.has_places() => {
                    empties = 1;
                    self.went_stale(FindError("the source has no places any more".to_owned()));
                    self.world.sleep(self.settings.retry_min).await;
                }
                Ok(found) => {
                    failures = 0;
                    empties = u32::from(found.places.is_empty());
                    let valid_for = self.valid_for(&found);
                    let over_at = valid_for.map_or(u64::MAX, |time| self.world.mono().plus(time).0);
                    self.over_at.store(over_at, SeqCst);
                    self.took(found, &changed);
                    self.rest(valid_for).await;
                }
                Err(error) => {
                    empties = 0;
                    tracing::debug!(source = ?self.source, %error, "places are not known");
                    self.went_stale(error);
                    let doubled = self.settings.retry_min.saturating_mul(1 << failures.min(16));
                    failures = failures.saturating_add(1);
                    self.recover(doubled.min(self.settings.retry_max.max(WAIT_MIN))).await;
                }
            }
        }
    }

    /// After a failure: for `pause`, or until somebody is in a hurry, but never less than the shortest pause.
    async fn recover(&self, pause: Duration) {
        let over = Deadline(self.world.mono().plus(self.spread(pause)));
        self.world.sleep(self.settings.retry_min.min(pause)).await;
        while !self.hurried.swap(false, SeqCst) {
            if within(&*self.world, over, self.wanted.notified()).await.is_err() {
                return;
            }
        }
    }

    fn has_places(&self) -> bool {
        !self.set.load().places.is_empty()
    }

    /// `None` for ever.
    fn valid_for(&self, found: &Found) -> Option<Duration> {
        let said = found.valid_for?;
        // What is not there yet may be about to come, however long a zone says that it is not.
        let most = if found.places.is_empty() { EMPTY_FOR } else { Duration::MAX };
        let most = most.min(self.settings.valid_max);
        let least = self.settings.valid_min.min(most);
        Some(self.spread(said.clamp(least, most)).max(least))
    }

    /// Up to a tenth less.
    fn spread(&self, duration: Duration) -> Duration {
        let share = (self.world.random() >> 32) as f64 / f64::from(u32::MAX);
        // The end of all time may be rounded to what is past it.
        let spread = duration.as_secs_f64() * (1.0 - 0.1 * share);
        Duration::try_from_secs_f64(spread).unwrap_or(duration)
    }

    /// Until the set is over and somebody wants another one, or is in a hurry.
    async fn rest(&self, valid_for: Option<Duration>) {
        let began = self.world.mono();
        let over = valid_for.map(|valid_for| Deadline(began.plus(valid_for)));
        // A hurry waits as well: nobody makes us ask more often than that.
        self.world.sleep(self.settings.valid_min).await;
        while !self.hurried.swap(false, SeqCst) {
            match over {
                Some(over) if over.expired(self.world.mono()) => {
                    if self.asked.load(SeqCst) {
                        return;
                    }
                    self.wanted.notified().await;
                }
                Some(over) => {
                    let _rung = within(&*self.world, over, self.wanted.notified()).await;
                }
                None => self.wanted.notified().await,
            }
        }
    }

    fn took(&self, found: Found, changed: &impl Fn(&PlaceSet)) {
        let before = self.set.load_full();
        let mut places = found.places;
        // In order, so that a source that shuffles its answers does not look like one that changes.
        places.sort_by(|a, b| a.name.cmp(&b.name));
        places.dedup_by(|a, b| a.name == b.name);
        places.truncate(super::PLACES_MAX);
        let is_new = before.found_at.is_none() || *before.places != *places;
        let places = if is_new { places.into() } else { Arc::clone(&before.places) };
        let version = before.version + u64::from(is_new);
        let found_at = Some(self.world.mono());
        let set = Arc::new(PlaceSet { places, found_at, stale: None, version });
        self.set.store(Arc::clone(&set));
        if is_new {
            changed(&set);
            self.changes.send_replace(version);
        }
        self.looked.send_modify(|looked| *looked += 1);
    }

    fn went_stale(&self, error: FindError) {
        let before = self.set.load_full();
        self.set.store(Arc::new(PlaceSet { stale: Some(error), ..(*before).clone() }));
        self.looked.send_modify(|looked| *looked += 1);
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Discovery({:?})", self.inner.source)
    }
}
