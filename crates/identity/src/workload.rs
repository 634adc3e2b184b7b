//! What an app proves itself with, swapped while it is in use: connections that are made from then on use the new
//! certificate, those that are there stay.

use crate::{
    Identity, Refused, SealKey, Trust, Usage,
    authority::{keys::ENROLLED, records::EnrolledRow},
    fingerprint,
    id::in_default,
    tls,
    trust::{leaf_of, times_of},
};
use arc_swap::ArcSwap;
use outrigger_kernel::{Deadline, Wall, World};
use outrigger_keyspace::{Space, TransactError, Tx};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use std::{fmt, sync::Arc, time::Duration};

/// How long keeping what was got may take.
const COMMIT_WITHIN: Duration = Duration::from_secs(5);

/// A key, the certificate that goes with it, and whom to believe.
#[derive(Clone)]
pub struct Credentials {
    identity: Identity,
    key: Arc<PrivateKeyDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    bundle: Vec<CertificateDer<'static>>,
    skew: Duration,
}

impl Credentials {
    /// A PKCS#8 key, its certificate with what leads to a root, and the roots.
    ///
    /// # Errors
    /// When there is no certificate, or it names no app. Whether it holds is looked at where it is used.
    pub fn new(
        key: Vec<u8>,
        chain: Vec<CertificateDer<'static>>,
        bundle: Vec<CertificateDer<'static>>,
        skew: Duration,
    ) -> Result<Self, Refused> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
        Self::of(key, chain, bundle, skew)
    }

    fn of(
        key: PrivateKeyDer<'static>,
        chain: Vec<CertificateDer<'static>>,
        bundle: Vec<CertificateDer<'static>>,
        skew: Duration,
    ) -> Result<Self, Refused> {
        let leaf = chain.first().ok_or(Refused::NoCertificate)?;
        let identity = Identity::parse(&leaf_of(leaf)?.uri)?;
        Ok(Self { identity, key: Arc::new(key), chain, bundle, skew })
    }

    /// The same from PEM texts, as files have them.
    ///
    /// # Errors
    /// When one of them cannot be read, or the certificate names no app.
    pub fn from_pem(
        key: &[u8],
        chain: &[u8],
        bundle: &[u8],
        skew: Duration,
    ) -> Result<Self, Refused> {
        let unreadable =
            |what: &str, error: &dyn fmt::Display| Refused::Unreadable(format!("{what}: {error}"));
        let key = PrivateKeyDer::from_pem_slice(key);
        let key = key.map_err(|error| unreadable("the key", &error))?;
        let all = |what: &str, pem: &[u8]| {
            let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
            read.map_err(|error| unreadable(what, &error))
        };
        Self::of(key, all("the certificate", chain)?, all("the roots", bundle)?, skew)
    }

    /// Whom it proves.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Key, chain and roots as PEM texts.
    #[must_use]
    pub fn to_pem(&self) -> [String; 3] {
        let key = pem("PRIVATE KEY", self.key.secret_der());
        let all = |list: &[CertificateDer<'_>]| {
            list.iter().map(|der| pem("CERTIFICATE", der)).collect::<String>()
        };
        [key, all(&self.chain), all(&self.bundle)]
    }

    /// When it begins and ends to hold.
    ///
    /// # Errors
    /// When the certificate cannot be read.
    pub fn span(&self) -> Result<(Wall, Wall), Refused> {
        let leaf = self.chain.first().ok_or(Refused::NoCertificate)?;
        let times = times_of(leaf)?;
        let wall = crate::authority::wall;
        Ok((wall(times.not_before), wall(times.not_after)))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.identity)
    }
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out + &format!("-----END {label}-----\n")
}

/// What one app of this process proves itself with.
pub struct Workload {
    current: ArcSwap<Current>,
    world: Arc<dyn World>,
}

pub(crate) struct Current {
    pub(crate) credentials: Credentials,
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) trust: Trust,
    span: (Wall, Wall),
}

impl Workload {
    /// Proves itself with `credentials`.
    ///
    /// # Errors
    /// [`Refused`] when they would be refused by anybody who trusts the same roots.
    pub fn new(credentials: Credentials, world: Arc<dyn World>) -> Result<Arc<Self>, Refused> {
        let current = judged(credentials, &*world)?;
        Ok(Arc::new(Self { current: ArcSwap::from_pointee(current), world }))
    }

    /// Proves itself with `credentials` from now on.
    ///
    /// # Errors
    /// When they would be refused, or are those of another app; the ones before stay in use then.
    pub fn replace(&self, credentials: Credentials) -> Result<(), Refused> {
        let (new, old) = (judged(credentials, &*self.world)?, self.identity());
        let identity = &new.credentials.identity;
        if !identity.is_app(old.namespace(), old.app_id()) {
            let (expected, found) = (old.to_string(), identity.to_string());
            return Err(Refused::SomebodyElse { expected, found });
        }
        self.current.store(Arc::new(new));
        Ok(())
    }

