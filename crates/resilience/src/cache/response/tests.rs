//! The rules, case by case: what is kept, for how long, for whom, and what is asked again.

use super::{
    CacheSettings, Lookup, RequestHead, ResponseCache, ResponseHead, Times, Uncacheable,
    VARIANTS_MAX,
};
use crate::cache::{Early, StoreBounds};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use outrigger_kernel::{Mono, Wall};
use std::time::Duration;

/// 2026-01-01T00:00:00Z.
const DATE: &str = "Thu, 01 Jan 2026 00:00:00 GMT";
const WALL: Wall = Wall(1_767_225_600_000);
const START: Mono = Mono(1 << 40);

fn cache(settings: CacheSettings) -> ResponseCache<&'static str> {
    ResponseCache::new(CacheSettings { jitter: 0.0, early: Early::Off, ..settings })
}

fn shared() -> ResponseCache<&'static str> {
    cache(CacheSettings::default())
}

fn private() -> ResponseCache<&'static str> {
    cache(CacheSettings { shared: false, ..CacheSettings::default() })
}

fn headers(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        let name = HeaderName::try_from(name).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn get(headers: &HeaderMap) -> RequestHead<'_> {
    RequestHead { scope: "", method: &Method::GET, uri: "http://shop/items?page=1", headers }
}

fn at(seconds: u64) -> Mono {
    START.plus(Duration::from_secs(seconds))
}

fn times(seconds: u64) -> Times {
    let passed = Duration::from_secs(seconds);
    Times { asked_at: at(seconds), now: at(seconds), wall: WALL.plus(passed), random: 0 }
}

/// Keeps a response that arrives at second 0.
fn keep(
    cache: &ResponseCache<&'static str>,
    asked: &[&str],
    status: u16,
    said: &[&str],
) -> Result<(), Uncacheable> {
    let (asked, said) = (headers(asked), headers(said));
    let response = ResponseHead { status: StatusCode::from_u16(status).unwrap(), headers: &said };
    cache.keep(&get(&asked), &response, "body", 4, times(0)).map(drop)
}

/// What a request finds: `fresh age`, `late seconds`, `ask`, `miss`, ...
fn look(cache: &ResponseCache<&'static str>, asked: &[&str], seconds: u64) -> String {
    match cache.look(&get(&headers(asked)), at(seconds), 1) {
        Lookup::Bypass => "bypass".to_owned(),
        Lookup::Miss => "miss".to_owned(),
        Lookup::Ask(_) => "ask".to_owned(),
        Lookup::NotCached => "not cached".to_owned(),
        Lookup::Hit(hit) if hit.not_modified => "304".to_owned(),
        Lookup::Hit(hit) if hit.late.is_zero() => format!("fresh {}", hit.age.as_secs()),
        Lookup::Hit(hit) => format!("late {}", hit.late.as_secs()),
    }
}

/// Asked, status, said; kept in a shared cache, in a private one.
type Case<'a> =
    (&'a [&'a str], u16, &'a [&'a str], Result<(), Uncacheable>, Result<(), Uncacheable>);

#[test]
fn what_may_be_kept_and_what_not() {
    use Uncacheable::{NoLifetime, NoStore, Private, Status, Varies};
    let cases: &[Case] = &[
        (&[], 200, &["cache-control: max-age=60"], Ok(()), Ok(())),
        (&[], 200, &[], Err(NoLifetime), Err(NoLifetime)),
        (&[], 200, &["etag: \"1\""], Ok(()), Ok(())),
        (&[], 200, &["cache-control: no-store, max-age=60"], Err(NoStore), Err(NoStore)),
        (
            &["cache-control: no-store"],
            200,
            &["cache-control: max-age=60"],
            Err(NoStore),
            Err(NoStore),
        ),
        (&[], 200, &["cache-control: private, max-age=60"], Err(Private), Ok(())),
        (&["authorization: b"], 200, &["cache-control: max-age=60"], Err(Private), Ok(())),
        (&["authorization: b"], 200, &["cache-control: public, max-age=60"], Ok(()), Ok(())),
        (&["authorization: b"], 200, &["cache-control: s-maxage=60"], Ok(()), Err(NoLifetime)),
        (
            &["authorization: b"],
            200,
            &["cache-control: must-revalidate, max-age=6"],
            Ok(()),
            Ok(()),
        ),
        (&[], 200, &["cache-control: max-age=60", "set-cookie: a=b"], Err(Private), Ok(())),
        (&[], 200, &["cache-control: public, max-age=60", "set-cookie: a=b"], Ok(()), Ok(())),
        (&[], 200, &["cache-control: max-age=60", "vary: *"], Err(Varies), Err(Varies)),
        (&[], 200, &["cache-control: max-age=60", "vary: accept, "], Ok(()), Ok(())),
        (&[], 200, &["cache-control: max-age=60", "age: 61"], Err(NoLifetime), Err(NoLifetime)),
        (&[], 200, &["cache-control: max-age=60", "age: 61", "etag: \"1\""], Ok(()), Ok(())),
        (&[], 200, &["expires: 0"], Err(NoLifetime), Err(NoLifetime)),
        (&[], 206, &["cache-control: max-age=60"], Err(Status), Err(Status)),
        (&[], 304, &["cache-control: max-age=60"], Err(Status), Err(Status)),
        (&[], 404, &[], Ok(()), Ok(())),
        (&[], 500, &[], Err(Status), Err(Status)),
        (&[], 500, &["cache-control: max-age=60"], Ok(()), Ok(())),
        (&[], 500, &["cache-control: max-age=60, must-understand"], Err(Status), Err(Status)),
        (&[], 200, &["cache-control: no-store, must-understand, max-age=6"], Ok(()), Ok(())),
        (
            &["range: bytes=0-1"],
            200,
            &["cache-control: max-age=60"],
            Err(Uncacheable::Method),
            Err(Uncacheable::Method),
        ),
    ];
    for (asked, status, said, in_shared, in_private) in cases {
        let said: Vec<&str> = said.iter().copied().chain([const_date()]).collect();
        assert_eq!(keep(&shared(), asked, *status, &said), *in_shared, "{asked:?} {said:?} shared");
        assert_eq!(
            keep(&private(), asked, *status, &said),
            *in_private,
            "{asked:?} {said:?} private"
        );
    }
}

