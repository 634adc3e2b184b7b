//! What may be the name of a topic, a group or a broker.

use crate::{error::IllegalName, limits::NAME_BYTES_MAX};

/// Refuses what would make a bad key, log line or metric label.
pub(crate) fn check(what: &'static str, name: &str) -> Result<(), IllegalName> {
    if name.is_empty() {
        return Err(IllegalName::Empty { what });
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(IllegalName::TooLong { what, bytes: name.len() });
    }
    if name.chars().any(char::is_control) {
        return Err(IllegalName::Control { what, name: name.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::{error::IllegalName, limits::NAME_BYTES_MAX};

    #[test]
    fn every_bound_has_its_own_error() {
        check("topic", "orders/eu.v1 \u{fc}").unwrap();
        check("topic", &"x".repeat(NAME_BYTES_MAX)).unwrap();
        assert_eq!(check("topic", ""), Err(IllegalName::Empty { what: "topic" }));
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        let bytes = long.len();
        assert_eq!(check("group", &long), Err(IllegalName::TooLong { what: "group", bytes }));
        assert!(matches!(check("topic", "a\0b"), Err(IllegalName::Control { .. })));
    }
}
