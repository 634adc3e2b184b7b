//! A caller that holds itself back: when the other side refuses most calls for overload, most are not even sent.
//!
//! A refusal is cheap for the one who refuses, not free. At ten times its capacity a server that spends a twentieth of a
//! call on each refusal has a little over half of itself left for work. So every caller counts, over two minutes,
//!
//! ```text
//!   p = (calls - K * accepted) / (calls + 1)         refused here with this probability, at most 90 %
//! ```
//!
//! With K = 2 nothing happens until half of the calls are refused, and the other side then sees about twice what it
//! accepts: enough to notice when it has recovered.
//!
//! *Per criticality*: with one counter for all, what matters is held back because of the flood of what does not. Only
//! refusals for overload count as not accepted (429, 503, `RESOURCE_EXHAUSTED`); an error is an answer. A call counts when
//! it has ended, or was refused here: counted when it begins, the first ones would be taken for refused.
//!
//! A server that sheds says from which rank on ([`crate::Bulkhead::level`]); a caller that was told ([`Throttle::told`])
//! does not send what is below it for a second.
//!
//! Sources: "Handling overload" in Site Reliability Engineering (Google), there called adaptive throttling; levels told to
//! callers as in DAGOR.

use crate::{Criticality, Rank, breaker::window::LastTime, dice::unit};
use outrigger_kernel::Mono;
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// How long a server's word on its level is believed.
const LEVEL_AGE_MAX: Duration = Duration::from_secs(1);

/// How a caller holds itself back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThrottleSettings {
    /// K: how many calls to send for each that is accepted. Less wastes less of the other side and notices its recovery
    /// later. Held at or above 1.
    pub multiplier: f64,
    /// What is looked back on.
    pub window: Duration,
    /// The largest share of calls that is refused here; held within 0 and 1. The rest looks whether it is over.
    pub refused_max: f64,
    /// Below this many calls in the window nothing is refused.
    pub calls_min: u32,
}

impl Default for ThrottleSettings {
    fn default() -> Self {
        Self { multiplier: 2.0, window: Duration::from_secs(120), refused_max: 0.9, calls_min: 10 }
    }
}

/// Why a call is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Throttled {
    /// The other side refuses most calls of this class for overload.
    #[error("not sent: the target refuses most calls like this one for overload")]
    Overloaded,
    /// The other side has said that it sheds calls of this rank.
    #[error("not sent: the target sheds calls of this rank")]
    BelowLevel,
}

/// A caller's memory of what one target accepts.
///
/// ```
/// use outrigger_kernel::Mono;
/// use outrigger_resilience::{Criticality, Rank, Throttle, ThrottleSettings, Throttled};
///
/// let throttle = Throttle::new(ThrottleSettings::default());
/// let crawl = Rank::new(Criticality::Sheddable, 0);
/// for _ in 0..100 {
///     throttle.ended(crawl, false, Mono(0));
/// }
/// // 64 random bits come from the caller.
/// assert_eq!(throttle.admit(crawl, 0, Mono(0)), Err(Throttled::Overloaded));
/// assert_eq!(throttle.admit(crawl, u64::MAX, Mono(0)), Ok(()), "one in ten looks whether it is over");
/// assert_eq!(throttle.admit(Rank::new(Criticality::CriticalPlus, 0), 0, Mono(0)), Ok(()));
/// ```
#[derive(Debug)]
pub struct Throttle {
    settings: ThrottleSettings,
    classes: [LastTime; Criticality::COUNT],
    /// From which rank on the other side accepts calls, and until when that holds.
    level: AtomicU64,
    level_until: AtomicU64,
}

const CALL: u64 = 1;
const ACCEPTED: u64 = 1 << 21;

impl Throttle {
    /// Nothing refused yet.
    #[must_use]
    pub fn new(mut settings: ThrottleSettings) -> Self {
        // What is not a number counts as the least.
        settings.multiplier = settings.multiplier.max(1.0);
        settings.refused_max = settings.refused_max.max(0.0);
        settings.refused_max = settings.refused_max.min(1.0);
        Self {
            settings,
            classes: [(); Criticality::COUNT].map(|()| LastTime::new(settings.window)),
            level: AtomicU64::new(0),
            level_until: AtomicU64::new(0),
        }
    }

    /// Whether a call of this rank is sent, given 64 random bits.
    ///
    /// # Errors
    /// [`Throttled`] when it is not; that has been counted.
    pub fn admit(&self, rank: Rank, random: u64, now: Mono) -> Result<(), Throttled> {
        if now.0 < self.level_until.load(Relaxed)
            && (rank.index() as u64) < self.level.load(Relaxed)
        {
            return Err(Throttled::BelowLevel);
        }
        let Some(class) = self.classes.get(rank.criticality().index()) else { return Ok(()) };
        let share = self.share(class, now);
        if share > 0.0 && unit(random) < share {
            class.count(CALL, now);
            return Err(Throttled::Overloaded);
        }
        Ok(())
    }

