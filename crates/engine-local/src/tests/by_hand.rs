//! The engine step by step, on a disk that the test owns: what is in which batch, what is on disk when it is answered, and
//! what happens when something fails in between.

use super::{clock, key, put, put_until};
use crate::{Hands, Local, Options, batch::Answer};
use bytes::Bytes;
use futures_util::FutureExt;
use outrigger_kernel::{BoxFuture, World, disk::Disk};
use outrigger_keyspace::{
    CommitError, CommitId, Durability, KeyRange, KeySpace, Level, Snapshot, Transaction, Value,
    Write, exam::Clock,
};
use outrigger_sim::disk::{Kind, SimDisk, Survivors, Trouble};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Context, Wake, Waker},
    thread,
    time::Duration,
};

struct Bench {
    clock: Arc<Clock>,
    disk: SimDisk,
    engine: Arc<Local>,
    hands: Hands,
}

/// Small segments, since every one is filled when it is made.
fn options() -> Options {
    Options { log_first_bytes: 64 * 1024, ..Options::default() }
}

impl Bench {
    fn new() -> Self {
        Self::on(SimDisk::new(1), clock(), options())
    }

    fn on(disk: SimDisk, clock: Arc<Clock>, options: Options) -> Self {
        let (engine, hands) =
            Local::open_by_hand(Arc::new(disk.clone()), clock.clone(), options).unwrap();
        Self { clock, disk, engine, hands }
    }

    /// The same store after the process was killed.
    fn killed(self) -> Self {
        let Self { clock, disk, engine, hands } = self;
        drop((engine, hands));
        Self::on(disk.kill(), clock, options())
    }

    /// What a power cut leaves of it, if the disk loses all that it may.
    fn cut(&self) -> Self {
        Self::on(self.disk.crash(Survivors::Nothing), self.clock.clone(), options())
    }

    fn ask(&self, transaction: Transaction) -> BoxFuture<'static, Answer> {
        let engine = self.engine.clone();
        // Unconstrained: a test that polls by hand never yields, and would look pending to itself after a while.
        let asked = tokio::task::unconstrained(async move { engine.commit(transaction).await });
        let mut asked: BoxFuture<'_, _> = Box::pin(asked);
        assert_eq!((&mut asked).now_or_never(), None);
        asked
    }

    fn ask_writes(&self, writes: Vec<Write>) -> BoxFuture<'static, Answer> {
        self.ask(Transaction { writes, ..Transaction::default() })
    }

    fn relaxed(&self, writes: Vec<Write>) -> BoxFuture<'static, Answer> {
        self.ask(Transaction { writes, durability: Durability::Relaxed, ..Transaction::default() })
    }

    fn commit(&mut self, writes: Vec<Write>) -> u64 {
        let asked = self.ask_writes(writes);
        assert!(self.hands.turn());
        asked.now_or_never().unwrap().unwrap().revision
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.engine.snapshot(Level::Local).now_or_never().unwrap().unwrap()
    }

    fn get(&self, at: &str) -> Option<Bytes> {
        let value: Option<Value> =
            self.snapshot().get(at.as_bytes()).now_or_never().unwrap().unwrap();
        value.map(|value| value.bytes)
    }

    fn syncs(&self) -> u64 {
        self.disk.seen(Kind::Sync)
    }
}

fn answered(asked: &mut BoxFuture<'static, Answer>) -> Option<Answer> {
    asked.now_or_never()
}

fn bulk(at: &str, kib: usize) -> Vec<Write> {
    vec![put(at, &"x".repeat(kib * 1024))]
}

