//! A disk that others have filled to the last byte, when the log would have to go on in another segment; and what a clean
//! close leaves of time.

use super::{clock, key, put, put_until};
use crate::{Hands, Local, Options};
use bytes::Bytes;
use futures_util::FutureExt;
use outrigger_kernel::{BoxFuture, Mono, TaskHandle, Wall, World};
use outrigger_keyspace::{
    CommitError, CommitId, Committed, KeyRange, KeySpace, Level, Snapshot, Transaction, Write,
};
use outrigger_sim::disk::{SimDisk, Survivors};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// No reserve: what is left of the disk is for others to take.
fn options() -> Options {
    Options {
        log_first_bytes: 16 * 1024,
        log_max_bytes: 16 * 1024,
        reserve_bytes: Some(0),
        ..Options::default()
    }
}

/// A world whose clock goes on by a millisecond whenever somebody looks.
#[derive(Debug, Default)]
struct Ticking(AtomicU64);

impl World for Ticking {
    fn wall(&self) -> Wall {
        Wall(1_000_000 + self.0.fetch_add(1, Ordering::Relaxed))
    }
    fn mono(&self) -> Mono {
        Mono::default()
    }
    fn random(&self) -> u64 {
        7
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
    fn spawn(&self, _: &'static str, _: BoxFuture<'static, ()>) -> TaskHandle {
        TaskHandle::new(|| ())
    }
}

fn open(disk: &SimDisk) -> (Arc<Local>, Hands) {
    Local::open_by_hand(Arc::new(disk.clone()), Arc::new(Ticking::default()), options()).unwrap()
}

fn commit(engine: &Arc<Local>, hands: &mut Hands, writes: Vec<Write>) -> Result<u64, CommitError> {
    let transaction = Transaction { writes, ..Transaction::default() };
    ask(engine, hands, transaction).map(|committed| committed.revision)
}

fn ask(
    engine: &Arc<Local>,
    hands: &mut Hands,
    transaction: Transaction,
) -> Result<Committed, CommitError> {
    let engine = engine.clone();
    // Unconstrained: a test that polls by hand never yields, and would look pending to itself after a while.
    let asked = tokio::task::unconstrained(async move { engine.commit(transaction).await });
    let mut asked: BoxFuture<'_, _> = Box::pin(asked);
    assert_eq!((&mut asked).now_or_never(), None);
    while hands.turn() {}
    asked.now_or_never().unwrap()
}

/// What the checkpointer's thread does.
fn checkpoint(hands: &mut Hands) {
    while hands.checkpoint() || hands.tidy() || hands.turn() {}
}

fn get(engine: &Local, at: &str) -> Option<Bytes> {
    let snapshot: Arc<dyn Snapshot> =
        engine.snapshot(Level::Local).now_or_never().unwrap().unwrap();
    let value = snapshot.get(at.as_bytes()).now_or_never().unwrap().unwrap();
    value.map(|value| value.bytes)
}

#[tokio::test]
async fn a_full_disk_at_the_end_of_a_segment_refuses_writes_and_takes_deletes() {
    // Full before the next segment was asked for, while it is, and when it is there.
    for written in [0, 1, 20, 40, 60, 100] {
        let disk = SimDisk::new(1);
        let (engine, mut hands) = open(&disk);
        let name = |number: usize| format!("k/{number:04}");
        let value = "v".repeat(200);
        for number in 0..written {
            commit(&engine, &mut hands, vec![put(&name(number), &value)]).unwrap();
        }
        // Not quite: a segment more is what does not fit.
        disk.set_capacity(disk.used_bytes() + 12 * 1024);
        let mut taken = written;
        let refusal = loop {
            match commit(&engine, &mut hands, vec![put(&name(taken), &value)]) {
                Ok(_) => taken += 1,
                Err(refusal) => break refusal,
            }
            assert!(taken < 1_000, "the disk was never full");
        };
        assert!(matches!(&refusal, CommitError::Full(why) if why.contains("free some space")));
        assert_eq!(engine.failed(), None);
        assert!(get(&engine, &name(taken - 1)).is_some(), "reads go on");
        for number in 0..taken {
            let delete = vec![Write::Delete { key: key(&name(number)) }];
            commit(&engine, &mut hands, delete).unwrap();
            assert_eq!(get(&engine, &name(number)), None);
        }
        let all = Write::DeleteRange { range: KeyRange::prefix(Bytes::from_static(b"k/")) };
        commit(&engine, &mut hands, vec![all]).unwrap();
        // Deletes make room in the end: what they made obsolete goes with the next checkpoint.
        hands.seal();
        while hands.turn() || hands.checkpoint() {}
        // As soon as there is room, all is as before.
        disk.set_capacity(u64::MAX);
        for number in 0..300 {
            commit(&engine, &mut hands, vec![put(&name(number), &value)]).unwrap();
        }
        assert_eq!(engine.failed(), None);
        let (engine, _hands) = open(&disk.crash(Survivors::Nothing));
        assert!(get(&engine, &name(0)).is_some() && get(&engine, &name(299)).is_some());
    }
}

/// Whatever is asked of it, a store on a full disk says no and goes on.
#[tokio::test]
async fn no_mixture_of_commits_ends_a_store_on_a_full_disk() {
    for seed in 0..60_usize {
        let disk = SimDisk::new(1);
        let (engine, mut hands) = open(&disk);
        let mut refused = 0;
        for number in 0..200 {
            let dice = (seed * 7_919 + number * 104_729) >> 3;
            if number == 20 + seed {
                disk.set_capacity(disk.used_bytes() + (seed as u64 % 5) * 4_096);
            }
            let at = format!("k/{:02}", dice % 40);
            let write = match dice % 7 {
                0 => Write::Delete { key: key(&at) },
                1 => put(&at, &"v".repeat(dice % 9_000)),
                2 => put_until(&at, Wall(1_000_000 + 1_000)),
                _ => put(&at, &"v".repeat(dice % 300)),
            };
            match commit(&engine, &mut hands, vec![write]) {
                Ok(_) => {}
                Err(CommitError::Full(_)) => refused += 1,
                Err(error) => panic!("seed {seed}, commit {number}: {error}"),
            }
            if dice % 50 == 0 {
                hands.seal();
                hands.turn();
                hands.checkpoint();
                hands.tidy();
            }
        }
        assert_eq!(engine.failed(), None);
        assert!(refused > 0, "seed {seed}: the disk was never full");
    }
}

/// Steps of time are shown before they are in the log; those of the very last moment too.
#[tokio::test]
async fn a_clean_close_leaves_no_step_of_time_unwritten() {
    for keys in 1..40_u64 {
        let disk = SimDisk::new(1);
        let (engine, mut hands) = open(&disk);
        let due = |number| Wall(1_000_000 + 10 + number);
        let puts = (0..keys).map(|number| put_until(&format!("due/{number:02}"), due(number)));
        commit(&engine, &mut hands, puts.collect()).unwrap();
        let mut watch = engine.watch(KeyRange::all());
        hands.close();
        let told = watch.changed().now_or_never().unwrap_or_default();
        drop(engine);
        let (engine, _hands) = open(&disk);
        let found = engine.status().revision;
        assert!(found >= told && found < 10_000, "{keys} keys: {told} was shown, {found} is there");
    }
}

/// Whoever is refused comes again at once, and nobody is there who would let the store come to rest.
#[tokio::test]
async fn a_full_store_frees_its_own_log_while_it_is_written_to() {
    // Full for the log, which takes all that is left in the end; and full for all but deletes, with room for the index.
    for (reserve, room, least) in [(0, 15, 200), (64, 72, 1_000)] {
        let (disk, clock) = (SimDisk::new(1), clock());
        let options = Options { reserve_bytes: Some(reserve * 1024), ..options() };
        let (engine, mut hands) =
            Local::open_by_hand(Arc::new(disk.clone()), clock.clone(), options).unwrap();
        // The same keys again and again: much log, little index.
        let write = |number: usize| match number % 10 {
            0 => Write::Delete { key: key(&format!("k/{:02}", number % 7)) },
            _ => put(&format!("k/{:02}", number % 7), &"v".repeat(200)),
        };
        for number in 0..400 {
            commit(&engine, &mut hands, vec![write(number)]).unwrap();
        }
        disk.set_capacity(disk.used_bytes() + room * 1024);
        let (mut refused, mut taken) = (0, 0);
        for number in 0..2_000 {
            clock.advance_ms(20);
            match commit(&engine, &mut hands, vec![write(number)]) {
                Ok(_) => taken += usize::from(refused > 0 && number % 10 > 0),
                Err(CommitError::Full(_)) => refused += 1,
                Err(error) => panic!("commit {number}: {error}"),
            }
            checkpoint(&mut hands);
        }
        assert_eq!(engine.failed(), None);
        assert!(refused > 0, "never full");
        assert!(taken >= least, "{taken} puts after the first of {refused} refusals");
    }
}

/// What is kept of the log to look back goes without any checkpoint, also what was kept by whoever had the store before.
#[tokio::test]
async fn what_is_kept_to_look_back_goes_when_the_disk_is_full() {
    for reopens in [false, true] {
        let mut disk = SimDisk::new(1);
        let (mut engine, mut hands) = open(&disk);
        let write = |number: usize| vec![put(&format!("k/{:02}", number % 10), &"v".repeat(200))];
        for number in 0..400 {
            commit(&engine, &mut hands, write(number)).unwrap();
        }
        hands.seal();
        hands.turn();
        checkpoint(&mut hands);
        if reopens {
            drop((engine, hands));
            disk = disk.kill();
            (engine, hands) = open(&disk);
        }
        disk.set_capacity(disk.used_bytes() + 12 * 1024);
        let mut number = 0;
        while let Ok(_taken) = commit(&engine, &mut hands, write(number)) {
            number += 1;
            assert!(number < 1_000, "never full");
        }
        for number in 0..200 {
            commit(&engine, &mut hands, write(number)).unwrap();
        }
        assert_eq!(engine.failed(), None);
    }
}

/// What is due takes more room than there is: it waits, and with it only what must.
#[tokio::test]
async fn a_step_of_time_without_room_refuses_what_needs_it_and_nothing_else() {
    let (disk, clock) = (SimDisk::new(1), clock());
    let (engine, mut hands) =
        Local::open_by_hand(Arc::new(disk.clone()), clock.clone(), options()).unwrap();
    let due = Wall(clock.wall().0 + 10);
    let long = |number: usize| format!("due/{number:02}/{}", "k".repeat(600));
    for number in 0..64 {
        commit(&engine, &mut hands, vec![put_until(&long(number), due)]).unwrap();
    }
    commit(&engine, &mut hands, vec![put("stays", "1"), put("goes", "1")]).unwrap();
    let named = Transaction {
        id: Some(CommitId([7; 16])),
        writes: vec![put("named", "1")],
        ..Transaction::default()
    };
    let done = ask(&engine, &mut hands, named.clone()).unwrap();
    disk.set_capacity(disk.used_bytes());
    let fill = || vec![put("fill", &"v".repeat(500))];
    while let Ok(_taken) = commit(&engine, &mut hands, fill()) {}
    clock.advance_ms(20);

    let reading = |at: &str, writes| Transaction {
        read_revision: done.revision,
        read_keys: vec![key(at)],
        writes,
        ..Transaction::default()
    };
    let delete = |at: &str| vec![Write::Delete { key: key(at) }];
    assert_eq!(ask(&engine, &mut hands, named), Ok(done));
    ask(&engine, &mut hands, Transaction::default()).unwrap();
    ask(&engine, &mut hands, reading("stays", Vec::new())).unwrap();
    ask(&engine, &mut hands, reading("stays", delete("goes"))).unwrap();
    commit(&engine, &mut hands, delete(&long(0))).unwrap();
    for refused in [
        reading("stays", fill()),
        reading(&long(1), Vec::new()),
        reading(&long(1), delete("stays")),
    ] {
        let refusal = ask(&engine, &mut hands, refused).unwrap_err();
        assert!(matches!(refusal, CommitError::Full(_)), "{refusal}");
    }
    assert_eq!(engine.failed(), None);
    assert!(get(&engine, "stays").is_some());
    assert_eq!(get(&engine, "goes"), None);

    disk.set_capacity(u64::MAX);
    clock.advance_ms(20);
    commit(&engine, &mut hands, fill()).unwrap();
    assert_eq!(get(&engine, &long(1)), None);
    let (engine, _hands) = open(&disk.crash(Survivors::Nothing));
    assert!(get(&engine, "stays").is_some());
    assert_eq!((get(&engine, "goes"), get(&engine, &long(63))), (None, None));
}
