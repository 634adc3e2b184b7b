//! What is acknowledged survives `kill -9` at any instant, and a log that cannot be written ends the engine.
//!
//! The test starts its own executable as a child that writes and reports every acknowledgement on a pipe; the parent
//! kills it, opens the folder and compares. (A kill does not lose what the kernel has; that the sync comes before the
//! answer is the committer's order, and losing power is for a machine that can be switched off.)
#![expect(clippy::unwrap_used, reason = "a test")]

use bytes::Bytes;
use nix::sys::{
    resource::{Resource, setrlimit},
    signal::{SigSet, Signal},
};
use outrigger_engine_local::{Local, Options};
use outrigger_kernel::World;
use outrigger_keyspace::{
    CommitError, Direction, KeyRange, KeySpace, Level, Snapshot, Stamp, Transaction, Write,
};
use outrigger_sim::SimWorld;
use std::{
    collections::BTreeMap,
    io::{Read, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

const ROUNDS: u64 = 100;
const WRITERS: u64 = 4;
const DIR: &str = "OUTRIGGER_CRASH_DIR";

/// Small, so that layers go into the index and segments of the log are used again while the killing goes on.
fn small() -> Options {
    Options { layer_bytes_max: 256 * 1024, log_max_bytes: 1024 * 1024, ..Options::default() }
}

fn child(test: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// One line per acknowledgement; a line cut off by the kill was not one.
fn acknowledgements(output: &str) -> Vec<Vec<u64>> {
    let whole = output.rfind('\n').map_or("", |end| &output[..end]);
    let lines = whole.lines().filter_map(|line| line.split_once("ack "));
    lines.map(|(_, rest)| rest.split(' ').map(|n| n.parse().unwrap()).collect()).collect()
}

fn report(line: &str) {
    // One write call, so that lines of concurrent writers do not mix.
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}

fn put(key: &str, value: Vec<u8>) -> Write {
    Write::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.into(),
        expires_at: None,
    }
}

/// A commit of four parts, which must be there together or not at all.
fn step(writer: u64, number: u64) -> Vec<Write> {
    let filler = 200 + usize::try_from(number * 37 % 3_000).unwrap();
    vec![
        put(&format!("seq/{writer}/{number:08}"), vec![7; filler]),
        put(&format!("last/{writer}"), number.to_be_bytes().to_vec()),
        Write::Add { key: Bytes::from_static(b"total"), delta: 1 },
        Write::PutStamped {
            prefix: Bytes::from_static(b"log/"),
            suffix: Bytes::new(),
            value: Bytes::copy_from_slice(&[writer.to_be_bytes(), number.to_be_bytes()].concat()),
            expires_at: None,
        },
    ]
}

async fn last_of(snapshot: &Arc<dyn Snapshot>, writer: u64) -> u64 {
    let value = snapshot.get(format!("last/{writer}").as_bytes()).await.unwrap();
    value.map_or(0, |value| u64::from_be_bytes(value.bytes[..].try_into().unwrap()))
}

#[test]
#[ignore = "the child of `killed_at_random_instants`"]
fn writing_child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = Local::open(Path::new(&dir), SimWorld::new(1), small()).unwrap();
        let writer = async |writer: u64| {
            let snapshot = engine.snapshot(Level::Linearizable).await.unwrap();
            let mut number = last_of(&snapshot, writer).await;
            drop(snapshot);
            loop {
                number += 1;
                let writes = step(writer, number);
                let transaction = Transaction { writes, ..Transaction::default() };
                let revision = engine.commit(transaction).await.unwrap().revision;
                report(&format!("ack {writer} {number} {revision}\n"));
            }
        };
        futures_util::future::join_all((0..WRITERS).map(writer)).await;
    });
}

#[test]
fn killed_at_random_instants() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let random = runtime.block_on(async { SimWorld::new(20_260_101) });
    let mut acknowledged: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut child = child("writing_child", folder.path());
        // Between a store that is just being opened and one that is writing into its index.
        std::thread::sleep(Duration::from_millis(5 + random.random() % 200));
        child.kill().unwrap();
        let mut output = String::new();
        child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        child.wait().unwrap();
        for ack in acknowledgements(&output) {
            acknowledged.insert((ack[0], ack[1]), ack[2]);
        }
        runtime.block_on(check(folder.path(), &acknowledged, round));
    }
    assert!(acknowledged.len() > 1_000, "only {} commits were acknowledged", acknowledged.len());
}

#[test]
fn killed_while_the_store_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for round in 0..30 {
        let dir = folder.path().join(round.to_string());
        let mut child = child("writing_child", &dir);
        while !dir.exists() {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_micros(round * 700));
        child.kill().unwrap();
        child.wait().unwrap();
        runtime.block_on(async {
            let engine = Local::open(&dir, SimWorld::new(2), small()).unwrap();
            let writes = vec![put("a", vec![1])];
            engine.commit(Transaction { writes, ..Transaction::default() }).await.unwrap();
            engine.close().await;
        });
        let names = std::fs::read_dir(&dir).unwrap().flatten().map(|entry| entry.file_name());
        let unfinished: Vec<_> = names.filter(|name| *name == *"NEW").collect();
        assert!(unfinished.is_empty(), "round {round}: {unfinished:?}");
    }
}

