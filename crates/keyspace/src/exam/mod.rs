//! # The exam: what every engine must pass to call itself a key space
//!
//! An engine's author hands in a way to open fresh engines and runs [`Examiner::sit`]; every exercise gets an engine of
//! its own and panics with a sentence when a promise of the contract is broken.
//!
//! ```text
//!   exercises   one promise each: reading, writing, clearing, conflicts, names, expiry, watching, bounds
//!   property    random sequences against a naive model, shrunk when they fail
//!   history     concurrent transactions, judged afterwards by two checkers that know nothing of the engine
//! ```
//!
//! Time is the exam's: engines get a [`Clock`] that moves only when an exercise moves it, so an engine with threads of
//! its own can be asked about expiry without anybody waiting.
//!
//! ```no_run
//! # async fn example(world: std::sync::Arc<dyn outrigger_kernel::World>) {
//! use outrigger_keyspace::{KeySpace, exam::Examiner, memory::Memory};
//! use std::sync::Arc;
//!
//! let examiner = Examiner::new(world, |world| async { Memory::new(world) as Arc<dyn KeySpace> });
//! examiner.sit().await;
//! examiner.property(64).await;
//! examiner.histories(3).await;
//! # }
//! ```

mod bounding;
mod clearing;
mod conflicts;
mod expiring;
pub mod history;
pub mod model;
mod naming;
mod property;
mod reading;
mod relaxing;
mod room;
mod watching;
mod writing;

#[cfg(test)]
mod tests;

pub use room::{Clock, Examiner};

use outrigger_kernel::BoxFuture;
use room::Room;

/// One promise, put to the test.
type Exercise = (&'static str, for<'a> fn(&'a Room) -> BoxFuture<'a, ()>);

macro_rules! exercises {
    ($($area:ident :: $name:ident),* $(,)?) => {
        const EXERCISES: &[Exercise] = &[
            $((concat!(stringify!($area), "::", stringify!($name)), |room| Box::pin($area::$name(room)))),*
        ];
    };
}

exercises! {
    reading::what_is_put_is_read,
    reading::keys_are_in_byte_order,
    reading::ranges_include_their_start_and_exclude_their_end,
    reading::pages_are_bounded_and_say_whether_there_is_more,
    reading::a_snapshot_never_changes,
    reading::levels_are_as_fresh_as_they_say,
    reading::odd_questions_have_plain_answers,
    reading::an_engine_says_what_it_is,
    writing::later_writes_see_earlier_ones,
    writing::a_range_delete_removes_exactly_the_range,
    writing::stamps_are_unique_and_in_commit_order,
    writing::counters_add_up,
    writing::revisions_and_times_grow,
    writing::a_checkpoint_is_taken_or_refused,
    conflicts::a_lost_update_is_refused,
    conflicts::phantoms_are_refused,
    conflicts::write_skew_is_refused,
    conflicts::blind_writes_never_conflict,
    conflicts::adds_conflict_with_readers_only,
    conflicts::a_commit_without_writes_judges_its_reads,
    conflicts::a_transaction_may_take_its_time_but_not_forever,
    conflicts::transact_runs_again_until_it_fits,
    expiring::a_key_is_absent_once_it_is_due,
    expiring::expiry_follows_the_last_write,
    expiring::expiry_counts_as_a_change,
    expiring::a_clock_that_jumps_back_resurrects_nothing,
    expiring::many_keys_fall_due_at_once,
    watching::a_change_wakes_whoever_watches_it,
    watching::every_kind_of_write_wakes,
    watching::what_wakes_is_visible,
    watching::nothing_is_missed_when_a_wait_is_given_up,
    watching::a_waiting_task_is_woken,
    watching::a_slow_reader_is_told_of_all_at_once,
    watching::nobody_misses_the_last_change,
    clearing::a_huge_range_goes_in_one_commit,
    clearing::a_clear_conflicts_with_every_reader_of_its_range,
    clearing::a_clear_takes_what_came_before_it_and_nothing_after,
    clearing::what_expired_in_a_clear_stays_dead,
    clearing::clears_add_up,
    clearing::a_clear_of_nothing_changes_nothing,
    naming::a_repeated_commit_is_applied_once,
    naming::a_repeat_is_known_whatever_changed_since,
    naming::concurrent_repeats_are_applied_once,
    naming::a_refused_commit_runs_again,
    relaxing::a_relaxed_commit_is_seen_at_once_and_judged_as_any,
    relaxing::relaxed_and_flushed_commits_share_one_order,
    relaxing::a_space_decides_for_all_its_commits,
    bounding::each_bound_has_its_own_error_and_no_effect,
    bounding::the_bound_itself_is_within_bounds,
    bounding::a_transaction_is_bounded_as_a_whole,
}
