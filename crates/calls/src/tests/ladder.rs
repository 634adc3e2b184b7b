//! What failed calls are answered with, and faults on purpose.

use super::{
    servers::{Server, patient, soon},
    shelf::{Headers, Stage},
};
use crate::{
    Alternate, Alternates, AppProtocol::Http, CallError, CallPolicy, CanonicalPath, Chaos,
    Directory, FaultSettings, HeaderEdits, Invocation, Ladder, LadderSettings, Registration,
    StaticAnswer, Target, body,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use outrigger_kernel::{BoxFuture, Deadline, Mono, World};
use outrigger_resilience::{
    Abort, Backoff, Fault, FaultRule, HeaderIs, Matching, Policy, Retry, Step, cache::StoreBounds,
};
use std::time::Duration;

type Steps = Vec<Step<String, StaticAnswer>>;

fn sorry() -> Step<String, StaticAnswer> {
    let headers = HeaderMap::from_iter([(
        HeaderName::from_static("content-type"),
        HeaderValue::from_static("text/plain"),
    )]);
    let body = Bytes::from_static(b"sorry");
    Step::Answer(StaticAnswer { status: StatusCode::OK, headers, body })
}

fn with(steps: Steps, all_methods: bool) -> CallPolicy {
    let settings = LadderSettings {
        steps,
        statuses: vec![500..=599],
        all_methods,
        bounds: StoreBounds::default(),
        body_max: 1_000,
    };
    CallPolicy::new(Policy::default(), 10).falling_back(Some(Ladder::new("soft", settings)))
}

async fn said(stage: &Stage, policy: &CallPolicy, headers: Headers) -> (u16, String, String) {
    let answer = stage.call(policy, Method::GET, headers).await.unwrap();
    let status = answer.status().as_u16();
    let how = answer.headers().get("outrigger-degraded");
    let how = how.map_or("", |how| how.to_str().unwrap()).to_owned();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(text.to_vec()).unwrap(), how)
}

#[tokio::test]
async fn failures_are_answered_and_refusals_are_not() {
    let stage = Stage::new(503, &[], "down").await;
    let policy = with(vec![sorry()], false);
    let (status, text, how) = said(&stage, &policy, &[]).await;
    assert_eq!((status, text.as_str(), how.as_str()), (200, "sorry", "static"));
    // A write that failed has failed.
    let written = stage.call(&policy, Method::POST, &[]).await.unwrap();
    assert_eq!(written.status(), 503);
    for status in [400, 401, 403, 404, 429] {
        stage.says(status, &[], "no");
        assert_eq!(said(&stage, &policy, &[]).await, (status, "no".to_owned(), String::new()));
    }
}

#[tokio::test]
async fn the_last_good_answer_is_for_whoever_asks_the_same() {
    let stage = Stage::new(200, &[("set-cookie", "a=b")], "good").await;
    let policy = with(vec![Step::LastGood { age_max: Duration::from_secs(60) }, sorry()], false);
    let own: Headers = &[("authorization", "me"), ("traceparent", "1")];
    assert_eq!(said(&stage, &policy, own).await.1, "good");
    stage.says(500, &[], "down");
    let again: Headers = &[("authorization", "me"), ("traceparent", "2")];
    let answer = stage.call(&policy, Method::GET, again).await.unwrap();
    assert_eq!(answer.headers()["outrigger-degraded"], "last-good; age=0");
    assert!(answer.headers().contains_key("age") && !answer.headers().contains_key("set-cookie"));
    let (_, text, how) = said(&stage, &policy, &[("authorization", "you")]).await;
    assert_eq!((text.as_str(), how.as_str()), ("sorry", "static"));
    // A reload forgets none of it.
    let again_settings = policy.ladder().unwrap().settings().clone();
    let after = CallPolicy::new(Policy::default(), 10)
        .falling_back(Some(Ladder::new("soft", again_settings)))
        .keeping(&policy);
    assert_eq!(said(&stage, &after, own).await.1, "good");
    // What is not to be kept is not, nor what is too long.
    for says in [&[("cache-control", "no-store")] as Headers, &[("vary", "*")]] {
        let stage = Stage::new(200, says, "secret").await;
        let policy = with(vec![Step::LastGood { age_max: Duration::from_secs(60) }], false);
        said(&stage, &policy, &[]).await;
        stage.says(500, &[], "down");
        assert_eq!(said(&stage, &policy, &[]).await.0, 500, "{says:?}");
    }
}

/// Another app, which answers with what it was sent.
#[derive(Debug)]
struct Other {
    target: Target,
}

impl Alternates for Other {
    fn find<'f>(
        &'f self,
        name: &'f str,
        _deadline: Deadline,
    ) -> BoxFuture<'f, Result<Alternate<'f>, CallError>> {
        assert_eq!(name, "spare");
        let target = self.target.clone();
        Box::pin(async { Ok(Alternate { target, policy: None, edits: HeaderEdits::default() }) })
    }
}

