//! Which statuses are worth a retry: comma lists of codes and ranges, `429,500-599`.
//!
//! Nothing given means all of them. HTTP statuses lie in 100-599, gRPC codes in 0-16.

use crate::Class;
use std::ops::RangeInclusive;

/// Which statuses are failures worth a retry.
///
/// ```
/// use outrigger_resilience::{Class, Matching};
///
/// let matching = Matching::parse("429, 500-599", "")?;
/// assert!(matching.has(Class::Http(503)));
/// assert!(!matching.has(Class::Http(404)));
/// assert!(matching.has(Class::Grpc(14)), "no list for gRPC means all codes");
///
/// let error = Matching::parse("500-", "").unwrap_err();
/// assert_eq!(error.to_string(), "HTTP statuses: \"500-\": \"\" is not a number");
/// # Ok::<(), outrigger_resilience::MatchingError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matching {
    /// HTTP statuses; `None` for all.
    pub http: Option<Vec<RangeInclusive<u16>>>,
    /// gRPC codes; `None` for all.
    pub grpc: Option<Vec<RangeInclusive<u16>>>,
}

/// What is wrong with a list of statuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatchingError {
    /// An entry (or one end of it) is no number.
    #[error("{list}: {entry:?}: {number:?} is not a number")]
    NotANumber {
        /// Which list.
        list: &'static str,
        /// The entry.
        entry: String,
        /// The part of it.
        number: String,
    },
    /// An entry names a code that the protocol does not have.
    #[error("{list}: {entry:?}: {code} is not within {min}-{max}")]
    OutOfBounds {
        /// Which list.
        list: &'static str,
        /// The entry.
        entry: String,
        /// The code.
        code: u64,
        /// Smallest code of the protocol.
        min: u16,
        /// Largest code of the protocol.
        max: u16,
    },
    /// A range ends before it starts.
    #[error("{list}: {entry:?}: the range ends before it starts")]
    Backwards {
        /// Which list.
        list: &'static str,
        /// The entry.
        entry: String,
    },
    /// A list of nothing but commas; it would switch retrying off, which is said elsewhere.
    #[error("{list}: {text:?} names no status")]
    Empty {
        /// Which list.
        list: &'static str,
        /// The list.
        text: String,
    },
}

impl Matching {
    /// Reads both lists; an empty one means all statuses. Spaces and empty entries are skipped.
    ///
    /// # Errors
    /// [`MatchingError`], saying which entry of which list is wrong and how.
    pub fn parse(http: &str, grpc: &str) -> Result<Self, MatchingError> {
        Ok(Self {
            http: parse_list("HTTP statuses", http, 100..=599)?,
            grpc: parse_list("gRPC codes", grpc, 0..=16)?,
        })
    }

    /// Whether an attempt of this class is a failure worth a retry.
    #[must_use]
    pub fn has(&self, class: Class) -> bool {
        let (ranges, code) = match class {
            Class::Success | Class::Permanent | Class::Ignored => return false,
            Class::Failure => return true,
            Class::Http(code) => (&self.http, code),
            Class::Grpc(code) => (&self.grpc, code),
        };
        ranges.as_ref().is_none_or(|ranges| ranges.iter().any(|range| range.contains(&code)))
    }
}

fn parse_list(
    list: &'static str,
    text: &str,
    bounds: RangeInclusive<u16>,
) -> Result<Option<Vec<RangeInclusive<u16>>>, MatchingError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let ranges = entries
        .map(|entry| parse_entry(list, entry, &bounds))
        .collect::<Result<Vec<_>, MatchingError>>()?;
    if ranges.is_empty() {
        return Err(MatchingError::Empty { list, text: text.to_owned() });
    }
    Ok(Some(ranges))
}

fn parse_entry(
    list: &'static str,
    entry: &str,
    bounds: &RangeInclusive<u16>,
) -> Result<RangeInclusive<u16>, MatchingError> {
    let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
    let code = |number: &str| {
        let number = number.trim();
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let code = digits.then(|| number.parse::<u64>().ok()).flatten().ok_or_else(|| {
            MatchingError::NotANumber { list, entry: entry.to_owned(), number: number.to_owned() }
        })?;
        u16::try_from(code).ok().filter(|code| bounds.contains(code)).ok_or_else(|| {
            let (min, max) = (*bounds.start(), *bounds.end());
            MatchingError::OutOfBounds { list, entry: entry.to_owned(), code, min, max }
        })
    };
    let range = code(first)?..=code(last)?;
    if range.is_empty() {
        return Err(MatchingError::Backwards { list, entry: entry.to_owned() });
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::{Matching, MatchingError};
    use crate::Class;
    use proptest::prelude::*;

    #[test]
    fn refusals_say_what_is_wrong() {
        let cases = [
            ("abc", "", "HTTP statuses: \"abc\": \"abc\" is not a number"),
            ("200,+5", "", "HTTP statuses: \"+5\": \"+5\" is not a number"),
            ("1-2-3", "", "HTTP statuses: \"1-2-3\": 1 is not within 100-599"),
            ("500-501-502", "", "HTTP statuses: \"500-501-502\": \"501-502\" is not a number"),
            ("99", "", "HTTP statuses: \"99\": 99 is not within 100-599"),
            ("500-600", "", "HTTP statuses: \"500-600\": 600 is not within 100-599"),
            ("599-500", "", "HTTP statuses: \"599-500\": the range ends before it starts"),
            (",,", "", "HTTP statuses: \",,\" names no status"),
            ("", "17", "gRPC codes: \"17\": 17 is not within 0-16"),
            ("", "-1", "gRPC codes: \"-1\": \"\" is not a number"),
        ];
        for (http, grpc, expected) in cases {
            assert_eq!(Matching::parse(http, grpc).unwrap_err().to_string(), expected);
        }
        let huge = "18446744073709551616";
        let error = Matching::parse(huge, "").unwrap_err();
        assert!(matches!(error, MatchingError::NotANumber { .. }), "{error}");
    }

    #[test]
    fn nothing_given_means_everything() {
        let matching = Matching::parse(" ", "").unwrap();
        assert_eq!(matching, Matching::default());
        assert!(matching.has(Class::Http(404)) && matching.has(Class::Grpc(5)));
        assert!(matching.has(Class::Failure));
        assert!(!matching.has(Class::Success) && !matching.has(Class::Permanent));
        assert!(!matching.has(Class::Ignored));
    }

    #[test]
    fn lists_are_apart_and_commas_forgiven() {
        let matching = Matching::parse(" 429 , 500 - 502,", "1-4,8-11,14").unwrap();
        assert!(matching.has(Class::Http(501)) && matching.has(Class::Http(429)));
        assert!(!matching.has(Class::Http(503)) && !matching.has(Class::Grpc(12)));
        assert!(matching.has(Class::Grpc(14)) && matching.has(Class::Failure));
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_reading(ranges in proptest::collection::vec((100_u16..=599, 0_u16..50), 1..5), code in 100_u16..=599) {
            let text: Vec<String> = ranges.iter().map(|(from, more)| format!("{from}-{}", (from + more).min(599))).collect();
            let naive = ranges.iter().any(|(from, more)| (*from..=from + more).contains(&code));
            let matching = Matching::parse(&text.join(","), "").unwrap();
            prop_assert_eq!(matching.has(Class::Http(code)), naive);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9, -]{0,12}") {
            if let Ok(matching) = Matching::parse(&text, "") {
                prop_assert_eq!(matching.http.is_none(), text.trim().is_empty());
            }
        }
    }
}
