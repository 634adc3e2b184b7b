//! Kind `HTTPEndpoint`: an HTTP service outside, callable by name.

use crate::{
    codes,
    component::secret_store,
    fields::{Fields, Report},
    issue::Origin,
    value::{Head, NamedValue, ValueSource, named_values, value_source},
};

/// An outside HTTP service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpEndpoint {
    /// Name, namespace, labels and scopes.
    pub head: Head,
    /// `spec.baseUrl`: absolute, `http` or `https`.
    pub base_url: String,
    /// `spec.addresses`, a field of ours: where it is, if not where the name in the URL leads. Each is `host:port`, with
    /// `weight=N` behind it if wanted.
    pub addresses: Vec<String>,
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

impl HttpEndpoint {
    pub(crate) fn read(report: &mut Report, fields: &mut Fields<'_>, head: Head) -> Option<Self> {
        let origin = report.origin(fields.place());
        let secret_store = secret_store(report, fields);
        let Some(mut spec) = fields.object(report, "spec") else {
            fields.missing(report, "spec");
            return None;
        };
        let base_url = spec.required(report, "baseUrl");
        if !base_url.is_empty() && !is_absolute_http(&base_url) {
            let message = format!("\"{base_url}\" is not an absolute http or https URL");
            report.error(codes::BAD_URL, spec.place_of("baseUrl"), message);
        }
        let addresses = spec.texts(report, "addresses").unwrap_or_default();
        let headers = named_values(report, &mut spec, "headers");
        let client_tls = spec.object(report, "clientTLS").map(|tls| read_tls(report, tls));
        spec.finish_spec(report);
        Some(Self { head, base_url, addresses, headers, client_tls, secret_store, origin })
    }
}

fn is_absolute_http(url: &str) -> bool {
    let lower = url.to_ascii_lowercase();
    let rest = lower.strip_prefix("http://").or_else(|| lower.strip_prefix("https://"));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    host.is_some_and(|host| !host.is_empty() && !host.starts_with(':'))
        && !url.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn read_tls(report: &mut Report, mut fields: Fields<'_>) -> ClientTls {
    let mut part = |report: &mut Report, name: &'static str| {
        let mut part = fields.object(report, name)?;
        let source = value_source(report, &mut part);
        part.finish(report);
        source
    };
    let root_ca = part(report, "rootCA");
    let certificate = part(report, "certificate");
    let private_key = part(report, "privateKey");
    if certificate.is_some() != private_key.is_some() {
        let lacking = if certificate.is_some() { "privateKey" } else { "certificate" };
        fields.missing(report, lacking);
    }
    let choices = [
        ("RenegotiateNever", Renegotiation::Never),
        ("RenegotiateOnceAsClient", Renegotiation::OnceAsClient),
        ("RenegotiateFreelyAsClient", Renegotiation::FreelyAsClient),
    ];
    let renegotiation = fields.choice(report, "renegotiation", &choices).unwrap_or_default();
    if renegotiation != Renegotiation::Never {
        let message = "renegotiation has no effect: it does not exist in TLS 1.3";
        report.warn(codes::NO_EFFECT, fields.place_of("renegotiation"), message);
    }
    fields.finish(report);
    ClientTls { root_ca, certificate, private_key, renegotiation }
}

#[cfg(test)]
mod tests {
    use super::is_absolute_http;

    #[test]
    fn urls() {
        for good in ["http://a", "HTTPS://a:8443/x?y", "http://[::1]:80/"] {
            assert!(is_absolute_http(good), "{good}");
        }
        for bad in ["a.example", "ftp://a", "http://", "http:///x", "http://:80", "http://a b"] {
            assert!(!is_absolute_http(bad), "{bad}");
        }
    }
}
