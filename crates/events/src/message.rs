//! What goes in, what comes out, and what the consumer answers.

use bytes::Bytes;
use outrigger_kernel::{BoxFuture, Deadline, Wall};
use outrigger_keyspace::Stamp;
use std::{collections::BTreeMap, sync::Arc};

/// A message to publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMessage {
    /// What consumers get, byte for byte: an envelope (see [`crate::envelope`]) or a raw payload.
    pub data: Bytes,
    /// What `data` is.
    pub content_type: String,
    /// Handed to consumers as it is.
    pub metadata: BTreeMap<String, String>,
    /// From when on the message is never delivered: it is dead-lettered where the subscription names a dead-letter
    /// topic, and dropped otherwise.
    pub expires_at: Option<Wall>,
}

/// One attempt at delivering one message to one consumer of a group.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message's name within its topic: the stamp in hexadecimal. The same at every attempt.
    pub id: String,
    /// The topic it was published to.
    pub topic: Arc<str>,
    /// Its place in the order of the topic.
    pub stamp: Stamp,
    /// What was published.
    pub data: Bytes,
    /// What `data` is.
    pub content_type: String,
    /// What the publisher attached; for a message in a dead-letter topic also the [`crate::dead_letter`] notes.
    pub metadata: BTreeMap<String, String>,
    /// When it was published, by the publisher's wall clock.
    pub published_at: Wall,
    /// 1 for the first attempt. Counts judged attempts: one cut short by a stop or a crash is not counted.
    pub attempt: u32,
    /// When the dispatcher stops waiting for the verdict and takes it for [`Verdict::Retry`].
    pub deadline: Deadline,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done; never again to this group.
    Ack,
    /// Not done; again after the subscription's backoff, until its retries are used up.
    Retry {
        /// Why, for logs and the dead letter.
        reason: String,
    },
    /// Never to be done: to the dead-letter topic where there is one, dropped with a warning otherwise.
    Drop {
        /// Why, for logs and the dead letter.
        reason: String,
    },
}

impl Verdict {
    /// [`Verdict::Retry`] for `reason`.
    #[must_use]
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into() }
    }

    /// [`Verdict::Drop`] for `reason`.
    #[must_use]
    pub fn drop(reason: impl Into<String>) -> Self {
        Self::Drop { reason: reason.into() }
    }
}

/// Who handles messages.
pub trait Consumer: Send + Sync + 'static {
    /// Handles `batch` and judges each of its messages, in order. The batch has one message unless the subscription
    /// asked for batches. Missing verdicts count as [`Verdict::Retry`], and so do a panic and the passing of the
    /// deadline, at which the future is dropped.
    fn deliver(&self, batch: Vec<Delivery>) -> BoxFuture<'_, Vec<Verdict>>;
}
