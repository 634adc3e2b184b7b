//! DNS as it comes: families, aliases, search lists, big answers, forged answers, servers that fail.

use super::{
    super::{
        Discovery, DiscoverySettings, DnsClient, DnsFailure, DnsSettings, DnsSource, PlaceSet,
        Source,
    },
    dns_server::{A, AAAA, CNAME, SRV, Server, Zone, name_bytes, srv},
};
use outrigger_kernel::World;
use outrigger_sim::SimWorld;
use std::{net::IpAddr, sync::Arc, time::Duration};

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
async fn a_domain_that_is_broken_does_not_hide_the_others() {
    let records = vec![
        ("cart.shop.example", A, 5, vec![10, 0, 0, 1]),
        ("_http._tcp.cart.example", SRV, 5, srv(0, 0, 80, "cart.shop.example")),
    ];
    let broken = "cart.shop.example.broken.example";
    let server = Server::start(Zone { records, breaks_at: broken, ..Zone::default() }).await;
    let search = vec!["broken.example".to_owned()];
    let client = server.client(DnsSettings { search, ndots: 9, ..calm() });
    assert_eq!(client.addresses("cart.shop.example").await.unwrap().records, ips(&["10.0.0.1"]));
    server.zone.lock().unwrap().breaks_at = "_http._tcp.cart.example.broken.example";
    assert_eq!(client.services("_http._tcp.cart.example").await.unwrap().records.len(), 1);
    // Whether there is none is not known as long as one of the names is not.
    server.zone.lock().unwrap().breaks_at = "gone.example.broken.example";
    let gone = client.addresses("gone.example").await;
    assert_eq!(gone, Err(DnsFailure::Refused { server: server.address, code: 2 }));
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_cannot_say() {
    let records = vec![("shop", A, 5, vec![10, 0, 0, 1])];
    let good = Server::start(Zone { records, ..Zone::default() }).await;
    let broken = Server::start(Zone { code: 2, ..Zone::default() }).await;
    let more = DnsSettings { servers: vec![good.address], ..calm() };
    assert_eq!(broken.client(more).addresses("shop").await.unwrap().records.len(), 1);
    let alone = broken.client(calm()).addresses("shop").await;
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
