//! What a client may cost: slow ones, greedy ones, forgetful ones.

use super::{connect, put, serve, text, write};
use crate::{
    Remote,
    bounds::{SNAPSHOTS_MAX, WATCHES_MAX},
    place::Place,
    wire::{self, Answer, Ask, At, Request},
};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, future::join_all};
use outrigger_kernel::{BoxFuture, Mono, TaskHandle, Wall, World};
use outrigger_keyspace::{
    CommitError, KeyRange, KeySpace, Level, ReadError, Transaction, Write, memory::Memory,
};
use outrigger_sim::SimWorld;
use std::{sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

/// How many seconds a second has.
const HASTE: u64 = 250;

/// A world in which a second takes a few milliseconds.
struct Hasty(Arc<SimWorld>);

impl World for Hasty {
    fn wall(&self) -> Wall {
        self.0.wall()
    }
    fn mono(&self) -> Mono {
        Mono(self.0.mono().0 * HASTE)
    }
    fn random(&self) -> u64 {
        self.0.random()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(duration / u32::try_from(HASTE).unwrap())
    }
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle {
        self.0.spawn(name, task)
    }
}

struct Served {
    folder: TempDir,
    engine: Arc<Memory>,
    remote: Arc<Remote>,
}

async fn served(world: Arc<dyn World>) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let engine = Memory::new(world.clone());
    serve(folder.path(), engine.clone(), &world);
    let remote = connect(folder.path(), &world).await;
    Served { folder, engine, remote }
}

fn steady() -> Arc<dyn World> {
    SimWorld::new(3)
}

/// A client that says what it is told to and reads when it is told to.
struct Raw {
    stream: UnixStream,
    inbox: BytesMut,
}

impl Raw {
    async fn connect(served: &Served) -> Self {
        let mut stream = Place::of_folder(served.folder.path()).connect().await.unwrap();
        stream.write_all(&wire::greeting(wire::VERSION)).await.unwrap();
        stream.read_exact(&mut [0; wire::GREETING_BYTES]).await.unwrap();
        let mut raw = Self { stream, inbox: BytesMut::new() };
        assert!(matches!(raw.hear().await, Answer::Pulse(_)));
        raw
    }

    fn bytes(requests: &[Request]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for request in requests {
            wire::frame(&mut bytes, |out| request.put(out));
        }
        bytes
    }

    async fn say(&mut self, request: Request) {
        self.stream.write_all(&Self::bytes(&[request])).await.unwrap();
    }

    async fn hear(&mut self) -> Answer {
        loop {
            if let Some(frame) = wire::take_frame(&mut self.inbox).unwrap() {
                return Answer::take(&frame).unwrap();
            }
            assert_ne!(self.stream.read_buf(&mut self.inbox).await.unwrap(), 0, "hung up on");
        }
    }
}

fn read(id: u64, snapshot: u64, at: At, key: &'static str) -> Request {
    Request::Read { id, snapshot, at, ask: Ask::Get(Bytes::from_static(key.as_bytes())) }
}

