//! Kind `HTTPEndpoint`: an HTTP service outside, callable by name.

use crate::{
    issue::Origin,
    value::{Head, NamedValue, ValueSource},
};

/// An outside HTTP service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpEndpoint {
    /// Name, namespace, labels and scopes.
    pub head: Head,
    /// `spec.baseUrl`: absolute, `http` or `https`.
    pub base_url: String,
    /// `spec.headers`: added to every call.
    pub headers: Vec<NamedValue>,
    /// `spec.clientTLS`.
    pub client_tls: Option<ClientTls>,
    /// `auth.secretStore`: where secret references are looked up.
    pub secret_store: Option<String>,
    /// Where the document begins.
    pub origin: Origin,
}

/// TLS of the calling side. All three are PEM text once resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// `rootCA`: trusted instead of the system's roots.
    pub root_ca: Option<ValueSource>,
    /// `certificate` of the client.
    pub certificate: Option<ValueSource>,
    /// `privateKey` that belongs to it.
    pub private_key: Option<ValueSource>,
    /// `renegotiation`.
    pub renegotiation: Renegotiation,
}

/// Whether the server may ask for a new handshake. Only [`Renegotiation::Never`] exists in TLS 1.3; the others are read
/// and reported as having no effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Renegotiation {
    /// `RenegotiateNever`.
    #[default]
    Never,
    /// `RenegotiateOnceAsClient`.
    OnceAsClient,
    /// `RenegotiateFreelyAsClient`.
    FreelyAsClient,
}
