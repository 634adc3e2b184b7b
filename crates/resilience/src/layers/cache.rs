//! [`ResponseCache`] as a layer, with the single flight it asks for.
//!
//! For services whose answers have their body in one piece (`http::Response<D>` with `D` cheap to clone, such as `Bytes`).
//! Whoever streams bodies decides by the head whether to collect one, and uses the cache itself.

use crate::{
    FlightSettings, Flights,
    cache::{CacheSettings, Hit, Lookup, RequestHead, ResponseCache, ResponseHead, Stored, Times},
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use outrigger_kernel::{BoxFuture, World};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;

/// Answers from a cache what may be, by the rules of RFC 9111. `bytes` says how long a body is. Requests are told apart by
/// the `scope` that [`CacheLayer::scoped`] reads from them; without it there is one for all.
pub struct CacheLayer<D, E> {
    shared: Arc<Shared<D, E>>,
}

struct Shared<D, E> {
    world: Arc<dyn World>,
    cache: ResponseCache<D>,
    flights: Flights<String, Fetched<D, E>>,
    bytes: fn(&D) -> usize,
    scope: fn(&http::Extensions) -> &str,
}

/// What a flight brings to those who wait for it.
enum Fetched<D, E> {
    Kept(Arc<Stored<D>>),
    /// Stale, because the origin failed.
    Rescued(Arc<Stored<D>>),
    /// For the one who sent it only; the others send for themselves.
    NotShared,
    Failed(E),
}

impl<D, E: Clone> Clone for Fetched<D, E> {
    fn clone(&self) -> Self {
        match self {
            Self::Kept(stored) => Self::Kept(Arc::clone(stored)),
            Self::Rescued(stored) => Self::Rescued(Arc::clone(stored)),
            Self::NotShared => Self::NotShared,
            Self::Failed(error) => Self::Failed(error.clone()),
        }
    }
}

impl<D, E> CacheLayer<D, E>
where
    D: Clone + Send + Sync + 'static,
    E: Clone + Send + 'static,
{
    /// An empty cache.
    pub fn new(world: Arc<dyn World>, settings: CacheSettings, bytes: fn(&D) -> usize) -> Self {
        Self::scoped(world, settings, bytes, |_| "")
    }

    /// The same, with what callers are told apart by.
    pub fn scoped(
        world: Arc<dyn World>,
        settings: CacheSettings,
        bytes: fn(&D) -> usize,
        scope: fn(&http::Extensions) -> &str,
    ) -> Self {
        let flights = Flights::new(FlightSettings::default());
        let cache = ResponseCache::new(settings);
        Self { shared: Arc::new(Shared { world, cache, flights, bytes, scope }) }
    }

    /// The cache.
    #[must_use]
    pub fn cache(&self) -> &ResponseCache<D> {
        &self.shared.cache
    }
}

impl<D, E> Clone for CacheLayer<D, E> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<D, E> fmt::Debug for CacheLayer<D, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheLayer({:?})", self.shared.cache)
    }
}

impl<S, D, E> Layer<S> for CacheLayer<D, E> {
    type Service = WithCache<S, D, E>;

    fn layer(&self, inner: S) -> Self::Service {
        WithCache { inner, shared: Arc::clone(&self.shared) }
    }
}

/// A service with a cache in front of it.
#[derive(Debug)]
pub struct WithCache<S, D, E> {
    inner: S,
    shared: Arc<Shared<D, E>>,
}

impl<D, E> fmt::Debug for Shared<D, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cache.fmt(f)
    }
}

impl<S: Clone, D, E> Clone for WithCache<S, D, E> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S, B, D> Service<Request<B>> for WithCache<S, D, S::Error>
where
    S: Service<Request<B>, Response = Response<D>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Clone + Send + 'static,
    B: Default + Send + 'static,
    D: Clone + Default + Send + Sync + 'static,
{
    type Response = Response<D>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<D>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready makes the call; what stays behind is made ready anew.
        let next = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, next);
        Box::pin(answer(Arc::clone(&self.shared), ready, request))
    }
}

