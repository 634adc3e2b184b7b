//! Deliveries on the memory engine, to real servers on loopback.
//!
//! Nothing here sleeps to let something happen: servers hand every call to the test, which waits for it.

mod grpc;
mod http;
mod http_server;
mod serving;
mod streams;
mod verdicts;

use super::{
    Outlet, Subscriptions,
    outlet::{Lane, Watched},
    reading::Reading,
    subscription::{Kind, Subscription},
    terms,
};
use crate::{
    components::{Components, Policed, PubsubComponent},
    metrics::Metrics,
    trace::{FinishedSpan, TelemetrySink},
};
use bytes::Bytes;
use outrigger_calls::{AppChannel, AppProtocol, AppTarget, ChannelSettings};
use outrigger_events::{Broker, BrokerSettings, Delivery, NewMessage};
use outrigger_kernel::{Deadline, Wall, within};
use outrigger_keyspace::{Space, Stamp, memory::Memory};
use outrigger_resilience::{Backoff, Matching, Policy, Retry};
use outrigger_resources as resources;
use outrigger_sim::SimWorld;
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// How long anything may take before a test has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A broker called "broker", and what an app's subscriptions need.
struct Stage {
    world: Arc<SimWorld>,
    metrics: Arc<Metrics>,
    spans: Arc<Spans>,
    component: Arc<PubsubComponent>,
}

#[derive(Default)]
struct Spans(Mutex<Vec<FinishedSpan>>);

impl TelemetrySink for Spans {
    fn span(&self, span: FinishedSpan) {
        self.0.lock().unwrap().push(span);
    }
}

impl Stage {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut PubsubComponent)) -> Self {
        let world = SimWorld::new(1);
        let engine = Memory::new(world.clone());
        let broker =
            Broker::open(Space::new(engine, world.clone()), "broker", BrokerSettings::default());
        let mut component = PubsubComponent {
            name: "broker".into(),
            broker,
            scopes: resources::TopicScopes::default(),
            consumer_group: "app".to_owned(),
            outbound: Policed::default(),
            inbound: Policy::default(),
            policies: vec!["rules".to_owned()],
            max_in_flight: 0,
        };
        change(&mut component);
        let metrics = Metrics::new(None, "0.0.0");
        Self { world, metrics, spans: Arc::default(), component: Arc::new(component) }
    }

    /// The same component under other terms.
    fn changed(&self, change: impl FnOnce(&mut PubsubComponent)) -> Arc<PubsubComponent> {
        let old = &self.component;
        let mut new = PubsubComponent {
            name: Arc::clone(&old.name),
            broker: Arc::clone(&old.broker),
            scopes: old.scopes.clone(),
            consumer_group: old.consumer_group.clone(),
            outbound: Policed::default(),
            inbound: old.inbound.clone(),
            policies: old.policies.clone(),
            max_in_flight: old.max_in_flight,
        };
        change(&mut new);
        Arc::new(new)
    }

    fn components(&self) -> Arc<Components> {
        components(&self.component)
    }

    fn channel(&self, protocol: AppProtocol, port: u16) -> Arc<AppChannel> {
        let target = AppTarget { protocol, host: "127.0.0.1".to_owned(), port, socket: None };
        AppChannel::new(target, ChannelSettings::default(), self.world.clone())
    }

    fn outlet(&self, app: Option<Arc<AppChannel>>) -> Outlet {
        Outlet {
            app_id: "app".into(),
            world: self.world.clone(),
            app,
            metrics: self.metrics.for_app("app", ""),
            telemetry: self.spans.clone(),
            sampling_rate: 0.0,
            ask_for_subscriptions: true,
        }
    }

    fn subscriptions(&self, protocol: AppProtocol, port: u16) -> Subscriptions {
        Subscriptions::new(self.outlet(Some(self.channel(protocol, port))))
    }

    fn lane(&self, subscription: &Subscription, http: bool) -> Lane {
        Lane {
            outlet: self.outlet(None),
            pubsub: Arc::clone(&subscription.pubsub),
            topic: Arc::clone(&subscription.topic),
            reading: Reading::new(subscription, http).unwrap(),
            matching: terms::matching(&self.component),
            breaker: terms::breaker(&self.component),
            watch: Watched::new(&self.outlet(None), &self.component),
            leaving: CancellationToken::new(),
        }
    }

    async fn publish(&self, topic: &str, messages: impl IntoIterator<Item = String>) {
        let message =
            |data: String| NewMessage { data: Bytes::from(data), ..NewMessage::default() };
        let messages = messages.into_iter().map(message).collect();
        let deadline = Deadline::after(&*self.world, PATIENCE);
        self.component.broker.publish(topic, messages, deadline).await.unwrap();
    }

    /// A delivery as the block makes it, due soon.
    fn delivery(&self, number: u64, data: String) -> Delivery {
        Delivery {
            id: format!("entry-{number}"),
            topic: "orders".into(),
            stamp: Stamp::default(),
            data: Bytes::from(data),
            content_type: String::new(),
            metadata: BTreeMap::new(),
            published_at: Wall(0),
            attempt: 1,
            deadline: Deadline::after(&*self.world, PATIENCE),
        }
    }

    /// What `work` gives, before patience ends.
    async fn soon<T>(&self, work: impl Future<Output = T>) -> T {
        let deadline = Deadline::after(&*self.world, PATIENCE);
        within(&*self.world, deadline, work).await.expect("this takes too long")
    }
}

fn components(component: &Arc<PubsubComponent>) -> Arc<Components> {
    let mut components = Components::default();
    components.pubsub.insert(component.name.to_string(), Arc::clone(component));
    Arc::new(components)
}

/// Retries soon, so many times.
fn retry(max_retries: u32, statuses: &str) -> Retry {
    Retry {
        backoff: Backoff::Constant { delay: Duration::from_millis(1) },
        max_retries: Some(max_retries),
        matching: Matching::parse(statuses, "").unwrap(),
    }
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// An envelope.
fn event(id: &str, kind: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"shop","type":"{kind}","datacontenttype":"application/json","traceparent":"{PARENT}","tracestate":"a=b","priority":3,"data":{{"n":12345678901234567890}}}}"#
    )
}

fn subscription(path: &str) -> Subscription {
    Subscription::new(Kind::Declarative, "broker", "orders", path)
}

/// Subscriptions as a resource file declares them: (topic, more lines of the spec).
fn declared(entries: &[(&str, &str)]) -> Vec<resources::Subscription> {
    let document = |(topic, more): &(&str, &str)| {
        format!(
            "apiVersion: dapr.io/v2alpha1\nkind: Subscription\nmetadata:\n  name: s\nspec:\n  pubsubname: broker\n  topic: {topic}\n{more}"
        )
    };
    let text = entries.iter().map(document).collect::<Vec<_>>().join("---\n");
    let (found, issues) = resources::parse(Path::new("s.yaml"), text.as_bytes());
    assert!(issues.is_empty(), "{issues:?}");
    let subscription = |resource: resources::Resource| match resource.body {
        resources::Body::Subscription(one) => *one,
        other => panic!("{other:?}"),
    };
    found.into_iter().map(subscription).collect()
}

/// The spec of a subscription with one route.
fn route(path: &str) -> String {
    format!("  routes:\n    default: {path}\n")
}
