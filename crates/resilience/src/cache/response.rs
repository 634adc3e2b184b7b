//! A cache of HTTP responses that keeps to the rules: RFC 9111, with `stale-while-revalidate` and `stale-if-error` of
//! RFC 5861.
//!
//! ```text
//!   look(request) --> Miss ---------------- send, then keep(request, response)
//!                 --> Hit ----------------- answer; if refresh is due, send conditionally behind it
//!                 --> Ask ----------------- send conditionally: 304 -> confirm(), 5xx -> rescue(), else keep()
//!                 --> Bypass -------------- send, then after(request, status)
//!                 --> NotCached ----------- 504: the caller wanted nothing else
//! ```
//!
//! It is the decision, not the traffic: whoever sends does so through a [`crate::Flights`] keyed by
//! [`ResponseCache::flight_key`], and looks once more inside the flight. What may not be kept may not be shared with
//! the other waiters either; they send for themselves.
//!
//! **Whose it is.** A *shared* cache (the default) keeps nothing that is `private`, that was asked for with
//! `Authorization` and not explicitly given to all, or that sets a cookie and is not `public`. `scope` is part of the key
//! and keeps callers apart that must not see each other's answers, whatever the headers say.
//!
//! **Writes.** What a write may have changed is removed ([`ResponseCache::after`]); an answer asked for before that is not
//! kept when it arrives later, and nobody who asks after it joins a flight from before.
//!
//! **Bounds.** Entries and bytes by [`StoreBounds`], a body by `body_max` (1 MiB), variants of one address (`Vary`) by
//! [`VARIANTS_MAX`], of which the oldest goes.
//!
//! **Without a word from the origin** a response with `Last-Modified` is fresh for a tenth of how long it had not changed,
//! at most a day; a 404, 405, 410, 414 or 501 for `negative_for` (1 s); anything else for `fresh_for`, which is not at all
//! unless somebody sets it.
//!
//! Lifetimes are shortened by up to `jitter` (a tenth), never lengthened. Not kept: partial responses and requests for
//! them, anything but `GET`.

mod stored;

use super::{Directives, Early, Lifetime, Store, StoreBounds, rules};
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use outrigger_kernel::{Mono, Wall};
use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
pub use stored::{Hit, Stored};

/// How many variants of one address are kept.
pub const VARIANTS_MAX: usize = 16;

/// How a response cache behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheSettings {
    /// What it may hold.
    pub bounds: StoreBounds,
    /// How long a body may be.
    pub body_max: usize,
    /// Whether it serves more than one user.
    pub shared: bool,
    /// By up to which share lifetimes are shortened.
    pub jitter: f64,
    /// When a fresh response is refreshed already.
    pub early: Early,
    /// For how long a response may be used while it is refreshed, if it does not say.
    pub stale_while_revalidate: Duration,
    /// For how long a response may be used when the origin fails, if it does not say.
    pub stale_if_error: Duration,
    /// How long an error is fresh that does not say.
    pub negative_for: Duration,
    /// For how long a response is fresh that says neither that nor when it was changed; zero for not to be kept. Somebody
    /// has to know that its answers may be shared for this to be anything else.
    pub fresh_for: Duration,
    /// For which share of its unchanged time a response is fresh that does not say.
    pub heuristic_share: f64,
    /// How long it is so at most.
    pub heuristic_max: Duration,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            bounds: StoreBounds::default(),
            body_max: 1 << 20,
            shared: true,
            jitter: 0.1,
            early: Early::default(),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            negative_for: Duration::from_secs(1),
            fresh_for: Duration::ZERO,
            heuristic_share: 0.1,
            heuristic_max: Duration::from_secs(86_400),
        }
    }
}

/// What a cache needs to know of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// Who may share its answer: a tenant, a user, or nothing in particular.
    pub scope: &'a str,
    /// The method.
    pub method: &'a Method,
    /// The whole address, with the query.
    pub uri: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// What a cache needs to know of a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// What to do with a request.
