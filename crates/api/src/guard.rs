//! Who may ask at all: the token that requests must carry.

use crate::{host::Host, http::Reply, names};
use http::{HeaderMap, StatusCode};

/// Whether a request with these headers may be served; one that is `free` (a probe) needs no token.
pub(crate) fn admits(host: &Host, free: bool, headers: &HeaderMap) -> bool {
    let Some(expected) = host.settings.api_token.as_deref().filter(|token| !token.is_empty())
    else {
        return true;
    };
    if free {
        return true;
    }
    let given = headers.get(names::API_TOKEN).map(http::HeaderValue::as_bytes);
    given.is_some_and(|given| same(given, expected.as_bytes()))
}

/// The answer to a request without the token. Plain text, as clients expect it.
pub(crate) fn refusal() -> Reply {
    Reply::text(StatusCode::UNAUTHORIZED, "invalid api token")
}

/// Compares in a time that does not tell how much of a guess was right. The length may be learnt; it is no secret.
fn same(given: &[u8], expected: &[u8]) -> bool {
    if given.len() != expected.len() {
        return false;
    }
    let difference = given.iter().zip(expected).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn compares_every_byte() {
        assert!(same(b"", b""));
        assert!(same(b"token", b"token"));
        for wrong in [&b"Token"[..], b"tokeN", b"toke", b"tokens", b""] {
            assert!(!same(wrong, b"token"));
        }
    }
}
