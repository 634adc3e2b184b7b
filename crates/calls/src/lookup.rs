//! Apps that this machine does not have: looked for where the settings say, and kept.
//!
//! ```text
//!   Directory::find --not here--> Lookup --first call--> Kept: Discovery( source of the app, then a way to each place )
//!                                    ^ later calls           |
//!                                    +--- the directory <----+ instances elsewhere, whenever the set changes
//! ```
//!
//! The first call to an app waits until the first look is over, a later one takes what is kept. A name that nobody has
//! called for [`LookupSettings::idle_for`] is let go of, and so is the one called longest ago when there are too many.
//!
//! The invariant: an instance that was found stays callable until its source says that it is gone. A source that is down,
//! or a way that cannot be made again, takes nothing away.

use crate::{
    AppChannel, CallError, Directory, PeerWays,
    discover::{
        AppSources, At, Discovery, DiscoverySettings, FindError, Found, Place, PlaceSet, Source,
    },
};
use futures_util::{StreamExt, stream};
use outrigger_kernel::{BoxFuture, Deadline, Mono, World, within};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// How long making ways may take within one look and for one place, how long it goes on once there is one, and how many
/// are made at once.
/// What is not done by then is for the next look.
const WAYS_WITHIN: Duration = Duration::from_secs(2);
const WAY_WITHIN: Duration = Duration::from_secs(1);
const MORE_WAYS_WITHIN: Duration = Duration::from_millis(500);
const WAYS_AT_ONCE: usize = 16;
/// When a way that could not be made is tried again.
const WAY_RETRY: Duration = Duration::from_secs(5);

/// How apps elsewhere are looked for.
#[derive(Clone, Debug, PartialEq)]
pub struct LookupSettings {
    /// How many names are kept.
    pub names_max: usize,
    /// For how long a name is kept that nobody calls.
    pub idle_for: Duration,
    /// The zone of this machine.
    pub zone: Option<Arc<str>>,
    /// How the sources are asked.
    pub discovery: DiscoverySettings,
}

impl Default for LookupSettings {
    fn default() -> Self {
        // A name that could not be found so far has somebody waiting.
        let discovery = DiscoverySettings {
            retry_max: Duration::from_secs(10),
            ..DiscoverySettings::default()
        };
        let idle_for = Duration::from_secs(600);
        Self { names_max: 1_000, idle_for, zone: None, discovery }
    }
}

/// Looks for apps elsewhere.
pub struct Lookup {
    world: Arc<dyn World>,
    sources: Arc<dyn AppSources>,
    settings: LookupSettings,
    kept: Mutex<HashMap<String, Arc<Kept>>>,
    sweeping: AtomicBool,
}

/// A name that is looked after.
pub(crate) struct Kept {
    app_id: String,
    namespace: String,
    discovery: Discovery,
    led: Arc<Led>,
    used: AtomicU64,
    world: Arc<dyn World>,
}

