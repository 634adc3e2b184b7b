//! Processes that share a folder, and are killed.
//!
//! The test starts its own executable as children. Each of them works on the folder all the time, and reports on a pipe what
//! it began, what it was told, and when it holds the folder. The parent kills whoever holds it, again and again, starts
//! another, and judges in the end what all of them saw.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test, which also measures")]

use bytes::Bytes;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use outrigger_engine_local::{Local, OpenError, Options};
use outrigger_engine_remote::{Opened, Refused, Shared};
use outrigger_kernel::{Deadline, World};
use outrigger_keyspace::{
    CommitError, Direction, Entry, KeyRange, KeySpace, Level, Space, TransactError, Write,
    exam::history::append::{self, Fate, Op},
};
use outrigger_sim::SimWorld;
use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead, BufReader, Read, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const DIR: &str = "OUTRIGGER_SHARED_DIR";
const NUMBER: &str = "OUTRIGGER_SHARED_NUMBER";
const WRITERS: u64 = 3;
const LISTS: u64 = 4;
const KILLS: usize = 24;
/// Set to a number, there are so many of them instead.
const KILLS_VARIABLE: &str = "OUTRIGGER_KILLS";
/// Now and then a commit is large, so that holders die with half of one in the socket.
const LARGE_BYTES: usize = 300_000;

/// Nanoseconds on the one clock that all processes of the machine have.
#[expect(clippy::disallowed_methods, reason = "the clock that processes have in common")]
fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

fn opener(
    folder: &Path,
    world: Arc<dyn World>,
) -> impl Fn() -> Result<Opened, Refused> + Send + Sync + use<> {
    let folder = folder.to_owned();
    move || match Local::open(&folder, world.clone(), Options::default()) {
        Ok(local) => {
            let (failing, closing) = (local.clone(), local.clone());
            Ok(Opened {
                engine: local,
                failure: Box::pin(async move { failing.failure().await }),
                close: Box::new(move || Box::pin(async move { closing.close().await })),
            })
        }
        Err(error @ OpenError::InUse { .. }) => Err(Refused::InUse(Box::new(error))),
        Err(error) => Err(Refused::Failed(Box::new(error))),
    }
}

fn report(line: &str) {
    // One write call, so that lines of concurrent writers do not mix.
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}

fn list_key(list: u64) -> Bytes {
    Bytes::from(format!("list/{list}"))
}

fn elements(value: Option<Bytes>) -> Vec<u64> {
    let bytes = value.unwrap_or_default();
    bytes.as_chunks::<8>().0.iter().map(|element| u64::from_be_bytes(*element)).collect()
}

