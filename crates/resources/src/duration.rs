//! Durations as people write them: `1h2m3.5s`, `PT5S`.
//!
//! Both forms are read in whole nanoseconds with checked arithmetic; there is no floating point, so `0.1s` is exactly
//! 100 ms and a number with a hundred digits is refused instead of wrapping around.

use std::time::Duration;

/// Text that is not a duration, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a duration: {reason}")]
pub struct BadDuration {
    /// What was written.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

const NANOSECOND: u128 = 1;
const MICROSECOND: u128 = 1_000;
const MILLISECOND: u128 = 1_000_000;
const SECOND: u128 = 1_000_000_000;
const MINUTE: u128 = 60 * SECOND;
const HOUR: u128 = 60 * MINUTE;
const DAY: u128 = 24 * HOUR;

const TOO_LONG: &str = "it is longer than 292 years";
const NEGATIVE: &str = "it is negative";

/// Reads a duration in Go's form (`1h2m3.5s`, `500ms`, `1us`; units h, m, s, ms, us, ns) or in ISO 8601's (`PT5S`,
/// `P1DT2H`; weeks and days are 7 and 1 times 24 hours; years and months have no fixed length and are refused).
///
/// # Errors
/// [`BadDuration`] for anything else, negative durations included.
pub fn parse(text: &str) -> Result<Duration, BadDuration> {
    parse_signed(text)
        .and_then(
            |(negative, duration)| {
                if negative && !duration.is_zero() { Err(NEGATIVE) } else { Ok(duration) }
            },
        )
        .map_err(|reason| BadDuration { text: text.into(), reason })
}

/// As [`parse`], but a bare whole number counts in `unit`.
///
/// # Errors
/// As [`parse`].
pub fn parse_or_count(text: &str, unit: Duration) -> Result<Duration, BadDuration> {
    let digits = text.trim();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return parse(text);
    }
    let count = digits.parse::<u128>().unwrap_or(u128::MAX);
    nanoseconds(count.saturating_mul(unit.as_nanos()))
        .map_err(|reason| BadDuration { text: text.into(), reason })
}

/// As [`parse`], with the sign told apart: some fields give negative durations a meaning of their own.
fn parse_signed(text: &str) -> Result<(bool, Duration), &'static str> {
    let text = text.trim();
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) => (false, text),
        None => return Err("it is empty"),
    };
    let total = match rest.strip_prefix(['P', 'p']) {
        Some(iso) => iso_nanoseconds(iso)?,
        None if rest == "0" => 0,
        None => go_nanoseconds(rest)?,
    };
    Ok((negative, nanoseconds(total)?))
}

fn nanoseconds(total: u128) -> Result<Duration, &'static str> {
    // The bound is Go's: a signed 64-bit count of nanoseconds.
    let total = u64::try_from(total).ok().filter(|n| i64::try_from(*n).is_ok());
    total.map(Duration::from_nanos).ok_or(TOO_LONG)
}

fn go_nanoseconds(mut rest: &str) -> Result<u128, &'static str> {
    let mut total = 0_u128;
    if rest.is_empty() {
        return Err("there is no number");
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let unit = match &after[..end] {
            "h" => HOUR,
            "m" => MINUTE,
            "s" => SECOND,
            "ms" => MILLISECOND,
            "us" | "\u{b5}s" | "\u{3bc}s" => MICROSECOND,
            "ns" => NANOSECOND,
            "" => return Err("a number has no unit (h, m, s, ms, us, ns)"),
            _ => return Err("the unit is not one of h, m, s, ms, us, ns"),
        };
        total = total.checked_add(number.times(unit)?).ok_or(TOO_LONG)?;
        rest = &after[end..];
    }
    Ok(total)
}

fn iso_nanoseconds(rest: &str) -> Result<u128, &'static str> {
    let (date, time) = rest.split_once(['T', 't']).map_or((rest, None), |(d, t)| (d, Some(t)));
    if time.map_or(date.is_empty(), str::is_empty) {
        return Err("it ends too early");
    }
    let mut total = 0_u128;
    let parts = [(date, [("W", 7 * DAY), ("D", DAY), ("", 0)])]
        .into_iter()
        .chain(time.map(|time| (time, [("H", HOUR), ("M", MINUTE), ("S", SECOND)])));
    for (mut rest, units) in parts {
        // Units come in descending order, each at most once, as the standard asks.
        let mut next = 0;
        while !rest.is_empty() {
            let (number, after) = split_number(rest)?;
            let unit = after.get(..1).ok_or("a number has no unit")?;
            let found = units[next..].iter().position(|(name, _)| name.eq_ignore_ascii_case(unit));
            let calendar = units[0].0 == "W" && matches!(unit, "Y" | "y" | "M" | "m");
            let index = next
                + found.ok_or(if calendar {
                    "years and months have no fixed length"
                } else {
                    "the units are not W, D, T, H, M, S, in that order"
                })?;
            total = total.checked_add(number.times(units[index].1)?).ok_or(TOO_LONG)?;
            (next, rest) = (index + 1, &after[1..]);
        }
    }
    Ok(total)
}

