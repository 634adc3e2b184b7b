//! Which instance of an app gets an attempt, where a policy balances.
//!
//! Without a balancer instances take turns ([`Instances::pick`]). With one, the cheaper of two drawn at random gets the
//! attempt, what ails one is noticed and it is left alone for a while, and a retry or a hedge goes elsewhere. Either way an
//! instance that cannot be reached is passed over for another: it has seen nothing.

use crate::{AppChannel, AppTarget, Instances, target::Member};
use http::{HeaderMap, HeaderName, header::COOKIE};
use outrigger_kernel::{Mono, World};
use outrigger_resilience::{
    Ask, BalanceSettings, Balancer, Class, Endpoint, Locality, Pick, Strategy, Target, Tried,
    Verdict, sticky_key,
};
use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicU8, Ordering},
};

/// The zone of this machine's instances where none has a name.
const HERE: &str = "this machine";

/// What keeps a caller with an instance, where a balancer sticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StickyBy {
    /// The value of this header.
    Header(HeaderName),
    /// The value of this cookie.
    Cookie(String),
}

impl StickyBy {
    /// What a call belongs to; `None` for one that does not say.
    pub(crate) fn key(&self, headers: &HeaderMap) -> Option<u64> {
        match self {
            Self::Header(name) => headers.get(name).map(|value| sticky_key(value.as_bytes())),
            Self::Cookie(name) => {
                let all = headers.get_all(COOKIE).iter();
                let mut pairs = all.filter_map(|value| value.to_str().ok()).flat_map(|value| {
                    value.split(';').filter_map(|pair| pair.trim().split_once('='))
                });
                pairs.find(|(own, _)| own == name).map(|(_, value)| sticky_key(value.as_bytes()))
            }
        }
    }
}

/// The instances of one app, as a balancer knows them.
#[derive(Debug)]
pub(crate) struct Places {
    balancer: Balancer<Arc<AppChannel>>,
    told: Mutex<Told>,
}

/// What a balancer was told last.
#[derive(Debug)]
struct Told {
    instances: Weak<Instances>,
    settings: BalanceSettings,
    /// The zone that comes first.
    near: Option<Arc<str>>,
}

impl Told {
    /// What the settings do not say, the instances do.
    fn settings(&self) -> BalanceSettings {
        let mut settings = self.settings.clone();
        if settings.locality.is_none() {
            settings.locality = self.near.clone().map(Locality::new);
        }
        settings
    }
}

impl Places {
    pub(crate) fn new(settings: BalanceSettings) -> Self {
        let balancer = Balancer::new(settings.clone());
        Self { balancer, told: Mutex::new(Told { instances: Weak::new(), settings, near: None }) }
    }

    /// Takes other settings; what is known of the instances stays.
    pub(crate) fn configure(&self, settings: BalanceSettings) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.settings = settings;
        self.balancer.configure(told.settings());
    }

    /// The balancer, knowing of `instances`.
    pub(crate) fn of(&self, instances: &Arc<Instances>, key: Option<u64>, now: Mono) -> Spread<'_> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::ptr::eq(told.instances.as_ptr(), Arc::as_ptr(instances)) {
            told.instances = Arc::downgrade(instances);
            let own = instances.zone().cloned().unwrap_or_else(|| HERE.into());
            let near = instances.is_spread().then(|| Arc::clone(&own));
            if told.near != near {
                told.near = near;
                self.balancer.configure(told.settings());
            }
            let sticks = matches!(told.settings.strategy, Strategy::Sticky { .. });
            let endpoint = |member: &Member| Endpoint {
                name: name(&member.channel, sticks).into(),
                weight: member.weight,
                zone: if member.here { Some(Arc::clone(&own)) } else { member.zone.clone() },
                value: Arc::clone(&member.channel),
            };
            self.balancer.update(instances.members().iter().map(endpoint), now);
        }
        Spread(Some(&self.balancer), key)
    }
}

/// By what the balancer knows an instance. A channel is the instance: a new one under the same address starts anew. Where
/// calls stick, it is the address, which other processes know it by too: a caller's instance is to be the same for all.
fn name(channel: &Arc<AppChannel>, sticks: bool) -> String {
    if !sticks {
        return format!("{:p}", Arc::as_ptr(channel));
    }
    let AppTarget { host, port, socket, .. } = channel.target();
    match socket {
        Some(path) => path.display().to_string(),
        None => format!("{host}:{port}"),
    }
}

/// Where the attempts of a call go; without a balancer, wherever the call's target says.
#[derive(Debug)]
pub(crate) struct Spread<'a>(Option<&'a Balancer<Arc<AppChannel>>>, Option<u64>);

impl Spread<'_> {
    pub(crate) const NONE: Self = Spread(None, None);
}

/// An instance that was chosen, while an attempt is under way there.
pub(crate) struct Chosen {
    pick: Pick<Arc<AppChannel>>,
    heard: Arc<AtomicU8>,
}

/// What an attempt itself knows of how its instance did.
#[derive(Clone, Debug)]
pub(crate) struct Preferred {
    pub(crate) channel: Arc<AppChannel>,
    heard: Arc<AtomicU8>,
}

const NOTHING: u8 = 0;
const WELL: u8 = 1;
const ILL: u8 = 2;

impl Chosen {
    pub(crate) fn preferred(&self) -> Preferred {
        Preferred { channel: Arc::clone(self.pick.value()), heard: Arc::clone(&self.heard) }
    }
}

impl Preferred {
    /// It could not be reached, whatever another one answers.
    pub(crate) fn passed_over(&self) {
        self.heard.store(ILL, Ordering::Relaxed);
    }

    /// What an answer says of it: one that the caller has to answer for is a good one.
    pub(crate) fn ended(&self, class: &Class) {
        let well = match class {
            Class::Success => true,
            Class::Http(status) => *status < 500 && *status != 429,
            // Unknown, deadline exceeded, exhausted, internal, unavailable, data loss.
            Class::Grpc(code) => ![2, 4, 8, 13, 14, 15].contains(code),
            Class::Failure | Class::Permanent | Class::Ignored => false,
        };
        if well && self.heard.load(Ordering::Relaxed) == NOTHING {
            self.heard.store(WELL, Ordering::Relaxed);
        }
    }
}

impl Target for Spread<'_> {
    type Place = Option<Chosen>;

    fn pick(&self, tried: &Tried, now: Mono, world: &dyn World) -> Option<Self::Place> {
        let Some(balancer) = self.0 else { return Some(None) };
        let ask = Ask { tried: tried.ids(), key: self.1 };
        let healthy = |channel: &Arc<AppChannel>| channel.is_healthy();
        let pick = balancer.pick_where(ask, now, world.random(), healthy);
        // With none to pick from, the instances say why.
        Some(pick.ok().map(|pick| Chosen { pick, heard: Arc::default() }))
    }

    fn id(place: &Self::Place) -> Option<u64> {
        place.as_ref().map(|chosen| chosen.pick.id())
    }

    fn ended(place: Self::Place, verdict: Verdict, now: Mono) {
        let Some(Chosen { pick, heard }) = place else { return };
        let verdict = match heard.load(Ordering::Relaxed) {
            WELL => Verdict::Success,
            ILL => Verdict::Failure,
            _ => verdict,
        };
        let _ = pick.record(verdict, now);
    }

    fn cancelled(place: Self::Place, now: Mono) {
        if let Some(Chosen { pick, .. }) = place {
            pick.cancelled(now);
        }
    }

    fn overtaken(place: Self::Place, now: Mono) {
        if let Some(Chosen { pick, .. }) = place {
            pick.overtaken(now);
        }
    }
}
