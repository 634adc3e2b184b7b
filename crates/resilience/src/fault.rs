//! Faults on purpose: makes calls slow, fail or vanish, for a share of them and for a while.
//!
//! ```text
//!   OFF --- start(rules, duration) ---> ON --- duration is over, or stop() ---> OFF
//! ```
//!
//! A set of faults is off until it is started, and starting it says for how long: ten minutes unless told otherwise, a
//! day at most. It stops by the clock alone, so that an experiment ends though everybody who began it has gone home.
//! While it is off, asking costs one comparison.
//!
//! | fault | does |
//! |---|---|
//! | delay | the call waits, for a time drawn evenly between two bounds |
//! | abort | the call ends with a status and never leaves |
//! | drop | the call never leaves and is never answered: it waits for its timeout |
//! | corrupt | one bit of about every `every` bytes of the answer is flipped |
//! | bandwidth | the answer comes at so many bytes a second |
//!
//! Each rule draws for itself, and what several rules say of one call adds up: delays do, of two aborts the first holds,
//! of two bandwidths the lower. A rule may ask for headers; it then speaks only of calls that have them all.
//!
//! The place of faults is inside everything else, next to the wire: they must look like the network to retry, breaker and
//! timeout, or nothing is tested.
//!
//! Source: the fault filter of Envoy, and the toxics of Toxiproxy.

mod damage;

use crate::dice::Dice;
use arc_swap::ArcSwapOption;
pub use damage::{Corruption, Pace};
use outrigger_kernel::Mono;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// How long faults last unless told otherwise.
pub const FAULTS_FOR_DEFAULT: Duration = Duration::from_secs(600);

/// How long faults last at most.
pub const FAULTS_FOR_MAX: Duration = Duration::from_secs(86_400);

/// How many rules a set has at most; more are not looked at.
pub const FAULT_RULES_MAX: usize = 64;

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultRule {
    /// What it does.
    pub fault: Fault,
    /// The share of the calls it does it to, from 0 to 1.
    pub share: f64,
    /// The headers a call must have, by name in lower case; empty for all calls.
    pub headers: Vec<HeaderIs>,
}

/// A header that a call must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderIs {
    /// Its name, in lower case.
    pub name: String,
    /// Its value; `None` for any.
    pub value: Option<String>,
}

/// What is done to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It waits.
    Delay {
        /// At least.
        least: Duration,
        /// At most.
        most: Duration,
    },
    /// It ends here.
    Abort(Abort),
    /// It is never answered.
    Drop,
    /// Its answer is damaged.
    Corrupt {
        /// In about one of so many bytes.
        every: u32,
    },
    /// Its answer is slow.
    Bandwidth {
        /// In bytes a second; 0 counts as 1.
        bytes_per_s: u64,
    },
}

/// How an aborted call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// With this HTTP status.
    Http(u16),
    /// With this gRPC status code.
    Grpc(u16),
    /// As if the connection had broken.
    Reset,
}

/// What is to be done to one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// First this wait.
    pub delay: Duration,
    /// Then it vanishes.
    pub drops: bool,
    /// Or ends so.
    pub abort: Option<Abort>,
    /// Its answer goes through this.
    pub corrupt: Option<Corruption>,
    /// And through this.
    pub pace: Option<Pace>,
}

impl FaultPlan {
    /// Whether nothing is done to it.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// How often faults were done since they were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultTotals {
    /// Calls delayed.
    pub delayed: u64,
    /// Calls aborted.
    pub aborted: u64,
    /// Calls dropped.
    pub dropped: u64,
    /// Answers damaged.
    pub corrupted: u64,
    /// Answers slowed down.
    pub paced: u64,
}

/// A set of faults. Off when made.
///
/// ```
/// use outrigger_kernel::Mono;
/// use outrigger_resilience::{Abort, Fault, FaultRule, Faults};
/// use std::time::Duration;
///
/// let (faults, now) = (Faults::default(), Mono(0));
/// let rule = FaultRule { fault: Fault::Abort(Abort::Http(503)), share: 1.0, headers: Vec::new() };
/// faults.start(vec![rule], now, Some(Duration::from_secs(30)));
/// let plan = |now| faults.plan(now, 4711, |_| None);
/// assert_eq!(plan(now).abort, Some(Abort::Http(503)));
/// assert!(plan(now.plus(Duration::from_secs(30))).is_nothing());
/// ```
#[derive(Debug, Default)]
pub struct Faults {
    /// On until then; 0 for off.
    until: AtomicU64,
    rules: ArcSwapOption<Vec<FaultRule>>,
    done: [AtomicU64; 5],
}

