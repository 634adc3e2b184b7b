//! The authority of a trust domain: its roots and the tokens it has given, in a key space, so that every process that
//! shares the space is the same authority.
//!
//! ```text
//!   init --> root 1 signs ------- rotate ----------> root 1 is trusted ---- longest leaf's life ---> gone
//!                                   `-> root 2, signed by root 1 too, signs ...
//! ```
//!
//! The root with the highest number signs. A leaf of a root that followed another carries the signature of the earlier
//! one over the later one, for as long as the earlier one is trusted, so no host has to know of a rotation before it sees
//! the first certificate of the new root.
//!
//! The invariants: a token is used at most once, because using it is a commit that reads it unused; and a key that signs
//! is in the store only sealed.

pub(crate) mod keys;
pub(crate) mod records;
mod roots;

use crate::{
    Credentials, EnrolAnswer, EnrolRequest, Identity, JoinToken, KeyRequest, Refused, SealKey,
    fingerprint,
    id::in_default,
    signing::{self, RootKey, Span},
    tls::AuthorityFace,
    token::stored,
};
use keys::{ROOTS, TOKENS};
use outrigger_kernel::{Deadline, Wall};
use outrigger_keyspace::{Space, TransactError, Tx, Watch};
use records::{RootRow, TokenRow};
use roots::Roots;
use rustls::pki_types::CertificateDer;
use std::time::Duration;

pub(crate) use roots::wall;
pub use roots::{AuthorityStatus, RootState, RootStatus};

/// How long conflicting writers may keep a change from happening.
const COMMIT_WITHIN: Duration = Duration::from_secs(5);
/// How long a token is remembered after its time, so that whoever comes late hears why.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest and the longest life of a leaf.
const LEAF_TTL: (Duration, Duration) =
    (Duration::from_secs(10), Duration::from_secs(90 * 24 * 60 * 60));

/// How an authority works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthoritySettings {
    /// How long the certificates of apps hold.
    pub leaf_ttl: Duration,
    /// How much clocks may differ.
    pub skew: Duration,
    /// How long a root holds.
    pub root_ttl: Duration,
    /// How long a join token can be used.
    pub token_ttl: Duration,
}

impl Default for AuthoritySettings {
    fn default() -> Self {
        Self {
            leaf_ttl: DAY,
            skew: Duration::from_secs(15 * 60),
            root_ttl: DAY * 365,
            token_ttl: Duration::from_secs(15 * 60),
        }
    }
}

/// Why an authority did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Whoever asked is not believed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is none in this store.
    #[error("there is no certificate authority here")]
    Absent,
    /// The key of the seal is not the one its keys were sealed with.
    #[error(
        "the keys of the certificate authority are sealed with another key than the one beside this store"
    )]
    Sealed,
    /// Too many roots, or none of that fingerprint, or the one that signs.
    #[error("{0}")]
    Roots(&'static str),
    /// The store could not be read or written.
    #[error("the store did not do it: {0}")]
    Store(String),
}

impl From<TransactError<Self>> for AuthorityError {
    fn from(error: TransactError<Self>) -> Self {
        match error {
            TransactError::Refused(error) => error,
            other => Self::Store(other.to_string()),
        }
    }
}

/// The authority of one key space.
#[derive(Clone)]
pub struct Authority {
    space: Space,
    seal: SealKey,
    settings: AuthoritySettings,
}

impl Authority {
    /// The authority in `space`, whose keys are sealed with `seal`. Whether there is one shows when it is asked.
    #[must_use]
    pub fn new(space: Space, seal: SealKey, settings: AuthoritySettings) -> Self {
        let leaf_ttl = settings.leaf_ttl.clamp(LEAF_TTL.0, LEAF_TTL.1);
        Self { space, seal, settings: AuthoritySettings { leaf_ttl, ..settings } }
    }

    fn now(&self) -> Wall {
        self.space.world().wall()
    }

    async fn transact<T, F, Fut>(&self, body: F) -> Result<T, AuthorityError>
    where
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T, TransactError<AuthorityError>>>,
    {
        let deadline = Deadline::after(&**self.space.world(), COMMIT_WITHIN);
        Ok(self.space.transact(deadline, body).await?.0)
    }

