//! Consistent hashing with bounded loads: the same key goes to the same endpoint, unless that one is full.
//!
//! Every endpoint has a score for every key, made of both; the key's order of endpoints is by falling score. Taking an
//! endpoint away moves its own keys and no others, adding one takes an even share from each, and no table has to be
//! built. The price is a look at every endpoint per pick, two nanoseconds each; a weight costs a logarithm more.
//!
//! The bound: an endpoint is full with `load_factor * (calls in flight + 1) * its share of the weight` calls, rounded up.
//! A full endpoint passes the key on to the next in the key's order, which is again the same one for all callers.

use super::member::State;
use crate::dice::{mixed, unit};
use std::sync::atomic::Ordering::Relaxed;

/// The key of a sticky call from whatever identifies it: a header's value, a cookie, a session. The same for all
/// processes and versions.
///
/// ```
/// use outrigger_resilience::sticky_key;
///
/// assert_eq!(sticky_key(b"session-4711"), sticky_key(b"session-4711"));
/// assert_ne!(sticky_key(b"session-4711"), sticky_key(b"session-4712"));
/// ```
#[must_use]
pub fn sticky_key(bytes: &[u8]) -> u64 {
    // FNV-1a has a good start and a poor finish; the mixing of SplitMix64 makes up for the latter.
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mixed(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// One endpoint in the eyes of a key.
pub(super) struct Candidate<'a> {
    pub(super) index: usize,
    pub(super) name_hash: u64,
    pub(super) weight: u32,
    pub(super) state: &'a State,
}

/// The first endpoint in the order of `key` that is not full.
pub(super) fn place<'a>(
    key: u64,
    load_factor: f64,
    candidates: impl Iterator<Item = Candidate<'a>> + Clone,
) -> Option<usize> {
    let load_factor = if load_factor >= 1.0 { load_factor } else { 1.0 };
    let sums = candidates.clone().fold((0_u64, 0_u64), |(weight, in_flight), candidate| {
        let calls = u64::from(candidate.state.in_flight.load(Relaxed));
        (weight + u64::from(candidate.weight), in_flight + calls)
    });
    let room = load_factor * (sums.1 + 1) as f64 / sums.0.max(1) as f64;
    let is_full = |candidate: &Candidate<'_>| {
        let most = (room * f64::from(candidate.weight)).ceil();
        f64::from(candidate.state.in_flight.load(Relaxed)) >= most
    };
    let even = candidates.clone().all(|candidate| candidate.weight == 1);
    let score = |candidate: &Candidate<'_>| score(key, candidate, even);
    // Some endpoint always has room, because the bounds add up to more than all calls.
    let best = |candidates: &mut dyn Iterator<Item = Candidate<'a>>| {
        candidates.map(|c| (score(&c), c.index)).max_by(|a, b| a.0.total_cmp(&b.0))
    };
    let open = best(&mut candidates.clone().filter(|candidate| !is_full(candidate)));
    open.or_else(|| best(&mut candidates.clone())).map(|(_, index)| index)
}

fn score(key: u64, candidate: &Candidate<'_>, even: bool) -> f64 {
    let drawn = mixed(key ^ candidate.name_hash);
    // In (0, 1): neither end may be reached, for the logarithm's sake.
    let unit = unit(drawn).max(f64::MIN_POSITIVE);
    if even { unit } else { -f64::from(candidate.weight) / unit.ln() }
}
