//! Balancing as a whole, in simulated time: what a slow replica, a failing replica and a changing set cost the callers.
//!
//! The fleet is simulated as queues: Poisson arrivals, a fixed number of workers per replica, lognormal service times.
//! Each scenario has its ablation, which must fail where the balancer succeeds; otherwise it would prove nothing.

use outrigger_kernel::Mono;
use outrigger_resilience::{
    Ask, BalanceSettings, Balancer, Endpoint, OutlierSettings, Pick, Strategy, Verdict, sticky_key,
};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    time::Duration,
};

/// SplitMix64.
struct Stream(u64);

impl Stream {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / 9_007_199_254_740_992.0
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }

    /// Median `median`, sigma 0.4 (Box and Muller).
    fn lognormal(&mut self, median: f64) -> f64 {
        let normal = (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
        median * (0.4 * normal).exp()
    }
}

const WORKERS: usize = 4;
const SERVICE_S: f64 = 0.005;

struct Fleet {
    replicas: usize,
    rate_per_s: f64,
    seconds: f64,
    /// How many times slower a replica is at an instant.
    slowness: fn(usize, f64) -> f64,
    /// The share of calls that a replica fails.
    failing: fn(usize, f64) -> f64,
}

#[derive(Default)]
struct Outcome {
    latencies_ms: Vec<f64>,
    failed: usize,
    /// Calls sent to each replica per second of the run.
    sent: Vec<Vec<u32>>,
    unfinished: usize,
}

impl Outcome {
    fn percentile_ms(&mut self, share: f64) -> f64 {
        self.latencies_ms.sort_by(f64::total_cmp);
        let last = self.latencies_ms.len() - 1;
        self.latencies_ms[(last as f64 * share) as usize]
    }

    fn share_of(&self, replica: usize, seconds: std::ops::Range<usize>) -> f64 {
        let count = |replica: usize| self.sent[replica][seconds.clone()].iter().sum::<u32>();
        f64::from(count(replica)) / f64::from((0..self.sent.len()).map(count).sum::<u32>())
    }
}

enum Event {
    Arrival,
    Done { replica: usize },
}

struct Call {
    arrived: f64,
    pick: Pick<usize>,
}

fn at(seconds: f64) -> Mono {
    Mono((1 << 40) + (seconds * 1e9) as u64)
}

/// Runs the fleet under a balancer.
fn run(fleet: &Fleet, settings: BalanceSettings, seed: u64) -> (Outcome, Balancer<usize>) {
    let balancer = Balancer::new(settings);
    let endpoint = |n: usize| Endpoint::new(format!("10.0.0.{n}:80"), n);
    balancer.update((0..fleet.replicas).map(endpoint), at(0.0));
    let mut random = Stream(seed);
    let mut events = BinaryHeap::new();
    let mut happening: HashMap<u64, Event> = HashMap::new();
    let mut numbered = 0_u64;
    let mut schedule =
        |when: f64, event: Event, events: &mut BinaryHeap<_>, happening: &mut HashMap<_, _>| {
            numbered += 1;
            events.push(Reverse(((when * 1e9) as u64, numbered)));
            happening.insert(numbered, event);
        };
    let mut waiting: Vec<VecDeque<Call>> = (0..fleet.replicas).map(|_| VecDeque::new()).collect();
    let mut busy: Vec<VecDeque<(f64, Call)>> =
        (0..fleet.replicas).map(|_| VecDeque::new()).collect();
    let seconds = fleet.seconds.ceil() as usize + 1;
    let mut outcome =
        Outcome { sent: vec![vec![0; seconds]; fleet.replicas], ..Outcome::default() };
    schedule(0.0, Event::Arrival, &mut events, &mut happening);
    while let Some(Reverse((nanos, number))) = events.pop() {
        let now = nanos as f64 / 1e9;
        let replica = match happening.remove(&number).expect("every event is known") {
            Event::Arrival => {
                let next = now + random.exponential(1.0 / fleet.rate_per_s);
                if next < fleet.seconds {
                    schedule(next, Event::Arrival, &mut events, &mut happening);
                }
                let pick = balancer
                    .pick(Ask::default(), at(now), random.next())
                    .expect("there are endpoints");
                let replica = *pick.value();
                outcome.sent[replica][now as usize] += 1;
                waiting[replica].push_back(Call { arrived: now, pick });
                replica
            }
            Event::Done { replica } => {
                let due = busy[replica].iter().position(|(ends, _)| (*ends * 1e9) as u64 <= nanos);
                let (_, call) =
                    due.and_then(|due| busy[replica].remove(due)).expect("a call is done");
                let fails = random.unit() < (fleet.failing)(replica, now);
                let verdict = if fails { Verdict::Failure } else { Verdict::Success };
                call.pick.record(verdict, at(now));
                outcome.failed += usize::from(fails);
                outcome.latencies_ms.push((now - call.arrived) * 1e3);
                replica
            }
        };
        while busy[replica].len() < WORKERS {
            let Some(call) = waiting[replica].pop_front() else { break };
            let ends = now + random.lognormal(SERVICE_S) * (fleet.slowness)(replica, now);
            busy[replica].push_back((ends, call));
            schedule(ends, Event::Done { replica }, &mut events, &mut happening);
        }
        if now > fleet.seconds + 5.0 {
            break;
        }
    }
    outcome.unfinished = waiting.iter().map(VecDeque::len).sum();
    (outcome, balancer)
}

