//! Keeping a set: what is asked when, and what stays when nobody answers.

use super::super::{
    At, Discovery, DiscoverySettings, Endpoints, FindError, Found, Place, PlaceSet, Several, Source,
};
use outrigger_kernel::{BoxFuture, Deadline, World};
use outrigger_sim::SimWorld;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

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

#[tokio::test(start_paused = true)]
async fn several_sources_are_one_and_one_that_fails_keeps_its_part() {
    let one = Script::new([found(&[1, 2], 10), down(), down(), found(&[], 10)]);
    let two = Script::new([down(), found(&[2, 3], 60)]);
    let both = Several::new(vec![one.clone(), two.clone()]);
    let sources = |found: Found| {
        let set = PlaceSet { places: found.places.into(), ..PlaceSet::default() };
        (ports(&set), found.valid_for.map(|valid_for| valid_for.as_secs()))
    };
    assert_eq!(sources(both.find().await.unwrap()), (vec![1, 2], Some(5)));
    assert_eq!(sources(both.find().await.unwrap()), (vec![1, 2, 3], Some(5)));
    both.find().await.unwrap();
    assert_eq!(sources(both.find().await.unwrap()), (vec![2, 3], Some(10)));
    assert!(Several::new(vec![Script::new([down()])]).find().await.is_err());
}

#[test]
fn what_was_made_for_a_place_stays_with_it() {
    let made = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&made);
    let endpoints = Endpoints::new(move |_| count.fetch_add(1, SeqCst));
    let set = |numbers: &[u16]| {
        let places = found(numbers, 1).unwrap().places.into();
        endpoints.of(&PlaceSet { places, ..PlaceSet::default() })
    };
    let values = |numbers| set(numbers).iter().map(|one| one.value).collect::<Vec<_>>();
    assert_eq!(values(&[1, 2]), [0, 1]);
    assert_eq!(values(&[2, 3]), [1, 2]);
    assert_eq!(values(&[1, 2]), [3, 1], "what has gone is made anew");
    assert_eq!(made.load(SeqCst), 4);
}
