//! What the end of an attempt means, said by the caller, who alone knows the protocol.

use std::time::Duration;

/// What the end of an attempt means for retry and breaker.
///
/// | class | retried | counts for the breaker as |
/// |---|---|---|
/// | success | no | success |
/// | failure | yes | failure |
/// | HTTP or gRPC status | if [`crate::Matching`] has it | failure if it has it, else success |
/// | permanent | no | failure |
/// | ignored | no | nothing: the permit is given back |
///
/// An attempt that ran out of time, or was dropped, is a failure without asking anyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// As hoped.
    Success,
    /// Failed without a status: no connection, a reset stream.
    Failure,
    /// Failed with this HTTP status.
    Http(u16),
    /// Failed with this gRPC status code.
    Grpc(u16),
    /// Failed, and trying again is impossible or useless: the request's body is gone.
    Permanent,
    /// Says nothing about the other side: the caller's own fault.
    Ignored,
}

/// How far an attempt got that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// The callee has not seen it: no connection, a refused stream. Whatever it is, it may be made again.
    NotSent,
    /// It may have been carried out.
    #[default]
    Sent,
}

/// What a callee that failed says on trying again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pushback {
    /// Nothing.
    #[default]
    None,
    /// Not before this has passed (`Retry-After`).
    After(Duration),
    /// Not here, but another endpoint may do.
    Elsewhere,
    /// Not at all: it tried already, or everybody there has too much to do.
    No,
}

/// How an attempt ended, in full. A [`Class`] alone will do where nothing more is known.
///
/// ```
/// use outrigger_resilience::{Class, Pushback, Reach, Report};
/// use std::time::Duration;
/// let refused = Report { reach: Reach::NotSent, ..Report::from(Class::Failure) };
/// let busy = Report {
///     pushback: Pushback::After(Duration::from_secs(2)),
///     ..Report::from(Class::Http(503))
/// };
/// assert!(busy.overloaded() && !refused.overloaded());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// What the end means.
    pub class: Class,
    /// How far the attempt got.
    pub reach: Reach,
    /// What the callee says on trying again.
    pub pushback: Pushback,
}

impl From<Class> for Report {
    fn from(class: Class) -> Self {
        Self { class, reach: Reach::default(), pushback: Pushback::default() }
    }
}

impl Report {
    /// Whether the callee has too much to do, rather than something wrong with it: 429, 503 that says when to come back,
    /// `RESOURCE_EXHAUSTED`.
    #[must_use]
    pub fn overloaded(&self) -> bool {
        match self.class {
            Class::Http(429) | Class::Grpc(8) => true,
            Class::Http(503) | Class::Grpc(14) => self.pushback != Pushback::None,
            _ => false,
        }
    }

    /// For how long the callee asks to be left alone, if it does.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self.pushback {
            Pushback::After(wait) => Some(wait),
            _ => None,
        }
    }
}
