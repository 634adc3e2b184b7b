//! Planted bugs: mistakes that an engine's author could make, behind a switch that only tests can throw, to prove that
//! the exam and the history checkers find them.
//!
//! Where a bug would be, the code asks [`is`]. Without the feature `planted` (and outside this crate's own tests) the
//! answer is a constant `false` and nothing of it is left. With it, a bug is planted for one thread and for as long as
//! `with` runs: an engine with threads of its own must be driven by hand.

/// What goes wrong. Each is found; by what, the tests of the exam (feature `exam`) say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A key that was read and has changed is no conflict.
    IgnoreReadKeys,
    /// A range that was read and has changed is no conflict.
    IgnoreReadRanges,
    /// A range delete is no conflict for whoever read in the range.
    ForgetClears,
    /// What changed right after it was read is no conflict: an off-by-one.
    OverlookTheNext,
    /// A transaction that read too long ago is judged by what is left to judge it by.
    AcceptTooOld,
    /// Every fourth commit gets the revision, and so the stamps, of the one before.
    ReuseRevision,
    /// A commit is stamped with a time before the last one's.
    TimeGoesBack,
    /// Commits' names are not remembered.
    ForgetIds,
    /// A known name is looked up only after conflicts were checked.
    IdsAfterConflicts,
    /// The name of a refused commit is taken as done.
    RememberRefused,
    /// A range delete is applied after the other writes of its commit.
    ClearsLast,
    /// A key that is due becomes absent without a look at what it has become since.
    TrustTheAgenda,
    /// A refused transaction leaves its first write behind.
    KeepHalf,
    /// A commit is visible before it is decided whether it is accepted.
    ShowBeforeDeciding,
    /// Watchers are woken before the change is visible.
    WakeBeforeShowing,
    /// The last change before a reader waits is not told.
    LoseTheLastWake,
    /// A range delete wakes nobody.
    ClearsWakeNobody,
    /// Every commit wakes its watchers again, however many became visible at once.
    WakePerCommit,
}

/// Whether `bug` is planted here and now.
#[cfg(any(test, feature = "planted"))]
#[must_use]
pub fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether `bug` is planted: never, in what is shipped.
#[cfg(not(any(test, feature = "planted")))]
#[inline]
#[must_use]
pub const fn is(_bug: Bug) -> bool {
    false
}

#[cfg(any(test, feature = "planted"))]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Runs `body` on this thread with `bug` planted.
#[cfg(any(test, feature = "planted"))]
pub fn with<T>(bug: Bug, body: impl FnOnce() -> T) -> T {
    /// Digs the bug up again even when `body` panics, which is how most bugs are found.
    struct Dig(Option<Bug>);
    impl Drop for Dig {
        fn drop(&mut self) {
            PLANTED.set(self.0);
        }
    }
    let _dig = Dig(PLANTED.replace(Some(bug)));
    body()
}