fn const_date() -> &'static str {
    "date: Thu, 01 Jan 2026 00:00:00 GMT"
}

#[test]
fn how_long_a_response_is_fresh() {
    let cases: &[(&[&str], bool, u64)] = &[
        (&["cache-control: max-age=60"], true, 60),
        (&["cache-control: max-age=60, s-maxage=600"], true, 600),
        (&["cache-control: max-age=60, s-maxage=600"], false, 60),
        (&["cache-control: max-age=60", "expires: Thu, 01 Jan 2026 01:00:00 GMT"], true, 60),
        (&["expires: Thu, 01 Jan 2026 00:05:00 GMT"], true, 300),
        (&["cache-control: max-age=60", "age: 20"], true, 40),
        // Ten days unchanged: a tenth of it, at most a day.
        (&["last-modified: Wed, 31 Dec 2025 23:50:00 GMT"], true, 60),
        (&["last-modified: Mon, 01 Jan 2024 00:00:00 GMT"], true, 86_400),
    ];
    for (said, is_shared, fresh_for) in cases {
        let cache = if *is_shared { shared() } else { private() };
        let said: Vec<&str> = said.iter().copied().chain([const_date()]).collect();
        keep(&cache, &[], 200, &said).unwrap();
        assert!(look(&cache, &[], fresh_for - 1).starts_with("fresh"), "{said:?}");
        assert_eq!(look(&cache, &[], *fresh_for), "ask", "{said:?}");
    }
    let cache = shared();
    keep(&cache, &[], 404, &[]).unwrap();
    assert_eq!(
        (look(&cache, &[], 0), look(&cache, &[], 1)),
        ("fresh 0".to_owned(), "ask".to_owned())
    );
}

#[test]
fn a_clock_that_is_off_ages_and_never_rejuvenates() {
    let cache = shared();
    // Dated ten seconds before it arrived, and no Age.
    keep(&cache, &[], 200, &["cache-control: max-age=60", "date: Wed, 31 Dec 2025 23:59:50 GMT"])
        .unwrap();
    assert_eq!(
        (look(&cache, &[], 0), look(&cache, &[], 50)),
        ("fresh 10".to_owned(), "ask".to_owned())
    );
    keep(&cache, &[], 200, &["cache-control: max-age=60", "date: Thu, 01 Jan 2026 10:00:00 GMT"])
        .unwrap();
    assert_eq!(look(&cache, &[], 59), "fresh 59");
}

#[test]
fn the_client_has_a_say() {
    let cache = shared();
    keep(&cache, &[], 200, &["cache-control: max-age=60", const_date(), "etag: W/\"7\""]).unwrap();
    let cases: &[(&str, u64, &str)] = &[
        ("cache-control: no-cache", 1, "ask"),
        ("pragma: no-cache", 1, "ask"),
        ("cache-control: max-age=10", 10, "fresh 10"),
        ("cache-control: max-age=10", 11, "ask"),
        ("cache-control: min-fresh=30", 30, "fresh 30"),
        ("cache-control: min-fresh=30", 31, "ask"),
        ("cache-control: max-stale=10", 70, "late 10"),
        ("cache-control: max-stale=10", 71, "ask"),
        ("cache-control: max-stale", 100_000, "late 99940"),
        ("cache-control: only-if-cached", 59, "fresh 59"),
        ("cache-control: only-if-cached", 60, "not cached"),
        ("if-none-match: \"6\", \"7\"", 1, "304"),
        ("if-none-match: \"6\"", 1, "fresh 1"),
        ("if-none-match: *", 1, "304"),
        ("range: bytes=0-1", 1, "bypass"),
    ];
    for (asked, seconds, found) in cases {
        assert_eq!(look(&cache, &[asked], *seconds), *found, "{asked} at {seconds}");
    }
    assert_eq!(look(&shared(), &["cache-control: only-if-cached"], 0), "not cached");
}

