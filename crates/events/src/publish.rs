//! Publishing: from messages to the writes of one commit.
//!
//! A publish never reads. The key of a message ends with the stamp of its commit, which the engine fills in; the counter
//! of published messages is added to, which conflicts with nobody. So any number of publishers can publish to one
//! topic, and another block can have the writes in a commit of its own.

use crate::{
    error::PublishError,
    keys::TopicKeys,
    limits::{BULK_BYTES_MAX, BULK_MESSAGES_MAX, MESSAGE_BYTES_MAX},
    message::NewMessage,
    names,
    records::{Message, Topic},
};
use bytes::Bytes;
use outrigger_kernel::Wall;
use outrigger_keyspace::{Record, Stamp, Write};

/// What the key space counts for a key besides its bytes.
const KEY_OVERHEAD: usize = 32;

/// The writes that publish `messages` to `topic`. The first is no message but says that the topic exists; it is left
/// out where the caller knows that it was committed before.
pub(crate) fn plan(
    broker: &str,
    topic: &str,
    messages: Vec<NewMessage>,
    now: Wall,
    announce: bool,
) -> Result<Vec<Write>, PublishError> {
    names::check("topic", topic)?;
    if messages.len() > BULK_MESSAGES_MAX {
        return Err(PublishError::BulkTooMany { count: messages.len() });
    }
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let keys = TopicKeys::new(broker, topic);
    let mut writes = Vec::with_capacity(messages.len() + 2);
    let mut bytes = 0;
    for (index, message) in messages.into_iter().enumerate() {
        let value = stored(message, now).encode_record();
        if value.len() > MESSAGE_BYTES_MAX {
            return Err(PublishError::MessageTooLarge { index, bytes: value.len() });
        }
        bytes += value.len() + keys.messages.len() + Stamp::BYTES + KEY_OVERHEAD;
        writes.push(append(&keys, value));
    }
    if bytes > BULK_BYTES_MAX {
        return Err(PublishError::BulkTooLarge { bytes });
    }
    writes.push(count(&keys, writes.len()));
    if announce {
        writes.push(exists(&keys));
    }
    Ok(writes)
}

fn stored(message: NewMessage, now: Wall) -> Message {
    Message {
        data: message.data,
        content_type: message.content_type,
        metadata: message.metadata,
        expires_at_ms: message.expires_at.map(|at| at.0),
        published_at_ms: now.0,
    }
}

/// Appends one stored message to its topic.
pub(crate) fn append(keys: &TopicKeys, value: Bytes) -> Write {
    Write::PutStamped {
        prefix: keys.messages.clone(),
        suffix: Bytes::new(),
        value,
        // The key space could let the row vanish, but nobody would be told: expiry is for the dispatcher to see.
        expires_at: None,
    }
}

/// Counts messages as published.
pub(crate) fn count(keys: &TopicKeys, messages: usize) -> Write {
    let delta = i64::try_from(messages).unwrap_or(i64::MAX);
    Write::Add { key: keys.tally.clone(), delta }
}

/// Says that the topic exists.
pub(crate) fn exists(keys: &TopicKeys) -> Write {
    Write::Put { key: keys.topic.clone(), value: Topic {}.encode_record(), expires_at: None }
}

#[cfg(test)]
mod tests {
    use super::plan;
    use crate::{
        error::{IllegalName, PublishError},
        limits::{BULK_MESSAGES_MAX, MESSAGE_BYTES_MAX},
        message::NewMessage,
    };
    use bytes::Bytes;
    use outrigger_kernel::Wall;
    use outrigger_keyspace::Write;

    fn message(bytes: usize) -> NewMessage {
        NewMessage { data: Bytes::from(vec![b'x'; bytes]), ..NewMessage::default() }
    }

    fn refusal(topic: &str, messages: Vec<NewMessage>) -> PublishError {
        plan("b", topic, messages, Wall(1), true).unwrap_err()
    }

    #[test]
    fn every_bound_has_its_own_error() {
        let empty = PublishError::Topic(IllegalName::Empty { what: "topic" });
        assert_eq!(refusal("", vec![message(1)]), empty);
        let large = refusal("t", vec![message(1), message(MESSAGE_BYTES_MAX)]);
        assert!(matches!(large, PublishError::MessageTooLarge { index: 1, .. }), "{large}");
        let count = BULK_MESSAGES_MAX + 1;
        let many = refusal("t", vec![NewMessage::default(); count]);
        assert_eq!(many, PublishError::BulkTooMany { count });
        let heavy = refusal("t", vec![message(MESSAGE_BYTES_MAX - 100); 3]);
        assert!(matches!(heavy, PublishError::BulkTooLarge { .. }), "{heavy}");
    }

    #[test]
    fn a_bulk_is_one_list_of_writes() {
        let writes = plan("b", "t", vec![message(1), message(2)], Wall(1), true).unwrap();
        let stamped = writes.iter().filter(|write| matches!(write, Write::PutStamped { .. }));
        assert_eq!(stamped.count(), 2);
        assert!(writes.iter().any(|write| matches!(write, Write::Add { delta: 2, .. })));
        assert_eq!(writes.len(), 4);
        assert_eq!(plan("b", "t", vec![message(1)], Wall(1), false).unwrap().len(), 2);
        assert_eq!(plan("b", "t", vec![], Wall(1), true).unwrap(), []);
    }
}
