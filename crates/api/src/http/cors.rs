//! Cross-origin requests: which scripts in a browser may call.
//!
//! Without allowed origins nothing is said and browsers refuse, which is the default. Only preflight requests are
//! answered here; an `OPTIONS` without the preflight header is a request like any other.

use super::Reply;
use http::{HeaderMap, HeaderValue, Method, header, request::Parts};

const METHODS: HeaderValue = HeaderValue::from_static("HEAD, GET, POST, PUT, PATCH, DELETE");

/// The answer to a preflight request of an allowed origin.
pub(super) fn preflight(allowed: &[String], parts: &Parts) -> Option<Reply> {
    if parts.method != Method::OPTIONS
        || !parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        return None;
    }
    permitted(allowed, &parts.headers)?;
    let mut reply = Reply::empty();
    decorate(allowed, parts, reply.headers_mut());
    let headers = reply.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    let asked = parts.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    if let Some(asked) = asked {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    Some(reply)
}

/// Tells the browser that the origin may read the answer.
pub(super) fn decorate(allowed: &[String], parts: &Parts, headers: &mut HeaderMap) {
    if allowed.is_empty() {
        return;
    }
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = permitted(allowed, &parts.headers) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
}

fn permitted(allowed: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    if allowed.is_empty() {
        return None;
    }
    let origin = headers.get(header::ORIGIN)?;
    if allowed.iter().any(|one| one == "*") {
        return Some(HeaderValue::from_static("*"));
    }
    let named = allowed.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(origin.as_bytes()));
    named.then(|| origin.clone())
}
