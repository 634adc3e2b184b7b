//! Paths with one meaning.
//!
//! Access control looks at a path, and later somebody else, the app, decides what the path means. Whenever the two
//! disagree (`admin%2F..%2Fpublic`, `//admin`, `%61dmin`) there is a way round the check. So there is one function that
//! turns a path into its canonical form or refuses it, and only its result, [`CanonicalPath`], can be checked or sent.
//!
//! Canonical means: starts with a slash, no empty segments but a trailing one, unreserved characters plain, everything
//! else percent-encoded with upper-case digits. Control characters, broken percent-encoding, `?` and `#` are refused.
//!
//! Some paths have no canonical form, because common servers are known to read them in different ways: those with
//! encoded slashes, backslashes or dot segments. Where nobody checks paths they go through as they are (an id may well
//! be `a%2Fb`); an access list refuses them, whatever its rules say ([`CanonicalPath::ambiguity`]).

use percent_encoding::percent_decode_str;
use std::{borrow::Cow, fmt};

/// The longest path that is passed on, in bytes of its canonical form.
pub const PATH_BYTES_MAX: usize = 8 * 1024;

/// A path in the one form that is both checked and sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CanonicalPath {
    sent: String,
    ambiguity: Option<BadPath>,
}

/// Why a path was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadPath {
    /// A `%` that is not followed by two hexadecimal digits.
    #[error("the path has a '%' that is not followed by two hexadecimal digits")]
    Percent,
    /// A slash or backslash in percent-encoding, or a plain backslash.
    #[error("the path has an encoded slash or a backslash")]
    HiddenSlash,
    /// `.` or `..`, plain, encoded, or with parameters.
    #[error("the path has a '.' or '..' segment")]
    DotSegment,
    /// A control character.
    #[error("the path has a control character")]
    Control,
    /// A `?` or `#`, which would end the path.
    #[error("the path has a '?' or '#'")]
    Ends,
    /// Longer than [`PATH_BYTES_MAX`].
    #[error("the path is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    /// Not of the form `/service/method`.
    #[error("a gRPC path has the form /service/method")]
    NotGrpc,
}

impl CanonicalPath {
    /// The canonical form of a path in percent-encoding; a leading slash is added when missing.
    ///
    /// # Errors
    /// [`BadPath`] for what cannot be a path.
    pub fn parse(raw: &str) -> Result<Self, BadPath> {
        let mut canonical = String::with_capacity(raw.len() + 1);
        canonical.push('/');
        let mut segment = canonical.len();
        let mut ambiguity = None;
        let mut bytes = raw.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'/' if canonical.len() == segment => {}
                b'/' => {
                    ambiguity = ambiguity.or_else(|| dots(&canonical[segment..]));
                    canonical.push('/');
                    segment = canonical.len();
                }
                b'%' => {
                    let decoded = hex(bytes.next())? << 4 | hex(bytes.next())?;
                    if decoded == b'/' || decoded == b'\\' {
                        ambiguity = ambiguity.or(Some(BadPath::HiddenSlash));
                    }
                    push_decoded(&mut canonical, decoded)?;
                }
                b'?' | b'#' => return Err(BadPath::Ends),
                b'\\' => {
                    ambiguity = ambiguity.or(Some(BadPath::HiddenSlash));
                    canonical.push_str("%5C");
                }
                _ if byte.is_ascii_control() => return Err(BadPath::Control),
                _ if is_unreserved(byte) || DELIMITERS.contains(&byte) => {
                    canonical.push(char::from(byte));
                }
                _ => push_encoded(&mut canonical, byte),
            }
        }
        ambiguity = ambiguity.or_else(|| dots(&canonical[segment..]));
        let sent = if ambiguity.is_some() { as_it_is(raw) } else { canonical };
        if sent.len() > PATH_BYTES_MAX {
            return Err(BadPath::TooLong);
        }
        Ok(Self { sent, ambiguity })
    }

    /// The canonical form of the path of a gRPC call, which must already be in it.
    ///
    /// # Errors
    /// [`BadPath::NotGrpc`] or what [`CanonicalPath::parse`] refuses.
    pub fn parse_grpc(raw: &str) -> Result<Self, BadPath> {
        let path = Self::parse(raw)?;
        let two_parts = path.sent[1..].split_once('/').is_some_and(|(service, method)| {
            !service.is_empty() && !method.is_empty() && !method.contains('/')
        });
        let canonical = path.sent == raw && path.ambiguity.is_none();
        if canonical && two_parts { Ok(path) } else { Err(BadPath::NotGrpc) }
    }

    /// The path as it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.sent
    }

    /// Why the path could be read in more than one way, if it could. Such a path must not be checked, only sent or
    /// refused.
    #[must_use]
    pub fn ambiguity(&self) -> Option<BadPath> {
        self.ambiguity
    }

    /// The path as people write it in rules: decoded, without a trailing slash. Its slashes are exactly those of
    /// [`CanonicalPath::as_str`], because none can hide in percent-encoding.
    #[must_use]
    pub fn plain(&self) -> Cow<'_, str> {
        let path = &*self.sent;
        let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        percent_decode_str(path).decode_utf8_lossy()
    }
}

