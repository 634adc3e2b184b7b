//! Whom to believe: a chain of certificates against the roots of a trust domain.
//!
//! ```text
//!   readable, exactly one URI, not an authority itself
//!     -> within its time, give or take the allowance for clocks
//!     -> a chain of signatures to a root that still holds, for this use
//!     -> the trust domain
//! ```
//!
//! The path is built by webpki; what is around it is what webpki does not do: names that are URIs, clocks that differ,
//! and roots that expire.

use crate::{
    Identity, Refused,
    id::{of_authority, shown},
};
use outrigger_kernel::Wall;
use rustls::{
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, TrustAnchor, UnixTime},
};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// Most certificates of a chain, and most roots of a bundle.
const CHAIN_MAX: usize = 8;
/// The largest certificate.
const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// What a certificate is shown for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// By whoever was called.
    Server,
    /// By whoever calls.
    Client,
}

/// The roots of a trust domain, and how much clocks may differ.
#[derive(Clone, Debug)]
pub struct Trust {
    trust_domain: String,
    roots: Vec<Root>,
    skew: Duration,
}

#[derive(Clone, Debug)]
struct Root {
    anchor: TrustAnchor<'static>,
    der: CertificateDer<'static>,
    times: Times,
}

/// When a certificate holds, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

/// A certificate that was shown, read but not yet believed.
pub(crate) struct Shown {
    pub(crate) uri: String,
    pub(crate) times: Times,
}

impl Trust {
    /// Believes what the roots of `bundle` have signed within `trust_domain`.
    ///
    /// # Errors
    /// When a root cannot be read, or there is none.
    pub fn new(
        trust_domain: &str,
        bundle: &[CertificateDer<'static>],
        skew: Duration,
    ) -> Result<Self, Refused> {
        crate::id::check_trust_domain(trust_domain)?;
        if bundle.is_empty() || bundle.len() > CHAIN_MAX {
            let reason =
                format!("a bundle of {} roots; 1 to {CHAIN_MAX} can be trusted", bundle.len());
            return Err(Refused::Untrusted(reason));
        }
        let root = |der: &CertificateDer<'static>| {
            let anchor = anchor_from_trusted_cert(der).map_err(unreadable)?.to_owned();
            Ok(Root { anchor, der: der.clone(), times: read(der)?.times })
        };
        let roots = bundle.iter().map(root).collect::<Result<_, Refused>>()?;
        Ok(Self { trust_domain: trust_domain.to_owned(), roots, skew })
    }

    /// Its trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Its roots.
    pub fn bundle(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.roots.iter().map(|root| &root.der)
    }

    /// How much clocks may differ.
    #[must_use]
    pub fn skew(&self) -> Duration {
        self.skew
    }

