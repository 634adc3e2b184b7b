//! One limit for many nodes: each holds a leased *share of the rate* and decides alone, without asking anybody per call.
//!
//! ```text
//!   node:    count what is asked for --> every half lease: renewal(demand) --+      ^ share, until when
//!   ledger (one small value in the key space, changed by one transaction):   v      |
//!            max-min fair share of the demands, spare capacity split evenly,
//!            but never more than what the unexpired leases of the others leave over
//! ```
//!
//! **Bounds.** The unexpired shares never sum up to more than the limit, because a share can only grow by what another
//! has given up or let expire. A node counts its lease from when it *asked*, the ledger from when it answered, so the
//! node's ends first whatever the network does. Each node's bucket holds a `burst` of its share, so over any window `w`
//! all nodes together admit at most `rate * (w + burst) + nodes` calls; with the default burst of 100 ms that is 10 % over
//! in any one second, and nothing in the long run. In the other direction, capacity moves to where the demand is within
//! one lease: half of it until the one that has it asks for less, half of it until the one that wants it asks again.
//!
//! When the ledger cannot be reached, [`OnLoss`] says what holds after the lease: with `LastShare` and a network cut in
//! two, of which one half can still commit, both halves together admit at most twice the limit.
//!
//! The demands are those of the last lease with a quarter on top, so a node that grows is not held at what it had. Source:
//! max-min sharing of leased capacity as in Google's Doorman; the sum that never exceeds the limit as in escrow (O'Neil
//! 1986).
//!
//! It is for rates. A hard quota (money, licences) needs counted tokens, each spent once.

use super::{Decision, Quota, TokenBucket};
use outrigger_kernel::{Mono, Wall};
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Most nodes that can share one limit.
pub const SHARERS_MAX: usize = 1_024;
/// A demand counts as at most a thousand times the limit, so that nothing overflows.
const DEMAND_FACTOR_MAX: u64 = 1_000;

/// What nodes agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareTerms {
    /// The limit of all nodes together, in thousandths of a call per second; at least one.
    pub rate_milli: u64,
    /// How long a share holds. At least 10 ms.
    pub lease: Duration,
    /// How much of a share can be used at once.
    pub burst: Duration,
}

impl ShareTerms {
    /// So many calls a second for all, shares leased for a second, bursts of 100 ms.
    #[must_use]
    pub fn per_second(calls: u32) -> Self {
        Self {
            rate_milli: u64::from(calls.max(1)) * 1_000,
            lease: Duration::from_secs(1),
            burst: Duration::from_millis(100),
        }
    }

    fn lease(&self) -> Duration {
        self.lease.max(Duration::from_millis(10))
    }
}

/// A share given to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// How much, in thousandths of a call per second. May be 0, while others still hold everything.
    pub share_milli: u64,
    /// For how long, from when it was asked for.
    pub lease: Duration,
}

/// Who holds which share: the value that the nodes keep in one place and change one at a time.
///
/// ```
/// use outrigger_kernel::Wall;
/// use outrigger_resilience::{ShareLedger, ShareTerms};
/// let terms = ShareTerms::per_second(1_000);
/// let mut ledger = ShareLedger::default();
/// let first = ledger.renew(1, 5_000_000, &terms, Wall(0));
/// assert_eq!(first.share_milli, 1_000_000, "alone, it gets everything");
/// assert_eq!(ledger.renew(2, 5_000_000, &terms, Wall(10)).share_milli, 0, "all is leased");
/// assert_eq!(ledger.renew(1, 5_000_000, &terms, Wall(500)).share_milli, 500_000);
/// assert_eq!(ledger.renew(2, 5_000_000, &terms, Wall(510)).share_milli, 500_000);
/// let stored = ledger.encode();
/// assert_eq!(ShareLedger::decode(&stored), Ok(ledger));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShareLedger {
    leases: Vec<Lease>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lease {
    node: u64,
    share_milli: u64,
    demand_milli: u64,
    until: Wall,
}

/// What was stored is no ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored shares of a limit are damaged")]
pub struct LedgerDamaged;

const LEASE_BYTES: usize = 32;

impl ShareLedger {
    /// Gives `node` its share for another lease. `at` is the time of the store that keeps the ledger, which must not go
    /// back. A node too many gets nothing.
    pub fn renew(&mut self, node: u64, demand_milli: u64, terms: &ShareTerms, at: Wall) -> Grant {
        let lease = terms.lease();
        self.leases.retain(|held| held.until > at || held.node == node);
        let rate = terms.rate_milli.max(1);
        let demand_milli = demand_milli.min(rate.saturating_mul(DEMAND_FACTOR_MAX));
        let index = match self.leases.iter().position(|held| held.node == node) {
            Some(index) => index,
            None if self.leases.len() >= SHARERS_MAX => return Grant { share_milli: 0, lease },
            None => {
                self.leases.push(Lease { node, share_milli: 0, demand_milli, until: at });
                self.leases.len() - 1
            }
        };
        let left = rate.saturating_sub(self.sum(|held| held.node != node));
        let Some(own) = self.leases.get_mut(index) else { return Grant { share_milli: 0, lease } };
        own.demand_milli = demand_milli;
        let share_milli = self.fair(demand_milli, rate).min(left);
        if let Some(own) = self.leases.get_mut(index) {
            own.share_milli = share_milli;
            own.until = at.plus(lease);
        }
        Grant { share_milli, lease }
    }

