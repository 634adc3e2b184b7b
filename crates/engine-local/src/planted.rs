//! Planted bugs: mistakes that could be made in this engine, behind a switch that only tests can throw, to prove that the
//! proofs find them.
//!
//! Where a mistake would be, the code asks [`is`]. Without the feature `planted` the answer is a constant `false` and
//! nothing of it is left. With it, a bug is planted for one thread and for as long as `with` runs, so the engine must be
//! driven by hand. Which proof finds which bug stands in `docs/reference/planted-bugs.md`.

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A commit is answered once it is written, without a flush.
    AnswerBeforeFlush,
    /// A batch that could not be written is shown to readers all the same.
    ShowWhatFailed,
    /// The checksum of a frame is not looked at.
    SkipFrameChecksum,
    /// A frame is taken in whatever segment it was written for.
    IgnoreSalt,
    /// After a crash the store numbers on where the log ends, whatever was shown without being there.
    ReuseRevisions,
    /// A new segment's name is not synced.
    ForgetSegmentName,
    /// A used segment's old name is not synced away before its header changes.
    ForgetOldName,
    /// A new segment's zeros and header are not synced.
    ForgetSegmentHeader,
    /// The layer goes to the index before the log is flushed up to where the index will say it is.
    CheckpointAheadOfLog,
    /// The log is let go of before the index holds what is in it.
    ReleaseBeforeIndex,
    /// A torn tail is left as it is.
    LeaveTornTail,
    /// Names of commits are not kept in the index's checkpoint.
    ForgetIdsAtCheckpoint,
    /// Names of commits are not read back from the log.
    ForgetIdsAtReplay,
    /// A write that stopped half-way is taken for a whole one.
    BelieveShortWrite,
    /// A sync that failed is tried again, and believed.
    RetrySync,
    /// Range deletes are not replayed.
    ForgetClearsAtReplay,
    /// Frames claim that what is before them is on disk, synced or not.
    ClaimTooMuch,
    /// Expiries are not read back from the log.
    ForgetExpiryAtReplay,
    /// What is read from the log at a start is shown without being synced.
    ShowUnsyncedTail,
    /// What is read from the log at a start is synced, but not written again: an earlier sync may have given it up.
    TrustWhatIsShown,
    /// A file of the index is not synced before the manifest names it.
    ForgetTableSync,
    /// The manifest's new name is not synced before the log is let go of.
    ForgetManifestName,
    /// A layer's removals are not written into the index.
    ForgetRemovals,
    /// Where several runs have a row, the oldest one's is taken.
    PreferOldRows,
    /// The checksum of a block of the index is not looked at.
    SkipBlockChecksum,
}

/// Whether `bug` is planted here and now.
#[cfg(feature = "planted")]
#[must_use]
pub fn is(bug: Bug) -> bool {
    let planted = PLANTED.get() == Some(bug);
    if planted {
        ASKED.set(true);
    }
    planted
}

/// Whether `bug` is planted: never, in what is shipped.
#[cfg(not(feature = "planted"))]
#[inline]
#[must_use]
pub const fn is(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
    static ASKED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs `body` on this thread with `bug` planted.
#[cfg(feature = "planted")]
pub fn with<T>(bug: Bug, body: impl FnOnce() -> T) -> T {
    /// Digs the bug up again even when `body` panics.
    struct Dig(Option<Bug>);
    impl Drop for Dig {
        fn drop(&mut self) {
            PLANTED.set(self.0);
        }
    }
    ASKED.set(false);
    let _dig = Dig(PLANTED.replace(Some(bug)));
    body()
}

/// Whether the code has come to where the last bug was planted.
#[cfg(feature = "planted")]
#[must_use]
pub fn was_reached() -> bool {
    ASKED.get()
}
