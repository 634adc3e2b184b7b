//! Answers kept for those who ask for the same, and one call for all who ask at the same time.
//!
//! ```text
//!   GET --look--> hit ----------------------------------------------------> answer (a refresh behind it, if due)
//!             --> miss, or to be asked about --> flight( look again, call, keep ) --+--> all who waited for it
//!                                                     ^ one at a time               |
//!                                                                                   +--> not for all: the first one has
//!                                                                                        it, the others call themselves
//! ```
//!
//! What may be kept, and for how long, is `outrigger_resilience::cache`'s business (RFC 9111). Here is the traffic: which
//! bodies are read into memory (only those that are to be kept, and only so long), what a caller is told (`Age`,
//! `Cache-Status` of RFC 9211), and how long it waits: every caller until its own deadline, the call itself until
//! [`LOAD_WITHIN`], whoever waits for it.
//!
//! The access list was asked before anything here happens, for every caller. An address whose answers turned out to be for
//! one caller each is remembered for [`PASS_FOR`]: its callers would only wait in line for nothing.
//!
//! The invariant: of those who may have the same answer, one calls.

mod fetch;
mod tell;

pub(crate) use fetch::Errand;
pub(crate) use tell::{DEGRADED, is_private_matter};

use crate::{
    Body, CallError, Invoker, Target,
    outgoing::{Outgoing, Upload},
};
use bytes::Bytes;
use fetch::{Asked, Fetched};
use http::{HeaderMap, HeaderName, Method, Response, StatusCode};
use outrigger_kernel::{BoxFuture, Deadline, Mono, within};
use outrigger_resilience::{
    FlightSettings, Flights, Joined,
    cache::{CacheSettings, Lookup, RequestHead, ResponseCache, Store, StoreBounds},
    reason,
};
use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

/// How long a call may take that several wait for.
pub(crate) const LOAD_WITHIN: Duration = Duration::from_secs(30);
/// How long it is remembered that answers of an address are not for sharing.
const PASS_FOR: Duration = Duration::from_secs(5);
/// Of how many addresses.
const PASSES_MAX: usize = 4_096;
/// How many may wait for one call.
const WAITERS_MAX: usize = 20_000;

/// How answers are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct ShelfSettings {
    /// By which rules.
    pub cache: CacheSettings,
    /// Request headers that keep callers apart.
    pub key_headers: Vec<HeaderName>,
    /// Whether an answer without a lifetime goes to all who waited for it.
    pub coalesce_any: bool,
}

/// Answers kept under one policy, for all targets that name it: its bounds are theirs together.
#[derive(Debug)]
pub struct Shelf {
    name: String,
    settings: ShelfSettings,
    /// Made when it is first used, so that a reload can put what there was in its place.
    kept: OnceLock<Arc<Kept>>,
}

#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) cache: ResponseCache<Bytes>,
    pub(crate) settings: ShelfSettings,
    flights: Flights<String, Fetched>,
    /// Addresses whose answers are not for sharing, until then.
    passed: PassedBy,
}

#[derive(Debug)]
struct PassedBy {
    until: Store<u64, Mono>,
    hasher: RandomState,
}

impl Shelf {
    /// An empty one for the policy called `name`.
    #[must_use]
    pub fn new(name: &str, settings: ShelfSettings) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), settings, kept: OnceLock::new() })
    }

    /// How it keeps answers.
    #[must_use]
    pub fn settings(&self) -> &ShelfSettings {
        &self.settings
    }

    /// How many addresses it has answers of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.get().map_or(0, |kept| kept.cache.len())
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes everything.
    pub fn clear(&self) {
        if let Some(kept) = self.kept.get() {
            kept.cache.clear();
        }
    }

    /// Takes over what `old` keeps, if it keeps in the same way under the same name.
    pub(crate) fn adopt(&self, old: &Self) {
        if self.name == old.name
            && self.settings == old.settings
            && let Some(kept) = old.kept.get()
        {
            self.kept.get_or_init(|| Arc::clone(kept));
        }
    }

    fn kept(&self) -> &Arc<Kept> {
        self.kept.get_or_init(|| {
            let flights = FlightSettings { waiters_max: WAITERS_MAX, forget_after: LOAD_WITHIN };
            let bounds = StoreBounds { entries_max: PASSES_MAX, bytes_max: usize::MAX / 2 };
            Arc::new(Kept {
                cache: ResponseCache::new(self.settings.cache.clone()),
                settings: self.settings.clone(),
                flights: Flights::new(flights),
                passed: PassedBy { until: Store::new(bounds), hasher: RandomState::new() },
            })
        })
    }
}

