//! # Identity: who an app is, proved to other hosts
//!
//! ```text
//!   Authority (roots and tokens, in a key space)
//!       | signs a key's request, for a token that was never used or for a certificate that still holds
//!       v
//!   Workload (key, certificate, bundle; swapped while in use) --> rustls settings, for serving and for calling
//!       |
//!       v
//!   Trust: chain, validity, exactly one SPIFFE id, the trust domain, and whoever was expected
//! ```
//!
//! | file | what |
//! |---|---|
//! | `id.rs` | [`Identity`]: `spiffe://<trust domain>/ns/<namespace>/<app id>`, parsed strictly |
//! | `trust.rs` | [`Trust`]: judges certificate chains; pure but for the clock it is given |
//! | `signing.rs` | roots, leaves, cross-signatures: what is written into certificates |
//! | `authority/` | [`Authority`]: roots and join tokens in a key space, rotation, enrolment |
//! | `sealing.rs` | keys at rest |
//! | `token.rs` | [`JoinToken`]: what a person carries from one host to another |
//! | `enrolment.rs` | what two hosts say to each other when one joins or renews |
//! | `workload.rs` | [`Workload`]: what one app proves itself with |
//! | `tls.rs` | rustls settings made of workloads |
//! | `refused.rs` | [`Refused`]: every reason to believe nothing, each with a stable code |
//!
//! The invariant: an identity is what a verified certificate says and nothing else. No header, address or host name ever
//! adds to it, and a certificate that could be read in two ways says nothing.
//!
//! It is not: a general certificate authority, a secret store, or an authorisation system. Who may do what is decided
//! elsewhere, with the identity as input.
#![forbid(unsafe_code)]

mod authority;
mod enrolment;
mod id;
mod refused;
mod sealing;
mod signing;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod trust;
mod workload;

pub use authority::{
    Authority, AuthorityError, AuthoritySettings, AuthorityStatus, RootState, RootStatus,
};
pub use enrolment::{ENROL_PATH, EnrolAnswer, EnrolRequest, KeyRequest, MESSAGE_BYTES_MAX};
pub use id::Identity;
pub use refused::Refused;
pub use sealing::SealKey;
pub use tls::{AUTHORITY_NAME, AuthorityFace, authority_server, joining, peer};
pub use token::{JoinToken, fingerprint};
pub use trust::{Trust, Usage};
pub use workload::{Credentials, Enrolled, Enrolments, Workload};
