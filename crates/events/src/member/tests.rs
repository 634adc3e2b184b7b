//! Several brokers of one name in one space, as several processes have them. A line is a pipe in memory; a crash is the
//! end of a process's broker and of all its lines.

use super::{Line, Neighbours, host};
use crate::{Broker, BrokerSettings, Consumer, Delivery, NewMessage, SubscribeOptions, Verdict};
use outrigger_kernel::{BoxFuture, Deadline, TaskHandle, World, within};
use outrigger_keyspace::{Space, memory::Memory};
use outrigger_resilience::{Backoff, Retry};
use outrigger_sim::SimWorld;
use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};
use tokio::sync::watch;

/// The processes of a machine.
struct Street {
    world: Arc<SimWorld>,
    engine: Arc<Memory>,
    houses: Mutex<HashMap<String, House>>,
    me: Weak<Self>,
}

struct House {
    broker: Arc<Broker>,
    lines: Vec<TaskHandle>,
    /// What lies between the two ends of each line.
    wires: Vec<TaskHandle>,
}

impl Street {
    fn new() -> Arc<Self> {
        let world = SimWorld::new(7);
        let engine = Memory::new(Arc::clone(&world) as Arc<dyn World>);
        Arc::new_cyclic(|me| Self { world, engine, houses: Mutex::default(), me: me.clone() })
    }

    fn start(&self, name: &str) -> Arc<Broker> {
        let space = Space::new(Arc::clone(&self.engine) as _, Arc::clone(&self.world) as _);
        let door = Door { own: name.to_owned(), street: self.me.clone() };
        let broker = Broker::open_among(space, "b", BrokerSettings::default(), Arc::new(door));
        let (lines, wires) = (Vec::new(), Vec::new());
        let house = House { broker: Arc::clone(&broker), lines, wires };
        self.houses.lock().unwrap().insert(name.to_owned(), house);
        broker
    }

    fn kill(&self, name: &str) {
        let house = self.houses.lock().unwrap().remove(name).unwrap();
        house.lines.into_iter().for_each(TaskHandle::abort);
    }

    /// Both ends of every line to `name` find the other one gone.
    fn cut(&self, name: &str) {
        let mut houses = self.houses.lock().unwrap();
        houses.get_mut(name).unwrap().wires.drain(..).for_each(TaskHandle::abort);
    }

    async fn publish(&self, broker: &Broker, range: std::ops::Range<usize>) {
        let message = |n: usize| NewMessage { data: n.to_string().into(), ..NewMessage::default() };
        let soon = Deadline::after(&*self.world, Duration::from_secs(60));
        broker.publish("t", range.map(message).collect(), soon).await.unwrap();
    }
}

struct Door {
    own: String,
    street: Weak<Street>,
}

impl Neighbours for Door {
    fn own(&self) -> &str {
        &self.own
    }

    fn dial<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Line>>> {
        Box::pin(async move {
            let street = self.street.upgrade().ok_or(io::ErrorKind::NotFound)?;
            let mut houses = street.houses.lock().unwrap();
            let house = houses.get_mut(name).ok_or(io::ErrorKind::ConnectionRefused)?;
            let (near, mut near_wire) = tokio::io::duplex(64 * 1024);
            let (mut far_wire, far) = tokio::io::duplex(64 * 1024);
            let wire = async move {
                drop(tokio::io::copy_bidirectional(&mut near_wire, &mut far_wire).await);
            };
            let broker = Arc::clone(&house.broker);
            let find = move |name: &str| (name == "b").then(|| Arc::clone(&broker));
            let world = Arc::clone(&street.world) as Arc<dyn World>;
            let serve = host(Box::new(far), Arc::clone(&world), find);
            house.lines.push(world.spawn("line", Box::pin(serve)));
            house.wires.push(world.spawn("wire", Box::pin(wire)));
            Ok(Box::new(near) as Box<dyn Line>)
        })
    }
}

/// What all consumers of a test were handed: who, what.
#[derive(Clone)]
struct Book(Arc<watch::Sender<Vec<(String, String)>>>, Arc<SimWorld>);

impl Book {
    fn new(street: &Street) -> Self {
        Self(Arc::new(watch::channel(Vec::new()).0), Arc::clone(&street.world))
    }

    async fn until(&self, enough: impl Fn(&[(String, String)]) -> bool) -> Vec<(String, String)> {
        let mut seen = self.0.subscribe();
        let waited = seen.wait_for(|seen| enough(seen));
        let deadline = Deadline::after(&*self.1, Duration::from_secs(3600));
        within(&*self.1, deadline, waited).await.expect("in an hour").unwrap().clone()
    }