#[derive(Debug)]
pub enum Lookup<B> {
    /// Not for this cache: send it, and say [`ResponseCache::after`] how it went.
    Bypass,
    /// Nothing kept: send it and keep the answer.
    Miss,
    /// Answer with this.
    Hit(Hit<B>),
    /// Kept, but not to be used unasked: send it with [`Stored::conditions`].
    Ask(Arc<Stored<B>>),
    /// Nothing kept, and nothing to be sent: 504.
    NotCached,
}

/// Why a response is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Uncacheable {
    /// Not a `GET` of the whole.
    #[error("only whole answers to GET are kept")]
    Method,
    /// Its status does not allow it.
    #[error("the status does not allow it")]
    Status,
    /// One of both sides said `no-store`.
    #[error("no-store")]
    NoStore,
    /// It is for one user.
    #[error("the answer is for one user only")]
    Private,
    /// It depends on more than a cache can see.
    #[error("the answer varies with too much")]
    Varies,
    /// It is stale on arrival, and has nothing to be confirmed by.
    #[error("the answer has no lifetime")]
    NoLifetime,
    /// It is too long.
    #[error("the answer is too long")]
    TooLong,
    /// It was asked for before a write that it may not show.
    #[error("the answer may be from before a write")]
    Outdated,
}

/// A cache of responses. Clones are the same cache.
pub struct ResponseCache<B>(Arc<Inner<B>>);

struct Inner<B> {
    settings: CacheSettings,
    store: Store<String, Variants<B>>,
    /// When something was removed last, of the addresses that share the place.
    removed: [AtomicU64; REMOVALS],
    hasher: RandomState,
}

/// Places that removals are spread over.
const REMOVALS: usize = 64;

type Variants<B> = Arc<[Arc<Stored<B>>]>;

impl<B: Clone> ResponseCache<B> {
    /// An empty cache.
    #[must_use]
    pub fn new(settings: CacheSettings) -> Self {
        let store = Store::new(settings.bounds);
        let removed = std::array::from_fn(|_| AtomicU64::new(0));
        Self(Arc::new(Inner { settings, store, removed, hasher: RandomState::new() }))
    }

    /// How it behaves.
    #[must_use]
    pub fn settings(&self) -> &CacheSettings {
        &self.0.settings
    }

    /// What to do with a request at `now`, given random bits.
    #[must_use]
    pub fn look(&self, request: &RequestHead<'_>, now: Mono, random: u64) -> Lookup<B> {
        if request.method != Method::GET || request.headers.contains_key(header::RANGE) {
            return Lookup::Bypass;
        }
        let asked = Directives::of(request.headers);
        let Some(stored) = self.variant(request) else {
            return if asked.only_if_cached { Lookup::NotCached } else { Lookup::Miss };
        };
        match stored.usable(&asked, now, self.0.settings.early, random) {
            Some(is_due) => Lookup::Hit(stored.hit(request, now, is_due)),
            None if asked.only_if_cached => Lookup::NotCached,
            None => Lookup::Ask(stored),
        }
    }

