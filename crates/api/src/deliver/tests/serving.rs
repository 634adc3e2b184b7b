//! What is served, and how that changes while it runs.

use super::{
    PATIENCE, Stage, components, declared, event,
    http_server::{Call, HttpServer, free_port},
    route,
};
use outrigger_calls::{AppProtocol, Health};
use outrigger_kernel::World;
use outrigger_proto::runtime::v1 as pb;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// Topic, first path and kind of what is listed.
fn listed(list: &[pb::PubsubSubscription]) -> Vec<(String, String, &'static str)> {
    let one = |one: &pb::PubsubSubscription| {
        let path = one.rules.as_ref().unwrap().rules[0].path.clone();
        (one.topic.clone(), path, one.r#type().as_str_name())
    };
    list.iter().map(one).collect()
}

fn row(topic: &str, path: &str, kind: &'static str) -> (String, String, &'static str) {
    (topic.to_owned(), path.to_owned(), kind)
}

fn wants(list: &'static str) -> impl Fn(&Call) -> (u16, String) + Send + Sync + 'static {
    move |call| (200, if call.path == "/dapr/subscribe" { list.to_owned() } else { String::new() })
}

#[tokio::test]
async fn the_app_is_asked_once_it_listens_and_wins_over_files() {
    let stage = Stage::new();
    let port = free_port().await;
    let subscriptions = Arc::new(stage.subscriptions(AppProtocol::Http, port));
    let files = declared(&[("orders", &route("/file")), ("other", &route("/other"))]);
    let mut starting = {
        let (subscriptions, components) = (subscriptions.clone(), stage.components());
        Box::pin(async move { subscriptions.start(files, components, None).await })
    };
    let pause = stage.world.sleep(Duration::from_millis(50));
    tokio::select! { _ = &mut starting => panic!("nobody listens yet"), () = pause => {} }
    assert!(subscriptions.list().is_empty());
    // While it starts it answers an error, twice.
    let asked = AtomicU32::new(0);
    let mut server = HttpServer::start_on(&stage, port, move |call| {
        let list = r#"[{"pubsubname":"broker","topic":"orders","route":"/app"},{"topic":7}]"#;
        match call.path.as_str() {
            "/dapr/subscribe" if asked.fetch_add(1, Ordering::SeqCst) < 2 => (503, String::new()),
            "/dapr/subscribe" => (200, list.to_owned()),
            _ => (200, String::new()),
        }
    })
    .await;
    assert!(stage.soon(starting).await);
    let expected = [row("orders", "/app", "PROGRAMMATIC"), row("other", "/other", "DECLARATIVE")];
    assert_eq!(listed(&subscriptions.list()), expected);
    stage.publish("orders", [event("1", "x")]).await;
    assert_eq!(server.call(&stage).await.path, "/app");
    stage.soon(subscriptions.stop(PATIENCE)).await;
    assert!(subscriptions.list().is_empty());
}

#[tokio::test]
async fn an_answer_that_says_nothing_leaves_what_files_declare() {
    for (status, answer) in
        [(200, "<html>"), (200, "{}"), (400, "no"), (404, ""), (405, ""), (204, "")]
    {
        let stage = Stage::new();
        let server = HttpServer::start(&stage, move |_| (status, answer.to_owned())).await;
        let subscriptions = stage.subscriptions(AppProtocol::Http, server.port);
        let files = declared(&[("orders", &route("/file"))]);
        stage.soon(subscriptions.start(files, stage.components(), None)).await;
        assert_eq!(
            listed(&subscriptions.list()),
            [row("orders", "/file", "DECLARATIVE")],
            "{status} {answer}"
        );
    }
}

#[tokio::test]
async fn nobody_is_asked_who_is_not_to_be() {
    let stage = Stage::new();
    let server = HttpServer::start(&stage, |call| panic!("{call:?}")).await;
    let mut outlet = stage.outlet(Some(stage.channel(AppProtocol::Http, server.port)));
    outlet.ask_for_subscriptions = false;
    let subscriptions = super::Subscriptions::new(outlet);
    let files = declared(&[("orders", &route("/file"))]);
    stage.soon(subscriptions.start(files, stage.components(), None)).await;
    assert_eq!(subscriptions.list().len(), 1);
}

#[tokio::test]
async fn what_may_not_be_or_cannot_be_is_refused_alone() {
    let stage = Stage::with(|component| {
        component.scopes.protected = ["secret".to_owned()].into();
    });
    let server = HttpServer::start(
        &stage,
        wants(
            r#"[{"pubsubname":"broker","topic":"secret","route":"/s"},
            {"pubsubname":"nobody","topic":"t","route":"/t"},
            {"pubsubname":"broker","topic":"bad","routes":{"rules":[{"match":"event.","path":"/b"}]}},
            {"pubsubname":"broker","topic":"space","route":"/a b"},
            {"pubsubname":"broker","topic":"nowhere"},
            {"pubsubname":"broker","topic":"loop","route":"/l","deadLetterTopic":"loop"},
            {"pubsubname":"broker","topic":"good","route":"/g"}]"#,
        ),
    )
    .await;
    let subscriptions = stage.subscriptions(AppProtocol::Http, server.port);
    let mut files = declared(&[("foreign", &route("/f"))]);
    files[0].head.scopes = vec!["another-app".to_owned()];
    stage.soon(subscriptions.start(files, stage.components(), None)).await;
    assert_eq!(listed(&subscriptions.list()), [row("good", "/g", "PROGRAMMATIC")]);
}

#[tokio::test]
async fn a_reload_changes_the_difference_and_drops_nothing_in_flight() {
    let stage = Stage::new();
    let mut server = HttpServer::start(&stage, wants("[]")).await;
    let subscriptions = stage.subscriptions(AppProtocol::Http, server.port);
    let files = declared(&[("orders", &route("/old")), ("same", &route("/same"))]);
    stage.soon(subscriptions.start(files, stage.components(), None)).await;
    server.gate.forget_permits(usize::MAX);
    stage.publish("orders", [event("held", "x")]).await;
    assert_eq!(server.call(&stage).await.path, "/old");

    let files = declared(&[
        ("orders", &route("/new")),
        ("same", &route("/same")),
        ("more", &route("/more")),
    ]);
    stage.soon(subscriptions.reconcile(files, stage.components())).await;
    let paths: Vec<_> =
        listed(&subscriptions.list()).into_iter().map(|(_, path, _)| path).collect();
    assert_eq!(paths, ["/more", "/new", "/same"]);
    stage.publish("orders", [event("next", "x")]).await;
    let next = server.call(&stage).await;
    assert_eq!((next.path.as_str(), next.event_id().as_str()), ("/new", "next"));
    server.gate.add_permits(1_000);
    stage.soon(subscriptions.stop(PATIENCE)).await;

    // Both were acknowledged: nothing comes again.
    let files = declared(&[("orders", &route("/again"))]);
    stage.soon(subscriptions.start(files, stage.components(), None)).await;
    stage.publish("orders", [event("last", "x")]).await;
    assert_eq!(server.call(&stage).await.event_id(), "last");
    stage.soon(subscriptions.stop(PATIENCE)).await;
    assert!(server.is_quiet());
}

#[tokio::test]
async fn components_come_and_go() {
    let stage = Stage::new();
    let mut server = HttpServer::start(&stage, wants("[]")).await;
    let subscriptions = stage.subscriptions(AppProtocol::Http, server.port);
    let files = declared(&[("orders", &route("/o"))]);
    stage.soon(subscriptions.start(files.clone(), Arc::default(), None)).await;
    assert!(subscriptions.list().is_empty());
    stage.soon(subscriptions.reconcile(files.clone(), stage.components())).await;
    assert_eq!(subscriptions.list().len(), 1);
    let other = stage.changed(|component| component.max_in_flight = 1);
    stage.soon(subscriptions.reconcile(files.clone(), components(&other))).await;
    stage.publish("orders", [event("1", "x")]).await;
    assert_eq!(server.call(&stage).await.event_id(), "1");
    let closed = stage.changed(|component| component.scopes.allowed = ["else".to_owned()].into());
    stage.soon(subscriptions.reconcile(files.clone(), components(&closed))).await;
    assert!(subscriptions.list().is_empty());
    stage.soon(subscriptions.reconcile(files, Arc::default())).await;
    stage.soon(subscriptions.stop(PATIENCE)).await;
}

#[tokio::test]
async fn health_pauses_and_resumes_and_asks_again() {
    let stage = Stage::new();
    let asked = Arc::new(AtomicU32::new(0));
    let times = asked.clone();
    let mut server = HttpServer::start(&stage, move |call| match call.path.as_str() {
        "/dapr/subscribe" => {
            let newer =
                if times.fetch_add(1, Ordering::SeqCst) == 0 { "/first" } else { "/second" };
            (200, format!(r#"[{{"pubsubname":"broker","topic":"orders","route":"{newer}"}}]"#))
        }
        _ => (200, String::new()),
    })
    .await;
    let subscriptions = stage.subscriptions(AppProtocol::Http, server.port);
    let (verdict, health) = watch::channel(Health::Unhealthy);
    stage.soon(subscriptions.start(Vec::new(), stage.components(), Some(health))).await;
    assert_eq!((asked.load(Ordering::SeqCst), subscriptions.list().len()), (0, 0));

    stage.publish("orders", [event("1", "x")]).await;
    verdict.send_replace(Health::Healthy);
    assert_eq!(server.call(&stage).await.path, "/first");

    verdict.send_replace(Health::Unhealthy);
    stage.soon(subscriptions.resume()).await;
    stage.publish("orders", [event("2", "x")]).await;
    let pause = stage.world.sleep(Duration::from_millis(100));
    pause.await;
    assert!(server.is_quiet(), "it is not well");
    verdict.send_replace(Health::Healthy);
    assert_eq!(server.call(&stage).await.event_id(), "2");
    stage.soon(subscriptions.settled()).await;
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    stage.publish("orders", [event("3", "x")]).await;
    assert_eq!(server.call(&stage).await.path, "/second");

    stage.soon(subscriptions.pause()).await;
    stage.publish("orders", [event("4", "x")]).await;
    stage.world.sleep(Duration::from_millis(100)).await;
    assert!(server.is_quiet(), "it is paused");
    stage.soon(subscriptions.resume()).await;
    assert_eq!(server.call(&stage).await.event_id(), "4");
    stage.soon(subscriptions.stop(PATIENCE)).await;
}

#[tokio::test]
async fn what_an_app_did_not_finish_comes_again_uncounted() {
    let stage = Stage::new();
    let mut server = HttpServer::start(&stage, wants("[]")).await;
    let subscriptions = stage.subscriptions(AppProtocol::Http, server.port);
    let spec = format!("  deadLetterTopic: dead\n{}", route("/o"));
    let files = declared(&[("orders", &spec)]);
    server.gate.forget_permits(usize::MAX);
    for round in 0..6 {
        stage.soon(subscriptions.start(files.clone(), stage.components(), None)).await;
        if round == 0 {
            stage.publish("orders", [event("1", "x")]).await;
        }
        assert_eq!(server.call(&stage).await.path, "/o", "{round}");
        if round % 2 == 0 {
            stage.soon(subscriptions.stop(Duration::ZERO)).await;
        } else {
            stage.soon(subscriptions.detach()).await;
        }
    }
}

#[tokio::test]
async fn an_app_without_a_port_gets_nothing_and_nobody_waits() {
    let stage = Stage::new();
    let subscriptions = super::Subscriptions::new(stage.outlet(None));
    let files = declared(&[("orders", &route("/o"))]);
    stage.soon(subscriptions.start(files, stage.components(), None)).await;
    assert!(subscriptions.list().is_empty());
    stage.soon(subscriptions.stop(PATIENCE)).await;
    let never_started = super::Subscriptions::new(stage.outlet(None));
    stage.soon(never_started.reconcile(Vec::new(), stage.components())).await;
    stage.soon(never_started.stop(PATIENCE)).await;
}

#[tokio::test]
async fn a_start_that_was_overtaken_says_so() {
    let stage = Stage::new();
    let subscriptions = Arc::new(stage.subscriptions(AppProtocol::Http, free_port().await));
    let starting = subscriptions.start(Vec::new(), stage.components(), None);
    let detaching = subscriptions.detach();
    let (served, ()) = stage.soon(async { tokio::join!(starting, detaching) }).await;
    assert!(!served);
}

#[tokio::test]
async fn leaving_an_app_that_is_away_costs_no_attempt() {
    let stage = Stage::with(|component| component.inbound.retry = Some(super::retry(0, "")));
    let server = HttpServer::start(&stage, wants("[]")).await;
    let port = server.port;
    let mut outlet = stage.outlet(Some(stage.channel(AppProtocol::Http, port)));
    outlet.ask_for_subscriptions = false;
    let subscriptions = super::Subscriptions::new(outlet);
    let spec = format!("  deadLetterTopic: dead\n{}", route("/o"));
    let files = declared(&[("orders", &spec), ("dead", &route("/dead"))]);
    stage.soon(subscriptions.start(files.clone(), stage.components(), None)).await;
    drop(server);
    stage.publish("orders", [event("1", "x")]).await;
    // Long enough for the delivery to be waiting for the app.
    stage.world.sleep(Duration::from_millis(200)).await;
    stage.soon(subscriptions.detach()).await;
    let mut server = HttpServer::start_on(&stage, port, wants("[]")).await;
    stage.soon(subscriptions.start(files, stage.components(), None)).await;
    assert_eq!(server.call(&stage).await.path, "/o");
    stage.soon(subscriptions.stop(PATIENCE)).await;
}

#[tokio::test]
async fn a_subscription_that_ended_by_itself_is_opened_again() {
    let stage = Stage::new();
    let mut server = HttpServer::start(&stage, |call| {
        (if call.path == "/dapr/subscribe" { 404 } else { 200 }, String::new())
    })
    .await;
    let subscriptions = stage.subscriptions(AppProtocol::Http, server.port);
    let files = declared(&[("orders", &route("/file"))]);
    stage.soon(subscriptions.start(files, stage.components(), None)).await;
    stage.publish("orders", [event("1", "x")]).await;
    assert_eq!(server.call(&stage).await.path, "/file");
    let forget = stage.component.broker.forget("orders", "app");
    stage.soon(forget).await.unwrap();
    // Forgetting forgets what was published until the group is back; keep publishing until it hears something.
    let heard = async {
        loop {
            stage.publish("orders", [event("2", "x")]).await;
            let pause = stage.world.sleep(Duration::from_millis(50));
            tokio::select! {
                call = server.call(&stage) => break call,
                () = pause => {}
            }
        }
    };
    assert_eq!(stage.soon(heard).await.path, "/file");
    stage.soon(subscriptions.stop(PATIENCE)).await;
}
