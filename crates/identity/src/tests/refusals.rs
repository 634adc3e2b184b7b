//! Everything that must not be believed, and the code with which it is refused.

use super::{HOUR, House, named, written};
use crate::{
    Credentials, EnrolRequest, JoinToken, KeyRequest, Trust, Usage, Workload,
    signing::{self, RootKey, Span},
    tls,
};
use outrigger_kernel::{Wall, World};
use outrigger_sim::SimWorld;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::CertificateDer;
use std::time::Duration;

const SHOP: &str = "spiffe://public/ns/default/shop";
const NOW: Wall = Wall(1_800_000_000_000);
const SKEW: Duration = Duration::from_secs(15 * 60);

fn span(from_ms: u64, lasts: Duration) -> Span {
    Span { from: Wall(from_ms), lasts }
}

fn day() -> Span {
    span(NOW.0 - 1_000, HOUR * 24)
}

fn leaf(root: &RootKey, write: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    written(root, day(), write).0
}

fn judge(root: &RootKey, chain: &[CertificateDer<'_>], usage: Usage) -> String {
    let trust = Trust::new("public", std::slice::from_ref(&root.der), SKEW).unwrap();
    match trust.app(chain, usage, NOW, &tls::algorithms()) {
        Ok(identity) => identity.to_string(),
        Err(refused) => refused.code().trim_start_matches("ERR_IDENTITY_").to_owned(),
    }
}

/// With both names of an app and whatever else.
fn shop(more: impl FnOnce(&mut CertificateParams)) -> impl FnOnce(&mut CertificateParams) {
    |params| {
        named(&[SHOP])(params);
        more(params);
    }
}

#[test]
fn certificates_that_prove_nothing() {
    let root = signing::root("public", span(NOW.0, HOUR * 24 * 365)).unwrap();
    let other = signing::root("public", span(NOW.0, HOUR * 24 * 365)).unwrap();
    let old = signing::root("public", span(NOW.0 - 50 * 3_600_000, HOUR * 24)).unwrap();
    let good = leaf(&root, named(&[SHOP]));
    assert_eq!(judge(&root, &[good.clone()], Usage::Client), SHOP);
    assert_eq!(judge(&root, &[good.clone()], Usage::Server), SHOP);
    let (inner, inner_key) = written(&root, day(), named(&[SHOP]));
    let inner = RootKey { der: inner, key: inner_key.serialize_der() };
    let mut forged = good.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let mut renamed = good.to_vec();
    let at = renamed.windows(4).rposition(|part| part == b"shop").unwrap();
    renamed[at..at + 4].copy_from_slice(b"bank");
    let self_signed = {
        let mut params = CertificateParams::default();
        named(&[SHOP])(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    };
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let usages = |usage: ExtendedKeyUsagePurpose| {
        leaf(&root, shop(|params| params.extended_key_usages = vec![usage]))
    };
    let one = |uri: &str| leaf(&root, named(&[uri]));
    let hours_ago = |hours: u64, lasts| {
        written(&root, span(NOW.0 - hours * 3_600_000, lasts), named(&[SHOP])).0
    };
    let soon = written(&root, span(NOW.0 + 3_600_000, HOUR), named(&[SHOP])).0;
    let table: Vec<(&str, Vec<CertificateDer<'static>>, Usage, &str)> = vec![
        ("nothing", vec![], Usage::Client, "NO_CERTIFICATE"),
        ("no certificate", vec![b"hello".to_vec().into()], Usage::Client, "UNREADABLE"),
        (
            "half a certificate",
            vec![good[..good.len() / 2].to_vec().into()],
            Usage::Client,
            "UNREADABLE",
        ),
        (
            "something after it",
            vec![[&good[..], &[0]].concat().into()],
            Usage::Client,
            "UNREADABLE",
        ),
        ("a chain without end", vec![good.clone(); 9], Usage::Client, "UNREADABLE"),
        ("no name", vec![leaf(&root, |_| ())], Usage::Client, "NOT_ONE_NAME"),
        (
            "a host name",
            vec![leaf(&root, |p| p.subject_alt_names = vec![dns("shop")])],
            Usage::Client,
            "NOT_ONE_NAME",
        ),
        (
            "two names",
            vec![leaf(&root, named(&[SHOP, "spiffe://public/ns/default/bank"]))],
            Usage::Client,
            "NOT_ONE_NAME",
        ),
        ("one name twice", vec![leaf(&root, named(&[SHOP, SHOP]))], Usage::Client, "NOT_ONE_NAME"),
        ("not SPIFFE", vec![one("https://public/ns/default/shop")], Usage::Client, "NOT_AN_APP"),
        ("the authority", vec![one("spiffe://public/ca")], Usage::Client, "NOT_AN_APP"),
        ("the trust domain", vec![one("spiffe://public")], Usage::Client, "NOT_AN_APP"),
        ("upper case", vec![one("spiffe://PUBLIC/ns/default/shop")], Usage::Client, "NOT_AN_APP"),
        ("dots", vec![one("spiffe://public/ns/default/x/../shop")], Usage::Client, "NOT_AN_APP"),
        ("percent", vec![one("spiffe://public/ns/default/sh%6fp")], Usage::Client, "NOT_AN_APP"),
        (
            "another domain",
            vec![one("spiffe://other/ns/default/shop")],
            Usage::Client,
            "OTHER_DOMAIN",
        ),
        ("expired", vec![hours_ago(3, HOUR)], Usage::Client, "EXPIRED"),
        ("not yet", vec![soon], Usage::Server, "NOT_YET_VALID"),
        ("signed by itself", vec![self_signed], Usage::Client, "UNTRUSTED"),
        ("another root", vec![leaf(&other, named(&[SHOP]))], Usage::Client, "UNTRUSTED"),
        (
            "another root along",
            vec![leaf(&other, named(&[SHOP])), other.der.clone()],
            Usage::Client,
            "UNTRUSTED",
        ),
        (
            "signed by a leaf",
            vec![leaf(&inner, named(&[SHOP])), inner.der.clone()],
            Usage::Client,
            "UNTRUSTED",
        ),
        ("a bit changed", vec![forged.into()], Usage::Client, "UNTRUSTED"),
        ("the name changed", vec![renamed.into()], Usage::Client, "UNTRUSTED"),
        (
            "a server's",
            vec![usages(ExtendedKeyUsagePurpose::ServerAuth)],
            Usage::Client,
            "UNTRUSTED",
        ),
        (
            "a client's",
            vec![usages(ExtendedKeyUsagePurpose::ClientAuth)],
            Usage::Server,
            "UNTRUSTED",
        ),
        (
            "for signing code",
            vec![usages(ExtendedKeyUsagePurpose::CodeSigning)],
            Usage::Client,
            "UNTRUSTED",
        ),
        ("the root itself", vec![root.der.clone()], Usage::Client, "IS_AUTHORITY"),
        (
            "another authority",
            vec![leaf(&root, shop(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)))],
            Usage::Client,
            "IS_AUTHORITY",
        ),
        (
            "may sign",
            vec![leaf(&root, shop(|p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign]))],
            Usage::Client,
            "IS_AUTHORITY",
        ),
    ];
    for (what, chain, usage, code) in &table {
        assert_eq!(judge(&root, chain, *usage), *code, "{what}");
    }
    let of_old = written(&old, day(), named(&[SHOP])).0;
    assert_eq!(judge(&old, &[of_old], Usage::Client), "UNTRUSTED", "a root that expired");
    // Clocks may differ by a quarter of an hour.
    for (from, lasts) in
        [(NOW.0 + 14 * 60_000, HOUR), (NOW.0 - 3_600_000, Duration::from_secs(46 * 60))]
    {
        let near = written(&root, span(from, lasts), named(&[SHOP])).0;
        assert_eq!(judge(&root, &[near], Usage::Client), SHOP);
    }
}

