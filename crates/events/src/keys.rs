//! The tables of this block. Numbers `0x0200` to `0x02ff` are its own; one that was used is never used again.
//!
//! | number | key | value |
//! |---|---|---|
//! | `0x0200` | broker, topic | [`Topic`]: the topic exists |
//! | `0x0201` | broker, topic, partition, stamp | [`Message`]: one published message |
//! | `0x0202` | broker, topic, partition | counter: how many messages were ever published |
//! | `0x0203` | broker, topic, group | [`Group`]: the group is registered |
//! | `0x0204` | broker, topic, partition, group | [`Cursor`]: what the group is done with |
//! | `0x0205` | broker, topic, partition, group | [`Claim`]: who dispatches to the group |
//! | `0x0206` | broker, topic, partition, group, stamp | [`Attempts`]: a message that failed and waits to be tried again |
//! | `0x0207` | broker, topic, partition, group, stamp | [`Message`]: the failed message itself |
//! | `0x0208` | broker, topic, partition | [`Trim`]: what was deleted from the front of the log |
//!
//! Every topic has one partition, number 0, so far; what is kept per partition has its number in the key, so that more
//! partitions are more keys and no migration.

use crate::records::{Attempts, Claim, Cursor, Group, Message, Topic, Trim};
use bytes::Bytes;
use outrigger_keyspace::{Corrupt, KeyRange, Record, Stamp, Table};

pub(crate) const TOPICS: Table<(String, String), Topic> = Table::new(0x0200);
pub(crate) const MESSAGES: Table<(String, String, u32, Stamp), Message> = Table::new(0x0201);
pub(crate) const TALLIES: Table<(String, String, u32), Tally> = Table::new(0x0202);
pub(crate) const GROUPS: Table<(String, String, String), Group> = Table::new(0x0203);
pub(crate) const CURSORS: Table<(String, String, u32, String), Cursor> = Table::new(0x0204);
pub(crate) const CLAIMS: Table<(String, String, u32, String), Claim> = Table::new(0x0205);
pub(crate) const ATTEMPTS: Table<(String, String, u32, String, Stamp), Attempts> =
    Table::new(0x0206);
pub(crate) const PARKED: Table<(String, String, u32, String, Stamp), Message> = Table::new(0x0207);
pub(crate) const TRIMS: Table<(String, String, u32), Trim> = Table::new(0x0208);

/// The only partition so far.
pub(crate) const PARTITION: u32 = 0;

/// A counter of the key space: 8 bytes, little-endian, moved by `Write::Add`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally(pub(crate) u64);

impl Record for Tally {
    fn encode_record(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0.to_le_bytes())
    }
    fn decode_record(bytes: Bytes) -> Result<Self, Corrupt> {
        let bytes = bytes[..].try_into().map_err(|_| Corrupt("not a counter of 8 bytes"))?;
        Ok(Self(u64::from_le_bytes(bytes)))
    }
}

/// The keys of one partition of a topic, worked out once.
#[derive(Clone, Debug)]
pub(crate) struct TopicKeys {
    pub(crate) topic: Bytes,
    pub(crate) messages: Bytes,
    pub(crate) tally: Bytes,
    pub(crate) trim: Bytes,
    pub(crate) groups: KeyRange,
}

impl TopicKeys {
    pub(crate) fn new(broker: &str, topic: &str) -> Self {
        let (broker, topic) = (broker.to_owned(), topic.to_owned());
        let pair = (broker, topic);
        let partition = (pair.0.clone(), pair.1.clone(), PARTITION);
        Self {
            topic: TOPICS.key(&pair),
            messages: MESSAGES.start_with(&partition),
            tally: TALLIES.key(&partition),
            trim: TRIMS.key(&partition),
            groups: GROUPS.range(&pair),
        }
    }

    /// Every message of the partition.
    pub(crate) fn all(&self) -> KeyRange {
        KeyRange::prefix(self.messages.clone())
    }

    /// The messages after `after` and before `before`.
    pub(crate) fn between(&self, after: Stamp, before: Option<Stamp>) -> KeyRange {
        let end = match before {
            Some(before) => Some(stamped(&self.messages, before)),
            None => self.all().end,
        };
        KeyRange { start: next(&self.messages, after), end }
    }

