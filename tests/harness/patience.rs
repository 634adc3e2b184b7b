//! Waiting for something outside: ask again until it is so, or until patience runs out.
//!
//! The pause between two questions is not synchronisation: it only keeps the asking from being the load.

use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(10);

/// How long a thing that should happen soon may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// A point in time after which waiting is pointless.
#[derive(Clone, Copy, Debug)]
pub struct Patience(Instant);

impl Patience {
    /// Patience for `time` from now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "tests outside the process have the real clock only"
    )]
    pub fn of(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// Whether it has run out.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "tests outside the process have the real clock only"
    )]
    pub fn is_over(self) -> bool {
        Instant::now() >= self.0
    }

    /// Lets others work for a moment.
    pub fn pause(self) {
        std::thread::sleep(PAUSE);
    }
}

/// Measures from its making.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "tests outside the process have the real clock only"
    )]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Asks until the answer is `Some`, at most [`SOON`].
///
/// # Panics
/// When patience runs out; the message names what was waited for.
pub fn eventually<T>(what: &str, question: impl FnMut() -> Option<T>) -> T {
    within(SOON, what, question)
}

/// Asks until the answer is `Some`, at most `time`.
///
/// # Panics
/// When patience runs out; the message names what was waited for.
pub fn within<T>(time: Duration, what: &str, question: impl FnMut() -> Option<T>) -> T {
    asked(time, question).unwrap_or_else(|| panic!("waited {time:?} in vain for {what}"))
}

/// Asks until the answer is `Some`, at most `time`; `None` when it never was.
pub fn asked<T>(time: Duration, mut question: impl FnMut() -> Option<T>) -> Option<T> {
    let patience = Patience::of(time);
    loop {
        let answer = question();
        if answer.is_some() || patience.is_over() {
            return answer;
        }
        patience.pause();
    }
}

/// Whether `condition` keeps holding for `time`.
pub fn holds_for(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let patience = Patience::of(time);
    while !patience.is_over() {
        if !condition() {
            return false;
        }
        patience.pause();
    }
    true
}