impl Lookup {
    /// Looks in `sources`.
    #[must_use]
    pub fn new(
        world: Arc<dyn World>,
        sources: Arc<dyn AppSources>,
        settings: LookupSettings,
    ) -> Arc<Self> {
        let (kept, sweeping) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { world, sources, settings, kept, sweeping })
    }

    /// The zone of this machine.
    pub(crate) fn zone(&self) -> Option<&Arc<str>> {
        self.settings.zone.as_ref()
    }

    /// Looks once, for somebody who wants to know and does not call. Ways are not made.
    ///
    /// # Errors
    /// [`FindError`] when it cannot be found out.
    pub async fn look(&self, app_id: &str, namespace: &str) -> Result<Found, FindError> {
        let Some(source) = self.sources.source(app_id, namespace) else {
            return Ok(Found { places: Vec::new(), valid_for: None });
        };
        let deadline = Deadline::after(&*self.world, self.settings.discovery.look_within);
        let looked = within(&*self.world, deadline, source.find()).await;
        looked.unwrap_or_else(|_| Err(FindError("no answer in time".to_owned())))
    }

    /// The app as it is kept; from now on, if it was not. `None` when there certainly is no such app.
    pub(crate) fn keep(
        self: &Arc<Self>,
        directory: &Arc<Directory>,
        key: &str,
        app_id: &str,
        namespace: &str,
    ) -> Option<Arc<Kept>> {
        let mut kept = self.kept();
        if let Some(known) = kept.get(key) {
            known.used();
            return Some(Arc::clone(known));
        }
        let source = self.sources.source(app_id, namespace)?;
        let over = (kept.len() >= self.settings.names_max.max(1)).then(|| {
            // Names that lead nowhere first: whoever makes them up should not push out those that are in use.
            let used =
                |kept: &Kept| (kept.discovery.has_places(), kept.used.load(Ordering::Relaxed));
            kept.iter().min_by_key(|(_, kept)| used(kept)).map(|(key, _)| key.clone())
        });
        let over = over.flatten().and_then(|key| kept.remove_entry(&key));
        let led = Arc::new(Led {
            app_id: app_id.to_owned(),
            namespace: namespace.to_owned(),
            source,
            directory: Arc::downgrade(directory),
            world: Arc::clone(&self.world),
            made: Mutex::default(),
            failed: Mutex::default(),
            wayless: Mutex::default(),
        });
        let (to, own_key) = (Arc::downgrade(directory), key.to_owned());
        let own = Arc::downgrade(&led);
        let changed = move |set: &PlaceSet| {
            if let Some(directory) = to.upgrade() {
                directory.set_elsewhere(&own_key, &own, &set.places);
            }
        };
        // Made while the directory waits, so that what is found first is not found too early.
        let made = directory.begin_elsewhere(key, || {
            let (world, source) = (Arc::clone(&self.world), Arc::clone(&led) as _);
            let settings = self.settings.discovery.clone();
            Arc::new(Kept {
                app_id: app_id.to_owned(),
                namespace: namespace.to_owned(),
                discovery: Discovery::start(world, source, settings, changed),
                led,
                used: AtomicU64::new(self.world.mono().0),
                world: Arc::clone(&self.world),
            })
        });
        kept.insert(key.to_owned(), Arc::clone(&made));
        drop(kept);
        if let Some((key, _)) = over {
            directory.end_elsewhere(&[key]);
        }
        self.sweep_later(directory);
        Some(made)
    }

    /// Lets go of names in time that nobody calls, with one task while there are any.
    fn sweep_later(self: &Arc<Self>, directory: &Arc<Directory>) {
        if self.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let (me, to) = (Arc::downgrade(self), Arc::downgrade(directory));
        let (world, pause) = (Arc::clone(&self.world), self.settings.idle_for / 2);
        let pause = pause.max(Duration::from_millis(10));
        let sweep = async move {
            loop {
                world.sleep(pause).await;
                let (Some(me), Some(directory)) = (me.upgrade(), to.upgrade()) else { return };
                if me.sweep(&directory) {
                    return;
                }
            }
        };
        drop(self.world.spawn("names of apps elsewhere", Box::pin(sweep)));
    }

    /// True when nothing is left to look after.
    fn sweep(&self, directory: &Directory) -> bool {
        let now = self.world.mono();
        let mut kept = self.kept();
        let idle = |kept: &Kept| {
            now.since(Mono(kept.used.load(Ordering::Relaxed))) >= self.settings.idle_for
        };
        let gone: Vec<String> =
            kept.iter().filter(|(_, kept)| idle(kept)).map(|(key, _)| key.clone()).collect();
        let gone_names: Vec<Arc<Kept>> = gone.iter().filter_map(|key| kept.remove(key)).collect();
        let empty = kept.is_empty();
        if empty {
            self.sweeping.store(false, Ordering::Release);
        }
        directory.end_elsewhere(&gone);
        drop(kept);
        drop(gone_names);
        empty
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, Arc<Kept>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    pub(crate) fn app_id(&self) -> &str {
        &self.app_id
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether `led` is what this name is kept by.
    pub(crate) fn is_led_by(&self, led: &Weak<Led>) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.led), led.as_ptr())
    }

    /// Says that somebody calls it.
    pub(crate) fn used(&self) {
        self.used.store(self.world.mono().0, Ordering::Relaxed);
        self.discovery.used();
    }

    /// Says that an instance was not reached: perhaps there are others by now.
    pub(crate) fn hurry(&self) {
        self.discovery.hurry();
    }

    /// Waits for the end of the first look. Answers why nothing is known, if nothing is.
    pub(crate) async fn settled(&self, deadline: Deadline) -> Result<(), CallError> {
        let set = self.discovery.settled(deadline).await;
        if set.found_at.is_some() {
            return Ok(());
        }
        let reason = match &set.stale {
            Some(error) => {
                // Whoever calls now need not wait for the end of a long pause.
                self.discovery.hurry();
                error.to_string()
            }
            None => "name resolution has not answered in time".to_owned(),
        };
        let (app, namespace) = (self.app_id.clone(), self.namespace.clone());
        let wayless = self.led.wayless.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Err(match wayless {
            Some(place) => CallError::NoPeerWay { app, place, reason },
            None => CallError::Unresolved { app, namespace, reason },
        })
    }
}

type Made = HashMap<Arc<str>, (At, Arc<AppChannel>)>;

