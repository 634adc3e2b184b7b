//! rustls settings made of identities. TLS 1.3 only, no early data, no resumption: every connection proves both sides
//! anew, by what they have at that moment.

use crate::{Identity, JoinToken, Refused, Trust, Usage, Workload, fingerprint, workload::Current};
use outrigger_kernel::{Wall, World};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    ServerConfig, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::TLS13,
};
use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

/// The host name by which an authority is asked for.
pub const AUTHORITY_NAME: &str = "ca.outrigger";
/// How much the clock of a host that joins may differ. What it gets is judged more strictly.
const JOIN_SKEW: Duration = Duration::from_secs(24 * 60 * 60);
/// What is spoken inside.
const HTTP2: &[u8] = b"h2";

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

pub(crate) fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

/// A key with its certificate, if they belong together.
pub(crate) fn certified(
    key: &PrivateKeyDer<'static>,
    chain: Vec<CertificateDer<'static>>,
) -> Result<Arc<CertifiedKey>, Refused> {
    let mismatch = |error: Error| Refused::KeyMismatch(error.to_string());
    let key = provider().key_provider.load_private_key(key.clone_key()).map_err(mismatch)?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(mismatch)?;
    Ok(Arc::new(certified))
}

fn refused(reason: Refused) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Coded(reason)))))
}

/// A refusal as it stands in logs and answers: with its code and what to do.
struct Coded(Refused);

impl fmt::Debug for Coded {
    /// As rustls shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}; {})", self.0, self.0.code(), self.0.remedy())
    }
}

impl std::error::Error for Coded {}

impl Workload {
    /// For serving as this app: whoever calls must prove an app of the same trust domain.
    ///
    /// # Errors
    /// Never with the provider that is built in.
    pub fn server(self: &Arc<Self>) -> Result<Arc<ServerConfig>, Refused> {
        let callers = Arc::new(Callers { judge: Judge::Workload(Arc::clone(self)), must: true });
        server(callers, Arc::new(Shows(Arc::clone(self))))
    }

    /// For calling the app `app_id` of `namespace` as this one.
    ///
    /// # Errors
    /// Never with the provider that is built in.
    pub fn calling(
        self: &Arc<Self>,
        namespace: &str,
        app_id: &str,
    ) -> Result<ClientConfig, Refused> {
        let expected = Expected::App(namespace.to_owned(), app_id.to_owned());
        client(
            Callees { workload: Arc::clone(self), expected },
            Some(Arc::new(Shows(Arc::clone(self)))),
        )
    }

    /// For asking the authority of the same trust domain, as this app.
    ///
    /// # Errors
    /// Never with the provider that is built in.
    pub fn renewing(self: &Arc<Self>) -> Result<ClientConfig, Refused> {
        let callees = Callees { workload: Arc::clone(self), expected: Expected::Authority };
        client(callees, Some(Arc::new(Shows(Arc::clone(self)))))
    }
}

/// For asking an authority that is known only by the fingerprint in a join token.
///
/// # Errors
/// Never with the provider that is built in.
pub fn joining(token: &JoinToken, world: Arc<dyn World>) -> Result<ClientConfig, Refused> {
    client(Pinned { root: *token.root(), world }, None)
}

/// Whom the other side of an accepted connection has proved to be; `None` where it has shown nothing. Until when that
/// holds.
///
/// # Errors
/// [`Refused`] when what it has shown names no app, which whoever verified it has refused before.
pub fn peer(shown: Option<&[CertificateDer<'_>]>) -> Result<Option<(Identity, Wall)>, Refused> {
    let Some(leaf) = shown.and_then(<[_]>::first) else { return Ok(None) };
    let leaf = crate::trust::leaf_of(leaf)?;
    Ok(Some((Identity::parse(&leaf.uri)?, crate::authority::wall(leaf.times.not_after))))
}

/// What an authority shows to hosts.
#[derive(Clone)]
pub struct AuthorityFace {
    pub(crate) key: Vec<u8>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) bundle: Vec<CertificateDer<'static>>,
    pub(crate) trust_domain: String,
    pub(crate) skew: Duration,
    pub(crate) stale: Wall,
}

impl AuthorityFace {
    /// From when on a new one should be made.
    #[must_use]
    pub fn stale(&self) -> Wall {
        self.stale
    }
}

impl fmt::Debug for AuthorityFace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityFace({})", self.trust_domain)
    }
}

