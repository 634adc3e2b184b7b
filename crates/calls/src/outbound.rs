//! Calls to services outside: plain or with TLS, HTTP/1.1 or HTTP/2 as the other side likes.

use crate::{
    AppChannel, Base, Body, CallError, Instances, Patience,
    discover::{At, DnsClient, PLACES_MAX, Place},
    headers::strip_hop_by_hop,
    outgoing::Outgoing,
    target::Member,
    wire::{Address, Pool, PoolSettings, Protocol, Security},
};
use http::{Request, Response};
use outrigger_kernel::World;
use outrigger_resilience::WEIGHT_MAX;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use crate::wire::{BadTls, ClientTls};

/// How many different services outside are remembered with their connections.
const ORIGINS_MAX: usize = 256;

/// How services outside are reached.
#[derive(Clone, Debug)]
pub struct OutboundSettings {
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// How long a connection may be unused before it is closed.
    pub idle_for: Duration,
    /// Which addresses a name may lead to.
    pub reach: Reach,
}

impl Default for OutboundSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            idle_for: Duration::from_secs(60),
            reach: Reach::Anywhere,
        }
    }
}

/// Which addresses calls to services outside may go to. Looked at after names are resolved, on the address that is then
/// connected to, so a name cannot be pointed elsewhere in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// All of them.
    #[default]
    Anywhere,
    /// Only addresses of the public internet: not this machine, not the local network, not a cloud's metadata service.
    Public,
}

/// Calls services outside, keeping connections to each.
pub struct OutboundClient {
    settings: OutboundSettings,
    world: Arc<dyn World>,
    dns: DnsClient,
    origins: Mutex<HashMap<Origin, Known>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Origin {
    /// Scheme, host and port.
    root: String,
    /// Which identity and trust; two endpoints at one address may differ in it, and must not share connections.
    tls: usize,
}

struct Known {
    pool: Arc<Pool>,
    /// Keeps the identity alive, so that its number is not given to another one.
    _tls: Option<Arc<ClientTls>>,
    used: u64,
}

impl OutboundClient {
    /// A client without connections yet.
    #[must_use]
    pub fn new(settings: OutboundSettings, world: Arc<dyn World>) -> Arc<Self> {
        let dns = DnsClient::system(Arc::clone(&world));
        Arc::new(Self { settings, world, dns, origins: Mutex::default() })
    }

    /// Sends a request to `base`; of its URI, path and query are appended to the base's path. The answer is handed back
    /// as it is: redirects are not followed.
    ///
    /// # Errors
    /// [`CallError`] when there is no answer.
    pub async fn send(
        &self,
        base: &Base,
        tls: Option<&Arc<ClientTls>>,
        mut request: Request<Body>,
        patience: Patience,
    ) -> Result<Response<Body>, CallError> {
        strip_hop_by_hop(request.headers_mut());
        self.exchange(base, tls, &mut Outgoing::new(request).await, patience).await
    }

    pub(crate) async fn exchange(
        &self,
        base: &Base,
        tls: Option<&Arc<ClientTls>>,
        outgoing: &mut Outgoing,
        patience: Patience,
    ) -> Result<Response<Body>, CallError> {
        join(base, outgoing)?;
        self.pool(base, tls).exchange(outgoing, patience, None).await
    }

    /// The service `base` at `places`, each with connections of its own: who is asked for and who has to prove it is the
    /// host of `base`, whatever the place. The name is what errors and policies call it.
    #[must_use]
    pub fn instances(
        &self,
        name: &str,
        base: &Base,
        tls: Option<&Arc<ClientTls>>,
        places: &[Place],
    ) -> Arc<Instances> {
        let member = |place: &Place| {
            let (host, port) = match &place.at {
                At::Address(address) => (address.ip().to_string(), address.port()),
                At::Host(host, port) => (host.clone(), *port),
                At::Channel(_) => return None,
            };
            let pool = self.new_pool(base, tls, Some((host, port)));
            let channel = AppChannel::outside(pool, Arc::clone(&self.world));
            let (weight, zone) = (place.weight.min(WEIGHT_MAX), place.zone.clone());
            Some(Member { channel, weight, zone, here: true })
        };
        let members = places.iter().take(PLACES_MAX).filter_map(member).collect();
        Arc::new(Instances::new(name, "", members, None, None))
    }

    fn pool(&self, base: &Base, tls: Option<&Arc<ClientTls>>) -> Arc<Pool> {
        let identity = tls.map_or(0, |tls| Arc::as_ptr(tls).addr());
        let origin = Origin { root: base.root().to_owned(), tls: identity };
        let now = self.world.mono().0;
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = origins.get_mut(&origin) {
            known.used = now;
            return Arc::clone(&known.pool);
        }
        if origins.len() >= ORIGINS_MAX {
            // Calls under way keep their pool; only what was kept for later is lost.
            let oldest = origins.iter().min_by_key(|(_, known)| known.used);
            let oldest = oldest.map(|(origin, _)| origin.clone());
            oldest.and_then(|origin| origins.remove(&origin));
        }
        let pool = self.new_pool(base, tls, None);
        let known = Known { pool: Arc::clone(&pool), _tls: tls.cloned(), used: now };
        origins.insert(origin, known);
        pool
    }

    fn new_pool(
        &self,
        base: &Base,
        tls: Option<&Arc<ClientTls>>,
        at: Option<(String, u16)>,
    ) -> Arc<Pool> {
        let (protocol, security) = if base.https() {
            (Protocol::Negotiated, Security::Checked(tls.cloned()))
        } else {
            (Protocol::Http1, Security::Plain)
        };
        let (host, port) = at.unwrap_or_else(|| (base.host().to_owned(), base.port()));
        let address = Address::Outside {
            host,
            port,
            proves: base.host().to_owned(),
            authority: base.authority().clone(),
            reach: self.settings.reach,
            dns: Some(self.dns.clone()),
        };
        let settings = PoolSettings::outside(self.settings.connect_timeout, self.settings.idle_for);
        Pool::new(address, protocol, security, settings, Arc::clone(&self.world))
    }
}

/// Appends path and query to the base's path.
pub(crate) fn join(base: &Base, outgoing: &mut Outgoing) -> Result<(), CallError> {
    if base.path().is_empty() {
        return Ok(());
    }
    let uri = &outgoing.head.uri;
    let query = uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    let joined = format!("{}{}{query}", base.path(), uri.path());
    outgoing.head.uri = joined.parse().map_err(|_| CallError::BadTarget {
        target: base.as_str().to_owned(),
        reason: "the path does not fit behind it",
    })?;
    Ok(())
}

impl fmt::Debug for OutboundClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        write!(f, "OutboundClient({} origins)", origins.len())
    }
}
