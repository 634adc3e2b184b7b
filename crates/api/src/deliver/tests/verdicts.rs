//! From answers of real servers to verdicts, without a broker in between.

use super::{Stage, event, http_server::HttpServer, retry, subscription};
use crate::deliver::http_app::HttpApp;
use outrigger_calls::AppProtocol;
use outrigger_events::{Consumer, Verdict};
use outrigger_kernel::{Deadline, World};
use outrigger_resilience::{BreakerSettings, Trip};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Ack => "done",
        Verdict::Retry { .. } => "again",
        Verdict::Drop { .. } => "given up",
    }
}

#[tokio::test]
async fn answers_of_an_http_app() {
    let stage = Stage::new();
    let table = [
        (200, "", "done"),
        (204, "", "done"),
        (200, "<html>", "done"),
        (201, r#"{"status":"SUCCESS"}"#, "done"),
        (200, r#"{"status":""}"#, "done"),
        (200, r#"{"status":"RETRY"}"#, "again"),
        (200, r#"{"status":"DROP"}"#, "given up"),
        (200, r#"{"status":"MAYBE"}"#, "again"),
        (404, "", "given up"),
        (429, "", "again"),
        (500, r#"{"status":"SUCCESS"}"#, "again"),
    ];
    let answer = move |call: &super::http_server::Call| {
        let place: usize = call.event_id().parse().unwrap();
        (table[place].0, table[place].1.to_owned())
    };
    let server = HttpServer::start(&stage, answer).await;
    let channel = stage.channel(AppProtocol::Http, server.port);
    let app = HttpApp { lane: stage.lane(&subscription("/orders"), true), channel, bulk: false };
    for (place, (status, body, expected)) in table.into_iter().enumerate() {
        let delivery = stage.delivery(0, event(&place.to_string(), "order"));
        let verdicts = stage.soon(app.deliver(vec![delivery])).await;
        assert_eq!(verdicts.iter().map(word).collect::<Vec<_>>(), [expected], "{status} {body}");
    }
    let text = stage.metrics.text();
    for (outcome, times) in [("success", 5), ("retry", 4), ("drop", 2)] {
        let line = format!(
            "dapr_component_pubsub_ingress_count{{app_id=\"app\",namespace=\"\",component=\"broker\",process_status=\"{outcome}\",status=\"{outcome}\",topic=\"orders\"}} {times}\n"
        );
        assert!(text.contains(&line), "{line}{text}");
    }
}

#[tokio::test]
async fn statuses_that_the_policy_leaves_out_are_not_tried_again() {
    let stage = Stage::with(|component| component.inbound.retry = Some(retry(3, "500-599")));
    let answer =
        |call: &super::http_server::Call| (call.event_id().parse().unwrap(), String::new());
    let server = HttpServer::start(&stage, answer).await;
    let channel = stage.channel(AppProtocol::Http, server.port);
    let app = HttpApp { lane: stage.lane(&subscription("/orders"), true), channel, bulk: false };
    for (status, expected) in [("503", "again"), ("400", "given up")] {
        let verdicts = app.deliver(vec![stage.delivery(0, event(status, "order"))]).await;
        assert_eq!(word(&verdicts[0]), expected, "{status}");
    }
}

#[tokio::test]
async fn nothing_but_events_reaches_the_app() {
    let stage = Stage::new();
    let mut server = HttpServer::start(&stage, |_| (200, String::new())).await;
    let channel = stage.channel(AppProtocol::Http, server.port);
    let app = HttpApp { lane: stage.lane(&subscription("/orders"), true), channel, bulk: false };
    for weird in ["", "text", "7", "[{}]", "{\"id\":", "\u{0}"] {
        let verdicts = app.deliver(vec![stage.delivery(0, weird.to_owned())]).await;
        assert_eq!(word(&verdicts[0]), "given up", "{weird}");
    }
    assert!(server.is_quiet());
    let odd = r#"{"data":null,"id":7,"traceparent":["x"],"tracestate":{},"extra":1e999}"#;
    assert_eq!(app.deliver(vec![stage.delivery(0, odd.to_owned())]).await, [Verdict::Ack]);
    assert_eq!(server.call(&stage).await.content, odd);
}

#[tokio::test]
async fn what_the_app_gets() {
    let stage = Stage::new();
    let mut server = HttpServer::start(&stage, |_| (200, String::new())).await;
    let channel = stage.channel(AppProtocol::Http, server.port);
    let app = HttpApp { lane: stage.lane(&subscription("orders?x=1"), true), channel, bulk: false };
    let mut delivery = stage.delivery(0, event("1", "order"));
    delivery.metadata.insert("dead-letter.reason".to_owned(), "too bad".to_owned());
    delivery.metadata.insert("content-type".to_owned(), "text/evil".to_owned());
    app.deliver(vec![delivery]).await;
    let call = server.call(&stage).await;
    assert_eq!(
        (call.path.as_str(), call.content.as_ref()),
        ("/orders", event("1", "order").as_bytes())
    );
    assert_eq!(call.header("content-type"), "application/cloudevents+json");
    assert_eq!(call.header("dead-letter.reason"), "too bad");
    assert_eq!((call.header("pubsubname"), call.header("tracestate")), ("broker", "a=b"));
    let parent = call.header("traceparent");
    assert!(parent.starts_with(&super::PARENT[..36]) && parent != super::PARENT, "{parent}");
    let spans = stage.spans.0.lock().unwrap();
    let span = spans.first().unwrap();
    assert_eq!((&*span.name, span.context.to_string().as_str()), ("pubsub/orders", parent));
    assert_eq!(span.parent, Some(0x00f0_67aa_0ba9_02b7));
}

#[tokio::test]
async fn an_app_that_is_away_costs_no_attempt() {
    let stage = Stage::new();
    let port = super::http_server::free_port().await;
    let channel = stage.channel(AppProtocol::Http, port);
    let app =
        Arc::new(HttpApp { lane: stage.lane(&subscription("/o"), true), channel, bulk: false });
    let waiting = {
        let (app, delivery) = (app.clone(), stage.delivery(0, event("1", "order")));
        async move { app.deliver(vec![delivery]).await }
    };
    let mut waiting = Box::pin(waiting);
    // It has been refused at least once by the time this is over.
    let pause = stage.world.sleep(Duration::from_millis(100));
    tokio::select! {
        verdicts = &mut waiting => panic!("{verdicts:?}"),
        () = pause => {}
    }
    let _server = HttpServer::start_on(&stage, port, |_| (200, String::new())).await;
    assert_eq!(stage.soon(waiting).await, [Verdict::Ack]);
}

#[tokio::test]
async fn an_app_that_fails_too_often_is_left_alone_for_a_while() {
    const PAUSE: Duration = Duration::from_millis(300);
    let stage = Stage::with(|component| {
        component.inbound.breaker = Some(BreakerSettings {
            timeout: PAUSE,
            trip: Trip::ConsecutiveFailures(1),
            ..BreakerSettings::default()
        });
    });
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let answer = move |_: &super::http_server::Call| {
        let status = if count.fetch_add(1, Ordering::SeqCst) < 2 { 500 } else { 200 };
        (status, String::new())
    };
    let server = HttpServer::start(&stage, answer).await;
    let channel = stage.channel(AppProtocol::Http, server.port);
    let app = HttpApp { lane: stage.lane(&subscription("/o"), true), channel, bulk: false };
    let one = || vec![stage.delivery(0, event("1", "order"))];
    for _ in 0..2 {
        assert_eq!(word(&stage.soon(app.deliver(one())).await[0]), "again");
    }
    let opened = stage.world.mono();
    // One that cannot wait comes back without the app having been asked.
    let mut hasty = one();
    hasty[0].deadline = Deadline::after(&*stage.world, PAUSE / 6);
    let verdicts = stage.soon(app.deliver(hasty)).await;
    assert!(
        matches!(&verdicts[..], [Verdict::Retry { reason }] if reason.contains("circuit breaker")),
        "{verdicts:?}"
    );
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    // Those that can are delivered once the breaker lets them: one first, the others when it went well.
    let verdicts = stage.soon(async { tokio::join!(app.deliver(one()), app.deliver(one())) }).await;
    assert_eq!((word(&verdicts.0[0]), word(&verdicts.1[0])), ("done", "done"));
    assert!(stage.world.mono().since(opened) >= PAUSE - PAUSE / 10);
    let text = stage.metrics.text();
    let line = |metric: &str, state: &str, count: usize| {
        let line = format!(
            "dapr_resiliency_{metric}{{app_id=\"app\",namespace=\"\",flow_direction=\"inbound\",name=\"rules\",policy=\"circuitbreaker\",status=\"{state}\",target=\"Pubsub_broker\"}} {count}\n"
        );
        assert!(text.contains(&line), "{line}{text}");
    };
    line("activations_total", "open", 1);
    line("activations_total", "closed", 1);
    line("cb_state", "closed", 1);
    line("cb_state", "open", 0);
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn waiting_for_an_app_ends_with_the_deadline_or_the_subscription() {
    let stage = Stage::new();
    let port = super::http_server::free_port().await;
    let channel = stage.channel(AppProtocol::Http, port);
    let app = HttpApp { lane: stage.lane(&subscription("/o"), true), channel, bulk: false };
    let mut delivery = stage.delivery(0, event("1", "order"));
    delivery.deadline = Deadline::after(&*stage.world, Duration::from_millis(300));
    let verdicts = stage.soon(app.deliver(vec![delivery])).await;
    assert!(
        matches!(&verdicts[..], [Verdict::Retry { reason }] if reason.contains("connect")),
        "{verdicts:?}"
    );

    app.lane.leaving.cancel();
    let verdicts = app.deliver(vec![stage.delivery(0, event("1", "order"))]).await;
    assert_eq!(word(&verdicts[0]), "again");
}

#[tokio::test]
async fn an_app_that_takes_too_long_is_counted() {
    let stage = Stage::new();
    let mut server = HttpServer::start(&stage, |_| (200, String::new())).await;
    server.gate.forget_permits(usize::MAX);
    let channel = stage.channel(AppProtocol::Http, server.port);
    let app = HttpApp { lane: stage.lane(&subscription("/o"), true), channel, bulk: false };
    let mut delivery = stage.delivery(0, event("1", "order"));
    delivery.deadline = Deadline::after(&*stage.world, Duration::from_millis(200));
    let due = app.lane.due(delivery.deadline);
    assert!(due < delivery.deadline, "who is given up on can count nothing");
    let verdicts = stage.soon(app.deliver(vec![delivery])).await;
    assert_eq!(word(&verdicts[0]), "again");
    server.call(&stage).await;
    assert!(stage.metrics.text().contains("process_status=\"retry\""));
}
