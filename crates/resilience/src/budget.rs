//! How many attempts more than calls there may be: the brake on retry storms.
//!
//! A target that fails is asked again, so it is asked more the worse it does. A budget bounds that from both sides:
//!
//! - **rate**: each call pays in a share of a token (10 %), each extra attempt takes a whole one. Tokens lose their value
//!   within `ttl` (10 s), so that a quiet hour does not pay for a storm. Where there are few calls a floor (3 a second)
//!   is paid in instead, whichever is more: not both, so that the share holds exactly as soon as it is above the floor.
//! - **concurrency**: of the calls under way at most a share (20 %), but always a few (3), may be extra attempts. Against
//!   *slow* failures this is the better of the two, since an extra attempt that hangs keeps its place.
//!
//! Retries and hedges draw on the same budget, one per target. Each side is one atomic word:
//!
//! ```text
//!   rate         [ tick: 20 bits | calls in this tick: 20 bits | tokens, in 256ths: 24 bits ]    a tick is 134 ms
//!   concurrency  [ extra attempts under way: 32 bits | calls under way: 32 bits ]
//! ```
//!
//! Paying in is one addition; what was paid in becomes tokens when the tick is over.
//!
//! Sources: the rate is Finagle's `RetryBudget`, the concurrency that of Envoy's and failsafe-go's budgets.

use outrigger_kernel::Mono;
use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// How much a budget allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetSettings {
    /// Extra attempts as a share of calls; held within 0 and 1.
    pub share: f64,
    /// Extra attempts a second that are always allowed.
    pub floor_per_second: u32,
    /// After how long what was not used is gone; held within 1 s and 60 s.
    pub ttl: Duration,
    /// Extra attempts under way at once, as a share of the calls under way; held within 0 and 1.
    pub concurrent_share: f64,
    /// Extra attempts under way at once that are always allowed.
    pub concurrent_floor: u32,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self {
            share: 0.1,
            floor_per_second: 3,
            ttl: Duration::from_secs(10),
            concurrent_share: 0.2,
            concurrent_floor: 3,
        }
    }
}

/// A budget for extra attempts at one target.
///
/// ```
/// use outrigger_kernel::Mono;
/// use outrigger_resilience::{Budget, BudgetSettings};
/// use std::time::Duration;
///
/// let none = BudgetSettings { floor_per_second: 0, ..BudgetSettings::default() };
/// let budget = Budget::new(none);
/// for _ in 0..10 {
///     budget.deposit(Mono(0));
/// }
/// let later = Mono(0).plus(Duration::from_millis(200));
/// let extra = budget.withdraw(later).expect("ten calls pay for one extra attempt");
/// assert!(budget.withdraw(later).is_err(), "and for no second one");
/// # drop(extra);
/// ```
pub struct Budget {
    settings: BudgetSettings,
    /// 65 536ths of a token that a call pays in.
    share: u64,
    /// 256ths of a token that a tick pays in at least.
    floor: u64,
    ttl_ticks: u64,
    /// The concurrent share in 65 536ths.
    concurrent: u64,
    rate: AtomicU64,
    under_way: AtomicU64,
}

/// Which side of a budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Spent {
    /// There were too many extra attempts lately.
    #[error("the budget for further attempts is used up")]
    Rate,
    /// There are too many extra attempts under way.
    #[error("too many further attempts are under way")]
    Concurrency,
}

const TICK_BITS: u32 = 27;
const TOKEN: u64 = 256;
const TOKENS_BITS: u32 = 24;
const TOKENS_MASK: u64 = (1 << TOKENS_BITS) - 1;
const CALLS_BITS: u32 = 20;
const CALLS_MASK: u64 = (1 << CALLS_BITS) - 1;
/// Where counting the calls of a tick stops: far enough below the brim for all threads that are just adding one.
const CALLS_MAX: u64 = CALLS_MASK - (1 << 16);
const EXTRA: u64 = 1 << 32;

/// The rate word, unpacked.
#[derive(Clone, Copy)]
struct Rate {
    tick: u64,
    calls: u64,
    tokens: u64,
}

impl Rate {
    const fn read(word: u64) -> Self {
        Self {
            tick: word >> (TOKENS_BITS + CALLS_BITS),
            calls: word >> TOKENS_BITS & CALLS_MASK,
            tokens: word & TOKENS_MASK,
        }
    }

    const fn word(self) -> u64 {
        self.tick << (TOKENS_BITS + CALLS_BITS) | self.calls << TOKENS_BITS | self.tokens
    }
}

fn tick(now: Mono) -> u64 {
    now.0 >> TICK_BITS & 0xF_FFFF
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share lies within 0 and 1, and the unit is small"
)]
fn part(share: f64, unit: f64) -> u64 {
    let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
    (share * unit).round() as u64
}

