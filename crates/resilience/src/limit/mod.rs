//! How many calls may be under way at once, found by looking and not by asking anybody for a number.
//!
//! Little's law: what a target manages at once is its throughput times how long a call takes when nobody waits. Admit
//! fewer and it idles; admit more and the rest waits inside, where nobody can choose who goes first. So:
//!
//! ```text
//!   per window of ten calls' time (200 ms to 1 s; three calls' time if those are long), while the limit is being used:
//!     waiting = limit * (1 - base / rtt)             what stands in a queue over there, by Little
//!     waiting < 1 + lg(limit)      -> limit + max(1, lg limit), or half as much again while starting
//!     waiting > 2 + 2 lg(limit)    -> limit * base / rtt + 1 + lg(limit), at most a third less
//!     a tenth of the calls dropped -> limit * 0.9
//! ```
//!
//! `base`, how long a call takes when nobody waits, is what all methods of this kind stand and fall with. Taken as the
//! least ever seen it is right until the target changes; taken as an average it creeps up together with the limit. Here it
//! is *tried*: every 30 windows the limit is a quarter less for one window, or less than that by what this method lets
//! stand in a queue, which empties it; and what calls take then is the new base. At the start, if the limit is used up
//! before calls were ever seen alone, a quarter less is tried at once, and if calls are faster for it, half as much, for as
//! long as that helps. And a base that has become too low gives itself away: the limit has come down a quarter, and calls
//! are no faster for it. Then the time is the calls' own, and the limit goes back to where it was. A limit that is not used
//! up is never touched.
//!
//! Times are means over a window, of calls that began after the limit became what it is; one call counts as at most ten
//! times the last mean, so that a few that hang do not look like a queue. Drops are calls that ended for overload: refused
//! by the target, or out of time. Calls that were cancelled or never sent say nothing and must not be reported.
//!
//! | setting | default | bound |
//! |---|---|---|
//! | `initial` | 20 | between `min` and `max` |
//! | `min` | 2 | at least 1 |
//! | `max` (the ceiling) | 1000 | at most 1 000 000 |
//!
//! Sources: TCP Vegas (Brakmo and Peterson 1995) as in Netflix' concurrency-limits; the base by trying as in BBR's and
//! Envoy's minimum RTT, but by a quarter instead of all of it; the guard against a wrong base stands where failsafe-go
//! and Uber's Cinnamon correlate throughput with concurrency.

use outrigger_kernel::Mono;
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{AcqRel, Relaxed},
        },
    },
    time::Duration,
};

const CEILING_MAX: u32 = 1_000_000;
/// Shortest and longest window.
const WINDOW_MIN: Duration = Duration::from_millis(200);
const WINDOW_MAX: Duration = Duration::from_secs(1);
/// Unless calls take longer than a third of that; and never longer than this.
const WINDOW_SLOW_MAX: Duration = Duration::from_secs(10);
/// With fewer calls than this a window goes on, up to five times its length.
const CALLS_MIN: u64 = 20;
/// How many windows the base is believed.
const ERA_WINDOWS: u32 = 30;
/// For how long what calls took is held for what calls take.
const SERVICE_AGE_MAX: Duration = Duration::from_secs(1);

/// Between which bounds a limit is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// Where to begin.
    pub initial: u32,
    /// The least.
    pub min: u32,
    /// The most, whatever the measurements say.
    pub max: u32,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { initial: 20, min: 2, max: 1_000 }
    }
}

impl LimitSettings {
    /// No looking: always this many.
    #[must_use]
    pub const fn fixed(limit: u32) -> Self {
        Self { initial: limit, min: limit, max: limit }
    }
}

/// How a call ended, as far as a limit is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an answer, good or bad.
    Answered,
    /// For overload: the target refused it, or did not answer in time.
    Dropped,
    /// In a way that says nothing about the target: never sent, failed at once, cancelled early.
    Unknown,
}

/// Finds how many calls may be under way at once.
///
/// ```
/// use outrigger_kernel::Mono;
/// use outrigger_resilience::{AdaptiveLimit, Ended, LimitSettings};
/// use std::time::Duration;
///
/// let limit = AdaptiveLimit::new(LimitSettings::default());
/// // A target that manages eight at once, 10 ms each: all above that waits.
/// let mut now = Mono(0);
/// for _ in 0..20_000 {
///     let under_way = limit.limit();
///     let took = Duration::from_micros(10_000 * u64::from(under_way.max(8)) / 8);
///     limit.observe(took, Ended::Answered, under_way, now);
///     now = now.plus(took / under_way);
/// }
/// assert!((8..=12).contains(&limit.limit()));
/// ```
#[derive(Debug)]
pub struct AdaptiveLimit {
    settings: LimitSettings,
    limit: AtomicU32,
    /// Calls of this window (upper 20 bits) and what they took in microseconds.
    calls: AtomicU64,
    dropped: AtomicU32,
    /// The most that were under way in this window.
    peak: AtomicU32,
    ends: AtomicU64,
    /// When the limit became what it is: calls that began before say nothing about it.
    changed: AtomicU64,
    /// What a call takes, in microseconds, and when that was found.
    service_us: AtomicU64,
    service_at: AtomicU64,
    search: Mutex<Search>,
}