    /// The app that `chain` proves, the certificate itself first.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn app(
        &self,
        chain: &[CertificateDer<'_>],
        usage: Usage,
        now: Wall,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<Identity, Refused> {
        let uri = self.uri(chain, usage, now, algorithms)?;
        let identity = Identity::parse(&uri)?;
        if identity.trust_domain() != self.trust_domain {
            let (theirs, ours) = (identity.trust_domain().to_owned(), self.trust_domain.clone());
            return Err(Refused::OtherDomain { found: uri, theirs, ours });
        }
        Ok(identity)
    }

    /// Whether `chain` is that of the authority of this trust domain.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn authority(
        &self,
        chain: &[CertificateDer<'_>],
        now: Wall,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Refused> {
        let (found, expected) =
            (self.uri(chain, Usage::Server, now, algorithms)?, of_authority(&self.trust_domain));
        if found == expected { Ok(()) } else { Err(Refused::SomebodyElse { expected, found }) }
    }

    /// The one URI of a chain that leads to a root.
    fn uri(
        &self,
        chain: &[CertificateDer<'_>],
        usage: Usage,
        now: Wall,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<String, Refused> {
        let (leaf, intermediates) = chain.split_first().ok_or(Refused::NoCertificate)?;
        if chain.len() > CHAIN_MAX || chain.iter().any(|one| one.len() > CERTIFICATE_BYTES_MAX) {
            return Err(Refused::Unreadable("the chain is too long".to_owned()));
        }
        let seen = leaf_of(leaf)?;
        let now = seconds(now);
        let at = seen.times.nearest(now, self.skew)?;
        // webpki takes a root for valid for ever.
        let holds = |root: &&Root| root.times.nearest(now, self.skew).is_ok();
        let anchors: Vec<TrustAnchor<'_>> =
            self.roots.iter().filter(holds).map(|root| root.anchor.clone()).collect();
        let certificate = EndEntityCert::try_from(leaf).map_err(unreadable)?;
        let purpose = match usage {
            Usage::Server => KeyUsage::server_auth(),
            Usage::Client => KeyUsage::client_auth(),
        };
        let time = UnixTime::since_unix_epoch(Duration::from_secs(at.unsigned_abs()));
        certificate
            .verify_for_usage(algorithms.all, &anchors, intermediates, time, purpose, None, None)
            .map_err(|error| Refused::Untrusted(error.to_string()))?;
        Ok(seen.uri)
    }
}

impl Times {
    /// The moment within the validity that is nearest to `now`, if it is no further than clocks may differ.
    fn nearest(self, now: i64, skew: Duration) -> Result<i64, Refused> {
        let skew = i64::try_from(skew.as_secs()).unwrap_or(i64::MAX);
        if self.not_after < self.not_before || now.saturating_sub(self.not_after) > skew {
            return Err(Refused::Expired(now.saturating_sub(self.not_after).unsigned_abs()));
        }
        if self.not_before.saturating_sub(now) > skew {
            return Err(Refused::NotYetValid(self.not_before.saturating_sub(now).unsigned_abs()));
        }
        Ok(now.clamp(self.not_before, self.not_after))
    }
}

pub(crate) fn seconds(now: Wall) -> i64 {
    i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX)
}

fn unreadable(error: impl std::fmt::Display) -> Refused {
    Refused::Unreadable(error.to_string())
}

/// Reads a certificate that somebody shows as their own.
pub(crate) fn leaf_of(der: &CertificateDer<'_>) -> Result<Shown, Refused> {
    let read = read(der)?;
    if read.is_authority {
        return Err(Refused::IsAuthority);
    }
    match &read.uris[..] {
        [uri] => Ok(Shown { uri: uri.clone(), times: read.times }),
        uris => Err(Refused::NotOneName(uris.len())),
    }
}

struct Read {
    uris: Vec<String>,
    times: Times,
    is_authority: bool,
}

fn read(der: &CertificateDer<'_>) -> Result<Read, Refused> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(unreadable)?;
    if !rest.is_empty() {
        return Err(Refused::Unreadable("something follows it".to_owned()));
    }
    // An extension that is there twice is an error of these calls, and so of the certificate.
    let names = certificate.subject_alternative_name().map_err(unreadable)?;
    let constraints = certificate.basic_constraints().map_err(unreadable)?;
    let usage = certificate.key_usage().map_err(unreadable)?;
    let uris = names.iter().flat_map(|names| &names.value.general_names);
    let uris = uris.filter_map(|name| match name {
        GeneralName::URI(uri) => Some(shown_or_whole(uri)),
        _ => None,
    });
    let validity = certificate.validity();
    let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    Ok(Read {
        uris: uris.collect(),
        times: Times { not_before, not_after },
        is_authority: constraints.is_some_and(|constraints| constraints.value.ca)
            || usage.is_some_and(|usage| usage.value.key_cert_sign() || usage.value.crl_sign()),
    })
}

/// A SPIFFE id has at most 2,048 bytes; what is longer is cut, and is none then.
fn shown_or_whole(uri: &str) -> String {
    if uri.len() <= 2_048 { uri.to_owned() } else { shown(uri) }
}

/// When a certificate holds.
pub(crate) fn times_of(der: &CertificateDer<'_>) -> Result<Times, Refused> {
    Ok(read(der)?.times)
}

/// The trust domain that a root is for.
pub(crate) fn domain_of_root(der: &CertificateDer<'_>) -> Result<String, Refused> {
    let read = read(der)?;
    let [uri] = &read.uris[..] else { return Err(Refused::NotOneName(read.uris.len())) };
    let domain = uri.strip_prefix("spiffe://").unwrap_or_default();
    crate::id::check_trust_domain(domain)?;
    Ok(domain.to_owned())
}
