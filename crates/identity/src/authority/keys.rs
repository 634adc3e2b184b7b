//! The tables of this crate. Numbers `0x0400` to `0x04ff` are its own; one that was used is never used again.
//!
//! | number | key | value |
//! |---|---|---|
//! | `0x0400` | number | [`RootRow`]: a root of the authority; the highest number signs |
//! | `0x0401` | hash of the secret | [`TokenRow`]: a join token, for some time also after its use |
//! | `0x0402` | namespace, app | [`EnrolledRow`]: what an app of this host proves itself with, got from an authority elsewhere |

use super::records::{EnrolledRow, RootRow, TokenRow};
use outrigger_keyspace::Table;

pub(crate) const ROOTS: Table<(u32,), RootRow> = Table::new(0x0400);
pub(crate) const TOKENS: Table<(String,), TokenRow> = Table::new(0x0401);
pub(crate) const ENROLLED: Table<(String, String), EnrolledRow> = Table::new(0x0402);

#[cfg(test)]
mod tests {
    use super::{ENROLLED, ROOTS, TOKENS};

    #[test]
    fn keys_are_where_they_always_were() {
        assert_eq!(&ROOTS.key(&(1,))[..2], [4, 0]);
        assert!(ROOTS.key(&(2,)) > ROOTS.key(&(1,)));
        assert_eq!(&TOKENS.key(&("a".to_owned(),))[..2], [4, 1]);
        assert_eq!(&ENROLLED.key(&("default".to_owned(), "shop".to_owned()))[..2], [4, 2]);
    }
}
