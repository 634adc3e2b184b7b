//! Random watches and changes against a model that looks at every range for every change.
//!
//! Readers are of two kinds. A *lazy* one asks now and then and gives up waiting at once. An *eager* one reads inside the
//! wake-up itself and waits again: whatever wakes it twice is counted twice.

use super::{super::Registry, key};
use crate::{KeyRange, Watch};
use bytes::Bytes;
use futures_util::FutureExt;
use outrigger_kernel::World;
use outrigger_sim::SimWorld;
use std::{
    pin::pin,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll, Wake, Waker},
};

const KEYS: [&[u8]; 8] = [b"a", b"a\0", b"ab", b"ab\xff", b"abc", b"ac", b"b", b"\xff"];

struct Eager {
    watch: Mutex<Watch>,
    /// Every revision it was told, in the order it was told.
    told: Mutex<Vec<u64>>,
}

/// Whoever watches holds its waker, so the waker must not hold the watch.
struct Again(Weak<Eager>);

impl Eager {
    fn park(self: &Arc<Self>) {
        let waker = Waker::from(Arc::new(Again(Arc::downgrade(self))));
        let mut watch = self.watch.lock().unwrap();
        while let Poll::Ready(revision) =
            pin!(watch.changed()).poll(&mut Context::from_waker(&waker))
        {
            self.told.lock().unwrap().push(revision);
        }
    }
}

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        if let Some(reader) = self.0.upgrade() {
            reader.park();
        }
    }
}

struct Lazy {
    watch: Watch,
    /// The last revision that touched its range and that it has not been told.
    untold: Option<u64>,
}

/// Plays `rounds` of changes and readers that come and go.
///
/// # Panics
/// When somebody is woken in vain, twice, or not at all.
pub(crate) fn random_watching(seed: u64, rounds: u64) {
    let world = SimWorld::new(seed);
    let below = |bound: usize| usize::try_from(world.random()).unwrap_or(usize::MAX) % bound;
    let registry = Registry::default();
    let mut lazy: Vec<(KeyRange, Lazy)> = Vec::new();
    let mut eager: Vec<(KeyRange, Arc<Eager>)> = Vec::new();
    let mut revision = 0;
    for _ in 0..rounds {
        for _ in 0..below(4) {
            let range = range(&below);
            let watch = registry.watch(range.clone());
            if below(2) == 0 {
                lazy.push((range, Lazy { watch, untold: None }));
            } else {
                let (watch, told) = (Mutex::new(watch), Mutex::default());
                let reader = Arc::new(Eager { watch, told });
                reader.park();
                eager.push((range, reader));
            }
        }
        let (mut changed, mut cleared) = (Vec::new(), Vec::new());
        for _ in 0..=below(3) {
            revision += 1;
            changed.extend((0..below(3)).map(|_| (revision, key(KEYS[below(8)]))));
            cleared.extend((0..below(4) / 3).map(|_| (revision, range(&below))));
        }
        registry.notify(changed.iter().map(|(r, k)| (*r, k)), cleared.iter().map(|(r, c)| (*r, c)));
        let touching = |range: &KeyRange| last_touching(range, &changed, &cleared);
        for (range, reader) in &eager {
            let told = std::mem::take(&mut *reader.told.lock().unwrap());
            let expected: Vec<u64> = touching(range).into_iter().collect();
            assert_eq!(told, expected, "one wake-up for all that {range:?} was touched by");
        }
        for (range, reader) in &mut lazy {
            reader.untold = touching(range).or(reader.untold);
            if below(3) == 0 {
                let told = reader.watch.changed().now_or_never();
                assert_eq!(told, reader.untold.take(), "{range:?}");
                assert_eq!(reader.watch.changed().now_or_never(), None, "told once");
            }
        }
        for _ in 0..below(4) {
            drop((!lazy.is_empty()).then(|| lazy.swap_remove(below(lazy.len()))));
            drop((!eager.is_empty()).then(|| eager.swap_remove(below(eager.len()))));
        }
    }
    drop((lazy, eager));
    assert!(format!("{registry:?}").starts_with("Registry(0 ranges, 0 "), "{registry:?}");
}

fn range(below: &impl Fn(usize) -> usize) -> KeyRange {
    let end = |at: usize| Bytes::from_static(KEYS[at]);
    match below(6) {
        0 => KeyRange::prefix(end(below(8))),
        1 => KeyRange { start: end(below(8)), end: None },
        2 => KeyRange::all(),
        3 => KeyRange { end: Some([KEYS[below(8)], b"\0"].concat().into()), start: end(below(8)) },
        _ => KeyRange { start: end(below(8)), end: Some(end(below(8))) },
    }
}

fn last_touching(
    range: &KeyRange,
    changed: &[(u64, Bytes)],
    cleared: &[(u64, KeyRange)],
) -> Option<u64> {
    // By every possible key: a clear and a range meet if some key lies in both.
    let possible = |key: &&[u8]| range.contains(key);
    let keys = changed.iter().filter(|(_, key)| range.contains(key)).map(|(revision, _)| *revision);
    let clears = cleared.iter().filter(|(_, clear)| {
        let ends: [&[u8]; 2] = [&clear.start, &range.start];
        ends.iter().filter(|key| possible(key)).any(|key| clear.contains(key))
    });
    keys.chain(clears.map(|(revision, _)| *revision)).max()
}

#[tokio::test]
async fn everybody_is_told_once_of_all_that_touches_them() {
    for seed in 0..20 {
        random_watching(seed, 300);
    }
}
