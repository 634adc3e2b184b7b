//! Ten times the load that a server can bear, in simulated time: it goes on doing all it can, for those who matter most.
//!
//! The server has ten workers and takes 10 ms a call (log-normal, spread 0.4): 1000 calls a second. Callers come at random
//! times, whatever happened to those before them, and want their answer within 500 ms. In front of it stands a bulkhead with its defaults, told
//! nothing of all this. Times are from arrival to answer.

use outrigger_kernel::{Deadline, Mono};
use outrigger_resilience::{
    Bulkhead, BulkheadSettings, Criticality, Ended, Entrant, Entry, Rank, Seat, Seats, Waiter,
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::{Arc, Mutex},
    task::{Poll, Wake, Waker},
    time::Duration,
};

const WORKERS: usize = 10;
const SERVICE_MS: f64 = 10.0;
const CAPACITY: f64 = 1_000.0;
const DEADLINE: Duration = Duration::from_millis(500);
const MS: u64 = 1_000_000;
const LOCK: &str = "nobody panics under it";

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives,
    Ends { call: usize },
    Tires { call: usize },
}

/// Whose waiters were woken.
#[derive(Default)]
struct Woken(Mutex<Vec<usize>>);

struct Bell {
    call: usize,
    woken: Arc<Woken>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.woken.0.lock().expect(LOCK).push(self.call);
    }
}

struct Call {
    arrived: u64,
    class: Criticality,
    seat: Option<Seat>,
    waiter: Option<(Waiter, Waker)>,
}

#[derive(Clone, Copy, Default, Debug)]
struct Tally {
    offered: u32,
    refused: u32,
    good: u32,
}

struct Simulation {
    bulkhead: Bulkhead,
    now: u64,
    draws: u64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    workers: BinaryHeap<Reverse<u64>>,
    calls: BTreeMap<usize, Call>,
    next: usize,
    woken: Arc<Woken>,
    per_class: [Tally; Criticality::COUNT],
    took_ms: Vec<f64>,
    /// The calls answered in time.
    answered: BTreeSet<usize>,
}

impl Simulation {
    fn new(settings: BulkheadSettings) -> Self {
        Self {
            bulkhead: Bulkhead::new(settings),
            now: 0,
            draws: 0,
            events: BinaryHeap::from([Reverse((0, Event::Arrives))]),
            workers: (0..WORKERS).map(|_| Reverse(0)).collect(),
            calls: BTreeMap::new(),
            next: 0,
            woken: Arc::default(),
            per_class: Default::default(),
            took_ms: Vec::new(),
            answered: BTreeSet::new(),
        }
    }

    fn random(&mut self) -> f64 {
        // SplitMix64
        self.draws = self.draws.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.draws;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / 9_007_199_254_740_992.0
    }

    fn service_ns(&mut self) -> u64 {
        let (a, b) = (self.random().max(1e-12), self.random());
        let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        (SERVICE_MS * (normal * 0.4 - 0.08).exp() * 1e6) as u64
    }

    /// Runs at this many calls a second, forgetting what was counted before.
    fn run(&mut self, seconds: f64, per_second: f64) {
        self.per_class = Default::default();
        self.took_ms.clear();
        self.advance(self.now + (seconds * 1e9) as u64, per_second);
    }

    fn advance(&mut self, until: u64, per_second: f64) {
        while let Some(Reverse((at, _))) = self.events.peek()
            && *at < until
        {
            let Some(Reverse((at, event))) = self.events.pop() else { break };
            self.now = at;
            match event {
                Event::Arrives => {
                    let pause = -self.random().max(1e-12).ln() / per_second * 1e9;
                    self.events.push(Reverse((at + pause as u64, Event::Arrives)));
                    self.arrives();
                }
                Event::Ends { call } => self.ends(call),
                Event::Tires { call } => self.asks(call),
            }
            loop {
                let woken = std::mem::take(&mut *self.woken.0.lock().expect(LOCK));
                if woken.is_empty() {
                    break;
                }
                woken.into_iter().for_each(|call| self.asks(call));
            }
        }
        self.now = until;
    }

    fn arrives(&mut self) {
        let class = match self.random() {
            share if share < 0.05 => Criticality::CriticalPlus,
            share if share < 0.30 => Criticality::Critical,
            _ => Criticality::Sheddable,
        };
        let cohort = (self.random() * 128.0) as u8;
        self.offer(class, cohort);
    }