    /// Gives a node's share back: it is leaving.
    pub fn release(&mut self, node: u64) {
        self.leases.retain(|held| held.node != node);
    }

    /// How many nodes hold a share, expired ones included until the next renewal.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.leases.len()
    }

    /// The sum of all shares that hold at `at`, in thousandths of a call per second.
    #[must_use]
    pub fn leased_milli(&self, at: Wall) -> u64 {
        self.sum(|held| held.until > at)
    }

    /// The sum of some shares. What was stored may be anything, so it stops at the end of all numbers.
    fn sum(&self, of: impl Fn(&Lease) -> bool) -> u64 {
        let shares = self.leases.iter().filter(|held| of(held)).map(|held| held.share_milli);
        shares.fold(0, u64::saturating_add)
    }

    /// What is fair for a demand among all: everybody gets what they ask for up to a level at which the limit is used up; what
    /// nobody asks for is split evenly, for whoever grows before the next renewal.
    fn fair(&self, demand_milli: u64, rate: u64) -> u64 {
        let mut demands: Vec<u64> = self.leases.iter().map(|held| held.demand_milli).collect();
        demands.sort_unstable();
        let mut left = rate;
        for (index, demand) in demands.iter().enumerate() {
            let level = left / (demands.len() - index).max(1) as u64;
            if *demand > level {
                return demand_milli.min(level);
            }
            left -= demand;
        }
        demand_milli.saturating_add(left / demands.len().max(1) as u64)
    }

    /// The ledger as bytes to store: 32 for each node, four numbers in big-endian order.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let words = self
            .leases
            .iter()
            .flat_map(|held| [held.node, held.share_milli, held.demand_milli, held.until.0]);
        words.flat_map(u64::to_be_bytes).collect()
    }

    /// The ledger of stored bytes; no bytes are an empty one.
    ///
    /// # Errors
    /// [`LedgerDamaged`] when these bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, LedgerDamaged> {
        let (leases, rest) = bytes.as_chunks::<LEASE_BYTES>();
        if !rest.is_empty() || leases.len() > SHARERS_MAX {
            return Err(LedgerDamaged);
        }
        let lease = |bytes: &[u8; LEASE_BYTES]| {
            let (words, _) = bytes.as_chunks::<8>();
            let mut words = words.iter().map(|word| u64::from_be_bytes(*word));
            let mut word = || words.next().unwrap_or_default();
            Lease { node: word(), share_milli: word(), demand_milli: word(), until: Wall(word()) }
        };
        Ok(Self { leases: leases.iter().map(lease).collect() })
    }
}

/// What holds for a node whose lease is over and cannot be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLoss {
    /// Its last share, for as long as it takes.
    LastShare,
    /// The limit divided by this many nodes.
    Even(u32),
    /// No limit.
    Open,
    /// Nothing is admitted.
    Closed,
}

/// A node's part of a limit: its share, and what it needs.
///
/// ```
/// use outrigger_kernel::{Mono, Wall};
/// use outrigger_resilience::{OnLoss, ShareHolder, ShareLedger, ShareTerms};
///
/// let terms = ShareTerms::per_second(100);
/// let (holder, mut ledger) = (ShareHolder::new(terms, OnLoss::LastShare), ShareLedger::default());
/// assert!(!holder.decide(1, Mono(0)).allowed, "nothing has been leased yet");
///
/// let asked_at = Mono(0);
/// if let Some(demand) = holder.renewal(asked_at) {
///     holder.granted(ledger.renew(7, demand, &terms, Wall(1_000)), asked_at, Mono(2_000_000));
/// }
/// assert!(holder.decide(1, Mono(2_000_000)).allowed);
/// ```
#[derive(Debug)]
pub struct ShareHolder {
    terms: ShareTerms,
    on_loss: OnLoss,
    bucket: TokenBucket,
    /// What was asked for since the last renewal.
    asked: AtomicU64,
    /// When what holds now ends, and the next renewal is due; 0 before the first.
    until: AtomicU64,
    held: Mutex<Held>,
}

/// A holder equals itself and nobody else: what it knows is not data, and two that know the same are still two shares.
impl PartialEq for ShareHolder {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

#[derive(Debug, Default)]
struct Held {
    share_milli: u64,
    demand_milli: u64,
    counted_from: Option<Mono>,
    renew_at: Mono,
    lost: bool,
}

impl ShareHolder {
    /// Without a share.
    #[must_use]
    pub fn new(terms: ShareTerms, on_loss: OnLoss) -> Self {
        // Never asked while the share is 0.
        let bucket = TokenBucket::new(Quota::new(1, Duration::from_secs(1)));
        Self {
            terms,
            on_loss,
            bucket,
            asked: AtomicU64::new(0),
            until: AtomicU64::new(0),
            held: Mutex::default(),
        }
    }

