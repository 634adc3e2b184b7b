//! What the tables of this crate store. Protocol-buffer fields, so that later releases can add some; the number of a
//! removed field is never used again.

/// A root of the authority.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct RootRow {
    /// The trust domain it is for.
    #[prost(string, tag = "1")]
    pub(crate) trust_domain: String,
    /// Its certificate.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) certificate: Vec<u8>,
    /// Its key, sealed together with the fingerprint of the certificate.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) sealed_key: Vec<u8>,
    /// The same root signed by the one before it; empty for the first.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) crossed: Vec<u8>,
    /// When it stops being trusted; 0 while it signs.
    #[prost(uint64, tag = "5")]
    pub(crate) retires_ms: u64,
    /// The longest life that was given to a leaf of it.
    #[prost(uint64, tag = "6")]
    pub(crate) longest_leaf_ms: u64,
}

/// A join token.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct TokenRow {
    /// The namespace of the app it is for.
    #[prost(string, tag = "1")]
    pub(crate) namespace: String,
    /// The app it is for.
    #[prost(string, tag = "2")]
    pub(crate) app_id: String,
    /// Until when it can be used.
    #[prost(uint64, tag = "3")]
    pub(crate) expires_ms: u64,
    /// When it was used; 0 when it was not.
    #[prost(uint64, tag = "4")]
    pub(crate) used_ms: u64,
}

/// What an app proves itself with, got from an authority elsewhere.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct EnrolledRow {
    /// Where the authority is.
    #[prost(string, tag = "1")]
    pub(crate) authority: String,
    /// The app's certificate and what leads to the root.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(crate) chain: Vec<Vec<u8>>,
    /// The roots.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub(crate) bundle: Vec<Vec<u8>>,
    /// The key, sealed together with the fingerprint of the certificate.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) sealed_key: Vec<u8>,
    /// How much clocks may differ.
    #[prost(uint64, tag = "5")]
    pub(crate) skew_ms: u64,
}