#[tokio::test]
async fn a_small_commit_is_not_behind_bulk() {
    let mut bench = Bench::new();
    let mut bulk: Vec<_> = (0..20).map(|i| bench.ask_writes(bulk(&format!("b{i}"), 200))).collect();
    let mut small = bench.ask_writes(vec![put("a", "1")]);
    assert!(bench.hands.turn());
    assert!(matches!(answered(&mut small), Some(Ok(_))));
    let done = |bulk: &mut Vec<_>| {
        bulk.retain_mut(|asked| answered(asked).is_none());
        20 - bulk.len()
    };
    assert_eq!(done(&mut bulk), 1);
    // A batch of bulk is on its way: the next small one is in the batch right after it.
    let mut first = bench.hands.sequence().unwrap();
    let mut small = bench.ask_writes(vec![put("a", "2")]);
    let mut second = bench.hands.sequence().unwrap();
    first.write();
    first.publish();
    assert_eq!(answered(&mut small), None);
    second.write();
    second.publish();
    assert!(matches!(answered(&mut small), Some(Ok(_))));
    while bench.hands.turn() {}
    assert_eq!(done(&mut bulk), 20);
}

#[tokio::test]
async fn a_batch_rests_on_those_under_way_and_is_seen_after_them() {
    let mut bench = Bench::new();
    let add = |delta| vec![Write::Add { key: key("n"), delta }];
    let read = bench.commit(add(1));
    let mut one = bench.ask_writes(add(2));
    let mut first = bench.hands.sequence().unwrap();
    let mut two = bench.ask_writes(add(4));
    let mut stale = bench.ask(Transaction {
        read_revision: read,
        read_keys: vec![key("n")],
        writes: add(8),
        ..Transaction::default()
    });
    let mut second = bench.hands.sequence().unwrap();
    assert_eq!(bench.get("n").unwrap()[..], 1_i64.to_le_bytes());
    first.write();
    assert_eq!(bench.get("n").unwrap()[..], 1_i64.to_le_bytes());
    first.publish();
    assert_eq!(bench.get("n").unwrap()[..], 3_i64.to_le_bytes());
    assert!(matches!((answered(&mut one), answered(&mut two)), (Some(Ok(_)), None)));
    second.write();
    second.publish();
    assert_eq!(bench.get("n").unwrap()[..], 7_i64.to_le_bytes());
    assert!(matches!(answered(&mut two), Some(Ok(_))));
    assert_eq!(answered(&mut stale), Some(Err(CommitError::Conflict)));
}

#[tokio::test]
async fn what_is_answered_is_on_the_disk() {
    let mut bench = Bench::new();
    for i in 0..5 {
        let before = bench.syncs();
        bench.commit(vec![put(&format!("k{i}"), "1")]);
        assert_eq!(bench.syncs(), before + 1, "one flush, and no more");
        assert!(bench.cut().get(&format!("k{i}")).is_some());
    }
    assert!(!bench.hands.turn(), "nothing is left to do");
}

#[tokio::test]
async fn a_relaxed_commit_is_answered_before_it_is_on_the_disk() {
    let mut bench = Bench::new();
    let before = bench.syncs();
    let mut relaxed = bench.relaxed(vec![put("r", "1")]);
    assert!(bench.hands.turn());
    let promised = answered(&mut relaxed).unwrap().unwrap();
    assert_eq!(bench.syncs(), before);
    assert_eq!(bench.get("r").as_deref(), Some(&b"1"[..]));
    let mut cut = bench.cut();
    assert_eq!(cut.get("r"), None, "a power cut takes it");
    assert!(cut.commit(vec![put("s", "1")]) > promised.revision, "but its revision is gone");
    // The next flush takes it along.
    bench.commit(vec![put("f", "1")]);
    assert_eq!((bench.syncs(), bench.cut().get("r").is_some()), (before + 1, true));
    // And so does a moment without commits.
    let mut relaxed = bench.relaxed(vec![put("q", "1")]);
    assert!(bench.hands.turn());
    assert!(matches!(answered(&mut relaxed), Some(Ok(_))));
    bench.hands.rest();
    assert!(bench.hands.turn());
    assert!(bench.cut().get("q").is_some());
    let bench = bench.killed();
    assert!(bench.get("q").is_some() && bench.get("r").is_some());
}

