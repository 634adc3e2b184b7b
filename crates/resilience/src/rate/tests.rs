//! The limits against their definitions: over all intervals, over long times, over many keys and many nodes.

use super::{
    Algorithm, KeyedRateLimiter, OnLoss, Quota, RateLimiter, ShareHolder, ShareLedger, ShareTerms,
    TokenBucket,
};
use crate::dice::mixed;
use outrigger_kernel::{Mono, Wall};
use proptest::prelude::*;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn at(ms: u64) -> Mono {
    Mono(0).plus(Duration::from_millis(ms))
}

#[test]
fn gcra_admits_its_rate_over_every_interval_and_in_the_long_run() {
    let quota = Quota::new(1_000, SECOND).with_burst(50);
    let limiter = RateLimiter::new(Algorithm::Gcra, quota);
    let (mut now, mut admitted) = (0_u64, Vec::new());
    for draw in 0..300_000_u64 {
        // Bursts and pauses, three times the rate on average.
        let random = mixed(draw);
        now += if random.is_multiple_of(100) { random % 20_000_000 } else { random % 500_000 };
        if limiter.decide(1, Mono(now)).allowed {
            admitted.push(now);
        }
    }
    for (index, from) in admitted.iter().enumerate() {
        for ahead in [1, 10, 49, 50, 51, 100, 1_000, 10_000] {
            if let Some(to) = admitted.get(index + ahead) {
                let most = (to - from) as f64 / 1e6 + 50.0;
                assert!((ahead + 1) as f64 <= most + 1.0 + 1e-9, "{ahead} more after {from}");
            }
        }
    }
    let busy = RateLimiter::new(Algorithm::Gcra, quota);
    let admitted = (0..1_000_000_u64).filter(|n| busy.decide(1, Mono(n * 100_000)).allowed).count();
    assert!((99_900..=100_150).contains(&admitted), "100 s at 1000 a second: {admitted}");
}

#[test]
fn waiting_as_long_as_told_is_enough_and_no_less_is() {
    for algorithm in [Algorithm::Gcra, Algorithm::SlidingWindow] {
        let limiter = RateLimiter::new(algorithm, Quota::new(10, SECOND));
        let mut now = 123_456_789;
        for draw in 0..2_000_u64 {
            let decision = limiter.decide(1, Mono(now));
            match decision.retry_after {
                None => now += mixed(draw) % 60_000_000,
                Some(wait) => {
                    let wait = u64::try_from(wait.as_nanos()).unwrap();
                    // The counter rounds up by a call, so only GCRA's answer is exact from below.
                    if algorithm == Algorithm::Gcra {
                        assert!(!limiter.decide(1, Mono(now + wait - 1)).allowed);
                    }
                    now += wait;
                    assert!(limiter.decide(1, Mono(now)).allowed, "{algorithm:?} after {wait}");
                }
            }
        }
    }
}

#[test]
fn a_refusal_costs_nothing_and_what_can_never_be_says_so() {
    for algorithm in [Algorithm::Gcra, Algorithm::SlidingWindow] {
        let limiter = RateLimiter::new(algorithm, Quota::new(5, SECOND));
        let never = limiter.decide(6, at(0));
        assert!(!never.allowed && never.retry_after.is_none() && never.remaining() == 5);
        assert_eq!(limiter.decide(2, at(0)).remaining(), 3);
        for _ in 0..100 {
            assert!(!limiter.decide(4, at(0)).allowed);
        }
        assert!(limiter.decide(3, at(0)).allowed);
        limiter.refund(2, at(0));
        assert_eq!(limiter.decide(2, at(0)).remaining(), 0);
        assert_eq!(
            limiter.decide(1, at(0)).retry_after_s(),
            Some(if algorithm == Algorithm::Gcra { 1 } else { 2 })
        );
    }
}

#[test]
fn the_sliding_counter_weighs_the_window_before() {
    let limiter = RateLimiter::new(Algorithm::SlidingWindow, Quota::new(100, SECOND));
    assert_eq!((0..200).filter(|_| limiter.decide(1, at(500)).allowed).count(), 100);
    assert_eq!((0..200).filter(|_| limiter.decide(1, at(1_300)).allowed).count(), 30);
    assert_eq!((0..200).filter(|_| limiter.decide(1, at(1_500)).allowed).count(), 20);
    assert_eq!((0..200).filter(|_| limiter.decide(1, at(3_999)).allowed).count(), 100);
}

#[test]
fn a_bucket_shapes_within_its_bound_and_keeps_its_tokens_when_retuned() {
    let bucket = TokenBucket::new(Quota::new(100, SECOND).with_burst(10));
    let waits: Vec<u128> = (0..20)
        .filter_map(|_| bucket.reserve(1, SECOND / 20, at(0)))
        .map(|wait| wait.as_millis())
        .collect();
    assert_eq!(waits, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 20, 30, 40, 50]);
    let bucket = TokenBucket::new(Quota::new(100, SECOND).with_burst(10));
    assert!(bucket.take(6, at(0)).allowed);
    bucket.retune(Quota::new(1_000, SECOND).with_burst(100), at(0));
    assert_eq!(bucket.tokens(at(0)), 4);
    assert_eq!(bucket.tokens(at(50)), 54);
    bucket.retune(Quota::new(10, SECOND).with_burst(2), at(50));
    assert_eq!(bucket.tokens(at(50)), 2);
    bucket.put_back(5, at(50));
    assert_eq!(bucket.tokens(at(50)), 2, "never more than the burst");
}