const CALL: u64 = 1 << 44;

impl AdaptiveLimit {
    /// Begins to look.
    #[must_use]
    pub fn new(settings: LimitSettings) -> Self {
        let max = settings.max.clamp(1, CEILING_MAX);
        let min = settings.min.clamp(1, max);
        let settings = LimitSettings { initial: settings.initial.clamp(min, max), min, max };
        Self {
            settings,
            limit: AtomicU32::new(settings.initial),
            calls: AtomicU64::new(0),
            dropped: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            ends: AtomicU64::new(0),
            changed: AtomicU64::new(0),
            service_us: AtomicU64::new(0),
            service_at: AtomicU64::new(0),
            search: Mutex::new(Search::default()),
        }
    }

    /// The limit as it is.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// What a call takes over there; zero when none has ended within the last second or so.
    #[must_use]
    pub fn service(&self, now: Mono) -> Duration {
        if now.0.saturating_sub(self.service_at.load(Relaxed)) > AGE_NS {
            return Duration::ZERO;
        }
        Duration::from_micros(self.service_us.load(Relaxed))
    }

    /// Takes note of a call that took this long, one of `in_flight`. The new limit, when it changes.
    pub fn observe(&self, took: Duration, ended: Ended, in_flight: u32, now: Mono) -> Option<u32> {
        let began = now.0.saturating_sub(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if ended == Ended::Unknown || began < self.changed.load(Relaxed) {
            return None;
        }
        if ended == Ended::Dropped {
            self.dropped.fetch_add(1, Relaxed);
        }
        let usual = self.service_us.load(Relaxed);
        let most = if usual == 0 { CALL >> 21 } else { usual.saturating_mul(10).min(CALL >> 21) };
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(most);
        let before = self.calls.fetch_add(CALL | took_us, AcqRel);
        if in_flight > self.peak.load(Relaxed) {
            self.peak.fetch_max(in_flight, Relaxed);
        }
        // Full long before the upper bits run over: half of what fits closes the window early.
        let crowded = before / CALL >= (1 << 19);
        if now.0 >= self.ends.load(Relaxed) || crowded { self.close(now, crowded) } else { None }
    }

    #[cold]
    fn close(&self, now: Mono, crowded: bool) -> Option<u32> {
        let mut search = self.search.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = self.ends.load(Relaxed);
        if now.0 < ends && !crowded {
            return None;
        }
        if ends == 0 {
            self.begin(&mut search, now);
            return None;
        }
        let calls = self.calls.load(Relaxed);
        let length = now.since(search.began);
        let span = search.window();
        if calls / CALL < CALLS_MIN && length < span * 5 {
            self.ends.store(now.plus(span / 4).0, Relaxed);
            return None;
        }
        let calls = self.calls.swap(0, AcqRel);
        let (count, sum_us) = (calls / CALL, calls % CALL);
        let mean_us = sum_us.checked_div(count)?.max(1);
        let seen = Seen {
            rtt_us: ratio(mean_us),
            dropped: f64::from(self.dropped.swap(0, Relaxed)) / ratio(count),
            peak: self.peak.swap(0, Relaxed),
        };
        let before = self.service_us.load(Relaxed);
        let smooth = if before == 0 { mean_us } else { (before * 3 + mean_us) / 4 };
        self.service_us.store(smooth, Relaxed);
        self.service_at.store(now.0, Relaxed);
        // The first window only says how long windows should be: its calls found nobody before them.
        let first = search.rtt_us == 0.0;
        search.rtt_us = seen.rtt_us;
        self.begin(&mut search, now);
        if first {
            return None;
        }
        let limit = self.limit.load(Relaxed);
        let next = search.next(limit, &seen).clamp(self.settings.min, self.settings.max);
        if next != limit {
            self.changed.store(now.0, Relaxed);
        }
        self.limit.store(next, Relaxed);
        (next != limit).then_some(next)
    }

    fn begin(&self, search: &mut Search, now: Mono) {
        search.began = now;
        // Never 0, which stands for no window yet.
        self.ends.store(now.plus(search.window()).0.max(1), Relaxed);
    }
}

const AGE_NS: u64 = SERVICE_AGE_MAX.as_nanos() as u64 * 2;

/// What was seen in one window.
#[derive(Debug)]
struct Seen {
    rtt_us: f64,
    dropped: f64,
    peak: u32,
}

/// Where the search stands.
#[derive(Debug, Default)]
struct Search {
    began: Mono,
    rtt_us: f64,
    /// What a call takes when nobody waits; 0 while that is not known.
    base_us: f64,
    doing: Doing,
    windows: u32,
    /// Where a descent began: the limit, and what calls took there.
    from: Option<(f64, f64)>,
    /// Whether too many waited in the window before.
    exceeded: bool,
}

/// What the limit of the present window is for.
#[derive(Clone, Copy, Debug, Default)]
enum Doing {
    /// Halving to find a base; the limit and time before the last halving.
    #[default]
    Nothing,
    Halving {
        limit: u32,
        rtt_us: f64,
    },
    /// Growing fast.
    Starting,
    /// Holding the balance.
    Steady,
    /// A quarter less for a window, then back to this limit.
    Trying {
        limit: u32,
    },
}

impl Search {
    fn window(&self) -> Duration {
        let rtt = Duration::from_micros(whole(self.rtt_us));
        let longest = WINDOW_MAX.max(rtt.saturating_mul(3)).min(WINDOW_SLOW_MAX);
        rtt.saturating_mul(10).clamp(WINDOW_MIN, longest)
    }