/// A decimal number as its digits: whole and fractional part.
struct Decimal<'a> {
    whole: &'a str,
    fraction: &'a str,
}

impl Decimal<'_> {
    /// This many `unit`s, in nanoseconds; what is finer than a nanosecond is cut off.
    fn times(&self, unit: u128) -> Result<u128, &'static str> {
        let whole = if self.whole.is_empty() { Ok(0) } else { self.whole.parse::<u128>() };
        let mut total = whole.ok().and_then(|w| w.checked_mul(unit)).ok_or(TOO_LONG)?;
        let mut place = unit;
        for digit in self.fraction.bytes().take(20) {
            // Exact for seconds and below, whose digits end with the nanoseconds; hours lose a nanosecond or two.
            let value = u128::from(digit - b'0') * place;
            total = total.checked_add(value / 10).ok_or(TOO_LONG)?;
            place /= 10;
        }
        Ok(total)
    }
}

fn split_number(text: &str) -> Result<(Decimal<'_>, &str), &'static str> {
    let is_digit = |c: char| c.is_ascii_digit();
    let whole_end = text.find(|c| !is_digit(c)).unwrap_or(text.len());
    let (whole, rest) = text.split_at(whole_end);
    // ISO allows a comma as the decimal sign; Go does not, but no other reading is possible.
    let (fraction, rest) = match rest.strip_prefix(['.', ',']) {
        Some(after) => after.split_at(after.find(|c| !is_digit(c)).unwrap_or(after.len())),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err("a number is expected where there is none");
    }
    Ok((Decimal { whole, fraction }, rest))
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_or_count};
    use std::time::Duration;

    #[test]
    fn both_forms() {
        for (text, nanos) in [
            ("1h2m3.5s", 3_723_500_000_000_u64),
            ("500ms", 500_000_000),
            ("1us", 1_000),
            ("1\u{b5}s", 1_000),
            ("7ns", 7),
            ("0", 0),
            ("-0s", 0),
            ("+1s", 1_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("0.1s", 100_000_000),
            ("1.000000001s", 1_000_000_001),
            (" 5s ", 5_000_000_000),
            ("PT5S", 5_000_000_000),
            ("P1DT2H", 93_600_000_000_000),
            ("P2W", 1_209_600_000_000_000),
            ("PT0.5S", 500_000_000),
            ("PT0,5S", 500_000_000),
            ("pt1h1m", 3_660_000_000_000),
            ("9223372036854775807ns", u64::try_from(i64::MAX).unwrap()),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn refusals() {
        for (text, reason) in [
            ("", "it is empty"),
            ("5", "a number has no unit (h, m, s, ms, us, ns)"),
            ("5sec", "the unit is not one of h, m, s, ms, us, ns"),
            ("s", "a number is expected where there is none"),
            (".s", "a number is expected where there is none"),
            ("-", "there is no number"),
            ("-1s", "it is negative"),
            ("-PT1S", "it is negative"),
            ("P", "it ends too early"),
            ("PT", "it ends too early"),
            ("P1DT", "it ends too early"),
            ("P1Y", "years and months have no fixed length"),
            ("P1M", "years and months have no fixed length"),
            ("PT1S1M", "the units are not W, D, T, H, M, S, in that order"),
            ("PT1H1H", "the units are not W, D, T, H, M, S, in that order"),
            ("9223372036854775808ns", "it is longer than 292 years"),
            ("99999999999999999999999999999999999999999h", "it is longer than 292 years"),
            ("1 h", "the unit is not one of h, m, s, ms, us, ns"),
        ] {
            assert_eq!(parse(text).unwrap_err().reason, reason, "{text}");
        }
    }

    #[test]
    fn bare_numbers_where_they_are_meant() {
        let millis = Duration::from_millis(1);
        assert_eq!(parse_or_count("250", millis), Ok(Duration::from_millis(250)));
        assert_eq!(parse_or_count("250s", millis), Ok(Duration::from_secs(250)));
        assert!(parse_or_count("99999999999999999999999999999999999999999", millis).is_err());
        assert!(parse_or_count("", millis).is_err());
    }
}
