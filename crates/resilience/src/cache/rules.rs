//! What RFC 9111 says about one response: whether it may be kept, for how long it is fresh, and how old it was on arrival.

use super::{CacheSettings, Directives, RequestHead, ResponseHead, Uncacheable};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use outrigger_kernel::Wall;
use std::time::Duration;

/// How many header names a `Vary` may have.
const VARY_MAX: usize = 16;

/// Statuses that may be kept without being told to (RFC 9110 section 15.1), but for 206.
const HEURISTIC: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];

/// How long a response is of use, from its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shelf {
    pub(super) age: Duration,
    pub(super) fresh_for: Duration,
    pub(super) stale_for: Duration,
    pub(super) on_error_for: Duration,
    /// Each use has to be confirmed by the origin.
    pub(super) always_ask: bool,
    /// Never to be used stale.
    pub(super) never_stale: bool,
}

/// Whether the response may be kept, and for how long it is of use.
pub(super) fn shelve(
    settings: &CacheSettings,
    request: &RequestHead<'_>,
    response: &ResponseHead<'_>,
    arrived: Wall,
    took: Duration,
) -> Result<Shelf, Uncacheable> {
    let (asked, said) = (Directives::of(request.headers), Directives::of(response.headers));
    may_be_kept(settings, request, response, &asked, &said)?;
    let date = time(response.headers, &header::DATE);
    let age = age_on_arrival(response.headers, date, arrived, took);
    let fresh_for = explicitly_fresh(settings, response.headers, &said, date, arrived)
        .or_else(|| heuristically_fresh(settings, request, response, date, arrived))
        .ok_or(Uncacheable::NoLifetime)?;
    let always_ask = said.no_cache;
    let never_stale = said.must_revalidate
        || (settings.shared && (said.proxy_revalidate || said.s_maxage.is_some()));
    let stale = |own: Option<Duration>, usual| {
        if never_stale { Duration::ZERO } else { own.unwrap_or(usual) }
    };
    let shelf = Shelf {
        age,
        fresh_for,
        stale_for: stale(said.stale_while_revalidate, settings.stale_while_revalidate),
        on_error_for: stale(said.stale_if_error, settings.stale_if_error),
        always_ask,
        never_stale,
    };
    let is_of_use = fresh_for > age
        || !(shelf.stale_for.is_zero() && shelf.on_error_for.is_zero())
        || has_validator(response.headers);
    if is_of_use { Ok(shelf) } else { Err(Uncacheable::NoLifetime) }
}

fn may_be_kept(
    settings: &CacheSettings,
    request: &RequestHead<'_>,
    response: &ResponseHead<'_>,
    asked: &Directives,
    said: &Directives,
) -> Result<(), Uncacheable> {
    if request.method != Method::GET || request.headers.contains_key(header::RANGE) {
        return Err(Uncacheable::Method);
    }
    let status = response.status;
    let is_final = !status.is_informational() && status != StatusCode::PARTIAL_CONTENT;
    if !is_final || status == StatusCode::NOT_MODIFIED {
        return Err(Uncacheable::Status);
    }
    let is_understood = HEURISTIC.contains(&status.as_u16());
    if said.must_understand && !is_understood {
        return Err(Uncacheable::Status);
    }
    if asked.no_store || (said.no_store && !(said.must_understand && is_understood)) {
        return Err(Uncacheable::NoStore);
    }
    if settings.shared {
        if said.private {
            return Err(Uncacheable::Private);
        }
        let for_all = said.public || said.s_maxage.is_some();
        if request.headers.contains_key(header::AUTHORIZATION) && !(for_all || said.must_revalidate)
        {
            return Err(Uncacheable::Private);
        }
        // Allowed by the letter, but a cookie is made for one user far more often than not.
        if response.headers.contains_key(header::SET_COOKIE) && !said.public {
            return Err(Uncacheable::Private);
        }
    }
    let explicit = said.public
        || said.max_age.is_some()
        || (settings.shared && said.s_maxage.is_some())
        || (!settings.shared && said.private)
        || response.headers.contains_key(header::EXPIRES);
    if explicit || is_understood { Ok(()) } else { Err(Uncacheable::Status) }
}

fn explicitly_fresh(
    settings: &CacheSettings,
    headers: &HeaderMap,
    said: &Directives,
    date: Option<Wall>,
    arrived: Wall,
) -> Option<Duration> {
    if let Some(seconds) = said.s_maxage.filter(|_| settings.shared).or(said.max_age) {
        return Some(seconds);
    }
    headers.contains_key(header::EXPIRES).then(|| {
        // A date that is none, such as "0", lies in the past.
        let expires = time(headers, &header::EXPIRES).unwrap_or_default();
        expires.since(date.unwrap_or(arrived))
    })
}