impl fmt::Display for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sent)
    }
}

/// What may stand in a segment besides unreserved characters (RFC 3986: `sub-delims`, `:` and `@`).
const DELIMITERS: &[u8] = b"!$&'()*+,;=:@";

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn push_decoded(canonical: &mut String, byte: u8) -> Result<(), BadPath> {
    match byte {
        _ if byte.is_ascii_control() => return Err(BadPath::Control),
        _ if is_unreserved(byte) => canonical.push(char::from(byte)),
        _ => push_encoded(canonical, byte),
    }
    Ok(())
}

fn push_encoded(canonical: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    canonical.push('%');
    canonical.push(char::from(DIGITS[usize::from(byte >> 4)]));
    canonical.push(char::from(DIGITS[usize::from(byte & 15)]));
}

fn hex(digit: Option<u8>) -> Result<u8, BadPath> {
    let value = digit.and_then(|digit| char::from(digit).to_digit(16)).ok_or(BadPath::Percent)?;
    u8::try_from(value).map_err(|_| BadPath::Percent)
}

/// Some servers cut parameters off before they look for dots, so `..;x` is a dot segment too.
fn dots(segment: &str) -> Option<BadPath> {
    let name = segment.split(';').next().unwrap_or_default();
    (name == "." || name == "..").then_some(BadPath::DotSegment)
}