    /// The messages after `after` up to and with `last`.
    pub(crate) fn through(&self, after: Stamp, last: Stamp) -> KeyRange {
        KeyRange::new(next(&self.messages, after), next(&self.messages, last))
    }
}

/// The keys of one group on one partition, worked out once.
#[derive(Clone, Debug)]
pub(crate) struct GroupKeys {
    pub(crate) group: Bytes,
    pub(crate) cursor: Bytes,
    pub(crate) claim: Bytes,
    pub(crate) attempts: Bytes,
    pub(crate) parked: Bytes,
}

impl GroupKeys {
    pub(crate) fn new(broker: &str, topic: &str, group: &str) -> Self {
        let (broker, topic, group) = (broker.to_owned(), topic.to_owned(), group.to_owned());
        let whole = (broker.clone(), topic.clone(), PARTITION, group.clone());
        Self {
            group: GROUPS.key(&(broker, topic, group)),
            cursor: CURSORS.key(&whole),
            claim: CLAIMS.key(&whole),
            attempts: ATTEMPTS.start_with(&whole),
            parked: PARKED.start_with(&whole),
        }
    }
}

/// `prefix` and then `stamp`: a whole key of a table whose last part is a stamp.
pub(crate) fn stamped(prefix: &[u8], stamp: Stamp) -> Bytes {
    let mut key = Vec::with_capacity(prefix.len() + Stamp::BYTES);
    key.extend_from_slice(prefix);
    key.extend_from_slice(&stamp.to_bytes());
    key.into()
}

/// The first key after the one of `stamp`.
fn next(prefix: &[u8], stamp: Stamp) -> Bytes {
    let mut key = Vec::with_capacity(prefix.len() + Stamp::BYTES + 1);
    key.extend_from_slice(prefix);
    key.extend_from_slice(&stamp.to_bytes());
    key.push(0);
    key.into()
}

/// The stamp that a key of such a table ends with.
pub(crate) fn stamp_of(key: &[u8]) -> Result<Stamp, Corrupt> {
    let bytes = key.last_chunk::<{ Stamp::BYTES }>().ok_or(Corrupt("no stamp at its end"))?;
    Ok(Stamp::from_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::{ATTEMPTS, GroupKeys, MESSAGES, TopicKeys, stamp_of, stamped};
    use outrigger_keyspace::Stamp;
    use proptest::prelude::*;

    fn stamps() -> impl Strategy<Value = Stamp> {
        (0..4_u64, 0..3_u16).prop_map(|(revision, index)| Stamp { revision, index })
    }

    proptest! {
        #[test]
        fn worked_out_keys_are_the_tables_keys(broker: String, topic: String, group: String, stamp in stamps()) {
            let of_topic = TopicKeys::new(&broker, &topic);
            let key = stamped(&of_topic.messages, stamp);
            prop_assert_eq!(&key, &MESSAGES.key(&(broker.clone(), topic.clone(), 0, stamp)));
            prop_assert_eq!(stamp_of(&key).unwrap(), stamp);
            let of_group = GroupKeys::new(&broker, &topic, &group);
            let key = stamped(&of_group.attempts, stamp);
            prop_assert_eq!(&key, &ATTEMPTS.key(&(broker.clone(), topic.clone(), 0, group.clone(), stamp)));
            prop_assert_eq!(ATTEMPTS.decode_key(&key).unwrap(), (broker, topic, 0, group, stamp));
        }

        #[test]
        fn between_excludes_both_ends(after in stamps(), stamp in stamps(), before in proptest::option::of(stamps())) {
            let keys = TopicKeys::new("b", "t");
            let inside = stamp > after && before.is_none_or(|before| stamp < before);
            prop_assert_eq!(keys.between(after, before).contains(&stamped(&keys.messages, stamp)), inside);
        }

        #[test]
        fn topics_do_not_overlap(one in "[a\0]{0,3}", other in "[a\0]{0,3}", stamp in stamps()) {
            let key = stamped(&TopicKeys::new("b", &one).messages, stamp);
            prop_assert_eq!(TopicKeys::new("b", &other).all().contains(&key), one == other);
        }
    }
}
