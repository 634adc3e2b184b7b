//! How long a call may take, as separate bounds that are easily mistaken for one another.

use outrigger_kernel::{Deadline, World};
use std::time::Duration;

/// How long a call may take. There is no way to make one without an end.
///
/// ```text
///   request body moving ...|.. waiting ..| headers |...... bodies moving ......| end
///   <------------------- until_answer ------------>
///                          <-- answer --->          <- stall -> between pieces
///   <------------------------------- whole ------------------------------------>
/// ```
///
/// | what is called | until the answer begins | from then on |
/// |---|---|---|
/// | [`Patience::until`] a deadline | the deadline | [`STALL_DEFAULT`] of silence |
/// | [`Patience::moving`], HTTP | so long after the last byte of the request | as long of silence, either way |
/// | the same, when the answer is server-sent events or gRPC | so long after the last byte of the request | [`Patience::quiet`] of silence |
/// | [`Patience::stream`], gRPC | [`Patience::quiet`] after the last byte of the request | the same |
///
/// A time that somebody named takes the place of these: [`Patience::no_later_than`] for the wait for the answer,
/// [`Patience::all_by`] for everything. What moves may go on: a body is not cut off for being long, only for standing
/// still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// When the response headers must be there, however busy the request body is. For a timeout somebody configured.
    pub(crate) until_answer: Option<Deadline>,
    /// How long the response headers may take after the last byte of the request; a slow upload is not cut off as long
    /// as it moves. `None` only where `until_answer`, or the timeout of a policy, takes its place.
    pub(crate) answer: Option<Duration>,
    /// How long neither body may move once the response headers are there.
    pub(crate) stall: Duration,
    /// The same for gRPC and server-sent events, which are silent when there is no message.
    pub(crate) quiet: Duration,
    /// When the call must be over, body included.
    pub(crate) whole: Option<Deadline>,
    /// How long a new connection may take, where a policy says so.
    pub(crate) connect: Option<Duration>,
}

/// How long nothing may happen before a call counts as dead, unless something else is configured.
pub const STALL_DEFAULT: Duration = Duration::from_secs(60);
/// The same for calls whose silence may only mean that there is no message.
pub const QUIET_DEFAULT: Duration = Duration::from_secs(600);

impl Patience {
    /// The answer must begin by `deadline`, then no more than [`STALL_DEFAULT`] of silence.
    #[must_use]
    pub fn until(deadline: Deadline) -> Self {
        Self::moving(STALL_DEFAULT).no_later_than(deadline)
    }

    /// No deadline, but no more than `silence` without anything moving, at any time.
    #[must_use]
    pub fn moving(silence: Duration) -> Self {
        Self {
            until_answer: None,
            answer: Some(silence),
            stall: silence,
            quiet: silence.max(QUIET_DEFAULT),
            whole: None,
            connect: None,
        }
    }

    /// For calls that may turn out to be streams of messages: no more than `quiet` without anything moving.
    #[must_use]
    pub fn stream(quiet: Duration) -> Self {
        Self {
            answer: Some(quiet),
            stall: quiet,
            quiet,
            until_answer: None,
            whole: None,
            connect: None,
        }
    }

    /// The same, with another bound for answers that turn out to be streams of messages.
    #[must_use]
    pub fn quiet(mut self, quiet: Duration) -> Self {
        self.quiet = quiet;
        self
    }

    /// The same, with the answer due by `deadline` and not before.
    #[must_use]
    pub fn no_later_than(mut self, deadline: Deadline) -> Self {
        self.until_answer = Some(earlier(self.until_answer, deadline));
        self.answer = None;
        self
    }

    /// The same, with the whole call to be over by `deadline` and not before, be it silent until then.
    #[must_use]
    pub fn all_by(self, deadline: Deadline) -> Self {
        let whole = Some(earlier(self.whole, deadline));
        Self { answer: None, stall: Duration::MAX, quiet: Duration::MAX, whole, ..self }
    }

    /// When the answer is due whatever moves.
    pub(crate) fn due(&self) -> Option<Deadline> {
        [self.until_answer, self.whole].into_iter().flatten().min()
    }

    /// When a call that gets nowhere gives up, seen from now.
    pub(crate) fn ends(&self, world: &dyn World) -> Option<Deadline> {
        let silent = self.answer.map(|silence| Deadline::after(world, silence));
        self.due().into_iter().chain(silent).min()
    }
}

fn earlier(own: Option<Deadline>, other: Deadline) -> Deadline {
    own.map_or(other, |own| own.earliest(other))
}
