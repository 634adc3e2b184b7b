//! What it adds to reach the store through another process: each operation here and over the socket, in turns.
//!
//! ```text
//! cargo run --release -p outrigger-engine-remote --example latency
//! ```
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "an example that measures")]

use bytes::Bytes;
use outrigger_engine_local::{Local, Options};
use outrigger_engine_remote::{Place, Remote, Server};
use outrigger_kernel::World;
use outrigger_keyspace::{KeySpace, Level, Transaction, Write, memory::Memory};
use outrigger_sim::SimWorld;
use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

const ROUNDS: usize = 20;
const EACH: usize = 500;

fn open(kind: &str, folder: &Path, world: &Arc<dyn World>) -> Arc<dyn KeySpace> {
    match kind {
        "memory" => Memory::new(world.clone()),
        _ => Local::open(folder, world.clone(), Options::default()).unwrap(),
    }
}

/// The other process: serves an engine until its input ends.
async fn serve(kind: &str, folder: &Path, world: Arc<dyn World>) {
    let engine = open(kind, &folder.join("there"), &world);
    let listener = Place::new(&folder.join("socket")).listen().unwrap();
    let server = Server::new(engine, world);
    println!("listening");
    let told_to_end = tokio::task::spawn_blocking(|| {
        let _end = std::io::stdin().read_to_end(&mut Vec::new());
    });
    tokio::select! {
        () = server.accept(&listener) => {}
        _ = told_to_end => {}
    }
    std::process::exit(0);
}

async fn read(engine: &dyn KeySpace, key: &Bytes) {
    let snapshot = engine.snapshot(Level::Linearizable).await.unwrap();
    assert!(snapshot.get(key).await.unwrap().is_some());
}

async fn write(engine: &dyn KeySpace, key: &Bytes) {
    let value = Bytes::from_static(&[7; 128]);
    let writes = vec![Write::Put { key: key.clone(), value, expires_at: None }];
    engine.commit(Transaction { writes, ..Transaction::default() }).await.unwrap();
}

/// How long each of some operations took, in nanoseconds.
async fn time<F: Future<Output = ()>>(world: &dyn World, mut work: impl FnMut() -> F) -> Vec<u64> {
    let mut took = Vec::with_capacity(EACH);
    for _ in 0..EACH {
        let begun = world.mono();
        work().await;
        took.push(u64::try_from(world.mono().since(begun).as_nanos()).unwrap());
    }
    took
}

fn show(what: &str, mut here: Vec<u64>, mut there: Vec<u64>) {
    here.sort_unstable();
    there.sort_unstable();
    let at = |all: &[u64], percent: usize| all[all.len() * percent / 100 - 1] / 100;
    let (h50, t50, t99) = (at(&here, 50), at(&there, 50), at(&there, 99));
    let us = |tenths: u64| format!("{}.{}", tenths / 10, tenths % 10);
    println!(
        "{what:<14} median here {:>8} us   over the socket {:>8} us (p99 {:>8})   added {:>8} us",
        us(h50),
        us(t50),
        us(t99),
        us(t50.saturating_sub(h50))
    );
}

async fn measure(kind: &str, world: Arc<dyn World>) {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["serve", kind])
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let here = open(kind, &folder.path().join("here"), &world);
    let there = Remote::connect(folder.path(), world.clone()).await.unwrap();
    let key = Bytes::from_static(b"a key of a common length");
    let mut took: [Vec<u64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        took[0].extend(time(&*world, || write(&*here, &key)).await);
        took[1].extend(time(&*world, || write(&*there, &key)).await);
        took[2].extend(time(&*world, || read(&*here, &key)).await);
        took[3].extend(time(&*world, || read(&*there, &key)).await);
    }
    let [w_here, w_there, r_here, r_there] = took;
    show(&format!("{kind} write"), w_here, w_there);
    show(&format!("{kind} read"), r_here, r_there);
    let begun = world.mono();
    let clients = (0..64).map(|_| {
        let (there, key) = (there.clone(), key.clone());
        async move {
            for _ in 0..500 {
                read(&*there, &key).await;
            }
        }
    });
    futures_util::future::join_all(clients).await;
    let took = world.mono().since(begun);
    println!("{kind} read       64 at once: {:.0} a second", 32_000.0 / took.as_secs_f64());
    drop(child.stdin.take());
    child.wait().unwrap();
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let arguments: Vec<String> = std::env::args().collect();
    // On a task, as everything in the binary is; not on the thread that waits for the runtime.
    let work = async move {
        let world: Arc<dyn World> = SimWorld::new(u64::from(std::process::id()));
        if let [_, serving, kind, folder] = &arguments[..]
            && serving == "serve"
        {
            return serve(kind, Path::new(folder), world).await;
        }
        measure("memory", world.clone()).await;
        measure("local", world).await;
    };
    let world = runtime.block_on(async { SimWorld::new(0) });
    let (done, ended) = std::sync::mpsc::sync_channel(1);
    let _in_runtime = runtime.enter();
    drop(world.spawn(
        "work",
        Box::pin(async move {
            work.await;
            let _gone = done.send(());
        }),
    ));
    let _done = ended.recv_timeout(Duration::from_secs(600));
}
