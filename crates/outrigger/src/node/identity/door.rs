//! Which app is behind which name, and how apps of other hosts are called as which of ours.

use super::{Identities, renewal::roots_of, source::Source};
use outrigger_api::{Behind, Doorkeeper};
use outrigger_calls::{
    AppChannel, AppProtocol, CallError, Caller, ClientTls, PeerPlace, PeerProof, PeerWays,
    discover::{At, Place},
};
use outrigger_identity::{AUTHORITY_NAME, Identity, Workload, authority_server};
use outrigger_kernel::{BoxFuture, Deadline, Wall};
use rustls::ServerConfig;
use std::{fmt, sync::Arc, time::Duration};

/// How long another runtime may take to say what an app speaks.
const LEARNED_WITHIN: Duration = Duration::from_secs(3);

/// An app of this process as other hosts see it.
pub(super) struct Hosted {
    pub(super) workload: Arc<Workload>,
    name: String,
    tls: Arc<ServerConfig>,
}

impl Hosted {
    pub(super) fn new(workload: Arc<Workload>) -> Result<Self, String> {
        let identity = workload.identity();
        let name = Identity::server_name(identity.namespace(), identity.app_id());
        let tls = workload.server().map_err(|refused| refused.to_string())?;
        Ok(Self { workload, name, tls })
    }
}

impl fmt::Debug for Hosted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.workload)
    }
}

/// What the authority shows, as long as that is fresh.
pub(super) struct Face {
    tls: Arc<ServerConfig>,
    roots: Vec<String>,
    stale: Wall,
}

impl Doorkeeper for Identities {
    fn admit(&self, name: &str) -> BoxFuture<'_, Option<Behind>> {
        if name == AUTHORITY_NAME {
            return Box::pin(self.authority());
        }
        let hosted = self.hosted.load();
        let found = hosted.iter().find(|hosted| hosted.name == name).map(|hosted| {
            let identity = hosted.workload.identity();
            Behind::App {
                tls: Arc::clone(&hosted.tls),
                namespace: identity.namespace().to_owned(),
                app_id: identity.app_id().to_owned(),
                skew: hosted.workload.credentials().skew(),
            }
        });
        Box::pin(std::future::ready(found))
    }
}

impl Identities {
    async fn authority(&self) -> Option<Behind> {
        let Source::Local(authority) = &self.source else { return None };
        let mut known = self.face.lock().await;
        let shown = async {
            let roots = roots_of(authority).await.map_err(|error| error.to_string())?;
            let usable = |face: &&Face| face.roots == roots && self.world.wall() < face.stale;
            if let Some(face) = known.as_ref().filter(usable) {
                return Ok(Arc::clone(&face.tls));
            }
            let made = authority.face().await.map_err(|error| error.to_string())?;
            let tls = authority_server(&made, Arc::clone(&self.world));
            let tls = tls.map_err(|refused| refused.to_string())?;
            *known = Some(Face { tls: Arc::clone(&tls), roots, stale: made.stale() });
            Ok::<_, String>(tls)
        };
        let tls = match shown.await {
            Ok(tls) => tls,
            Err(error) => {
                tracing::warn!(error, "the certificate authority cannot be asked");
                return None;
            }
        };
        Some(Behind::Authority { tls, authority: authority.clone() })
    }
}

impl PeerProof for Identities {
    fn tls(
        &self,
        caller: &Caller,
        namespace: &str,
        app_id: &str,
    ) -> Result<Arc<ClientTls>, String> {
        let workload = self
            .of(&caller.namespace, &caller.app_id)
            .ok_or_else(|| format!("the calling app {} has no identity", caller.app_id))?;
        let config = workload.calling(namespace, app_id).map_err(|refused| refused.to_string())?;
        let name = Identity::server_name(namespace, app_id);
        ClientTls::mutual(config, &name).map_err(|error| error.to_string())
    }
}

/// Makes the ways to apps of other hosts.
pub(super) struct Ways(Arc<Identities>);

impl Ways {
    pub(super) fn new(identities: &Arc<Identities>) -> Self {
        Self(Arc::clone(identities))
    }

    async fn learned(
        &self,
        app_id: &str,
        namespace: &str,
        place: PeerPlace,
    ) -> Result<Arc<AppChannel>, CallError> {
        let at = format!("{}:{}", place.host, place.port);
        let world = &self.0.world;
        let proof = Arc::clone(&self.0) as Arc<dyn PeerProof>;
        let app = (namespace, app_id);
        let channel = AppChannel::to_peer(AppProtocol::H2c, place, app, proof, Arc::clone(world));
        let asks = self.0.hosted.load().first().map(|hosted| hosted.workload.identity());
        let asks = asks.ok_or_else(|| CallError::NoPeerWay {
            app: app_id.to_owned(),
            place: at,
            reason: "no app of this process has an identity".to_owned(),
        })?;
        let caller = Caller {
            app_id: asks.app_id().to_owned(),
            namespace: asks.namespace().to_owned(),
            trust_domain: asks.trust_domain().to_owned(),
        };
        let deadline = Deadline::after(&**world, LEARNED_WITHIN);
        channel.learn(caller, deadline).await?;
        Ok(channel)
    }
}

impl PeerWays for Ways {
    fn way<'a>(
        &'a self,
        app_id: &'a str,
        namespace: &'a str,
        place: &'a Place,
    ) -> BoxFuture<'a, Result<Arc<AppChannel>, CallError>> {
        let place = match &place.at {
            At::Address(address) => {
                PeerPlace { host: address.ip().to_string(), port: address.port() }
            }
            At::Host(host, port) => PeerPlace { host: host.clone(), port: *port },
            At::Channel(channel) => {
                let channel = Arc::clone(channel);
                return Box::pin(std::future::ready(Ok(channel)));
            }
        };
        Box::pin(self.learned(app_id, namespace, place))
    }
}

impl fmt::Debug for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ways({:?})", self.0)
    }
}