    /// One call comes now; its number.
    fn offer(&mut self, class: Criticality, cohort: u8) -> usize {
        let now = Mono(self.now);
        let entrant = Entrant {
            rank: Rank::new(class, cohort),
            deadline: Some(Deadline(now.plus(DEADLINE))),
            exempt: false,
        };
        self.per_class[class.index()].offered += 1;
        let call = self.next;
        self.next += 1;
        let entry = self.bulkhead.enter(&entrant, now);
        let known = Call { arrived: self.now, class, seat: None, waiter: None };
        match entry {
            Ok(Entry::Seated(seat)) => {
                self.calls.insert(call, known);
                self.begins(call, seat);
            }
            Ok(Entry::Queued(waiter)) => {
                self.events.push(Reverse((waiter.until().0, Event::Tires { call })));
                let bell = Waker::from(Arc::new(Bell { call, woken: self.woken.clone() }));
                self.calls.insert(call, Call { waiter: Some((waiter, bell)), ..known });
                self.asks(call);
            }
            Err(_) => self.per_class[class.index()].refused += 1,
        }
        call
    }

    fn asks(&mut self, call: usize) {
        let Some(known) = self.calls.get_mut(&call) else { return };
        let Some((waiter, waker)) = &mut known.waiter else { return };
        match waiter.poll_seat(Mono(self.now), waker) {
            Poll::Pending => {}
            Poll::Ready(Ok(seat)) => {
                known.waiter = None;
                self.begins(call, seat);
            }
            Poll::Ready(Err(_)) => {
                self.per_class[known.class.index()].refused += 1;
                self.calls.remove(&call);
            }
        }
    }

    fn begins(&mut self, call: usize, seat: Seat) {
        let took = self.service_ns();
        let Reverse(free) = self.workers.pop().expect("each worker that is taken is put back");
        let ends = free.max(self.now) + took;
        self.workers.push(Reverse(ends));
        self.events.push(Reverse((ends, Event::Ends { call })));
        self.calls.get_mut(&call).expect("whoever begins is known").seat = Some(seat);
    }

    fn ends(&mut self, call: usize) {
        let Some(Call { arrived, class, seat: Some(seat), .. }) = self.calls.remove(&call) else {
            return;
        };
        seat.finish(Ended::Answered, Mono(self.now));
        let took = self.now - arrived;
        if Duration::from_nanos(took) <= DEADLINE {
            self.per_class[class.index()].good += 1;
            self.answered.insert(call);
        }
        self.took_ms.push(took as f64 / MS as f64);
    }

    fn good(&self) -> u32 {
        self.per_class.iter().map(|class| class.good).sum()
    }

    fn share(&self, class: Criticality) -> f64 {
        let Tally { offered, good, .. } = self.per_class[class.index()];
        f64::from(good) / f64::from(offered.max(1))
    }

    fn p99_ms(&mut self) -> f64 {
        self.took_ms.sort_by(f64::total_cmp);
        self.took_ms[self.took_ms.len() * 99 / 100]
    }
}

#[test]
fn ten_times_the_load_is_answered_by_all_that_can_be_done() {
    let mut simulation = Simulation::new(BulkheadSettings::front_door());
    simulation.run(20.0, 300.0);
    simulation.run(20.0, 300.0);
    let refused: u32 = simulation.per_class.iter().map(|class| class.refused).sum();
    assert_eq!(refused, 0, "nothing is refused without need");
    let unloaded = simulation.p99_ms();

    simulation.run(10.0, 10.0 * CAPACITY);
    simulation.run(20.0, 10.0 * CAPACITY);
    let goodput = f64::from(simulation.good()) / (20.0 * CAPACITY);
    let p99 = simulation.p99_ms();
    let [crawl, _, page, payment] = Criticality::ALL.map(|class| simulation.share(class));
    eprintln!(
        "goodput {goodput:.3}, p99 {p99:.1} ms (unloaded {unloaded:.1}), payment {payment:.4}, page {page:.3}, crawl {crawl:.5}, {:?}",
        simulation.bulkhead.status(Mono(simulation.now))
    );
    assert!(goodput >= 0.90, "goodput {goodput:.3}");
    assert!(p99 <= 2.0 * unloaded, "p99 of the admitted {p99:.1} ms, unloaded {unloaded:.1} ms");
    assert!(payment >= 0.99, "critical-plus {payment:.4}");
    // What is left after the payments, for a quarter of all calls.
    assert!((0.12..=0.22).contains(&page), "critical {page:.3}");
    assert!(crawl < 0.005, "sheddable {crawl:.5}");

    simulation.run(2.0, 500.0);
    simulation.run(5.0, 500.0);
    let refused: u32 = simulation.per_class.iter().map(|class| class.refused).sum();
    assert_eq!(refused, 0, "two seconds after the overload");
}

