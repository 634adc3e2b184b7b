//! Shared limits of several processes: several spaces on one store, in simulated time.

use super::{LimitName, SharedLimits};
use bytes::Bytes;
use outrigger_kernel::{BoxFuture, Wall, World};
use outrigger_keyspace::{
    CommitError, Committed, KeyRange, KeySpace, Level, ReadError, Snapshot, Space, Status,
    Transaction, Watch, memory::Memory,
};
use outrigger_resilience::{ShareHolder, ShareTerms};
use outrigger_sim::SimWorld;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

const RATE: u32 = 200;
const BURST: u32 = 20;

/// A store that can be out of reach.
struct Remote {
    inner: Arc<Memory>,
    away: Arc<AtomicBool>,
}

impl KeySpace for Remote {
    fn snapshot(&self, level: Level) -> BoxFuture<'_, Result<Arc<dyn Snapshot>, ReadError>> {
        if self.away.load(SeqCst) {
            return Box::pin(async { Err(ReadError::Unavailable("away".to_owned())) });
        }
        self.inner.snapshot(level)
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Committed, CommitError>> {
        self.inner.commit(transaction)
    }

    fn watch(&self, range: KeyRange) -> Watch {
        self.inner.watch(range)
    }

    fn now(&self) -> Wall {
        self.inner.now()
    }

    fn status(&self) -> Status {
        self.inner.status()
    }

    fn checkpoint<'a>(&'a self, target: &'a Path) -> BoxFuture<'a, Result<u64, ReadError>> {
        self.inner.checkpoint(target)
    }
}

struct Process {
    limits: Arc<SharedLimits>,
    holder: Arc<ShareHolder>,
    away: Arc<AtomicBool>,
}

struct Machine {
    world: Arc<SimWorld>,
    store: Arc<Memory>,
    processes: Vec<Process>,
    /// Calls admitted in each millisecond.
    admitted: Vec<u32>,
}

fn name() -> LimitName {
    LimitName { namespace: "default".to_owned(), name: "partner".to_owned() }
}

impl Machine {
    fn new(processes: usize) -> Self {
        let world = SimWorld::new(7);
        let store = Memory::new(Arc::clone(&world) as _);
        let mut machine = Self { world, store, processes: Vec::new(), admitted: Vec::new() };
        (0..processes).for_each(|_| machine.start_one());
        machine
    }

    fn start_one(&mut self) {
        let away = Arc::<AtomicBool>::default();
        let engine = Remote { inner: Arc::clone(&self.store), away: Arc::clone(&away) };
        let limits = SharedLimits::over(Space::new(Arc::new(engine), Arc::clone(&self.world) as _));
        let burst = Duration::from_secs(1) * BURST / RATE;
        let terms = ShareTerms { burst, ..ShareTerms::per_second(RATE) };
        let holder = limits.holder(name(), terms);
        self.processes.push(Process { limits, holder, away });
    }

    /// Runs for so long; each millisecond, each process wants to make as many calls as `wants` says.
    async fn run(&mut self, ms: u32, wants: impl Fn(usize) -> u32) {
        for _ in 0..ms {
            self.world.sleep(Duration::from_millis(1)).await;
            let now = self.world.mono();
            let mut admitted = 0;
            for (index, process) in self.processes.iter().enumerate() {
                for _ in 0..wants(index) {
                    admitted += u32::from(process.holder.decide(1, now).allowed);
                }
            }
            self.admitted.push(admitted);
        }
    }

    fn last_second(&self) -> u32 {
        self.admitted[self.admitted.len() - 1_000..].iter().sum()
    }

    fn worst(&self, window_ms: usize) -> u32 {
        self.admitted.windows(window_ms).map(|ms| ms.iter().sum()).max().unwrap()
    }