impl Kept {
    /// What keeps callers apart, besides what the rules say.
    fn scope(&self, target: &Target, headers: &HeaderMap) -> String {
        let mut scope = target.scope();
        for name in &self.settings.key_headers {
            for value in headers.get_all(name) {
                // Values have no line breaks, so that nothing can pass for something else.
                scope.push('\n');
                scope.push_str(name.as_str());
                scope.push(':');
                scope.extend(value.as_bytes().iter().map(|byte| char::from(*byte)));
            }
        }
        scope
    }

    fn is_passed(&self, asked: &RequestHead<'_>, now: Mono) -> bool {
        let until = self.passed.until.get(&self.passed.hash(asked));
        until.is_some_and(|until| now < until)
    }

    pub(crate) fn pass(&self, asked: &RequestHead<'_>, now: Mono) {
        self.passed.until.put(self.passed.hash(asked), now.plus(PASS_FOR), 0);
    }

    pub(crate) fn pass_no_more(&self, asked: &RequestHead<'_>) {
        self.passed.until.remove(&self.passed.hash(asked));
    }
}

impl PassedBy {
    fn hash(&self, asked: &RequestHead<'_>) -> u64 {
        self.hasher.hash_one((asked.scope, asked.uri))
    }
}

/// A call that is being made.
enum Underway {
    /// By this caller, for itself.
    Alone(BoxFuture<'static, Fetched>),
    /// By one of those who wait for it.
    Together(Joined<String, Fetched>),
    /// Too many wait for it.
    Crowded,
}

/// The answer of which the one who called has the only copy.
pub(crate) type Own = Arc<Mutex<Option<Response<Body>>>>;

impl Invoker {
    /// A call whose target's answers may be kept.
    pub(crate) async fn through_shelf(
        &self,
        shelf: &Shelf,
        outgoing: Outgoing,
        errand: Errand<'_>,
    ) -> Result<Response<Body>, CallError> {
        let (world, kept) = (self.world(), shelf.kept());
        let method = outgoing.head.method.clone();
        let asked = Asked {
            scope: kept.scope(errand.target, &outgoing.head.headers),
            uri: outgoing.head.uri.to_string(),
            headers: outgoing.head.headers.clone(),
        };
        let now = world.mono();
        // What a body asks for is in the body.
        let is_plain = method == Method::GET && matches!(outgoing.upload, Upload::Empty);
        if !is_plain {
            errand.tell(reason::CACHE_BYPASS);
            let mut answer = errand.call(self, outgoing).await?;
            let head = RequestHead { method: &method, ..asked.head() };
            kept.cache.after(&head, answer.status(), world.mono());
            let why = if method == Method::GET { "fwd=bypass" } else { "fwd=method" };
            tell::status(&mut answer, why);
            return Ok(answer);
        }
        match kept.cache.look(&asked.head(), now, world.random()) {
            Lookup::Bypass => {
                errand.tell(reason::CACHE_BYPASS);
                let mut answer = errand.call(self, outgoing).await?;
                tell::status(&mut answer, "fwd=bypass");
                Ok(answer)
            }
            Lookup::NotCached => {
                let mut answer = Response::new(crate::body::empty());
                *answer.status_mut() = StatusCode::GATEWAY_TIMEOUT;
                tell::status(&mut answer, "detail=only-if-cached");
                Ok(answer)
            }
            Lookup::Hit(hit) => {
                let is_stale = !hit.late.is_zero();
                errand.tell(if is_stale { reason::CACHE_STALE } else { reason::CACHE_HIT });
                let answer = tell::hit(&hit, now);
                if hit.is_due {
                    self.refresh(kept, outgoing, asked, errand);
                }
                Ok(answer)
            }
            Lookup::Miss | Lookup::Ask(_) => self.fetched(kept, outgoing, asked, errand).await,
        }
    }

