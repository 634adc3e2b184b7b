//! The door for other hosts, over real TLS on the loopback address: who calls is proved, and nothing that a caller writes
//! changes who it is, whom it calls or what is judged.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::BodyExt;
use outrigger_api::{Behind, Doorkeeper, Listener, serve_hosts};
use outrigger_calls::{
    AccessList, AppChannel, AppProtocol, AppTarget, Body, CallError, Caller, CanonicalPath,
    ChannelSettings, ClientTls, Directory, HeaderEdits, Invocation, Invoker, OutboundClient,
    OutboundSettings, Patience, PeerPlace, PeerProof, Registration, Relay,
    access::{Action, CallerPolicy, Operation},
    body,
};
use outrigger_identity::{
    AUTHORITY_NAME, Authority, AuthoritySettings, ENROL_PATH, EnrolAnswer, EnrolRequest, Identity,
    KeyRequest, SealKey, Workload, authority_server, joining,
};
use outrigger_kernel::{BoxFuture, Deadline, World};
use outrigger_keyspace::{Space, memory::Memory};
use outrigger_sim::SimWorld;
use prost::Message;
use std::{sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::App;

const SOON: Duration = Duration::from_secs(10);

/// A trust domain with a host in it that has the apps `b` and `other`.
struct Hosts {
    world: Arc<SimWorld>,
    authority: Authority,
    keeper: Arc<Keeper>,
    directory: Arc<Directory>,
    port: u16,
    stop: CancellationToken,
    _registrations: Vec<Registration>,
}

#[derive(Debug)]
struct Keeper {
    apps: Vec<Arc<Workload>>,
    authority: Authority,
    world: Arc<SimWorld>,
}

impl Doorkeeper for Keeper {
    fn admit(&self, name: &str) -> BoxFuture<'_, Option<Behind>> {
        if name == AUTHORITY_NAME {
            return Box::pin(async {
                let face = self.authority.face().await.unwrap();
                let tls = authority_server(&face, self.world.clone()).unwrap();
                Some(Behind::Authority { tls, authority: self.authority.clone() })
            });
        }
        let named = |workload: &&Arc<Workload>| {
            let identity = workload.identity();
            Identity::server_name(identity.namespace(), identity.app_id()) == name
        };
        let found = self.apps.iter().find(named).map(|workload| Behind::App {
            tls: workload.server().unwrap(),
            namespace: workload.identity().namespace().to_owned(),
            app_id: workload.identity().app_id().to_owned(),
            skew: Duration::from_secs(900),
        });
        Box::pin(std::future::ready(found))
    }
}

/// A line of a head.
type Line = (&'static str, &'static str);

/// What a calling process has.
#[derive(Debug)]
struct Proof(Arc<Workload>);

impl PeerProof for Proof {
    fn tls(&self, caller: &Caller, namespace: &str, app: &str) -> Result<Arc<ClientTls>, String> {
        assert_eq!(caller.app_id, self.0.identity().app_id());
        let config = self.0.calling(namespace, app).unwrap();
        Ok(ClientTls::mutual(config, &Identity::server_name(namespace, app)).unwrap())
    }
}

