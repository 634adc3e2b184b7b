//! Who holds, who follows, and what happens in between.

use super::{get, opener, put, share, text, write};
use crate::{Change, Opened, Refused, ShareError, Shared, place::Place, wire};
use bytes::Bytes;
use futures_util::{FutureExt, future::join_all};
use outrigger_kernel::{Deadline, World};
use outrigger_keyspace::{
    CommitError, Direction, KeyRange, KeySpace, Level, ReadError, Space, TransactError, Write,
    memory::Memory,
};
use outrigger_sim::SimWorld;
use std::{
    os::unix::fs::PermissionsExt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
};

const GRACE: Duration = Duration::from_secs(5);

fn world() -> Arc<dyn World> {
    SimWorld::new(7)
}

fn counter(sum: i64) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(&sum.to_le_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_holds_and_the_others_follow() {
    let folder = tempfile::tempdir().unwrap();
    let world = world();
    let first = share(folder.path(), &world).await.unwrap();
    let second = share(folder.path(), &world).await.unwrap();
    let third = share(folder.path(), &world).await.unwrap();
    assert!(first.holds() && !second.holds() && !third.holds());
    for shared in [&first, &second, &third] {
        assert_eq!(shared.holder(), Some(std::process::id()));
        assert!(shared.status().durable);
        assert_eq!(shared.failed(), None);
    }
    let mut watch = first.watch(KeyRange::all());
    let mut far_watch = third.watch(KeyRange::prefix("a"));
    let committed = write(&*second, vec![put("a", "1")]).await.unwrap();
    for shared in [&first, &second, &third] {
        assert_eq!(text(&**shared, "a").await.as_deref(), Some(&b"1"[..]));
        assert!(shared.status().revision >= committed.revision);
    }
    assert_eq!(watch.changed().await, committed.revision);
    assert_eq!(far_watch.changed().await, committed.revision);
    let mode = std::fs::metadata(folder.path().join("socket")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for shared in [third, second, first] {
        shared.close(GRACE).await;
    }
    assert!(!folder.path().join("socket").exists(), "who leaves last takes the socket along");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_start_at_once_and_one_holds() {
    for round in 0..30 {
        let folder = tempfile::tempdir().unwrap();
        let world = world();
        let all = join_all((0..4).map(|_| share(folder.path(), &world))).await;
        let all: Vec<Arc<Shared>> = all.into_iter().map(Result::unwrap).collect();
        assert_eq!(all.iter().filter(|shared| shared.holds()).count(), 1, "round {round}");
        let add = || vec![Write::Add { key: Bytes::from_static(b"n"), delta: 1 }];
        let added = join_all(all.iter().map(|shared| write(&**shared, add()))).await;
        assert!(added.iter().all(Result::is_ok), "round {round}: {added:?}");
        assert_eq!(text(&*all[3], "n").await, counter(4), "round {round}");
        for shared in all {
            shared.close(GRACE).await;
        }
    }
}

/// Of three that work all the time, one after the other leaves and comes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_leaves_hands_over() {
    let folder = tempfile::tempdir().unwrap();
    let world = world();
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(share(folder.path(), &world).await.unwrap());
    }
    let mut expected = 0;
    for round in 0..12 {
        let left = all.remove(0);
        assert!(left.holds(), "round {round}: who has waited longest holds by now");
        let work = async |shared: &Arc<Shared>| {
            for _ in 0..20 {
                let write_n = vec![Write::Add { key: Bytes::from_static(b"n"), delta: 1 }];
                write(&**shared, write_n).await.unwrap();
                get(&**shared, "n").await.unwrap();
            }
        };
        let leave = async {
            tokio::task::yield_now().await;
            left.close(GRACE).await;
        };
        let (_, ()) = futures_util::future::join(join_all(all.iter().map(work)), leave).await;
        expected += 40;
        assert_eq!(text(&*all[0], "n").await, counter(expected), "round {round}");
        let refused = write(&*left, vec![put("late", "1")]).await;
        assert!(matches!(refused, Err(CommitError::Unavailable(_))), "{refused:?}");
        if !all[0].holds() {
            all.swap(0, 1);
        }
        all.push(share(folder.path(), &world).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_outlive_their_holder_and_snapshots_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let world = world();
    let first = share(folder.path(), &world).await.unwrap();
    let second = share(folder.path(), &world).await.unwrap();
    let mut waited = second.watch(KeyRange::prefix("a"));
    let revision = write(&*second, vec![put("a", "1")]).await.unwrap().revision;
    assert_eq!(waited.changed().await, revision);
    assert_eq!(waited.changed().now_or_never(), None);
    let pinned = second.snapshot(Level::Linearizable).await.unwrap();
    assert_eq!(pinned.get(b"a").await.unwrap().unwrap().revision, revision);
    let fresh = second.snapshot(Level::Linearizable).await.unwrap();

    // The holder writes once more and leaves before the follower can have heard of it.
    let last = write(&*first, vec![put("a", "2")]).await.unwrap().revision;
    first.close(GRACE).await;
    let mut told = 0;
    while told < last {
        told = waited.changed().await;
    }
    let gone = pinned.get(b"a").await;
    assert!(matches!(&gone, Err(ReadError::Unavailable(why)) if why.contains("read again")));
    assert!(fresh.get(b"a").await.unwrap().is_some_and(|value| value.bytes == "2"));
    let mut seen = 0;
    for number in 0..3 {
        let revision = write(&*second, vec![put("a", &number.to_string())]).await.unwrap().revision;
        while seen < revision {
            seen = waited.changed().await;
        }
    }
    assert!(second.holds());
    assert_eq!(second.holder(), Some(std::process::id()));
    second.close(GRACE).await;
}

/// A transaction that has read from a holder that is gone by then runs again on the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_survives_its_holder() {
    let folder = tempfile::tempdir().unwrap();
    let world = world();
    let first = share(folder.path(), &world).await.unwrap();
    let second = share(folder.path(), &world).await.unwrap();
    write(&*first, vec![put("a", "1"), put("b", "2")]).await.unwrap();
    let space = Space::new(second.clone(), world.clone());
    let runs = AtomicUsize::new(0);
    let deadline = Deadline::after(&*world, Duration::from_secs(20));
    let (found, _) = space
        .transact(deadline, async |tx| {
            let a = tx.get_raw(&Bytes::from_static(b"a")).await?;
            if runs.fetch_add(1, Ordering::SeqCst) == 0 {
                first.close(GRACE).await;
            }
            let b = tx.get_raw(&Bytes::from_static(b"b")).await?;
            tx.write(put("c", "3"));
            Ok::<_, TransactError<std::convert::Infallible>>((a.is_some(), b.is_some()))
        })
        .await
        .unwrap();
    assert_eq!(found, (true, true));
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert_eq!(text(&*second, "c").await.as_deref(), Some(&b"3"[..]));
}

/// A holder that takes a commit and dies before it answers: the next one is asked with the same name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_asked_again_under_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let world = world();
    let place = Place::of_folder(folder.path());
    let listener = place.listen().unwrap();
    let engine = Memory::new(world.clone());
    let mute_engine = engine.clone();
    let mute = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; wire::GREETING_BYTES]).await.unwrap();
        let mut hello = wire::greeting(wire::VERSION).to_vec();
        let pulse = wire::Pulse { now: Default::default(), revision: 0, status: None };
        wire::frame(&mut hello, |out| wire::Answer::Pulse(pulse).put(out));
        stream.write_all(&hello).await.unwrap();
        let length = stream.read_u32_le().await.unwrap();
        let mut frame = vec![0; length.try_into().unwrap()];
        stream.read_exact(&mut frame).await.unwrap();
        let Ok(wire::Request::Commit { resent: None, transaction, .. }) =
            wire::Request::take(&frame)
        else {
            panic!("the first request is the commit");
        };
        assert!(transaction.id.is_some());
        mute_engine.commit(*transaction).await.unwrap();
    };
    let opens = {
        let engine = engine.clone();
        move || {
            let engine: Arc<dyn KeySpace> = engine.clone();
            let close: Box<dyn FnOnce() -> _ + Send> = Box::new(|| std::future::ready(()).boxed());
            let failure = std::future::pending().boxed();
            Ok::<_, Refused>(Opened { engine, failure, close })
        }
    };
    let client = async {
        let shared = Shared::open(folder.path(), world.clone(), opens).await.unwrap();
        assert!(!shared.holds());
        let add = vec![Write::Add { key: Bytes::from_static(b"n"), delta: 1 }];
        let committed = write(&*shared, add).await.unwrap();
        assert!(shared.holds(), "nobody else was left");
        assert_eq!(text(&*shared, "n").await, counter(1), "applied once, and told when that was");
        assert_eq!(committed.revision, 1);
    };
    tokio::join!(mute, client);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_fails_lets_go_and_the_next_one_finishes_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let world = world();
    let (fail, failure) = oneshot::channel();
    let first = {
        let inner = opener(folder.path(), world.clone());
        let failure = Mutex::new(Some(failure));
        let failing = move || {
            let failure = failure.lock().unwrap().take().unwrap();
            inner().map(|opened| Opened {
                failure: async { failure.await.unwrap() }.boxed(),
                ..opened
            })
        };
        Shared::open(folder.path(), world.clone(), failing).await.unwrap()
    };
    let second = share(folder.path(), &world).await.unwrap();
    write(&*second, vec![put("a", "1")]).await.unwrap();
    assert_eq!(first.failed(), None);
    fail.send("the disk is gone".to_owned()).unwrap();
    assert_eq!(first.failure().await, "the disk is gone");
    while !second.holds() {
        write(&*second, vec![put("a", "2")]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(first.failed().as_deref(), Some("the disk is gone"));
    assert_eq!(second.failed(), None);
    assert_eq!(text(&*second, "a").await.as_deref(), Some(&b"2"[..]));
    second.close(GRACE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_that_fails_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let world = world();
    let first = share(folder.path(), &world).await.unwrap();
    let broken = || Err(Refused::Failed("the disk is gone".into()));
    let second = Shared::open(folder.path(), world.clone(), broken).await.unwrap();
    first.close(GRACE).await;
    let refused = write(&*second, vec![put("a", "1")]).await;
    assert_eq!(refused, Err(CommitError::Unavailable("the disk is gone".to_owned())));
    assert_eq!(second.failed().as_deref(), Some("the disk is gone"));
    assert_eq!(second.status().failed, second.failed());
    second.close(GRACE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_cannot_be_held_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = share(&file, &world()).await.unwrap_err();
    assert!(matches!(refused, ShareError::Failed(_)), "{refused:?}");
}

/// The socket is gone, or one of a process that is: the holder puts it back, and others find it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_was_removed_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let world = world();
    // Deeper than a socket's name is long.
    let deep = folder.path().join("deep".repeat(50));
    std::fs::create_dir(&deep).unwrap();
    drop(Place::of_folder(&deep).listen().unwrap());
    assert!(deep.join("socket").exists());
    let first = share(&deep, &world).await.unwrap();
    std::fs::remove_file(deep.join("socket")).unwrap();
    let second = share(&deep, &world).await.unwrap();
    write(&*second, vec![put("a", "1")]).await.unwrap();
    assert!(first.holds() && !second.holds());
}

/// Removed again and again: each time somebody is told, and puts it back.
#[tokio::test]
async fn whoever_listens_is_told_that_its_name_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let world = world();
    let (place, other) =
        (Place::of_folder(folder.path()), Place::new(&folder.path().join("other")));
    Place::lost(&[&place], &*world).await;
    let _other = other.listen().unwrap();
    for _ in 0..3 {
        let _listener = place.listen().unwrap();
        let both = [&other, &place];
        let mut lost = Box::pin(Place::lost(&both, &*world));
        assert_eq!(futures_util::poll!(&mut lost), std::task::Poll::Pending);
        // What else happens there is nobody's loss.
        std::fs::write(folder.path().join("file"), "").unwrap();
        std::fs::remove_file(folder.path().join("file")).unwrap();
        assert_eq!(futures_util::poll!(&mut lost), std::task::Poll::Pending);
        std::fs::rename(folder.path().join("socket"), folder.path().join("elsewhere")).unwrap();
        lost.await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_holder_is_told_of_departures_and_everybody_of_a_new_holder() {
    let folder = tempfile::tempdir().unwrap();
    let world = world();
    let first = share(folder.path(), &world).await.unwrap();
    let (second, third) = (share(folder.path(), &world), share(folder.path(), &world));
    let (second, third) = (second.await.unwrap(), third.await.unwrap());
    let (mut of_first, mut of_third) = (first.changes(), third.changes());
    assert_eq!(of_first.next().now_or_never(), None);
    second.close(GRACE).await;
    assert_eq!(of_first.next().await, Change::Departure);
    assert_eq!(of_third.next().now_or_never(), None, "that is the holder's to know");
    first.close(GRACE).await;
    while !third.holds() {
        assert_eq!(of_third.next().await, Change::Holder);
    }
    let fourth = share(folder.path(), &world).await.unwrap();
    let mut of_third = third.changes();
    fourth.close(GRACE).await;
    assert_eq!(of_third.next().await, Change::Departure);
    third.close(GRACE).await;
}

/// Everything a scan or a copy answers crosses as well, however large.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_things_cross() {
    let folder = tempfile::tempdir().unwrap();
    let world = world();
    let _holder = share(&folder.path().join("data"), &world).await.unwrap();
    let second = share(&folder.path().join("data"), &world).await.unwrap();
    let big = |key: &str| Write::Put {
        key: key.to_owned().into(),
        value: vec![9; 3_500_000].into(),
        expires_at: None,
    };
    for name in ["a", "b", "c"] {
        write(&*second, vec![big(name), big(&format!("{name}2"))]).await.unwrap();
    }
    let snapshot = second.snapshot(Level::Linearizable).await.unwrap();
    let page = snapshot.scan(&KeyRange::all(), 100, Direction::Forward).await.unwrap();
    assert_eq!((page.entries.len(), page.more), (2, true));
    let names = ["a", "", "a2", "none", "b", "b2", "c", "c2"]
        .map(|name| Bytes::from_static(name.as_bytes()))
        .to_vec();
    let values = snapshot.get_many(&names).await.unwrap();
    let found: Vec<bool> = values.iter().map(Option::is_some).collect();
    assert_eq!(found, [true, false, true, false, true, true, true, true]);
    // Named as this process sees it; the holder writes it.
    let copied = second.checkpoint(&folder.path().join("copy")).await.unwrap();
    assert!(copied >= snapshot.revision());
    assert!(std::fs::read_dir(folder.path().join("copy")).unwrap().next().is_some());
    let refused = second.checkpoint(&folder.path().join("data")).await;
    assert!(matches!(&refused, Err(ReadError::Unavailable(why)) if !why.is_empty()), "{refused:?}");
}
