//! Why a call was not simply made: a word for each decision, for metrics and for people.
//!
//! They are static, so telling somebody costs nothing; they do not change, so somebody can count them.

/// No retry: the call may have been carried out, and nobody says it may be repeated.
pub const RETRY_UNSAFE: &str = "retry.unsafe";
/// No retry: the callee asks for none.
pub const RETRY_REFUSED: &str = "retry.refused";
/// No retry: the call is a hedge of the hop before.
pub const RETRY_OF_HEDGE: &str = "retry.of_hedge";
/// No retry: there were as many attempts as there may be.
pub const RETRY_EXHAUSTED: &str = "retry.exhausted";
/// No retry: the failure is none that is retried.
pub const RETRY_UNMATCHED: &str = "retry.unmatched";
/// No retry: too many lately.
pub const RETRY_BUDGET: &str = "retry.budget_empty";
/// No retry: too many under way.
pub const RETRY_BUSY: &str = "retry.budget_busy";
/// No retry: it could not be done before the deadline.
pub const RETRY_TOO_LATE: &str = "retry.too_late";
/// No retry: the breaker would not admit it.
pub const RETRY_BREAKER: &str = "retry.breaker_open";
/// A retry.
pub const RETRY: &str = "retry";
/// A retry later than usual, because the callee asks for that.
pub const RETRY_PUSHED_BACK: &str = "retry.pushed_back";
/// A second copy.
pub const HEDGE: &str = "hedge";
/// The second copy answered first.
pub const HEDGE_WON: &str = "hedge.won";
/// No second copy: too many lately, or under way.
pub const HEDGE_BUDGET: &str = "hedge.budget_empty";
/// No second copy: breaker, limit or endpoints had no place for it.
pub const HEDGE_NO_PLACE: &str = "hedge.no_place";
/// An attempt was given up at its own timeout.
pub const ATTEMPT_TIMEOUT: &str = "timeout.attempt";
/// The call was given up at its deadline.
pub const DEADLINE: &str = "timeout.overall";
/// Nothing was tried: what is left of the deadline is less than half of the attempts take.
pub const HOPELESS: &str = "timeout.hopeless";
/// Not admitted: over the rate limit.
pub const RATE_LIMITED: &str = "rate.limited";
/// Not admitted: the callee rejects too much of this criticality.
pub const THROTTLED: &str = "throttle.rejected";
/// Not admitted: no seat, and no room to wait for one.
pub const BULKHEAD_FULL: &str = "bulkhead.full";
/// Not admitted: no seat came free for as long as one may wait.
pub const BULKHEAD_WAITED: &str = "bulkhead.waited";
/// Not admitted: it would not have been done before its deadline.
pub const BULKHEAD_TOO_LATE: &str = "bulkhead.too_late";
/// Not admitted: others matter more while there is not enough for all.
pub const BULKHEAD_SHED: &str = "bulkhead.shed";
/// Not admitted: the breaker is open.
pub const BREAKER_OPEN: &str = "breaker.open";
/// Not admitted: there is no endpoint.
pub const NO_ENDPOINT: &str = "balance.no_endpoint";
/// Answered from the cache.
pub const CACHE_HIT: &str = "cache.hit";
/// Answered from the cache with what is out of date, while it is refreshed.
pub const CACHE_STALE: &str = "cache.stale";
/// Answered from the cache with what is out of date, because the target failed.
pub const CACHE_ON_ERROR: &str = "cache.stale_on_error";
/// Not in the cache, so asked for.
pub const CACHE_MISS: &str = "cache.miss";
/// Asked whether what is in the cache still holds, and it does.
pub const CACHE_CONFIRMED: &str = "cache.confirmed";
/// Asked for before it expires, behind an answer from the cache.
pub const CACHE_REFRESH: &str = "cache.refresh";
/// Not for the cache, by its method or headers.
pub const CACHE_BYPASS: &str = "cache.bypass";
/// Asked for, and not to be kept.
pub const CACHE_UNCACHEABLE: &str = "cache.uncacheable";
/// Waited for the same call of somebody else.
pub const COALESCED: &str = "coalesce.joined";
/// Not waited for the same call of somebody else: too many do already.
pub const COALESCE_CROWDED: &str = "coalesce.crowded";
/// Answered with the last good answer.
pub const FALLBACK_LAST_GOOD: &str = "fallback.last_good";
/// Answered by another target.
pub const FALLBACK_ALTERNATE: &str = "fallback.alternate";
/// Answered with a constant.
pub const FALLBACK_ANSWER: &str = "fallback.answer";
/// Failed, and nothing was left to answer with.
pub const FALLBACK_EXHAUSTED: &str = "fallback.exhausted";
/// Delayed on purpose.
pub const FAULT_DELAY: &str = "fault.delay";
/// Aborted on purpose.
pub const FAULT_ABORT: &str = "fault.abort";
/// Never answered on purpose.
pub const FAULT_DROP: &str = "fault.drop";
/// Damaged on purpose.
pub const FAULT_CORRUPT: &str = "fault.corrupt";
/// Slowed down on purpose.
pub const FAULT_BANDWIDTH: &str = "fault.bandwidth";