    fn stays_within_the_bound(&self, processes: u32) {
        for (window_ms, share) in [(100, 0.1), (1_000, 1.0), (3_000, 3.0)] {
            let most = f64::from(RATE) * share + f64::from(BURST + processes);
            let worst = f64::from(self.worst(window_ms));
            assert!(worst <= most, "{worst} in {window_ms} ms, where {most} is the bound");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_processes_together_stay_within_the_bound_wherever_the_load_is() {
    let mut machine = Machine::new(3);
    machine.run(4_000, |_| 1).await;
    assert!((190..=210).contains(&machine.last_second()), "{}", machine.last_second());
    machine.run(4_000, |index| if index == 0 { 2 } else { 0 }).await;
    assert!((190..=210).contains(&machine.last_second()), "one alone gets everything");
    machine.start_one();
    machine.run(4_000, |index| if index == 3 { 2 } else { 0 }).await;
    assert!((190..=210).contains(&machine.last_second()), "and the next one");
    machine.run(4_000, |index| 1 + u32::from(index == 1)).await;
    assert!((190..=210).contains(&machine.last_second()), "{}", machine.last_second());
    machine.stays_within_the_bound(4);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_goes_gives_its_share_back() {
    for leaves in [true, false] {
        let mut machine = Machine::new(2);
        machine.run(3_000, |_| 1).await;
        let gone = machine.processes.remove(0);
        if leaves {
            gone.limits.close().await;
        }
        drop(gone);
        // Killed: its lease of a second, then half of one until the other asks again.
        machine.run(if leaves { 600 } else { 1_600 }, |_| 1).await;
        machine.run(1_000, |_| 1).await;
        assert!((190..=210).contains(&machine.last_second()), "{}", machine.last_second());
        machine.stays_within_the_bound(2);
    }
}

#[tokio::test(start_paused = true)]
async fn with_the_store_away_the_last_shares_go_on() {
    let mut machine = Machine::new(2);
    machine.run(3_000, |_| 1).await;
    machine.processes.iter().for_each(|process| process.away.store(true, SeqCst));
    machine.run(30_000, |_| 1).await;
    assert!((190..=210).contains(&machine.last_second()), "{}", machine.last_second());
    machine.stays_within_the_bound(2);
    machine.processes.iter().for_each(|process| process.away.store(false, SeqCst));
    machine.run(3_000, |index| if index == 0 { 1 } else { 0 }).await;
    assert!((190..=210).contains(&machine.last_second()), "shares move again");
    machine.stays_within_the_bound(2);
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_what_its_name_and_terms_say() {
    let machine = Machine::new(1);
    let Process { limits, holder, .. } = &machine.processes[0];
    assert_eq!(limits.holder(name(), *holder.terms()), *holder);
    let other = LimitName { namespace: "prod".to_owned(), ..name() };
    assert_ne!(limits.holder(other, *holder.terms()), *holder);
    assert_ne!(limits.holder(name(), ShareTerms::per_second(7)), *holder);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_uses_leaves_no_row() {
    let mut machine = Machine::new(1);
    machine.run(1_200, |_| 0).await;
    let rows = async |machine: &Machine| {
        let snapshot = machine.store.snapshot(Level::Linearizable).await.unwrap();
        let key: Bytes = super::keys::LEDGERS.key(&(name().namespace, name().name));
        snapshot.get(&key).await.unwrap().is_some()
    };
    assert!(rows(&machine).await);
    let limits = Arc::clone(&machine.processes[0].limits);
    machine.processes.clear();
    machine.run(1_200, |_| 0).await;
    assert!(!rows(&machine).await, "the policy was changed; the process lives on");
    drop(limits);
}

#[tokio::test(start_paused = true)]
async fn alone_a_process_has_all_of_it() {
    let world = SimWorld::new(1);
    let limits = SharedLimits::alone(Arc::clone(&world) as _);
    let holder = limits.holder(name(), ShareTerms::per_second(100));
    let mut admitted = 0;
    for _ in 0..10_000 {
        world.sleep(Duration::from_millis(1)).await;
        admitted += u32::from(holder.decide(1, world.mono()).allowed);
    }
    assert!((1_000..=1_011).contains(&admitted), "{admitted}");
}