    fn count(&self, who: &str) -> usize {
        self.0.borrow().iter().filter(|(name, _)| name == who).count()
    }
}

type Judge = dyn Fn(&Delivery) -> BoxFuture<'static, Verdict> + Send + Sync;

struct Reader {
    name: String,
    book: Book,
    judge: Box<Judge>,
}

impl Consumer for Reader {
    fn deliver(&self, batch: Vec<Delivery>) -> BoxFuture<'_, Vec<Verdict>> {
        Box::pin(async move {
            let mut verdicts = Vec::new();
            for delivery in batch {
                let text = String::from_utf8(delivery.data.to_vec()).unwrap();
                self.book.0.send_modify(|all| all.push((self.name.clone(), text)));
                verdicts.push((self.judge)(&delivery).await);
            }
            verdicts
        })
    }
}

fn reader(
    name: &str,
    book: &Book,
    judge: impl Fn(&Delivery) -> BoxFuture<'static, Verdict> + Send + Sync + 'static,
) -> Arc<Reader> {
    Arc::new(Reader { name: name.to_owned(), book: book.clone(), judge: Box::new(judge) })
}

/// Takes a moment for each, so that whoever sits nearer does not take all.
fn acks(name: &str, book: &Book) -> Arc<Reader> {
    let world = Arc::clone(&book.1);
    reader(name, book, move |_| {
        let moment = world.sleep(Duration::from_millis(10));
        Box::pin(async {
            moment.await;
            Verdict::Ack
        })
    })
}

fn options() -> SubscribeOptions {
    let backoff = Backoff::Constant { delay: Duration::from_secs(1) };
    let retry = Retry { backoff, max_retries: Some(1), ..Retry::default() };
    let dead_letter_topic = Some("dead".to_owned());
    SubscribeOptions {
        retry,
        dead_letter_topic,
        max_in_flight: 4,
        ..SubscribeOptions::new("t", "g")
    }
}

fn times(seen: &[(String, String)]) -> BTreeMap<&str, usize> {
    let mut times = BTreeMap::new();
    seen.iter().for_each(|(_, text)| *times.entry(text.as_str()).or_default() += 1);
    times
}