#[test]
fn without_a_bulkhead_nobody_is_served_in_time() {
    let seats = Seats::Fixed(1_000_000);
    let mut simulation = Simulation::new(BulkheadSettings { seats, ..BulkheadSettings::default() });
    simulation.run(5.0, 2.0 * CAPACITY);
    simulation.run(10.0, 2.0 * CAPACITY);
    let goodput = f64::from(simulation.good()) / (10.0 * CAPACITY);
    assert!(goodput < 0.1, "the experiment proves nothing: goodput {goodput:.3}");
}

#[test]
fn at_the_capacity_and_a_little_above_little_is_lost() {
    for load in [0.9, 1.2, 2.0] {
        let mut simulation = Simulation::new(BulkheadSettings::front_door());
        simulation.run(10.0, load * CAPACITY);
        simulation.run(20.0, load * CAPACITY);
        let served = f64::from(simulation.good()) / (20.0 * CAPACITY);
        let p99 = simulation.p99_ms();
        eprintln!("load {load}: served {served:.3} of the capacity, p99 {p99:.1} ms");
        assert!(served >= 0.92 * f64::min(load, 1.0), "load {load}: {served:.3}");
        assert!(p99 <= 60.0, "load {load}: p99 {p99:.1} ms");
    }
}

/// Pages that need a call to each of four servers, twice as many as they can serve: the share that gets all four, when a
/// page's calls are of one cohort, and when each has its own.
///
/// A half is what there is; 0.42 is what was measured, and 0.40 is asked for. What is missing: each server finds its own
/// threshold, within some per cent of the others', and a page needs the highest of four; and each lets in some 3 % more
/// than it can serve, so as not to run dry, and refuses them behind the door, where it is chance who goes: 0.97^4 = 0.89.
/// To feel for the edge more gently than by tenths was tried: 0.43, for 1 % less served at every load.
fn pages(one_cohort: bool) -> f64 {
    let mut servers: Vec<Simulation> = (0..4_u64)
        .map(|server| {
            let mut server_of = Simulation::new(BulkheadSettings::front_door());
            server_of.events.clear();
            server_of.draws = server << 40;
            server_of
        })
        .collect();
    let mut dice = Simulation::new(BulkheadSettings::default());
    let (mut all, mut whole, mut now) = (0, 0, 0_u64);
    let mut asked: Vec<[usize; 4]> = Vec::new();
    while now < 30_000 * MS {
        now += (-dice.random().max(1e-12).ln() / (2.0 * CAPACITY) * 1e9) as u64;
        let cohort = (dice.random() * 128.0) as u8;
        let mut page = [0; 4];
        for (server, call) in servers.iter_mut().zip(&mut page) {
            server.advance(now, 0.0);
            let cohort = if one_cohort { cohort } else { (dice.random() * 128.0) as u8 };
            *call = server.offer(Criticality::Critical, cohort);
        }
        if now > 10_000 * MS {
            asked.push(page);
        }
    }
    servers.iter_mut().for_each(|server| server.advance(now + 1_000 * MS, 0.0));
    for page in asked {
        all += 1;
        whole += u32::from(
            servers.iter().zip(page).all(|(server, call)| server.answered.contains(&call)),
        );
    }
    f64::from(whole) / f64::from(all)
}

#[test]
fn a_page_of_four_calls_is_served_as_a_whole_or_not_at_all() {
    let (together, apart) = (pages(true), pages(false));
    eprintln!("whole pages: {together:.3} with cohorts, {apart:.3} without; 0.5 is what there is");
    assert!(together >= 0.40, "{together:.3}");
    assert!(apart < 0.15, "the experiment proves nothing: {apart:.3}");
}
