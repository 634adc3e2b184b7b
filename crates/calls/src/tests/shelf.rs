//! Answers that are kept: one call for all who ask, what is kept for whom, and what happens when the target fails.

use super::servers::{Server, patient, soon};
use crate::{
    AccessList, AppProtocol::Http, Body, CallError, CallPolicy, CanonicalPath, Directory,
    HeaderEdits, Invocation, Invoker, OutboundClient, OutboundSettings, Registration, Shelf,
    ShelfSettings, Target, access::Action, body,
};
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use outrigger_kernel::World;
use outrigger_resilience::{
    Policy,
    cache::{CacheSettings, Early, StoreBounds},
};
use outrigger_sim::SimWorld;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

pub(super) type Headers = &'static [(&'static str, &'static str)];

/// What the app says next, and how often it was asked.
pub(super) struct Stage {
    pub(super) world: Arc<SimWorld>,
    pub(super) invoker: Arc<Invoker>,
    pub(super) target: Target,
    answer: Arc<Mutex<(u16, Headers, &'static str)>>,
    gate: tokio::sync::watch::Sender<bool>,
    asked: Arc<AtomicUsize>,
    _server: Server,
    _registration: Registration,
}

impl Stage {
    pub(super) async fn new(status: u16, headers: Headers, text: &'static str) -> Self {
        let world = SimWorld::new(1);
        let answer = Arc::new(Mutex::new((status, headers, text)));
        let asked = Arc::new(AtomicUsize::new(0));
        let (gate, opened) = tokio::sync::watch::channel(true);
        let (says, count) = (Arc::clone(&answer), Arc::clone(&asked));
        let server = Server::http1(&world, move |request: Request<Incoming>| {
            count.fetch_add(1, SeqCst);
            let (status, headers, text) = *says.lock().unwrap();
            let mut opened = opened.clone();
            async move {
                let _opened = opened.wait_for(|open| *open).await;
                let mut answer = Response::builder().status(status);
                for (name, value) in headers {
                    answer = answer.header(*name, *value);
                }
                let has = request.headers().get("if-none-match");
                if has.is_some_and(|tag| headers.contains(&("etag", tag.to_str().unwrap()))) {
                    return answer.status(304).body(body::empty()).unwrap();
                }
                answer.body(body::full(text)).unwrap()
            }
        })
        .await;
        let outbound = OutboundClient::new(OutboundSettings::default(), world.clone());
        let invoker = Invoker::new(outbound, world.clone());
        let directory = Directory::new();
        let registration = directory.register("app", "default", server.channel(&world, Http));
        let target = directory.resolve("app", "default").unwrap();
        Self {
            world,
            invoker,
            target,
            answer,
            gate,
            asked,
            _server: server,
            _registration: registration,
        }
    }

    pub(super) fn says(&self, status: u16, headers: Headers, text: &'static str) {
        *self.answer.lock().unwrap() = (status, headers, text);
    }

    pub(super) async fn call(
        &self,
        policy: &CallPolicy,
        method: Method,
        headers: Headers,
    ) -> Result<Response<Body>, CallError> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let path = CanonicalPath::parse("/x").unwrap();
        let call = self.invoker.invoke(Invocation {
            target: &self.target,
            caller: None,
            method,
            path: &path,
            operation: None,
            query: Some("q=1"),
            headers: headers.collect(),
            edits: HeaderEdits::default(),
            body: body::empty(),
            policy: Some(policy),
            reconnect: None,
            patience: patient(&self.world),
            alternates: None,
        });
        soon(&self.world, call).await
    }