/// The places of a source with a way to each.
pub(crate) struct Led {
    app_id: String,
    namespace: String,
    source: Arc<dyn Source>,
    directory: Weak<Directory>,
    world: Arc<dyn World>,
    made: Mutex<Made>,
    /// Places to which there was no way the last time; they come last the next time.
    failed: Mutex<HashSet<Arc<str>>>,
    /// A place to which there is no way because nobody makes ways.
    wayless: Mutex<Option<String>>,
}

/// Said of places when nobody makes ways to them.
const NO_WAYS: &str = "this runtime has no identity that runtimes of other hosts would know it by; give it one, and them \
                       (see \"several hosts\" in the documentation)";

impl Led {
    async fn look(&self) -> Result<Found, FindError> {
        let found = self.source.find().await?;
        let Some(directory) = self.directory.upgrade() else {
            return Err(FindError("it is not looked for any more".to_owned()));
        };
        let ways = directory.peer_ways();
        drop(directory);
        let wayless = found.places.first().filter(|_| ways.is_none());
        *self.wayless.lock().unwrap_or_else(PoisonError::into_inner) =
            wayless.map(|place| place.name.to_string());
        let Some(ways) = ways else {
            return match wayless {
                Some(_) => Err(FindError(NO_WAYS.to_owned())),
                None => Ok(found),
            };
        };
        let failure = self.lead(&found.places, &**ways).await;
        let mut made = lock(&self.made);
        let at = |name: &Arc<str>| found.places.iter().find(|place| place.name == *name);
        made.retain(|name, (known, _)| at(name).is_some_and(|place| place.at == *known));
        let led = |place: &Place| {
            let (_, channel) = made.get(&place.name)?;
            Some(Place { at: At::Channel(Arc::clone(channel)), ..place.clone() })
        };
        let places: Vec<Place> = found.places.iter().filter_map(led).collect();
        let valid_for = match failure {
            Some(failure) if places.is_empty() => return Err(FindError(failure)),
            Some(_) => Some(found.valid_for.unwrap_or(WAY_RETRY).min(WAY_RETRY)),
            None => found.valid_for,
        };
        Ok(Found { places, valid_for })
    }

    /// Makes ways to places that have none yet, and keeps each as soon as it is there. Answers why one is missing, if one
    /// is.
    async fn lead(&self, places: &[Place], ways: &dyn PeerWays) -> Option<String> {
        let known = lock(&self.made).clone();
        let has_way =
            |place: &&Place| known.get(&place.name).is_some_and(|(at, _)| *at == place.at);
        let (led, mut rest): (Vec<&Place>, Vec<&Place>) = places.iter().partition(has_way);
        self.put_in_order(&mut rest);
        let (mut missing, world) = (rest.len(), &*self.world);
        let make = |place: &Place| {
            let place = place.clone();
            // Until it is there.
            lock(&self.failed).insert(Arc::clone(&place.name));
            async move {
                let making = ways.way(&self.app_id, &self.namespace, &place);
                let made = within(world, Deadline::after(world, WAY_WITHIN), making).await;
                (place, made)
            }
        };
        let mut making = stream::iter(rest).map(make).buffer_unordered(WAYS_AT_ONCE);
        let soon = || Deadline::after(world, MORE_WAYS_WITHIN);
        let mut until = Deadline::after(world, WAYS_WITHIN);
        if !led.is_empty() {
            until = until.earliest(soon());
        }
        let mut failure = None;
        loop {
            match within(world, until, making.next()).await {
                Ok(None) => break,
                Ok(Some((place, Ok(Ok(channel))))) => {
                    missing -= 1;
                    lock(&self.failed).remove(&place.name);
                    lock(&self.made).insert(place.name, (place.at, channel));
                    until = until.earliest(soon());
                }
                Ok(Some((place, Err(_)))) => {
                    failure = Some(format!("{} does not answer", place.name));
                }
                Ok(Some((place, Ok(Err(error))))) => {
                    tracing::debug!(app = self.app_id, place = %place.name, %error, "no way");
                    failure = Some(error.to_string());
                }
                Err(_) => break,
            }
        }
        failure.or_else(|| (missing > 0).then(|| "its places do not answer".to_owned()))
    }

    /// Those that did not fail come first. When all have, everybody gets another chance.
    fn put_in_order(&self, places: &mut [&Place]) {
        let mut failed = lock(&self.failed);
        failed.retain(|name| places.iter().any(|place| place.name == *name));
        places.sort_by_key(|place| failed.contains(&place.name));
        if failed.len() == places.len() {
            failed.clear();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source for Led {
    fn find(&self) -> BoxFuture<'_, Result<Found, FindError>> {
        Box::pin(self.look())
    }
}

impl fmt::Debug for Led {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} in {:?}", self.app_id, self.namespace, self.source)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({:?})", self.led)
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lookup({:?}, {} kept)", self.sources, self.kept().len())
    }
}