impl Budget {
    /// A budget with what a quiet time leaves: the floor over `ttl`.
    #[must_use]
    pub fn new(settings: BudgetSettings) -> Self {
        let ttl = settings.ttl.clamp(Duration::from_secs(1), Duration::from_secs(60));
        let ttl_ticks = u64::try_from(ttl.as_nanos() >> TICK_BITS).unwrap_or(1).max(1);
        // Within a tick at most what fills the word.
        let per_second = u64::from(settings.floor_per_second.min(60_000)) * TOKEN;
        let floor = (per_second << TICK_BITS) / 1_000_000_000;
        let tokens = (floor * ttl_ticks).min(TOKENS_MASK);
        Self {
            settings,
            // Finer than the tokens: a share of 10 % in their 256ths would be 2 % off.
            share: part(settings.share, 65_536.0),
            floor,
            ttl_ticks,
            concurrent: part(settings.concurrent_share, 65_536.0),
            rate: AtomicU64::new(Rate { tick: 0, calls: 0, tokens }.word()),
            under_way: AtomicU64::new(0),
        }
    }

    /// What it was made with.
    #[must_use]
    pub fn settings(&self) -> &BudgetSettings {
        &self.settings
    }

    /// A call begins: it pays in, and counts as under way while the guard lives.
    pub fn begin(&self, now: Mono) -> UnderWay<'_> {
        self.deposit(now);
        self.under_way.fetch_add(1, Relaxed);
        UnderWay(self)
    }

    /// Pays in for one call.
    pub fn deposit(&self, now: Mono) {
        let word = self.rate.load(Relaxed);
        let rate = Rate::read(word);
        if rate.tick != tick(now) {
            self.roll_and_deposit(now);
        } else if rate.calls < CALLS_MAX {
            self.rate.fetch_add(1 << TOKENS_BITS, Relaxed);
        }
    }

    #[cold]
    fn roll_and_deposit(&self, now: Mono) {
        let counted = |word| {
            let rate = self.rolled(Rate::read(word), now);
            Rate { calls: (rate.calls + 1).min(CALLS_MAX), ..rate }.word()
        };
        let _ = self.rate.fetch_update(Relaxed, Relaxed, |word| Some(counted(word)));
    }

    /// Takes a token and a place for one extra attempt.
    ///
    /// # Errors
    /// [`Spent`] when there is none to take.
    pub fn withdraw(&self, now: Mono) -> Result<Extra<'_>, Spent> {
        let place = self.under_way.fetch_update(Relaxed, Relaxed, |word| {
            let (extra, calls) = (word >> 32, word & (EXTRA - 1));
            // Rounded up, or a fifth of fifty would be nine.
            let share = (calls * self.concurrent + 0xFFFF) >> 16;
            let most = share.max(self.settings.concurrent_floor.into());
            (extra < most).then_some(word + EXTRA)
        });
        place.map_err(|_| Spent::Concurrency)?;
        // From here on the place is given back by dropping it.
        let extra = Extra(self);
        let token = self.rate.fetch_update(Relaxed, Relaxed, |word| {
            let rate = self.rolled(Rate::read(word), now);
            Some(Rate { tokens: rate.tokens.checked_sub(TOKEN)?, ..rate }.word())
        });
        token.map(|_| extra).map_err(|_| Spent::Rate)
    }

    /// Gives the token of an extra attempt back that was not made after all.
    pub fn put_back(&self, extra: Extra<'_>) {
        drop(extra);
        let _ = self.rate.fetch_update(Relaxed, Relaxed, |word| {
            let rate = Rate::read(word);
            Some(Rate { tokens: (rate.tokens + TOKEN).min(TOKENS_MASK), ..rate }.word())
        });
    }

    /// How many extra attempts could be made right now, as far as the rate goes.
    #[must_use]
    pub fn tokens(&self, now: Mono) -> u64 {
        self.rolled(Rate::read(self.rate.load(Relaxed)), now).tokens / TOKEN
    }

    /// What the rate is at `now`.
    fn rolled(&self, rate: Rate, now: Mono) -> Rate {
        let tick = tick(now);
        let passed = tick.wrapping_sub(rate.tick) & 0xF_FFFF;
        // A clock reading older than the word's looks like nearly a full turn.
        if passed == 0 || passed > 0xF_0000 {
            return rate;
        }
        let kept = self.ttl_ticks.saturating_sub(passed);
        let old = rate.tokens * kept / self.ttl_ticks;
        let paid = ((rate.calls * self.share) >> 8).max(self.floor);
        let idle = self.floor * (passed - 1).min(self.ttl_ticks - 1);
        // What was paid in before a long silence is as worthless as the tokens of then.
        let gained = if kept == 0 { self.floor + idle } else { paid + idle };
        Rate { tick, calls: 0, tokens: (old + gained).min(TOKENS_MASK) }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.under_way.load(Relaxed);
        write!(f, "Budget({} of {} under way are extra)", word >> 32, word & (EXTRA - 1))
    }
}

