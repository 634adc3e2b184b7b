//! What travels on a line between two processes: frames, each a length and a record.
//!
//! Both ends are usually the same build. Where they are not, unknown fields are passed over, and a [`VERSION`] that the
//! host does not know is refused.

use crate::{
    message::{Delivery, Verdict},
    subscription::{Batch, Left, SubscribeOptions},
};
use bytes::Bytes;
use outrigger_kernel::{Deadline, Wall, World};
use outrigger_keyspace::Stamp;
use outrigger_resilience::{Backoff, Matching, Retry};
use prost::Message as _;
use std::{collections::BTreeMap, io, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The version of this conversation.
pub(super) const VERSION: u32 = 1;
/// Largest frame: the messages of a batch, which a dispatcher's window bounds to less.
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One frame; exactly one of its fields is there.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Frame {
    #[prost(message, optional, tag = "1")]
    pub(super) hello: Option<Hello>,
    #[prost(message, optional, tag = "2")]
    pub(super) welcome: Option<Welcome>,
    #[prost(message, optional, tag = "3")]
    pub(super) parcel: Option<Parcel>,
    #[prost(message, optional, tag = "4")]
    pub(super) judged: Option<Judged>,
    #[prost(bool, optional, tag = "5")]
    pub(super) paused: Option<bool>,
    #[prost(uint64, optional, tag = "6")]
    pub(super) leave_within_ms: Option<u64>,
    #[prost(message, optional, tag = "7")]
    pub(super) left: Option<LeftTable>,
}

/// The member's wish.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Hello {
    #[prost(uint32, tag = "1")]
    pub(super) version: u32,
    #[prost(string, tag = "2")]
    pub(super) broker: String,
    #[prost(string, tag = "3")]
    topic: String,
    #[prost(string, tag = "4")]
    group: String,
    #[prost(uint32, tag = "5")]
    max_in_flight: u32,
    #[prost(uint32, tag = "6")]
    batch_messages: u32,
    #[prost(uint64, tag = "7")]
    batch_wait_ns: u64,
    #[prost(uint32, optional, tag = "8")]
    max_retries: Option<u32>,
    #[prost(message, required, tag = "9")]
    pauses: Pauses,
    #[prost(string, optional, tag = "10")]
    dead_letter_topic: Option<String>,
    #[prost(uint64, optional, tag = "11")]
    delivery_timeout_ns: Option<u64>,
}

/// A backoff: which kind, and its numbers.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Pauses {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint64, tag = "2")]
    first_ns: u64,
    #[prost(uint64, tag = "3")]
    max_ns: u64,
    #[prost(double, tag = "4")]
    factor: f64,
    #[prost(double, tag = "5")]
    randomization: f64,
}

/// The host's answer; with a reason it is a refusal.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Welcome {
    #[prost(string, optional, tag = "1")]
    pub(super) refused: Option<String>,
}

/// Messages for the member.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Parcel {
    #[prost(uint64, tag = "1")]
    pub(super) number: u64,
    #[prost(uint64, tag = "2")]
    timeout_ns: u64,
    #[prost(message, repeated, tag = "3")]
    letters: Vec<Letter>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Letter {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(uint32, tag = "3")]
    index: u32,
    #[prost(bytes = "bytes", tag = "4")]
    data: Bytes,
    #[prost(string, tag = "5")]
    content_type: String,
    #[prost(btree_map = "string, string", tag = "6")]
    metadata: BTreeMap<String, String>,
    #[prost(uint64, tag = "7")]
    published_at_ms: u64,
    #[prost(uint32, tag = "8")]
    attempt: u32,
}

/// What the member says of a parcel.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Judged {
    #[prost(uint64, tag = "1")]
    pub(super) number: u64,
    #[prost(message, repeated, tag = "2")]
    said: Vec<Said>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Said {
    /// 0 done, 1 again, 2 never.
    #[prost(uint32, tag = "1")]
    verdict: u32,
    #[prost(string, tag = "2")]
    reason: String,
}

/// The member has left the table.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct LeftTable {
    #[prost(uint64, tag = "1")]
    abandoned: u64,
    #[prost(bool, tag = "2")]
    settled: bool,
}

impl Hello {
    pub(super) fn new(broker: &str, options: &SubscribeOptions, timeout: Duration) -> Self {
        let batch = options.batch;
        Self {
            version: VERSION,
            broker: broker.to_owned(),
            topic: options.topic.clone(),
            group: options.group.clone(),
            max_in_flight: options.max_in_flight,
            batch_messages: batch.map_or(0, |batch| batch.max_messages.max(1)),
            batch_wait_ns: batch.map_or(0, |batch| nanos(batch.max_wait)),
            max_retries: options.retry.max_retries,
            pauses: Pauses::new(&options.retry.backoff),
            dead_letter_topic: options.dead_letter_topic.clone(),
            delivery_timeout_ns: Some(nanos(options.delivery_timeout.unwrap_or(timeout))),
        }
    }

