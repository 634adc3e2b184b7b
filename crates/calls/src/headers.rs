//! Headers on their way through: what belongs to one connection stays behind, what the next one needs is added.
//!
//! Hop-by-hop headers (RFC 9110 section 7.6.1) describe a connection, not a message. Passing them on is how requests get
//! smuggled: two servers that disagree about where a message ends. They go away in both directions, those that a
//! `Connection` header names included.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
        TRANSFER_ENCODING, UPGRADE,
    },
};
use std::net::IpAddr;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Who passes a request on, as `Forwarded`, `X-Forwarded-For` and `X-Forwarded-Host` say it.
///
/// `X-Forwarded-Host` is left alone when the request already has one: apps build links from it, and the name the
/// outermost caller used is the only one they can mean.
#[derive(Clone, Debug)]
pub struct Forwarding {
    address: HeaderValue,
    host: Option<HeaderValue>,
    element: HeaderValue,
}

impl Forwarding {
    /// Says that `address`, called `host`, passes requests on. A host that cannot stand in a header is left out.
    #[must_use]
    pub fn new(address: IpAddr, host: &str) -> Self {
        // RFC 7239: an IPv6 address stands in brackets and quotes.
        let node = match address {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("\"[{v6}]\""),
        };
        let host_plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        let host = Some(host).filter(|host| host_plain && !host.is_empty());
        let named = host.map(|host| format!(";host={host}")).unwrap_or_default();
        let value = |text: String| {
            HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
        };
        Self {
            address: value(address.to_string()),
            host: host.map(|host| value(host.to_owned())),
            element: value(format!("for={node};by={node}{named}")),
        }
    }

    fn apply(&self, headers: &mut HeaderMap) {
        headers.append(X_FORWARDED_FOR, self.address.clone());
        headers.append(FORWARDED, self.element.clone());
        if let Some(host) = &self.host {
            headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
        }
    }
}

/// What happens to the headers of a request besides losing the hop-by-hop ones.
#[derive(Clone, Debug, Default)]
pub struct HeaderEdits<'a> {
    /// Taken away: what was meant for us, such as the caller's token.
    pub remove: &'a [HeaderName],
    /// Set towards the callee; what the caller sent under these names is replaced.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Who passes it on.
    pub forwarding: Option<&'a Forwarding>,
}

impl HeaderEdits<'_> {
    /// Does all of it, in the order that leaves nothing of the caller's own under a name we set.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        strip_hop_by_hop(headers);
        for name in self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        if let Some(forwarding) = self.forwarding {
            forwarding.apply(headers);
        }
    }
}

/// Takes away what belongs to one connection only. `TE: trailers` stays, as it is what lets trailers (and gRPC) through.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        strip_named_by_connection(headers);
    }
    if let Some(te) = headers.remove(TE)
        && names(&te).any(|coding| coding.eq_ignore_ascii_case("trailers"))
    {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TRANSFER_ENCODING,
        UPGRADE,
        HTTP2_SETTINGS,
        // Answered by the server that reads the body, which is ours; the next one is asked without waiting.
        EXPECT,
    ] {
        headers.remove(name);
    }
}

fn strip_named_by_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(names)
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        // What says where the message ends or where it goes cannot be wished away.
        .filter(|name| *name != TE && *name != CONTENT_LENGTH && *name != http::header::HOST)
        .collect();
    for name in named {
        headers.remove(name);
    }
}

fn names(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim)
}

/// Makes `Content-Length` tell the truth about a body of `length` bytes, or nothing about one of unknown length.
pub(crate) fn correct_length(headers: &mut HeaderMap, length: Option<u64>) {
    match length {
        None => {
            headers.remove(CONTENT_LENGTH);
        }
        Some(length) => {
            let mut stated = headers.get_all(CONTENT_LENGTH).iter();
            let Some(first) = stated.next() else { return };
            let alone = stated.next().is_none();
            let told = first.to_str().ok().and_then(|text| text.parse::<u64>().ok());
            if !alone || told != Some(length) {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Forwarding, HeaderEdits, correct_length, strip_hop_by_hop};
    use http::{HeaderMap, HeaderName, HeaderValue};

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = headers.iter();
        let pairs = pairs.map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name, value);
        }
        map
    }

    #[test]
    fn connection_headers_stay_behind() {
        let mut headers = map(&[
            ("connection", "close, X-One"),
            ("connection", "x-two, te, content-length"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "secret"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("expect", "100-continue"),
            ("te", "gzip, trailers"),
            ("trailer", "x-sum"),
            ("content-length", "3"),
            ("authorization", "kept"),
        ]);
        strip_hop_by_hop(&mut headers);
        let expected = map(&[
            ("x-three", "3"),
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("content-length", "3"),
            ("authorization", "kept"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn edits_replace_what_the_caller_sent() {
        let forwarding = Forwarding::new([10, 0, 0, 7].into(), "node-1");
        let set = |n, v| (HeaderName::from_static(n), HeaderValue::from_static(v));
        let edits = HeaderEdits {
            remove: &[HeaderName::from_static("x-token")],
            set: vec![set("x-caller", "orders")],
            forwarding: Some(&forwarding),
        };
        let mut headers = map(&[
            ("x-token", "secret"),
            ("x-caller", "forged"),
            ("x-caller", "forged again"),
            ("x-forwarded-for", "1.2.3.4"),
            ("connection", "x-forwarded-for"),
        ]);
        edits.apply(&mut headers);
        assert_eq!(headers["x-caller"], "orders");
        assert_eq!(headers.get_all("x-caller").iter().count(), 1);
        assert!(!headers.contains_key("x-token"));
        assert_eq!(headers["x-forwarded-for"], "10.0.0.7", "what Connection names goes first");
        assert_eq!(headers["forwarded"], "for=10.0.0.7;by=10.0.0.7;host=node-1");
        assert_eq!(headers["x-forwarded-host"], "node-1");
    }

    #[test]
    fn a_chain_of_proxies_adds_up_and_the_first_host_stays() {
        let mut headers = map(&[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-host", "shop.eu")]);
        let v6 = Forwarding::new("::1".parse().unwrap(), "bad host\r\n");
        HeaderEdits { forwarding: Some(&v6), ..HeaderEdits::default() }.apply(&mut headers);
        let all: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
        assert_eq!(all, ["1.2.3.4", "::1"]);
        assert_eq!(headers["forwarded"], "for=\"[::1]\";by=\"[::1]\"");
        assert_eq!(headers["x-forwarded-host"], "shop.eu");
    }

    #[test]
    fn the_length_is_told_right_or_not_at_all() {
        let mut headers = map(&[("content-length", "5"), ("content-length", "7")]);
        correct_length(&mut headers, Some(5));
        assert_eq!(headers, map(&[("content-length", "5")]));
        correct_length(&mut headers, None);
        assert!(headers.is_empty());
        correct_length(&mut headers, Some(3));
        assert!(headers.is_empty(), "not added: the protocol layer knows best");
    }
}
