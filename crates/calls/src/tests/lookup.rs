//! Apps of other hosts: when they are looked for, what is kept, and which instance gets a call.

use crate::{
    AppChannel, AppProtocol, AppTarget, CallError, ChannelSettings, Directory, Instances, Lookup,
    LookupSettings, PeerWays, Target,
    discover::{AppSources, FindError, Found, Place, Source},
};
use futures_util::FutureExt;
use outrigger_kernel::{BoxFuture, Deadline, World};
use outrigger_sim::SimWorld;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

/// What a test says of each app; an app it says nothing of has no place.
#[derive(Debug, Default)]
struct Known {
    apps: Mutex<HashMap<String, Result<Vec<Place>, FindError>>>,
    looks: AtomicU32,
}

#[derive(Debug)]
struct Entry(Arc<Known>, String);

impl AppSources for Arc<Known> {
    fn source(&self, app_id: &str, namespace: &str) -> Option<Arc<dyn Source>> {
        Some(Arc::new(Entry(Arc::clone(self), format!("{app_id}.{namespace}"))))
    }
}

impl Source for Entry {
    fn find(&self) -> BoxFuture<'_, Result<Found, FindError>> {
        Box::pin(async {
            self.0.looks.fetch_add(1, SeqCst);
            let places = self.0.apps.lock().unwrap().get(&self.1).cloned();
            let places = places.unwrap_or_else(|| Ok(Vec::new()))?;
            Ok(Found { places, valid_for: Some(Duration::from_secs(30)) })
        })
    }
}

impl Known {
    fn say(&self, app: &str, places: Result<Vec<Place>, &str>) {
        let places = places.map_err(|reason| FindError(reason.to_owned()));
        self.apps.lock().unwrap().insert(app.to_owned(), places);
    }
}

/// Makes a channel to wherever the place is, and counts.
#[derive(Debug)]
struct Ways {
    world: Arc<SimWorld>,
    made: Arc<AtomicU32>,
}

fn channel(world: &Arc<SimWorld>, port: u16) -> Arc<AppChannel> {
    let host = "127.0.0.1".to_owned();
    let target = AppTarget { protocol: AppProtocol::Http, host, port, socket: None };
    AppChannel::new(target, ChannelSettings::default(), Arc::clone(world) as _)
}

impl PeerWays for Ways {
    fn way<'a>(
        &'a self,
        _app_id: &'a str,
        _namespace: &'a str,
        place: &'a Place,
    ) -> BoxFuture<'a, Result<Arc<AppChannel>, CallError>> {
        self.made.fetch_add(1, SeqCst);
        let port = place.name.rsplit(':').next().unwrap().parse().unwrap();
        if port >= 10_000 {
            // Packets to it are swallowed.
            return Box::pin(std::future::pending());
        }
        let way = if port == 666 {
            let source = std::io::ErrorKind::ConnectionRefused.into();
            Err(CallError::Connect { target: place.name.to_string(), source })
        } else {
            Ok(channel(&self.world, port))
        };
        Box::pin(async { way })
    }
}

struct Field {
    world: Arc<SimWorld>,
    directory: Arc<Directory>,
    known: Arc<Known>,
    made: Arc<AtomicU32>,
}

fn field(settings: LookupSettings, with_ways: bool) -> Field {
    let (world, directory) = (SimWorld::new(1), Directory::new());
    let (known, made) = (Arc::<Known>::default(), Arc::<AtomicU32>::default());
    let sources = Arc::new(Arc::clone(&known));
    directory.set_lookup(Some(Lookup::new(Arc::clone(&world) as _, sources, settings)));
    if with_ways {
        let ways = Ways { world: Arc::clone(&world), made: Arc::clone(&made) };
        directory.set_peer_ways(Some(Box::new(ways)));
    }
    Field { world, directory, known, made }
}

impl Field {
    async fn find(&self, address: &str) -> Result<Arc<Instances>, CallError> {
        let deadline = Deadline::after(&*self.world, Duration::from_secs(20));
        match self.directory.find(address, "prod", deadline).await? {
            Target::App(instances) => Ok(instances),
            other => panic!("{other:?}"),
        }
    }

    async fn seconds(&self, seconds: u64) {
        self.world.sleep(Duration::from_secs(seconds)).await;
    }
}

fn place(port: u16) -> Place {
    Place::at(SocketAddr::from(([10, 0, 0, 1], port)))
}

fn in_zone(port: u16, zone: &str, weight: u32) -> Place {
    Place { weight, zone: Some(zone.into()), ..place(port) }
}