    pub(super) fn options(&self) -> SubscribeOptions {
        let batch = Batch {
            max_messages: self.batch_messages,
            max_wait: Duration::from_nanos(self.batch_wait_ns),
        };
        SubscribeOptions {
            topic: self.topic.clone(),
            group: self.group.clone(),
            max_in_flight: self.max_in_flight,
            batch: (self.batch_messages > 0).then_some(batch),
            retry: Retry {
                backoff: self.pauses.backoff(),
                max_retries: self.max_retries,
                matching: Matching::default(),
            },
            dead_letter_topic: self.dead_letter_topic.clone(),
            delivery_timeout: self.delivery_timeout_ns.map(Duration::from_nanos),
        }
    }
}

impl Pauses {
    fn new(backoff: &Backoff) -> Self {
        let (kind, first, max, factor, randomization) = match *backoff {
            Backoff::Constant { delay } => (0, delay, delay, 0.0, 0.0),
            Backoff::Exponential { initial, max, factor, randomization } => {
                (1, initial, max, factor, randomization)
            }
            Backoff::FullJitter { base, max } => (2, base, max, 0.0, 0.0),
            Backoff::EqualJitter { base, max } => (3, base, max, 0.0, 0.0),
            Backoff::Decorrelated { base, max } => (4, base, max, 0.0, 0.0),
        };
        Self { kind, first_ns: nanos(first), max_ns: nanos(max), factor, randomization }
    }

    fn backoff(&self) -> Backoff {
        let (first, max) = (Duration::from_nanos(self.first_ns), Duration::from_nanos(self.max_ns));
        let Self { factor, randomization, .. } = *self;
        match self.kind {
            0 => Backoff::Constant { delay: first },
            2 => Backoff::FullJitter { base: first, max },
            3 => Backoff::EqualJitter { base: first, max },
            4 => Backoff::Decorrelated { base: first, max },
            _ => Backoff::Exponential { initial: first, max, factor, randomization },
        }
    }
}

impl Parcel {
    pub(super) fn new(number: u64, batch: Vec<Delivery>, world: &dyn World) -> Self {
        let until = batch.first().map(|delivery| delivery.deadline.remaining(world.mono()));
        let letter = |delivery: Delivery| Letter {
            id: delivery.id,
            revision: delivery.stamp.revision,
            index: delivery.stamp.index.into(),
            data: delivery.data,
            content_type: delivery.content_type,
            metadata: delivery.metadata,
            published_at_ms: delivery.published_at.0,
            attempt: delivery.attempt,
        };
        let letters = batch.into_iter().map(letter).collect();
        Self { number, timeout_ns: nanos(until.unwrap_or_default()), letters }
    }

    /// The batch, and by when it must be judged.
    pub(super) fn open(self, topic: &Arc<str>, world: &dyn World) -> (Vec<Delivery>, Deadline) {
        let deadline = Deadline::after(world, Duration::from_nanos(self.timeout_ns));
        let delivery = |letter: Letter| Delivery {
            id: letter.id,
            topic: Arc::clone(topic),
            stamp: Stamp {
                revision: letter.revision,
                index: u16::try_from(letter.index).unwrap_or(u16::MAX),
            },
            data: letter.data,
            content_type: letter.content_type,
            metadata: letter.metadata,
            published_at: Wall(letter.published_at_ms),
            attempt: letter.attempt,
            deadline,
        };
        (self.letters.into_iter().map(delivery).collect(), deadline)
    }
}

impl Judged {
    pub(super) fn new(number: u64, verdicts: Vec<Verdict>) -> Self {
        let said = |verdict| match verdict {
            Verdict::Ack => Said { verdict: 0, reason: String::new() },
            Verdict::Retry { reason } => Said { verdict: 1, reason },
            Verdict::Drop { reason } => Said { verdict: 2, reason },
        };
        Self { number, said: verdicts.into_iter().map(said).collect() }
    }

    pub(super) fn verdicts(self) -> Vec<Verdict> {
        let verdict = |said: Said| match said.verdict {
            0 => Verdict::Ack,
            2 => Verdict::drop(said.reason),
            _ => Verdict::retry(said.reason),
        };
        self.said.into_iter().map(verdict).collect()
    }
}

impl From<Left> for LeftTable {
    fn from(left: Left) -> Self {
        let abandoned = u64::try_from(left.abandoned).unwrap_or(u64::MAX);
        Self { abandoned, settled: left.settled }
    }
}

impl From<LeftTable> for Left {
    fn from(left: LeftTable) -> Self {
        let abandoned = usize::try_from(left.abandoned).unwrap_or(usize::MAX);
        Self { abandoned, settled: left.settled }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The next frame; `None` where the other side has hung up between two.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Frame::decode(Bytes::from(bytes)).map(Some).map_err(io::Error::other)
}

pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    let length = frame.encoded_len();
    let mut bytes = Vec::with_capacity(4 + length);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    // A Vec grows as needed, so encoding into it cannot run out of room.
    frame.encode(&mut bytes).map_err(io::Error::other)?;
    to.write_all(&bytes).await?;
    to.flush().await
}
