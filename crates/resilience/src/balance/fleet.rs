//! The set of endpoints, and how it changes without anyone waiting.
//!
//! Readers take a snapshot, writers replace it whole. A snapshot holds the settings as well, so that a call is judged by
//! the settings it began under.

use super::{
    Ask, BalanceSettings, ENDPOINTS_MAX, Endpoint, NoEndpoint, Pick, WEIGHT_MAX,
    choose::{Choice, Pool},
    member::State,
    outlier::{Cause, Report, judge},
    sticky::sticky_key,
};
use crate::dice::{Dice, mixed};
use arc_swap::ArcSwap;
use outrigger_kernel::Mono;
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// A balancer. Clones are the same balancer.
///
/// ```
/// use outrigger_kernel::Mono;
/// use outrigger_resilience::{Ask, BalanceSettings, Balancer, Endpoint, Verdict};
/// use std::time::Duration;
///
/// let balancer = Balancer::new(BalanceSettings::default());
/// let now = Mono(0);
/// balancer.update(["10.0.0.1:80", "10.0.0.2:80"].map(|name| Endpoint::new(name, ())), now);
///
/// let first = balancer.pick(Ask::default(), now, 0x5eed)?;
/// let tried = [first.id()];
/// let failed = first.endpoint().name.clone();
/// first.record(Verdict::Failure, now.plus(Duration::from_millis(3)));
///
/// let second = balancer.pick(Ask { tried: &tried, key: None }, now, 0x5eed)?;
/// assert_ne!(second.endpoint().name, failed);
/// # Ok::<(), outrigger_resilience::NoEndpoint>(())
/// ```
pub struct Balancer<T>(Arc<Inner<T>>);

struct Inner<T> {
    fleet: ArcSwap<Fleet<T>>,
    /// Held by whoever replaces the fleet.
    changing: Mutex<()>,
}

/// A set of endpoints under some settings.
pub(super) struct Fleet<T> {
    pub(super) settings: BalanceSettings,
    pub(super) members: Vec<Member<T>>,
    pub(super) all: Pool,
    /// The own zone's and the others, if both have any.
    pub(super) zones: Option<(Pool, Pool)>,
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Member<T> {
    pub(super) endpoint: Arc<Endpoint<T>>,
    pub(super) name_hash: u64,
    pub(super) state: Arc<State>,
}

/// What outlives every set.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) turn: AtomicU64,
    /// When the last ejection known ends; 0 while none is.
    pub(super) ejected_until: AtomicU64,
    judged_next: AtomicU64,
    ids: AtomicU64,
    ejecting: Mutex<()>,
    ejected_consecutive: AtomicU64,
    ejected_failing: AtomicU64,
    ejected_slow: AtomicU64,
}

/// What a balancer has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BalanceTotals {
    /// Ejections because of failures in a row.
    pub ejected_consecutive: u64,
    /// Ejections because of more failures than the others.
    pub ejected_failing: u64,
    /// Ejections because of slowness.
    pub ejected_slow: u64,
}

/// How one endpoint stands.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Its weight.
    pub weight: u32,
    /// Its zone.
    pub zone: Option<Arc<str>>,
    /// Calls in flight.
    pub in_flight: u32,
    /// How often it was picked.
    pub picks: u64,
    /// The latency expected of it; `None` before the first sample.
    pub latency: Option<Duration>,
    /// The share of recent failures.
    pub failing: f32,
    /// For how much longer it is ejected, if it is.
    pub ejected_for: Option<Duration>,
    /// The share of its weight that it has come up to.
    pub risen: f32,
}

impl<T> Balancer<T> {
    /// A balancer without endpoints.
    #[must_use]
    pub fn new(settings: BalanceSettings) -> Self {
        let fleet = Fleet::new(settings, Vec::new(), Arc::default());
        let fleet = ArcSwap::from_pointee(fleet);
        Self(Arc::new(Inner { fleet, changing: Mutex::new(()) }))
    }

    /// Replaces the set. Endpoints known by their name keep their state; of two with the same name the first holds.
    pub fn update(&self, endpoints: impl IntoIterator<Item = Endpoint<T>>, now: Mono) {
        let _changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.0.fleet.load_full();
        // The first set is not late: there is nobody who could carry the load meanwhile.
        let rising = (!old.members.is_empty()).then_some(now);
        let named =
            |member: &Member<T>| (Arc::clone(&member.endpoint.name), Arc::clone(&member.state));
        let mut known: HashMap<Arc<str>, Arc<State>> = old.members.iter().map(named).collect();
        let mut taken = std::collections::HashSet::new();
        let mut members = Vec::new();
        for mut endpoint in endpoints.into_iter().take(ENDPOINTS_MAX) {
            if !taken.insert(Arc::clone(&endpoint.name)) {
                continue;
            }
            endpoint.weight = endpoint.weight.min(WEIGHT_MAX);
            let state = known.remove(&endpoint.name).unwrap_or_else(|| {
                let id = old.shared.ids.fetch_add(1, Relaxed) + 1;
                Arc::new(State::new(id, rising))
            });
            let name_hash = sticky_key(endpoint.name.as_bytes());
            members.push(Member { endpoint: Arc::new(endpoint), name_hash, state });
        }
        let fleet = Fleet::new(old.settings.clone(), members, Arc::clone(&old.shared));
        self.0.fleet.store(Arc::new(fleet));
    }