    fn next(&mut self, limit: u32, seen: &Seen) -> u32 {
        // Nobody can wait over there for a limit that is not used, so this is what a call takes.
        let used = f64::from(seen.peak) >= f64::from(limit) * 0.8;
        if let Doing::Halving { limit: before, rtt_us } = self.doing {
            if seen.rtt_us < rtt_us * 0.88 && limit > 2 {
                self.doing = Doing::Halving { limit, rtt_us: seen.rtt_us };
                return limit / 2;
            }
            // No faster: before the last halving nobody waited either, give or take.
            self.base_us = seen.rtt_us;
            self.doing = Doing::Starting;
            return before;
        }
        if let Doing::Trying { limit: before } = self.doing {
            self.base_us = seen.rtt_us;
            self.doing = Doing::Steady;
            self.windows = 0;
            return before;
        }
        if !used {
            let weight = if self.base_us == 0.0 || seen.rtt_us < self.base_us { 1.0 } else { 0.2 };
            self.base_us += (seen.rtt_us - self.base_us) * weight;
            self.from = None;
            return limit;
        }
        if self.base_us == 0.0 {
            // A quarter first: if nobody waits over there, that is all it costs to know.
            self.doing = Doing::Halving { limit, rtt_us: seen.rtt_us };
            return rounded(f64::from(limit) * 0.75);
        }
        self.balance(limit, seen)
    }

    fn balance(&mut self, limit: u32, seen: &Seen) -> u32 {
        let own = f64::from(limit);
        if let Some((from, rtt_us)) = self.from
            && own <= from * 0.75
        {
            self.from = None;
            if seen.rtt_us > rtt_us * 0.9 && seen.dropped < 0.1 {
                self.base_us = seen.rtt_us;
                self.doing = Doing::Steady;
                self.windows = 0;
                return rounded(from);
            }
        }
        self.windows += 1;
        let lg = own.log10().max(0.0);
        if self.windows >= ERA_WINDOWS && limit > 2 {
            self.doing = Doing::Trying { limit };
            return rounded((own * 0.75).min(own - 3.0 - 2.0 * lg)).max(1);
        }
        let waiting = own * (1.0 - self.base_us / seen.rtt_us).max(0.0);
        // One window may have begun before what changed over there did; the second has not.
        let exceeds = waiting > 2.0 + 2.0 * lg;
        let confirmed = exceeds && self.exceeded;
        self.exceeded = exceeds;
        if seen.dropped >= 0.1 {
            self.doing = Doing::Steady;
            rounded(own * 0.9).min(limit.saturating_sub(1))
        } else if confirmed {
            self.doing = Doing::Steady;
            self.from.get_or_insert((own, seen.rtt_us));
            let fair = own * self.base_us / seen.rtt_us + 1.0 + lg;
            rounded(fair.max(own * 0.67)).min(limit)
        } else if waiting < 1.0 + lg {
            self.from = None;
            let step = if let Doing::Starting = self.doing { own * 0.5 } else { lg };
            rounded(own + step.max(1.0))
        } else {
            self.doing = Doing::Steady;
            limit
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "sums of a window; the last digits do not matter")]
fn ratio(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates at both ends"
)]
fn rounded(limit: f64) -> u32 {
    limit.round() as u32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates at both ends"
)]
fn whole(microseconds: f64) -> u64 {
    microseconds as u64
}

#[cfg(test)]
mod tests;