fn comma(list: &[u64]) -> String {
    list.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

/// Reads two lists and appends to one of them. Lists are new every second, so that they stay short.
async fn append_once(space: &Space, world: &dyn World, element: u64) {
    let era = now() / 1_000_000_000 * LISTS;
    let (first, second) = (era + world.random() % LISTS, era + world.random() % LISTS);
    report(&format!("begun {element} {} {first}\n", now()));
    let body = async |tx: outrigger_keyspace::Tx| {
        let other = elements(tx.get_raw(&list_key(second)).await?.map(|value| value.bytes));
        let list = elements(tx.get_raw(&list_key(first)).await?.map(|value| value.bytes));
        let mut bytes: Vec<u8> = list.iter().flat_map(|element| element.to_be_bytes()).collect();
        bytes.extend_from_slice(&element.to_be_bytes());
        let (key, value) = (list_key(first), bytes.into());
        tx.write(Write::Put { key, value, expires_at: None });
        Ok::<_, TransactError<std::convert::Infallible>>((other, list))
    };
    let deadline = Deadline::after(world, Duration::from_secs(20));
    match space.transact(deadline, body).await {
        Ok(((other, list), _)) => {
            let (other, list) = (comma(&other), comma(&list));
            report(&format!("done {element} {} {second}:{other} {first}:{list}\n", now()));
        }
        Err(TransactError::Elapsed | TransactError::Commit(CommitError::Unknown(_))) => {}
        Err(error) => report(&format!("refused {element} {} {error:?}\n", now())),
    }
}

/// A commit that reads nothing, so that nothing but its name keeps it from being applied twice.
async fn log_once(space: &Space, element: u64) {
    let value = Bytes::copy_from_slice(&element.to_be_bytes());
    let prefix = Bytes::from_static(b"log/");
    let mut writes = vec![
        Write::PutStamped { prefix, suffix: Bytes::new(), value, expires_at: None },
        Write::Add { key: Bytes::from_static(b"count"), delta: 1 },
    ];
    if element.is_multiple_of(16) {
        let key = Bytes::from(format!("large/{}", element >> 32));
        writes.push(Write::Put { key, value: vec![1; LARGE_BYTES].into(), expires_at: None });
    }
    report(&format!("logs {element} {}\n", now()));
    match space.write(writes).await {
        Ok(committed) => report(&format!("logged {element} {} {}\n", now(), committed.revision)),
        Err(CommitError::Unknown(why)) => report(&format!("unknown {element} {why}\n")),
        Err(error) => report(&format!("failed {element} {error}\n")),
    }
}

#[test]
#[ignore = "the child of the other tests"]
fn working_child() {
    let (Ok(dir), Ok(number)) = (std::env::var(DIR), std::env::var(NUMBER)) else { return };
    let number: u64 = number.parse().unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        // Commits have random names: no two processes may draw the same.
        let world: Arc<dyn World> = SimWorld::new(now() ^ u64::from(std::process::id()) << 32);
        let open = opener(Path::new(&dir), world.clone());
        let shared = Shared::open(Path::new(&dir), world.clone(), open).await.unwrap();
        report("joined\n");
        let space = Space::new(shared.clone(), world.clone());
        let mut tasks = Vec::new();
        for writer in 0..WRITERS {
            let (space, world) = (space.clone(), world.clone());
            tasks.push(async move {
                for step in 0_u64.. {
                    let element = number << 40 | writer << 32 | step;
                    match step % 3 {
                        0 => log_once(&space, element).await,
                        _ => append_once(&space, &*world, element).await,
                    }
                }
            });
        }
        let watching = async {
            while !shared.holds() {
                world.sleep(Duration::from_millis(2)).await;
            }
            report(&format!("holds {}\n", now()));
            std::future::pending::<()>().await;
        };
        let told_to_leave = tokio::task::spawn_blocking(|| {
            let _end = std::io::stdin().read_to_end(&mut Vec::new());
        });
        tokio::select! {
            _ = futures_util::future::join_all(tasks) => {}
            () = watching => {}
            _ = told_to_leave => {}
        }
        shared.close(Duration::from_secs(5)).await;
        report("left\n");
    });
}

/// What the children said, line by line.
#[derive(Default)]
struct Said {
    lines: Mutex<Vec<(u64, String)>>,
    more: Condvar,
}

impl Said {
    fn lines(&self) -> MutexGuard<'_, Vec<(u64, String)>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `found` finds something in what was said; panics after a minute of nothing.
    fn wait<T>(&self, what: &str, mut found: impl FnMut(&[(u64, String)]) -> Option<T>) -> T {
        let mut lines = self.lines();
        let patience = Duration::from_secs(60);
        let begun = now();
        loop {
            if let Some(found) = found(&lines) {
                return found;
            }
            assert!(now() - begun < 60_000_000_000, "{what}: not within a minute");
            lines = self.more.wait_timeout(lines, patience).unwrap().0;
        }
    }
}

struct Worker {
    number: u64,
    child: Child,
    stdin: Option<ChildStdin>,
}

struct Crowd {
    dir: tempfile::TempDir,
    said: Arc<Said>,
    workers: Vec<Worker>,
    next: u64,
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _gone = worker.child.kill();
            let _gone = worker.child.wait();
        }
    }
}

impl Crowd {
    fn new(size: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut crowd = Self { dir, said: Arc::default(), workers: Vec::new(), next: 1 };
        (0..size).for_each(|_| crowd.start());
        crowd
    }