#[test]
fn a_million_keys_stay_within_their_places() {
    for algorithm in [Algorithm::Gcra, Algorithm::SlidingWindow] {
        let quota = Quota::new(5, Duration::from_secs(60));
        let limiter = KeyedRateLimiter::new(algorithm, quota, 1_000, 1);
        assert!(limiter.places() <= 2_048);
        for _ in 0..5 {
            assert!(limiter.decide(&["victim"], 1, at(60_000)).allowed);
        }
        for key in 0..1_000_000_u64 {
            let now = at(60_000 + key / 100_000);
            let mut digits = [0; 16];
            for (place, digit) in digits.iter_mut().enumerate() {
                *digit = b"0123456789abcdef"[(key >> (4 * place) & 15) as usize];
            }
            assert!(
                limiter.decide(&["flood", std::str::from_utf8(&digits).unwrap()], 1, now).allowed
            );
        }
        assert!(limiter.forgotten() > 900_000);
        let decision = limiter.decide(&["victim"], 1, at(60_011));
        assert!(!decision.allowed, "{algorithm:?}: a flood of keys frees nobody of his debt");
    }
}

#[test]
fn the_keys_it_was_made_for_are_remembered() {
    let quota = Quota::new(2, Duration::from_secs(60));
    let limiter = KeyedRateLimiter::new(Algorithm::Gcra, quota, 10_000, 3);
    let names: Vec<String> = (0..10_000).map(|n| format!("user-{n}")).collect();
    let mut wrong = 0;
    for (round, expected) in [(0, true), (1, true), (2, false)] {
        for name in &names {
            wrong += u32::from(limiter.decide(&[name], 1, at(round)).allowed != expected);
        }
    }
    assert!(wrong < 300, "{wrong} of 30000");
    limiter.refund(&["user-7"], 1, at(3));
    assert!(limiter.decide(&["user-7"], 1, at(3)).allowed);
    // An hour later all places are free, and nothing had to be tidied up.
    let before = limiter.forgotten();
    for n in 0..5_000 {
        assert!(limiter.decide(&[&format!("other-{n}")], 1, at(3_600_000)).allowed);
    }
    assert!(limiter.forgotten() - before < 50);
}

#[test]
fn parts_of_a_key_do_not_run_together() {
    let limiter = KeyedRateLimiter::new(Algorithm::Gcra, Quota::new(1, SECOND), 1_000, 1);
    for key in [&["ab", "c"][..], &["a", "bc"], &["abc"], &["abc", ""], &["", "abc"]] {
        assert!(limiter.decide(key, 1, at(0)).allowed, "{key:?}");
    }
}

/// Nodes that share a limit; the ledger answers 5 ms after it was asked, unless it is away.
struct Cluster {
    terms: ShareTerms,
    ledger: ShareLedger,
    holders: Vec<ShareHolder>,
    admitted: Vec<u32>,
}

impl Cluster {
    fn new(nodes: usize, on_loss: OnLoss) -> Self {
        let terms = ShareTerms::per_second(1_000);
        let holders = (0..nodes).map(|_| ShareHolder::new(terms, on_loss)).collect();
        Self { terms, ledger: ShareLedger::default(), holders, admitted: Vec::new() }
    }

    /// Runs for some milliseconds; `load(node)` calls a millisecond arrive at each node, `reaches(node)` the ledger.
    fn run(&mut self, ms: u64, load: impl Fn(usize) -> u32, reaches: impl Fn(usize) -> bool) {
        for _ in 0..ms {
            let now_ms = self.admitted.len() as u64;
            let mut admitted = 0;
            for (node, holder) in self.holders.iter().enumerate() {
                if let Some(demand) = holder.renewal(at(now_ms))
                    && reaches(node)
                {
                    let grant =
                        self.ledger.renew(node as u64, demand, &self.terms, Wall(now_ms + 5));
                    assert!(self.ledger.leased_milli(Wall(now_ms + 5)) <= self.terms.rate_milli);
                    holder.granted(grant, at(now_ms), at(now_ms));
                }
                admitted +=
                    (0..load(node)).filter(|_| holder.decide(1, at(now_ms)).allowed).count();
            }
            self.admitted.push(u32::try_from(admitted).unwrap());
        }
    }

    /// Calls admitted in the second that begins at this millisecond.
    fn second(&self, from_ms: usize) -> u32 {
        self.admitted[from_ms..from_ms + 1_000].iter().sum()
    }

    fn worst_second(&self) -> u32 {
        (0..self.admitted.len() - 1_000).map(|from| self.second(from)).max().unwrap()
    }
}