#[test]
fn stale_is_used_only_where_it_may_be() {
    let cache = shared();
    let generous = "cache-control: max-age=10, stale-while-revalidate=5, stale-if-error=60";
    keep(&cache, &[], 200, &[generous]).unwrap();
    let found: Vec<String> = [9, 11, 14, 15].map(|seconds| look(&cache, &[], seconds)).into();
    assert_eq!(found, ["fresh 9", "late 1", "late 4", "ask"]);
    let asked = headers(&[]);
    assert!(matches!(cache.look(&get(&asked), at(12), 1), Lookup::Hit(hit) if hit.is_due));
    let rescued = |seconds| cache.rescue(&get(&asked), at(seconds)).map(|hit| hit.late.as_secs());
    assert_eq!((rescued(15), rescued(69), rescued(70)), (Some(5), Some(59), None));
    let lenient = headers(&["cache-control: stale-if-error=600"]);
    assert!(cache.rescue(&get(&lenient), at(600)).is_some());

    for strict in ["must-revalidate", "proxy-revalidate", "s-maxage=10"] {
        let said = format!("{generous}, {strict}");
        keep(&cache, &[], 200, &[&said]).unwrap();
        assert_eq!(look(&cache, &[], 10), "ask", "{strict}");
        assert_eq!(look(&cache, &["cache-control: max-stale"], 10), "ask", "{strict}");
        assert!(cache.rescue(&get(&lenient), at(10)).is_none(), "{strict}");
    }
    keep(&cache, &[], 200, &["cache-control: no-cache, max-age=60", "etag: \"1\""]).unwrap();
    assert_eq!(look(&cache, &[], 0), "ask");
}

#[test]
fn a_304_makes_it_fresh_again() {
    let cache = shared();
    let said =
        ["cache-control: max-age=10", "etag: \"1\"", "content-type: a/b", "age: 3", "x: old"];
    keep(&cache, &[], 200, &said).unwrap();
    let asked = headers(&[]);
    let Lookup::Ask(stored) = cache.look(&get(&asked), at(20), 1) else { panic!("not stale") };
    let conditions: Vec<_> = stored.conditions().collect();
    assert_eq!(conditions, [(http::header::IF_NONE_MATCH, HeaderValue::from_static("\"1\""))]);
    let confirmation = headers(&["cache-control: max-age=30", "content-type: c/d", "x: new"]);
    let fresh = cache.confirm(&get(&asked), &stored, &confirmation, times(20)).unwrap();
    assert_eq!((fresh.body, fresh.status), ("body", StatusCode::OK));
    assert_eq!(
        (&fresh.headers["content-type"], &fresh.headers["x"]),
        (&"a/b".parse().unwrap(), &"new".parse().unwrap())
    );
    assert_eq!(
        (look(&cache, &[], 49), look(&cache, &[], 50)),
        ("fresh 29".to_owned(), "ask".to_owned())
    );
    let gone = headers(&["cache-control: no-store"]);
    assert!(cache.confirm(&get(&asked), &stored, &gone, times(50)).is_err());
    assert_eq!(look(&cache, &[], 50), "miss");
}

#[test]
fn variants_are_kept_apart_and_bounded() {
    let cache = shared();
    let said =
        ["cache-control: max-age=60", "vary: Accept-Language", "connection: x-hop", "x-hop: 1"];
    for language in ["de", "en", "de"] {
        keep(&cache, &[&format!("accept-language: {language}")], 200, &said).unwrap();
    }
    assert_eq!(look(&cache, &["accept-language: en"], 1), "fresh 1");
    assert_eq!(look(&cache, &["accept-language: fr"], 1), "miss");
    assert_eq!(look(&cache, &[], 1), "miss");
    assert_eq!(cache.len(), 1);
    let asked = headers(&["accept-language: de"]);
    let Lookup::Hit(hit) = cache.look(&get(&asked), at(1), 1) else { panic!("not kept") };
    assert!(!hit.stored.headers.contains_key("x-hop"));
    for n in 0..2 * VARIANTS_MAX {
        keep(&cache, &[&format!("accept-language: x{n}")], 200, &said).unwrap();
    }
    assert_eq!(look(&cache, &["accept-language: de"], 1), "miss");
    assert_eq!(look(&cache, &[&format!("accept-language: x{}", VARIANTS_MAX)], 1), "fresh 1");
    let names = |request: &[&str]| cache.flight_key(&get(&headers(request)));
    assert_ne!(names(&["accept-language: de"]), names(&["accept-language: en"]));
    assert_ne!(names(&["authorization: a"]), names(&["authorization: b"]));
    assert_eq!(names(&["user-agent: a"]), names(&["user-agent: b"]));
}

