//! What a space asks of its engine, and that a transaction ends by its deadline, whatever takes long in it.

mod recorded;

use super::{Space, TransactError, Tx, UNREADABLE_MAX};
use crate::{Durability, KeyRange, Level, ReadError, Write, memory::Memory};
use bytes::Bytes;
use outrigger_kernel::{Deadline, World};
use outrigger_sim::SimWorld;
use recorded::Recorded;
use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

fn recorded() -> (Arc<Recorded>, Space, Deadline) {
    let world = SimWorld::new(1);
    let engine = Recorded::over(Memory::new(world.clone()));
    let deadline = Deadline::after(&*world, Duration::from_secs(10));
    (engine.clone(), Space::new(engine, world), deadline)
}

fn write(key: &'static str) -> Write {
    Write::Put { key: key.into(), value: Bytes::new(), expires_at: None }
}

#[tokio::test(start_paused = true)]
async fn every_commit_of_a_space_promises_the_same() {
    for durability in [Durability::Flush, Durability::Relaxed] {
        let (engine, space, deadline) = recorded();
        let space = space.with_durability(durability);
        space.write(vec![write("a")]).await.unwrap();
        space.write_making_room(vec![write("b")]).await.unwrap();
        let body = async |tx: Tx| {
            tx.write(write("c"));
            Ok::<_, TransactError<Infallible>>(())
        };
        space.clone().transact(deadline, body).await.unwrap();
        let asked: Vec<_> =
            engine.commits().iter().map(|t| (t.durability, t.makes_room, t.id)).collect();
        let one = |makes_room| (durability, makes_room, None);
        assert_eq!(asked, [one(false), one(true), one(false)]);
    }
}

/// A snapshot that is far away learns its revision with the first read.
#[tokio::test(start_paused = true)]
async fn a_transaction_reads_at_the_revision_its_reads_told() {
    let (engine, space, deadline) = recorded();
    space.write(vec![write("a")]).await.unwrap();
    engine.late.store(true, Ordering::SeqCst);
    assert_eq!(space.snapshot(Level::Linearizable).await.unwrap().revision(), 0);
    let body = async |tx: Tx| {
        assert_eq!(tx.read_revision(), 0);
        tx.get_raw(&Bytes::from("a")).await?;
        assert_eq!(tx.read_revision(), 1);
        tx.write(write("b"));
        Ok::<_, TransactError<Infallible>>(())
    };
    let (_, committed) = space.transact(deadline, body).await.unwrap();
    let last = engine.commits().pop().unwrap();
    assert_eq!((last.read_revision, committed.revision), (1, 2));
    assert_eq!((last.read_keys.len(), last.read_ranges.len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_is_tried_again_a_few_times() {
    for failures in 0..6 {
        let (engine, space, deadline) = recorded();
        engine.failures.store(failures, Ordering::SeqCst);
        let body = async |tx: Tx| {
            tx.get_raw(&Bytes::from("a")).await?;
            tx.scan(&KeyRange::all(), 1, crate::Direction::Forward).await?;
            tx.write(write("b"));
            Ok::<_, TransactError<Infallible>>(())
        };
        let outcome = space.transact(deadline, body).await;
        if failures <= UNREADABLE_MAX {
            assert_eq!(outcome.unwrap().1.revision, 1);
        } else {
            let refused = outcome.unwrap_err();
            let told = matches!(refused, TransactError::Read(ReadError::Unavailable(_)));
            assert!(told, "{refused}");
            assert_eq!(engine.failures.load(Ordering::SeqCst), failures - UNREADABLE_MAX - 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_takes_too_long_writes_nothing() {
    let world = SimWorld::new(1);
    let space = Space::new(Memory::new(world.clone()), world.clone());
    let deadline = Deadline::after(&*world, Duration::from_secs(1));
    let body = |tx: Tx| {
        let asleep = world.sleep(Duration::from_secs(60));
        async move {
            tx.write(crate::Write::Delete { key: "k".into() });
            asleep.await;
            Ok::<_, TransactError<Infallible>>(())
        }
    };
    let refused = space.transact(deadline, body).await.unwrap_err();
    assert!(matches!(refused, TransactError::Read(ReadError::Unavailable(_))), "{refused}");
    assert_eq!(world.mono(), deadline.0);
    assert_eq!(space.engine().status().revision, 0);
}
