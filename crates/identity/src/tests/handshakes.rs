//! Two sides of a connection, each of which must prove itself to the other.

use super::{HOUR, House};
use crate::{Identity, authority_server, joining, peer};
use outrigger_kernel::Wall;
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What each side has proved, or why the first of them broke off.
async fn shake(
    server: Arc<ServerConfig>,
    client: ClientConfig,
) -> Result<Option<(Identity, Wall)>, String> {
    let (near, far) = duplex(64 * 1024);
    let serve = async {
        let mut stream = TlsAcceptor::from(server).accept(far).await.map_err(|e| e.to_string())?;
        let shown = peer(stream.get_ref().1.peer_certificates()).map_err(|e| e.to_string())?;
        stream.write_all(b"hello").await.map_err(|e| e.to_string())?;
        stream.flush().await.map_err(|e| e.to_string())?;
        Ok::<_, String>(shown)
    };
    let call = async {
        let name = ServerName::try_from("x.app.outrigger").unwrap();
        let stream = TlsConnector::from(Arc::new(client)).connect(name, near).await;
        let mut stream = stream.map_err(|e| e.to_string())?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        stream.read_exact(&mut [0; 5]).await.map_err(|e| e.to_string())
    };
    let (served, called) = tokio::join!(serve, call);
    match (served, called) {
        (Ok(shown), Ok(_)) => Ok(shown),
        (served, called) => {
            Err([served.err(), called.err()].into_iter().flatten().collect::<Vec<_>>().join("; "))
        }
    }
}

#[tokio::test]
async fn both_prove_themselves() {
    let house = House::new("public").await;
    let (shop, bank) = (house.workload("shop").await, house.workload("bank").await);
    let shown = shake(bank.server().unwrap(), shop.calling("", "bank").unwrap()).await.unwrap();
    let (who, until) = shown.unwrap();
    assert_eq!(who, shop.identity());
    assert_eq!(until, shop.expires());
}

#[tokio::test]
async fn who_expects_another_hangs_up() {
    let house = House::new("public").await;
    let (shop, bank) = (house.workload("shop").await, house.workload("bank").await);
    for (namespace, app) in [("", "bonk"), ("prod", "bank"), ("", "Bank")] {
        let told = shake(bank.server().unwrap(), shop.calling(namespace, app).unwrap()).await;
        assert!(told.unwrap_err().contains("ERR_IDENTITY_SOMEBODY_ELSE"));
    }
}

#[tokio::test]
async fn strangers_are_turned_away_by_both() {
    let (house, other) = (House::new("public").await, House::new("public").await);
    let (shop, bank) = (other.workload("shop").await, house.workload("bank").await);
    let told = shake(bank.server().unwrap(), shop.calling("", "bank").unwrap()).await.unwrap_err();
    assert!(told.contains("ERR_IDENTITY_UNTRUSTED"), "{told}");
    let nobody = joining(&house.authority.token("", "shop").await.unwrap(), house.world.clone());
    let told = shake(bank.server().unwrap(), nobody.unwrap()).await.unwrap_err();
    assert!(told.contains("ERR_IDENTITY_OTHER_ROOT"), "an app is no authority: {told}");
}

#[tokio::test]
async fn an_app_without_a_certificate_is_not_served() {
    let house = House::new("public").await;
    let bank = house.workload("bank").await;
    let mut anonymous = house.workload("shop").await.calling("", "bank").unwrap();
    anonymous.client_auth_cert_resolver = Arc::new(
        rustls::client::AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&bank.current().key)),
    );
    let told = shake(bank.server().unwrap(), anonymous).await.unwrap_err();
    assert!(!told.is_empty());
    // And without any at all.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = Arc::new({
        let mut store = rustls::RootCertStore::empty();
        store.add(bank.current().trust.bundle().next().unwrap().clone()).unwrap();
        store
    });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.dangerous().set_certificate_verifier(Arc::new(Believes));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let told = shake(bank.server().unwrap(), config).await.unwrap_err();
    assert!(told.contains("no certificates"), "{told}");
}

/// A caller that believes everything.
#[derive(Debug)]
struct Believes;

impl rustls::client::danger::ServerCertVerifier for Believes {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        crate::tls::algorithms().supported_schemes()
    }
}

#[tokio::test]
async fn an_authority_is_known_by_the_root_in_the_token() {
    let (house, other) = (House::new("public").await, House::new("public").await);
    let token = house.authority.token("", "shop").await.unwrap();
    let face = house.authority.face().await.unwrap();
    let server = authority_server(&face, house.world.clone()).unwrap();
    let config = || joining(&token, house.world.clone()).unwrap();
    assert_eq!(shake(server, config()).await.unwrap(), None);
    let face = other.authority.face().await.unwrap();
    let stranger = authority_server(&face, house.world.clone()).unwrap();
    let told = shake(stranger, config()).await.unwrap_err();
    assert!(told.contains("ERR_IDENTITY_OTHER_ROOT"), "{told}");
    // Also when the root has been followed by another since.
    house.authority.rotate().await.unwrap();
    let face = house.authority.face().await.unwrap();
    let server = authority_server(&face, house.world.clone()).unwrap();
    assert_eq!(shake(server.clone(), config()).await.unwrap(), None);
    // Who has a certificate of the one before renews with it, and proves itself by it.
    let shop = house.workload("shop").await;
    let shown = shake(server, shop.renewing().unwrap()).await.unwrap();
    assert_eq!(shown.unwrap().0, shop.identity());
    let bank = house.workload("bank").await;
    let told = shake(bank.server().unwrap(), shop.renewing().unwrap()).await.unwrap_err();
    assert!(told.contains("ERR_IDENTITY_SOMEBODY_ELSE"), "an app is no authority: {told}");
}

#[tokio::test]
async fn a_new_certificate_is_used_from_the_next_connection_on() {
    let house = House::new("public").await;
    let (shop, bank) = (house.workload("shop").await, house.workload("bank").await);
    let (server, client) = (bank.server().unwrap(), shop.calling("", "bank").unwrap());
    house.pass(HOUR * 20);
    house.authority.rotate().await.unwrap();
    shop.replace(house.authority.issue("", "shop").await.unwrap()).unwrap();
    // One knows of the new root, the other does not.
    let shown = shake(server.clone(), client.clone()).await.unwrap().unwrap();
    assert_eq!(shown.1, shop.expires());
    house.pass(HOUR * 5);
    let told = shake(server.clone(), client.clone()).await.unwrap_err();
    assert!(told.contains("ERR_IDENTITY_EXPIRED"), "{told}");
    bank.replace(house.authority.issue("", "bank").await.unwrap()).unwrap();
    shake(server, client).await.unwrap();
}