    /// Replaces the settings; endpoints and what is known of them stay.
    pub fn configure(&self, settings: BalanceSettings) {
        let _changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.0.fleet.load_full();
        let members = old.members.iter().map(Member::again).collect();
        self.0.fleet.store(Arc::new(Fleet::new(settings, members, Arc::clone(&old.shared))));
    }

    /// Picks an endpoint for an attempt that begins at `now`, given 64 random bits.
    ///
    /// # Errors
    /// [`NoEndpoint`].
    pub fn pick(&self, ask: Ask<'_>, now: Mono, random: u64) -> Result<Pick<T>, NoEndpoint> {
        self.pick_where(ask, now, random, |_| true)
    }

    /// The same among those that `usable` accepts: healthy, connected, with a breaker that lets through.
    ///
    /// # Errors
    /// [`NoEndpoint`].
    pub fn pick_where(
        &self,
        ask: Ask<'_>,
        now: Mono,
        random: u64,
        usable: impl Fn(&T) -> bool,
    ) -> Result<Pick<T>, NoEndpoint> {
        let fleet = self.0.fleet.load_full();
        fleet.judge_if_due(now);
        let choice = Choice { fleet: &fleet, ask, now, dice: Dice(random), usable };
        let index = choice.choose()?;
        Ok(Pick::new(fleet, index, now))
    }

    /// How many endpoints there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.fleet.load().members.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How each endpoint stands at `now`, in the order of the set.
    #[must_use]
    pub fn status(&self, now: Mono) -> Vec<EndpointStatus> {
        let fleet = self.0.fleet.load();
        fleet.members.iter().map(|member| member.status(&fleet.settings, now)).collect()
    }

    /// What it has done since it was made.
    #[must_use]
    pub fn totals(&self) -> BalanceTotals {
        let shared = &self.0.fleet.load().shared;
        BalanceTotals {
            ejected_consecutive: shared.ejected_consecutive.load(Relaxed),
            ejected_failing: shared.ejected_failing.load(Relaxed),
            ejected_slow: shared.ejected_slow.load(Relaxed),
        }
    }
}

impl<T> Fleet<T> {
    fn new(mut settings: BalanceSettings, members: Vec<Member<T>>, shared: Arc<Shared>) -> Self {
        settings.decay = settings.decay.max(Duration::from_millis(1));
        let pool = |wanted: &dyn Fn(&Member<T>) -> bool| {
            let numbered = (0_u32..).zip(&members).filter(|(_, member)| wanted(member));
            Pool::new(numbered.map(|(index, member)| (index, member.endpoint.weight)))
        };
        let zones = settings.locality.as_ref().and_then(|locality| {
            let is_own = |member: &Member<T>| member.endpoint.zone.as_ref() == Some(&locality.zone);
            let (own, others) = (pool(&is_own), pool(&|member| !is_own(member)));
            (!own.is_empty() && !others.is_empty()).then_some((own, others))
        });
        let all = pool(&|_| true);
        Self { settings, members, all, zones, shared }
    }

    /// A call to `index` ended well.
    pub(super) fn succeeded(&self, index: usize, took: Duration, now: Mono) {
        let state = &self.members[index].state;
        if self.settings.outliers.is_none() {
            return;
        }
        state.window.success(took);
        if state.consecutive_failures.load(Relaxed) != 0 {
            state.consecutive_failures.store(0, Relaxed);
        }
        let until = state.ejected_until.load(Relaxed);
        // A success that was under way when it was ejected proves nothing about now.
        if until != 0 && now.0 >= until {
            state.ejected_until.store(0, Relaxed);
            state.probation.store(false, Relaxed);
            state.rise(now);
            self.forget_ejections();
        }
    }

    /// A call to `index` failed. Answers why it is ejected now, if it is.
    pub(super) fn failed(&self, index: usize, now: Mono) -> Option<Cause> {
        let settings = self.settings.outliers.as_ref()?;
        let state = &self.members[index].state;
        state.window.failure();
        let failures = state.consecutive_failures.fetch_add(1, Relaxed).saturating_add(1);
        let limit = settings.consecutive_failures;
        if self.is_on_probation(index, now) || (limit > 0 && failures >= limit) {
            return self.eject(index, Cause::ConsecutiveFailures, now);
        }
        None
    }

