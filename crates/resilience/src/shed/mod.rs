//! Shedding: when there is not enough for all, decide at the door who goes without, and the same ones everywhere.
//!
//! A queue alone serves whoever comes at the right moment. At ten times the capacity each call then has one chance in ten,
//! the payment like the crawler, and a page that needs four calls one in ten thousand. So calls have a [`Rank`]: class, then
//! cohort of users. The shedder counts what ranks are asked for, and while the seats do not suffice it lets in the top of
//! them, as many as can be served and a little more, which keeps the queue from running dry:
//!
//! ```text
//!   every 100 ms:  refused behind the door?  keep = keep * 1.03 * served / (served + refused)
//!                  else                      keep = keep * 1.1 + 0.01, twice that with seats to spare
//!   level = the rank above which that share of recent calls lies
//! ```
//!
//! It never sheds the highest rank that is asked for, and nothing at all until somebody was refused. `Retry-After` is a
//! second for each time the capacity is asked for, at most a minute: what comes back then comes back spread out.
//!
//! One comparison and one addition per call; every 100 ms one caller looks through 512 counters. Sources: DAGOR (Zhou et
//! al. 2018) for levels and cohorts, Uber's Cinnamon for the threshold taken from the distribution of recent ranks.

mod criticality;

pub use criticality::{Criticality, Rank};
use outrigger_kernel::Mono;
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

const WINDOW: Duration = Duration::from_millis(100);
const RETRY_AFTER_MAX: u32 = 60;

/// Decides at the door of a bulkhead.
#[derive(Debug)]
pub(crate) struct Shedder {
    level: AtomicU16,
    ends: AtomicU64,
    served: AtomicU32,
    refused: AtomicU32,
    /// Whether all seats were taken at some arrival of this window.
    busy: AtomicU32,
    retry_after_s: AtomicU32,
    /// Calls asked for lately, by rank; fading.
    asked: Box<[AtomicU32; Rank::COUNT]>,
    control: Mutex<Control>,
}

#[derive(Debug)]
struct Control {
    keep: f64,
    offered_before: u64,
}

impl Shedder {
    pub(crate) fn new() -> Self {
        Self {
            level: AtomicU16::new(0),
            ends: AtomicU64::new(0),
            served: AtomicU32::new(0),
            refused: AtomicU32::new(0),
            busy: AtomicU32::new(0),
            retry_after_s: AtomicU32::new(1),
            asked: Box::new([const { AtomicU32::new(0) }; Rank::COUNT]),
            control: Mutex::new(Control { keep: 1.0, offered_before: 0 }),
        }
    }

    /// Whether a call of this rank is let in; `busy` when no seat is free.
    pub(crate) fn keeps(&self, rank: Rank, busy: bool, now: Mono) -> bool {
        if now.0 >= self.ends.load(Relaxed) {
            self.turn(now);
        }
        if let Some(asked) = self.asked.get(rank.index()) {
            asked.fetch_add(1, Relaxed);
        }
        if busy && self.busy.load(Relaxed) == 0 {
            self.busy.store(1, Relaxed);
        }
        rank.index() >= usize::from(self.level.load(Relaxed))
    }

    /// A call found a seat.
    pub(crate) fn served(&self) {
        self.served.fetch_add(1, Relaxed);
    }

    /// A call that was let in found none.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(crate) fn level(&self) -> u16 {
        self.level.load(Relaxed)
    }

    pub(crate) fn retry_after(&self) -> Duration {
        Duration::from_secs(self.retry_after_s.load(Relaxed).into())
    }

    #[cold]
    fn turn(&self, now: Mono) {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = self.ends.load(Relaxed);
        if now.0 < ends {
            return;
        }
        self.ends.store(now.plus(WINDOW).0, Relaxed);
        let served = f64::from(self.served.swap(0, Relaxed));
        let refused = f64::from(self.refused.swap(0, Relaxed));
        let busy = self.busy.swap(0, Relaxed) != 0;
        // A pause between windows says that nobody came, not that nobody was served.
        let idle = now.0.saturating_sub(ends) > WINDOW_NS;
        let asked: Vec<u32> = self.asked.iter().map(|asked| asked.load(Relaxed)).collect();
        let total: u64 = asked.iter().map(|asked| u64::from(*asked)).sum();
        let offered = float(total.saturating_sub(control.offered_before));
        if refused > 0.01 * served && !idle {
            // Measured by those who were let in and not by all who came: however unevenly they come, it does not spiral
            // down. Whoever is refused behind the door is refused by chance, so no more than a few are let in too many.
            control.keep = (control.keep * 1.03 * served / (served + refused)).clamp(0.001, 1.0);
        } else if control.keep < 1.0 {
            let grown = control.keep * 1.1 + 0.01;
            let spare = if busy && !idle { grown } else { grown * 1.1 + 0.01 };
            control.keep = spare.min(1.0);
        }
        let over = (offered / served.max(1.0)).min(RETRY_AFTER_MAX.into()).max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and 60"
        )]
        let retry_after = if control.keep < 1.0 { over as u32 } else { 1 };
        self.retry_after_s.store(retry_after, Relaxed);
        self.level.store(level(&asked, total, control.keep), Relaxed);
        // An eighth fades per window: what is counted is about the last second.
        let mut left = 0;
        for (counter, asked) in self.asked.iter().zip(asked) {
            let faded = asked.div_ceil(8);
            counter.fetch_sub(faded, Relaxed);
            left += u64::from(asked - faded);
        }
        control.offered_before = left;
    }
}

