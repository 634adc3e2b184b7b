//! The proofs are put to the proof: each bug planted in the engine is found by one of them.

use crate::{crashes, faults, flips, run::Run, script, seeds, verdict::Depth};
use outrigger_engine_local::planted::{self, Bug};
use outrigger_sim::disk::{Kind, Trouble};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A proof by its name.
type Proof = (&'static str, fn() -> Result<(), String>);

/// The proofs, cheapest first, each as short as it can be.
const PROOFS: [Proof; 6] = [
    ("crashes", || {
        [6, 1].into_iter().try_for_each(|seed| {
            crashes::everywhere(&script::recorded(), seed, |_| true, |_| Depth::GoOn).map(drop)
        })
    }),
    ("faults", || {
        faults::each(Kind::Write, &[Trouble::Stops(100), Trouble::Fails], 3)?;
        faults::each(Kind::Sync, &[Trouble::FailsAndForgets, Trouble::FailsAndReverts], 1)?;
        Ok(())
    }),
    ("flips", || flips::each("", 5).map(drop)),
    ("plain", || Run::whole(&script::by_seed(3, 300), 3).map(drop)),
    ("circles", || {
        crashes::everywhere(&script::in_circles(), 2, |_| true, |_| Depth::Compare).map(drop)
    }),
    ("seeds", || (0..150).try_for_each(|seed| seeds::one(seed).map(drop))),
];

/// The proof that finds `bug`, and what it says.
fn found(bug: Bug) -> Option<(&'static str, String)> {
    PROOFS.iter().find_map(|(name, proof)| {
        let outcome = planted::with(bug, || catch_unwind(AssertUnwindSafe(proof)));
        let said = match outcome {
            Ok(Ok(())) => return None,
            Ok(Err(said)) => said,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                format!("a panic: {}", text.unwrap_or_default())
            }
        };
        Some((*name, said))
    })
}

#[expect(clippy::print_stdout, reason = "what found it is written into the reference")]
fn must_be_found(bug: Bug) {
    let found = found(bug);
    assert!(planted::was_reached(), "{bug:?} is planted where the proofs never come");
    let (proof, said) = found.unwrap_or_else(|| panic!("{bug:?} is found by no proof"));
    println!("{bug:?} | {proof} | {said}");
    let list = include_str!("../../../../docs/reference/planted-bugs.md");
    assert!(list.contains(&format!("| `{bug:?}` |")), "{bug:?} is not in the list of planted bugs");
}

macro_rules! each_is_found {
    ($($test:ident: $bug:ident,)*) => {$(
        #[test]
        fn $test() {
            must_be_found(Bug::$bug);
        }
    )*};
}

each_is_found! {
    an_answer_before_the_flush: AnswerBeforeFlush,
    a_failed_batch_that_is_shown: ShowWhatFailed,
    a_frame_checksum_that_is_skipped: SkipFrameChecksum,
    a_salt_that_is_ignored: IgnoreSalt,
    revisions_that_are_used_again: ReuseRevisions,
    a_segment_name_that_is_not_synced: ForgetSegmentName,
    an_old_name_that_is_not_synced_away: ForgetOldName,
    a_segment_header_that_is_not_synced: ForgetSegmentHeader,
    a_checkpoint_ahead_of_the_log: CheckpointAheadOfLog,
    a_log_released_before_the_index: ReleaseBeforeIndex,
    a_torn_tail_that_is_left: LeaveTornTail,
    ids_forgotten_at_a_checkpoint: ForgetIdsAtCheckpoint,
    ids_forgotten_at_replay: ForgetIdsAtReplay,
    a_short_write_that_is_believed: BelieveShortWrite,
    a_failed_sync_that_is_retried: RetrySync,
    clears_that_are_not_replayed: ForgetClearsAtReplay,
    a_mark_before_the_sync: ClaimTooMuch,
    expiries_that_are_not_replayed: ForgetExpiryAtReplay,
    a_tail_shown_before_it_is_synced: ShowUnsyncedTail,
    a_table_that_is_not_synced: ForgetTableSync,
    a_manifest_name_that_is_not_synced: ForgetManifestName,
    removals_that_the_index_forgets: ForgetRemovals,
    old_rows_that_are_preferred: PreferOldRows,
    a_block_checksum_that_is_skipped: SkipBlockChecksum,
    a_tail_that_is_trusted_because_it_is_shown: TrustWhatIsShown,
}

/// Else they would find any bug.
#[test]
fn nothing_is_found_where_nothing_is_planted() {
    for (name, proof) in PROOFS {
        proof().unwrap_or_else(|error| panic!("{name} finds a bug that is not there: {error}"));
    }
}
