//! How a kept answer stands at an instant.
//!
//! **Early refresh** keeps readers from ever meeting an expired entry: while it is fresh, one of them is told to refresh
//! it in the background. [`Early::Chance`] is the rule of Vattani, Chierichetti and Lowenstein ("Optimal Probabilistic
//! Cache Stampede Prevention", 2015): refresh when `now + load_took * beta * -ln(random) >= expiry`. It needs no agreement
//! between nodes, adapts to how long a load takes, and does nothing for entries nobody reads. [`Early::Share`] is the
//! simple one: from a share of the lifetime on.
//!
//! **Jitter** shortens a lifetime by up to a share of it, so that entries stored together do not expire together. It never
//! lengthens one: how long an answer may be used is for its origin to say.

use crate::dice::unit;
use outrigger_kernel::Mono;
use std::time::Duration;

/// When a fresh entry is refreshed already.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Early {
    /// Never.
    Off,
    /// By chance, the more likely the nearer the end and the longer a load takes; 1 is usual, more is earlier.
    Chance {
        /// How eager.
        beta: f64,
    },
    /// Once this share of the lifetime has passed; 0.8 is usual.
    Share(f64),
}

impl Default for Early {
    fn default() -> Self {
        Self::Chance { beta: 1.0 }
    }
}

/// How an answer may be used, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// When it was stored.
    pub stored: Mono,
    /// How long it is fresh.
    pub fresh_for: Duration,
    /// How long after that it may be used while it is refreshed.
    pub stale_for: Duration,
    /// How long after being fresh it may be used when a load fails.
    pub on_error_for: Duration,
    /// How long its load took.
    pub load_took: Duration,
}

/// How an answer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// To be used.
    Fresh,
    /// To be used, and this reader should see to a refresh.
    Early,
    /// To be used while somebody refreshes it.
    Stale,
    /// To be used only if a load fails.
    OnError,
    /// Not to be used.
    Gone,
}

impl Lifetime {
    /// Shortens how long it is fresh by up to `share` of it, given random bits.
    #[must_use]
    pub fn jittered(mut self, share: f64, random: u64) -> Self {
        let share = if share > 0.0 { share.min(1.0) } else { 0.0 };
        self.fresh_for = scaled(self.fresh_for, 1.0 - share * unit(random));
        self
    }

    /// How it stands at `now`, given random bits.
    #[must_use]
    pub fn standing(&self, now: Mono, early: Early, random: u64) -> Standing {
        let age = now.since(self.stored);
        let Some(left) = self.fresh_for.checked_sub(age).filter(|left| !left.is_zero()) else {
            let late = age.saturating_sub(self.fresh_for);
            return if late < self.stale_for {
                Standing::Stale
            } else if late < self.on_error_for {
                Standing::OnError
            } else {
                Standing::Gone
            };
        };
        let is_early = match early {
            Early::Off => false,
            Early::Share(share) => age >= scaled(self.fresh_for, share.clamp(0.0, 1.0)),
            // Never before it had any life at all, or a slow load would be followed by another at once.
            Early::Chance { beta } => {
                age > self.fresh_for / 2
                    && scaled(self.load_took, -beta * unit(random).max(1e-18).ln()) >= left
            }
        };
        if is_early { Standing::Early } else { Standing::Fresh }
    }

    /// For how long after being fresh it may be of any use.
    #[must_use]
    pub fn useful_after(&self) -> Duration {
        self.stale_for.max(self.on_error_for)
    }
}

fn scaled(duration: Duration, by: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * by).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::{Early, Lifetime, Standing};
    use outrigger_kernel::Mono;
    use proptest::prelude::*;
    use std::time::Duration;

    fn lifetime() -> Lifetime {
        Lifetime {
            stored: Mono(7),
            fresh_for: Duration::from_secs(10),
            stale_for: Duration::from_secs(5),
            on_error_for: Duration::from_secs(60),
            load_took: Duration::from_millis(100),
        }
    }

    #[test]
    fn an_answer_ages_through_its_standings() {
        let at = |ms| {
            let now = Mono(7).plus(Duration::from_millis(ms));
            lifetime().standing(now, Early::Off, 1)
        };
        assert_eq!([at(0), at(9_999)], [Standing::Fresh; 2]);
        assert_eq!([at(10_000), at(14_999)], [Standing::Stale; 2]);
        assert_eq!([at(15_000), at(69_999)], [Standing::OnError; 2]);
        assert_eq!([at(70_000), at(u64::MAX / 2_000_000)], [Standing::Gone; 2]);
    }

    #[test]
    fn early_refresh_grows_likelier_towards_the_end() {
        let early = |ms: u64| {
            let now = Mono(7).plus(Duration::from_millis(ms));
            let draw = |n: u64| n.wrapping_mul(u64::MAX / 1_000);
            let standing = |n| lifetime().standing(now, Early::Chance { beta: 1.0 }, draw(n));
            (0..1_000).filter(|n| standing(*n) == Standing::Early).count()
        };
        assert_eq!(early(5_000), 0);
        let counts = [early(9_000), early(9_800), early(9_900), early(9_990)];
        assert!(
            counts[0] <= 1 && counts[1] > 100 && counts[2] > 300 && counts[3] > 850,
            "{counts:?}"
        );
        let share =
            |ms| lifetime().standing(Mono(7).plus(Duration::from_millis(ms)), Early::Share(0.8), 0);
        assert_eq!((share(7_999), share(8_000)), (Standing::Fresh, Standing::Early));
    }

    proptest! {
        #[test]
        fn jitter_only_shortens(share in -1.0_f64..2.0, random: u64) {
            let short = lifetime().jittered(share, random).fresh_for;
            prop_assert!(short <= Duration::from_secs(10));
            prop_assert!(share > 0.1 || short >= Duration::from_millis(8_999));
        }
    }
}