fn healthy(_: usize, _: f64) -> f64 {
    1.0
}

fn never(_: usize, _: f64) -> f64 {
    0.0
}

fn by(strategy: Strategy) -> BalanceSettings {
    BalanceSettings { strategy, ..BalanceSettings::default() }
}

/// Five replicas at half load.
fn five(slowness: fn(usize, f64) -> f64) -> Fleet {
    Fleet { replicas: 5, rate_per_s: 2_000.0, seconds: 60.0, slowness, failing: never }
}

#[test]
fn one_slow_replica_of_five_is_hardly_noticed() {
    for seed in [1, 2, 3] {
        let usual = run(&five(healthy), by(Strategy::PeakEwma), seed).0.percentile_ms(0.99);
        let slow = five(|replica, now| if replica == 3 && now > 5.0 { 10.0 } else { 1.0 });
        let (mut outcome, _) = run(&slow, by(Strategy::PeakEwma), seed);
        let p99 = outcome.percentile_ms(0.99);
        assert!(p99 <= 1.5 * usual, "p99 {p99:.1} ms, healthy {usual:.1} ms, seed {seed}");
        assert_eq!(outcome.unfinished, 0);

        // What has no eye for latency loses a fifth of the calls in the queue of the slow one.
        for strategy in [Strategy::RoundRobin, Strategy::Random] {
            let settings = BalanceSettings { outliers: None, ..by(strategy) };
            assert!(run(&slow, settings, seed).0.percentile_ms(0.99) > 10.0 * usual);
        }
    }
}

#[test]
fn a_healed_replica_is_taken_back() {
    let slow =
        five(|replica, now| if replica == 3 && (5.0..25.0).contains(&now) { 10.0 } else { 1.0 });
    let (outcome, _) = run(&slow, by(Strategy::PeakEwma), 4);
    let (ill, healed) = (outcome.share_of(3, 10..25), outcome.share_of(3, 40..55));
    assert!(ill > 0.0 && ill < 0.06, "{ill}");
    assert!(healed > 0.15, "{healed}");
}

#[test]
fn without_an_eye_for_latency_the_slow_one_is_ejected() {
    let slow = five(|replica, now| if replica == 3 && now > 5.0 { 4.0 } else { 1.0 });
    let (outcome, balancer) = run(&slow, by(Strategy::RoundRobin), 5);
    assert!(balancer.totals().ejected_slow >= 1);
    assert!(outcome.share_of(3, 25..40) < 0.01);
    assert_eq!(outcome.unfinished, 0);
}

#[test]
fn one_of_ten_with_errors_is_out_within_two_intervals() {
    let fleet = Fleet {
        replicas: 10,
        rate_per_s: 1_000.0,
        seconds: 25.0,
        slowness: healthy,
        failing: |replica, _| if replica == 7 { 0.2 } else { 0.005 },
    };
    let (outcome, balancer) = run(&fleet, by(Strategy::Random), 6);
    assert_eq!(outcome.share_of(7, 11..18), 0.0);
    let totals = balancer.totals();
    assert!(totals.ejected_consecutive + totals.ejected_failing >= 1);
    assert_eq!(totals.ejected_slow, 0);
}

