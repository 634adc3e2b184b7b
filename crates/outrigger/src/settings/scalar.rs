//! Text to numbers, sizes and durations, in the spellings that flags of the reference accept.

use super::catalogue::Shape;
use std::time::Duration;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MILLI: Duration = Duration::from_millis(1);

/// Whether `text` has the shape; the error says what was expected. Empty text unsets, so it always has.
pub(super) fn check(shape: Shape, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    match shape {
        Shape::Text | Shape::Path | Shape::List => Ok(()),
        Shape::Switch => switch(text).map(drop),
        Shape::Number => number(text).map(drop),
        Shape::Seconds => duration(text, SECOND).map(drop),
        Shape::Millis => duration(text, MILLI).map(drop),
        Shape::Bytes => bytes(text).map(drop),
        Shape::Port => match number(text)? {
            ..=65_535 => Ok(()),
            _ => Err("a port is at most 65535".to_owned()),
        },
        Shape::OneOf(words) if words.contains(&text) => Ok(()),
        Shape::OneOf(words) => Err(format!("it is one of {}", words.join(", "))),
    }
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" | "on" => Ok(true),
        "false" | "f" | "0" | "no" | "off" => Ok(false),
        _ => Err("it is true or false".to_owned()),
    }
}

pub(super) fn number(text: &str) -> Result<i64, String> {
    text.trim().parse().map_err(|_| "it is a whole number".to_owned())
}

/// Sizes as Kubernetes writes them: `4Mi` is binary, `4M` decimal.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (digits, unit) = text.split_at(digits);
    let unit: u64 = match unit.trim() {
        "" | "B" => 1,
        "k" | "K" | "KB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "Ki" | "KiB" => 1 << 10,
        "Mi" | "MiB" => 1 << 20,
        "Gi" | "GiB" => 1 << 30,
        _ => return Err("it is a size such as 4Mi, 64Ki or 65536".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "it is a size such as 4Mi or 65536".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "it is too large".to_owned())
}

/// Durations as Go writes them (`1m30s`, `500ms`); a plain number counts `unit`.
pub(super) fn duration(text: &str, unit: Duration) -> Result<Duration, String> {
    let expected = || "it is a duration such as 5, 500ms or 1m30s".to_owned();
    let text = text.trim();
    if let Ok(count) = text.parse::<u32>() {
        return unit.checked_mul(count).ok_or_else(expected);
    }
    outrigger_resources::duration::parse(text).map_err(|_| expected())
}

#[cfg(test)]
mod tests {
    use super::{MILLI, SECOND, bytes, check, duration};
    use crate::settings::catalogue::Shape;
    use std::time::Duration;

    #[test]
    fn sizes() {
        assert_eq!(bytes("4Mi"), Ok(4 << 20));
        assert_eq!(bytes("4M"), Ok(4_000_000));
        assert_eq!(bytes("65536"), Ok(65_536));
        for bad in ["", "Mi", "4 parsecs", "-1", "99999999999999999999"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("5", SECOND), Ok(Duration::from_secs(5)));
        assert_eq!(duration("5", MILLI), Ok(Duration::from_millis(5)));
        assert_eq!(duration("1m30s", MILLI), Ok(Duration::from_secs(90)));
        assert!(duration("soon", SECOND).is_err());
    }

    #[test]
    fn ports_may_be_negative_for_none_but_not_too_large() {
        assert!(check(Shape::Port, "-1").is_ok());
        assert!(check(Shape::Port, "0").is_ok());
        assert!(check(Shape::Port, "65536").is_err());
    }
}