    /// Whom it proves.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.current.load().credentials.identity.clone()
    }

    /// What it proves itself with now.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        self.current.load().credentials.clone()
    }

    /// Until when it holds.
    #[must_use]
    pub fn expires(&self) -> Wall {
        self.current.load().span.1
    }

    /// When it should be renewed: after two thirds of its life.
    #[must_use]
    pub fn renew_at(&self) -> Wall {
        let (from, to) = self.current.load().span;
        from.plus(to.since(from) / 3 * 2)
    }

    pub(crate) fn now(&self) -> Wall {
        self.world.wall()
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }
}

fn judged(credentials: Credentials, world: &dyn World) -> Result<Current, Refused> {
    let identity = &credentials.identity;
    let trust = Trust::new(identity.trust_domain(), &credentials.bundle, credentials.skew)?;
    let key = tls::certified(&credentials.key, credentials.chain.clone())?;
    let (algorithms, now) = (tls::algorithms(), world.wall());
    for usage in [Usage::Client, Usage::Server] {
        trust.app(&credentials.chain, usage, now, &algorithms)?;
    }
    let span = credentials.span()?;
    Ok(Current { credentials, key, trust, span })
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Workload({})", self.identity())
    }
}

/// What was got from an authority elsewhere, kept so that a runtime that starts again need not join anew.
#[derive(Clone, Debug)]
pub struct Enrolments {
    space: Space,
    seal: SealKey,
}

/// Credentials and the authority they came from.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// Where the authority is.
    pub authority: String,
    /// What it gave.
    pub credentials: Credentials,
}

impl Enrolments {
    /// Those in `space`.
    #[must_use]
    pub fn new(space: Space, seal: SealKey) -> Self {
        Self { space, seal }
    }

    /// What is kept for an app; `None` when there is nothing, or nothing that can be read.
    ///
    /// # Errors
    /// When the store does not work.
    pub async fn get(&self, namespace: &str, app_id: &str) -> Result<Option<Enrolled>, String> {
        let key = (in_default(namespace).to_owned(), app_id.to_owned());
        let body = async |tx: Tx| {
            let row = tx.get(&ENROLLED, &key).await?;
            Ok::<_, TransactError<Refused>>(row.map(|(row, _)| row))
        };
        let deadline = Deadline::after(&**self.space.world(), COMMIT_WITHIN);
        let (row, _) =
            self.space.transact(deadline, body).await.map_err(|error| error.to_string())?;
        Ok(row.and_then(|row| self.opened(row)))
    }

    fn opened(&self, row: EnrolledRow) -> Option<Enrolled> {
        let key = self.seal.open(&row.sealed_key, &fingerprint(row.chain.first()?))?;
        let certificates =
            |list: Vec<Vec<u8>>| list.into_iter().map(CertificateDer::from).collect();
        let (chain, bundle) = (certificates(row.chain), certificates(row.bundle));
        let skew = Duration::from_millis(row.skew_ms);
        let credentials = Credentials::new(key, chain, bundle, skew).ok()?;
        Some(Enrolled { authority: row.authority, credentials })
    }

    /// Keeps what an authority gave.
    ///
    /// # Errors
    /// When the store does not work.
    pub async fn put(&self, enrolled: &Enrolled) -> Result<(), String> {
        let Enrolled { authority, credentials } = enrolled;
        let leaf = credentials.chain.first().ok_or("no certificate")?;
        let sealed = self.seal.seal(credentials.key.secret_der(), &fingerprint(leaf));
        let bytes = |list: &[CertificateDer<'_>]| list.iter().map(|der| der.to_vec()).collect();
        let row = EnrolledRow {
            authority: authority.clone(),
            chain: bytes(&credentials.chain),
            bundle: bytes(&credentials.bundle),
            sealed_key: sealed.map_err(|error| error.to_string())?,
            skew_ms: u64::try_from(credentials.skew.as_millis()).unwrap_or(0),
        };
        let identity = &credentials.identity;
        let key = (identity.namespace().to_owned(), identity.app_id().to_owned());
        let body = async |tx: Tx| {
            tx.put(&ENROLLED, &key, &row, None);
            Ok::<_, TransactError<Refused>>(())
        };
        let deadline = Deadline::after(&**self.space.world(), COMMIT_WITHIN);
        self.space.transact(deadline, body).await.map_err(|error| error.to_string())?;
        Ok(())
    }
}
