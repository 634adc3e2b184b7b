//! Every planted bug is found, and by what: the table says which part of the exam guards what. More may find it.

use super::examiner;
use crate::{
    planted::{self, Bug},
    watch,
};
use outrigger_kernel::{Deadline, within};
use outrigger_sim::SimWorld;
use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

/// Finders that are not exercises: random sequences, the judge who knows revisions, the judge who looks for cycles, and
/// the registry's own tests.
const PROPERTY: &str = "property";
const REPLAY: &str = "replay";
const CYCLES: &str = "cycles";
const REGISTRY: &str = "registry";

const FOUND_BY: &[(Bug, &[&str])] = &[
    (Bug::IgnoreReadKeys, &["conflicts::a_lost_update_is_refused", PROPERTY, REPLAY, CYCLES]),
    (Bug::IgnoreReadRanges, &["conflicts::phantoms_are_refused", PROPERTY, REPLAY]),
    (
        Bug::ForgetClears,
        &["clearing::a_clear_conflicts_with_every_reader_of_its_range", PROPERTY, REPLAY],
    ),
    (Bug::OverlookTheNext, &["conflicts::write_skew_is_refused", PROPERTY, REPLAY, CYCLES]),
    (Bug::AcceptTooOld, &["conflicts::a_transaction_may_take_its_time_but_not_forever", PROPERTY]),
    (Bug::ReuseRevision, &["writing::stamps_are_unique_and_in_commit_order", PROPERTY, REPLAY]),
    (Bug::TimeGoesBack, &["writing::revisions_and_times_grow", PROPERTY, REPLAY]),
    (Bug::ForgetIds, &["naming::concurrent_repeats_are_applied_once", PROPERTY, REPLAY]),
    (
        Bug::IdsAfterConflicts,
        &["naming::a_repeat_is_known_whatever_changed_since", PROPERTY, REPLAY],
    ),
    (Bug::RememberRefused, &["naming::a_refused_commit_runs_again", REPLAY]),
    (
        Bug::ClearsLast,
        &["clearing::a_clear_takes_what_came_before_it_and_nothing_after", PROPERTY, REPLAY],
    ),
    (Bug::TrustTheAgenda, &["clearing::what_expired_in_a_clear_stays_dead"]),
    (Bug::KeepHalf, &["bounding::each_bound_has_its_own_error_and_no_effect", PROPERTY, REPLAY]),
    (Bug::ShowBeforeDeciding, &[REPLAY, CYCLES]),
    (Bug::WakeBeforeShowing, &["watching::what_wakes_is_visible"]),
    (Bug::LoseTheLastWake, &["watching::a_waiting_task_is_woken", REGISTRY]),
    (Bug::ClearsWakeNobody, &["watching::every_kind_of_write_wakes", REGISTRY]),
    (Bug::WakePerCommit, &[REGISTRY]),
];

#[test]
fn every_planted_bug_is_found() {
    for (bug, finders) in FOUND_BY {
        for finder in *finders {
            let look = || planted::with(*bug, || look_with(finder));
            assert!(catch_unwind(AssertUnwindSafe(look)).is_err(), "{finder} misses {bug:?}");
        }
    }
}

#[test]
fn the_list_for_readers_is_complete() {
    let list = include_str!("../../../../../docs/reference/planted-bugs.md");
    for (bug, finders) in FOUND_BY {
        let row = list.lines().find(|line| line.starts_with(&format!("| `{bug:?}` |")));
        let row = row.unwrap_or_else(|| panic!("{bug:?} is not in docs/reference/planted-bugs.md"));
        assert!(finders.iter().all(|finder| row.contains(finder)), "{bug:?}: other finders");
    }
}

#[test]
fn without_a_bug_nothing_is_found() {
    let finders: BTreeSet<&str> =
        FOUND_BY.iter().flat_map(|(_, finders)| *finders).copied().collect();
    finders.into_iter().for_each(look_with);
}

/// Panics when it finds something, and when somebody waits for ever.
fn look_with(finder: &'static str) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let world = SimWorld::new(0);
        let deadline = Deadline::after(&*world, Duration::from_secs(1));
        let ended = within(&*world, deadline, async {
            match finder {
                PROPERTY => examiner(6).property(256).await,
                REPLAY => assert_eq!(found(7, |by| by.0).await, 0),
                CYCLES => assert_eq!(found(8, |by| by.1).await, 0),
                REGISTRY => watch::tests::random_watching(9, 300),
                exercise => examiner(5).exercise(exercise).await,
            }
        });
        assert!(ended.await.is_ok(), "{finder}: somebody waits for ever");
    });
}

/// What either judge finds, each for itself, in the first of ten rounds in which `enough` is found.
async fn found(seed: u64, enough: fn((usize, usize)) -> usize) -> usize {
    let examiner = examiner(seed);
    for _ in 0..10 {
        let faults = enough(examiner.found_by_judges().await);
        if faults > 0 {
            return faults;
        }
    }
    0
}