const FRESH: At = At::Fresh(Level::Linearizable);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_requests_at_once_are_all_answered() {
    let served = served(steady()).await;
    let adds = (0..3_000).map(|_| {
        write(&*served.remote, vec![Write::Add { key: Bytes::from_static(b"n"), delta: 1 }])
    });
    let reads = (0..3_000).map(|_| super::get(&*served.remote, "n"));
    let (added, read) = futures_util::future::join(join_all(adds), join_all(reads)).await;
    assert!(added.iter().all(Result::is_ok) && read.iter().all(Result::is_ok));
    let sum = text(&*served.remote, "n").await.unwrap();
    assert_eq!(sum, Bytes::copy_from_slice(&3_000_i64.to_le_bytes()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_are_bounded() {
    let served = served(steady()).await;
    let mut held = Vec::new();
    for _ in 0..SNAPSHOTS_MAX {
        let snapshot = served.remote.snapshot(Level::Linearizable).await.unwrap();
        snapshot.get(b"a").await.unwrap();
        held.push(snapshot);
    }
    let refused = super::get(&*served.remote, "a").await;
    assert!(matches!(&refused, Err(ReadError::Unavailable(why)) if why.contains("4096 snapshots")));
    held.clear();
    assert_eq!(super::get(&*served.remote, "a").await, Ok(None), "those released make room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_nobody_reads_from_ends() {
    let served = served(Arc::new(Hasty(SimWorld::new(4)))).await;
    let mut raw = Raw::connect(&served).await;
    raw.say(read(1, 7, FRESH, "a")).await;
    assert!(matches!(raw.hear().await, Answer::Value { id: 1, revision: 0, value: None }));
    write(&*served.engine, vec![put("a", "1")]).await.unwrap();
    raw.say(read(2, 7, At::Pinned, "a")).await;
    assert!(matches!(raw.hear().await, Answer::Value { id: 2, revision: 0, value: None }));
    // Every question keeps it, so they come further and further apart.
    let patient = SimWorld::new(0);
    for pause_ms in (200..).step_by(100).take(40) {
        patient.sleep(Duration::from_millis(pause_ms)).await;
        raw.say(read(3, 7, At::Pinned, "a")).await;
        if let Answer::Gone { id: 3 } = raw.hear().await {
            return;
        }
    }
    panic!("it is there after all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_beyond_the_bound_are_woken_all_the_same() {
    let served = served(Arc::new(Hasty(SimWorld::new(5)))).await;
    let mut watches: Vec<_> = (0..WATCHES_MAX + 10)
        .map(|number| served.remote.watch(KeyRange::prefix(format!("{number:05}/"))))
        .collect();
    let writes = (0..WATCHES_MAX + 10).map(|number| put(&format!("{number:05}/x"), "1"));
    let committed = write(&*served.remote, writes.collect()).await.unwrap();
    let told = join_all(watches.iter_mut().map(outrigger_keyspace::Watch::changed)).await;
    assert!(told.iter().all(|revision| *revision == committed.revision));
    drop(watches);
    let mut after = served.remote.watch(KeyRange::prefix("00000/"));
    let again = write(&*served.remote, vec![put("00000/x", "2")]).await.unwrap();
    assert_eq!(after.changed().await, again.revision, "there is room again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_its_news_gets_the_last_of_them() {
    let served = served(steady()).await;
    let mut slow = Raw::connect(&served).await;
    slow.say(Request::Watch { watch: 1, tell: true, range: KeyRange::all() }).await;
    assert!(matches!(slow.hear().await, Answer::Changed { watch: 1, revision: 0 }));
    let mut last = 0;
    for number in 0..30_000 {
        last = write(&*served.engine, vec![put("a", &number.to_string())]).await.unwrap().revision;
        tokio::task::yield_now().await;
    }
    let mut heard = 0;
    loop {
        let Answer::Changed { watch: 1, revision } = slow.hear().await else { panic!("no news") };
        heard += 1;
        if revision == last {
            break;
        }
    }
    assert!(heard < 5_000, "{heard} wake-ups for 30,000 changes");
    assert!(slow.hear().now_or_never().is_none(), "and no more after the last");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_its_answers_is_not_read_from() {
    let served = served(steady()).await;
    let big = Write::Put {
        key: Bytes::from_static(b"big"),
        value: vec![5; 1_000_000].into(),
        expires_at: None,
    };
    write(&*served.engine, vec![big]).await.unwrap();
    let mut greedy = Raw::connect(&served).await;
    let count = 400;
    let requests: Vec<Request> = (0..count).map(|id| read(id, id, FRESH, "big")).collect();
    // All fit the buffers of the socket and the server, their 400 MB of answers do not.
    greedy.stream.write_all(&Raw::bytes(&requests)).await.unwrap();
    for _ in 0..100 {
        // Others are served meanwhile.
        assert!(super::get(&*served.remote, "big").await.unwrap().is_some());
    }
    for id in 0..count {
        let answer = greedy.hear().await;
        assert!(matches!(answer, Answer::Value { id: found, .. } if found == id), "in their order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_is_given_up_is_given_up_there_too() {
    let served = served(Arc::new(Hasty(SimWorld::new(6)))).await;
    for _ in 0..5_000 {
        let far = served.remote.snapshot(Level::AtLeast(u64::MAX));
        assert!(far.now_or_never().is_none());
    }
    write(&*served.remote, vec![put("a", "1")]).await.unwrap();
    assert!(served.remote.snapshot(Level::AtLeast(1)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_a_bound_does_not_travel() {
    let served = served(steady()).await;
    let writes = vec![put("", "1")];
    let refused = served.remote.commit(Transaction { writes, ..Transaction::default() }).await;
    assert_eq!(refused, Err(CommitError::KeyEmpty));
    let keys = vec![Bytes::from(vec![b'k'; 4_096]); 12_000];
    let snapshot = served.remote.snapshot(Level::Linearizable).await.unwrap();
    assert_eq!(snapshot.get_many(&keys).await.unwrap().len(), keys.len(), "48 MB of keys");
}

/// A holder that is stopped after it has let somebody in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_does_not_answer_is_not_waited_for_forever() {
    let folder = tempfile::tempdir().unwrap();
    let world: Arc<dyn World> = Arc::new(Hasty(SimWorld::new(8)));
    let listener = Place::of_folder(folder.path()).listen().unwrap();
    let stopped = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; wire::GREETING_BYTES]).await.unwrap();
        let mut hello = wire::greeting(wire::VERSION).to_vec();
        let pulse = wire::Pulse { now: Wall(0), revision: 0, status: None };
        wire::frame(&mut hello, |out| Answer::Pulse(pulse).put(out));
        stream.write_all(&hello).await.unwrap();
        std::future::pending::<()>().await;
        drop((listener, stream));
    };
    let client = async {
        let remote = connect(folder.path(), &world).await;
        let (committed, read) =
            tokio::join!(write(&*remote, vec![put("a", "1")]), super::get(&*remote, "a"));
        assert!(matches!(&committed, Err(CommitError::Unknown(why)) if why.contains("answer")));
        assert!(matches!(&read, Err(ReadError::Unavailable(why)) if why.contains("answer")));
    };
    tokio::select! {
        () = stopped => {}
        () = client => {}
    }
}