async fn answer<S, B, D>(
    shared: Arc<Shared<D, S::Error>>,
    mut inner: S,
    request: Request<B>,
) -> Result<Response<D>, S::Error>
where
    S: Service<Request<B>, Response = Response<D>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Clone + Send + 'static,
    B: Default + Send + 'static,
    D: Clone + Default + Send + Sync + 'static,
{
    let asked = Asked::new(&shared, &request);
    let now = shared.world.mono();
    match shared.cache.look(&asked.head(), now, shared.world.random()) {
        Lookup::Bypass => {
            let response = inner.call(request).await?;
            shared.cache.after(&asked.head(), response.status(), shared.world.mono());
            Ok(response)
        }
        Lookup::NotCached => {
            let mut response = Response::new(D::default());
            *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
            Ok(response)
        }
        Lookup::Hit(hit) => {
            if hit.is_due {
                refresh(&shared, inner, &asked);
            }
            Ok(respond(&hit))
        }
        Lookup::Miss | Lookup::Ask(_) => {
            // In the hands of whoever began the flight: what only that one may see.
            let own = Arc::new(Mutex::new(None));
            let key = shared.cache.flight_key(&asked.head());
            let fetch =
                || fetch(Arc::clone(&shared), inner.clone(), asked.clone(), Some(Arc::clone(&own)));
            let fetched = match shared.flights.join(key, now, fetch) {
                Ok(joined) => joined.await.unwrap_or(Fetched::NotShared),
                Err(_) => Fetched::NotShared,
            };
            let now = shared.world.mono();
            match fetched {
                Fetched::Kept(stored) | Fetched::Rescued(stored)
                    if stored.fits(&asked.parts.headers) =>
                {
                    Ok(respond(&stored.answer(&asked.head(), now)))
                }
                // It varies with what the one who called has not in common with this one.
                Fetched::Kept(_) | Fetched::Rescued(_) => send(inner, request).await,
                Fetched::Failed(error) => Err(error),
                Fetched::NotShared => {
                    let own = own.lock().unwrap_or_else(PoisonError::into_inner).take();
                    match own {
                        Some(response) => Ok(response),
                        None => send(inner, request).await,
                    }
                }
            }
        }
    }
}

/// Calls a service that may not be ready: the clone of one that was.
async fn send<S, R>(mut inner: S, request: R) -> Result<S::Response, S::Error>
where
    S: Service<R>,
{
    std::future::poll_fn(|cx| inner.poll_ready(cx)).await?;
    inner.call(request).await
}

/// A request without its body, which a `GET` has none of.
#[derive(Clone)]
struct Asked {
    parts: http::request::Parts,
    uri: String,
    scope: String,
}

impl Asked {
    fn new<B, D, E>(shared: &Shared<D, E>, request: &Request<B>) -> Self {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = request.method().clone();
        parts.uri = request.uri().clone();
        parts.version = request.version();
        parts.headers = request.headers().clone();
        parts.extensions = request.extensions().clone();
        let scope = (shared.scope)(&parts.extensions).to_owned();
        Self { uri: parts.uri.to_string(), parts, scope }
    }

    fn head(&self) -> RequestHead<'_> {
        let (method, headers) = (&self.parts.method, &self.parts.headers);
        RequestHead { scope: &self.scope, method, uri: &self.uri, headers }
    }
}

fn refresh<S, B, D>(shared: &Arc<Shared<D, S::Error>>, inner: S, asked: &Asked)
where
    S: Service<Request<B>, Response = Response<D>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Clone + Send + 'static,
    B: Default + Send + 'static,
    D: Clone + Default + Send + Sync + 'static,
{
    let key = shared.cache.flight_key(&asked.head());
    let fetch = || fetch(Arc::clone(shared), inner, asked.clone(), None);
    let Ok(joined) = shared.flights.join(key, shared.world.mono(), fetch) else { return };
    if joined.is_first() {
        drop(shared.world.spawn("cache refresh", Box::pin(async move { drop(joined.await) })));
    }
}

