//! Discovery against sources that a test owns: a list of answers in simulated time, and a small DNS server on loopback.

use super::{
    At, Discovery, DiscoverySettings, DnsClient, DnsFailure, DnsSettings, DnsSource, FindError,
    FixedList, Found, LocalApps, Place, PlaceSet, Source,
};
use crate::Directory;
use outrigger_kernel::{BoxFuture, Deadline, World};
use outrigger_sim::SimWorld;
use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::AbortHandle,
};

// === lists and the directory ===

#[test]
fn a_list_is_read_or_refused() {
    let text = "10.0.0.1:80, shop-1.Example:8080 weight=5 zone=a\n[::1]:9 zone=b\n\n";
    let list = FixedList::parse(text).unwrap();
    let found = futures_util::FutureExt::now_or_never(list.find()).unwrap().unwrap();
    assert_eq!(found.valid_for, None);
    let names: Vec<&str> = found.places.iter().map(|place| &*place.name).collect();
    assert_eq!(names, ["10.0.0.1:80", "shop-1.example:8080", "[::1]:9"]);
    let second = &found.places[1];
    assert!(matches!(&second.at, At::Host(host, 8080) if host == "shop-1.example"));
    assert_eq!((second.weight, second.zone.as_deref()), (5, Some("a")));
    for bad in [
        "shop",
        "shop:",
        "shop:0",
        "shop:80 weight=x",
        "shop:80 zone=",
        "a b:1",
        "http://a:1",
        ":80",
        "a:1 b",
    ] {
        assert_eq!(FixedList::parse(bad).unwrap_err().0, bad);
    }
}

#[test]
fn apps_of_this_machine_are_places() {
    let directory = Directory::new();
    let apps = LocalApps::new(Arc::clone(&directory), "shop", "");
    let find = || futures_util::FutureExt::now_or_never(apps.find()).unwrap();
    assert_eq!(find().unwrap().places, []);
    let _here = directory.register_without_port("shop", "");
    assert_eq!(find().unwrap().places, [], "an app without a port has no place");
    assert!(find().unwrap().valid_for.is_some());
}

// === keeping a set ===

/// Gives one answer after the other, the last one for ever.
#[derive(Debug, Default)]
struct Script {
    answers: Mutex<VecDeque<Result<Found, FindError>>>,
    looks: AtomicU32,
    hangs: bool,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Result<Found, FindError>>) -> Arc<Self> {
        let answers = Mutex::new(answers.into_iter().collect());
        Arc::new(Self { answers, ..Self::default() })
    }
}

impl Source for Script {
    fn find(&self) -> BoxFuture<'_, Result<Found, FindError>> {
        self.looks.fetch_add(1, SeqCst);
        if self.hangs {
            return Box::pin(std::future::pending());
        }
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(async move { answer.unwrap() })
    }
}

fn found(ports: &[u16], valid_for_s: u64) -> Result<Found, FindError> {
    let place = |port: &u16| Place::at(SocketAddr::from(([10, 0, 0, 1], *port)));
    let valid_for = Some(Duration::from_secs(valid_for_s));
    Ok(Found { places: ports.iter().map(place).collect(), valid_for })
}

fn down() -> Result<Found, FindError> {
    Err(FindError("down".to_owned()))
}

fn ports(set: &PlaceSet) -> Vec<u16> {
    let port = |place: &Place| match place.at {
        At::Address(address) => address.port(),
        _ => 0,
    };
    set.places.iter().map(port).collect()
}

type Seen = Arc<Mutex<Vec<Vec<u16>>>>;

fn start(world: &Arc<SimWorld>, source: &Arc<Script>) -> (Discovery, Seen) {
    let (seen, world) = (Seen::default(), Arc::clone(world));
    let told = Arc::clone(&seen);
    let changed = move |set: &PlaceSet| told.lock().unwrap().push(ports(set));
    let source = Arc::clone(source);
    (Discovery::start(world, source, DiscoverySettings::default(), changed), seen)
}

async fn seconds(world: &SimWorld, seconds: u64) {
    world.sleep(Duration::from_secs(seconds)).await;
}

fn soon(world: &SimWorld) -> Deadline {
    Deadline::after(world, Duration::from_secs(1))
}