    fn start(&mut self) {
        let number = self.next;
        self.next += 1;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["working_child", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(DIR, self.dir.path())
            .env(NUMBER, number.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, stdin) = (child.stdout.take().unwrap(), child.stdin.take());
        let said = self.said.clone();
        std::thread::Builder::new()
            .spawn(move || {
                let mut reader = BufReader::new(stdout);
                let mut line = String::new();
                // A line cut off by a kill was not said.
                while reader.read_line(&mut line).is_ok_and(|_| line.ends_with('\n')) {
                    said.lines().push((number, line.trim_end().to_owned()));
                    said.more.notify_all();
                    line.clear();
                }
            })
            .unwrap();
        self.workers.push(Worker { number, child, stdin });
    }

    /// The worker that holds the folder, once there is one that lives.
    fn holder(&mut self) -> usize {
        let living: Vec<u64> = self.workers.iter().map(|worker| worker.number).collect();
        let holder = self.said.wait("somebody holds the folder", |lines| {
            let mut holders = lines.iter().rev().filter(|(_, line)| line.starts_with("holds "));
            holders.find(|(number, _)| living.contains(number)).map(|(number, _)| *number)
        });
        self.workers.iter().position(|worker| worker.number == holder).unwrap()
    }

    /// Waits until each living worker has had an answer to what it began from now on; answers when the first one had.
    fn all_work(&self, what: &str, since: u64) -> u64 {
        let living: Vec<u64> = self.workers.iter().map(|worker| worker.number).collect();
        let from = self.said.lines().len();
        let mut first: HashMap<u64, u64> = HashMap::new();
        let mut begun: HashMap<String, u64> = HashMap::new();
        let mut read = from.saturating_sub(2_000);
        self.said.wait(what, |lines| {
            for (number, line) in &lines[read..] {
                let words: Vec<&str> = line.split(' ').collect();
                match words[..] {
                    ["begun" | "logs", element, at, ..] => {
                        begun.insert(element.to_owned(), at.parse().unwrap());
                    }
                    ["done" | "logged", element, at, ..]
                        if begun.get(element).is_some_and(|begun| *begun > since) =>
                    {
                        first.entry(*number).or_insert_with(|| at.parse().unwrap());
                    }
                    _ => {}
                }
            }
            read = lines.len();
            living.iter().all(|number| first.contains_key(number)).then_some(())
        });
        first.values().copied().min().unwrap()
    }

    fn end(&mut self, index: usize) -> u64 {
        let mut worker = self.workers.remove(index);
        worker.child.kill().unwrap();
        let at = now();
        worker.child.wait().unwrap();
        at
    }

    /// Lets a worker leave in its own time.
    fn leave(&mut self, index: usize) -> u64 {
        let mut worker = self.workers.remove(index);
        drop(worker.stdin.take());
        assert!(worker.child.wait().unwrap().success());
        now()
    }

    fn signal(&self, index: usize, signal: Signal) {
        let pid = i32::try_from(self.workers[index].child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Ends all and judges what they saw.
    fn judge(mut self) {
        while !self.workers.is_empty() {
            self.leave(0);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let log = runtime.block_on(read_log(self.dir.path()));
        // Readers may still be at it.
        let lines = self.said.lines().clone();
        judge_log(&lines, &log);
        judge_lists(&lines);
    }
}

async fn all(engine: &dyn KeySpace, prefix: &'static str) -> Vec<Entry> {
    let snapshot = engine.snapshot(Level::Linearizable).await.unwrap();
    let (mut range, mut entries) = (KeyRange::prefix(prefix), Vec::new());
    loop {
        let page = snapshot.scan(&range, usize::MAX, Direction::Forward).await.unwrap();
        entries.extend(page.entries);
        match entries.last() {
            Some(last) if page.more => range = range.after(&last.key),
            _ => return entries,
        }
    }
}

/// Every element in the log, with the revision it was written at.
async fn read_log(dir: &Path) -> Vec<(u64, u64)> {
    let engine = Local::open(dir, SimWorld::new(1), Options::default()).unwrap();
    let entries = all(&*engine, "log/").await;
    let count = all(&*engine, "count").await;
    let count = i64::from_le_bytes(count[0].value.bytes[..].try_into().unwrap());
    assert_eq!(count, i64::try_from(entries.len()).unwrap(), "the count and the log differ");
    let log = entries.into_iter().map(|entry| {
        (u64::from_be_bytes(entry.value.bytes[..].try_into().unwrap()), entry.value.revision)
    });
    let log = log.collect();
    engine.close().await;
    log
}

/// Every acknowledged element is there, where its answer said; none is there twice, or refused.
fn judge_log(lines: &[(u64, String)], log: &[(u64, u64)]) {
    let mut present: BTreeMap<u64, u64> = BTreeMap::new();
    for (element, revision) in log {
        let twice = present.insert(*element, *revision);
        assert_eq!(twice, None, "{element:x} was applied twice");
    }
    let mut acknowledged = 0;
    for (_, line) in lines {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["logged", element, _, revision] => {
                acknowledged += 1;
                let (element, revision) = (element.parse().unwrap(), revision.parse().unwrap());
                assert_eq!(present.get(&element), Some(&revision), "{element:x} is lost");
            }
            ["failed", element, ..] => {
                assert!(
                    !present.contains_key(&element.parse().unwrap()),
                    "{line}, but it is there"
                );
            }
            _ => {}
        }
    }
    assert!(acknowledged > 100, "only {acknowledged} were acknowledged");
    let unknown = lines.iter().filter(|(_, line)| line.starts_with("unknown ")).count();
    assert_eq!(unknown, 0, "nobody whose holder dies is left in the dark");
    println!("{acknowledged} blind commits acknowledged, {} in the log", log.len());
}

fn judge_lists(lines: &[(u64, String)]) {
    let mut begun: BTreeMap<u64, append::Transaction> = BTreeMap::new();
    for (_, line) in lines {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["begun", element, at, list] => {
                let (element, key) = (element.parse().unwrap(), list.parse().unwrap());
                let ops = vec![Op::Append { key, element }];
                let invoked = at.parse().unwrap();
                let answered = u64::MAX;
                let outcome = Fate::Unknown;
                begun.insert(element, append::Transaction { invoked, answered, ops, outcome });
            }
            ["done", element, at, other, list] => {
                let transaction = begun.get_mut(&element.parse().unwrap()).unwrap();
                transaction.answered = at.parse().unwrap();
                transaction.outcome = Fate::Committed;
                transaction.ops.splice(0..0, [read(other), read(list)]);
            }
            ["refused", element, at, ..] => {
                let transaction = begun.get_mut(&element.parse().unwrap()).unwrap();
                transaction.answered = at.parse().unwrap();
                transaction.outcome = Fate::Refused;
            }
            _ => {}
        }
    }
    let history: Vec<append::Transaction> = begun.into_values().collect();
    let of = |fate| history.iter().filter(|transaction| transaction.outcome == fate).count();
    println!(
        "{} list transactions: {} committed, {} refused, {} without an answer (their process ended)",
        history.len(),
        of(Fate::Committed),
        of(Fate::Refused),
        of(Fate::Unknown)
    );
    assert!(of(Fate::Committed) > 200);
    let anomalies = append::check(&history);
    assert!(anomalies.is_empty(), "{:#?}", &anomalies[..anomalies.len().min(5)]);
}

fn read(said: &str) -> Op {
    let (key, list) = said.split_once(':').unwrap();
    let list = list.split(',').filter(|e| !e.is_empty()).map(|e| e.parse().unwrap()).collect();
    Op::Read { key: key.parse().unwrap(), list }
}

#[test]
fn holders_are_killed_and_nothing_is_lost_or_done_twice() {
    let mut crowd = Crowd::new(4);
    crowd.all_work("the first start", 0);
    let random = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let random = random.block_on(async { SimWorld::new(20_260_101) });
    let mut takeovers = Vec::new();
    let kills = std::env::var(KILLS_VARIABLE).map_or(KILLS, |kills| kills.parse().unwrap());
    for round in 0..kills {
        let holder = crowd.holder();
        // Somewhere in the middle of what it does.
        std::thread::sleep(Duration::from_millis(random.random() % 120));
        let clean = round % 6 == 5;
        let ended = if clean { crowd.leave(holder) } else { crowd.end(holder) };
        let served = crowd.all_work(&format!("round {round}"), ended);
        takeovers.push((served - ended) / 1_000_000);
        crowd.start();
    }
    takeovers.sort_unstable();
    let (median, worst) = (takeovers[takeovers.len() / 2], takeovers[takeovers.len() - 1]);
    println!(
        "{kills} takeovers, from the end of a holder to the first answer: median {median} ms, worst {worst} ms"
    );
    assert!(worst < 10_000, "{takeovers:?}");
    crowd.judge();
}

/// A holder that is stopped keeps the folder, and nobody else takes it: when it goes on, so do the others.
#[test]
fn a_holder_that_is_paused_keeps_the_folder() {
    let mut crowd = Crowd::new(3);
    crowd.all_work("the first start", 0);
    let holder = crowd.holder();
    crowd.signal(holder, Signal::SIGSTOP);
    let holders =
        |said: &Said| said.lines().iter().filter(|(_, line)| line.starts_with("holds ")).count();
    let before = holders(&crowd.said);
    // Long enough for somebody impatient to try.
    std::thread::sleep(Duration::from_millis(1_500));
    crowd.start();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(holders(&crowd.said), before, "the lock decides, not the time");
    crowd.signal(holder, Signal::SIGCONT);
    crowd.all_work("after the pause", now());
    assert_eq!(holders(&crowd.said), before);
    for _ in 0..20 {
        crowd.all_work("afterwards", now());
    }
    crowd.judge();
}

/// Two processes that start at once on an empty folder, many times.
#[test]
fn processes_start_at_once() {
    for round in 0..10 {
        let crowd = Crowd::new(3);
        crowd.all_work(&format!("round {round}"), 0);
        let holders = crowd.said.lines().iter().filter(|(_, l)| l.starts_with("holds ")).count();
        assert_eq!(holders, 1, "round {round}");
    }
}