fn ports(instances: &Instances) -> Vec<u16> {
    instances.channels().iter().map(|channel| channel.target().port).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_call_waits_for_the_look_and_later_ones_take_what_is_kept() {
    let field = field(LookupSettings::default(), true);
    field.known.say("cart.prod", Ok(vec![place(1), place(2)]));
    let found = field.find("cart").await.unwrap();
    assert_eq!((ports(&found), found.app_id(), found.namespace()), (vec![1, 2], "cart", "prod"));
    let again = field.find("cart.prod").now_or_never().unwrap().unwrap();
    assert!(Arc::ptr_eq(&found, &again), "at once, and the same");
    assert_eq!((field.made.load(SeqCst), field.known.looks.load(SeqCst)), (2, 1));

    field.known.say("cart.prod", Ok(vec![place(2), place(3)]));
    field.seconds(31).await;
    field.find("cart").await.unwrap();
    field.seconds(1).await;
    let moved = field.find("cart").await.unwrap();
    assert_eq!(ports(&moved), [2, 3]);
    assert!(Arc::ptr_eq(&moved.channels()[0], &found.channels()[1]), "with its connections");
    assert_eq!(field.made.load(SeqCst), 3, "one way was new");

    field.known.say("cart.prod", Err("down"));
    field.seconds(120).await;
    field.find("cart").await.unwrap();
    field.seconds(5).await;
    assert_eq!(ports(&field.find("cart").await.unwrap()), [2, 3], "stale, and callable");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_found_is_told_apart_from_what_could_not_be_found_out() {
    let field = field(LookupSettings::default(), true);
    assert!(matches!(field.find("nobody").await, Err(CallError::NotFound { .. })));
    field.known.say("cart.prod", Err("the DNS server is silent"));
    let unknown = field.find("cart").await.unwrap_err();
    assert!(matches!(unknown, CallError::Unresolved { .. }), "{unknown}");
    assert!(unknown.to_string().contains("the DNS server is silent"), "{unknown}");
    field.known.say("cart.prod", Ok(vec![place(1)]));
    field.seconds(2).await;
    assert_eq!(ports(&field.find("cart").await.unwrap()), [1], "soon after it is known");

    field.known.say("shop.prod", Ok(vec![place(666)]));
    let refused = field.find("shop").await.unwrap_err();
    assert!(refused.to_string().contains("cannot connect to 10.0.0.1:666"), "{refused}");
    field.known.say("half.prod", Ok(vec![place(666), place(7)]));
    assert_eq!(ports(&field.find("half").await.unwrap()), [7], "one way is enough");
}

#[tokio::test(start_paused = true)]
async fn places_that_swallow_everything_keep_nobody_from_those_that_answer() {
    let field = field(LookupSettings::default(), true);
    let dead = (10_000..10_040).map(place);
    field.known.say("cart.prod", Ok(dead.chain([place(1), place(2)]).collect()));
    // Those that answer may be behind forty that do not; the next look begins with who was not asked.
    drop(field.find("cart").await);
    field.seconds(12).await;
    drop(field.find("cart").await);
    field.seconds(12).await;
    let began = field.world.mono();
    let mut found = ports(&field.find("cart").await.unwrap());
    found.sort_unstable();
    assert_eq!(found, [1, 2]);
    assert!(field.world.mono().since(began) < Duration::from_millis(10), "kept");

    field.known.say("shop.prod", Ok(vec![place(3), place(10_000)]));
    let began = field.world.mono();
    assert_eq!(ports(&field.find("shop").await.unwrap()), [3]);
    let took = field.world.mono().since(began);
    assert!(took < Duration::from_secs(1), "the one that answers is not kept waiting: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_way_the_error_says_what_is_missing() {
    let field = field(LookupSettings::default(), false);
    field.known.say("cart.prod", Ok(vec![place(1)]));
    let refused = field.find("cart").await.unwrap_err();
    assert!(matches!(refused, CallError::NoPeerWay { .. }), "{refused}");
    let told = refused.to_string();
    assert!(told.contains("10.0.0.1:1") && told.contains("identity"), "{told}");
    assert!(matches!(field.find("nobody").await, Err(CallError::NotFound { .. })));
}

#[tokio::test(start_paused = true)]
async fn few_names_are_kept_and_idle_ones_let_go() {
    let settings = LookupSettings {
        names_max: 2,
        idle_for: Duration::from_secs(60),
        ..LookupSettings::default()
    };
    let field = field(settings, true);
    for (port, app) in [(1, "a"), (2, "b"), (3, "c")] {
        field.known.say(&format!("{app}.prod"), Ok(vec![place(port)]));
        field.find(app).await.unwrap();
        field.seconds(1).await;
    }
    let known = || field.directory.apps().into_iter().map(|(app, ..)| app).collect::<Vec<_>>();
    assert_eq!(known(), ["b", "c"], "the one used longest ago made room");
    field.seconds(50).await;
    field.find("c").await.unwrap();
    field.seconds(45).await;
    assert_eq!(known(), ["c"], "nobody called b for a minute");
    field.seconds(120).await;
    assert!(known().is_empty());
}

#[tokio::test(start_paused = true)]
async fn instances_here_come_first_then_the_own_zone_then_the_rest() {
    let zone = Some("a".into());
    let field = field(LookupSettings { zone, ..LookupSettings::default() }, true);
    let near = vec![in_zone(1, "b", 1), in_zone(2, "a", 3), in_zone(3, "a", 1)];
    field.known.say("cart.prod", Ok(near));
    let (own, second) = (channel(&field.world, 8), channel(&field.world, 9));
    let _own = field.directory.register("cart", "prod", Arc::clone(&own));
    let _second = field.directory.register("cart", "prod", Arc::clone(&second));
    assert_eq!(ports(&field.find("cart").await.unwrap()), [8, 9], "nobody waits");
    field.seconds(1).await;
    let found = field.find("cart").await.unwrap();
    assert_eq!(ports(&found), [8, 9, 2, 3, 1]);
    let picks = |times: usize| -> HashMap<u16, usize> {
        (0..times).fold(HashMap::new(), |mut picks, _| {
            *picks.entry(found.pick(&[]).unwrap().target().port).or_default() += 1;
            picks
        })
    };
    assert_eq!(picks(10), HashMap::from([(8, 5), (9, 5)]));
    own.set_healthy(false);
    second.set_healthy(false);
    let spilled = picks(400);
    assert_eq!(spilled.values().sum::<usize>(), 400);
    assert!((295..=305).contains(&spilled[&2]) && !spilled.contains_key(&1), "{spilled:?}");
    let tried: Vec<_> = found.channels()[2..4].to_vec();
    assert_eq!(found.pick(&tried).unwrap().target().port, 1);
}