#[test]
fn what_an_app_cannot_use_is_refused_before_it_is_used() {
    let world = SimWorld::new(1);
    world.jump_wall(i64::try_from(NOW.0).unwrap() - i64::try_from(world.wall().0).unwrap());
    let root = signing::root("public", span(NOW.0, HOUR * 24 * 365)).unwrap();
    let (certificate, key) = written(&root, day(), named(&[SHOP]));
    let (_, stranger) = written(&root, day(), named(&[SHOP]));
    let own = |key: &KeyPair, chain: Vec<CertificateDer<'static>>, bundle| {
        let credentials = Credentials::new(key.serialize_der(), chain, bundle, SKEW);
        let made = credentials.and_then(|credentials| Workload::new(credentials, world.clone()));
        made.err().map_or("", |refused| refused.code())
    };
    let bundle = || vec![root.der.clone()];
    assert_eq!(own(&key, vec![certificate.clone()], bundle()), "");
    assert_eq!(own(&stranger, vec![certificate.clone()], bundle()), "ERR_IDENTITY_KEY_MISMATCH");
    assert_eq!(own(&key, vec![], bundle()), "ERR_IDENTITY_NO_CERTIFICATE");
    assert_eq!(own(&key, vec![certificate.clone()], vec![]), "ERR_IDENTITY_UNTRUSTED");
    let (ca, ca_key) = written(&root, day(), named(&["spiffe://public/ca"]));
    assert_eq!(own(&ca_key, vec![ca], bundle()), "ERR_IDENTITY_NOT_AN_APP");
    let pem = |text: &str| crate::workload::pem(text, b"x");
    let read = Credentials::from_pem(b"no key", b"", b"", SKEW).unwrap_err();
    assert_eq!(read.code(), "ERR_IDENTITY_UNREADABLE");
    let read = Credentials::from_pem(pem("PRIVATE KEY").as_bytes(), b"", b"", SKEW).unwrap_err();
    assert_eq!(read.code(), "ERR_IDENTITY_NO_CERTIFICATE");
}

