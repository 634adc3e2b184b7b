//! The JSON that state and publish requests are made of.
//!
//! Read as the clients out there expect it: field names count whatever their case (one SDK writes `entryID`, another
//! `entryId`), null is as good as absent, unknown fields are passed over. Types are strict: a field of the wrong type is
//! an error, and an array is no object.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeMap, fmt};

/// Declares a struct that is read from a JSON object in that way.
macro_rules! request {
    ($(#[$doc:meta])* $name:ident<$a:lifetime> { $($(#[$field_doc:meta])* $field:ident: $type:ty = $json:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(super) struct $name<$a> {
            $($(#[$field_doc])* pub(super) $field: Option<$type>,)*
            /// Some have nothing borrowed in them.
            borrowed: std::marker::PhantomData<&$a ()>,
        }

        impl<'de: $a, $a> Deserialize<'de> for $name<$a> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Read;

                impl<'de> Visitor<'de> for Read {
                    type Value = $name<'de>;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a JSON object")
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$name<'de>, A::Error> {
                        let mut read = $name::default();
                        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
                            $(if name.eq_ignore_ascii_case($json) {
                                read.$field = map.next_value()?;
                                continue;
                            })*
                            map.next_value::<IgnoredAny>()?;
                        }
                        Ok(read)
                    }
                }

                deserializer.deserialize_map(Read)
            }
        }
    };
}

request! {
    /// An item to write: an element of `POST state/{store}`.
    StateItem<'a> {
        key: String = "key",
        /// Kept as the client wrote it.
        value: &'a RawValue = "value",
        etag: String = "etag",
        metadata: BTreeMap<String, String> = "metadata",
        options: StateOptions<'a> = "options",
    }
}

request! {
    /// How an item is written.
    StateOptions<'a> {
        concurrency: String = "concurrency",
        consistency: String = "consistency",
    }
}

request! {
    /// `POST state/{store}/bulk`.
    BulkGet<'a> {
        keys: Vec<String> = "keys",
        /// Read in one snapshot whatever is asked for; only checked for its type.
        _parallelism: i64 = "parallelism",
        _metadata: BTreeMap<String, String> = "metadata",
    }
}

request! {
    /// `POST state/{store}/transaction`.
    Transaction<'a> {
        operations: Vec<Operation<'a>> = "operations",
        metadata: BTreeMap<String, String> = "metadata",
    }
}

request! {
    /// One step of a transaction.
    Operation<'a> {
        operation: String = "operation",
        request: StateItem<'a> = "request",
    }
}

request! {
    /// An element of `POST publish/bulk/{pubsub}/{topic}`.
    BulkEntry<'a> {
        entry_id: String = "entryId",
        event: &'a RawValue = "event",
        content_type: String = "contentType",
        metadata: BTreeMap<String, String> = "metadata",
    }
}

#[cfg(test)]
mod tests {
    use super::{BulkEntry, BulkGet, StateItem};

    #[test]
    fn names_in_any_case_and_types_as_they_are() {
        let read: StateItem<'_> = serde_json::from_str(
            r#"{"KEY":"a","value":{"n": 1.0},"ETag":null,"Options":{"Concurrency":"first-write"},"other":[{}]}"#,
        )
        .unwrap();
        assert_eq!(read.key.as_deref(), Some("a"));
        assert_eq!(read.value.map(|value| value.get()), Some(r#"{"n": 1.0}"#));
        assert_eq!(read.etag, None);
        assert_eq!(read.options.unwrap().concurrency.as_deref(), Some("first-write"));
        let read: BulkEntry<'_> = serde_json::from_str(r#"{"entryID":"1"}"#).unwrap();
        assert_eq!(read.entry_id.as_deref(), Some("1"));
        for wrong in
            ["[]", "null", "5", r#"{"keys":"a"}"#, r#"{"keys":[1]}"#, r#"{"parallelism":"all"}"#]
        {
            assert!(serde_json::from_str::<BulkGet<'_>>(wrong).is_err(), "{wrong}");
        }
        for wrong in [r#"{"key":5}"#, r#"{"etag":7}"#, r#"{"metadata":{"a":1}}"#, r#"["a"]"#] {
            assert!(serde_json::from_str::<StateItem<'_>>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn escaped_names_are_names() {
        let read: StateItem<'_> = serde_json::from_str(r#"{"\u006bey":"a"}"#).unwrap();
        assert_eq!(read.key.as_deref(), Some("a"));
    }
}
