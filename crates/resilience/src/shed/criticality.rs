//! How much a call matters, and to which crowd of users it belongs.
//!
//! Four classes, as in the site reliability handbook of Google: what must always work, what users wait for, what may fail
//! now and then, what may fail for hours. Inside a class every user belongs to one of 128 *cohorts*; a cohort is kept or
//! shed as a whole, at every hop alike, because a page that needs four calls is only served if all four are. Four calls
//! that are each kept with probability one half leave 6 % of the pages; one cohort in two leaves 50 %.
//!
//! Class and cohort together are a [`Rank`]: one number, the higher the more worth keeping.

use std::fmt;

/// How much a call matters. The order is the order of worth.
///
/// ```
/// use outrigger_resilience::Criticality;
/// assert!(Criticality::CriticalPlus > Criticality::Sheddable);
/// assert_eq!(Criticality::parse("sheddable-plus"), Some(Criticality::SheddablePlus));
/// assert_eq!(Criticality::default().as_str(), "critical");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Criticality {
    /// May fail for hours: crawlers, batch work.
    Sheddable,
    /// May fail for minutes: work that will be tried again by itself.
    SheddablePlus,
    /// A user waits for it. What is said of a call that says nothing.
    #[default]
    Critical,
    /// Failing it is an incident of its own: payments, logins. Plan capacity for all of it.
    CriticalPlus,
}

impl Criticality {
    /// How many there are.
    pub const COUNT: usize = 4;

    /// All of them, the least worth first.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Sheddable, Self::SheddablePlus, Self::Critical, Self::CriticalPlus];

    /// The one called `word`, in the spelling of [`Criticality::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str().eq_ignore_ascii_case(word))
    }

    /// Its name in headers and settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sheddable => "sheddable",
            Self::SheddablePlus => "sheddable-plus",
            Self::Critical => "critical",
            Self::CriticalPlus => "critical-plus",
        }
    }

    /// Its place in an array of [`Criticality::COUNT`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Criticality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Class and cohort as one number; of two calls the one of higher rank is kept.
///
/// ```
/// use outrigger_resilience::{Criticality, Rank};
/// let (payment, crawl) = (Rank::new(Criticality::CriticalPlus, 3), Rank::new(Criticality::Sheddable, 90));
/// assert!(payment > crawl);
/// assert_eq!(payment.criticality(), Criticality::CriticalPlus);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank(u16);

impl Rank {
    /// How many cohorts a class has.
    pub const COHORTS: u8 = 128;
    /// How many ranks there are.
    pub const COUNT: usize = Criticality::COUNT * Self::COHORTS as usize;

    /// The rank of a call of this class and cohort; cohorts past the last one count from the first again.
    #[must_use]
    pub const fn new(criticality: Criticality, cohort: u8) -> Self {
        Self(((criticality as u16) << 7) | (cohort & 127) as u16)
    }

    /// The rank of a caller known by these bytes: the same caller is in the same cohort at every hop that has the same
    /// `seed`. A seed that changes by the hour lets nobody be unlucky for long.
    #[must_use]
    pub fn of(criticality: Criticality, seed: u64, caller: &[u8]) -> Self {
        // Seven bits.
        let cohort = crate::shard::hash(seed, caller) >> 57;
        Self::new(criticality, u8::try_from(cohort).unwrap_or_default())
    }

    /// The class.
    #[must_use]
    pub const fn criticality(self) -> Criticality {
        Criticality::ALL[(self.0 >> 7) as usize & 3]
    }

    /// The rank as a number below [`Rank::COUNT`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl Default for Rank {
    /// What is said of a call that says nothing: critical, in the middle of its class.
    fn default() -> Self {
        Self::new(Criticality::Critical, 64)
    }
}

#[cfg(test)]
mod tests {
    use super::{Criticality, Rank};

    #[test]
    fn names_round_trip() {
        for one in Criticality::ALL {
            assert_eq!(Criticality::parse(one.as_str()), Some(one));
            assert_eq!(Criticality::ALL[one.index()], one);
            assert_eq!(Rank::new(one, 127).criticality(), one);
        }
        assert_eq!(Criticality::parse("urgent"), None);
    }

    #[test]
    fn cohorts_are_even_and_stable() {
        let mut sizes = [0_u32; Rank::COHORTS as usize];
        for user in 0..128_000_u32 {
            let rank = Rank::of(Criticality::Critical, 9, &user.to_be_bytes());
            assert_eq!(rank, Rank::of(Criticality::Critical, 9, &user.to_be_bytes()));
            sizes[rank.index() % 128] += 1;
        }
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        assert!(*least > 850 && *most < 1_150, "of 1000 each: {least} to {most}");
    }
}