/// Every acknowledged commit is there, whole, in its place; what else is there was under way.
async fn check(dir: &Path, acknowledged: &BTreeMap<(u64, u64), u64>, round: u64) {
    let engine = Local::open(dir, SimWorld::new(2), small()).unwrap();
    let snapshot = engine.snapshot(Level::Linearizable).await.unwrap();
    let mut present = BTreeMap::new();
    for entry in all(&snapshot, "log/").await {
        let stamp = Stamp::from_bytes(entry.key[4..].try_into().unwrap());
        let (writer, number) = entry.value.bytes.split_at(8);
        let number = u64::from_be_bytes(number.try_into().unwrap());
        let writer = u64::from_be_bytes(writer.try_into().unwrap());
        present.insert((writer, number), stamp.revision);
    }
    for (commit, revision) in acknowledged {
        assert_eq!(present.get(commit), Some(revision), "round {round}: {commit:?} is lost");
    }
    for writer in 0..WRITERS {
        let numbers: Vec<u64> = present.keys().filter(|k| k.0 == writer).map(|k| k.1).collect();
        let count = u64::try_from(numbers.len()).unwrap();
        assert_eq!(numbers, (1..=count).collect::<Vec<_>>(), "round {round}: a gap");
        assert_eq!(last_of(&snapshot, writer).await, count, "round {round}: half a commit");
        let sequence = all(&snapshot, &format!("seq/{writer}/")).await;
        assert_eq!(sequence.len(), numbers.len(), "round {round}: half a commit");
        assert!(sequence.is_sorted_by_key(|entry| entry.value.revision), "round {round}: order");
    }
    let total = snapshot
        .get(b"total")
        .await
        .unwrap()
        .map_or(0, |value| i64::from_le_bytes(value.bytes[..].try_into().unwrap()));
    assert_eq!(total, i64::try_from(present.len()).unwrap(), "round {round}: half a commit");
    let newest = present.values().max().copied().unwrap_or(0);
    assert!(snapshot.revision() >= newest, "round {round}: a revision would come again");
    drop(snapshot);
    engine.close().await;
}

async fn all(snapshot: &Arc<dyn Snapshot>, prefix: &str) -> Vec<outrigger_keyspace::Entry> {
    let mut range = KeyRange::prefix(prefix.to_owned());
    let mut entries = Vec::new();
    loop {
        let page = snapshot.scan(&range, usize::MAX, Direction::Forward).await.unwrap();
        entries.extend(page.entries);
        match entries.last() {
            Some(last) if page.more => range = range.after(&last.key),
            _ => return entries,
        }
    }
}

#[test]
#[ignore = "the child of `a_log_that_cannot_be_written_ends_the_engine`"]
fn failing_child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    // Blocked before any thread starts, so that a write beyond the limit fails instead of killing.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    signals.thread_block().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = Local::open(Path::new(&dir), SimWorld::new(1), Options::default()).unwrap();
        let commit = async |number: u64| {
            let writes = vec![put(&format!("k/{number}"), vec![1; 1_000])];
            engine.commit(Transaction { writes, ..Transaction::default() }).await
        };
        report(&format!("ack 0 {}\n", commit(0).await.unwrap().revision));
        setrlimit(Resource::RLIMIT_FSIZE, 300_000, 300_000).unwrap();
        // Several at once, so that some of them wait while the failing group is written.
        let mut number = 0;
        let failures = loop {
            let answers = futures_util::future::join_all((1..=5).map(|i| commit(number + i))).await;
            for (i, answer) in (1..).zip(&answers) {
                if let Ok(committed) = answer {
                    report(&format!("ack {} {}\n", number + i, committed.revision));
                }
            }
            number += 5;
            let failures: Vec<CommitError> = answers.into_iter().filter_map(Result::err).collect();
            if !failures.is_empty() {
                break failures;
            }
        };
        for failure in failures {
            let honest = matches!(failure, CommitError::Unknown(_) | CommitError::Unavailable(_));
            assert!(honest, "{failure:?}");
        }
        let after = commit(9_999).await;
        assert!(matches!(&after, Err(CommitError::Unavailable(why)) if why.contains("restart")));
        assert!(engine.status().failed.is_some());
        let snapshot = engine.snapshot(Level::Linearizable).await.unwrap();
        assert!(snapshot.get(b"k/0").await.unwrap().is_some(), "reads go on");
        engine.close().await;
        report("ended well\n");
    });
}

#[test]
fn a_log_that_cannot_be_written_ends_the_engine() {
    let folder = tempfile::tempdir().unwrap();
    let output = child("failing_child", folder.path()).wait_with_output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    assert!(output.contains("ended well"), "{output}");
    let acknowledged = acknowledgements(&output);
    assert!(acknowledged.len() > 100, "{output}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = Local::open(folder.path(), SimWorld::new(2), Options::default()).unwrap();
        let snapshot = engine.snapshot(Level::Linearizable).await.unwrap();
        for ack in acknowledged {
            let value = snapshot.get(format!("k/{}", ack[0]).as_bytes()).await.unwrap();
            assert_eq!(value.map(|value| value.revision), Some(ack[1]));
        }
    });
}