    /// Makes the first root for `trust_domain`. Answers whether it did: where there is an authority it stays as it is.
    ///
    /// # Errors
    /// When the trust domain has no proper name, or the store does not work.
    pub async fn init(&self, trust_domain: &str) -> Result<bool, AuthorityError> {
        crate::id::check_trust_domain(trust_domain)?;
        let (_, row) = self.new_root(trust_domain)?;
        let row = &row;
        let body = async |tx: Tx| {
            let roots = Roots::read(&tx).await?;
            if roots.is_empty() {
                tx.put(&ROOTS, &(1,), row, None);
            }
            Ok(roots.is_empty())
        };
        self.transact(body).await
    }

    fn new_root(&self, trust_domain: &str) -> Result<(RootKey, RootRow), AuthorityError> {
        let root = signing::root(trust_domain, self.root_span())?;
        let sealed_key = self.seal.seal(&root.key, &fingerprint(&root.der))?;
        let row = RootRow {
            trust_domain: trust_domain.to_owned(),
            certificate: root.der.to_vec(),
            sealed_key,
            ..RootRow::default()
        };
        Ok((root, row))
    }

    fn root_span(&self) -> Span {
        Span { from: self.now(), lasts: self.settings.root_ttl }
    }

    /// What there is to know of it.
    ///
    /// # Errors
    /// [`AuthorityError::Absent`], and when the store does not work.
    pub async fn status(&self) -> Result<AuthorityStatus, AuthorityError> {
        let now = self.now();
        let roots = self.transact(async |tx: Tx| Roots::read(&tx).await).await?;
        roots.status(now).ok_or(AuthorityError::Absent)
    }

