//! How failure leaves the house: one [`Fault`], rendered by [`http`] and [`grpc`].
//!
//! A fault is one line of the [`catalogue`] (stable code, reason, status on both transports) plus what happened this
//! time. Handlers make faults; only the two renderers know what bytes they become, so the same mistake answers the same
//! over HTTP and gRPC.

pub mod catalogue;
pub(crate) mod codes;
pub(crate) mod grpc;
pub(crate) mod http;

pub use catalogue::Entry;

use ::http::{HeaderName, HeaderValue, StatusCode};
use std::{collections::BTreeMap, fmt, time::Duration};
use tonic::Code;

/// A failure on its way to a client. Boxed: the way of success should not carry its weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(Box<Details>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Details {
    entry: &'static Entry,
    http: StatusCode,
    grpc: Code,
    message: String,
    info: BTreeMap<String, String>,
    resource: Option<Resource>,
    violations: Vec<(String, String)>,
    retry_after: Option<Duration>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What a fault is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) description: String,
}

impl Fault {
    /// What `entry` says, about what `message` says. The entry's remedy is put behind the message.
    #[must_use]
    pub fn new(entry: &'static Entry, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if !entry.remedy.is_empty() {
            message.push_str(". ");
            message.push_str(entry.remedy);
        }
        let http = StatusCode::from_u16(entry.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self(Box::new(Details {
            entry,
            http,
            grpc: entry.grpc,
            message,
            info: BTreeMap::new(),
            resource: None,
            violations: Vec::new(),
            retry_after: None,
            headers: Vec::new(),
        }))
    }

    /// The same with other statuses than the catalogue's: for the few codes whose status depends on the cause.
    #[must_use]
    pub fn status(mut self, http: StatusCode, grpc: Code) -> Self {
        self.0.http = http;
        self.0.grpc = grpc;
        self
    }

    /// The same with an entry in the `metadata` of its `ErrorInfo`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.0.info.insert(key.to_owned(), value.into());
        self
    }

    /// The same with the resource it is about.
    #[must_use]
    pub(crate) fn about(mut self, kind: &'static str, name: &str, described: bool) -> Self {
        let description = if described { self.0.message.clone() } else { String::new() };
        self.0.resource = Some(Resource { kind, name: name.to_owned(), description });
        self
    }

    /// The same with a field that is wrong.
    #[must_use]
    pub fn violation(mut self, field: &str, description: impl Into<String>) -> Self {
        self.0.violations.push((field.to_owned(), description.into()));
        self
    }

    /// The same with a hint when to try again.
    #[must_use]
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.0.retry_after = Some(pause);
        self
    }

    /// The same with headers of its own, over both transports.
    #[must_use]
    pub(crate) fn headers(mut self, headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        self.0.headers = headers;
        self
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.entry.code
    }

    /// The status over HTTP.
    #[must_use]
    pub fn http(&self) -> StatusCode {
        self.0.http
    }

    /// The status over gRPC.
    #[must_use]
    pub fn grpc(&self) -> Code {
        self.0.grpc
    }

    /// What happened.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.message())
    }
}

impl std::error::Error for Fault {}