#[tokio::test]
async fn tokens_and_requests_that_get_nothing() {
    let house = House::new("public").await;
    let token = async || house.authority.token("", "shop").await.unwrap();
    let first = token().await;
    let told = async |secret: &[u8], namespace: &str, app: &str| {
        house.join(secret, namespace, app).await.err().unwrap_or_default()
    };
    assert_eq!(told(first.secret(), "", "shop").await, "");
    assert_eq!(told(first.secret(), "", "shop").await, "ERR_IDENTITY_TOKEN_USED");
    assert_eq!(told(&[7; 32], "", "shop").await, "ERR_IDENTITY_TOKEN_UNKNOWN");
    let second = token().await;
    assert_eq!(told(&second.secret()[..31], "", "shop").await, "ERR_IDENTITY_TOKEN_UNKNOWN");
    assert_eq!(told(second.root(), "", "shop").await, "ERR_IDENTITY_TOKEN_UNKNOWN");
    assert_eq!(told(second.secret(), "", "bank").await, "ERR_IDENTITY_TOKEN_FOR_ANOTHER");
    assert_eq!(told(second.secret(), "prod", "shop").await, "ERR_IDENTITY_TOKEN_FOR_ANOTHER");
    assert_eq!(told(&[], "", "shop").await, "ERR_IDENTITY_NO_PROOF");
    // What was refused has not used it up.
    assert_eq!(told(second.secret(), "default", "shop").await, "");
    let late = token().await;
    house.pass(Duration::from_secs(15 * 60));
    assert_eq!(told(late.secret(), "", "shop").await, "ERR_IDENTITY_TOKEN_EXPIRED");
    assert_eq!(
        house.authority.token("", "a b").await.unwrap_err().to_string(),
        "\"a b\" cannot be part of an identity: it is made of letters, digits, '-', '_' and '.'"
    );
    assert_eq!(
        JoinToken::parse("outrigger-join-1.x.y").unwrap_err().code(),
        "ERR_IDENTITY_NOT_A_TOKEN"
    );

    let shop = house.workload("shop").await.identity();
    let ask = async |key_request: Vec<u8>, app: &str| {
        let request =
            EnrolRequest { key_request, app_id: app.to_owned(), ..EnrolRequest::default() };
        let answer = house.authority.enrol(&request, Some(&shop)).await;
        answer.err().map(|error| super::code(&error)).unwrap_or_default()
    };
    let key = KeyRequest::new(Some(&shop)).unwrap();
    assert_eq!(ask(key.request().to_vec(), "shop").await, "");
    assert_eq!(ask(key.request().to_vec(), "bank").await, "ERR_IDENTITY_SOMEBODY_ELSE");
    let mut forged = key.request().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let asking = |write: &dyn Fn(&mut CertificateParams)| {
        let (pair, mut params) = (KeyPair::generate().unwrap(), CertificateParams::default());
        write(&mut params);
        params.serialize_request(&pair).unwrap().der().to_vec()
    };
    let bad = [
        Vec::new(),
        b"hello".to_vec(),
        forged,
        asking(&|params| named(&["spiffe://public/ns/default/bank"])(params)),
        asking(&|params| {
            params.subject_alt_names = vec![SanType::DnsName("shop".try_into().unwrap())]
        }),
        asking(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
    ];
    for request in bad {
        assert_eq!(ask(request, "shop").await, "ERR_IDENTITY_BAD_REQUEST");
    }
}
