//! An identity: a SPIFFE id of one shape, and the name that stands for an app in a TLS handshake.
//!
//! SPIFFE ids are compared byte by byte, so everything that could be spelled in two ways (an upper-case trust domain, a
//! percent sign, an empty segment, a query) is refused instead of being tidied up.

use crate::Refused;
use aws_lc_rs::digest::{SHA256, digest};
use std::fmt;

/// The namespace of apps that name none.
const DEFAULT_NAMESPACE: &str = "default";
/// The longest name of a trust domain, namespace or app.
const NAME_BYTES_MAX: usize = 255;
const SCHEME: &str = "spiffe://";

/// Who an app is: `spiffe://<trust domain>/ns/<namespace>/<app id>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    trust_domain: String,
    namespace: String,
    app_id: String,
}

impl Identity {
    /// The app `app_id` of `namespace` (the default one if empty) in `trust_domain`.
    ///
    /// # Errors
    /// [`Refused::BadName`] when one of them cannot stand in a SPIFFE id.
    pub fn new(trust_domain: &str, namespace: &str, app_id: &str) -> Result<Self, Refused> {
        let namespace = in_default(namespace);
        check_trust_domain(trust_domain)?;
        for name in [namespace, app_id] {
            check_segment(name)?;
        }
        let [trust_domain, namespace, app_id] =
            [trust_domain, namespace, app_id].map(ToOwned::to_owned);
        Ok(Self { trust_domain, namespace, app_id })
    }

    /// Reads a SPIFFE id of our shape.
    ///
    /// # Errors
    /// [`Refused::NotAnApp`] for every other text.
    pub fn parse(uri: &str) -> Result<Self, Refused> {
        let not = || Refused::NotAnApp { uri: shown(uri) };
        let rest = uri.strip_prefix(SCHEME).ok_or_else(not)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let [trust_domain, "ns", namespace, app_id] = parts[..] else { return Err(not()) };
        // An empty namespace means the default one where people write it, but not here.
        if namespace.is_empty() {
            return Err(not());
        }
        Self::new(trust_domain, namespace, app_id).map_err(|_| not())
    }

    /// Its trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Its namespace; never empty.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its app id.
    #[must_use]
    pub fn app_id(&self) -> &str {
        &self.app_id
    }

    /// Whether it is the app `app_id` of `namespace`, in whatever trust domain.
    #[must_use]
    pub fn is_app(&self, namespace: &str, app_id: &str) -> bool {
        self.app_id == app_id && self.namespace == in_default(namespace)
    }

    /// The host name by which a caller asks for the certificate of an app.
    ///
    /// App ids may be longer than a host name, and their case counts where that of host names does not. So the name is
    /// made of a hash: the same for everybody, and no two apps share one.
    #[must_use]
    pub fn server_name(namespace: &str, app_id: &str) -> String {
        let hash = digest(&SHA256, [in_default(namespace), "/", app_id].concat().as_bytes());
        let hex: String = hash.as_ref()[..20].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{hex}.app.outrigger")
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trust_domain, namespace, app_id } = self;
        write!(f, "{SCHEME}{trust_domain}/ns/{namespace}/{app_id}")
    }
}

/// The SPIFFE id of the authority of a trust domain. No app can have it: an app's has more segments.
pub(crate) fn of_authority(trust_domain: &str) -> String {
    format!("{SCHEME}{trust_domain}/ca")
}

pub(crate) fn in_default(namespace: &str) -> &str {
    if namespace.is_empty() { DEFAULT_NAMESPACE } else { namespace }
}

pub(crate) fn check_trust_domain(name: &str) -> Result<(), Refused> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    if !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(fits) {
        return Ok(());
    }
    Err(Refused::BadName {
        name: shown(name),
        rule: "lower-case letters, digits, '-', '_' and '.'",
    })
}

fn check_segment(name: &str) -> Result<(), Refused> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let sized = !name.is_empty() && name.len() <= NAME_BYTES_MAX;
    if sized && name.bytes().all(fits) && name != "." && name != ".." {
        return Ok(());
    }
    Err(Refused::BadName { name: shown(name), rule: "letters, digits, '-', '_' and '.'" })
}

/// What somebody else wrote, short enough for a message.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(120).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::Identity;

    #[test]
    fn what_is_written_is_read() {
        for (domain, namespace, app) in
            [("public", "", "shop"), ("prod.example.com", "eu-1", "Shop_2.b"), ("d", "ns", "ns")]
        {
            let id = Identity::new(domain, namespace, app).unwrap();
            assert_eq!(Identity::parse(&id.to_string()).unwrap(), id);
            assert!(id.is_app(namespace, app));
        }
        let id = Identity::new("public", "", "shop").unwrap();
        assert_eq!(id.to_string(), "spiffe://public/ns/default/shop");
        assert!(!id.is_app("", "Shop") && !id.is_app("prod", "shop"));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for uri in [
            "",
            "spiffe://",
            "spiffe://public",
            "spiffe://public/ns/default",
            "spiffe://public/ns/default/",
            "spiffe://public/ns//shop",
            "spiffe:///ns/default/shop",
            "spiffe://public/ns/default/shop/",
            "spiffe://public/ns/default/shop/x",
            "spiffe://public/NS/default/shop",
            "spiffe://PUBLIC/ns/default/shop",
            "SPIFFE://public/ns/default/shop",
            "https://public/ns/default/shop",
            "spiffe://u@public/ns/default/shop",
            "spiffe://public:443/ns/default/shop",
            "spiffe://public/ns/default/shop?x=1",
            "spiffe://public/ns/default/shop#x",
            "spiffe://public/ns/default/sh%6Fp",
            "spiffe://public/ns/../shop",
            "spiffe://public/ns/default/.",
            "spiffe://public/ns/default/sh op",
            "spiffe://public/ns/default/sh\u{f6}p",
            "spiffe://public/ns/default/shop\0",
        ] {
            assert_eq!(
                Identity::parse(uri).unwrap_err().code(),
                "ERR_IDENTITY_NOT_AN_APP",
                "{uri}"
            );
        }
    }

    #[test]
    fn every_app_has_a_host_name_of_its_own() {
        let name = |namespace, app| Identity::server_name(namespace, app);
        assert_eq!(name("", "shop"), name("default", "shop"));
        assert_ne!(name("", "shop"), name("", "Shop"));
        assert_ne!(name("a", "b"), name("b", "a"));
        assert!(name(&"n".repeat(255), &"a".repeat(255)).len() < 64);
    }
}
