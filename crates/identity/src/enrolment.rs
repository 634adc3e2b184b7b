//! What two hosts say to each other when one joins, or renews: one request, one answer.
//!
//! The request carries the proof of a key ([`KeyRequest`]) and, the first time, the secret of a join token. Later ones are
//! proved by the certificate that the connection was made with. The answer always carries the whole bundle, so that news
//! of the roots travel with every renewal.

use crate::{Credentials, Identity, Refused, signing};
use prost::Message;
use rustls::pki_types::CertificateDer;
use std::time::Duration;

/// Where the authority takes requests.
pub const ENROL_PATH: &str = "/outrigger/identity/v1/enrol";
/// The largest request or answer.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Asks for a certificate.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct EnrolRequest {
    /// The secret of a join token; empty where the connection proves who asks.
    #[prost(bytes = "vec", tag = "1")]
    pub secret: Vec<u8>,
    /// The key's request, signed with it.
    #[prost(bytes = "vec", tag = "2")]
    pub key_request: Vec<u8>,
    /// The namespace of the app.
    #[prost(string, tag = "3")]
    pub namespace: String,
    /// The app.
    #[prost(string, tag = "4")]
    pub app_id: String,
}

/// The answer: certificates, or why there are none.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct EnrolAnswer {
    /// The app's certificate and what leads to a root.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub chain: Vec<Vec<u8>>,
    /// The roots to trust from now on.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub bundle: Vec<Vec<u8>>,
    /// How much clocks may differ.
    #[prost(uint64, tag = "3")]
    pub skew_ms: u64,
    /// The code of a refusal.
    #[prost(string, tag = "4")]
    pub code: String,
    /// The refusal in words.
    #[prost(string, tag = "5")]
    pub message: String,
}

/// A new key, and the request for a certificate with it.
pub struct KeyRequest {
    key: Vec<u8>,
    request: Vec<u8>,
}

impl KeyRequest {
    /// Makes a new key; `identity` names it, where it is known already.
    ///
    /// # Errors
    /// When the system makes no keys.
    pub fn new(identity: Option<&Identity>) -> Result<Self, Refused> {
        let (key, request) = signing::request(identity)?;
        Ok(Self { key, request })
    }

    /// What to send.
    #[must_use]
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// The key with what the authority answered.
    ///
    /// # Errors
    /// [`Refused`] when the answer is not for that app, or has no certificate.
    pub fn answered(
        self,
        answer: EnrolAnswer,
        namespace: &str,
        app_id: &str,
    ) -> Result<Credentials, Refused> {
        let certificates = |list: Vec<Vec<u8>>| list.into_iter().map(CertificateDer::from);
        let (chain, bundle) =
            (certificates(answer.chain).collect(), certificates(answer.bundle).collect());
        let skew = Duration::from_millis(answer.skew_ms);
        let credentials = Credentials::new(self.key, chain, bundle, skew)?;
        if credentials.identity().is_app(namespace, app_id) {
            return Ok(credentials);
        }
        Err(Refused::SomebodyElse {
            expected: format!(
                "the app {app_id} of the namespace {}",
                crate::id::in_default(namespace)
            ),
            found: credentials.identity().to_string(),
        })
    }
}

impl std::fmt::Debug for KeyRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyRequest")
    }
}