type Own<D> = Arc<Mutex<Option<Response<D>>>>;

/// The load of a flight.
async fn fetch<S, B, D>(
    shared: Arc<Shared<D, S::Error>>,
    inner: S,
    asked: Asked,
    own: Option<Own<D>>,
) -> Fetched<D, S::Error>
where
    S: Service<Request<B>, Response = Response<D>>,
    S::Error: Clone,
    B: Default,
    D: Clone,
{
    let asked_at = shared.world.mono();
    // Another flight may have ended between the first look and the joining. The draw is the one that finds a refresh due
    // wherever one can be: this may be such a refresh.
    let kept = match shared.cache.look(&asked.head(), asked_at, 0) {
        Lookup::Hit(hit) if own.is_some() || !hit.is_due => return Fetched::Kept(hit.stored),
        Lookup::Hit(hit) => Some(hit.stored),
        Lookup::Ask(stored) => Some(stored),
        _ => None,
    };
    let mut request = Request::from_parts(asked.parts.clone(), B::default());
    // What the client has is compared with the answer, which is for all who wait.
    request.headers_mut().remove(header::IF_NONE_MATCH);
    request.headers_mut().remove(header::IF_MODIFIED_SINCE);
    for (name, value) in kept.iter().flat_map(|stored| stored.conditions()) {
        request.headers_mut().insert(name, value);
    }
    debug_assert_eq!(request.method(), Method::GET);
    let sent = send(inner, request).await;
    let now = shared.world.mono();
    let response = match sent {
        Ok(response) if response.status().is_server_error() => Ok(response),
        Ok(response) => return shared.settle(&asked, kept.as_deref(), response, asked_at, own),
        Err(error) => Err(error),
    };
    if let Some(hit) = shared.cache.rescue(&asked.head(), now) {
        return Fetched::Rescued(hit.stored);
    }
    match response {
        Ok(response) => shared.settle(&asked, kept.as_deref(), response, asked_at, own),
        Err(error) => Fetched::Failed(error),
    }
}

impl<D: Clone, E> Shared<D, E> {
    /// Keeps what may be kept.
    fn settle(
        &self,
        asked: &Asked,
        kept: Option<&Stored<D>>,
        response: Response<D>,
        asked_at: outrigger_kernel::Mono,
        own: Option<Own<D>>,
    ) -> Fetched<D, E> {
        let (now, wall, random) = (self.world.mono(), self.world.wall(), self.world.random());
        let times = Times { asked_at, now, wall, random };
        let head = asked.head();
        let (response, result) = match kept {
            Some(stored) if response.status() == StatusCode::NOT_MODIFIED => {
                let result = self.cache.confirm(&head, stored, response.headers(), times);
                let mut whole = Response::new(stored.body.clone());
                *whole.status_mut() = stored.status;
                *whole.headers_mut() = stored.headers.clone();
                (whole, result)
            }
            _ => {
                let (status, headers) = (response.status(), response.headers());
                let bytes = (self.bytes)(response.body());
                let of = ResponseHead { status, headers };
                let result = self.cache.keep(&head, &of, response.body().clone(), bytes, times);
                (response, result)
            }
        };
        if let Ok(stored) = result {
            return Fetched::Kept(stored);
        }
        if let Some(own) = own {
            *own.lock().unwrap_or_else(PoisonError::into_inner) = Some(response);
        }
        Fetched::NotShared
    }
}

fn respond<D: Clone + Default>(hit: &Hit<D>) -> Response<D> {
    let body = if hit.not_modified { D::default() } else { hit.stored.body.clone() };
    let mut response = Response::new(body);
    *response.status_mut() =
        if hit.not_modified { StatusCode::NOT_MODIFIED } else { hit.stored.status };
    *response.headers_mut() = hit.stored.headers.clone();
    if hit.not_modified {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response.headers_mut().insert(header::AGE, HeaderValue::from(hit.age.as_secs()));
    response
}