#[test]
fn a_shared_limit_follows_the_load_and_stays_within_its_bound() {
    let mut cluster = Cluster::new(10, OnLoss::LastShare);
    cluster.run(6_000, |node| if node < 2 { 5 } else { 0 }, |_| true);
    assert!((950..=1_050).contains(&cluster.second(2_500)), "{}", cluster.second(2_500));
    cluster.run(6_000, |node| if node >= 8 { 5 } else { 0 }, |_| true);
    assert!(
        (950..=1_050).contains(&cluster.second(8_000)),
        "two leases later: {}",
        cluster.second(8_000)
    );
    assert!(cluster.worst_second() <= 1_110, "{}", cluster.worst_second());
}

#[test]
fn without_the_ledger_the_last_shares_hold() {
    let mut cluster = Cluster::new(10, OnLoss::LastShare);
    cluster.run(5_000, |_| 1, |_| true);
    cluster.run(30_000, |_| 1, |_| false);
    for from in (5_000..34_000).step_by(1_000) {
        assert!((900..=1_100).contains(&cluster.second(from)), "{}", cluster.second(from));
    }
    let mut closed = Cluster::new(2, OnLoss::Closed);
    closed.run(3_000, |_| 2, |_| true);
    closed.run(3_000, |_| 2, |_| false);
    assert_eq!(closed.second(4_500), 0);
    let mut even = Cluster::new(10, OnLoss::Even(10));
    even.run(3_000, |_| 1, |_| true);
    even.run(5_000, |node| if node == 0 { 5 } else { 0 }, |_| false);
    assert!((95..=110).contains(&even.second(6_000)), "{}", even.second(6_000));
}

#[test]
fn cut_in_two_it_stays_below_twice_the_limit() {
    let mut cluster = Cluster::new(10, OnLoss::LastShare);
    cluster.run(5_000, |_| 2, |_| true);
    cluster.run(20_000, |_| 2, |node| node < 5);
    assert!(cluster.worst_second() <= 2_200, "{}", cluster.worst_second());
    let cut = cluster.second(20_000);
    assert!(
        (1_400..=1_650).contains(&cut),
        "one half holds its last half, the other takes all: {cut}"
    );
}

#[test]
fn a_node_too_many_gets_nothing_and_damage_is_seen() {
    let terms = ShareTerms::per_second(1);
    let mut ledger = ShareLedger::default();
    for node in 0..2_000 {
        ledger.renew(node, u64::MAX, &terms, Wall(0));
    }
    assert_eq!(ledger.nodes(), super::SHARERS_MAX);
    let mut stored = ledger.encode();
    stored.pop();
    assert!(ShareLedger::decode(&stored).is_err());
    assert!(ShareLedger::decode(&vec![0; 32 * 2_000]).is_err());
}

#[test]
fn what_was_stored_may_be_anything() {
    let mut ledger = ShareLedger::decode(&[0xff; 3 * 32]).unwrap();
    assert_eq!(ledger.leased_milli(Wall(0)), u64::MAX);
    let terms = ShareTerms::per_second(10);
    assert_eq!(ledger.renew(1, 5, &terms, Wall(0)).share_milli, 0, "all is leased");
}

proptest! {
    #[test]
    fn shares_never_sum_up_to_more_than_the_limit(rate in 1_u64..10_000_000, steps in proptest::collection::vec((0_u64..8, any::<u64>(), 0_u64..700, any::<bool>()), 0..200)) {
        let terms = ShareTerms { rate_milli: rate, ..ShareTerms::per_second(1) };
        let (mut ledger, mut now) = (ShareLedger::default(), 0);
        for (node, demand, wait, leaves) in steps {
            now += wait;
            if leaves && wait < 50 {
                ledger.release(node);
            } else {
                ledger.renew(node, demand, &terms, Wall(now));
            }
            prop_assert!(ledger.leased_milli(Wall(now)) <= rate);
            prop_assert_eq!(ShareLedger::decode(&ledger.encode()), Ok(ledger.clone()));
        }
    }

    #[test]
    fn odd_quotas_do_no_harm(calls: u32, per_ns: u64, burst: u32, steps in proptest::collection::vec((any::<u64>(), any::<u32>()), 0..50)) {
        let quota = Quota::new(calls, Duration::from_nanos(per_ns)).with_burst(burst);
        let bucket = TokenBucket::new(quota);
        for algorithm in [Algorithm::Gcra, Algorithm::SlidingWindow] {
            let limiter = RateLimiter::new(algorithm, quota);
            let keyed = KeyedRateLimiter::new(algorithm, quota, 1, 0);
            for (now, cost) in &steps {
                let decision = limiter.decide(*cost, Mono(*now));
                prop_assert!(decision.remaining() <= decision.limit);
                prop_assert!(!(decision.allowed && decision.retry_after.is_some()));
                limiter.refund(*cost, Mono(*now));
                keyed.decide(&["key"], *cost, Mono(*now));
                bucket.take(*cost, Mono(*now));
                bucket.retune(quota, Mono(*now));
                bucket.reserve(*cost, SECOND, Mono(*now));
                bucket.put_back(*cost, Mono(*now));
            }
        }
    }
}