#[tokio::test(start_paused = true)]
async fn a_set_is_refreshed_when_its_time_is_over_and_told_when_it_changed() {
    let world = SimWorld::new(1);
    let source = Script::new([found(&[2, 1, 1], 10), found(&[1, 2], 10), found(&[3], 10)]);
    let (discovery, seen) = start(&world, &source);
    assert_eq!(ports(&*discovery.first(soon(&world)).await), [1, 2]);
    seconds(&world, 8).await;
    assert_eq!((discovery.present().version, source.looks.load(SeqCst)), (1, 1));
    seconds(&world, 3).await;
    assert_eq!((discovery.present().version, source.looks.load(SeqCst)), (1, 2));
    assert_eq!(*seen.lock().unwrap(), [[1, 2]], "another order is no change");
    seconds(&world, 11).await;
    assert_eq!(ports(&discovery.present()), [3]);
    assert_eq!(*seen.lock().unwrap(), [vec![1, 2], vec![3]]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_is_not_refreshed() {
    let world = SimWorld::new(2);
    let source = Script::new([found(&[1], 10), found(&[2], 10)]);
    let (discovery, _) = start(&world, &source);
    world.sleep(Duration::from_millis(1)).await;
    seconds(&world, 3_600).await;
    assert_eq!(source.looks.load(SeqCst), 1);
    assert_eq!(ports(&discovery.present()), [1], "the old one at once");
    seconds(&world, 1).await;
    assert_eq!((ports(&discovery.present()), source.looks.load(SeqCst)), (vec![2], 2));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_down_changes_nothing() {
    let world = SimWorld::new(3);
    let source = Script::new([found(&[1], 5), down(), down(), down(), down(), found(&[2], 5)]);
    let (discovery, seen) = start(&world, &source);
    let first = discovery.first(soon(&world)).await;
    assert_eq!((ports(&first), &first.stale), (vec![1], &None));
    seconds(&world, 6).await;
    let stale = discovery.present();
    assert_eq!(
        (ports(&stale), stale.stale.is_some(), stale.found_at),
        (vec![1], true, first.found_at)
    );
    // Asked again after 1, 2, 4 and 8 s.
    seconds(&world, 4).await;
    assert!((3..=4).contains(&source.looks.load(SeqCst)));
    seconds(&world, 14).await;
    let fresh = discovery.present();
    assert_eq!((ports(&fresh), &fresh.stale), (vec![2], &None));
    assert_eq!(*seen.lock().unwrap(), [[1], [2]]);
}

#[tokio::test(start_paused = true)]
async fn that_there_is_nothing_must_be_said_twice() {
    let world = SimWorld::new(4);
    let blip = Script::new([found(&[1], 5), found(&[], 5), found(&[1], 5)]);
    let (discovery, seen) = start(&world, &blip);
    discovery.first(soon(&world)).await;
    seconds(&world, 20).await;
    assert_eq!((ports(&discovery.present()), seen.lock().unwrap().len()), (vec![1], 1));
    let gone = Script::new([found(&[1], 5), found(&[], 5)]);
    let (discovery, seen) = start(&world, &gone);
    discovery.first(soon(&world)).await;
    seconds(&world, 5).await;
    assert_eq!(ports(&discovery.present()), [1]);
    seconds(&world, 5).await;
    assert_eq!((ports(&discovery.present()), seen.lock().unwrap().len()), (vec![], 2));
}

#[tokio::test(start_paused = true)]
async fn a_look_that_hangs_ends_and_readers_do_not_wait_for_ever() {
    let world = SimWorld::new(5);
    let source = Arc::new(Script { hangs: true, ..Script::default() });
    let (discovery, _) = start(&world, &source);
    let begun = world.mono();
    let set = discovery.first(soon(&world)).await;
    assert_eq!((set.found_at, world.mono().since(begun).as_secs()), (None, 1));
    seconds(&world, 10).await;
    assert!(discovery.present().stale.is_some() && source.looks.load(SeqCst) >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_hurry_is_heeded_but_not_more_than_once_a_second() {
    let world = SimWorld::new(6);
    let source = Script::new([found(&[1], 300)]);
    let (discovery, _) = start(&world, &source);
    discovery.first(soon(&world)).await;
    for _ in 0..1_000 {
        discovery.hurry();
        world.sleep(Duration::from_millis(10)).await;
    }
    let looks = source.looks.load(SeqCst);
    assert!((9..=12).contains(&looks), "{looks} looks in ten seconds");
    drop(discovery);
    seconds(&world, 600).await;
    assert_eq!(source.looks.load(SeqCst), looks, "it ends when dropped");
}

// === DNS ===

/// What the server says of a name and type.
#[derive(Clone, Default)]
struct Zone {
    /// Owner, type, TTL and data of each record.
    records: Vec<(&'static str, u16, u32, Vec<u8>)>,
    /// Answers with this code, whatever was asked.
    code: u8,
    /// Says nothing.
    silent: bool,
    /// Says by UDP that it does not fit.
    truncates: bool,
    /// Sends something forged first.
    forges: bool,
}

/// A DNS server on loopback, by UDP and TCP at the same port.
struct Server {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    asked: Arc<Mutex<HashMap<(String, u16), u32>>>,
    tasks: [AbortHandle; 2],
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

fn name_bytes(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> =
        labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let (kind, ttl) = (kind.to_be_bytes(), ttl.to_be_bytes());
    let length = (data.len() as u16).to_be_bytes();
    [owner, &kind, &[0, 1], &ttl, &length, data].concat()
}

impl Zone {
    fn answer(&self, question: &[u8], by_udp: bool) -> ((String, u16), Vec<u8>) {
        let (mut at, mut labels) = (12, Vec::new());
        while question[at] != 0 {
            let end = at + 1 + usize::from(question[at]);
            labels.push(String::from_utf8(question[at + 1..end].to_vec()).unwrap());
            at = end;
        }
        let name = labels.join(".");
        let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
        let cut = by_udp && self.truncates;
        let mut answers = Vec::new();
        // Aliases come along, as a recursive server sends them.
        let mut owner = name.as_str();
        loop {
            let of = |wanted| {
                self.records.iter().filter(move |(own, kind, ..)| *own == owner && *kind == wanted)
            };
            let alias = of(5).next();
            for (_, kind, ttl, data) in of(kind).chain(alias) {
                // The question's name is pointed at, as everyone does.
                let owner = if owner == name { vec![0xc0, 12] } else { name_bytes(owner) };
                answers.push(record(&owner, *kind, *ttl, data));
            }
            let Some((.., data)) = alias else { break };
            let target = data.clone();
            let known = self.records.iter().find(|(own, ..)| name_bytes(own) == target);
            let Some((next, ..)) = known else { break };
            owner = next;
        }
        let mut soa = [name_bytes("ns"), name_bytes("host")].concat();
        soa.extend([1_u32, 2, 3, 4, 7].iter().flat_map(|number| number.to_be_bytes()));
        let authority = answers.is_empty().then(|| record(&[0], 6, 60, &soa));
        let counts = [1, if cut { 0 } else { answers.len() as u8 }, u8::from(authority.is_some())];
        let mut bytes = question[..2].to_vec();
        bytes.extend([0x81 | u8::from(cut) << 1, 0x80 | self.code]);
        bytes.extend([0, counts[0], 0, counts[1], 0, counts[2], 0, 0]);
        bytes.extend(&question[12..at + 5]);
        if !cut {
            bytes.extend(answers.concat());
            bytes.extend(authority.unwrap_or_default());
        }
        ((name, kind), bytes)
    }
}

impl Server {
    async fn start(zone: Zone) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let (zone, asked) = (Arc::new(Mutex::new(zone)), Arc::<Mutex<HashMap<_, _>>>::default());
        let (udp_zone, udp_asked) = (Arc::clone(&zone), Arc::clone(&asked));
        let udp = async move {
            let mut bytes = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut bytes).await.unwrap();
                let (key, answer, zone) = {
                    let zone = udp_zone.lock().unwrap().clone();
                    let (key, answer) = zone.answer(&bytes[..length], true);
                    (key, answer, zone)
                };
                *udp_asked.lock().unwrap().entry(key).or_insert(0) += 1;
                if zone.forges {
                    let mut forged = answer.clone();
                    forged[0] ^= 1;
                    socket.send_to(&forged, from).await.unwrap();
                    socket.send_to(b"nonsense", from).await.unwrap();
                }
                if !zone.silent {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        };
        let tcp_zone = Arc::clone(&zone);
        let tcp = async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut bytes).await.unwrap();
                let (_, answer) = tcp_zone.lock().unwrap().answer(&bytes, false);
                stream.write_all(&(answer.len() as u16).to_be_bytes()).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        };
        let tasks = [spawn(udp), spawn(tcp)];
        Self { address, zone, asked, tasks }
    }

    fn client(&self, more: DnsSettings) -> DnsClient {
        let mut servers = vec![self.address];
        servers.extend(&more.servers);
        DnsClient::new(SimWorld::new(7), DnsSettings { servers, ..more })
    }

    fn asked(&self, name: &str, kind: u16) -> u32 {
        self.asked.lock().unwrap().get(&(name.to_owned(), kind)).copied().unwrap_or(0)
    }
}

#[expect(clippy::disallowed_methods, reason = "the test's own server, stopped by its handle")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    tokio::spawn(task).abort_handle()
}

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const SRV: u16 = 33;

fn srv(priority: u16, weight: u16, port: u16, host: &str) -> Vec<u8> {
    let numbers = [priority, weight, port].map(u16::to_be_bytes).concat();
    [numbers, name_bytes(host)].concat()
}

/// Settings under which silence is noticed soon.
fn quick() -> DnsSettings {
    DnsSettings { attempt: Duration::from_millis(50), attempts: 1, ..DnsSettings::default() }
}

/// Settings that wait for a busy machine.
fn calm() -> DnsSettings {
    DnsSettings { attempt: Duration::from_secs(10), ..DnsSettings::default() }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn both_families_of_a_host_are_found_for_as_long_as_the_shortest_says() {
    let zone = Zone {
        records: vec![
            ("cart.shop.svc", A, 30, vec![10, 0, 0, 1]),
            ("cart.shop.svc", A, 20, vec![10, 0, 0, 2]),
            ("cart.shop.svc", AAAA, 25, [&[0xfd; 1][..], &[0; 14], &[9]].concat()),
            ("four.shop.svc", A, 30, vec![10, 0, 0, 4]),
        ],
        forges: true,
        ..Zone::default()
    };
    let server = Server::start(zone).await;
    let client = server.client(calm());
    let found = client.addresses("Cart.shop.svc.").await.unwrap();
    assert_eq!(found.records, ips(&["10.0.0.1", "10.0.0.2", "fd00::9"]));
    assert_eq!(found.valid_for, Duration::from_secs(20));
    let four = client.addresses("four.shop.svc").await.unwrap();
    assert_eq!((four.records, four.valid_for.as_secs()), (ips(&["10.0.0.4"]), 30));
    let none = client.addresses("gone.shop.svc").await.unwrap();
    assert_eq!((none.records, none.valid_for.as_secs()), (vec![], 7), "as the zone says");
    assert_eq!(client.addresses("10.1.2.3").await.unwrap().records, ips(&["10.1.2.3"]));
    assert_eq!(server.asked("10.1.2.3", A), 0);
    let bad = client.addresses("not a name").await;
    assert!(matches!(bad, Err(DnsFailure::BadName(_))));
}

#[tokio::test]
async fn aliases_are_followed_and_their_time_counts() {
    let zone = Zone {
        records: vec![
            ("www.example", CNAME, 9, name_bytes("edge.example")),
            ("edge.example", CNAME, 300, name_bytes("real.example")),
            ("real.example", A, 60, vec![192, 0, 2, 1]),
            ("round.example", CNAME, 60, name_bytes("other.example")),
        ],
        ..Zone::default()
    };
    let server = Server::start(zone).await;
    let found = server.client(calm()).addresses("www.example").await.unwrap();
    assert_eq!((found.records, found.valid_for.as_secs()), (ips(&["192.0.2.1"]), 9));
    let dangling = server.client(calm()).addresses("round.example").await.unwrap();
    assert_eq!(dangling.records, Vec::<IpAddr>::new());
}

#[tokio::test]
async fn what_does_not_fit_comes_by_tcp() {
    let many: Vec<_> = (0..200_u8).map(|n| ("big.svc", A, 30, vec![10, 0, 1, n])).collect();
    let server = Server::start(Zone { records: many, truncates: true, ..Zone::default() }).await;
    let found = server.client(calm()).addresses("big.svc").await.unwrap();
    assert_eq!(found.records.len(), 200);
}

#[tokio::test]
async fn the_search_list_and_the_hosts_file_are_used() {
    let zone = Zone {
        records: vec![("cart.shop.svc.cluster.local", A, 5, vec![10, 0, 0, 1])],
        ..Zone::default()
    };
    let server = Server::start(zone).await;
    let resolv_conf = "search shop.svc.cluster.local svc.cluster.local\noptions ndots:5";
    let settings = DnsSettings::parse(resolv_conf, "127.0.0.9 here\n");
    let client = server.client(DnsSettings { attempt: Duration::from_secs(10), ..settings });
    assert_eq!(client.addresses("cart").await.unwrap().records, ips(&["10.0.0.1"]));
    assert_eq!(client.addresses("cart.shop").await.unwrap().records, ips(&["10.0.0.1"]));
    assert_eq!(server.asked("cart.shop.shop.svc.cluster.local", A), 1);
    assert_eq!(client.addresses("Here").await.unwrap().records, ips(&["127.0.0.9"]));
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_cannot_say() {
    let records = vec![("shop", A, 5, vec![10, 0, 0, 1])];
    let good = Server::start(Zone { records, ..Zone::default() }).await;
    let broken = Server::start(Zone { code: 2, ..Zone::default() }).await;
    let more = DnsSettings { servers: vec![good.address], ..calm() };
    assert_eq!(broken.client(more).addresses("shop").await.unwrap().records.len(), 1);
    let alone = broken.client(quick()).addresses("shop").await;
    assert_eq!(alone, Err(DnsFailure::Refused { server: broken.address, code: 2 }));

    let silent = Server::start(Zone { silent: true, ..Zone::default() }).await;
    let failure = silent.client(quick()).addresses("shop").await.unwrap_err();
    assert_eq!(failure, DnsFailure::Silent { server: silent.address, after: quick().attempt });
    let none = DnsClient::new(SimWorld::new(1), DnsSettings::default());
    assert_eq!(none.addresses("shop").await, Err(DnsFailure::NoServers));
}

#[tokio::test]
async fn services_are_places_of_the_lowest_priority_that_is_there() {
    let zone = Zone {
        records: vec![
            ("_http._tcp.shop", SRV, 60, srv(10, 3, 8001, "one.shop")),
            ("_http._tcp.shop", SRV, 60, srv(10, 0, 8002, "two.shop")),
            ("_http._tcp.shop", SRV, 60, srv(20, 1, 9000, "spare.shop")),
            ("_http._tcp.shop", SRV, 60, srv(5, 1, 7000, "gone.shop")),
            ("_none._tcp.shop", SRV, 60, srv(0, 0, 0, "")),
            ("one.shop", A, 30, vec![10, 0, 0, 1]),
            ("two.shop", A, 15, vec![10, 0, 0, 2]),
            ("two.shop", AAAA, 40, [&[0xfd; 1][..], &[0; 14], &[2]].concat()),
            ("spare.shop", A, 30, vec![10, 0, 0, 9]),
        ],
        ..Zone::default()
    };
    let server = Server::start(zone).await;
    let source = DnsSource::services(server.client(calm()), "_http._tcp.shop.");
    let found = source.find().await.unwrap();
    let places: Vec<(&str, u32)> = found.places.iter().map(|p| (&*p.name, p.weight)).collect();
    assert_eq!(places, [("10.0.0.1:8001", 3), ("10.0.0.2:8002", 1), ("[fd00::2]:8002", 1)]);
    assert_eq!(found.valid_for.unwrap().as_secs(), 7, "the host that is not there, for so long");
    assert_eq!(server.asked("spare.shop", A), 0);
    let none = DnsSource::services(server.client(calm()), "_none._tcp.shop.");
    assert_eq!(none.find().await.unwrap().places, []);
}

#[tokio::test]
async fn a_kept_set_follows_the_zone_and_survives_the_server() {
    let record = |n| ("cart.svc", A, 1, vec![10, 0, 0, n]);
    let zone = Zone { records: vec![record(1), record(2)], ..Zone::default() };
    let server = Server::start(zone).await;
    let world = SimWorld::new(8);
    let source =
        DnsSource::hosts(server.client(DnsSettings { attempts: 1, ..quick() }), "cart.svc.", 80);
    let settings = DiscoverySettings {
        valid_min: Duration::from_millis(20),
        valid_max: Duration::from_millis(20),
        retry_min: Duration::from_millis(20),
        retry_max: Duration::from_millis(20),
        ..DiscoverySettings::default()
    };
    let (changes, mut changed) = tokio::sync::watch::channel(Vec::new());
    let tell = move |set: &PlaceSet| {
        let names = set.places.iter().map(|place| place.name.to_string()).collect();
        changes.send_replace(names);
    };
    let own: Arc<dyn World> = Arc::clone(&world) as _;
    let discovery = Discovery::start(own, Arc::new(source), settings, tell);
    let wait = async |wanted: &[&str], changed: &mut tokio::sync::watch::Receiver<Vec<String>>| {
        while *changed.borrow_and_update() != wanted {
            discovery.used();
            let _tick = tokio::select! {
                change = changed.changed() => change.is_ok(),
                () = world.sleep(Duration::from_millis(5)) => false,
            };
        }
    };
    wait(&["10.0.0.1:80", "10.0.0.2:80"], &mut changed).await;
    server.zone.lock().unwrap().records = vec![record(2), record(3)];
    wait(&["10.0.0.2:80", "10.0.0.3:80"], &mut changed).await;
    server.zone.lock().unwrap().silent = true;
    while discovery.present().stale.is_none() {
        world.sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(discovery.present().places.len(), 2);
    server.zone.lock().unwrap().silent = false;
    server.zone.lock().unwrap().records = vec![record(4)];
    wait(&["10.0.0.4:80"], &mut changed).await;
}
