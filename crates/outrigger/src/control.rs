//! A private line to a running runtime: what `topic tail` asks that no app would ask.
//!
//! A Unix socket beside the file that announces the runtime, open to its own user only. One JSON line is the question;
//! the answers are lines until one side hangs up.

use crate::node::{Node, neighbours::Neighbourhood};
use outrigger_events::{Batch, Broker, Consumer, Delivery, SubscribeOptions, Verdict};
use outrigger_kernel::{BoxFuture, World};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::{Semaphore, mpsc},
};

/// What a question may be long.
const QUESTION_BYTES_MAX: u64 = 64 * 1024;
/// Questions answered at once.
const QUESTIONS_MAX: usize = 16;
/// Groups of this name are ours: nobody else keeps messages under them.
const TAIL_GROUP: &str = "outrigger-tail-";
/// Messages read ahead of a slow terminal.
const AHEAD: u32 = 64;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Question {
    /// The messages of a topic, those that are there and those that come.
    Tail {
        /// The app whose components count; the first one when absent.
        app: Option<String>,
        /// The broker.
        pubsub: String,
        /// The topic.
        topic: String,
    },
}

/// Where the line of process `pid` is.
#[must_use]
pub fn socket(folder: &Path, pid: i32) -> PathBuf {
    folder.join(format!("{pid}.sock"))
}

/// The line; its file is removed when dropped.
#[derive(Debug)]
pub struct Line(PathBuf);

impl Drop for Line {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Answers questions from now on.
///
/// # Errors
/// When the socket cannot be made. Nothing but `topic tail` suffers.
pub fn open(path: PathBuf, node: &Arc<Node>, world: &Arc<dyn World>) -> io::Result<Line> {
    drop(std::fs::remove_file(&path));
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let (node, clock) = (Arc::downgrade(node), Arc::clone(world));
    let task = async move {
        let places = Arc::new(Semaphore::new(QUESTIONS_MAX));
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                clock.sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Some(node) = node.upgrade() else { return };
            let world = Arc::clone(&clock);
            let answer = async move {
                let _place = place;
                // Whoever asked may hang up at any time.
                drop(answer(stream, &node, world).await);
            };
            drop(clock.spawn("control line", Box::pin(answer)));
        }
    };
    drop(world.spawn("control socket", Box::pin(task)));
    Ok(Line(path))
}

async fn answer(stream: UnixStream, node: &Node, world: Arc<dyn World>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut question = String::new();
    let mut read = BufReader::new(read.take(QUESTION_BYTES_MAX));
    read.read_line(&mut question).await?;
    let refused = |why: String| json!({ "error": why });
    match serde_json::from_str(&question) {
        Err(error) => send(&mut write, &refused(error.to_string())).await,
        Ok(Question::Tail { app, pubsub, topic }) => match node.broker(app.as_deref(), &pubsub) {
            None => send(&mut write, &refused(format!("there is no broker called {pubsub}"))).await,
            Some(broker) => {
                let hung_up = async {
                    let mut rest = [0; 64];
                    while read.read(&mut rest).await.is_ok_and(|count| count > 0) {}
                };
                tail(node, &broker, &topic, &mut write, hung_up, world).await
            }
        },
    }
}

/// Hands messages on, and acknowledges them so that the next ones come.
struct Tail(mpsc::Sender<Delivery>);

impl Consumer for Tail {
    fn deliver(&self, batch: Vec<Delivery>) -> BoxFuture<'_, Vec<Verdict>> {
        Box::pin(async move {
            let mut verdicts = Vec::with_capacity(batch.len());
            for delivery in batch {
                // A reader that is gone has no use for the message, and nobody else is in this group.
                drop(self.0.send(delivery).await);
                verdicts.push(Verdict::Ack);
            }
            verdicts
        })
    }
}

async fn tail(
    node: &Node,
    broker: &Arc<Broker>,
    topic: &str,
    write: &mut OwnedWriteHalf,
    hung_up: impl Future<Output = ()>,
    world: Arc<dyn World>,
) -> io::Result<()> {
    let group = format!("{TAIL_GROUP}{}-{:016x}", node.process_name(), world.random());
    let (give, mut take) = mpsc::channel(1);
    // One batch at a time is the order of the topic.
    let batch = Some(Batch { max_messages: AHEAD, max_wait: Duration::from_millis(10) });
    let options =
        SubscribeOptions { max_in_flight: AHEAD, batch, ..SubscribeOptions::new(topic, &group) };
    let handle = match broker.subscribe(options, Arc::new(Tail(give))).await {
        Ok(handle) => handle,
        Err(error) => return send(write, &json!({ "error": error.to_string() })).await,
    };
    let mut hung_up = std::pin::pin!(hung_up);
    let ended = loop {
        tokio::select! {
            () = &mut hung_up => break Ok(()),
            delivery = take.recv() => {
                let Some(delivery) = delivery else { break Ok(()) };
                if let Err(error) = send(write, &shown(&delivery)).await {
                    break Err(error);
                }
            }
        }
    };
    drop(take);
    handle.stop(Duration::from_millis(100)).await;
    if let Err(error) = broker.forget(topic, &group).await {
        tracing::warn!(%error, group, "a group of `topic tail` could not be forgotten");
    }
    ended
}

/// Forgets groups that a runtime killed under `topic tail` left behind: they would keep messages for ever.
///
/// A group's name begins with the name of its process, so that those of other processes that share the store are left
/// alone as long as they live.
pub(crate) async fn forget_tails(broker: &Broker, hood: Option<&Neighbourhood>) {
    let Ok(topics) = broker.stats().await else { return };
    for topic in topics {
        for group in topic.groups.iter().filter(|group| group.group.starts_with(TAIL_GROUP)) {
            let named = group.group.strip_prefix(TAIL_GROUP).and_then(|rest| rest.split_once('-'));
            let lives = match (hood, named) {
                (Some(hood), Some((process, _))) => !hood.is_gone(process).await,
                _ => false,
            };
            if group.dispatch.consumers == 0 && !lives {
                drop(broker.forget(&topic.topic, &group.group).await);
            }
        }
    }
}

fn shown(delivery: &Delivery) -> Value {
    let data = serde_json::from_slice(&delivery.data)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&delivery.data).into_owned()));
    json!({ "id": delivery.id, "contentType": delivery.content_type, "message": data })
}

async fn send(write: &mut OwnedWriteHalf, value: &Value) -> io::Result<()> {
    let mut line = value.to_string();
    line.push('\n');
    write.write_all(line.as_bytes()).await
}