impl Faults {
    /// Switches on, in place of what was on before. Answers when it will be off again.
    pub fn start(&self, mut rules: Vec<FaultRule>, now: Mono, lasts: Option<Duration>) -> Mono {
        rules.truncate(FAULT_RULES_MAX);
        let until = now.plus(lasts.unwrap_or(FAULTS_FOR_DEFAULT).min(FAULTS_FOR_MAX));
        self.rules.store(Some(Arc::new(rules)));
        self.until.store(until.0, Relaxed);
        until
    }

    /// Switches off.
    pub fn stop(&self) {
        self.until.store(0, Relaxed);
        self.rules.store(None);
    }

    /// Until when it is on, if it is.
    #[must_use]
    pub fn on_until(&self, now: Mono) -> Option<Mono> {
        let until = Mono(self.until.load(Relaxed));
        (now < until).then_some(until)
    }

    /// What is to be done to a call that begins at `now`, given random bits and its headers.
    pub fn plan<'a>(
        &self,
        now: Mono,
        random: u64,
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> FaultPlan {
        if self.on_until(now).is_none() {
            return FaultPlan::default();
        }
        let rules = self.rules.load();
        let Some(rules) = rules.as_ref() else { return FaultPlan::default() };
        let mut plan = FaultPlan::default();
        let mut dice = Dice(random);
        for rule in rules.iter() {
            if dice.unit() < rule.share && rule.headers.iter().all(|one| one.is_in(&header)) {
                plan.add(rule.fault, &mut dice);
            }
        }
        self.count(&plan);
        plan
    }

    /// What was done since this was made.
    #[must_use]
    pub fn totals(&self) -> FaultTotals {
        let [delayed, aborted, dropped, corrupted, paced] =
            [0, 1, 2, 3, 4].map(|n: usize| self.done[n].load(Relaxed));
        FaultTotals { delayed, aborted, dropped, corrupted, paced }
    }

    fn count(&self, plan: &FaultPlan) {
        let done = [
            !plan.delay.is_zero(),
            plan.abort.is_some() && !plan.drops,
            plan.drops,
            plan.corrupt.is_some(),
            plan.pace.is_some(),
        ];
        for (count, _) in self.done.iter().zip(done).filter(|(_, done)| *done) {
            count.fetch_add(1, Relaxed);
        }
    }
}

impl HeaderIs {
    fn is_in<'a>(&self, header: &impl Fn(&str) -> Option<&'a str>) -> bool {
        let Some(value) = header(&self.name) else { return false };
        self.value.as_ref().is_none_or(|wanted| wanted == value)
    }
}

