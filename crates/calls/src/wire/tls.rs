//! TLS of the calling side: whom to trust and who to be.
//!
//! One cryptography provider for the whole house, named here and never looked up from process-wide state, so that no
//! other library's choice can change it.

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use std::{
    fmt,
    sync::{Arc, OnceLock},
};

/// How one endpoint is trusted and how we show it who we are.
pub struct ClientTls {
    config: ClientConfig,
    peer: Option<ServerName<'static>>,
}

/// TLS material that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadTls {
    /// The root certificates cannot be read.
    #[error("the root certificate is not usable: {0}")]
    RootCa(String),
    /// The client's certificate cannot be read.
    #[error("the client certificate is not usable: {0}")]
    Certificate(String),
    /// The client's key cannot be read.
    #[error("the private key is not usable: {0}")]
    PrivateKey(String),
    /// One of certificate and key without the other.
    #[error("a client certificate and its private key only work together")]
    Half,
    /// Not a name that can be asked for.
    #[error("{0:?} is not a name that a TLS server can be asked for")]
    Name(String),
    /// This system has no root certificates.
    #[error("this system has no root certificates: {0}")]
    NoRoots(String),
}

impl ClientTls {
    /// Takes everything as PEM text. Without `root_ca`, the system's roots are trusted.
    ///
    /// # Errors
    /// [`BadTls`] when something cannot be read or does not fit together.
    pub fn from_pem(
        root_ca: Option<&[u8]>,
        certificate: Option<&[u8]>,
        private_key: Option<&[u8]>,
    ) -> Result<Arc<Self>, BadTls> {
        let roots = match root_ca {
            Some(pem) => Arc::new(roots_from_pem(pem)?),
            None => system_roots()?,
        };
        let config = builder()?.with_root_certificates(roots);
        let config = match (certificate, private_key) {
            (None, None) => config.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate).map_err(BadTls::Certificate)?;
                let key = PrivateKeyDer::from_pem_slice(key);
                let key = key.map_err(|error| BadTls::PrivateKey(error.to_string()))?;
                let config = config.with_client_auth_cert(chain, key);
                config.map_err(|error| BadTls::PrivateKey(error.to_string()))?
            }
            _ => return Err(BadTls::Half),
        };
        Ok(Arc::new(Self { config, peer: None }))
    }

    /// For a runtime of another host, which is asked for by `name` wherever it is, and which looks at our certificate
    /// just as we look at its own. `config` says how.
    ///
    /// # Errors
    /// [`BadTls`] when `name` is not one that can be asked for.
    pub fn mutual(config: ClientConfig, name: &str) -> Result<Arc<Self>, BadTls> {
        let peer = ServerName::try_from(name.to_owned());
        let peer = peer.map_err(|_| BadTls::Name(name.to_owned()))?;
        Ok(Arc::new(Self { config, peer: Some(peer) }))
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

/// Whether and how a connection is protected.
#[derive(Clone, Debug)]
pub(crate) enum Security {
    /// No TLS.
    Plain,
    /// TLS with whoever answers.
    Unchecked,
    /// TLS with a certificate that is checked, by the system's roots if nothing else is given.
    Checked(Option<Arc<ClientTls>>),
}

impl Security {
    /// By which name the other side is asked for, where that is not its address.
    pub(crate) fn peer(&self) -> Option<&ServerName<'static>> {
        match self {
            Self::Checked(Some(tls)) => tls.peer.as_ref(),
            _ => None,
        }
    }

    /// The TLS settings, offering `protocols`; `None` for plain connections.
    pub(crate) fn config(&self, protocols: &[&[u8]]) -> Result<Option<Arc<ClientConfig>>, BadTls> {
        let mut config = match self {
            Self::Plain => return Ok(None),
            Self::Unchecked => unchecked()?,
            Self::Checked(Some(tls)) => tls.config.clone(),
            Self::Checked(None) => {
                builder()?.with_root_certificates(system_roots()?).with_no_client_auth()
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Some(Arc::new(config)))
    }
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, BadTls> {
    // Fails only for a provider without cipher suites, which ours is not.
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| BadTls::NoRoots(error.to_string()))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| error.to_string())?;
    if read.is_empty() { Err("there is none in it".to_owned()) } else { Ok(read) }
}

fn roots_from_pem(pem: &[u8]) -> Result<RootCertStore, BadTls> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem).map_err(BadTls::RootCa)? {
        roots.add(certificate).map_err(|error| BadTls::RootCa(error.to_string()))?;
    }
    Ok(roots)
}

/// Read once: it takes several milliseconds and hardly ever changes while a process lives.
fn system_roots() -> Result<Arc<RootCertStore>, BadTls> {
    static ROOTS: OnceLock<Result<Arc<RootCertStore>, String>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _unreadable) = roots.add_parsable_certificates(found.certs);
        if added > 0 {
            return Ok(Arc::new(roots));
        }
        let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        Err(reasons.join(", "))
    });
    roots.clone().map_err(BadTls::NoRoots)
}

fn unchecked() -> Result<ClientConfig, BadTls> {
    let takes_any = Arc::new(TakesAny(provider()));
    Ok(builder()?.dangerous().with_custom_certificate_verifier(takes_any).with_no_client_auth())
}

/// Takes any certificate: for the app beside us, which made its own.
#[derive(Debug)]
struct TakesAny(Arc<CryptoProvider>);

impl ServerCertVerifier for TakesAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