    /// What `GET` says, and in which words it was found.
    pub(super) async fn get(&self, policy: &CallPolicy, headers: Headers) -> (u16, String, String) {
        let answer = self.call(policy, Method::GET, headers).await.unwrap();
        let status = answer.status().as_u16();
        let found = answer.headers().get("cache-status").unwrap().to_str().unwrap().to_owned();
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(text.to_vec()).unwrap(), found)
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

fn settings() -> CacheSettings {
    CacheSettings { jitter: 0.0, early: Early::Off, ..CacheSettings::default() }
}

fn keeping(cache: CacheSettings) -> CallPolicy {
    let settings = ShelfSettings { cache, key_headers: Vec::new(), coalesce_any: false };
    CallPolicy::new(Policy::default(), 10).caching(Some(Shelf::new("short", settings)))
}

const MINUTE: Headers = &[("cache-control", "max-age=60")];

#[tokio::test]
async fn an_answer_is_kept_as_long_as_it_says_and_tells_its_age() {
    let stage = Stage::new(200, MINUTE, "one").await;
    let policy = keeping(settings());
    let (status, text, found) = stage.get(&policy, &[]).await;
    assert_eq!((status, text.as_str()), (200, "one"));
    assert!(found.starts_with("outrigger; fwd=miss; stored; ttl="), "{found}");
    stage.says(200, MINUTE, "two");
    let answer = stage.call(&policy, Method::GET, &[]).await.unwrap();
    assert!(answer.headers().contains_key("age"));
    let (_, text, found) = stage.get(&policy, &[]).await;
    assert!(text == "one" && found.starts_with("outrigger; hit; ttl="), "{text} {found}");
    assert_eq!(stage.asked(), 1);
    // A write goes through, and what it may have changed is not kept any more.
    let written = stage.call(&policy, Method::POST, &[]).await.unwrap();
    assert_eq!(written.headers()["cache-status"], "outrigger; fwd=method");
    let (_, text, _) = stage.get(&policy, &[]).await;
    assert_eq!((text.as_str(), stage.asked()), ("two", 3));
    // The caller may insist on a new one.
    let (_, _, found) = stage.get(&policy, &[("cache-control", "no-cache")]).await;
    assert!(found.contains("fwd=miss"), "{found}");
    assert_eq!(stage.asked(), 4);
}

#[tokio::test]
async fn what_is_for_one_is_for_one() {
    let authorized: Headers = &[("authorization", "Bearer a")];
    for (says, asks) in [
        (MINUTE, authorized),
        (&[("cache-control", "private, max-age=60")] as Headers, &[] as Headers),
        (&[("cache-control", "no-store")], &[]),
        (&[("cache-control", "max-age=60"), ("set-cookie", "a=b")], &[]),
        (&[], &[]),
    ] {
        let stage = Stage::new(200, says, "mine").await;
        let policy = keeping(settings());
        for _ in 0..2 {
            let (_, text, found) = stage.get(&policy, asks).await;
            assert_eq!((text.as_str(), found.as_str()), ("mine", "outrigger; fwd=miss; stored=?0"));
        }
        assert_eq!(stage.asked(), 2, "{says:?}");
    }
    // Given to all, it is kept, and by user where the policy says what users are told apart by.
    let public: Headers = &[("cache-control", "public, max-age=60")];
    let stage = Stage::new(200, public, "all").await;
    let shelf = ShelfSettings {
        cache: settings(),
        key_headers: vec![HeaderName::from_static("x-tenant")],
        coalesce_any: false,
    };
    let policy = CallPolicy::new(Policy::default(), 10).caching(Some(Shelf::new("s", shelf)));
    stage.get(&policy, authorized).await;
    assert!(stage.get(&policy, authorized).await.2.starts_with("outrigger; hit"));
    assert!(stage.get(&policy, &[("x-tenant", "b")]).await.2.contains("fwd=miss"));
    assert_eq!(stage.asked(), 2);
}

#[tokio::test]
async fn ten_thousand_readers_of_one_expired_answer_are_one_call() {
    let stage =
        Arc::new(Stage::new(200, &[("cache-control", "max-age=0"), ("etag", "v1")], "old").await);
    let policy = Arc::new(keeping(settings()));
    stage.get(&policy, &[]).await;
    stage.says(200, MINUTE, "new");
    stage.gate.send_replace(false);
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        let (stage, policy) = (Arc::clone(&stage), Arc::clone(&policy));
        readers.spawn(async move { stage.get(&policy, &[]).await });
    }
    // All of them wait, and the target has been asked once for all of them.
    while stage.asked() < 2 {
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    stage.gate.send_replace(true);
    let all = readers.join_all().await;
    assert!(all.iter().all(|(status, text, _)| (*status, text.as_str()) == (200, "new")));
    let collapsed = all.iter().filter(|(.., found)| found.ends_with("collapsed")).count();
    assert_eq!((stage.asked(), collapsed), (2, 9_999));
}

#[tokio::test]
async fn who_waited_with_other_headers_than_the_answer_varies_with_asks_again() {
    for (status, says) in [
        (200, &[("cache-control", "max-age=60"), ("vary", "x-user")] as Headers),
        (503, &[("vary", "x-user")]),
        (503, &[("vary", "*")]),
    ] {
        let stage = Arc::new(Stage::new(status, says, "theirs").await);
        let policy = Arc::new(keeping(settings()));
        stage.gate.send_replace(false);
        let reader = |headers: Headers| {
            let (stage, policy) = (Arc::clone(&stage), Arc::clone(&policy));
            #[expect(clippy::disallowed_methods, reason = "a test's own task")]
            let task = tokio::spawn(async move { stage.get(&policy, headers).await.2 });
            task
        };
        let first = reader(&[("x-user", "a")]);
        while stage.asked() < 1 {
            tokio::task::yield_now().await;
        }
        let second = reader(&[("x-user", "b")]);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        stage.gate.send_replace(true);
        first.await.unwrap();
        let found = second.await.unwrap();
        assert!(!found.contains("collapsed") && stage.asked() == 2, "{says:?} {found}");
    }
}

#[tokio::test]
async fn what_nobody_says_a_lifetime_of_is_kept_as_told_but_for_whoever_has_a_cookie() {
    let stage = Stage::new(200, &[], "told").await;
    let policy = keeping(CacheSettings { fresh_for: Duration::from_secs(60), ..settings() });
    for asks in [&[] as Headers, &[("cookie", "sid=1")], &[("authorization", "me")]] {
        let before = stage.asked();
        stage.get(&policy, asks).await;
        policy.shelf().unwrap().clear();
        stage.get(&policy, asks).await;
        let again = stage.get(&policy, asks).await.2;
        assert_eq!(again.contains("hit"), asks.is_empty(), "{asks:?} {again}");
        policy.shelf().unwrap().clear();
        assert!(stage.asked() > before);
    }
}

#[tokio::test]
async fn a_reader_that_leaves_takes_nobody_with_it() {
    let stage = Arc::new(Stage::new(200, MINUTE, "there").await);
    let policy = Arc::new(keeping(settings()));
    stage.gate.send_replace(false);
    let reader = || {
        let (stage, policy) = (Arc::clone(&stage), Arc::clone(&policy));
        #[expect(clippy::disallowed_methods, reason = "a test's own task")]
        let task = tokio::spawn(async move { stage.get(&policy, &[]).await });
        task
    };
    let first = reader();
    while stage.asked() < 1 {
        tokio::task::yield_now().await;
    }
    let second = reader();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    first.abort();
    let _aborted = first.await;
    stage.gate.send_replace(true);
    assert_eq!(second.await.unwrap().1, "there");
    assert_eq!(stage.asked(), 1);
}

#[tokio::test]
async fn what_is_out_of_date_is_asked_about_and_serves_when_the_target_fails() {
    let tagged: Headers = &[("cache-control", "max-age=0, stale-if-error=60"), ("etag", "v1")];
    let stage = Stage::new(200, tagged, "old").await;
    let policy = keeping(settings());
    stage.get(&policy, &[]).await;
    let (status, text, found) = stage.get(&policy, &[]).await;
    assert_eq!((status, text.as_str()), (200, "old"));
    assert!(found.starts_with("outrigger; fwd=stale; fwd-status=304"), "{found}");
    // The caller's own copy is compared here.
    let answer = stage.call(&policy, Method::GET, &[("if-none-match", "v1")]).await.unwrap();
    assert_eq!(answer.status(), 304);
    stage.says(503, &[], "down");
    let answer = stage.call(&policy, Method::GET, &[]).await.unwrap();
    assert_eq!(answer.headers()["outrigger-degraded"], "stale");
    assert_eq!((answer.status().as_u16(), stage.asked()), (200, 4));
    // What the target refuses, it refuses.
    stage.says(403, &[], "no");
    assert_eq!(stage.get(&policy, &[]).await.0, 403);
}

#[tokio::test]
async fn what_may_be_stale_is_given_at_once_and_refreshed_behind_it() {
    let stage =
        Stage::new(200, &[("cache-control", "max-age=0, stale-while-revalidate=60")], "old");
    let (stage, policy) = (stage.await, keeping(settings()));
    stage.get(&policy, &[]).await;
    stage.says(200, MINUTE, "new");
    let (_, text, found) = stage.get(&policy, &[]).await;
    assert!(text == "old" && found.starts_with("outrigger; hit; ttl="), "{text} {found}");
    let mut text = String::new();
    for _ in 0..1_000 {
        text = stage.get(&policy, &[]).await.1;
        if text == "new" {
            break;
        }
        stage.world.sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((text.as_str(), stage.asked()), ("new", 2));
}

#[tokio::test]
async fn a_failure_is_one_for_all_who_wait_and_long_answers_flow() {
    let stage = Arc::new(Stage::new(503, &[], "down").await);
    let policy = Arc::new(keeping(settings()));
    stage.gate.send_replace(false);
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (stage, policy) = (Arc::clone(&stage), Arc::clone(&policy));
        readers.spawn(async move { stage.get(&policy, &[]).await.0 });
    }
    while stage.asked() < 1 {
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    stage.gate.send_replace(true);
    assert!(readers.join_all().await.into_iter().all(|status| status == 503));
    assert_eq!(stage.asked(), 1);

    let small = keeping(CacheSettings { body_max: 3, ..settings() });
    stage.says(200, MINUTE, "longer than that");
    for _ in 0..2 {
        assert_eq!(stage.get(&small, &[]).await.1, "longer than that");
    }
    assert_eq!(stage.asked(), 3);
}

#[tokio::test]
async fn the_access_list_is_asked_before_the_cache() {
    let stage = Stage::new(200, MINUTE, "secret").await;
    let policy = keeping(settings());
    stage.get(&policy, &[]).await;
    let Target::App(instances) = &stage.target else { panic!() };
    instances.channels()[0]
        .set_access(Some(Arc::new(AccessList::new(Some(Action::Deny), Vec::new()))));
    let refused = stage.call(&policy, Method::GET, &[]).await.unwrap_err();
    assert!(matches!(refused, CallError::Forbidden(_)), "{refused}");
}

#[tokio::test]
async fn memory_is_bounded_and_a_reload_forgets_nothing() {
    let stage = Stage::new(200, MINUTE, "kept").await;
    let bounds = StoreBounds { entries_max: 2, bytes_max: 1 << 20 };
    let policy = keeping(CacheSettings { bounds, ..settings() });
    stage.get(&policy, &[]).await;
    let timed = Policy { timeout: Some(Duration::from_secs(1)), ..Policy::default() };
    let shelf = Shelf::new("short", policy.shelf().unwrap().settings().clone());
    let after = CallPolicy::new(timed, 10).caching(Some(shelf)).keeping(&policy);
    assert!(stage.get(&after, &[]).await.2.starts_with("outrigger; hit"));
    let other = keeping(settings()).keeping(&after);
    assert!(stage.get(&other, &[]).await.2.contains("fwd=miss"), "other bounds, another cache");
    assert_eq!((after.shelf().unwrap().len(), stage.asked()), (1, 2));
    after.shelf().unwrap().clear();
    assert!(policy.shelf().unwrap().is_empty());
}
