//! Who the apps of this process are to other hosts, and the port through which those call them.
//!
//! ```text
//!   start -> a certificate for every app (the authority here, one elsewhere, or files) -> port open -> peers' ways
//!            after two thirds of its life, or when the roots or files change: another one, in place of the one before
//! ```
//!
//! | file | what |
//! |---|---|
//! | `source.rs` | where certificates come from |
//! | `joining.rs` | asking an authority on another host |
//! | `files.rs` | certificates that somebody else made |
//! | `renewal.rs` | certificates are followed by others in time |
//! | `door.rs` | which app is behind which name; how peers are called |
//! | `seal_file.rs` | the key beside the store |

mod door;
mod files;
pub(crate) mod joining;
mod renewal;
pub(crate) mod seal_file;
mod source;

pub(crate) use source::failed as source_failed;

use super::{Node, Notice};
use crate::{
    failure::{Exit, Failure},
    node::sockets::to_tokio,
    ports::{WhenTaken, bind},
    settings::node::{DataPlace, IdentitySource},
};
use arc_swap::ArcSwap;
use door::Hosted;
use outrigger_api::{Listener, serve_hosts};
use outrigger_calls::Relay;
use outrigger_identity::{AuthoritySettings, Workload};
use outrigger_kernel::World;
use source::Source;
use std::{fmt, sync::Arc, time::Duration};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The identities of a process.
pub(crate) struct Identities {
    source: Source,
    hosted: ArcSwap<Vec<Hosted>>,
    /// What the authority shows.
    face: tokio::sync::Mutex<Option<door::Face>>,
    stop: CancellationToken,
    serving: TaskTracker,
    world: Arc<dyn World>,
}

impl Identities {
    /// The app `app_id` of `namespace`, if it has an identity.
    fn of(&self, namespace: &str, app_id: &str) -> Option<Arc<Workload>> {
        let hosted = self.hosted.load();
        let own = hosted.iter().find(|one| one.workload.identity().is_app(namespace, app_id));
        own.map(|one| Arc::clone(&one.workload))
    }

    fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.world.spawn(name, Box::pin(self.serving.track_future(work))));
    }

    /// Lets nobody in any more, and waits for those who are.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.serving.close();
        self.serving.wait().await;
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({:?})", self.hosted.load())
    }
}

impl Node {
    /// Gives the apps of this process their identities, and lets other hosts in; nothing where nobody asked for it.
    ///
    /// # Errors
    /// When an app gets no certificate, or the port is taken.
    pub async fn prove_identities(self: &Arc<Self>, when_taken: WhenTaken) -> Result<(), Failure> {
        let Some(source) = self.identity_source().await? else { return Ok(()) };
        let settings = &self.settings.identity;
        let bound = bind(&[settings.address], &settings.port, when_taken, &self.ports)?;
        if let Some((from, _)) = &bound.moved_from {
            let told = format!(
                "port {from} is taken; other hosts reach this runtime at {} instead (--dapr-internal-grpc-port chooses)",
                bound.port
            );
            self.notice([Notice::plain(told)]);
        }
        let identities = Arc::new(Identities {
            source,
            hosted: ArcSwap::default(),
            face: tokio::sync::Mutex::default(),
            stop: CancellationToken::new(),
            serving: TaskTracker::new(),
            world: Arc::clone(&self.world),
        });
        let sides = self.sides().clone();
        let mut hosted = Vec::new();
        for side in sides {
            let (id, namespace) = (&side.settings().id, &side.settings().namespace);
            let workload = identities.first(namespace, id).await.map_err(|reason| {
                let what = format!("the app {id} has no identity");
                Failure::new("OUTR-0033", Exit::Failed, what).why(reason).help(
                    "see docs/reference/identity.md; without identities: leave out --enable-mtls, --ca and --identity-dir",
                )
            })?;
            let name = workload.identity();
            tracing::info!(app_id = id, "{id} is {name} to other hosts, at port {}", bound.port);
            hosted.push(Hosted::new(workload).map_err(Failure::internal)?);
        }
        identities.hosted.store(Arc::new(hosted));
        let relay = Arc::new(Relay::new(Arc::clone(&self.directory), Arc::clone(&self.invoker)));
        for socket in bound.sockets {
            let serve = serve_hosts(
                Arc::clone(&identities) as _,
                Arc::clone(&relay),
                Arc::clone(&self.world),
                Listener::Tcp(to_tokio(socket)?),
                identities.stop.clone(),
                self.settings.grace,
            );
            identities.spawn("host server", serve);
        }
        identities.keep_fresh();
        self.directory.set_peer_ways(Some(Box::new(door::Ways::new(&identities))));
        drop(self.identities.set(identities));
        Ok(())
    }

    /// Where certificates come from; `None` where there are to be none.
    async fn identity_source(&self) -> Result<Option<Source>, Failure> {
        let settings = &self.settings.identity;
        let sides = self.sides().clone();
        let said: Vec<_> =
            sides.iter().map(|side| side.host().configuration.load().mtls.clone()).collect();
        let on = said.iter().any(|mtls| mtls.enabled == Some(true));
        let chosen = settings.source != IdentitySource::Unsaid;
        if !settings.enabled.unwrap_or(on || chosen) {
            return Ok(None);
        }
        let first = |chosen: (Duration, bool), said: Option<Duration>| match chosen {
            (time, true) => time,
            (time, false) => said.filter(|time| !time.is_zero()).unwrap_or(time),
        };
        let ttl = said.iter().find_map(|mtls| mtls.workload_cert_ttl);
        let skew = said.iter().find_map(|mtls| mtls.allowed_clock_skew);
        let authority = AuthoritySettings {
            leaf_ttl: first(settings.ttl, ttl),
            skew: first(settings.skew, skew),
            ..AuthoritySettings::default()
        };
        let (space, seal) = self.identity_store()?;
        Source::open(settings, authority, space, seal).await.map(Some)
    }

    /// The store of roots and of what was got from elsewhere, with its seal.
    fn identity_store(
        &self,
    ) -> Result<(outrigger_keyspace::Space, outrigger_identity::SealKey), Failure> {
        match &self.settings.data {
            DataPlace::Folder(folder) => {
                let none = || Failure::internal("a data folder without a store");
                let space = self.engines.durable()?.ok_or_else(none)?;
                Ok((space, seal_file::of(folder)?))
            }
            DataPlace::Memory => {
                let space = self.engines.space(&super::serving::Serving::Memory)?;
                let seal = outrigger_identity::SealKey::new();
                Ok((space, seal.map_err(|refused| Failure::internal(refused.to_string()))?))
            }
        }
    }
}