    /// Waits for the one call, or makes it.
    async fn fetched(
        &self,
        kept: &Arc<Kept>,
        outgoing: Outgoing,
        asked: Asked,
        errand: Errand<'_>,
    ) -> Result<Response<Body>, CallError> {
        let world = self.world();
        let own: Own = Arc::default();
        let is_passed = kept.is_passed(&asked.head(), world.mono());
        let underway = {
            let begin = || {
                let (outgoing, asked) = (outgoing.replay(), asked.clone());
                errand.load(self, asked, kept).fetch(outgoing, Some(Arc::clone(&own)))
            };
            if is_passed {
                Underway::Alone(Box::pin(begin()))
            } else {
                let key = kept.cache.flight_key(&asked.head());
                let joined = kept.flights.join(key, world.mono(), begin);
                joined.map_or(Underway::Crowded, Underway::Together)
            }
        };
        let ends = errand.terms.patience.ends(world);
        let ends = ends.unwrap_or(Deadline::after(world, LOAD_WITHIN));
        let mut is_first = true;
        let fetched = match underway {
            Underway::Alone(load) => load.await,
            Underway::Crowded => {
                errand.tell(reason::COALESCE_CROWDED);
                Fetched::NotShared
            }
            Underway::Together(joined) => {
                is_first = joined.is_first();
                match within(world, ends, joined).await {
                    Ok(landed) => landed.unwrap_or(Fetched::NotShared),
                    Err(_) => return Err(errand.late()),
                }
            }
        };
        let fetched = if is_first { fetched } else { fetched.fitting(&asked.headers) };
        errand.tell(if is_first { fetched.reason() } else { reason::COALESCED });
        let now = world.mono();
        match fetched {
            Fetched::Kept { stored, confirmed } => {
                let hit = stored.answer(&asked.head(), now);
                Ok(tell::loaded(&hit, now, confirmed, !is_first))
            }
            Fetched::Rescued { stored, status } => {
                Ok(tell::rescued(&stored.answer(&asked.head(), now), now, status))
            }
            Fetched::Shared { whole, .. } => Ok(tell::shared(&whole, !is_first)),
            Fetched::Failed(error) => Err(CallError::Shared(error)),
            Fetched::NotShared => {
                let own = own.lock().unwrap_or_else(PoisonError::into_inner).take();
                let mut answer = match own {
                    Some(answer) => answer,
                    None => errand.call(self, outgoing).await?,
                };
                tell::status(&mut answer, "fwd=miss; stored=?0");
                Ok(answer)
            }
        }
    }

    /// Asks for what is about to expire, or has, unless somebody does already.
    fn refresh(&self, kept: &Arc<Kept>, outgoing: Outgoing, asked: Asked, errand: Errand<'_>) {
        let key = kept.cache.flight_key(&asked.head());
        let begin = || errand.load(self, asked, kept).fetch(Some(outgoing), None);
        let Ok(joined) = kept.flights.join(key, self.world().mono(), begin) else { return };
        if joined.is_first() {
            errand.tell(reason::CACHE_REFRESH);
            let task = async move { drop(joined.await) };
            drop(self.world().spawn("cache refresh", Box::pin(task)));
        }
    }
}
