//! Threads that change, wait, give up waiting and go away, all at once: nobody misses the last change.

use super::super::Registry;
use crate::KeyRange;
use bytes::Bytes;
use futures_util::FutureExt;
use std::{
    sync::{
        Barrier,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

const WRITERS: u64 = 2;
const READERS: u64 = 4;
const PUBLISHES: u64 = 3_000;

fn block_on<T>(body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(body)
}

#[test]
fn nobody_misses_the_last_change() {
    let registry = Registry::default();
    let revision = AtomicU64::new(0);
    let last: [AtomicU64; 4] = Default::default();
    let writing = AtomicUsize::new(usize::try_from(WRITERS).unwrap());
    // Nothing is written before everybody watches, or a late reader would wait for what is over.
    let start = Barrier::new(usize::try_from(WRITERS + READERS).unwrap());
    let keys: Vec<Bytes> = (0..4).map(|i| Bytes::from(format!("k{i}/x"))).collect();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (registry, revision, last, writing, keys, start) =
                (&registry, &revision, &last, &writing, &keys, &start);
            scope.spawn(move || {
                start.wait();
                for publish in 0..PUBLISHES {
                    let at = usize::try_from((publish * 7 + writer) % 4).unwrap();
                    let now = revision.fetch_add(1, Ordering::SeqCst) + 1;
                    // Visible first, as an engine does it; then told.
                    last[at].fetch_max(now, Ordering::SeqCst);
                    if publish % 5 == 0 {
                        registry.notify([], [(now, &KeyRange::prefix(keys[at].clone()))]);
                    } else {
                        registry.notify([(now, &keys[at])], []);
                    }
                }
                writing.fetch_sub(1, Ordering::SeqCst);
                registry.notify(keys.iter().map(|key| (u64::MAX, key)), []);
            });
        }
        for reader in 0..READERS {
            let (registry, last, writing, start) = (&registry, &last, &writing, &start);
            scope.spawn(move || {
                let at = usize::try_from(reader % 4).unwrap();
                let range = || KeyRange::prefix(format!("k{at}/"));
                let mut watch = registry.watch(range());
                start.wait();
                let (mut told, mut calls) = (0, 0_u64);
                loop {
                    calls += 1;
                    // Some waits are given up, and some watches with them.
                    let given_up = (calls % 3 == 0).then(|| watch.changed().now_or_never());
                    if calls % 64 == 0 {
                        watch = registry.watch(range());
                        told = 0;
                        // A watch made after the end has nothing to wait for.
                        if writing.load(Ordering::SeqCst) == 0 {
                            break;
                        }
                    }
                    let now = match given_up.flatten() {
                        Some(now) if now > told => now,
                        _ => block_on(watch.changed()),
                    };
                    assert!(now > told, "a wake-up tells something new");
                    told = now;
                    if now == u64::MAX {
                        break;
                    }
                    assert!(last[at].load(Ordering::SeqCst) >= now, "what wakes is visible");
                }
            });
        }
    });
}
