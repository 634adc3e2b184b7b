//! Why somebody is not believed. Every reason has a code that keeps its meaning, and says what to do.

use outrigger_kernel::{Kind, Problem};

/// Why somebody is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A name that cannot stand in a SPIFFE id.
    #[error("{name:?} cannot be part of an identity: it is made of {rule}")]
    BadName {
        /// The name.
        name: String,
        /// What it should be made of.
        rule: &'static str,
    },
    /// A SPIFFE id that is not one of an app.
    #[error(
        "{uri:?} is not the identity of an app: spiffe://<trust domain>/ns/<namespace>/<app id>"
    )]
    NotAnApp {
        /// What it says.
        uri: String,
    },
    /// Not a certificate, or one that says a thing twice.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// No certificate at all.
    #[error("no certificate was shown")]
    NoCertificate,
    /// No SPIFFE id, or several.
    #[error("the certificate has {0} URIs as names, and must have exactly one")]
    NotOneName(usize),
    /// Its time is over.
    #[error("the certificate expired {0} s ago")]
    Expired(u64),
    /// Its time has not begun.
    #[error("the certificate is valid only in {0} s: the clock of one of the two hosts is wrong")]
    NotYetValid(u64),
    /// Signed by nobody we trust, or for something else.
    #[error("the certificate does not lead to a root that is trusted here: {0}")]
    Untrusted(String),
    /// A certificate that may sign others is not one to be shown.
    #[error("the certificate is one of an authority, not of an app")]
    IsAuthority,
    /// Another trust domain.
    #[error("{found} belongs to the trust domain {theirs}, and this is {ours}")]
    OtherDomain {
        /// The identity.
        found: String,
        /// Its trust domain.
        theirs: String,
        /// Ours.
        ours: String,
    },
    /// Somebody else than expected.
    #[error("expected {expected}, and found {found}")]
    SomebodyElse {
        /// Who was expected.
        expected: String,
        /// Who is there.
        found: String,
    },
    /// The key does not belong to the certificate.
    #[error("the key does not fit the certificate: {0}")]
    KeyMismatch(String),
    /// Not a token.
    #[error("that is not a join token")]
    NotAToken,
    /// A token that was never given, or not by this authority.
    #[error("the join token is unknown here")]
    UnknownToken,
    /// A token that was used.
    #[error("the join token has been used")]
    UsedToken,
    /// A token whose time is over.
    #[error("the join token has expired")]
    ExpiredToken,
    /// A token for another app.
    #[error("the join token is for {expected}, and {asked} was asked for")]
    TokenForAnother {
        /// Whom it is for.
        expected: String,
        /// Who was asked for.
        asked: String,
    },
    /// The authority shows another root than the token names.
    #[error("the authority does not show the root that the join token names")]
    OtherRoot,
    /// Neither a token nor a certificate.
    #[error("neither a join token nor a certificate was shown")]
    NoProof,
    /// The request for a certificate cannot be used.
    #[error("the certificate request is not usable: {0}")]
    BadRequest(String),
    /// No app of this host has that name.
    #[error("no app here goes by the name {0:?}")]
    NoSuchName(String),
}

impl Refused {
    /// Its code, which keeps its meaning.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadName { .. } => "ERR_IDENTITY_BAD_NAME",
            Self::NotAnApp { .. } => "ERR_IDENTITY_NOT_AN_APP",
            Self::Unreadable(_) => "ERR_IDENTITY_UNREADABLE",
            Self::NoCertificate => "ERR_IDENTITY_NO_CERTIFICATE",
            Self::NotOneName(_) => "ERR_IDENTITY_NOT_ONE_NAME",
            Self::Expired(_) => "ERR_IDENTITY_EXPIRED",
            Self::NotYetValid(_) => "ERR_IDENTITY_NOT_YET_VALID",
            Self::Untrusted(_) => "ERR_IDENTITY_UNTRUSTED",
            Self::IsAuthority => "ERR_IDENTITY_IS_AUTHORITY",
            Self::OtherDomain { .. } => "ERR_IDENTITY_OTHER_DOMAIN",
            Self::SomebodyElse { .. } => "ERR_IDENTITY_SOMEBODY_ELSE",
            Self::KeyMismatch(_) => "ERR_IDENTITY_KEY_MISMATCH",
            Self::NotAToken => "ERR_IDENTITY_NOT_A_TOKEN",
            Self::UnknownToken => "ERR_IDENTITY_TOKEN_UNKNOWN",
            Self::UsedToken => "ERR_IDENTITY_TOKEN_USED",
            Self::ExpiredToken => "ERR_IDENTITY_TOKEN_EXPIRED",
            Self::TokenForAnother { .. } => "ERR_IDENTITY_TOKEN_FOR_ANOTHER",
            Self::OtherRoot => "ERR_IDENTITY_OTHER_ROOT",
            Self::NoProof => "ERR_IDENTITY_NO_PROOF",
            Self::BadRequest(_) => "ERR_IDENTITY_BAD_REQUEST",
            Self::NoSuchName(_) => "ERR_IDENTITY_NO_SUCH_NAME",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::BadName { .. } => "choose another name",
            Self::NotAnApp { .. } | Self::NotOneName(_) | Self::IsAuthority => {
                "have certificates issued for apps, with one name of this form and no other URI"
            }
            Self::Unreadable(_) => "look whether the file is a PEM certificate and whole",
            Self::NoCertificate | Self::NoProof => {
                "give the calling runtime an identity: `outrigger ca token`"
            }
            Self::Expired(_) => {
                "let the host renew (its runtime does that by itself while it runs), or join anew with a token"
            }
            Self::NotYetValid(_) => "set the clocks of both hosts",
            Self::Untrusted(_) | Self::OtherRoot => {
                "both hosts must have joined the same authority: compare `outrigger ca show`"
            }
            Self::OtherDomain { .. } => "hosts call each other within one trust domain",
            Self::SomebodyElse { .. } => "the address belongs to another app: correct it",
            Self::KeyMismatch(_) => "give key and certificate that were made together",
            Self::NotAToken => "pass the text that `outrigger ca token` printed, whole",
            Self::UnknownToken | Self::UsedToken | Self::ExpiredToken => {
                "tokens are for one use within 15 minutes: make a new one with `outrigger ca token`"
            }
            Self::TokenForAnother { .. } => "make a token for this app and namespace",
            Self::BadRequest(_) => "both hosts should run the same version",
            Self::NoSuchName(_) => "the app is not hosted there, or has no identity yet",
        }
    }
}

impl From<&Refused> for Problem {
    fn from(refused: &Refused) -> Self {
        Self::new(refused.code(), Kind::Forbidden, refused.to_string()).advise(refused.remedy())
    }
}