#[tokio::test]
async fn relaxed_commits_are_flushed_while_others_keep_coming() {
    let mut bench = Bench::new();
    let mut lost_at_most = 0;
    for i in 0..20 {
        let mut relaxed = bench.relaxed(vec![put(&format!("{i:02}"), "1")]);
        bench.clock.advance_ms(10);
        assert!(bench.hands.turn());
        assert!(matches!(answered(&mut relaxed), Some(Ok(_))));
        let kept = (0..=i).take_while(|i| bench.cut().get(&format!("{i:02}")).is_some()).count();
        lost_at_most = lost_at_most.max(i + 1 - kept);
    }
    assert!((1..=6).contains(&lost_at_most), "{lost_at_most} commits of 10 ms each");
}

#[tokio::test]
async fn a_commit_that_is_sent_again_is_answered_as_before() {
    let mut bench = Bench::new();
    let named = |name: u8, durability| Transaction {
        writes: vec![Write::Add { key: key("n"), delta: 1 }],
        id: Some(CommitId([name; 16])),
        durability,
        ..Transaction::default()
    };
    let ask = |bench: &mut Bench, name, durability| {
        let mut asked = bench.ask(named(name, durability));
        assert!(bench.hands.turn());
        answered(&mut asked).unwrap().unwrap()
    };
    let first = ask(&mut bench, 1, Durability::Flush);
    assert_eq!(ask(&mut bench, 1, Durability::Flush), first);
    // Who asks for more than the first time gets more.
    let second = ask(&mut bench, 2, Durability::Relaxed);
    assert_eq!(ask(&mut bench, 2, Durability::Relaxed), second);
    assert!(bench.cut().get("n").unwrap()[..] == 1_i64.to_le_bytes());
    assert_eq!(ask(&mut bench, 2, Durability::Flush), second);
    assert!(bench.cut().get("n").unwrap()[..] == 2_i64.to_le_bytes());
    // Out of the log, and out of the index.
    let mut bench = bench.killed();
    assert_eq!(ask(&mut bench, 1, Durability::Flush), first);
    bench.hands.seal();
    assert!(bench.hands.turn() && bench.hands.checkpoint() && bench.hands.turn());
    let mut bench = bench.killed();
    assert_eq!(ask(&mut bench, 2, Durability::Flush), second);
    assert_eq!(bench.get("n").unwrap()[..], 2_i64.to_le_bytes());
}

#[tokio::test]
async fn a_failed_flush_ends_the_engine_and_everything_under_way() {
    for trouble in [Trouble::Fails, Trouble::FailsAndForgets, Trouble::FailsAndReverts] {
        let mut bench = Bench::new();
        bench.commit(vec![put("a", "1")]);
        let (mut one, mut first) = (bench.ask_writes(vec![put("b", "1")]), bench.hands.sequence());
        let (mut two, mut second) = (bench.ask_writes(vec![put("c", "1")]), bench.hands.sequence());
        let mut three = bench.ask_writes(vec![put("d", "1")]);
        bench.disk.plan(Kind::Sync, 0, trouble);
        for batch in [&mut first, &mut second] {
            batch.as_mut().unwrap().write();
        }
        let syncs = bench.syncs();
        first.unwrap().publish();
        second.unwrap().publish();
        assert!(bench.hands.turn());
        assert_eq!(bench.syncs(), syncs, "it is not tried again");
        for asked in [&mut one, &mut two] {
            assert!(matches!(answered(asked), Some(Err(CommitError::Unknown(_)))), "{trouble:?}");
        }
        let refused = answered(&mut three);
        let restart = |why: &String| why.contains("restart");
        assert!(matches!(&refused, Some(Err(CommitError::Unavailable(why))) if restart(why)));
        assert!(bench.engine.failed().is_some());
        let failure = bench.engine.failure().now_or_never();
        assert!(failure.is_some_and(|why| why.contains("writing the log failed")));
        assert!(bench.get("a").is_some() && bench.get("b").is_none(), "reads go on");
        bench.hands.close();
        let bench = Bench::on(bench.disk.kill(), bench.clock.clone(), options());
        assert!(bench.get("a").is_some());
    }
}

