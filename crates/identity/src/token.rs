//! What a person carries from the authority's host to one that joins: a secret for one use, and the fingerprint of the
//! root to expect. One word, so that neither half is forgotten.

use crate::{Refused, signing::random};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use std::fmt;

const PREFIX: &str = "outrigger-join-1";

/// A secret for one use and the root to expect.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    secret: [u8; 32],
    root: [u8; 32],
}

/// The fingerprint of a certificate: SHA-256 of all of it.
#[must_use]
pub fn fingerprint(der: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, der).as_ref());
    bytes
}

impl JoinToken {
    /// A new secret for hosts that are to trust the root `root`.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub(crate) fn new(root: &[u8]) -> Result<Self, Refused> {
        Ok(Self { secret: random()?, root: fingerprint(root) })
    }

    /// Reads the text that [`JoinToken::text`] gave.
    ///
    /// # Errors
    /// [`Refused::NotAToken`].
    pub fn parse(text: &str) -> Result<Self, Refused> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [PREFIX, secret, root] = parts[..] else { return Err(Refused::NotAToken) };
        let read = |part: &str| {
            let bytes = BASE64.decode(part).ok()?;
            <[u8; 32]>::try_from(bytes).ok()
        };
        match (read(secret), read(root)) {
            (Some(secret), Some(root)) => Ok(Self { secret, root }),
            _ => Err(Refused::NotAToken),
        }
    }

    /// The text to carry. It is a secret until it is used.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{PREFIX}.{}.{}", BASE64.encode(self.secret), BASE64.encode(self.root))
    }

    /// The secret, for the authority that made it.
    #[must_use]
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// Fingerprint of the root to expect.
    #[must_use]
    pub fn root(&self) -> &[u8; 32] {
        &self.root
    }
}

/// Under what the authority knows a secret: who reads its store learns no token.
pub(crate) fn stored(secret: &[u8]) -> Vec<u8> {
    digest(&SHA256, &[b"join token".as_slice(), secret].concat()).as_ref().to_vec()
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken")
    }
}

#[cfg(test)]
mod tests {
    use super::JoinToken;

    #[test]
    fn only_whole_tokens_are_read() {
        let token = JoinToken::new(b"root").unwrap();
        let text = token.text();
        assert_eq!(JoinToken::parse(&format!(" {text}\n")).unwrap(), token);
        assert!(!format!("{token:?}").contains(&text[17..40]));
        for bad in [
            "",
            "outrigger-join-1",
            &text[..text.len() - 1],
            &text[1..],
            &format!("{text}.x"),
            &text.replace('.', ":"),
            &text.replace("join-1", "join-2"),
        ] {
            assert_eq!(
                JoinToken::parse(bad).unwrap_err().code(),
                "ERR_IDENTITY_NOT_A_TOKEN",
                "{bad}"
            );
        }
    }
}