    /// A call that was sent has ended: with any answer but a refusal for overload (`accepted`), or with one.
    pub fn ended(&self, rank: Rank, accepted: bool, now: Mono) {
        if let Some(class) = self.classes.get(rank.criticality().index()) {
            class.count(if accepted { CALL | ACCEPTED } else { CALL }, now);
        }
    }

    /// The other side has said from which rank on it accepts calls; 0 for all.
    pub fn told(&self, level: u16, now: Mono) {
        self.level.store(level.into(), Relaxed);
        self.level_until.store(now.plus(LEVEL_AGE_MAX).0, Relaxed);
    }

    /// The share of calls of a class that is refused here now.
    #[must_use]
    pub fn refused_share(&self, criticality: Criticality, now: Mono) -> f64 {
        self.classes.get(criticality.index()).map_or(0.0, |class| self.share(class, now))
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of two minutes")]
    fn share(&self, class: &LastTime, now: Mono) -> f64 {
        let sums = class.sums(now);
        // Twice as many accepted as not: nearly always, and no division.
        if sums.calls < u64::from(self.settings.calls_min) || sums.calls == sums.failed {
            return 0.0;
        }
        // The window's second counter holds the accepted ones here.
        let (calls, accepted) = (sums.calls as f64, sums.failed as f64);
        let share = (calls - self.settings.multiplier * accepted) / (calls + 1.0);
        share.clamp(0.0, self.settings.refused_max)
    }
}

#[cfg(test)]
mod tests {
    use super::{Throttle, ThrottleSettings, Throttled};
    use crate::{Criticality, Rank, dice::mixed};
    use outrigger_kernel::Mono;
    use std::time::Duration;

    fn at(ms: u64) -> Mono {
        Mono(0).plus(Duration::from_millis(ms))
    }

    /// Offers 1000 calls a second for a while to a server that accepts `accepts` of them; (sent, accepted) a second.
    fn offer(
        throttle: &Throttle,
        rank: Rank,
        from_s: u64,
        seconds: u64,
        accepts: u32,
    ) -> (u32, u32) {
        let (mut sent, mut accepted) = (0, 0);
        for ms in from_s * 1_000..(from_s + seconds) * 1_000 {
            if throttle.admit(rank, mixed(ms), at(ms)).is_ok() {
                sent += 1;
                let takes =
                    accepted * 1_000 < accepts * u32::try_from(ms - from_s * 1_000 + 1).unwrap();
                accepted += u32::from(takes);
                throttle.ended(rank, takes, at(ms));
            }
        }
        let seconds = u32::try_from(seconds).unwrap();
        (sent / seconds, accepted / seconds)
    }

    #[test]
    fn a_healthy_target_gets_everything() {
        let throttle = Throttle::new(ThrottleSettings::default());
        let rank = Rank::default();
        assert_eq!(offer(&throttle, rank, 0, 60, 1_000), (1_000, 1_000));
        assert_eq!(offer(&throttle, rank, 60, 200, 600), (1_000, 600), "less than half refused");
    }

    #[test]
    fn an_overloaded_one_gets_about_twice_what_it_accepts() {
        let throttle = Throttle::new(ThrottleSettings::default());
        let rank = Rank::default();
        offer(&throttle, rank, 0, 120, 150);
        let (sent, accepted) = offer(&throttle, rank, 120, 120, 150);
        assert!(accepted >= 145, "{accepted}");
        assert!((280..=330).contains(&sent), "{sent}");
        let (sent, _) = offer(&throttle, rank, 240, 120, 50);
        assert!((100..=210).contains(&sent), "one in ten still looks: {sent}");
        offer(&throttle, rank, 360, 240, 1_000);
        assert_eq!(offer(&throttle, rank, 600, 10, 1_000), (1_000, 1_000), "and it recovers");
    }

    #[test]
    fn classes_do_not_pay_for_each_other() {
        let throttle = Throttle::new(ThrottleSettings::default());
        let (crawl, page) =
            (Rank::new(Criticality::Sheddable, 1), Rank::new(Criticality::Critical, 1));
        offer(&throttle, crawl, 0, 10, 0);
        assert!((throttle.refused_share(Criticality::Sheddable, at(10_000)) - 0.9).abs() < 1e-9);
        assert_eq!(offer(&throttle, page, 10, 10, 1_000), (1_000, 1_000));
    }

    #[test]
    fn a_level_is_believed_for_a_second() {
        let throttle = Throttle::new(ThrottleSettings::default());
        let (low, high) =
            (Rank::new(Criticality::Critical, 10), Rank::new(Criticality::Critical, 90));
        throttle.told(u16::try_from(high.index()).unwrap(), at(0));
        assert_eq!(throttle.admit(low, 0, at(999)), Err(Throttled::BelowLevel));
        assert_eq!(throttle.admit(high, 0, at(999)), Ok(()));
        assert_eq!(throttle.admit(low, 0, at(1_000)), Ok(()));
    }
}