    /// Whether a call worth `cost` ordinary ones may be made by this node.
    pub fn decide(&self, cost: u32, now: Mono) -> Decision {
        self.asked.fetch_add(cost.into(), Relaxed);
        if now.0 >= self.until.load(Relaxed) {
            let mut held = self.held();
            if let Some(decision) = self.after_lease(&mut held, now) {
                return decision;
            }
        }
        let mut decision = self.bucket.take(cost, now);
        // However small the share, the next one may be another.
        decision.retry_after = decision.retry_after.map(|wait| wait.min(self.terms.lease()));
        decision
    }

    /// What holds once the lease is over; `None` for what the bucket says.
    fn after_lease(&self, held: &mut Held, now: Mono) -> Option<Decision> {
        let known = held.counted_from.is_some() && held.share_milli > 0;
        let even = match self.on_loss {
            OnLoss::Open => return Some(self.flat(true)),
            OnLoss::LastShare if known => return None,
            OnLoss::Even(nodes) => self.terms.rate_milli / u64::from(nodes.max(1)),
            // Nothing to fall back on: the first share is still to come.
            OnLoss::LastShare | OnLoss::Closed => return Some(self.flat(false)),
        };
        if !held.lost {
            held.lost = true;
            self.bucket.retune(self.quota(even), now);
        }
        None
    }

    fn flat(&self, allowed: bool) -> Decision {
        let wait = self.terms.lease() / 2;
        Decision {
            allowed,
            limit: 0,
            reset: wait,
            retry_after: (!allowed).then_some(wait),
            left_ns: 0,
            step_ns: 1,
        }
    }

    /// What it was made with.
    #[must_use]
    pub fn terms(&self) -> &ShareTerms {
        &self.terms
    }

    /// How long to wait at `now` before [`ShareHolder::renewal`] has something to say.
    #[must_use]
    pub fn due_in(&self, now: Mono) -> Duration {
        let held = self.held();
        held.counted_from.map_or(Duration::ZERO, |_| held.renew_at.since(now))
    }

    /// The demand to renew the lease with, in thousandths of a call per second, if it is time to ask. Time comes every
    /// half lease; while an answer is outstanding, again after a quarter.
    pub fn renewal(&self, now: Mono) -> Option<u64> {
        let mut held = self.held();
        if held.counted_from.is_some() && now < held.renew_at {
            return None;
        }
        let lease = self.terms.lease();
        let Some(from) = held.counted_from else {
            // The first time nothing is known: ask for everything, and be given what is left.
            held.counted_from = Some(now);
            held.renew_at = now.plus(lease / 4);
            held.demand_milli = self.terms.rate_milli;
            return Some(self.terms.rate_milli);
        };
        held.renew_at = now.plus(lease / 4);
        let counted_ns = u64::try_from(now.since(from).as_nanos()).unwrap_or(u64::MAX);
        if counted_ns >= u64::try_from((lease / 4).as_nanos()).unwrap_or(u64::MAX) {
            let asked = self.asked.swap(0, Relaxed);
            held.counted_from = Some(now);
            let milli = u128::from(asked) * 1_000_000_000_000 / u128::from(counted_ns.max(1));
            let quarter_more = milli + milli / 4;
            held.demand_milli = u64::try_from(quarter_more).unwrap_or(u64::MAX);
        }
        Some(held.demand_milli)
    }

    /// The share that was asked for at `asked_at` has come.
    pub fn granted(&self, grant: Grant, asked_at: Mono, now: Mono) {
        let mut held = self.held();
        held.share_milli = grant.share_milli;
        held.lost = false;
        // Without a share nothing can be admitted, and the others give theirs up one by one.
        let pause = if grant.share_milli == 0 { grant.lease / 8 } else { grant.lease / 2 };
        held.renew_at = asked_at.plus(pause);
        self.bucket.retune(self.quota(grant.share_milli), now);
        self.until.store(asked_at.plus(grant.lease).0, Relaxed);
    }

    /// The share held, in thousandths of a call per second.
    #[must_use]
    pub fn share_milli(&self) -> u64 {
        self.held().share_milli
    }

    /// The bucket's shape for a share: its rate, and `burst` of it at once, but at least one call. No share at all is a
    /// call in a quarter of an hour.
    fn quota(&self, share_milli: u64) -> Quota {
        let share = share_milli.max(1);
        // So many calls in so long that neither is rounded away.
        let (calls, per) = if share >= 1_000_000 {
            (u32::try_from(share / 1_000).unwrap_or(u32::MAX), Duration::from_secs(1))
        } else {
            (u32::try_from(share).unwrap_or(u32::MAX), Duration::from_secs(1_000))
        };
        let burst = u128::from(share) * self.terms.burst.as_millis() / 1_000_000;
        Quota::new(calls, per).with_burst(u32::try_from(burst).unwrap_or(u32::MAX))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
