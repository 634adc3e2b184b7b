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

/// With the name of an app and whatever else.
fn shop(more: impl FnOnce(&mut CertificateParams)) -> impl FnOnce(&mut CertificateParams) {
    |params| {
        named(&[SHOP])(params);
        more(params);
    }
}

fn root() -> RootKey {
    signing::root("public", span(NOW.0, HOUR * 24 * 365)).unwrap()
}

type Case = (&'static str, Vec<CertificateDer<'static>>, Usage, &'static str);

fn all_refused(root: &RootKey, table: Vec<Case>) {
    let good = leaf(root, named(&[SHOP]));
    for usage in [Usage::Client, Usage::Server] {
        assert_eq!(judge(root, std::slice::from_ref(&good), usage), SHOP);
    }
    for (what, chain, usage, code) in table {
        assert_eq!(judge(root, &chain, usage), code, "{what}");
    }
}

#[test]
fn certificates_that_cannot_be_read() {
    let root = root();
    let good = leaf(&root, named(&[SHOP]));
    let (half, more) = (good[..good.len() / 2].to_vec(), [&good[..], &[0]].concat());
    let table: Vec<Case> = vec![
        ("nothing", vec![], Usage::Client, "NO_CERTIFICATE"),
        ("no certificate", vec![b"hello".to_vec().into()], Usage::Client, "UNREADABLE"),
        ("half of one", vec![half.into()], Usage::Client, "UNREADABLE"),
        ("something after it", vec![more.into()], Usage::Client, "UNREADABLE"),
        ("a chain without end", vec![good; 9], Usage::Client, "UNREADABLE"),
    ];
    all_refused(&root, table);
}

#[test]
fn certificates_that_name_no_app() {
    let root = root();
    let dns = SanType::DnsName("shop".try_into().unwrap());
    let mut table: Vec<Case> = vec![
        ("no name", vec![leaf(&root, |_| ())], Usage::Client, "NOT_ONE_NAME"),
        (
            "a host name",
            vec![leaf(&root, |params| params.subject_alt_names = vec![dns])],
            Usage::Client,
            "NOT_ONE_NAME",
        ),
    ];
    for uris in [[SHOP, "spiffe://public/ns/default/bank"], [SHOP, SHOP]] {
        table.push(("two", vec![leaf(&root, named(&uris))], Usage::Client, "NOT_ONE_NAME"));
    }
    for uri in [
        "https://public/ns/default/shop",
        "spiffe://public/ca",
        "spiffe://public",
        "spiffe://PUBLIC/ns/default/shop",
        "spiffe://public/ns/default/x/../shop",
        "spiffe://public/ns/default/sh%6fp",
    ] {
        table.push((uri, vec![leaf(&root, named(&[uri]))], Usage::Server, "NOT_AN_APP"));
    }
    let other = vec![leaf(&root, named(&["spiffe://other/ns/default/shop"]))];
    table.push(("another domain", other, Usage::Client, "OTHER_DOMAIN"));
    all_refused(&root, table);
}

#[test]
fn certificates_out_of_their_time() {
    let root = root();
    let (hour, minute) = (3_600_000, 60_000);
    let at = |from, lasts| written(&root, span(from, lasts), named(&[SHOP])).0;
    let table: Vec<Case> = vec![
        ("expired", vec![at(NOW.0 - 3 * hour, HOUR)], Usage::Client, "EXPIRED"),
        ("just expired", vec![at(NOW.0 - 76 * minute, HOUR)], Usage::Server, "EXPIRED"),
        ("not yet", vec![at(NOW.0 + 16 * minute, HOUR)], Usage::Server, "NOT_YET_VALID"),
        ("never", vec![at(NOW.0 + 999 * hour, HOUR)], Usage::Client, "NOT_YET_VALID"),
    ];
    all_refused(&root, table);
    // Clocks may differ by a quarter of an hour.
    for from in [NOW.0 + 14 * minute, NOW.0 - 74 * minute] {
        assert_eq!(judge(&root, &[at(from, HOUR)], Usage::Client), SHOP);
    }
    let old = signing::root("public", span(NOW.0 - 50 * hour, HOUR * 24)).unwrap();
    let of_old = leaf(&old, named(&[SHOP]));
    assert_eq!(judge(&old, &[of_old], Usage::Client), "UNTRUSTED", "a root that expired");
}

#[test]
fn certificates_that_lead_nowhere() {
    let (root, other) = (root(), root());
    let good = leaf(&root, named(&[SHOP]));
    let (inner, inner_key) = written(&root, day(), named(&[SHOP]));
    let inner = RootKey { der: inner, key: inner_key.serialize_der() };
    let mut forged = good.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let mut renamed = good.to_vec();
    let at = renamed.windows(4).rposition(|part| part == b"shop").unwrap();
    renamed[at..at + 4].copy_from_slice(b"bank");
    let mut params = CertificateParams::default();
    named(&[SHOP])(&mut params);
    let itself = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
    let strangers = leaf(&other, named(&[SHOP]));
    let below = vec![leaf(&inner, named(&[SHOP])), inner.der.clone()];
    let mut table: Vec<Case> = vec![
        ("signed by itself", vec![itself], Usage::Client, "UNTRUSTED"),
        ("another root", vec![strangers.clone()], Usage::Client, "UNTRUSTED"),
        ("that root along", vec![strangers, other.der], Usage::Client, "UNTRUSTED"),
        ("signed by a leaf", below, Usage::Client, "UNTRUSTED"),
        ("a bit changed", vec![forged.into()], Usage::Client, "UNTRUSTED"),
        ("the name changed", vec![renamed.into()], Usage::Client, "UNTRUSTED"),
        ("the root itself", vec![root.der.clone()], Usage::Client, "IS_AUTHORITY"),
    ];
    for (usage, purpose) in [
        (Usage::Client, ExtendedKeyUsagePurpose::ServerAuth),
        (Usage::Server, ExtendedKeyUsagePurpose::ClientAuth),
        (Usage::Client, ExtendedKeyUsagePurpose::CodeSigning),
    ] {
        let for_other = leaf(&root, shop(|params| params.extended_key_usages = vec![purpose]));
        table.push(("for something else", vec![for_other], usage, "UNTRUSTED"));
    }
    let ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let signs = leaf(&root, shop(|params| params.is_ca = ca));
    let may = leaf(&root, shop(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]));
    table.push(("another authority", vec![signs], Usage::Client, "IS_AUTHORITY"));
    table.push(("may sign", vec![may], Usage::Client, "IS_AUTHORITY"));
    all_refused(&root, table);
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
