//! The tables of the registry. Numbers `0x0300` to `0x03ff` are this crate's; one that was used is never used again.
//!
//! | number | key | value |
//! |---|---|---|
//! | `0x0300` | instance | [`InstanceRow`]: a process that shares this key space |
//! | `0x0301` | instance, namespace, app | [`AppRow`]: an app that the process hosts |
//!
//! The instance comes first in both, so that what a process left behind is one range of each.

use super::records::{AppRow, InstanceRow};
use outrigger_keyspace::{KeyRange, Table};

pub(super) const INSTANCES: Table<(String,), InstanceRow> = Table::new(0x0300);
pub(super) const APPS: Table<(String, String, String), AppRow> = Table::new(0x0301);

/// Everything in the registry.
pub(super) fn everything() -> KeyRange {
    KeyRange { start: INSTANCES.range(&()).start, end: APPS.range(&()).end }
}

#[cfg(test)]
mod tests {
    use super::{APPS, INSTANCES, everything};

    #[test]
    fn keys_are_where_they_always_were() {
        assert_eq!(&INSTANCES.key(&("a".to_owned(),))[..2], [3, 0]);
        let app = APPS.key(&("a".to_owned(), "prod".to_owned(), "shop".to_owned()));
        assert_eq!(&app[..2], [3, 1]);
        assert_eq!(APPS.decode_key(&app).unwrap().2, "shop");
        assert!(everything().contains(&app));
        assert!(everything().contains(&INSTANCES.key(&("z".to_owned(),))));
        assert!(!everything().contains(&[3, 2]));
        assert!(!everything().contains(&[2, 255, 255]));
    }
}