/// For serving as an authority: whoever asks may prove an app, and has a token otherwise.
///
/// # Errors
/// When the face is not whole.
pub fn authority_server(
    face: &AuthorityFace,
    world: Arc<dyn World>,
) -> Result<Arc<ServerConfig>, Refused> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(face.key.clone()));
    let key = certified(&key, face.chain.clone())?;
    let trust = Trust::new(&face.trust_domain, &face.bundle, face.skew)?;
    let callers = Callers { judge: Judge::Trust(trust, world), must: false };
    server(Arc::new(callers), Arc::new(ShowsOne(key)))
}

fn server(
    callers: Arc<dyn ClientCertVerifier>,
    shows: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, Refused> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| Refused::BadRequest(error.to_string()))?;
    let mut config = builder.with_client_cert_verifier(callers).with_cert_resolver(shows);
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

fn client(
    verifier: impl ServerCertVerifier + 'static,
    shows: Option<Arc<dyn ResolvesClientCert>>,
) -> Result<ClientConfig, Refused> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| Refused::BadRequest(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match shows {
        Some(shows) => builder.with_client_cert_resolver(shows),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// Shows what a workload has at the moment.
struct Shows(Arc<Workload>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current().key))
    }
}

impl ResolvesClientCert for Shows {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current().key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for Shows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shows({:?})", self.0)
    }
}

/// Shows one thing.
#[derive(Debug)]
struct ShowsOne(Arc<CertifiedKey>);

impl ResolvesServerCert for ShowsOne {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn tls12() -> Error {
    Error::General("only TLS 1.3 is spoken between hosts".to_owned())
}

fn whole<'a>(
    leaf: &CertificateDer<'a>,
    intermediates: &[CertificateDer<'a>],
) -> Vec<CertificateDer<'a>> {
    [leaf].into_iter().chain(intermediates).cloned().collect()
}

/// By what callers are judged.
enum Judge {
    Workload(Arc<Workload>),
    Trust(Trust, Arc<dyn World>),
}

/// Judges whoever calls.
struct Callers {
    judge: Judge,
    must: bool,
}

impl ClientCertVerifier for Callers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        self.must
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let (chain, algorithms) = (whole(leaf, intermediates), algorithms());
        let judged = match &self.judge {
            Judge::Workload(workload) => {
                let current = workload.current();
                current.trust.app(&chain, Usage::Client, workload.now(), &algorithms)
            }
            Judge::Trust(trust, world) => {
                trust.app(&chain, Usage::Client, world.wall(), &algorithms)
            }
        };
        judged.map(|_| ClientCertVerified::assertion()).map_err(refused)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Callers(must: {})", self.must)
    }
}

/// Who is expected to answer.
#[derive(Debug)]
enum Expected {
    App(String, String),
    Authority,
}

/// Judges whoever answers.
#[derive(Debug)]
struct Callees {
    workload: Arc<Workload>,
    expected: Expected,
}

impl Callees {
    fn judge(&self, chain: &[CertificateDer<'_>], current: &Current) -> Result<(), Refused> {
        let (algorithms, now) = (algorithms(), self.workload.now());
        match &self.expected {
            Expected::Authority => current.trust.authority(chain, now, &algorithms),
            Expected::App(namespace, app_id) => {
                let found = current.trust.app(chain, Usage::Server, now, &algorithms)?;
                if found.is_app(namespace, app_id) {
                    return Ok(());
                }
                let expected = Identity::new(current.trust.trust_domain(), namespace, app_id)?;
                let (expected, found) = (expected.to_string(), found.to_string());
                Err(Refused::SomebodyElse { expected, found })
            }
        }
    }
}

impl ServerCertVerifier for Callees {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = self.judge(&whole(leaf, intermediates), &self.workload.current());
        judged.map(|()| ServerCertVerified::assertion()).map_err(refused)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// Believes only the authority that has a certain root.
struct Pinned {
    root: [u8; 32],
    world: Arc<dyn World>,
}

impl Pinned {
    fn judge(&self, chain: &[CertificateDer<'_>]) -> Result<(), Refused> {
        let now = self.world.wall();
        let root = chain.iter().skip(1).find(|der| fingerprint(der) == self.root);
        let root = root.ok_or(Refused::OtherRoot)?.clone().into_owned();
        let trust_domain = crate::trust::domain_of_root(&root)?;
        // The fingerprint says more than the time.
        Trust::new(&trust_domain, &[root], JOIN_SKEW)?.authority(chain, now, &algorithms())
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = self.judge(&whole(leaf, intermediates));
        judged.map(|()| ServerCertVerified::assertion()).map_err(refused)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pinned")
    }
}