fn heuristically_fresh(
    settings: &CacheSettings,
    request: &RequestHead<'_>,
    response: &ResponseHead<'_>,
    date: Option<Wall>,
    arrived: Wall,
) -> Option<Duration> {
    if !HEURISTIC.contains(&response.status.as_u16()) {
        return None;
    }
    if response.status.is_client_error() || response.status.is_server_error() {
        return Some(settings.negative_for);
    }
    let modified = time(response.headers, &header::LAST_MODIFIED);
    let guess = modified.map(|modified| {
        let unchanged_for = date.unwrap_or(arrived).since(modified).as_secs_f64();
        let share = settings.heuristic_share.clamp(0.0, 1.0);
        // A share that is no number is none.
        let guess = Duration::try_from_secs_f64(unchanged_for * share).unwrap_or_default();
        guess.min(settings.heuristic_max)
    });
    // Of use for its validator at least.
    // A request with a cookie is one of somebody, and nobody says that its answer is not.
    let is_somebodys = settings.shared && request.headers.contains_key(header::COOKIE);
    let told = Some(settings.fresh_for).filter(|told| !told.is_zero() && !is_somebodys);
    guess.or(told).or_else(|| has_validator(response.headers).then_some(Duration::ZERO))
}

/// RFC 9111 section 4.2.3.
fn age_on_arrival(
    headers: &HeaderMap,
    date: Option<Wall>,
    arrived: Wall,
    took: Duration,
) -> Duration {
    let apparent = date.map_or(Duration::ZERO, |date| arrived.since(date));
    let claimed = headers.get(header::AGE).and_then(|value| value.to_str().ok());
    let claimed = claimed.and_then(|age| age.trim().parse::<u32>().ok()).unwrap_or(0);
    apparent.max(Duration::from_secs(claimed.into()).saturating_add(took))
}

pub(super) fn time(headers: &HeaderMap, name: &HeaderName) -> Option<Wall> {
    let text = headers.get(name)?.to_str().ok()?;
    let time = httpdate::parse_http_date(text).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
}

pub(super) fn has_validator(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED)
}

/// The request headers that chose this response, with what the request said in them.
pub(super) fn varied(
    request: &HeaderMap,
    response: &HeaderMap,
) -> Result<Vec<(HeaderName, Vec<HeaderValue>)>, Uncacheable> {
    let mut chosen: Vec<(HeaderName, Vec<HeaderValue>)> = Vec::new();
    for value in response.get_all(header::VARY) {
        let text = value.to_str().map_err(|_| Uncacheable::Varies)?;
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            // "*" is not a name, and means what no request tells.
            let name = HeaderName::try_from(name).ok().filter(|name| name != "*");
            let name = name.ok_or(Uncacheable::Varies)?;
            if chosen.iter().all(|(other, _)| *other != name) {
                let values = said(request, &name);
                chosen.push((name, values));
            }
        }
    }
    if chosen.len() > VARY_MAX { Err(Uncacheable::Varies) } else { Ok(chosen) }
}

/// What a request says in a header.
pub(super) fn said(request: &HeaderMap, name: &HeaderName) -> Vec<HeaderValue> {
    request.get_all(name).iter().cloned().collect()
}

/// Whether the copy that the client has is the kept one (RFC 9110 section 13).
pub(super) fn client_has_it(request: &HeaderMap, kept: &HeaderMap) -> bool {
    let tag = |value: &str| value.trim().trim_start_matches("W/").to_owned();
    let mut tags = request.get_all(header::IF_NONE_MATCH).iter().peekable();
    if tags.peek().is_some() {
        let own = kept.get(header::ETAG).and_then(|value| value.to_str().ok()).map(tag);
        return tags.filter_map(|value| value.to_str().ok()).any(|listed| {
            listed.trim() == "*" || listed.split(',').any(|one| Some(tag(one)) == own)
        });
    }
    let since = time(request, &header::IF_MODIFIED_SINCE);
    since.zip(time(kept, &header::LAST_MODIFIED)).is_some_and(|(since, modified)| modified <= since)
}

/// Whether a response header is kept with the response (RFC 9111 section 3.1).
pub(super) fn is_kept(name: &HeaderName, headers: &HeaderMap) -> bool {
    const HOP_BY_HOP: [&str; 8] = [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    let listed = headers.get_all(header::CONNECTION).iter().any(|value| {
        let names = value.to_str().unwrap_or_default().split(',');
        names.into_iter().any(|one| one.trim().eq_ignore_ascii_case(name.as_str()))
    });
    !listed && !HOP_BY_HOP.contains(&name.as_str())
}