#[tokio::test]
async fn commits_go_on_while_a_layer_is_on_its_way_into_the_index() {
    for killed_at in 0..6 {
        let mut bench = Bench::new();
        bench.commit(vec![put("a", "1"), put("b", "1"), put("c", "1")]);
        let steps: [&dyn Fn(&mut Bench); 5] = [
            &|bench| bench.hands.seal(),
            &|bench| assert!(bench.commit(vec![put("a", "2")]) > 0),
            &|bench| {
                let range = KeyRange::new("b", "c");
                assert!(bench.commit(vec![Write::DeleteRange { range }]) > 0);
            },
            &|bench| assert!(bench.hands.checkpoint()),
            &|bench| assert!(bench.commit(vec![put("d", "1")]) > 0),
        ];
        let expected = |done: usize, bench: &Bench| {
            let a = if done > 1 { b"2" } else { b"1" };
            assert_eq!(bench.get("a").as_deref(), Some(&a[..]), "{killed_at} {done}");
            assert_eq!(bench.get("b").is_some(), done <= 2, "{killed_at} {done}");
            assert!(bench.get("c").is_some(), "{killed_at} {done}");
            assert_eq!(bench.get("d").is_some(), done > 4, "{killed_at} {done}");
        };
        for (done, step) in steps.iter().enumerate().take(killed_at) {
            step(&mut bench);
            expected(done + 1, &bench);
        }
        let stack = &bench.engine.current().unwrap().stack;
        assert_eq!(stack.sealed.is_some(), (2..5).contains(&killed_at));
        expected(killed_at, &bench.cut());
        let mut bench = bench.killed();
        expected(killed_at, &bench);
        bench.hands.close();
    }
}

#[tokio::test]
async fn commits_wait_when_there_is_too_much_in_memory() {
    let few = Options { layer_bytes_max: 8 * 1024, layer_bytes_bound: 16 * 1024, ..options() };
    let mut bench = Bench::on(SimDisk::new(1), clock(), few);
    let mut waiting = std::collections::VecDeque::new();
    for i in 0..20 {
        waiting.push_back(bench.ask_writes(vec![put(&format!("{i:02}"), &"x".repeat(2_000))]));
        bench.hands.turn();
        waiting.retain_mut(|asked| answered(asked).is_none());
    }
    assert!(waiting.len() > 5, "{} wait", waiting.len());
    assert!(bench.engine.figures().layer_bytes < 20 * 1024);
    // Time goes on.
    let before = waiting.len();
    assert!(!bench.hands.turn());
    assert!(bench.hands.checkpoint());
    while bench.hands.turn() {}
    waiting.retain_mut(|asked| answered(asked).is_none());
    assert!(waiting.len() < before, "those that were held go first");
    while bench.hands.checkpoint() {
        while bench.hands.turn() {}
    }
    waiting.retain_mut(|asked| answered(asked).is_none());
    assert!(waiting.is_empty());
    assert!(bench.get("19").is_some());
}

#[tokio::test]
async fn what_is_overwritten_again_and_again_does_not_keep_the_log() {
    let few = Options {
        layer_bytes_max: 64 * 1024,
        log_max_bytes: 128 * 1024,
        log_bytes_kept: 0,
        layer_bytes_bound: 128 * 1024,
        ..options()
    };
    let mut bench = Bench::on(SimDisk::new(1), clock(), few);
    let mut most = 0;
    for i in 0..300 {
        bench.commit(vec![put("hot", &format!("{i:08000}"))]);
        bench.hands.checkpoint();
        most = most.max(bench.engine.figures().log_bytes);
    }
    assert!(most < 1024 * 1024, "{most} bytes of log for 2.4 MB");
    assert_eq!(bench.get("hot").map(|value| value.len()), Some(8_000));
    // And while the index is slow, what is written waits.
    let mut waiting: Vec<_> = (0..100)
        .map(|_| {
            let asked = bench.ask_writes(vec![put("hot", &"x".repeat(8_000))]);
            bench.hands.turn();
            asked
        })
        .collect();
    waiting.retain_mut(|asked| answered(asked).is_none());
    assert!(!waiting.is_empty());
    bench.hands.close();
    assert!(waiting.iter_mut().all(|asked| matches!(answered(asked), Some(Ok(_)))));
}