    /// Tells when its roots change.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.space.watch(ROOTS.range(&()))
    }

    /// A token with which a host can join once, as the app `app_id` of `namespace`.
    ///
    /// # Errors
    /// When the name cannot be one, or there is no authority.
    pub async fn token(&self, namespace: &str, app_id: &str) -> Result<JoinToken, AuthorityError> {
        let status = self.status().await?;
        Identity::new(&status.trust_domain, namespace, app_id)?;
        let signing = status.signing().ok_or(AuthorityError::Absent)?;
        let token = JoinToken::new(&signing.certificate)?;
        let expires = self.now().plus(self.settings.token_ttl);
        let row = TokenRow {
            namespace: in_default(namespace).to_owned(),
            app_id: app_id.to_owned(),
            expires_ms: expires.0,
            used_ms: 0,
        };
        let (key, row, token) = (token_key(token.secret()), &row, token);
        let forgotten = Some(expires.plus(REMEMBERED));
        let body = async |tx: Tx| {
            tx.put(&TOKENS, &key, row, forgotten);
            Ok(())
        };
        self.transact(body).await?;
        Ok(token)
    }

    /// A key and a certificate for the app `app_id` of `namespace`; whoever asks is trusted.
    ///
    /// # Errors
    /// When the name cannot be one, or there is no authority.
    pub async fn issue(
        &self,
        namespace: &str,
        app_id: &str,
    ) -> Result<Credentials, AuthorityError> {
        self.issue_for(namespace, app_id, self.settings.leaf_ttl).await
    }

    /// The same, for another time than usual.
    ///
    /// # Errors
    /// When the name cannot be one, or there is no authority.
    pub async fn issue_for(
        &self,
        namespace: &str,
        app_id: &str,
        ttl: Duration,
    ) -> Result<Credentials, AuthorityError> {
        let key = KeyRequest::new(None)?;
        let request = EnrolRequest {
            key_request: key.request().to_vec(),
            namespace: namespace.to_owned(),
            app_id: app_id.to_owned(),
            ..EnrolRequest::default()
        };
        let answer = self.sign(&request, None, ttl.clamp(LEAF_TTL.0, LEAF_TTL.1)).await?;
        Ok(key.answered(answer, namespace, app_id)?)
    }

    /// Answers a host that wants a certificate: for the secret of a token, or for `proven`, whom the connection proves.
    ///
    /// # Errors
    /// [`AuthorityError::Refused`] when neither is good for what is asked.
    pub async fn enrol(
        &self,
        request: &EnrolRequest,
        proven: Option<&Identity>,
    ) -> Result<EnrolAnswer, AuthorityError> {
        let ttl = self.settings.leaf_ttl;
        if !request.secret.is_empty() {
            return self.sign(request, Some(token_key(&request.secret)), ttl).await;
        }
        let proven = proven.ok_or(Refused::NoProof)?;
        if proven.is_app(&request.namespace, &request.app_id) {
            return self.sign(request, None, ttl).await;
        }
        let asked = format!("{}/{}", request.namespace, request.app_id);
        Err(Refused::SomebodyElse { expected: asked, found: proven.to_string() }.into())
    }

    /// Signs what is requested, and uses up the token `token` in the commit that lets the signature out.
    async fn sign(
        &self,
        request: &EnrolRequest,
        token: Option<(String,)>,
        ttl: Duration,
    ) -> Result<EnrolAnswer, AuthorityError> {
        let now = self.now();
        let token = &token;
        let body = async |tx: Tx| {
            if let Some(token) = token {
                let known = tx.get(&TOKENS, token).await?.map(|(row, _)| row);
                let used = use_up(known, request, now)
                    .map_err(|refused| TransactError::Refused(refused.into()))?;
                let forgotten = Some(Wall(used.expires_ms).plus(REMEMBERED));
                tx.put(&TOKENS, token, &used, forgotten);
            }
            let roots = Roots::read(&tx).await?;
            let answer = self.signed(&tx, &roots, request, now, ttl);
            answer.map_err(TransactError::Refused)
        };
        self.transact(body).await
    }

    fn signed(
        &self,
        tx: &Tx,
        roots: &Roots,
        request: &EnrolRequest,
        now: Wall,
        ttl: Duration,
    ) -> Result<EnrolAnswer, AuthorityError> {
        let (number, row) = roots.signing().ok_or(AuthorityError::Absent)?;
        let identity = Identity::new(&row.trust_domain, &request.namespace, &request.app_id)?;
        let ttl = ttl.min(roots::holds_until(row).since(now));
        let span = Span { from: now, lasts: ttl };
        let leaf = signing::requested(&self.opened(row)?, &identity, &request.key_request, span)?;
        let lasts = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        if row.longest_leaf_ms < lasts {
            let row = RootRow { longest_leaf_ms: lasts, ..row.clone() };
            tx.put(&ROOTS, &(number,), &row, None);
        }
        let mut chain = vec![leaf.to_vec()];
        chain.extend(roots.crossings(now));
        Ok(EnrolAnswer {
            chain,
            bundle: roots.bundle(now),
            skew_ms: u64::try_from(self.settings.skew.as_millis()).unwrap_or(0),
            ..EnrolAnswer::default()
        })
    }

    fn opened(&self, row: &RootRow) -> Result<RootKey, AuthorityError> {
        let der = CertificateDer::from(row.certificate.clone());
        let key = self.seal.open(&row.sealed_key, &fingerprint(&der));
        Ok(RootKey { der, key: key.ok_or(AuthorityError::Sealed)? })
    }

    /// What the authority itself shows to hosts that ask it: a certificate, what leads to its roots, and the roots, among
    /// which a host that joins finds the one its token names.
    ///
    /// # Errors
    /// [`AuthorityError::Absent`], and when the store does not work.
    pub async fn face(&self) -> Result<AuthorityFace, AuthorityError> {
        let now = self.now();
        let roots = self.transact(async |tx: Tx| Roots::read(&tx).await).await?;
        let (_, row) = roots.signing().ok_or(AuthorityError::Absent)?;
        let lasts = self.settings.leaf_ttl.min(roots::holds_until(row).since(now));
        let span = Span { from: now, lasts };
        let (key, leaf) = signing::for_authority(&self.opened(row)?, &row.trust_domain, span)?;
        let bundle: Vec<_> = roots.bundle(now).into_iter().map(CertificateDer::from).collect();
        let mut chain = vec![leaf];
        chain.extend(roots.crossings(now).into_iter().map(CertificateDer::from));
        chain.extend(bundle.iter().cloned());
        Ok(AuthorityFace {
            key,
            chain,
            bundle,
            trust_domain: row.trust_domain.clone(),
            skew: self.settings.skew,
            stale: now.plus(lasts / 2),
        })
    }

    /// Makes a new root that signs from now on. The one that did is trusted until the last of its leaves has expired.
    ///
    /// # Errors
    /// When there is no authority, or as many roots as can be trusted at once.
    pub async fn rotate(&self) -> Result<AuthorityStatus, AuthorityError> {
        let status = self.status().await?;
        let (new, made) = self.new_root(&status.trust_domain)?;
        let (new, made, now) = (&new, &made, self.now());
        let body = async |tx: Tx| {
            let roots = Roots::read(&tx).await?;
            let next = self.following(&tx, &roots, new, made, now);
            next.map_err(TransactError::Refused)
        };
        self.transact(body).await?;
        self.status().await
    }

    fn following(
        &self,
        tx: &Tx,
        roots: &Roots,
        new: &RootKey,
        made: &RootRow,
        now: Wall,
    ) -> Result<(), AuthorityError> {
        let (number, old) = roots.signing().ok_or(AuthorityError::Absent)?;
        if roots.is_full(now) {
            return Err(AuthorityError::Roots(
                "as many roots as can be trusted at once are: wait until one is retired, or retire one",
            ));
        }
        let crossed =
            signing::crossed(&self.opened(old)?, new, &made.trust_domain, self.root_span())?;
        let leaves = Duration::from_millis(old.longest_leaf_ms).max(self.settings.leaf_ttl);
        let retires = now.plus(leaves).plus(self.settings.skew);
        tx.put(&ROOTS, &(number,), &RootRow { retires_ms: retires.0, ..old.clone() }, None);
        let next = RootRow { crossed: crossed.to_vec(), ..made.clone() };
        tx.put(&ROOTS, &(number + 1,), &next, None);
        roots.retired(now).for_each(|number| tx.delete(&ROOTS, &(number,)));
        Ok(())
    }

    /// Stops trusting a root at once: the leaves it has signed are refused by everybody who hears of it.
    ///
    /// # Errors
    /// When no root begins with `fingerprint` (in hexadecimal), or it is the one that signs.
    pub async fn retire(&self, fingerprint: &str) -> Result<AuthorityStatus, AuthorityError> {
        let body = async |tx: Tx| {
            let roots = Roots::read(&tx).await?;
            let number = roots.named(fingerprint).map_err(TransactError::Refused)?;
            tx.delete(&ROOTS, &(number,));
            Ok(())
        };
        self.transact(body).await?;
        self.status().await
    }

    /// Takes roots out that are not trusted any more, and rotates when two thirds of the life of the one that signs are
    /// over. Answers whether anything changed.
    ///
    /// # Errors
    /// When the store does not work.
    pub async fn maintain(&self) -> Result<bool, AuthorityError> {
        let now = self.now();
        let body = async |tx: Tx| {
            let roots = Roots::read(&tx).await?;
            let retired: Vec<u32> = roots.retired(now).collect();
            retired.iter().for_each(|number| tx.delete(&ROOTS, &(*number,)));
            Ok((!retired.is_empty(), roots.is_old(now)))
        };
        let (removed, old) = self.transact(body).await?;
        if old {
            self.rotate().await?;
        }
        Ok(removed || old)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn token_key(secret: &[u8]) -> (String,) {
    (stored(secret).iter().map(|byte| format!("{byte:02x}")).collect(),)
}

/// The token's row once it is used for `request`.
fn use_up(known: Option<TokenRow>, request: &EnrolRequest, now: Wall) -> Result<TokenRow, Refused> {
    let row = known.ok_or(Refused::UnknownToken)?;
    if row.used_ms != 0 {
        return Err(Refused::UsedToken);
    }
    if row.expires_ms <= now.0 {
        return Err(Refused::ExpiredToken);
    }
    let namespace = in_default(&request.namespace);
    if row.namespace != namespace || row.app_id != request.app_id {
        return Err(Refused::TokenForAnother {
            expected: format!("{}/{}", row.namespace, row.app_id),
            asked: crate::id::shown(&format!("{namespace}/{}", request.app_id)),
        });
    }
    Ok(TokenRow { used_ms: now.0.max(1), ..row })
}