#[test]
fn scopes_do_not_see_each_other() {
    let cache = private();
    let (asked, said) = (headers(&[]), headers(&["cache-control: private, max-age=60"]));
    let response = ResponseHead { status: StatusCode::OK, headers: &said };
    let of = |scope| RequestHead { scope, ..get(&asked) };
    cache.keep(&of("alice"), &response, "hers", 4, times(0)).unwrap();
    assert!(matches!(cache.look(&of("alice"), at(1), 1), Lookup::Hit(_)));
    assert!(matches!(cache.look(&of("bob"), at(1), 1), Lookup::Miss));
    cache.remove("alice", "http://shop/items?page=1", at(2));
    assert!(cache.is_empty());
}

#[test]
fn a_write_removes_what_it_may_have_changed() {
    let (cache, asked) = (shared(), headers(&[]));
    let post = RequestHead { method: &Method::POST, ..get(&asked) };
    assert!(matches!(cache.look(&post, at(0), 1), Lookup::Bypass));
    for (method, status, found) in [
        (Method::POST, 500, "fresh 1"),
        (Method::HEAD, 200, "fresh 1"),
        (Method::POST, 201, "miss"),
    ] {
        keep(&cache, &[], 200, &["cache-control: max-age=60"]).unwrap();
        let request = RequestHead { method: &method, ..get(&asked) };
        cache.after(&request, StatusCode::from_u16(status).unwrap(), at(1));
        assert_eq!(look(&cache, &[], 1), found, "{method} {status}");
    }
}

#[test]
fn an_answer_from_before_a_write_is_not_kept_after_it() {
    let (cache, asked) = (shared(), headers(&[]));
    let before = cache.flight_key(&get(&asked));
    let post = RequestHead { method: &Method::POST, ..get(&asked) };
    cache.after(&post, StatusCode::NO_CONTENT, at(5));
    assert_ne!(cache.flight_key(&get(&asked)), before);
    let said = headers(&["cache-control: max-age=60"]);
    let response = ResponseHead { status: StatusCode::OK, headers: &said };
    let arrives = |asked_at| Times { asked_at, ..times(7) };
    let late = cache.keep(&get(&asked), &response, "old", 3, arrives(at(4)));
    assert_eq!(late.unwrap_err(), Uncacheable::Outdated);
    assert_eq!(look(&cache, &[], 7), "miss");
    assert!(cache.keep(&get(&asked), &response, "new", 3, arrives(at(6))).is_ok());
    assert_eq!(look(&cache, &[], 7), "fresh 1");
}

#[test]
fn bodies_and_bytes_are_bounded() {
    let bounds = StoreBounds { entries_max: 100, bytes_max: 10_000 };
    let cache = cache(CacheSettings { bounds, body_max: 4_000, ..CacheSettings::default() });
    let (asked, said) = (headers(&[]), headers(&["cache-control: max-age=60", "etag: \"1\""]));
    let response = ResponseHead { status: StatusCode::OK, headers: &said };
    let long = cache.keep(&get(&asked), &response, "", 4_001, times(0));
    assert_eq!(long.unwrap_err(), Uncacheable::TooLong);
    for n in 0..50 {
        let uri = format!("http://shop/{n}");
        let request = RequestHead { uri: &uri, ..get(&asked) };
        let stored = cache.keep(&request, &response, "", 3_000, times(0)).unwrap();
        // Confirming does not make it heavier.
        let again = cache.confirm(&request, &stored, &HeaderMap::new(), times(1)).unwrap();
        assert_eq!(again.bytes, stored.bytes);
    }
    assert!(cache.len() <= 3);
    assert_eq!(DATE, &const_date()["date: ".len()..]);
}

#[test]
fn a_share_that_is_no_number_is_no_lifetime() {
    let cache = cache(CacheSettings { heuristic_share: f64::NAN, ..CacheSettings::default() });
    let modified = "last-modified: Mon, 01 Dec 2025 00:00:00 GMT";
    let date = format!("date: {DATE}");
    keep(&cache, &[], 200, &[&date, modified]).unwrap();
    assert_eq!(look(&cache, &[], 0), "ask");
}