#[tokio::test]
async fn commits_that_are_held_are_served_before_the_store_is_closed() {
    let few = Options { layer_bytes_max: 8 * 1024, layer_bytes_bound: 16 * 1024, ..options() };
    let mut bench = Bench::on(SimDisk::new(1), clock(), few);
    let mut asked: Vec<_> = (0..30)
        .map(|i| {
            let asked = bench.ask_writes(vec![put(&format!("{i:02}"), &"x".repeat(2_000))]);
            bench.hands.turn();
            asked
        })
        .collect();
    bench.hands.close();
    let answers: Vec<_> = asked.iter_mut().map(|asked| answered(asked).unwrap()).collect();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

#[tokio::test]
async fn an_index_that_cannot_be_written_ends_the_engine() {
    let few = Options { layer_bytes_max: 8 * 1024, layer_bytes_bound: 16 * 1024, ..options() };
    let mut bench = Bench::on(SimDisk::new(1), clock(), few);
    let mut asked: Vec<_> = (0..20)
        .map(|i| {
            let asked = bench.ask_writes(vec![put(&format!("{i:02}"), &"x".repeat(2_000))]);
            bench.hands.turn();
            asked
        })
        .collect();
    bench.disk.plan_from(Kind::Sync, 0, Trouble::Fails);
    assert!(bench.hands.checkpoint());
    assert!(bench.engine.failed().is_some_and(|why| why.contains("writing the index failed")));
    while bench.hands.turn() {}
    let answers: Vec<_> = asked.iter_mut().map(|asked| answered(asked).unwrap()).collect();
    assert!(answers.iter().any(Result::is_ok));
    assert!(matches!(answers.last(), Some(Err(CommitError::Unavailable(_)))));
    bench.hands.close();
    let bench = Bench::on(bench.disk.kill(), bench.clock.clone(), options());
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(bench.get(&format!("{i:02}")).is_some(), answer.is_ok(), "{i}");
    }
}

#[tokio::test]
async fn time_moves_without_a_write_and_is_remembered() {
    let mut bench = Bench::new();
    let due = bench.clock.wall().plus(Duration::from_millis(10));
    bench.commit(vec![put_until("due", due), put("stays", "1")]);
    let (written, syncs) = (bench.engine.figures().log_bytes_written, bench.syncs());
    bench.clock.advance_ms(10);
    let engine = bench.engine.clone();
    let mut reading: BoxFuture<'_, _> = Box::pin(async move {
        let snapshot = engine.snapshot(Level::Linearizable).await.unwrap();
        let value = snapshot.get(b"due").await.unwrap();
        (value, snapshot.revision())
    });
    assert_eq!((&mut reading).now_or_never(), None);
    assert!(bench.hands.turn());
    let (value, seen) = reading.now_or_never().unwrap();
    assert_eq!(value, None);
    assert_eq!((bench.engine.figures().log_bytes_written, bench.syncs()), (written, syncs));
    let mut bench = bench.killed();
    assert!(bench.commit(vec![put("x", "1")]) > seen, "what was seen never comes again");
    assert_eq!((bench.get("due"), bench.get("stays").is_some()), (None, true));
}