#[tokio::test(start_paused = true)]
async fn a_group_in_two_processes_gets_each_message_once_and_both_work() {
    let street = Street::new();
    let (a, b) = (street.start("a"), street.start("b"));
    let book = Book::new(&street);
    let _one = a.subscribe(options(), acks("a", &book)).await.unwrap();
    let two = b.subscribe(options(), acks("b", &book)).await.unwrap();
    assert_eq!(format!("{two:?}"), "SubscriptionHandle(elsewhere)");
    street.publish(&a, 0..50).await;
    street.publish(&b, 50..100).await;
    let seen = book.until(|seen| seen.len() >= 100).await;
    street.world.sleep(Duration::from_secs(60)).await;
    assert_eq!(book.0.borrow().len(), 100, "each once");
    assert_eq!(times(&seen).len(), 100);
    assert!(book.count("a") >= 20 && book.count("b") >= 20, "they take turns");
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_member_held_goes_to_the_others_uncounted() {
    let street = Street::new();
    let (a, b) = (street.start("a"), street.start("b"));
    let book = Book::new(&street);
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let tried = Arc::clone(&attempts);
    let _one = a
        .subscribe(
            options(),
            reader("a", &book, move |delivery| {
                tried.lock().unwrap().push(delivery.attempt);
                Box::pin(async { Verdict::Ack })
            }),
        )
        .await
        .unwrap();
    let hangs = reader("b", &book, |_| Box::pin(std::future::pending()));
    let two = b.subscribe(options(), hangs).await.unwrap();
    street.publish(&a, 0..20).await;
    book.until(|_| book.count("b") == 4).await;
    let died = street.world.mono();
    street.cut("a");
    book.until(|_| book.count("a") == 20).await;
    assert!(street.world.mono().since(died) < Duration::from_secs(1));
    drop(two);
    assert_eq!(attempts.lock().unwrap().iter().max(), Some(&1));
}

/// A member that leaves may finish what it holds, unless it dies while it does.
#[tokio::test(start_paused = true)]
async fn what_a_member_holds_that_dies_while_it_leaves_goes_to_the_others_at_once() {
    let street = Street::new();
    let (a, b) = (street.start("a"), street.start("b"));
    let book = Book::new(&street);
    let _one = a.subscribe(options(), acks("a", &book)).await.unwrap();
    let hangs = reader("b", &book, |_| Box::pin(std::future::pending()));
    let two = b.subscribe(options(), hangs).await.unwrap();
    street.publish(&a, 0..20).await;
    book.until(|_| book.count("b") == 4 && book.count("a") == 16).await;
    drop(two);
    street.world.sleep(Duration::from_secs(1)).await;
    assert_eq!(book.count("a"), 16, "it may finish");
    let died = street.world.mono();
    street.cut("a");
    book.until(|_| book.count("a") == 20).await;
    let took = street.world.mono().since(died);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn when_the_dispatching_process_dies_a_member_takes_over() {
    let street = Street::new();
    let (a, b) = (street.start("a"), street.start("b"));
    let book = Book::new(&street);
    let hangs = reader("a", &book, |_| Box::pin(std::future::pending()));
    let one = a.subscribe(options(), hangs).await.unwrap();
    let two = b.subscribe(options(), acks("b", &book)).await.unwrap();
    street.publish(&b, 0..20).await;
    book.until(|_| book.count("a") == 4 && book.count("b") == 16).await;
    street.kill("a");
    drop((one, a));
    two.ended().await;
    let again = b.subscribe(options(), acks("b", &book)).await.unwrap();
    assert!(format!("{again:?}").contains("Seat"), "{again:?}");
    let seen = book.until(|_| book.count("b") >= 20).await;
    let of_b: Vec<_> = seen.into_iter().filter(|(who, _)| who == "b").collect();
    assert_eq!(times(&of_b).len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_serves_the_group_no_more_is_taken_over_without_a_fight() {
    let street = Street::new();
    let (a, b) = (street.start("a"), street.start("b"));
    let book = Book::new(&street);
    let one = a.subscribe(options(), acks("a", &book)).await.unwrap();
    one.stop(Duration::from_secs(1)).await;
    let _two = b.subscribe(options(), acks("b", &book)).await.unwrap();
    // Back again: now it is the member.
    let back = a.subscribe(options(), acks("a", &book)).await.unwrap();
    assert_eq!(format!("{back:?}"), "SubscriptionHandle(elsewhere)");
    street.publish(&a, 0..40).await;
    book.until(|seen| seen.len() == 40).await;
    assert!(book.count("a") > 0 && book.count("b") > 0);
}

#[tokio::test(start_paused = true)]
async fn many_start_at_once_and_one_dispatches() {
    let street = Street::new();
    let book = Book::new(&street);
    let names = ["a", "b", "c", "d"];
    let brokers: Vec<_> = names.iter().map(|name| street.start(name)).collect();
    let joining = brokers
        .iter()
        .zip(names)
        .map(|(broker, name)| broker.subscribe(options(), acks(name, &book)));
    let handles = futures_util::future::join_all(joining).await;
    let handles: Vec<_> = handles.into_iter().map(Result::unwrap).collect();
    let here = handles.iter().filter(|handle| format!("{handle:?}").contains("Seat")).count();
    assert_eq!(here, 1);
    street.publish(&brokers[0], 0..100).await;
    book.until(|seen| seen.len() >= 100).await;
    street.world.sleep(Duration::from_secs(60)).await;
    assert_eq!(book.0.borrow().len(), 100);
    assert!(names.iter().all(|name| book.count(name) > 0));
}

#[tokio::test(start_paused = true)]
async fn a_member_leaves_in_order_pauses_and_fails_like_any_other() {
    let street = Street::new();
    let (a, b) = (street.start("a"), street.start("b"));
    let book = Book::new(&street);
    let one = a.subscribe(options(), acks("a", &book)).await.unwrap();
    one.pause();
    let fails = reader("b", &book, |delivery| {
        let first = delivery.attempt == 1;
        Box::pin(async move { if first { Verdict::retry("no") } else { Verdict::drop("never") } })
    });
    let two = b.subscribe(options(), fails).await.unwrap();
    street.publish(&a, 0..3).await;
    // Each twice, and then to the dead letters.
    book.until(|_| book.count("b") == 6).await;
    two.pause();
    street.world.sleep(Duration::from_secs(5)).await;
    street.publish(&a, 3..6).await;
    street.world.sleep(Duration::from_secs(60)).await;
    assert_eq!(book.count("b"), 6, "paused");
    let left = two.stop(Duration::from_secs(5)).await;
    assert!(left.settled, "{left:?}");
    one.resume();
    book.until(|_| book.count("a") == 3).await;
    let stats = a.stats().await.unwrap();
    assert_eq!(stats.iter().find(|topic| topic.topic == "dead").unwrap().published, 3);
}