    /// A call to `index` was turned away. That is no illness, and to eject for it would only burden the others; but it is
    /// not the success that ends a probation either.
    pub(super) fn pushed_back(&self, index: usize, now: Mono) -> Option<Cause> {
        let back_too_early = self.is_on_probation(index, now);
        back_too_early.then(|| self.eject(index, Cause::ConsecutiveFailures, now)).flatten()
    }

    fn is_on_probation(&self, index: usize, now: Mono) -> bool {
        let state = &self.members[index].state;
        state.probation.load(Relaxed) && now.0 >= state.ejected_until.load(Relaxed)
    }

    fn eject(&self, index: usize, cause: Cause, now: Mono) -> Option<Cause> {
        let settings = self.settings.outliers.as_ref()?;
        let _one_at_a_time = self.shared.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &self.members[index].state;
        if now.0 < state.ejected_until.load(Relaxed) {
            return None;
        }
        let out = |member: &&Member<T>| member.state.ejected_until.load(Relaxed) > now.0;
        if self.members.iter().filter(out).count() >= settings.ejected_max(self.members.len()) {
            return None;
        }
        let times = state.ejections.fetch_add(1, Relaxed).saturating_add(1);
        let until = now.plus(settings.time_out(times, mixed(now.0 ^ state.id)));
        state.probation.store(true, Relaxed);
        state.ejected_until.store(until.0.max(1), Relaxed);
        state.consecutive_failures.store(0, Relaxed);
        self.shared.ejected_until.fetch_max(until.0.max(1), Relaxed);
        let total = match cause {
            Cause::ConsecutiveFailures => &self.shared.ejected_consecutive,
            Cause::Failing => &self.shared.ejected_failing,
            Cause::Slow => &self.shared.ejected_slow,
        };
        total.fetch_add(1, Relaxed);
        Some(cause)
    }

    /// With nobody out any more, picks need not look for panic.
    fn forget_ejections(&self) {
        // Whoever is ejected meanwhile must not be forgotten with the others.
        let _one_at_a_time = self.shared.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.members.iter().all(|member| member.state.ejected_until.load(Relaxed) == 0) {
            self.shared.ejected_until.store(0, Relaxed);
        }
    }

    /// Compares the fleet once per interval; whoever comes first after its end does it.
    fn judge_if_due(&self, now: Mono) {
        let Some(settings) = &self.settings.outliers else { return };
        let due = self.shared.judged_next.load(Relaxed);
        if now.0 < due {
            return;
        }
        let next = now.plus(settings.interval.max(Duration::from_millis(100))).0;
        if self.shared.judged_next.compare_exchange(due, next, Relaxed, Relaxed).is_err() {
            return;
        }
        let reports: Vec<Report> =
            (0..self.members.len()).map(|index| self.report(index)).collect();
        for (index, cause) in judge(&reports, settings) {
            self.eject(index, cause, now);
        }
        for member in &self.members {
            let state = &member.state;
            let forgiven = state.ejections.load(Relaxed).saturating_sub(1);
            if state.ejected_until.load(Relaxed) == 0 {
                state.ejections.store(forgiven, Relaxed);
            }
        }
    }

    fn report(&self, index: usize) -> Report {
        let (failures, successes, p90) = self.members[index].state.window.take();
        Report { index, failures, successes, p90 }
    }
}

impl<T> Member<T> {
    fn again(&self) -> Self {
        let (endpoint, state) = (Arc::clone(&self.endpoint), Arc::clone(&self.state));
        Self { endpoint, name_hash: self.name_hash, state }
    }

    fn status(&self, settings: &BalanceSettings, now: Mono) -> EndpointStatus {
        let (endpoint, state) = (&self.endpoint, &self.state);
        let latency = state.latency(now, settings.decay);
        let until = Mono(state.ejected_until.load(Relaxed));
        EndpointStatus {
            name: Arc::clone(&endpoint.name),
            weight: endpoint.weight,
            zone: endpoint.zone.clone(),
            in_flight: state.in_flight.load(Relaxed),
            picks: state.picks.load(Relaxed),
            latency: latency.and_then(|seconds| Duration::try_from_secs_f32(seconds).ok()),
            failing: state.failing(now, settings.decay),
            ejected_for: Some(until.since(now)).filter(|left| !left.is_zero()),
            risen: state.risen(now, settings.slow_start),
        }
    }
}

impl<T> Clone for Balancer<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Balancer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fleet = self.0.fleet.load();
        f.debug_list().entries(fleet.members.iter().map(|member| &member.endpoint.name)).finish()
    }
}