/// A call under way.
#[must_use = "a call that is not held is not under way"]
#[derive(Debug)]
pub struct UnderWay<'a>(&'a Budget);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

/// Leave for one extra attempt, from the decision to make it until its end.
#[must_use = "an extra attempt that is not held is over"]
#[derive(Debug)]
pub struct Extra<'a>(&'a Budget);

impl Drop for Extra<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(EXTRA, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, BudgetSettings, Spent};
    use outrigger_kernel::Mono;
    use proptest::prelude::*;
    use std::time::Duration;

    fn settings(share: f64, floor_per_second: u32) -> BudgetSettings {
        BudgetSettings { share, floor_per_second, ..BudgetSettings::default() }
    }

    /// How many extra attempts `calls` of which each one fails get, at `rate` calls a second.
    fn granted(budget: &Budget, calls: u64, rate: u64) -> u64 {
        let mut granted = 0;
        for call in 0..calls {
            let now = Mono(call * 1_000_000_000 / rate);
            let _under_way = budget.begin(now);
            granted += u64::from(budget.withdraw(now).is_ok());
        }
        granted
    }

    #[test]
    fn a_share_of_the_calls_and_no_more() {
        for share in [0.05, 0.1, 0.2, 0.7] {
            let extra = granted(&Budget::new(settings(share, 0)), 100_000, 1_000);
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let got = extra as f64 / 100_000.0;
            assert!(got <= share && got > share * 0.98, "{share}: {got}");
        }
    }

    #[test]
    fn the_floor_holds_where_there_are_few_calls_and_adds_nothing_where_there_are_many() {
        let quiet = granted(&Budget::new(settings(0.1, 3)), 600, 5);
        // 120 s at 3 a second, and what a quiet time had left.
        assert!((330..=391).contains(&quiet), "{quiet}");
        let busy = granted(&Budget::new(settings(0.1, 3)), 100_000, 1_000);
        assert!(busy <= 10_030, "{busy}");
    }

    #[test]
    fn what_is_not_used_is_gone_in_time() {
        let budget = Budget::new(settings(0.1, 0));
        for _ in 0..1_000 {
            budget.deposit(Mono(0));
        }
        let second = Duration::from_secs(1);
        assert!(budget.tokens(Mono(0).plus(second)) >= 85);
        assert_eq!(budget.tokens(Mono(0).plus(11 * second)), 0);
        // A clock that comes round after a day and a half is no new budget either.
        let round = Mono(1 << 47);
        assert!(budget.tokens(round) <= 100);
    }

    #[test]
    fn of_those_under_way_few_are_extra() {
        let budget = Budget::new(settings(1.0, 1_000));
        let now = Mono(0);
        let calls: Vec<_> = (0..50).map(|_| budget.begin(now)).collect();
        let mut extra: Vec<_> = (0..10).map(|_| budget.withdraw(now).unwrap()).collect();
        assert_eq!(budget.withdraw(now).unwrap_err(), Spent::Concurrency);
        extra.pop();
        assert!(budget.withdraw(now).is_ok());
        drop(calls);
        extra.truncate(2);
        let third = budget.withdraw(now).unwrap();
        assert_eq!(budget.withdraw(now).unwrap_err(), Spent::Concurrency, "three are always free");
        let before = budget.tokens(now);
        budget.put_back(third);
        assert_eq!(budget.tokens(now), before + 1);
    }

    proptest! {
        /// Over any run of calls, however they bunch, the extra attempts stay within what was there, was paid in and
        /// what the floor gives.
        #[test]
        fn never_more_than_paid_in(
            gaps_ms in proptest::collection::vec(0_u64..3_000, 1..300),
            share in 0.0_f64..1.0,
            floor in 0_u32..10,
        ) {
            let budget = Budget::new(settings(share, floor));
            let (mut now, mut granted) = (Mono(0), 0_u32);
            for gap in &gaps_ms {
                now = now.plus(Duration::from_millis(*gap));
                let _under_way = budget.begin(now);
                for _ in 0..3 {
                    granted += u32::from(budget.withdraw(now).is_ok());
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let calls = gaps_ms.len() as f64;
            let most = f64::from(floor) * (now.since(Mono(0)).as_secs_f64() + 10.2) + calls * share + 1.0;
            prop_assert!(f64::from(granted) <= most, "{granted} of {most}");
        }
    }
}
