//! Subscriptions that end without being stopped.

use super::{House, LONG, Recorder, message, options, subscribe};
use crate::{Consumer, Delivery, NewMessage, Verdict};
use outrigger_kernel::{BoxFuture, World};
use outrigger_keyspace::{
    CommitError, Committed, KeyRange, KeySpace, Level, ReadError, Snapshot, Space, Status,
    Transaction, Watch, memory::Memory,
};
use outrigger_sim::SimWorld;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Whether the subscription has ended by now.
async fn has_ended(handle: &crate::SubscriptionHandle) -> bool {
    futures_util::FutureExt::now_or_never(handle.ended()).is_some()
}

#[tokio::test(start_paused = true)]
async fn whoever_is_served_no_more_is_told() {
    let house = House::new();
    let (one, two) = (house.broker(), house.broker());
    let recorder = Recorder::acks(&house);
    let forgotten = subscribe(&one, options("t", "forgotten"), &recorder).await;
    let taken_over = subscribe(&one, options("t", "taken"), &recorder).await;
    let dropped = subscribe(&two, options("t", "dropped"), &recorder).await;
    let closed = subscribe(&one, options("t", "closed"), &recorder).await;
    let goes_on = subscribe(&one, options("t", "goes on"), &recorder).await;
    house.pass(LONG).await;
    for handle in [&forgotten, &taken_over, &dropped, &closed, &goes_on] {
        assert!(!has_ended(handle).await);
    }
    one.forget("t", "forgotten").await.unwrap();
    let _other = subscribe(&two, options("t", "taken"), &recorder).await;
    // What tells a dispatcher that it was superseded is a commit that is refused.
    house.publish(&one, "t", &["a"]).await;
    forgotten.ended().await;
    taken_over.ended().await;
    assert!(!has_ended(&goes_on).await);
    // It can be had again at once.
    let again = subscribe(&one, options("t", "forgotten"), &recorder).await;
    drop((_other, two));
    dropped.ended().await;
    one.close(Duration::ZERO).await;
    closed.ended().await;
    again.ended().await;
}

struct Held {
    begun: AtomicUsize,
    finished: AtomicUsize,
    world: Arc<SimWorld>,
}

