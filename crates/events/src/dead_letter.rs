//! What becomes of a message that is given up: it is published to the dead-letter topic, with notes on how it came
//! there in its metadata, in the same commit that settles it for its group.
//!
//! A message that moves from one dead-letter topic to the next keeps only the notes of the last move.

use crate::{
    limits::{MESSAGE_BYTES_MAX, REASON_BYTES_MAX},
    records::Message,
};
use bytes::Bytes;
use outrigger_kernel::Wall;
use outrigger_keyspace::Record;
use std::collections::BTreeMap;

/// Metadata of a dead letter: why it was given up, in one word of [`Cause`].
pub const CAUSE: &str = "dead-letter.cause";
/// Metadata of a dead letter: why the last attempt failed, in the consumer's words.
pub const REASON: &str = "dead-letter.reason";
/// Metadata of a dead letter: the topic it was published to first.
pub const TOPIC: &str = "dead-letter.topic";
/// Metadata of a dead letter: the group that gave it up.
pub const GROUP: &str = "dead-letter.group";
/// Metadata of a dead letter: its id in the topic it comes from.
pub const ID: &str = "dead-letter.id";
/// Metadata of a dead letter: how many attempts were made.
pub const ATTEMPTS: &str = "dead-letter.attempts";
/// Metadata of a dead letter: when it was given up, in milliseconds since 1970.
pub const TIME: &str = "dead-letter.time-ms";

/// Why a message was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The consumer said so.
    Dropped,
    /// Every retry failed.
    Exhausted,
    /// Its time ran out before it was delivered.
    Expired,
    /// Its stored bytes are not a message.
    Damaged,
}

impl Cause {
    /// The word that [`CAUSE`] has for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Exhausted => "exhausted",
            Self::Expired => "expired",
            Self::Damaged => "damaged",
        }
    }
}

/// Where a dead letter comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Story<'a> {
    pub(crate) cause: Cause,
    pub(crate) reason: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) group: &'a str,
    pub(crate) id: &'a str,
    pub(crate) attempts: u32,
}

/// The stored form of the dead letter made of the stored message `value`.
pub(crate) fn write(value: &Bytes, story: Story<'_>, now: Wall) -> Bytes {
    let mut letter = Message::decode_record(value.clone()).unwrap_or_else(|_| Message {
        data: value.clone(),
        content_type: "application/octet-stream".to_owned(),
        ..Message::default()
    });
    // An expired message must not expire again in the place where somebody is to look at it.
    letter.expires_at_ms = None;
    letter.published_at_ms = now.0;
    note(&mut letter.metadata, CAUSE, story.cause.word());
    note(&mut letter.metadata, REASON, clipped(story.reason));
    note(&mut letter.metadata, TOPIC, story.topic);
    note(&mut letter.metadata, GROUP, story.group);
    note(&mut letter.metadata, ID, story.id);
    note(&mut letter.metadata, ATTEMPTS, &story.attempts.to_string());
    note(&mut letter.metadata, TIME, &now.0.to_string());
    letter.encode_record()
}

/// Room for the notes of one move; a message of the largest size becomes a dead letter that still fits a value.
const NOTES_BYTES_MAX: usize = 4 * 1024;
const _: () =
    assert!(MESSAGE_BYTES_MAX + NOTES_BYTES_MAX < outrigger_keyspace::limits::VALUE_BYTES_MAX);

fn note(metadata: &mut BTreeMap<String, String>, key: &str, text: &str) {
    metadata.insert(key.to_owned(), text.to_owned());
}

/// As much of `reason` as is kept, cut between characters.
pub(crate) fn clipped(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::{CAUSE, Cause, NOTES_BYTES_MAX, REASON, Story, clipped, write};
    use crate::{
        limits::{MESSAGE_BYTES_MAX, NAME_BYTES_MAX, REASON_BYTES_MAX},
        records::Message,
    };
    use bytes::Bytes;
    use outrigger_kernel::Wall;
    use outrigger_keyspace::Record;

    fn story<'a>(cause: Cause, reason: &'a str, name: &'a str) -> Story<'a> {
        Story { cause, reason, topic: name, group: name, id: "0123456789abcdef0123", attempts: 3 }
    }

    #[test]
    fn the_largest_message_still_fits() {
        let message =
            Message { data: vec![1; MESSAGE_BYTES_MAX - 16].into(), ..Message::default() };
        let value = message.encode_record();
        let (name, reason) = ("n".repeat(NAME_BYTES_MAX), "\u{fc}".repeat(REASON_BYTES_MAX));
        let letter = write(&value, story(Cause::Exhausted, &reason, &name), Wall(u64::MAX));
        assert!(letter.len() <= value.len() + NOTES_BYTES_MAX);
        // Moved on, it replaces its notes instead of adding to them.
        let again = write(&letter, story(Cause::Exhausted, &reason, &name), Wall(u64::MAX));
        assert_eq!(again.len(), letter.len());
    }

    #[test]
    fn a_damaged_message_is_kept_as_bytes() {
        let value = Bytes::from_static(b"\x0a\xff");
        let letter = write(&value, story(Cause::Damaged, "no record", "t"), Wall(9));
        let letter = Message::decode_record(letter).unwrap();
        assert_eq!(letter.data, value);
        assert_eq!(letter.metadata[CAUSE], "damaged");
        assert_eq!(letter.metadata[REASON], "no record");
    }

    #[test]
    fn reasons_are_cut_between_characters() {
        let long = format!("x{}", "\u{20ac}".repeat(REASON_BYTES_MAX));
        assert!(clipped(&long).len() <= REASON_BYTES_MAX);
        assert_eq!(clipped("short"), "short");
    }
}
