//! Instants as envelopes write them: RFC 3339, in UTC.

use outrigger_kernel::Wall;

/// `at` to the second, or to the millisecond where it has some.
pub(super) fn write(at: Wall) -> String {
    let instant =
        i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    instant.unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// The instant that `text` names, if it does; one before 1970 is 1970.
pub(super) fn read(text: &str) -> Option<Wall> {
    let instant: jiff::Timestamp = text.parse().ok()?;
    Some(Wall(u64::try_from(instant.as_millisecond()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::{read, write};
    use outrigger_kernel::Wall;

    #[test]
    fn there_and_back() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_767_225_600_000, "2026-01-01T00:00:00Z"),
            (1_767_225_600_250, "2026-01-01T00:00:00.25Z"),
        ] {
            assert_eq!(write(Wall(ms)), text);
            assert_eq!(read(text), Some(Wall(ms)));
        }
        assert_eq!(read("2026-01-01T02:00:00+02:00"), Some(Wall(1_767_225_600_000)));
        assert!(write(Wall(u64::MAX)).starts_with("9999-12-30"));
        for bad in ["", "tomorrow", "2026-13-01T00:00:00Z", "1767225600"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