impl FaultPlan {
    fn add(&mut self, fault: Fault, dice: &mut Dice) {
        match fault {
            Fault::Delay { least, most } => {
                let spread = most.saturating_sub(least).as_secs_f64() * dice.unit();
                let spread = Duration::try_from_secs_f64(spread).unwrap_or_default();
                self.delay = self.delay.saturating_add(least).saturating_add(spread);
            }
            Fault::Abort(abort) => self.abort = self.abort.or(Some(abort)),
            Fault::Drop => self.drops = true,
            Fault::Corrupt { every } => {
                let new = Corruption::new(every, dice.next());
                self.corrupt = self.corrupt.or(Some(new));
            }
            Fault::Bandwidth { bytes_per_s } => {
                let slower =
                    self.pace.map_or(bytes_per_s, |pace| pace.bytes_per_s.min(bytes_per_s));
                self.pace = Some(Pace::new(slower));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Abort, Corruption, FAULTS_FOR_MAX, Fault, FaultRule, Faults, HeaderIs, Pace};
    use outrigger_kernel::Mono;
    use proptest::prelude::*;
    use std::time::Duration;

    const START: Mono = Mono(1 << 40);

    fn rule(fault: Fault, share: f64) -> FaultRule {
        FaultRule { fault, share, headers: Vec::new() }
    }

    #[test]
    fn it_is_off_until_started_and_stops_by_itself() {
        let faults = Faults::default();
        let plan = |now| faults.plan(now, 1, |_| None);
        assert!(plan(START).is_nothing());
        let rules = || vec![rule(Fault::Drop, 1.0)];
        let until = faults.start(rules(), START, None);
        assert_eq!(until, START.plus(Duration::from_secs(600)));
        assert!(plan(START).drops && plan(START.plus(Duration::from_secs(599))).drops);
        assert!(plan(until).is_nothing());
        assert_eq!(faults.start(rules(), START, Some(Duration::MAX)), START.plus(FAULTS_FOR_MAX));
        faults.stop();
        assert!(plan(START).is_nothing() && faults.on_until(START).is_none());
        assert_eq!(faults.totals().dropped, 2);
    }

    #[test]
    fn shares_are_kept_and_rules_draw_for_themselves() {
        let faults = Faults::default();
        let delay =
            Fault::Delay { least: Duration::from_millis(10), most: Duration::from_millis(30) };
        faults.start(
            vec![rule(delay, 0.2), rule(Fault::Abort(Abort::Http(503)), 0.1)],
            START,
            None,
        );
        let plans: Vec<_> = (0..10_000).map(|n| faults.plan(START, n * 31, |_| None)).collect();
        let delayed: Vec<_> =
            plans.iter().map(|plan| plan.delay).filter(|d| !d.is_zero()).collect();
        assert!(delayed.len().abs_diff(2_000) < 150, "{}", delayed.len());
        let mean = delayed.iter().sum::<Duration>() / delayed.len() as u32;
        assert!(mean.as_micros().abs_diff(20_000) < 500, "{mean:?}");
        assert!((faults.totals().aborted as usize).abs_diff(1_000) < 120);
        let both = plans.iter().filter(|plan| plan.abort.is_some() && !plan.delay.is_zero());
        assert!(both.count().abs_diff(200) < 60);
    }

    #[test]
    fn a_rule_may_ask_for_headers() {
        let faults = Faults::default();
        let headers = vec![
            HeaderIs { name: "x-chaos".to_owned(), value: Some("yes".to_owned()) },
            HeaderIs { name: "x-any".to_owned(), value: None },
        ];
        faults.start(vec![FaultRule { headers, ..rule(Fault::Drop, 1.0) }], START, None);
        let drops = |chaos, any| {
            let header = |name: &str| if name == "x-chaos" { chaos } else { any };
            faults.plan(START, 1, header).drops
        };
        assert!(drops(Some("yes"), Some("")));
        assert!(!drops(Some("no"), Some("")) && !drops(Some("yes"), None) && !drops(None, None));
    }

    #[test]
    fn a_stream_comes_at_its_pace() {
        let mut pace = Pace::new(1_000);
        assert_eq!(pace.hold(500, START), Duration::from_millis(500));
        assert_eq!(pace.hold(500, START), Duration::from_secs(1));
        let later = START.plus(Duration::from_secs(5));
        assert_eq!(pace.hold(100, later), Duration::from_millis(100), "what was not used is lost");
        assert_eq!(Pace::new(0).hold(2, START), Duration::from_secs(2));
    }

    proptest! {
        #[test]
        fn damage_does_not_depend_on_how_the_stream_is_cut(seed: u64, every in 0_u32..50, cuts in proptest::collection::vec(0_usize..60, 0..20)) {
            let whole = vec![0_u8; cuts.iter().sum()];
            let (mut at_once, mut in_parts) = (whole.clone(), whole);
            let flipped = Corruption::new(every, seed).apply(&mut at_once);
            let mut corruption = Corruption::new(every, seed);
            let mut rest = &mut in_parts[..];
            for cut in cuts {
                let (part, others) = rest.split_at_mut(cut);
                corruption.apply(part);
                rest = others;
            }
            prop_assert_eq!(flipped, at_once.iter().filter(|byte| **byte != 0).count());
            prop_assert!(at_once.iter().all(|byte| byte.count_ones() <= 1));
            prop_assert_eq!(at_once, in_parts);
        }

        #[test]
        fn any_rules_do_no_harm(share in any::<f64>(), least: u32, most: u32, every: u32, bytes_per_s: u64, random: u64) {
            let faults = Faults::default();
            let delay = Fault::Delay { least: Duration::from_secs(least.into()), most: Duration::from_secs(most.into()) };
            let rules = [delay, Fault::Corrupt { every }, Fault::Bandwidth { bytes_per_s }];
            faults.start(rules.map(|fault| rule(fault, share)).into(), Mono(u64::MAX - 5), None);
            let plan = faults.plan(Mono(u64::MAX - 4), random, |_| None);
            if let Some(mut corruption) = plan.corrupt {
                corruption.apply(&mut [0; 100]);
            }
            if let Some(mut pace) = plan.pace {
                pace.hold(usize::MAX, Mono(5));
            }
        }
    }
}
