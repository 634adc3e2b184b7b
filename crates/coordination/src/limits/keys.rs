//! The table of shared limits. Its number is one of this crate's (`0x0300` to `0x03ff`), and never used for anything else.
//!
//! | number | key | value |
//! |---|---|---|
//! | `0x0320` | namespace, limit | [`LedgerRow`]: who holds which share of it |
//!
//! A row expires a while after its last lease, so a limit that nobody uses any more leaves nothing behind.

use outrigger_keyspace::Table;

pub(super) const LEDGERS: Table<(String, String), LedgerRow> = Table::new(0x0320);

/// The shares of one limit.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct LedgerRow {
    /// As `outrigger_resilience::ShareLedger` writes them.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) shares: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::LEDGERS;

    #[test]
    fn keys_are_where_they_always_were() {
        let key = LEDGERS.key(&("prod".to_owned(), "partner".to_owned()));
        assert_eq!(&key[..2], [3, 0x20]);
        assert_eq!(LEDGERS.decode_key(&key).unwrap().1, "partner");
    }
}