#[test]
fn hours_of_base_errors_eject_nobody() {
    // Two hours of ten-second intervals, each endpoint judged on some 100 calls.
    let settings = BalanceSettings {
        outliers: Some(OutlierSettings { consecutive_failures: 5, ..OutlierSettings::default() }),
        ..by(Strategy::RoundRobin)
    };
    let balancer = Balancer::new(settings);
    balancer.update((0..9).map(|n| Endpoint::new(format!("e{n}"), ())), at(0.0));
    let mut random = Stream(7);
    for interval in 0..720_u64 {
        for n in 0..900_u64 {
            let now = at(interval as f64 * 10.0 + n as f64 / 90.0);
            let pick = balancer.pick(Ask::default(), now, random.next()).unwrap();
            let verdict = if random.unit() < 0.005 { Verdict::Failure } else { Verdict::Success };
            let took = Duration::from_secs_f64(random.lognormal(SERVICE_S));
            pick.record(verdict, now.plus(took));
        }
    }
    assert_eq!(balancer.totals(), outrigger_resilience::BalanceTotals::default());
}

fn sticky(count: usize, load_factor: f64) -> Balancer<usize> {
    let balancer = Balancer::new(by(Strategy::Sticky { load_factor }));
    balancer.update((0..count).map(|n| Endpoint::new(format!("10.0.0.{n}:80"), n)), at(0.0));
    balancer
}

fn place(balancer: &Balancer<usize>, key: u64) -> usize {
    let ask = Ask { tried: &[], key: Some(sticky_key(&key.to_le_bytes())) };
    *balancer.pick(ask, at(1.0), key).expect("there are endpoints").value()
}

#[test]
fn keys_spread_evenly_and_move_as_little_as_possible() {
    const KEYS: u64 = 20_000;
    let balancer = sticky(10, 1.25);
    let before: Vec<usize> = (0..KEYS).map(|key| place(&balancer, key)).collect();
    let mut counts = [0_u64; 10];
    before.iter().for_each(|replica| counts[*replica] += 1);
    let peak = *counts.iter().max().unwrap() as f64 / (KEYS as f64 / 10.0);
    assert!(peak <= 1.06, "peak to average {peak:.3}");

    balancer.update((0..9).map(|n| Endpoint::new(format!("10.0.0.{n}:80"), n)), at(1.0));
    let moved = before.iter().zip(0..).filter(|(before, key)| place(&balancer, *key) != **before);
    let moved = moved.count() as f64 / KEYS as f64;
    assert!((0.09..=0.11).contains(&moved), "{moved}");
}

#[test]
fn no_endpoint_holds_more_than_its_bound() {
    // A few keys make up nearly all calls: the worst case of plain hashing.
    let (bounded, plain) = (sticky(10, 1.25), sticky(10, f64::INFINITY));
    let mut random = Stream(8);
    for (balancer, limit) in [(&bounded, 1.26), (&plain, f64::INFINITY)] {
        let mut held = VecDeque::new();
        let mut at_home = 0;
        for _ in 0..20_000 {
            let key = (random.exponential(3.0) as u64) % 100;
            let home = place(balancer, key);
            let ask = Ask { tried: &[], key: Some(sticky_key(&key.to_le_bytes())) };
            let pick = balancer.pick(ask, at(1.0), key).unwrap();
            at_home += usize::from(*pick.value() == home);
            held.push_back(pick);
            if held.len() > 400 {
                held.pop_front();
            }
            let in_flight = balancer.status(at(1.0));
            let most = in_flight.iter().map(|one| one.in_flight).max().unwrap();
            // At small numbers the bound is rounded up to whole calls.
            let bound = (limit * (held.len() + 1) as f64 / 10.0).ceil() + 1.0;
            assert!(f64::from(most) <= bound, "{most} of {}", held.len());
        }
        assert!(at_home > 0);
    }
    let most = |balancer: &Balancer<usize>| {
        let picks = balancer.status(at(1.0));
        picks.iter().map(|one| one.picks).max().unwrap()
    };
    assert!(most(&plain) > 2 * most(&bounded), "the ablation must be worse");
}
