//! The `Cache-Control` header of requests and responses (RFC 9111 section 5.2, RFC 5861), read leniently in the direction
//! that caches less: what is said twice counts in its stricter form, and a number that is none counts as zero.

use http::{HeaderMap, header};
use std::time::Duration;

/// How many bytes of the header are read; what comes after is treated as `no-store`.
const BYTES_MAX: usize = 4_096;

/// What a `Cache-Control` header says, and `Pragma: no-cache` where it is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// Not to be kept.
    pub no_store: bool,
    /// Not to be used without asking the origin.
    pub no_cache: bool,
    /// Response: stale is of no use.
    pub must_revalidate: bool,
    /// Response: the same for shared caches.
    pub proxy_revalidate: bool,
    /// Response: for any cache.
    pub public: bool,
    /// Response: for the cache of one user only.
    pub private: bool,
    /// Response: kept only if the status is understood.
    pub must_understand: bool,
    /// Request: nothing that would have to be fetched.
    pub only_if_cached: bool,
    /// Response: how long it is fresh. Request: how old it may be.
    pub max_age: Option<Duration>,
    /// Response: how long it is fresh in shared caches.
    pub s_maxage: Option<Duration>,
    /// Request: how long it must still be fresh.
    pub min_fresh: Option<Duration>,
    /// Request: by how much it may be stale.
    pub max_stale: Option<Duration>,
    /// Response: for how long it may be used while it is refreshed.
    pub stale_while_revalidate: Option<Duration>,
    /// For how long it may be used when the origin fails.
    pub stale_if_error: Option<Duration>,
}

impl Directives {
    /// Reads them.
    ///
    /// ```
    /// use http::HeaderMap;
    /// use outrigger_resilience::cache::Directives;
    /// use std::time::Duration;
    ///
    /// let mut headers = HeaderMap::new();
    /// headers.insert("cache-control", "Public, max-age=60, stale-if-error=\"300\"".parse()?);
    /// let said = Directives::of(&headers);
    /// assert!(said.public && !said.private);
    /// assert_eq!(said.max_age, Some(Duration::from_secs(60)));
    /// assert_eq!(said.stale_if_error, Some(Duration::from_secs(300)));
    /// # Ok::<(), http::header::InvalidHeaderValue>(())
    /// ```
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut said = Self::default();
        let mut bytes = 0;
        for value in headers.get_all(header::CACHE_CONTROL) {
            bytes += value.len();
            match value.to_str() {
                Ok(text) if bytes <= BYTES_MAX => split(text).for_each(|one| said.read(one)),
                _ => said.no_store = true,
            }
        }
        if bytes == 0 {
            let pragma = headers.get(header::PRAGMA).and_then(|value| value.to_str().ok());
            said.no_cache = pragma.is_some_and(|pragma| {
                pragma.split(',').any(|one| one.trim().eq_ignore_ascii_case("no-cache"))
            });
        }
        said
    }

    fn read(&mut self, directive: &str) {
        let (name, argument) = match directive.split_once('=') {
            Some((name, argument)) => (name.trim(), Some(argument.trim().trim_matches('"'))),
            None => (directive.trim(), None),
        };
        let seconds = |argument: Option<&str>| Some(argument.map_or(Duration::ZERO, seconds));
        let at_most = |before: Option<Duration>, argument| {
            seconds(argument).map(|now| before.map_or(now, |before| before.min(now)))
        };
        match name.to_ascii_lowercase().as_str() {
            "no-store" => self.no_store = true,
            // The forms that name header fields may be taken for the whole response; they are.
            "no-cache" => self.no_cache = true,
            "private" => self.private = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "public" => self.public = true,
            "must-understand" => self.must_understand = true,
            "only-if-cached" => self.only_if_cached = true,
            "max-age" => self.max_age = at_most(self.max_age, argument),
            "s-maxage" => self.s_maxage = at_most(self.s_maxage, argument),
            "min-fresh" => self.min_fresh = seconds(argument),
            "max-stale" => self.max_stale = Some(argument.map_or(Duration::MAX, self::seconds)),
            "stale-while-revalidate" => {
                self.stale_while_revalidate = at_most(self.stale_while_revalidate, argument);
            }
            "stale-if-error" => self.stale_if_error = at_most(self.stale_if_error, argument),
            _ => {}
        }
    }
}

/// At the commas outside quotes.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |letter| {
        quoted ^= letter == '"';
        letter == ',' && !quoted
    })
}

/// Beyond 2^31 counts as that, as RFC 9111 section 1.2.2 has it.
fn seconds(text: &str) -> Duration {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let most = 1 << 31;
    let seconds = if is_number { text.parse().unwrap_or(most).min(most) } else { 0 };
    Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::Directives;
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;
    use std::time::Duration;

    fn read(values: &[&str]) -> Directives {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("cache-control", HeaderValue::from_str(value).unwrap());
        }
        Directives::of(&headers)
    }

    #[test]
    fn the_stricter_form_counts() {
        assert_eq!(read(&["max-age=60", "max-age=10"]).max_age, Some(Duration::from_secs(10)));
        assert_eq!(read(&["max-age=soon"]).max_age, Some(Duration::ZERO));
        assert_eq!(read(&["max-age=-1"]).max_age, Some(Duration::ZERO));
        let most = Some(Duration::from_secs(1 << 31));
        assert_eq!(read(&["max-age=99999999999999999999999"]).max_age, most);
        assert_eq!(read(&["max-stale"]).max_stale, Some(Duration::MAX));
    }

    #[test]
    fn quotes_hide_commas() {
        let said = read(&["private=\"a, no-store, b\", no-cache=\"set-cookie\""]);
        assert!(said.private && said.no_cache && !said.no_store);
    }

    #[test]
    fn pragma_speaks_only_when_cache_control_is_silent() {
        let mut headers = HeaderMap::new();
        headers.insert("pragma", HeaderValue::from_static("x, No-Cache"));
        assert!(Directives::of(&headers).no_cache);
        headers.insert("cache-control", HeaderValue::from_static("max-age=1"));
        assert!(!Directives::of(&headers).no_cache);
    }

    proptest! {
        #[test]
        fn anything_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..5_000)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                headers.insert("cache-control", value);
                let said = Directives::of(&headers);
                prop_assert!(bytes.len() <= 4_096 || said.no_store);
            }
        }
    }
}