#[tokio::test]
async fn what_falls_due_in_great_numbers_takes_several_batches_but_one_instant() {
    let small = Options { batch_bytes_max: 16 * 1024, ..options() };
    let mut bench = Bench::on(SimDisk::new(1), clock(), small);
    let due = bench.clock.wall().plus(Duration::from_millis(10));
    for part in 0..10 {
        let writes = (0..1_000).map(|i| put_until(&format!("{part}/{i:03}"), due));
        bench.commit(writes.collect());
    }
    bench.clock.advance_ms(10);
    let mut asked = bench.ask_writes(vec![Write::Add { key: key("9/999"), delta: 1 }]);
    let mut free = bench.ask_writes(vec![Write::Add { key: key("n"), delta: 1 }]);
    assert!(bench.hands.turn());
    assert_eq!(answered(&mut asked), None, "it adds to what is due");
    let committed = answered(&mut free).unwrap().unwrap();
    assert!(committed.time < due, "what is not due waits for nothing");
    let mut turns = 1;
    while bench.hands.turn() {
        turns += 1;
    }
    assert!(turns > 1, "{turns} turns");
    let committed = answered(&mut asked).unwrap().unwrap();
    assert!(committed.time >= due);
    let rest = bench.snapshot();
    let range = KeyRange::all();
    let page = rest.scan(&range, 10, outrigger_keyspace::Direction::Forward);
    let page = page.now_or_never().unwrap().unwrap();
    assert_eq!(page.entries.len(), 2);
}

#[tokio::test]
async fn a_closed_store_goes_on_where_it_ended() {
    let mut bench = Bench::new();
    let mut last = 0;
    for round in 0..4 {
        let revision = bench.commit(vec![put("k", &round.to_string())]);
        assert!(round == 0 || revision == last + 1, "nothing was skipped");
        last = revision;
        let mut late = bench.ask_writes(vec![put("late", &round.to_string())]);
        bench.hands.close();
        assert!(matches!(answered(&mut late), Some(Ok(_))), "what was queued is served");
        last += 1;
        let refused = bench.engine.commit(Transaction::default()).now_or_never();
        assert!(matches!(refused, Some(Err(CommitError::Unavailable(_)))));
        assert!(bench.engine.figures().checkpoints > 0);
        let disk = bench.disk.crash(Survivors::Nothing);
        bench = Bench::on(disk, bench.clock.clone(), options());
        assert_eq!(bench.get("late"), Some(key(&round.to_string())));
        let replayed = &bench.engine.current().unwrap().stack;
        assert!(replayed.active.is_empty(), "all of it is in the index");
    }
    assert!(bench.disk.room().is_ok());
}

/// Who is woken may run where it is woken, and look at the store at once.
struct Looks {
    engine: Arc<Local>,
    woken: AtomicBool,
}

impl Wake for Looks {
    fn wake(self: Arc<Self>) {
        let _seen = self.engine.figures();
        self.woken.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn who_waits_for_room_is_woken_by_a_close_that_holds_nothing() {
    let options = Options { small_queue_bytes_max: 1, ..options() };
    let mut bench = Bench::on(SimDisk::new(1), clock(), options);
    let first = bench.ask_writes(vec![put("a", "1")]);
    let looks = Arc::new(Looks { engine: bench.engine.clone(), woken: AtomicBool::new(false) });
    let waker = Waker::from(looks.clone());
    let mut second = bench.ask_writes(vec![put("b", "1")]);
    assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let (told, closed) = mpsc::channel();
    let close = move || {
        bench.hands.close();
        told.send(()).unwrap();
    };
    // A thread of its own, so that one that waits for itself is found out.
    let closing = thread::Builder::new().spawn(close).unwrap();
    let in_time = closed.recv_timeout(Duration::from_secs(10));
    assert!(in_time.is_ok(), "the close waits for itself");
    closing.join().unwrap();
    assert!(looks.woken.load(Ordering::SeqCst));
    assert!(matches!(first.now_or_never(), Some(Ok(_))));
    assert!(matches!(second.now_or_never(), Some(Err(CommitError::Unavailable(_)))));
}
