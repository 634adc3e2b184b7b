//! Keys at rest: AES-256-GCM under a key that is kept beside the store and not in it.
//!
//! What is taken out of the store, such as a backup of it, then holds no usable key; whoever reads the store and the file
//! of the seal together does. What a sealed key belongs to goes into the seal, so that one cannot be put in the place of
//! another.

use crate::{Refused, signing::random};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use std::fmt;

/// The key of the seal.
#[derive(Clone)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn new() -> Result<Self, Refused> {
        Ok(Self(random()?))
    }

    /// The one that these bytes are.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes, to be kept where only their owner reads them.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn seal(&self, secret: &[u8], belongs_to: &[u8]) -> Result<Vec<u8>, Refused> {
        let failed = |_| Refused::BadRequest("a key could not be sealed".to_owned());
        let key = RandomizedNonceKey::new(&AES_256_GCM, &self.0).map_err(failed)?;
        let mut sealed = secret.to_vec();
        let nonce =
            key.seal_in_place_append_tag(Aad::from(belongs_to), &mut sealed).map_err(failed)?;
        Ok([nonce.as_ref().as_slice(), &sealed].concat())
    }

    /// `None` when it was sealed by another key, for something else, or is damaged.
    pub(crate) fn open(&self, sealed: &[u8], belongs_to: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &self.0).ok()?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut opened = sealed.to_vec();
        let plain = key.open_in_place(nonce, Aad::from(belongs_to), &mut opened).ok()?;
        Some(plain.to_vec())
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey")
    }
}

#[cfg(test)]
mod tests {
    use super::SealKey;

    #[test]
    fn only_the_same_key_opens_it_for_the_same_thing() {
        let key = SealKey::new().unwrap();
        let sealed = key.seal(b"secret", b"root 1").unwrap();
        assert_eq!(key.open(&sealed, b"root 1").unwrap(), b"secret");
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert!(key.open(&sealed, b"root 2").is_none());
        assert!(SealKey::new().unwrap().open(&sealed, b"root 1").is_none());
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(key.open(&damaged, b"root 1").is_none());
            assert!(key.open(&sealed[..at], b"root 1").is_none());
        }
    }
}
