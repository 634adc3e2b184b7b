//! TLS, towards apps that made their own certificate and towards services outside whose certificate counts.

use super::servers::{Server, Spawner, get, patient, post, send, soon, text};
use crate::{
    AppProtocol::{Grpcs, Https},
    BadTls, Base, CallError, ClientTls, OutboundClient, OutboundSettings, body,
};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use outrigger_sim::SimWorld;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{convert::Infallible, sync::Arc};
use tokio_rustls::TlsAcceptor;

/// A certificate authority, a server it vouches for, and a client it vouches for.
struct Pki {
    root: String,
    server: (String, String),
    client: (String, String),
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        Self { server: issue("localhost"), client: issue("client"), root: issuer.pem() }
    }

    fn acceptor(&self, ask_client: bool, protocols: &[&str]) -> TlsAcceptor {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if ask_client {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(self.root.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let chain = vec![CertificateDer::from_pem_slice(self.server.0.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(self.server.1.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// A server that says which protocol it was spoken to in, and under which name.
    async fn server(&self, world: &Arc<SimWorld>, ask_client: bool, protocols: &[&str]) -> Server {
        let (acceptor, spawner) = (self.acceptor(ask_client, protocols), Spawner(world.clone()));
        Server::raw(world, move |socket, _| {
            let (acceptor, spawner) = (acceptor.clone(), spawner.clone());
            async move {
                let Ok(stream) = acceptor.accept(socket).await else { return };
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let service = service_fn(|request: Request<Incoming>| async {
                    let authority = request.uri().authority().map(ToString::to_string);
                    let host =
                        request.headers().get("host").map(|h| h.to_str().unwrap().to_owned());
                    let (version, path) = (request.version(), request.uri().path().to_owned());
                    let sent = request.into_body().collect().await.unwrap().to_bytes();
                    let said = format!(
                        "{version:?} {} {path} {}",
                        authority.or(host).unwrap(),
                        String::from_utf8_lossy(&sent)
                    );
                    Ok::<_, Infallible>(Response::new(body::full(said)))
                });
                let io = TokioIo::new(stream);
                if http2 {
                    let builder = hyper::server::conn::http2::Builder::new(spawner);
                    let _ended = builder.serve_connection(io, service).await;
                } else {
                    let builder = hyper::server::conn::http1::Builder::new();
                    let _ended = builder.serve_connection(io, service).await;
                }
            }
        })
        .await
    }

    fn trusting(&self) -> Arc<ClientTls> {
        ClientTls::from_pem(Some(self.root.as_bytes()), None, None).unwrap()
    }
}

fn base(server: &Server, host: &str, path: &str) -> Base {
    Base::parse(&format!("https://{host}:{}{path}", server.address.port())).unwrap()
}

#[tokio::test]
async fn an_app_may_have_made_its_own_certificate() {
    let (world, pki) = (SimWorld::new(1), Pki::new());
    for (protocol, spoken) in [(Https, "HTTP/1.1"), (Grpcs, "HTTP/2.0")] {
        let server = pki.server(&world, false, &["h2", "http/1.1"]).await;
        let channel = server.channel(&world, protocol);
        for n in 0..5 {
            let call = send(&world, &channel, post("/a", format!("{n}")));
            let answer = soon(&world, call).await.unwrap();
            let expected = format!("{spoken} {} /a {n}", server.address);
            assert_eq!(text(answer.into_body()).await, expected);
        }
        assert_eq!(server.accepted(), 1);
    }
}

#[tokio::test]
async fn outside_the_certificate_and_the_name_count() {
    let (world, pki) = (SimWorld::new(1), Pki::new());
    let server = pki.server(&world, false, &["h2", "http/1.1"]).await;
    let client = OutboundClient::new(OutboundSettings::default(), world.clone());
    let trusting = pki.trusting();
    let good = base(&server, "localhost", "/deep/");
    let patience = patient(&world);
    let answer = client.send(&good, Some(&trusting), post("/a?b", "x"), patience).await.unwrap();
    let port = server.address.port();
    let said = text(answer.into_body()).await;
    assert_eq!(said, format!("HTTP/2.0 localhost:{port} /deep/a x"));

    let unknown = client.send(&good, None, get("/"), patience).await.unwrap_err();
    assert!(matches!(unknown, CallError::Tls { .. }), "{unknown}");
    let stranger = Pki::new().trusting();
    let unknown = client.send(&good, Some(&stranger), get("/"), patience).await.unwrap_err();
    assert!(matches!(unknown, CallError::Tls { .. }), "{unknown}");
    assert!(unknown.nothing_sent());
    let misnamed = base(&server, "127.0.0.1", "");
    let wrong = client.send(&misnamed, Some(&trusting), get("/"), patience).await.unwrap_err();
    assert!(matches!(wrong, CallError::Tls { .. }), "{wrong}");
}

#[tokio::test]
async fn the_protocol_is_the_best_both_know() {
    let (world, pki) = (SimWorld::new(1), Pki::new());
    let client = OutboundClient::new(OutboundSettings::default(), world.clone());
    let trusting = pki.trusting();
    for (offered, spoken) in
        [(&["h2", "http/1.1"][..], "HTTP/2.0"), (&["http/1.1"], "HTTP/1.1"), (&[], "HTTP/1.1")]
    {
        let server = pki.server(&world, false, offered).await;
        let there = base(&server, "localhost", "");
        for _ in 0..5 {
            let call = client.send(&there, Some(&trusting), get("/"), patient(&world));
            let answer = soon(&world, call).await.unwrap();
            assert!(text(answer.into_body()).await.starts_with(spoken), "{offered:?}");
        }
        assert_eq!(server.accepted(), 1, "{offered:?}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_not_shared_between_identities() {
    let (world, pki) = (SimWorld::new(1), Pki::new());
    let server = pki.server(&world, true, &["http/1.1"]).await;
    let there = base(&server, "localhost", "");
    let client = OutboundClient::new(OutboundSettings::default(), world.clone());
    let known = ClientTls::from_pem(
        Some(pki.root.as_bytes()),
        Some(pki.client.0.as_bytes()),
        Some(pki.client.1.as_bytes()),
    )
    .unwrap();
    let patience = patient(&world);
    let answer = client.send(&there, Some(&known), get("/"), patience).await.unwrap();
    assert!(text(answer.into_body()).await.starts_with("HTTP/1.1"));
    // The same address under another identity does not get the connection of the first.
    let nobody = pki.trusting();
    assert!(client.send(&there, Some(&nobody), get("/"), patience).await.is_err());
}

#[tokio::test]
async fn redirects_are_the_callers_business() {
    let world = SimWorld::new(1);
    let server = Server::http1(&world, |_request| async {
        let answer = Response::builder().status(307).header("location", "http://127.0.0.1:1/");
        answer.body(body::empty()).unwrap()
    })
    .await;
    let client = OutboundClient::new(OutboundSettings::default(), world.clone());
    let there = Base::parse(&format!("http://{}", server.address)).unwrap();
    let answer = client.send(&there, None, get("/"), patient(&world)).await.unwrap();
    assert_eq!(answer.status(), 307);
}

#[test]
fn unusable_tls_material_is_refused_with_the_part_that_is_wrong() {
    let pki = Pki::new();
    let (root, certificate, key) = (&*pki.root, &*pki.client.0, &*pki.client.1);
    let other_key = &*pki.server.1;
    let from = |root: Option<&str>, certificate: Option<&str>, key: Option<&str>| {
        let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
        let (root, certificate, key) = (bytes(root), bytes(certificate), bytes(key));
        ClientTls::from_pem(root.as_deref(), certificate.as_deref(), key.as_deref()).map(drop)
    };
    assert!(from(Some(root), Some(certificate), Some(key)).is_ok());
    assert!(matches!(from(Some("nonsense"), None, None), Err(BadTls::RootCa(_))));
    assert!(matches!(from(Some(root), Some("x"), Some(key)), Err(BadTls::Certificate(_))));
    assert!(matches!(from(Some(root), Some(certificate), Some("x")), Err(BadTls::PrivateKey(_))));
    assert!(matches!(
        from(Some(root), Some(certificate), Some(other_key)),
        Err(BadTls::PrivateKey(_))
    ));
    assert!(matches!(from(Some(root), Some(certificate), None), Err(BadTls::Half)));
}