#[tokio::test]
async fn another_target_is_asked_where_that_does_no_harm() {
    let stage = Stage::new(503, &[], "down").await;
    let echo = |request: Request<Incoming>| async move {
        let (head, body) = request.into_parts();
        let sent = body.collect().await.unwrap().to_bytes();
        let text = format!("{} {} {}", head.method, head.uri, String::from_utf8_lossy(&sent));
        Response::new(body::full(text))
    };
    let server = Server::http1(&stage.world, echo).await;
    let directory = Directory::new();
    let _kept: Registration =
        directory.register("spare", "default", server.channel(&stage.world, Http));
    let other = Other { target: directory.resolve("spare", "default").unwrap() };
    let spare = Step::Alternate { target: "spare".to_owned(), time_min: Duration::ZERO };
    let policy = with(vec![spare, sorry()], true);
    let path = CanonicalPath::parse("/a").unwrap();
    let key: HeaderMap = HeaderMap::from_iter([(
        HeaderName::from_static("idempotency-key"),
        HeaderValue::from_static("k"),
    )]);
    for (method, headers, expected) in [
        (Method::GET, HeaderMap::new(), "GET /a?q=1 paid"),
        (Method::POST, key, "POST /a?q=1 paid"),
        (Method::POST, HeaderMap::new(), "sorry"),
    ] {
        let call = stage.invoker.invoke(Invocation {
            target: &stage.target,
            caller: None,
            method,
            path: &path,
            operation: None,
            query: Some("q=1"),
            headers,
            edits: HeaderEdits::default(),
            body: body::full("paid"),
            policy: Some(&policy),
            reconnect: None,
            patience: patient(&stage.world),
            alternates: Some(&other),
        });
        let answer = soon(&stage.world, call).await.unwrap();
        let how = answer.headers()["outrigger-degraded"].to_str().unwrap().to_owned();
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, expected);
        let expected = if text == "sorry" { "static" } else { "alternate; target=\"spare\"" };
        assert_eq!(how, expected);
    }
}

fn chaos(faults: &[(Fault, f64)], headers: Vec<HeaderIs>) -> FaultSettings {
    let rule = |(fault, share): &(Fault, f64)| FaultRule {
        fault: *fault,
        share: *share,
        headers: headers.clone(),
    };
    FaultSettings { rules: faults.iter().map(rule).collect(), lasts: Duration::from_secs(60) }
}

#[tokio::test]
async fn faults_look_like_the_network_and_end_in_time() {
    let stage = Stage::new(200, &[], "well").await;
    let now = stage.world.mono();
    let chaos_only = [HeaderIs { name: "x-chaos".to_owned(), value: None }];
    let settings = chaos(&[(Fault::Abort(Abort::Http(503)), 1.0)], chaos_only.to_vec());
    let retry = Retry {
        backoff: Backoff::Constant { delay: Duration::from_millis(1) },
        max_retries: Some(2),
        matching: Matching::parse("503", "").unwrap(),
    };
    let retried = Policy { retry: Some(retry), ..Policy::default() };
    let policy = CallPolicy::new(retried.clone(), 10).faulting(Some(Chaos::begin(settings, now)));
    let answer = stage.call(&policy, Method::GET, &[("x-chaos", "yes")]).await.unwrap();
    assert_eq!(answer.headers()["outrigger-fault"], "abort");
    let totals = policy.chaos().unwrap().totals();
    assert_eq!((totals.aborted, stage.asked()), (3, 0), "a retry takes it for a failure");
    assert_eq!(stage.call(&policy, Method::GET, &[]).await.unwrap().status(), 200);
    // Reading the same file again does not begin it anew; an edited one does; and it ends.
    let same = Chaos::begin(policy.chaos().unwrap().settings().clone(), Mono(u64::MAX / 2));
    let after = CallPolicy::new(retried, 10).faulting(Some(same)).keeping(&policy);
    assert_eq!(after.chaos().unwrap().totals().aborted, 3);
    assert!(after.chaos().unwrap().left(now.plus(Duration::from_secs(60))).is_none());
    after.chaos().unwrap().stop();
    let calm = stage.call(&after, Method::GET, &[("x-chaos", "yes")]).await.unwrap();
    assert_eq!(calm.status(), 200);

    let reset = chaos(&[(Fault::Abort(Abort::Reset), 1.0)], Vec::new());
    let policy = CallPolicy::new(Policy::default(), 10).faulting(Some(Chaos::begin(reset, now)));
    let error = stage.call(&policy, Method::GET, &[]).await.unwrap_err();
    assert!(matches!(error, CallError::Broken { .. }) && !error.nothing_sent(), "{error}");
}

#[tokio::test]
async fn a_dropped_call_waits_for_its_timeout_and_an_answer_is_damaged() {
    let stage = Stage::new(200, &[], "twenty bytes of text").await;
    let now = stage.world.mono();
    let timed = Policy { timeout: Some(Duration::from_millis(20)), ..Policy::default() };
    let dropped = chaos(&[(Fault::Drop, 1.0)], Vec::new());
    let policy = CallPolicy::new(timed, 10).faulting(Some(Chaos::begin(dropped, now)));
    let error = stage.call(&policy, Method::GET, &[]).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
    assert_eq!(stage.asked(), 0);

    let least = Duration::from_millis(5);
    let faults = [
        (Fault::Delay { least, most: least }, 1.0),
        (Fault::Corrupt { every: 2 }, 1.0),
        (Fault::Bandwidth { bytes_per_s: 1_000 }, 1.0),
    ];
    let settings = chaos(&faults, Vec::new());
    let policy = CallPolicy::new(Policy::default(), 10).faulting(Some(Chaos::begin(settings, now)));
    let begun = stage.world.mono();
    let (status, text, _) = {
        let answer = stage.call(&policy, Method::GET, &[]).await.unwrap();
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, bytes, ())
    };
    assert!(status == 200 && text.len() == 20 && text != "twenty bytes of text", "{text:?}");
    let took = stage.world.mono().since(begun);
    assert!(took >= Duration::from_millis(25), "{took:?}");
}
