//! What the tables of [`crate::keys`] store. Protocol-buffer fields, so that later releases can add some; the number of
//! a removed field is never used again.

use bytes::Bytes;
use outrigger_keyspace::Stamp;
use std::collections::BTreeMap;

/// One message. Decoding shares the stored bytes.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Message {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) data: Bytes,
    #[prost(string, tag = "2")]
    pub(crate) content_type: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(crate) metadata: BTreeMap<String, String>,
    #[prost(uint64, optional, tag = "4")]
    pub(crate) expires_at_ms: Option<u64>,
    #[prost(uint64, tag = "5")]
    pub(crate) published_at_ms: u64,
}

/// A topic exists. Written blindly by every first publish, so it may hold nothing that anybody decides on.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Topic {}

/// A group is registered.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Group {
    #[prost(uint64, tag = "1")]
    pub(crate) registered_at_ms: u64,
}

/// What a group is done with on one partition: everything up to the floor, and the runs above it.
///
/// "Done" means acknowledged, given up, or moved to the tables of failed messages.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Cursor {
    #[prost(message, required, tag = "1")]
    pub(crate) floor: Place,
    /// The runs, each as four numbers; see [`crate::ack_set`].
    #[prost(uint64, repeated, tag = "2")]
    pub(crate) runs: Vec<u64>,
    /// How many messages that is, those deleted before the group was registered included.
    #[prost(uint64, tag = "3")]
    pub(crate) settled: u64,
}

/// Who dispatches to a group. The revision of this record is what every commit of the dispatcher rests on.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Claim {
    /// Grows with every dispatcher.
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    /// The process that dispatches; empty where processes have no names.
    #[prost(string, tag = "2")]
    pub(crate) owner: String,
}

/// A message that failed and waits to be tried again.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Attempts {
    /// How many attempts failed.
    #[prost(uint32, tag = "1")]
    pub(crate) failed: u32,
    /// When it may be tried again, by the dispatcher's wall clock.
    #[prost(uint64, tag = "2")]
    pub(crate) not_before_ms: u64,
    /// The pause that led to `not_before_ms`: what is left of it after a restart is never longer, however far the wall
    /// clock jumped.
    #[prost(uint64, tag = "3")]
    pub(crate) pause_ms: u64,
    /// Why the last attempt failed.
    #[prost(string, tag = "4")]
    pub(crate) reason: String,
    /// When the first attempt failed.
    #[prost(uint64, tag = "5")]
    pub(crate) first_failed_ms: u64,
    /// How large the message is as stored, so that no more are loaded at once than memory has room for.
    #[prost(uint64, tag = "6")]
    pub(crate) message_bytes: u64,
}

/// What was deleted from the front of a partition.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Trim {
    /// The last message deleted.
    #[prost(message, required, tag = "1")]
    pub(crate) floor: Place,
    /// How many were deleted in all.
    #[prost(uint64, tag = "2")]
    pub(crate) count: u64,
}

/// A stamp as a record.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Place {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(uint32, tag = "2")]
    index: u32,
}

impl From<Stamp> for Place {
    fn from(stamp: Stamp) -> Self {
        Self { revision: stamp.revision, index: stamp.index.into() }
    }
}

impl From<Place> for Stamp {
    fn from(place: Place) -> Self {
        Self { revision: place.revision, index: u16::try_from(place.index).unwrap_or(u16::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cursor, Message};
    use bytes::Bytes;
    use outrigger_keyspace::{Record, Stamp};
    use std::collections::BTreeMap;

    #[test]
    fn decoding_shares_the_bytes() {
        let message = Message {
            data: Bytes::from(vec![7; 1_000]),
            content_type: "application/json".to_owned(),
            metadata: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
            expires_at_ms: Some(5),
            published_at_ms: 4,
        };
        let stored = message.encode_record();
        let decoded = Message::decode_record(stored.clone()).unwrap();
        assert_eq!(decoded, message);
        assert!(stored.as_ptr_range().contains(&decoded.data.as_ptr()));
    }

    #[test]
    fn stored_forms_are_stable() {
        let message = Message {
            data: Bytes::from("hi"),
            content_type: "t".to_owned(),
            metadata: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            expires_at_ms: None,
            published_at_ms: 3,
        };
        assert_eq!(
            &message.encode_record()[..],
            b"\x0a\x02hi\x12\x01t\x1a\x06\x0a\x01a\x12\x01b\x28\x03"
        );
        let cursor = Cursor {
            floor: Stamp { revision: 7, index: 1 }.into(),
            runs: vec![1, 0, 0, 2],
            settled: 9,
        };
        assert_eq!(
            &cursor.encode_record()[..],
            b"\x0a\x04\x08\x07\x10\x01\x12\x04\x01\x00\x00\x02\x18\x09"
        );
        assert!(Message::decode_record(Bytes::from_static(b"\x0a\x09hi")).is_err());
    }
}