/// Only what cannot stand in a request at all is encoded.
fn as_it_is(raw: &str) -> String {
    let mut path = String::with_capacity(raw.len() + 1);
    if !raw.starts_with('/') {
        path.push('/');
    }
    for byte in raw.bytes() {
        if is_unreserved(byte) || DELIMITERS.contains(&byte) || b"/%\\".contains(&byte) {
            path.push(char::from(byte));
        } else {
            push_encoded(&mut path, byte);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::{BadPath, CanonicalPath, PATH_BYTES_MAX};
    use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};

    fn canonical(raw: &str) -> Result<String, BadPath> {
        CanonicalPath::parse(raw).map(|path| path.as_str().to_owned())
    }

    #[test]
    fn one_form() {
        for (raw, expected) in [
            ("", "/"),
            ("/", "/"),
            ("orders", "/orders"),
            ("/orders/1", "/orders/1"),
            ("orders/1/", "/orders/1/"),
            ("//orders///1//", "/orders/1/"),
            ("%6Frders/%7e", "/orders/~"),
            ("a%2fb".replace("%2f", "%2b").as_str(), "/a%2Bb"),
            ("a b/%c3%a4/\u{e4}", "/a%20b/%C3%A4/%C3%A4"),
            ("a%3Fb%23c%25d", "/a%3Fb%23c%25d"),
            ("v1/x:do;k=v/@me,(1)", "/v1/x:do;k=v/@me,(1)"),
            ("...", "/..."),
        ] {
            assert_eq!(canonical(raw).as_deref(), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn what_has_two_meanings_goes_through_as_it_is_and_says_so() {
        for (raw, sent, why) in [
            ("admin%2F..%2Fpublic", "/admin%2F..%2Fpublic", BadPath::HiddenSlash),
            ("a%2fb//c%41", "/a%2fb//c%41", BadPath::HiddenSlash),
            ("a%5cb", "/a%5cb", BadPath::HiddenSlash),
            ("a\\b", "/a\\b", BadPath::HiddenSlash),
            ("/public/../admin", "/public/../admin", BadPath::DotSegment),
            ("public/%2e%2E/admin x", "/public/%2e%2E/admin%20x", BadPath::DotSegment),
            (".", "/.", BadPath::DotSegment),
            ("a/..;x/b", "/a/..;x/b", BadPath::DotSegment),
        ] {
            let path = CanonicalPath::parse(raw).unwrap();
            assert_eq!((path.as_str(), path.ambiguity()), (sent, Some(why)), "{raw}");
        }
    }

    #[test]
    fn refused() {
        let long = "a".repeat(PATH_BYTES_MAX);
        for (raw, expected) in [
            ("a%2Fb%00", BadPath::Control),
            ("a%2Fb%", BadPath::Percent),
            ("../a?", BadPath::Ends),
            ("a%00", BadPath::Control),
            ("a\u{7f}", BadPath::Control),
            ("a\r\nb", BadPath::Control),
            ("100%", BadPath::Percent),
            ("%2", BadPath::Percent),
            ("%+1", BadPath::Percent),
            ("a?b", BadPath::Ends),
            ("a#b", BadPath::Ends),
            (long.as_str(), BadPath::TooLong),
        ] {
            assert_eq!(canonical(raw), Err(expected), "{raw}");
        }
    }

    #[test]
    fn grpc_paths_are_taken_as_they_are_or_not_at_all() {
        assert!(CanonicalPath::parse_grpc("/helloworld.Greeter/SayHello").is_ok());
        for bad in [
            "/a", "a/b", "/a/b/", "/a//b", "/a/%62", "/a/b/c", "/a/b#", "", "/", "/a/..",
            "/a/b%2Fc",
        ] {
            assert!(CanonicalPath::parse_grpc(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_plain_form_is_for_rules() {
        let plain = |raw| CanonicalPath::parse(raw).unwrap().plain().into_owned();
        assert_eq!(plain("/a%20b/%C3%A4/"), "/a b/\u{e4}");
        assert_eq!(plain("/"), "/");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn what_is_sent_is_what_was_checked(raw in any::<String>()) {
            check(&raw)?;
        }

        #[test]
        fn also_for_the_tricky_alphabet(
            raw in prop::collection::vec(prop::sample::select(ALPHABET), 0..24),
        ) {
            check(&raw.concat())?;
        }
    }

    const ALPHABET: &[&str] =
        &["/", ".", "%", "2", "f", "F", "e", "5", "c", "a", ";", "%2e", "%2F", "\\", "?", "#", " "];

    /// The canonical form is a fixed point, survives the URI type it is sent in, and reads the same decoded before and
    /// after.
    fn check(raw: &str) -> Result<(), proptest::test_runner::TestCaseError> {
        let Ok(path) = CanonicalPath::parse(raw) else { return Ok(()) };
        prop_assert_eq!(&CanonicalPath::parse(path.as_str()).unwrap(), &path);
        let uri: http::Uri = path.as_str().parse().unwrap();
        prop_assert_eq!(uri.path(), path.as_str());
        prop_assert!(uri.query().is_none());
        if path.ambiguity().is_some() {
            return Ok(());
        }
        prop_assert_eq!(
            path.plain().matches('/').count(),
            if path.as_str().len() > 1 {
                path.as_str().trim_end_matches('/').matches('/').count()
            } else {
                1
            }
        );
        prop_assert!(!path.as_str().split('/').any(|segment| segment == "." || segment == ".."));
        Ok(())
    }
}
