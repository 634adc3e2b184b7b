//! How long a call may take, as four separate bounds that are easily mistaken for one another.

use outrigger_kernel::Deadline;
use std::time::Duration;

/// How long a call may take.
///
/// ```text
///   request body moving ...|.. waiting ..| headers |...... bodies moving ......| end
///   <------------------- until_answer ------------>
///                          <-- answer --->          <- stall -> between pieces
///   <------------------------------- whole ------------------------------------>
/// ```
///
/// A bound that is `None` does not exist. A call should have at least one of the first two; a stream that may
/// legitimately be silent for hours (a gRPC subscription, server-sent events) has no others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patience {
    /// When the response headers must be there, however busy the request body is. For a timeout somebody configured.
    pub until_answer: Option<Deadline>,
    /// How long nothing may happen while waiting for the response headers; a request body that moves is something. A
    /// slow upload is not cut off as long as it moves.
    pub answer: Option<Duration>,
    /// How long neither body may move once the response headers are there. Not applied to gRPC and server-sent events,
    /// whose silence says nothing.
    pub stall: Option<Duration>,
    /// When the call must be over, body included.
    pub whole: Option<Deadline>,
}

/// How long nothing may happen before a call counts as dead, unless something else is configured.
pub const STALL_DEFAULT: Duration = Duration::from_secs(60);

impl Patience {
    /// The answer must begin by `deadline`, then no more than [`STALL_DEFAULT`] of silence.
    #[must_use]
    pub fn until(deadline: Deadline) -> Self {
        Self { until_answer: Some(deadline), stall: Some(STALL_DEFAULT), ..Self::default() }
    }

    /// No deadline, but no more than `silence` without anything moving, at any time.
    #[must_use]
    pub fn moving(silence: Duration) -> Self {
        Self { answer: Some(silence), stall: Some(silence), ..Self::default() }
    }

    /// No bounds at all: the caller ends the call by dropping it.
    #[must_use]
    pub fn endless() -> Self {
        Self::default()
    }

    /// The same, with the answer also due by `deadline`.
    #[must_use]
    pub fn no_later_than(mut self, deadline: Deadline) -> Self {
        self.until_answer = Some(self.until_answer.map_or(deadline, |own| own.earliest(deadline)));
        self
    }
}
