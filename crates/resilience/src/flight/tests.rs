//! Flights in paused time: who leaves takes only itself along, and who waits costs nothing.

use super::{Crowded, FlightSettings, Flights, Lost};
use outrigger_kernel::{Deadline, Mono, World, within};
use outrigger_sim::SimWorld;
use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

type Table = Flights<u32, u32>;

fn flights() -> Table {
    Flights::new(FlightSettings::default())
}

/// A load that takes `ms` and counts how often it began and ended.
fn load(
    world: &Arc<SimWorld>,
    ms: u64,
    counts: &Arc<[AtomicU32; 2]>,
) -> impl FnOnce() -> outrigger_kernel::BoxFuture<'static, u32> + use<> {
    let (world, counts) = (Arc::clone(world), Arc::clone(counts));
    move || {
        let number = counts[0].fetch_add(1, SeqCst) + 1;
        Box::pin(async move {
            world.sleep(Duration::from_millis(ms)).await;
            counts[1].fetch_add(1, SeqCst);
            number
        })
    }
}

fn counts() -> Arc<[AtomicU32; 2]> {
    Arc::default()
}

fn read(counts: &[AtomicU32; 2]) -> (u32, u32) {
    (counts[0].load(SeqCst), counts[1].load(SeqCst))
}

/// A waker that counts.
#[derive(Default)]
struct Bell(AtomicU32);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn poll<F: Future + Unpin>(future: &mut F, bell: &Arc<Bell>) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(&Waker::from(Arc::clone(bell))))
}

#[tokio::test(start_paused = true)]
async fn many_callers_are_one_load() {
    let (world, flights, counts) = (SimWorld::new(1), flights(), counts());
    let joins = (0..1_000).map(|_| {
        let joined = flights.join(7, world.mono(), load(&world, 1_000, &counts)).unwrap();
        tokio_spawn(&*world, joined)
    });
    for answer in joins.collect::<Vec<_>>() {
        assert_eq!(answer.await.unwrap(), Ok(1));
    }
    assert_eq!(read(&counts), (1, 1));
    assert!(flights.is_empty());
    let next = flights.join(7, world.mono(), load(&world, 1, &counts)).unwrap();
    assert_eq!(next.await, Ok(2), "an answer is not kept");
}

/// Runs a future as a task of its own and hands its output back.
fn tokio_spawn<F>(world: &dyn World, future: F) -> tokio::sync::oneshot::Receiver<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let (answer, receiver) = tokio::sync::oneshot::channel();
    let task = async move { drop(answer.send(future.await)) };
    drop(world.spawn("test", Box::pin(task)));
    receiver
}

#[tokio::test(start_paused = true)]
async fn the_first_caller_may_leave() {
    let (world, flights, counts) = (SimWorld::new(1), flights(), counts());
    let start = world.mono();
    let join = || flights.join(7, world.mono(), load(&world, 1_000, &counts)).unwrap();
    let impatient = within(&*world, Deadline(start.plus(Duration::from_millis(20))), join());
    let mut impatient = pin!(impatient);
    assert!(futures_poll(impatient.as_mut()).is_pending());
    let rest: Vec<_> = (0..999).map(|_| tokio_spawn(&*world, join())).collect();
    assert!(impatient.await.is_err());
    for answer in rest {
        assert_eq!(answer.await.unwrap(), Ok(1));
    }
    assert_eq!(read(&counts), (1, 1));
    assert_eq!(world.mono().since(start).as_millis(), 1_000, "the load was not begun anew");
}

fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test(start_paused = true)]
async fn every_heir_may_leave_too() {
    let (world, flights, counts) = (SimWorld::new(1), flights(), counts());
    let join = || flights.join(7, world.mono(), load(&world, 1_000, &counts)).unwrap();
    let waiters = (0..100_u64).map(|n| {
        let deadline = Deadline(world.mono().plus(Duration::from_millis(5 * n + 1)));
        let (own, joined) = (Arc::clone(&world), join());
        tokio_spawn(&*world, async move { within(&*own, deadline, joined).await })
    });
    let waiters: Vec<_> = waiters.collect();
    assert_eq!(join().await, Ok(1));
    for waiter in waiters {
        assert!(waiter.await.unwrap().is_err());
    }
    assert_eq!(read(&counts), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn with_the_last_waiter_the_load_goes() {
    let (world, flights, counts) = (SimWorld::new(1), flights(), counts());
    let join = || flights.join(7, world.mono(), load(&world, 50, &counts)).unwrap();
    let (mut one, two) = (join(), join());
    assert!(poll(&mut one, &Arc::default()).is_pending());
    drop(one);
    drop(two);
    assert!(flights.is_empty());
    world.sleep(Duration::from_millis(100)).await;
    assert_eq!(read(&counts), (1, 0));

    // A keeper carries it on.
    let joined = join();
    drop(world.spawn("keeper", Box::pin(joined.keeper())));
    drop(joined);
    world.sleep(Duration::from_millis(100)).await;
    assert_eq!(read(&counts), (2, 1));
    assert!(flights.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_hung_load_is_forgotten() {
    let world = SimWorld::new(1);
    let settings =
        FlightSettings { forget_after: Duration::from_millis(500), ..FlightSettings::default() };
    let (flights, counts): (Table, _) = (Flights::new(settings), counts());
    let hung = flights.join(7, world.mono(), std::future::pending).unwrap();
    let hung = tokio_spawn(&*world, hung);
    world.sleep(Duration::from_millis(499)).await;
    assert!(!flights.join(7, world.mono(), load(&world, 1, &counts)).unwrap().is_first());
    world.sleep(Duration::from_millis(1)).await;
    let fresh = flights.join(7, world.mono(), load(&world, 1, &counts)).unwrap();
    assert_eq!(fresh.await, Ok(1));
    drop(hung);
    flights.forget(&7);
}

#[test]
fn a_crowd_is_turned_away() {
    let settings = FlightSettings { waiters_max: 2, ..FlightSettings::default() };
    let flights: Table = Flights::new(settings);
    let join = || flights.join(7, Mono(0), std::future::pending);
    let held = [join().unwrap(), join().unwrap()];
    assert_eq!(join().unwrap_err(), Crowded);
    drop(held);
    assert!(join().unwrap().is_first());
}

#[test]
fn progress_wakes_one_and_the_end_wakes_each_once() {
    let flights = flights();
    let gate: Arc<std::sync::Mutex<(u32, Option<Waker>)>> = Arc::default();
    let inner = Arc::clone(&gate);
    let load = move || {
        std::future::poll_fn(move |context| {
            let mut gate = inner.lock().unwrap();
            gate.1 = Some(context.waker().clone());
            if gate.0 >= 10 { Poll::Ready(7) } else { Poll::Pending }
        })
    };
    let mut waiters = vec![flights.join(7, Mono(0), load).unwrap()];
    waiters.extend((0..99).map(|_| flights.join(7, Mono(0), std::future::pending).unwrap()));
    let bells: Vec<Arc<Bell>> = (0..100).map(|_| Arc::default()).collect();
    let mut poll_all = || {
        let polls = waiters.iter_mut().zip(&bells).map(|(waiter, bell)| poll(waiter, bell));
        polls.filter(|polled| polled.is_ready()).count()
    };
    assert_eq!(poll_all(), 0);
    for step in 1..=10 {
        let waker = {
            let mut gate = gate.lock().unwrap();
            gate.0 = step;
            gate.1.take().unwrap()
        };
        waker.wake();
        if step < 10 {
            assert_eq!(poll_all(), 0);
        }
    }
    let rung = || bells.iter().map(|bell| bell.0.load(SeqCst)).collect::<Vec<_>>();
    assert_eq!((rung()[0], rung()[1..].iter().sum::<u32>()), (10, 0), "followers sleep");
    assert_eq!(poll_all(), 100);
    assert!(rung()[1..].iter().all(|rings| *rings == 1));
}

#[test]
fn a_panic_ends_the_flight_for_all() {
    let flights = flights();
    let mut first = flights.join(7, Mono(0), || async { panic!("as planned") }).unwrap();
    let mut second = flights.join(7, Mono(0), || async { 1 }).unwrap();
    let bell = Arc::default();
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _polled = poll(&mut first, &bell);
    }));
    assert!(unwound.is_err());
    assert_eq!(poll(&mut second, &bell), Poll::Ready(Err(Lost)));
    assert!(flights.is_empty());
    let mut next = flights.join(7, Mono(0), || async { 3 }).unwrap();
    assert_eq!(poll(&mut next, &bell), Poll::Ready(Ok(3)));
}
