//! What a state entry is stored as. Protocol-buffer fields, so that later releases can add some.
//!
//! Etag and expiry are not here: the key space keeps a revision and an expiry with every value.

use bytes::Bytes;

/// A stored value. Decoding shares the stored bytes, it does not copy them.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Entry {
    /// The bytes as given.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) data: Bytes,
    /// Empty for none.
    #[prost(string, tag = "2")]
    pub(crate) content_type: String,
}

#[cfg(test)]
mod tests {
    use super::Entry;
    use bytes::Bytes;
    use outrigger_keyspace::Record;

    #[test]
    fn decoding_shares_the_bytes() {
        let entry = Entry {
            data: Bytes::from(vec![7; 1_000]),
            content_type: "application/json".to_owned(),
        };
        let stored = entry.encode_record();
        let decoded = Entry::decode_record(stored.clone()).unwrap();
        assert_eq!(decoded, entry);
        assert!(stored.as_ptr_range().contains(&decoded.data.as_ptr()));
    }

    #[test]
    fn stored_form_is_stable() {
        let entry = Entry { data: Bytes::from("hi"), content_type: "t".to_owned() };
        assert_eq!(&entry.encode_record()[..], b"\x0a\x02hi\x12\x01t");
        assert!(Entry::decode_record(Bytes::from_static(b"\x0a\x09hi")).is_err());
    }
}