    /// Keeps a response that was asked for at `asked_at` and arrived at `now`, both on the monotonic clock.
    ///
    /// # Errors
    /// [`Uncacheable`]; then it is for this caller alone.
    pub fn keep(
        &self,
        request: &RequestHead<'_>,
        response: &ResponseHead<'_>,
        body: B,
        body_bytes: usize,
        times: Times,
    ) -> Result<Arc<Stored<B>>, Uncacheable> {
        let settings = &self.0.settings;
        if body_bytes > settings.body_max {
            return Err(Uncacheable::TooLong);
        }
        let took = times.now.since(times.asked_at);
        let shelf = rules::shelve(settings, request, response, times.wall, took)?;
        let varied = rules::varied(request.headers, response.headers)?;
        let headers = response.headers;
        let kept = headers.iter().filter(|(name, _)| rules::is_kept(name, headers));
        let headers: HeaderMap = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        let head_bytes: usize = headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 32).sum();
        let stored = Arc::new(Stored {
            status: response.status,
            headers,
            body,
            bytes: body_bytes + head_bytes,
            varied,
            age: shelf.age,
            lifetime: shelf.lifetime(settings, took, &times),
            always_ask: shelf.always_ask,
            never_stale: shelf.never_stale,
        });
        if self.put(request, Arc::clone(&stored), times.asked_at) {
            Ok(stored)
        } else {
            Err(Uncacheable::Outdated)
        }
    }

    /// Whether a response may be kept, by its head alone: for whoever has to collect its body first.
    ///
    /// # Errors
    /// [`Uncacheable`], as [`ResponseCache::keep`] would say it.
    pub fn may_keep(
        &self,
        request: &RequestHead<'_>,
        response: &ResponseHead<'_>,
        times: &Times,
    ) -> Result<(), Uncacheable> {
        let took = times.now.since(times.asked_at);
        rules::shelve(&self.0.settings, request, response, times.wall, took)?;
        rules::varied(request.headers, response.headers)?;
        Ok(())
    }

    /// The origin says that `stored` still holds: gives it the headers and the lifetime of the 304.
    ///
    /// # Errors
    /// [`Uncacheable`] when the 304 says that it may not be kept any more. It may still be answered with once.
    pub fn confirm(
        &self,
        request: &RequestHead<'_>,
        stored: &Stored<B>,
        confirmation: &HeaderMap,
        times: Times,
    ) -> Result<Arc<Stored<B>>, Uncacheable> {
        let mut headers = stored.headers.clone();
        for name in confirmation.keys().filter(|name| rules::is_kept(name, confirmation)) {
            // What describes the body stays with the body.
            if *name == header::CONTENT_LENGTH
                || *name == header::CONTENT_ENCODING
                || *name == header::CONTENT_RANGE
                || *name == header::CONTENT_TYPE
            {
                continue;
            }
            headers.remove(name);
            for value in confirmation.get_all(name) {
                headers.append(name, value.clone());
            }
        }
        // An age of the old copy is not the age of the confirmed one.
        if !confirmation.contains_key(header::AGE) {
            headers.remove(header::AGE);
        }
        let response = ResponseHead { status: stored.status, headers: &headers };
        let kept = self.keep(request, &response, stored.body.clone(), stored.body_bytes(), times);
        if kept.is_err() {
            self.remove_key(&key(request), times.asked_at);
        }
        kept
    }

    /// The kept response, when the origin failed and it may be used for that: a degraded answer.
    #[must_use]
    pub fn rescue(&self, request: &RequestHead<'_>, now: Mono) -> Option<Hit<B>> {
        let asked = Directives::of(request.headers);
        let stored = self.variant(request).filter(|stored| !stored.never_stale)?;
        let late = stored.late(now);
        let allowed = stored.lifetime.useful_after().max(asked.stale_if_error.unwrap_or_default());
        (late < allowed || late.is_zero()).then(|| stored.hit(request, now, false))
    }

    /// A request that bypassed the cache was answered at `now`: what it may have changed is no longer kept (RFC 9111
    /// section 4.4).
    pub fn after(&self, request: &RequestHead<'_>, status: StatusCode, now: Mono) {
        let succeeded = status.is_success() || status.is_redirection();
        if succeeded && !request.method.is_safe() {
            self.remove_key(&key(request), now);
        }
    }

    /// Removes every variant of an address in a scope.
    pub fn remove(&self, scope: &str, uri: &str, now: Mono) {
        self.remove_key(&[scope, "\n", uri].concat(), now);
    }

    /// The instant before the entry: what is kept in between is removed, what comes after is refused.
    fn remove_key(&self, key: &str, now: Mono) {
        self.removed(key).fetch_max(now.0, SeqCst);
        self.0.store.remove(key);
    }

    fn removed(&self, key: &str) -> &AtomicU64 {
        &self.0.removed[self.0.hasher.hash_one(key) as usize % REMOVALS]
    }

    /// Removes everything.
    pub fn clear(&self) {
        self.0.store.clear();
    }

    /// How many addresses it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.store.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.store.is_empty()
    }

    /// Under which name equal requests wait for each other: the address, the scope, and every header that may choose the
    /// answer. Until a first answer has said what it varies with, that is all of those listed here.
    #[must_use]
    pub fn flight_key(&self, request: &RequestHead<'_>) -> String {
        const CHOOSING: [HeaderName; 7] = [
            header::AUTHORIZATION,
            header::COOKIE,
            header::ACCEPT,
            header::ACCEPT_ENCODING,
            header::ACCEPT_LANGUAGE,
            header::ORIGIN,
            header::CACHE_CONTROL,
        ];
        let mut key = key(request);
        let removed = self.removed(&key).load(SeqCst);
        let known = self.0.store.get(&key).and_then(|variants| variants.last().cloned());
        let known = known.iter().flat_map(|stored| stored.varied.iter().map(|(name, _)| name));
        // Who asks after a write does not join who asked before it.
        key.push('\n');
        key.push_str(&removed.to_string());
        for name in known.chain(&CHOOSING) {
            for value in request.headers.get_all(name) {
                // Names and values have no line breaks, so that nothing can pass for something else.
                key.push('\n');
                key.push_str(name.as_str());
                key.push(':');
                key.extend(value.as_bytes().iter().map(|byte| char::from(*byte)));
            }
        }
        key
    }

    fn variant(&self, request: &RequestHead<'_>) -> Option<Arc<Stored<B>>> {
        let variants = self.0.store.get(&key(request))?;
        variants.iter().rev().find(|stored| stored.fits(request.headers)).cloned()
    }

    /// Answers whether nothing speaks against it.
    fn put(&self, request: &RequestHead<'_>, stored: Arc<Stored<B>>, asked_at: Mono) -> bool {
        let key = key(request);
        let before = self.0.store.get(&key);
        let others = before.iter().flat_map(|variants| variants.iter());
        let others = others.filter(|other| !other.fits(request.headers)).cloned();
        let mut variants: Vec<Arc<Stored<B>>> = others.collect();
        variants.drain(..(variants.len() + 1).saturating_sub(VARIANTS_MAX));
        variants.push(stored);
        let bytes = key.len() + variants.iter().map(|stored| stored.bytes).sum::<usize>();
        let removed = self.removed(&key);
        let mut is_current = true;
        self.0.store.put_if(key.clone(), variants.into(), bytes, || {
            let removed = removed.load(SeqCst);
            is_current = removed == 0 || asked_at.0 > removed;
            is_current
        });
        is_current
    }
}

/// When a response was asked for and arrived.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Sent at, on the monotonic clock.
    pub asked_at: Mono,
    /// Arrived at, on the monotonic clock.
    pub now: Mono,
    /// Arrived at, on the wall clock.
    pub wall: Wall,
    /// Random bits, for the jitter.
    pub random: u64,
}

fn key(request: &RequestHead<'_>) -> String {
    [request.scope, "\n", request.uri].concat()
}

impl rules::Shelf {
    fn lifetime(&self, settings: &CacheSettings, took: Duration, times: &Times) -> Lifetime {
        let fresh_for = self.fresh_for.saturating_sub(self.age);
        // What arrives stale has used up some of its grace.
        let overdue = self.age.saturating_sub(self.fresh_for);
        let lifetime = Lifetime {
            stored: times.now,
            fresh_for,
            stale_for: self.stale_for.saturating_sub(overdue),
            on_error_for: self.on_error_for.saturating_sub(overdue),
            load_took: took,
        };
        lifetime.jittered(settings.jitter, times.random)
    }
}

impl<B> Clone for ResponseCache<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B> fmt::Debug for ResponseCache<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResponseCache({:?})", self.0.settings)
    }
}

#[cfg(test)]
mod tests;
