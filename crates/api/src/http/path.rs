//! Paths and queries as they arrive: cleaned, cut into segments, percent-decoded.
//!
//! Nothing here can fail in a way that matters: what is malformed becomes a [`Malformed`], which answers 400.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// A segment or parameter whose percent-encoding is broken, or not UTF-8 text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the percent-encoding of {0} is broken, or is not UTF-8 text")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// The path without empty segments, `.` and `..`, and without a trailing slash. Borrowed when it was clean already, as
/// nearly all are.
pub(crate) fn clean(path: &str) -> Cow<'_, str> {
    if is_clean(path) {
        return Cow::Borrowed(path);
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    let mut cleaned = String::with_capacity(path.len());
    for segment in kept {
        cleaned.push('/');
        cleaned.push_str(segment);
    }
    if cleaned.is_empty() {
        cleaned.push('/');
    }
    Cow::Owned(cleaned)
}

fn is_clean(path: &str) -> bool {
    let Some(segments) = path.strip_prefix('/') else { return false };
    segments.is_empty() || segments.split('/').all(|s| !matches!(s, "" | "." | ".."))
}

/// A segment with its percent-encoding undone.
pub(crate) fn decode<'a>(segment: &'a str, what: &'static str) -> Result<Cow<'a, str>, Malformed> {
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    let digits = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count();
    if segment.split('%').skip(1).any(|rest| digits(rest) != 2) {
        return Err(Malformed(what));
    }
    percent_decode_str(segment).decode_utf8().map_err(|_| Malformed(what))
}

/// The query of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a>(pub(crate) &'a str);

impl<'a> Query<'a> {
    /// The first value of `name`, decoded; undecodable values count as absent.
    pub(crate) fn get(self, name: &str) -> Option<Cow<'a, str>> {
        self.pairs().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Every `name=value`, decoded.
    pub(crate) fn pairs(self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        self.0.split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((form_decode(name)?, form_decode(value)?))
        })
    }

    /// The values of all `prefix`ed names, without the prefix; the first of equal names wins.
    pub(crate) fn prefixed(self, prefix: &str) -> std::collections::BTreeMap<String, String> {
        let mut found = std::collections::BTreeMap::new();
        if self.0.is_empty() {
            return found;
        }
        for (name, value) in self.pairs() {
            if let Some(name) = name.strip_prefix(prefix) {
                found.entry(name.to_owned()).or_insert_with(|| value.into_owned());
            }
        }
        found
    }
}

/// In a query, unlike in a path, a plus sign is a space.
fn form_decode(text: &str) -> Option<Cow<'_, str>> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
        return Some(Cow::Owned(decoded.into_owned()));
    }
    decode(text, "a query parameter").ok()
}

#[cfg(test)]
mod tests {
    use super::{Query, clean, decode};

    #[test]
    fn cleaning() {
        let cases = [
            ("/", "/"),
            ("", "/"),
            ("*", "/*"),
            ("//", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b"),
            ("//a///b", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/../../a", "/a"),
            ("/a/%2e%2e/b", "/a/%2e%2e/b"),
        ];
        for (path, expected) in cases {
            assert_eq!(clean(path), expected, "{path:?}");
        }
    }

    #[test]
    fn decoding() {
        assert_eq!(decode("a%2Fb+c", "x").unwrap(), "a/b+c");
        for broken in ["%ff", "100%", "%zz", "%2", "a%%41"] {
            assert!(decode(broken, "x").is_err(), "{broken}");
        }
    }

    #[test]
    fn queries() {
        let query =
            Query("metadata.ttlInSeconds=10&metadata.a=b+c%21&metadata.a=2&x&=&metadata.=e");
        let metadata = query.prefixed("metadata.");
        assert_eq!(metadata["ttlInSeconds"], "10");
        assert_eq!(metadata["a"], "b c!");
        assert_eq!(metadata[""], "e");
        assert_eq!(query.get("x").unwrap(), "");
        assert_eq!(query.get("y"), None);
    }
}
