//! What is written into certificates: roots, the signature of one root under the next, and leaves.
//!
//! A root that follows another is signed by it as well. A leaf of the new root then carries that signature along, so
//! that a host that has not heard of the new root yet believes the leaf by the old one: a rotation needs no moment at
//! which everybody knows.

use crate::{Identity, Refused, id::of_authority, trust::seconds};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use outrigger_kernel::Wall;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use std::time::Duration;
use time::OffsetDateTime;

/// Certificates begin this much earlier than they are made, for hosts whose clocks are behind.
const BACKDATED: Duration = Duration::from_secs(60);

/// How many roots that followed it a root may have to vouch for, one below the other.
const BELOW: u8 = 4;

/// A root with its key.
pub(crate) struct RootKey {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) key: Vec<u8>,
}

/// When a certificate holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: Wall,
    pub(crate) lasts: Duration,
}

fn failed(error: impl std::fmt::Display) -> Refused {
    Refused::BadRequest(error.to_string())
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Refused> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| failed("the system has no random bytes"))?;
    Ok(bytes)
}

fn at(seconds: i64) -> Result<OffsetDateTime, Refused> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(failed)
}

fn blank(span: Span) -> Result<CertificateParams, Refused> {
    let from = seconds(span.from);
    let mut params = CertificateParams::default();
    params.not_before = at(from.saturating_sub(BACKDATED.as_secs().cast_signed()))?;
    params.not_after = at(from.saturating_add(i64::try_from(span.lasts.as_secs()).unwrap_or(0)))?;
    let mut serial = random::<16>()?;
    // Positive, and of one length.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}

fn authority_params(
    name: DistinguishedName,
    trust_domain: &str,
    span: Span,
    below: u8,
) -> Result<CertificateParams, Refused> {
    let mut params = blank(span)?;
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let uri = format!("spiffe://{trust_domain}").try_into().map_err(failed)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    Ok(params)
}

/// A new root for `trust_domain`.
pub(crate) fn root(trust_domain: &str, span: Span) -> Result<RootKey, Refused> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Outrigger");
    // Two roots never have one name: a chain is put together by names.
    let number: String = random::<4>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    name.push(DnType::CommonName, format!("{trust_domain} root {number}"));
    let params = authority_params(name, trust_domain, span, BELOW)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(RootKey { der: certificate.der().clone(), key: key.serialize_der() })
}

fn issuer(root: &RootKey) -> Result<Issuer<'static, KeyPair>, Refused> {
    let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(&root.key[..])).map_err(failed)?;
    Issuer::from_ca_cert_der(&root.der, key).map_err(failed)
}

/// `new` signed by `old`, for those who know only `old`.
pub(crate) fn crossed(
    old: &RootKey,
    new: &RootKey,
    trust_domain: &str,
    span: Span,
) -> Result<CertificateDer<'static>, Refused> {
    let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(&new.key[..])).map_err(failed)?;
    // The name as it stands in the new root, so that leaves lead to both.
    let (_, read) = <x509_parser::certificate::X509Certificate<'_> as x509_parser::prelude::FromDer<_>>::from_der(&new.der)
        .map_err(failed)?;
    let common = read.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Outrigger");
    name.push(DnType::CommonName, common.unwrap_or_default());
    let params = authority_params(name, trust_domain, span, BELOW)?;
    Ok(params.signed_by(&key, &issuer(old)?).map_err(failed)?.der().clone())
}

/// A leaf for the key of `subject`, named `uri`.
fn leaf(
    root: &RootKey,
    uri: &str,
    subject: &impl PublicKeyData,
    span: Span,
) -> Result<CertificateDer<'static>, Refused> {
    let mut params = blank(span)?;
    params.subject_alt_names = vec![SanType::URI(uri.to_owned().try_into().map_err(failed)?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params.signed_by(subject, &issuer(root)?).map_err(failed)?.der().clone())
}

/// A leaf for whoever holds the key that signed `request`. What else the request says counts only as far as it must not
/// say something different.
pub(crate) fn requested(
    root: &RootKey,
    identity: &Identity,
    request: &[u8],
    span: Span,
) -> Result<CertificateDer<'static>, Refused> {
    let request = CertificateSigningRequestDer::from(request);
    // Verifies the signature, which proves that the key is theirs.
    let read = CertificateSigningRequestParams::from_der(&request).map_err(failed)?;
    let uri = identity.to_string();
    let other = |name: &&SanType| !matches!(name, SanType::URI(own) if own.as_str() == uri);
    if let Some(name) = read.params.subject_alt_names.iter().find(other) {
        return Err(failed(format!("it asks for another name than {uri}: {name:?}")));
    }
    if !matches!(read.params.is_ca, IsCa::NoCa | IsCa::ExplicitNoCa) {
        return Err(failed("it asks for the right to sign others"));
    }
    leaf(root, &uri, &read.public_key, span)
}

/// A key with a leaf for the authority itself.
pub(crate) fn for_authority(
    root: &RootKey,
    trust_domain: &str,
    span: Span,
) -> Result<(Vec<u8>, CertificateDer<'static>), Refused> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let der = leaf(root, &of_authority(trust_domain), &key, span)?;
    Ok((key.serialize_der(), der))
}

/// A new key, and the request for a certificate with it.
pub(crate) fn request(identity: Option<&Identity>) -> Result<(Vec<u8>, Vec<u8>), Refused> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(identity) = identity {
        let uri = identity.to_string().try_into().map_err(failed)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
    }
    let request = params.serialize_request(&key).map_err(failed)?;
    Ok((key.serialize_der(), request.der().to_vec()))
}
