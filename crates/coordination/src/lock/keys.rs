//! The tables of the locks.
//!
//! | number | key | value |
//! |---|---|---|
//! | `0x0310` | store, resource, grant | [`HolderRow`]: who holds the lock |
//! | `0x0311` | store, resource, stamp | [`WaiterRow`]: who waits for it, in the order they came |
//! | `0x0312` | store, owner, resource, grant | [`OwnedRow`]: what an owner holds |
//! | `0x0313` | store, owner, resource, grant | [`OwnedRow`]: what an owner waits for |
//!
//! A grant is a random name, one for every time that somebody asks. All rows expire by themselves, so what a process
//! leaves behind when it dies goes away.

use super::records::{HolderRow, OwnedRow, WaiterRow};
use outrigger_keyspace::{Stamp, Table};

pub(super) const HOLDERS: Table<(String, String, String), HolderRow> = Table::new(0x0310);
pub(super) const WAITERS: Table<(String, String, Stamp), WaiterRow> = Table::new(0x0311);
pub(super) const HELD: Table<(String, String, String, String), OwnedRow> = Table::new(0x0312);
/// Apart from what is held: who joins a line reads the one and writes the other, so that they do not disturb each other.
pub(super) const WANTED: Table<(String, String, String, String), OwnedRow> = Table::new(0x0313);

#[cfg(test)]
mod tests {
    use super::{HELD, HOLDERS, WAITERS, WANTED};
    use outrigger_keyspace::Stamp;

    #[test]
    fn keys_are_where_they_always_were() {
        let text = |text: &str| text.to_owned();
        assert_eq!(&HOLDERS.key(&(text("s"), text("r"), text("g")))[..2], [3, 0x10]);
        assert_eq!(&WAITERS.key(&(text("s"), text("r"), Stamp::default()))[..2], [3, 0x11]);
        let owned = (text("s"), text("o"), text("r"), text("g"));
        assert_eq!(&HELD.key(&owned)[..2], [3, 0x12]);
        assert_eq!(&WANTED.key(&owned)[..2], [3, 0x13]);
    }
}