impl Consumer for Held {
    fn deliver(&self, batch: Vec<Delivery>) -> BoxFuture<'_, Vec<Verdict>> {
        Box::pin(async move {
            self.begun.fetch_add(1, Ordering::SeqCst);
            self.world.sleep(Duration::from_secs(5)).await;
            self.finished.fetch_add(1, Ordering::SeqCst);
            vec![Verdict::Ack; batch.len()]
        })
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_broker_stops_what_is_being_handled() {
    let house = House::new();
    let broker = house.broker();
    let held = Held { begun: 0.into(), finished: 0.into(), world: Arc::clone(&house.world) };
    let held = Arc::new(held);
    let handle = broker.subscribe(options("t", "g"), Arc::clone(&held) as _).await.unwrap();
    house.publish(&broker, "t", &["a"]).await;
    house.pass(Duration::from_secs(1)).await;
    drop(broker);
    house.pass(LONG).await;
    assert_eq!((held.begun.load(Ordering::SeqCst), held.finished.load(Ordering::SeqCst)), (1, 0));
    assert!(has_ended(&handle).await);
}

/// Panics when it is asked what time it is, from a certain moment on.
struct Broken(Arc<SimWorld>, AtomicBool);

impl World for Broken {
    fn wall(&self) -> outrigger_kernel::Wall {
        self.0.wall()
    }
    fn mono(&self) -> outrigger_kernel::Mono {
        assert!(!self.1.load(Ordering::SeqCst), "the clock is broken");
        self.0.mono()
    }
    fn random(&self) -> u64 {
        self.0.random()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(duration)
    }
    fn spawn(
        &self,
        name: &'static str,
        task: BoxFuture<'static, ()>,
    ) -> outrigger_kernel::TaskHandle {
        self.0.spawn(name, task)
    }
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_that_panics_leaves_nobody_waiting() {
    let house = House::new();
    let world = Arc::new(Broken(Arc::clone(&house.world), AtomicBool::new(false)));
    let space = Space::new(Arc::clone(&house.engine) as _, Arc::clone(&world) as _);
    let broker = crate::Broker::open(space, "b", house.settings.clone());
    let recorder = Recorder::acks(&house);
    let handle = subscribe(&broker, options("t", "g"), &recorder).await;
    world.1.store(true, Ordering::SeqCst);
    house.publish(&house.broker(), "t", &["a"]).await;
    handle.ended().await;
    world.1.store(false, Ordering::SeqCst);
    let _again = subscribe(&broker, options("t", "g"), &recorder).await;
    recorder.count(1).await;
}

/// Commits take a while, as on a disk; the last one of a deletion takes long.
struct Slow(Arc<Memory>, Arc<SimWorld>);

impl KeySpace for Slow {
    fn snapshot(&self, level: Level) -> BoxFuture<'_, Result<Arc<dyn Snapshot>, ReadError>> {
        self.0.snapshot(level)
    }
    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Committed, CommitError>> {
        let deletes = |write: &_| matches!(write, outrigger_keyspace::Write::Delete { .. });
        let last = transaction.writes.len() == 2 && transaction.writes.iter().all(deletes);
        Box::pin(async move {
            self.1.sleep(Duration::from_millis(if last { 200 } else { 10 })).await;
            self.0.commit(transaction).await
        })
    }
    fn watch(&self, range: KeyRange) -> Watch {
        self.0.watch(range)
    }
    fn status(&self) -> Status {
        self.0.status()
    }
    fn now(&self) -> outrigger_kernel::Wall {
        self.0.now()
    }
    fn checkpoint<'a>(&'a self, target: &'a Path) -> BoxFuture<'a, Result<u64, ReadError>> {
        self.0.checkpoint(target)
    }
}

/// Whenever somebody subscribes while the group is being forgotten, either the group is new, or it is kept: what is
/// published once both have been answered is not deleted before it was handled.
#[tokio::test(start_paused = true)]
async fn subscribing_while_being_forgotten_keeps_the_group() {
    for pause_ms in [0, 5, 9, 11, 15, 25, 60, 150, 230] {
        let house = House::new();
        let slow = Slow(Arc::clone(&house.engine), Arc::clone(&house.world));
        let space = Space::new(Arc::new(slow), Arc::clone(&house.world) as _);
        let broker = crate::Broker::open(space, "b", house.settings.clone());
        let (one, other) = (Recorder::acks(&house), Recorder::acks(&house));
        let _other = subscribe(&broker, options("t", "other"), &other).await;
        let handle = subscribe(&broker, options("t", "g"), &one).await;
        assert!(handle.stop(LONG).await.settled);
        let (handle, forgotten) = tokio::join!(
            async {
                house.pass(Duration::from_millis(pause_ms)).await;
                subscribe(&broker, options("t", "g"), &one).await
            },
            broker.forget("t", "g"),
        );
        forgotten.unwrap();
        handle.pause();
        let messages: Vec<NewMessage> = (0..10).map(|n| message(&n.to_string())).collect();
        broker.publish("t", messages, house.soon()).await.unwrap();
        other.count(10).await;
        house.pass(Duration::from_secs(10)).await;
        let handle = if has_ended(&handle).await {
            // It came before the claim was deleted, and is told so.
            subscribe(&broker, options("t", "g"), &one).await
        } else {
            handle.resume();
            handle
        };
        house.pass(Duration::from_secs(10)).await;
        let group = broker.stats().await.unwrap()[0].groups.iter().any(|group| group.group == "g");
        assert!(group, "after {pause_ms} ms");
        if !has_ended(&handle).await {
            one.count(10).await;
        }
    }
}
