//! The registry on the memory engine.

use super::{App, Instance, Registry};
use outrigger_keyspace::{Space, memory::Memory};
use outrigger_sim::SimWorld;
use std::{sync::Arc, time::Duration};

fn registry() -> Registry {
    let world = SimWorld::new(1);
    Registry::new(Space::new(Memory::new(Arc::clone(&world) as _), world))
}

fn instance(id: &str, pid: u32) -> Instance {
    let address = format!("{id}.sock");
    Instance { id: id.to_owned(), pid, address, since_ms: 7, version: "1".to_owned() }
}

fn app(id: &str, protocol: Option<&str>) -> App {
    let protocol = protocol.map(ToOwned::to_owned);
    App { id: id.to_owned(), namespace: "default".to_owned(), protocol }
}

#[tokio::test]
async fn what_is_announced_is_listed_and_replaced_whole() {
    let registry = registry();
    let (one, two) = (instance("a", 1), instance("b", 2));
    let apps = [app("orders", Some("http")), app("shop", None)];
    registry.announce(&one, &apps).await.unwrap();
    registry.announce(&two, &[app("orders", Some("grpc"))]).await.unwrap();
    let all = registry.residents().await.unwrap();
    assert_eq!(all.iter().map(|r| &r.instance).collect::<Vec<_>>(), [&one, &two]);
    assert_eq!(all[0].apps, apps);
    assert_eq!(all[1].apps, [app("orders", Some("grpc"))]);

    registry.announce(&one, &[app("shop", Some("http"))]).await.unwrap();
    assert_eq!(registry.residents().await.unwrap()[0].apps, [app("shop", Some("http"))]);

    registry.withdraw("a").await.unwrap();
    let left = registry.residents().await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].instance, two);
}

#[tokio::test]
async fn saying_the_same_again_writes_nothing() {
    let registry = registry();
    let apps = [app("orders", Some("http"))];
    registry.announce(&instance("a", 1), &apps).await.unwrap();
    let before = registry.residents().await.unwrap();
    registry.announce(&instance("a", 1), &apps).await.unwrap();
    assert_eq!(registry.residents().await.unwrap(), before);
}

#[tokio::test]
async fn the_dead_are_buried_once_and_never_somebody_else() {
    let registry = registry();
    registry.announce(&instance("a", 1), &[app("orders", Some("http"))]).await.unwrap();
    let seen = registry.residents().await.unwrap().remove(0);
    // It says something new after it was looked at, so it is not dead.
    registry.announce(&Instance { pid: 9, ..instance("a", 1) }, &[]).await.unwrap();
    assert!(!registry.bury(&seen).await.unwrap());
    let seen = registry.residents().await.unwrap().remove(0);
    registry.announce(&seen.instance, &[app("orders", Some("http"))]).await.unwrap();
    assert!(registry.bury(&seen).await.unwrap());
    assert!(!registry.bury(&seen).await.unwrap());
    assert!(registry.residents().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_of_comings_and_goings() {
    let registry = registry();
    let mut watch = registry.watch();
    let a = instance("a", 1);
    let first = registry.announce(&a, &[]);
    let (_, told) = tokio::join!(first, watch.changed());
    registry.announce(&instance("a", 1), &[app("orders", None)]).await.unwrap();
    let second = watch.changed().await;
    assert!(second > told);
    registry.withdraw("a").await.unwrap();
    assert!(watch.changed().await > second);
    let world = SimWorld::new(2);
    let quiet = outrigger_kernel::within(
        &*world,
        outrigger_kernel::Deadline::after(&*world, Duration::from_secs(60)),
        watch.changed(),
    );
    assert!(quiet.await.is_err(), "nothing is told while nothing changes");
}
