//! Etags are revisions in decimal: opaque to callers, comparable without a lookup for us.

/// The etag of a value written at `revision`.
pub(crate) fn of(revision: u64) -> String {
    revision.to_string()
}

/// The revision an etag names; `None` for anything [`of`] never gives out (signs, spaces, leading zeros).
pub(crate) fn parse(etag: &str) -> Option<u64> {
    let canonical =
        etag.bytes().all(|b| b.is_ascii_digit()) && (etag == "0" || !etag.starts_with('0'));
    canonical.then(|| etag.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{of, parse};
    use proptest::prelude::*;

    #[test]
    fn refuses_what_was_never_given_out() {
        for bad in
            ["", "+1", "-1", " 1", "1 ", "01", "0x1", "1.0", "W/\"1\"", "18446744073709551616"]
        {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(revision: u64) {
            prop_assert_eq!(parse(&of(revision)), Some(revision));
        }

        #[test]
        fn whatever_parses_is_canonical(text in "[+0-9]{0,4}") {
            if let Some(revision) = parse(&text) {
                prop_assert_eq!(of(revision), text);
            }
        }
    }
}