const WINDOW_NS: u64 = WINDOW.as_nanos() as u64;

/// The lowest rank of the top `keep` of what was asked for; always at least the highest that was.
fn level(asked: &[u32], total: u64, keep: f64) -> u16 {
    if keep >= 1.0 || total == 0 {
        return 0;
    }
    let budget = float(total) * keep;
    let mut above = 0_u64;
    let mut lowest = asked.len();
    for (rank, asked) in asked.iter().enumerate().rev() {
        if *asked == 0 {
            continue;
        }
        above += u64::from(*asked);
        if float(above) > budget && lowest < Rank::COUNT {
            break;
        }
        lowest = rank;
    }
    u16::try_from(lowest).unwrap_or(u16::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a second")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::{Criticality, Rank, Shedder, level};
    use outrigger_kernel::Mono;
    use std::time::Duration;

    #[test]
    fn the_level_keeps_the_top_share() {
        let mut asked = vec![0; Rank::COUNT];
        for rank in asked.iter_mut().skip(400) {
            *rank = 10;
        }
        assert_eq!(level(&asked, 1_120, 1.0), 0);
        assert_eq!(level(&asked, 1_120, 0.5), 456);
        assert_eq!(level(&asked, 1_120, 0.0), 511, "never the highest that is asked for");
        assert_eq!(level(&vec![0; Rank::COUNT], 0, 0.1), 0);
    }

    /// Offers `per_ms` calls each millisecond, of which one is served, for a while; what was kept of each class.
    fn offer(shedder: &Shedder, from_ms: u64, ms: u64, per_ms: u64) -> [f64; 4] {
        let mut kept = [(0_u32, 0_u32); 4];
        let mut room = 0;
        for at in from_ms..from_ms + ms {
            let now = Mono(0).plus(Duration::from_millis(at));
            // What is not used now is used a little later, as a queue would have it.
            room = 5.min(room + 1);
            for call in 0..per_ms {
                let class = Criticality::ALL[usize::try_from((at + call) % 4).unwrap()];
                let cohort = crate::dice::mixed(at * 64 + call) % 128;
                let rank = Rank::new(class, u8::try_from(cohort).unwrap());
                let keeps = shedder.keeps(rank, room == 0, now);
                kept[class.index()].0 += u32::from(keeps);
                kept[class.index()].1 += 1;
                match (keeps, room) {
                    (true, 0) => shedder.refused(),
                    (true, _) => {
                        room -= 1;
                        shedder.served();
                    }
                    (false, _) => {}
                }
            }
        }
        kept.map(|(kept, all)| f64::from(kept) / f64::from(all.max(1)))
    }

    #[test]
    fn sheds_from_below_and_lets_all_back_in() {
        let shedder = Shedder::new();
        assert_eq!(offer(&shedder, 0, 1_000, 1), [1.0; 4]);
        offer(&shedder, 1_000, 1_000, 8);
        let shares = offer(&shedder, 2_000, 4_000, 8);
        assert!(shares[0] < 0.01 && shares[1] < 0.01 && shares[2] < 0.01, "{shares:?}");
        assert!((0.4..0.8).contains(&shares[3]), "half of a quarter is what there is: {shares:?}");
        assert!((6..=10).contains(&shedder.retry_after().as_secs()));
        offer(&shedder, 6_000, 2_000, 1);
        assert_eq!(shedder.level(), 0, "two seconds later all is as before");
        assert_eq!(shedder.retry_after(), Duration::from_secs(1));
    }
}
