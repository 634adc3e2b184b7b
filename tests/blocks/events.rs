//! Topics on the local engine: what a killed process leaves behind.
//!
//! The test starts itself again as a child, lets it publish and consume, kills it in the middle and looks at what is on
//! disk.
#![expect(
    clippy::unwrap_used,
    reason = "a test file: what cannot be unwrapped is a failure of the test"
)]

use outrigger_engine_local::{Local, Options};
use outrigger_events::{
    Broker, BrokerSettings, Consumer, Delivery, NewMessage, PublishError, SubscribeOptions, Verdict,
};
use outrigger_kernel::{BoxFuture, Deadline, World};
use outrigger_keyspace::Space;
use outrigger_sim::SimWorld;
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;

const CHILD: &str = "OUTRIGGER_EVENTS_TEST_FOLDER";
const MINUTE: Duration = Duration::from_secs(60);

struct Node {
    world: Arc<SimWorld>,
    engine: Arc<Local>,
    broker: Arc<Broker>,
}

impl Node {
    fn open(folder: &Path) -> Self {
        Self::with(folder, Options::default())
    }

    fn with(folder: &Path, options: Options) -> Self {
        let world = SimWorld::new(1);
        let clock: Arc<dyn World> = Arc::clone(&world) as _;
        let engine = Local::open(folder, Arc::clone(&clock), options).unwrap();
        let space = Space::new(Arc::clone(&engine) as _, clock);
        Self { world, engine, broker: Broker::open(space, "b", BrokerSettings::default()) }
    }

    async fn publish(&self, messages: Vec<NewMessage>) {
        let deadline = Deadline::after(&*self.world, MINUTE);
        self.broker.publish("t", messages, deadline).await.unwrap();
    }

    async fn close(self) {
        self.broker.close(MINUTE).await;
        drop(self.broker);
        self.engine.close().await;
    }
}

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("outrigger-events-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Acknowledges what it gets, after telling `tell` about it.
struct Teller<F>(F);

impl<F: Fn(&[Delivery]) + Send + Sync + 'static> Consumer for Teller<F> {
    fn deliver(&self, batch: Vec<Delivery>) -> BoxFuture<'_, Vec<Verdict>> {
        (self.0)(&batch);
        let verdicts = vec![Verdict::Ack; batch.len()];
        Box::pin(async { verdicts })
    }
}

fn message(text: String) -> NewMessage {
    NewMessage { data: text.into(), ..NewMessage::default() }
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.data.to_vec()).unwrap()
}

fn say(line: &str) {
    // The parent may have stopped listening; then nothing matters any more.
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// What the child does; nothing when it is not one.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let node = Node::open(Path::new(&folder));
        let consumer = Teller(|batch: &[Delivery]| {
            batch.iter().for_each(|delivery| say(&format!("delivered {}", text(delivery))));
        });
        let options = SubscribeOptions { max_in_flight: 20, ..SubscribeOptions::new("t", "g") };
        let _handle = node.broker.subscribe(options, Arc::new(consumer)).await.unwrap();
        for bulk in 0_u64.. {
            let name = format!("{}-{bulk}", std::process::id());
            node.publish((0..3).map(|n| message(format!("{name}-{n}"))).collect()).await;
            say(&format!("published {name}"));
        }
    });
}

fn spawn_child(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_killed_process_loses_nothing_it_acknowledged() {
    let folder = Folder::new("kill");
    let (mut published, mut delivered) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..4 {
        let mut child = spawn_child(&folder.0);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut note = |line: String| {
            if let Some(name) = line.strip_prefix("published ") {
                published.extend((0..3).map(|n| format!("{name}-{n}")));
            } else if let Some(name) = line.strip_prefix("delivered ") {
                delivered.insert(name.to_owned());
            }
        };
        lines.by_ref().take(100 + round * 37).map_while(Result::ok).for_each(&mut note);
        child.kill().unwrap();
        child.wait().unwrap();
        lines.map_while(Result::ok).for_each(note);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rest = runtime.block_on(async {
        let node = Node::open(&folder.0);
        let lag = node.broker.stats().await.unwrap()[0].groups[0].lag;
        let (count, mut counted) = watch::channel((0, BTreeSet::new()));
        let consumer = Teller(move |batch: &[Delivery]| {
            count.send_modify(|(count, seen)| {
                *count += batch.len();
                seen.extend(batch.iter().map(text));
            });
        });
        let options = SubscribeOptions::new("t", "g");
        let _handle = node.broker.subscribe(options, Arc::new(consumer)).await.unwrap();
        let lag = usize::try_from(lag).unwrap();
        let rest = counted.wait_for(|(count, _)| *count >= lag).await.unwrap().1.clone();
        node.close().await;
        rest
    });
    assert!(published.len() > 100);
    delivered.extend(rest);
    let lost: Vec<&String> = published.difference(&delivered).collect();
    assert_eq!(lost, Vec::<&String>::new());
}

/// Less than the reserve is free, but more than half of it: nobody can publish any more, and whoever consumes makes room.
#[tokio::test]
async fn a_full_store_is_drained() {
    let folder = Folder::new("full");
    let node = Node::open(&folder.0);
    let nobody = Arc::new(Teller(|_: &[Delivery]| {}));
    let options = SubscribeOptions::new("t", "g");
    let handle = node.broker.subscribe(options.clone(), nobody).await.unwrap();
    handle.stop(MINUTE).await;
    node.publish((0..50).map(|n| message(n.to_string())).collect()).await;
    node.close().await;

    let disk = nix::sys::statvfs::statvfs(&folder.0).unwrap();
    let free_bytes = disk.blocks_available() * disk.fragment_size();
    let reserve_bytes = Some(free_bytes / 10 * 15);
    let node = Node::with(&folder.0, Options { reserve_bytes, ..Options::default() });
    let deadline = Deadline::after(&*node.world, MINUTE);
    let refused = node.broker.publish("t", vec![message("more".to_owned())], deadline).await;
    assert!(matches!(refused, Err(PublishError::Full(_))), "{refused:?}");
    let (count, mut counted) = watch::channel(0);
    let consumer =
        Teller(move |batch: &[Delivery]| count.send_modify(|count| *count += batch.len()));
    let handle = node.broker.subscribe(options, Arc::new(consumer)).await.unwrap();
    counted.wait_for(|count| *count >= 50).await.unwrap();
    assert!(handle.stop(MINUTE).await.settled);
    // The sweeper comes round on its own.
    while node.broker.stats().await.unwrap()[0].stored > 0 {
        node.world.sleep(Duration::from_millis(20)).await;
    }
    node.close().await;
}