impl Hosts {
    async fn new(world: &Arc<SimWorld>, app: &App) -> Self {
        let (world, protocol) = (world.clone(), app.protocol);
        let space = Space::new(Memory::new(world.clone()), world.clone());
        let seal = SealKey::new().unwrap();
        let authority = Authority::new(space, seal, AuthoritySettings::default());
        authority.init("public").await.unwrap();
        let directory = Directory::new();
        let (mut apps, mut registrations) = (Vec::new(), Vec::new());
        for name in ["b", "other"] {
            let own = authority.issue("", name).await.unwrap();
            apps.push(Workload::new(own, world.clone()).unwrap());
            let host = "127.0.0.1".to_owned();
            let target = AppTarget { protocol, host, port: app.port, socket: None };
            let channel = AppChannel::new(target, ChannelSettings::default(), world.clone());
            if name == "b" {
                channel.set_access(Some(Arc::new(only_a())));
            }
            registrations.push(directory.register(name, "", channel));
        }
        let keeper = Arc::new(Keeper { apps, authority: authority.clone(), world: world.clone() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = CancellationToken::new();
        let relay = Arc::new(Relay::new(directory.clone(), invoker(&world)));
        let serve = serve_hosts(
            keeper.clone(),
            relay,
            world.clone(),
            Listener::Tcp(listener),
            stop.clone(),
            Duration::from_secs(1),
        );
        drop(world.spawn("hosts", Box::pin(serve)));
        Self { world, authority, keeper, directory, port, stop, _registrations: registrations }
    }

    fn place(&self) -> PeerPlace {
        PeerPlace { host: "127.0.0.1".to_owned(), port: self.port }
    }

    async fn workload(&self, app: &str) -> Arc<Workload> {
        let own = self.authority.issue("", app).await.unwrap();
        Workload::new(own, self.world.clone()).unwrap()
    }

    /// Calls `callee` in order, as `caller`.
    async fn call(
        &self,
        caller: &str,
        callee: &str,
        path: &str,
    ) -> Result<Response<Body>, CallError> {
        let front = Directory::new();
        let proof = Arc::new(Proof(self.workload(caller).await));
        let app = ("default", callee);
        let channel =
            AppChannel::to_peer(AppProtocol::H2c, self.place(), app, proof, self.world.clone());
        front.set_neighbours(vec![(callee.to_owned(), "default".to_owned(), Some(channel))]);
        let target = front.resolve(callee, "default")?;
        let who = by(caller);
        let path = CanonicalPath::parse(path)?;
        invoker(&self.world)
            .invoke(Invocation {
                target: &target,
                caller: Some(&who),
                method: Method::GET,
                path: &path,
                operation: None,
                query: None,
                headers: HeaderMap::new(),
                edits: HeaderEdits::default(),
                body: body::empty(),
                policy: None,
                alternates: None,
                reconnect: None,
                patience: Patience::until(Deadline::after(&*self.world, SOON)),
            })
            .await
    }

    /// Sends whatever a host with a proper certificate of `caller` likes, on a connection for `callee`.
    async fn raw(&self, caller: &str, callee: &str, request: Request<Body>) -> Response<Body> {
        let config = self.workload(caller).await.calling("", callee).unwrap();
        let tls = ClientTls::mutual(config, &Identity::server_name("", callee)).unwrap();
        let channel = AppChannel::secured(self.place(), tls, self.world.clone());
        channel.send(request, Deadline::after(&*self.world, SOON)).await.unwrap()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn invoker(world: &Arc<SimWorld>) -> Arc<Invoker> {
    Invoker::new(OutboundClient::new(OutboundSettings::default(), world.clone()), world.clone())
}

fn by(app: &str) -> Caller {
    Caller {
        app_id: app.to_owned(),
        namespace: "default".to_owned(),
        trust_domain: "public".to_owned(),
    }
}

fn only_a() -> AccessList {
    let open =
        |name: &str| Operation { name: name.to_owned(), verbs: Vec::new(), action: Action::Allow };
    let operations = vec![open("/path"), open("/open")];
    let policy = CallerPolicy { caller: by("a"), default: None, operations };
    AccessList::new(Some(Action::Deny), vec![policy])
}

fn request(
    path: &'static str,
    headers: &[(&'static str, &'static str)],
    body: Body,
) -> Request<Body> {
    let mut request = Request::new(body);
    *request.uri_mut() = Uri::from_static(path);
    for (name, value) in headers {
        let name = HeaderName::from_static(name);
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    request
}

fn refused(answer: &Response<Body>) -> &str {
    let verdict = answer.headers().get("outrigger-peer-refused");
    verdict.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[tokio::test]
async fn who_calls_is_proved_and_an_access_list_knows_it() {
    let world = SimWorld::new(7);
    let app = App::http(&(world.clone() as Arc<dyn World>), "[]").await;
    let hosts = Hosts::new(&world, &app).await;
    let answer = hosts.call("a", "b", "/path").await.unwrap();
    assert_eq!(answer.status(), 200);
    for (caller, path) in [("a", "/closed"), ("c", "/path"), ("b", "/path")] {
        let error = hosts.call(caller, "b", path).await.unwrap_err();
        assert_eq!(error.kind(), outrigger_kernel::Kind::Forbidden, "{caller} {path}: {error}");
    }
    // Somebody else is behind that name; nothing was sent, so that another place can be tried.
    let error = hosts.call("a", "missing", "/path").await.unwrap_err();
    assert!(matches!(error, CallError::Tls { .. }) && error.nothing_sent(), "{error}");
    assert_eq!(hosts.keeper.apps.len(), 2);
    assert_eq!(hosts.directory.apps().len(), 2);
}

#[tokio::test]
async fn nothing_that_a_host_writes_changes_who_it_is_or_what_is_judged() {
    let world = SimWorld::new(7);
    let mut app = App::http(&(world.clone() as Arc<dyn World>), "[]").await;
    let hosts = Hosts::new(&world, &app).await;
    let callee = ("outrigger-peer-callee", "default/b");
    let lies: [(&str, &str, &[Line], &str); 5] = [
        ("c", "/path", &[("outrigger-peer-caller", "public/default/a")], "forbidden"),
        ("a", "/closed", &[("outrigger-peer-operation", "%2Fpath")], "forbidden"),
        ("c", "/path", &[("dapr-caller-app-id", "a")], "forbidden"),
        ("a", "/path/../closed", &[], "invalid"),
        ("a", "/path", &[("outrigger-peer-due", "never")], "invalid"),
    ];
    for (caller, path, more, verdict) in lies {
        let headers: Vec<_> = more.iter().copied().chain([callee]).collect();
        let answer = hosts.raw(caller, "b", request(path, &headers, body::empty())).await;
        assert!(refused(&answer).starts_with(verdict), "{caller} {path} {more:?}: {answer:?}");
        assert!(refused(&answer).ends_with("unseen"));
    }
    // A connection is for one app.
    let answer = hosts.raw("a", "other", request("/closed", &[callee], body::empty())).await;
    assert!(refused(&answer).starts_with("invalid"), "{answer:?}");
    // The app is told who calls by its own runtime.
    let headers = [
        callee,
        ("dapr-caller-app-id", "root"),
        ("dapr-caller-namespace", "system"),
        ("dapr-api-token", "guess"),
    ];
    let answer = hosts.raw("a", "b", request("/path", &headers, body::empty())).await;
    assert_eq!((answer.status().as_u16(), refused(&answer)), (200, ""));
    let seen = app.next().await;
    assert_eq!(seen.header("dapr-caller-app-id"), "a");
    assert_eq!(seen.header("dapr-caller-namespace"), "default");
    assert_eq!(seen.header("dapr-callee-app-id"), "b");
    assert_eq!(seen.header("dapr-api-token"), "");
    let nothing = hosts.raw("a", "b", request("/path", &[], body::empty())).await;
    assert_eq!(nothing.status(), 404);
}

#[tokio::test]
async fn an_invocation_by_message_is_judged_by_its_message() {
    let world = SimWorld::new(7);
    let app = App::grpc(&(world.clone() as Arc<dyn World>)).await;
    let hosts = Hosts::new(&world, &app).await;
    let message = |method: &str| {
        let message = outrigger_proto::common::v1::InvokeRequest {
            method: method.to_owned(),
            ..Default::default()
        };
        let content = message.encode_to_vec();
        let mut framed = vec![0];
        framed.extend_from_slice(&u32::try_from(content.len()).unwrap().to_be_bytes());
        framed.extend(content);
        framed
    };
    let headers = [
        ("outrigger-peer-callee", "default/b"),
        ("outrigger-peer-operation", "%2Fopen"),
        ("content-type", "application/grpc"),
    ];
    let ask = async |content: Vec<u8>| {
        let path = "/dapr.proto.runtime.v1.AppCallback/OnInvoke";
        let mut request = request(path, &headers, body::full(Bytes::from(content)));
        *request.method_mut() = Method::POST;
        let answer = hosts.raw("a", "b", request).await;
        refused(&answer).split(';').next().unwrap().to_owned()
    };
    assert_eq!(ask(message("open")).await, "");
    assert_eq!(ask(message("closed")).await, "forbidden");
    assert_eq!(ask(message("open/../closed")).await, "invalid");
    let mut compressed = message("open");
    compressed[0] = 1;
    let (short, two) =
        (message("open")[..4].to_vec(), [message("open"), message("closed")].concat());
    for bad in [compressed, short, two, Vec::new(), b"\0\0\0\0\x02\xff\xff".to_vec()] {
        assert_eq!(ask(bad).await, "invalid");
    }
}

#[tokio::test]
async fn the_authority_answers_who_has_a_token_and_nobody_else() {
    let world = SimWorld::new(7);
    let app = App::http(&(world.clone() as Arc<dyn World>), "[]").await;
    let hosts = Hosts::new(&world, &app).await;
    let token = hosts.authority.token("", "a").await.unwrap();
    let ask = async |asked: Vec<u8>, path: &'static str| {
        let config = joining(&token, hosts.world.clone()).unwrap();
        let tls = ClientTls::mutual(config, AUTHORITY_NAME).unwrap();
        let channel = AppChannel::secured(hosts.place(), tls, hosts.world.clone());
        let mut request = request(path, &[], body::full(Bytes::from(asked)));
        *request.method_mut() = Method::POST;
        let answer = channel.send(request, Deadline::after(&*hosts.world, SOON)).await.unwrap();
        let status = answer.status().as_u16();
        let read = answer.into_body().collect().await.unwrap().to_bytes();
        (status, EnrolAnswer::decode(read).unwrap_or_default())
    };
    let key = KeyRequest::new(None).unwrap();
    let asked = EnrolRequest {
        secret: token.secret().to_vec(),
        key_request: key.request().to_vec(),
        app_id: "a".to_owned(),
        ..EnrolRequest::default()
    };
    let guessed = EnrolRequest { secret: vec![1; 32], ..asked.clone() };
    let without = EnrolRequest { secret: Vec::new(), ..asked.clone() };
    let told = ask(guessed.encode_to_vec(), ENROL_PATH).await;
    assert_eq!((told.0, told.1.code.as_str()), (403, "ERR_IDENTITY_TOKEN_UNKNOWN"));
    let told = ask(without.encode_to_vec(), ENROL_PATH).await;
    assert_eq!((told.0, told.1.code.as_str()), (403, "ERR_IDENTITY_NO_PROOF"));
    assert_eq!(ask(b"\xff\xff\xff".to_vec(), ENROL_PATH).await.0, 400);
    assert_eq!(ask(vec![0; 300 * 1024], ENROL_PATH).await.0, 400);
    assert_eq!(ask(asked.encode_to_vec(), "/v1.0/metadata").await.0, 404);
    let (status, answer) = ask(asked.encode_to_vec(), ENROL_PATH).await;
    assert_eq!(status, 200, "{answer:?}");
    assert_eq!(key.answered(answer, "", "a").unwrap().identity().app_id(), "a");
}
