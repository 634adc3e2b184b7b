//! An authority with a clock of its own, and certificates as nobody should make them.

mod authority;
mod handshakes;
mod refusals;

use crate::{
    Authority, AuthoritySettings, Credentials, EnrolAnswer, EnrolRequest, KeyRequest, SealKey,
    Workload,
    signing::{RootKey, Span},
};
use outrigger_kernel::World;
use outrigger_keyspace::{Space, memory::Memory};
use outrigger_sim::SimWorld;
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::{sync::Arc, time::Duration};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A host with an authority.
struct House {
    world: Arc<SimWorld>,
    space: Space,
    seal: SealKey,
    authority: Authority,
}

impl House {
    async fn new(trust_domain: &str) -> Self {
        let world = SimWorld::new(1);
        // A certificate cannot say a time before 1950, and the allowance for clocks looks back.
        world.jump_wall(1_800_000_000_000 - i64::try_from(world.wall().0).unwrap());
        let space = Space::new(Memory::new(world.clone()), world.clone());
        let seal = SealKey::new().unwrap();
        let authority = Authority::new(space.clone(), seal.clone(), AuthoritySettings::default());
        assert!(authority.init(trust_domain).await.unwrap());
        Self { world, space, seal, authority }
    }

    fn pass(&self, time: Duration) {
        self.world.jump_wall(i64::try_from(time.as_millis()).unwrap());
    }

    async fn workload(&self, app: &str) -> Arc<Workload> {
        self.own(self.authority.issue("", app).await.unwrap())
    }

    fn own(&self, credentials: Credentials) -> Arc<Workload> {
        Workload::new(credentials, self.world.clone()).unwrap()
    }

    /// Joins with the secret of a token; the code of the refusal where there is one.
    async fn join(&self, secret: &[u8], namespace: &str, app: &str) -> Result<Credentials, String> {
        let key = KeyRequest::new(None).unwrap();
        let request = EnrolRequest {
            secret: secret.to_vec(),
            key_request: key.request().to_vec(),
            namespace: namespace.to_owned(),
            app_id: app.to_owned(),
        };
        let answer: EnrolAnswer =
            self.authority.enrol(&request, None).await.map_err(|error| code(&error))?;
        Ok(key.answered(answer, namespace, app).unwrap())
    }
}

fn code(error: &crate::AuthorityError) -> String {
    match error {
        crate::AuthorityError::Refused(refused) => refused.code().to_owned(),
        other => format!("{other:?}"),
    }
}

/// A certificate that `root` has signed and that says whatever `write` makes it say.
fn written(
    root: &RootKey,
    span: Span,
    write: impl FnOnce(&mut CertificateParams),
) -> (CertificateDer<'static>, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    let at = |wall: outrigger_kernel::Wall| {
        time::OffsetDateTime::from_unix_timestamp(i64::try_from(wall.0 / 1_000).unwrap()).unwrap()
    };
    params.not_before = at(span.from);
    params.not_after = at(span.from.plus(span.lasts));
    write(&mut params);
    let signs = KeyPair::try_from(&PrivatePkcs8KeyDer::from(&root.key[..])).unwrap();
    let issuer = Issuer::from_ca_cert_der(&root.der, signs).unwrap();
    (params.signed_by(&key, &issuer).unwrap().der().clone(), key)
}

/// Says these names.
fn named(uris: &[&str]) -> impl FnOnce(&mut CertificateParams) {
    let names = uris.iter().map(|uri| rcgen::SanType::URI((*uri).try_into().unwrap())).collect();
    |params| params.subject_alt_names = names
}
