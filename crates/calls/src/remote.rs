//! Apps that a runtime of another host has: connections over which both sides prove who they are.
//!
//! ```text
//!   this host                                               the other host
//!   AppChannel --HTTP/2 in TLS, as the calling app--> the certificate says who calls --> Relay --> access list --> app
//! ```
//!
//! What travels is what travels between processes of one machine ([`Neighbour`](crate::Neighbour)), with one difference:
//! who calls is not written in a header but proved by the connection. So every calling app has connections of its own to
//! a place. And the app that is called is proved as well: an address that meanwhile belongs to another app answers
//! nothing.

use crate::{
    CallError, Caller, ClientTls,
    wire::{Address, Pool, PoolSettings, Protocol, Security},
};
use arc_swap::ArcSwap;
use outrigger_kernel::World;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Most apps of one process that call one place.
const CALLERS_MAX: usize = 1_024;

/// What apps of this process prove themselves with on other hosts.
pub trait PeerProof: fmt::Debug + Send + Sync {
    /// TLS as `caller`, for the app `app_id` of `namespace` and nobody else.
    ///
    /// # Errors
    /// When the caller has no identity; the text says what to do.
    fn tls(&self, caller: &Caller, namespace: &str, app_id: &str)
    -> Result<Arc<ClientTls>, String>;
}

/// Where a runtime of another host listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPlace {
    /// Its host or address.
    pub host: String,
    /// Its port for other runtimes.
    pub port: u16,
}

/// The connections to one app at one place, by who calls.
pub(crate) struct Remote {
    place: PeerPlace,
    app: (String, String),
    proof: Arc<dyn PeerProof>,
    pools: ArcSwap<Vec<(Caller, Arc<Pool>)>>,
    changing: Mutex<()>,
}

impl Remote {
    pub(crate) fn new(
        place: PeerPlace,
        namespace: &str,
        app_id: &str,
        proof: Arc<dyn PeerProof>,
    ) -> Self {
        Self {
            place,
            app: (namespace.to_owned(), app_id.to_owned()),
            proof,
            pools: ArcSwap::default(),
            changing: Mutex::default(),
        }
    }

    /// The connections of `caller`.
    pub(crate) fn pool(
        &self,
        caller: Option<&Caller>,
        settings: &PoolSettings,
        world: &Arc<dyn World>,
    ) -> Result<Arc<Pool>, CallError> {
        let caller = caller.ok_or_else(|| self.no_way("it is not known who calls".to_owned()))?;
        let known = |pools: &[(Caller, Arc<Pool>)]| {
            pools.iter().find(|(known, _)| known == caller).map(|(_, pool)| Arc::clone(pool))
        };
        if let Some(pool) = known(&self.pools.load()) {
            return Ok(pool);
        }
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pools = self.pools.load().to_vec();
        if let Some(pool) = known(&pools) {
            return Ok(pool);
        }
        if pools.len() >= CALLERS_MAX {
            return Err(self.no_way("too many apps of this process call it".to_owned()));
        }
        let (namespace, app_id) = &self.app;
        let tls = self.proof.tls(caller, namespace, app_id);
        let tls = tls.map_err(|reason| self.no_way(reason))?;
        let PeerPlace { host, port } = self.place.clone();
        let security = Security::Checked(Some(tls));
        let address = Address::Host(host, port);
        let pool =
            Pool::new(address, Protocol::Http2, security, settings.clone(), Arc::clone(world));
        pools.push((caller.clone(), Arc::clone(&pool)));
        self.pools.store(Arc::new(pools));
        Ok(pool)
    }

    /// Whether no app of this process has got a connection there lately.
    pub(crate) fn is_away(&self) -> bool {
        let pools = self.pools.load();
        !pools.is_empty() && pools.iter().all(|(_, pool)| pool.is_away())
    }

    fn no_way(&self, reason: String) -> CallError {
        let PeerPlace { host, port } = &self.place;
        CallError::NoPeerWay { app: self.app.1.clone(), place: format!("{host}:{port}"), reason }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({:?})", self.place)
    }
}
