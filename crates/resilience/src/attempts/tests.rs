//! The scheduler alone: what it decides, over random courses of a call.

use super::{After, Attempts, Rules, TRIED_MAX, Tried};
use crate::{
    Backoff, CallContext, Class, Idempotency, Matching, Pushback, Reach, Report, Restraint, Retry,
    reason,
};
use outrigger_kernel::{Deadline, Mono};
use proptest::prelude::*;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

fn retry(max_retries: u32) -> Retry {
    let backoff = Backoff::Constant { delay: 10 * MS };
    Retry { backoff, max_retries: Some(max_retries), matching: Matching::default() }
}

fn within(ms: u32) -> CallContext {
    CallContext::until(Deadline(Mono(0).plus(ms * MS))).idempotent(Idempotency::Method)
}

/// What is decided after a first attempt that ended in `report`.
fn after(context: &CallContext, report: Report) -> After {
    let (retry, restraint) = (retry(2), Restraint::default());
    let rules = Rules { retry: Some(&retry), restraint: Some(&restraint), usual: None };
    let mut attempts = Attempts::new(context);
    attempts.begin();
    attempts.ended(&rules, context, &report, Mono(0), || 0)
}

#[test]
fn a_callee_is_believed() {
    let says = |pushback| Report { pushback, ..Report::from(Class::Http(503)) };
    let far = within(60_000);
    let (refused, none) = (After::HandBack(Some(reason::RETRY_REFUSED)), reason::RETRY_TOO_LATE);
    assert_eq!(after(&far, says(Pushback::No)), refused);
    assert_eq!(after(&far, says(Pushback::After(21_000 * MS))), refused);
    let asked = after(&far, says(Pushback::After(3_000 * MS)));
    let After::Retry { wait, pushed_back: true, .. } = asked else { panic!("{asked:?}") };
    // What is asked for, and at the least the shortest wait on top.
    assert!(wait > 3_000 * MS && wait <= 4_000 * MS, "{wait:?}");
    let soon = within(2_000);
    assert_eq!(after(&soon, says(Pushback::After(3_000 * MS))), After::HandBack(Some(none)));
}

#[test]
fn an_order_is_not_placed_twice() {
    let order = within(60_000).idempotent(Idempotency::Unknown);
    let lost = Report::from(Class::Failure);
    assert_eq!(after(&order, lost), After::HandBack(Some(reason::RETRY_UNSAFE)));
    let never_sent = Report { reach: Reach::NotSent, ..lost };
    assert!(matches!(after(&order, never_sent), After::Retry { .. }));
    let copy = CallContext { hedge: true, ..within(60_000) };
    assert_eq!(after(&copy, lost), After::HandBack(Some(reason::RETRY_OF_HEDGE)));
}

#[test]
fn overload_is_waited_out_for_longer() {
    let context = within(60_000);
    let (retry, restraint) = (retry(2), Restraint::default());
    let rules = Rules { retry: Some(&retry), restraint: Some(&restraint), usual: None };
    let wait = |class, random| {
        let mut attempts = Attempts::new(&context);
        attempts.begin();
        match attempts.ended(&rules, &context, &Report::from(class), Mono(0), || random) {
            After::Retry { wait, .. } => wait,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(wait(Class::Http(500), u64::MAX), 10 * MS);
    assert!(wait(Class::Http(429), u64::MAX) > 900 * MS);
}

#[test]
fn nothing_starts_that_usually_could_not_end() {
    let (retry, context) = (retry(2), within(100));
    for (usual, retried) in [(50 * MS, true), (95 * MS, false)] {
        let rules = Rules { retry: Some(&retry), restraint: None, usual: Some(usual) };
        let mut attempts = Attempts::new(&context);
        attempts.begin();
        let after = attempts.ended(&rules, &context, &Class::Failure.into(), Mono(0), || 0);
        assert_eq!(matches!(after, After::Retry { .. }), retried, "{usual:?}: {after:?}");
    }
}

#[test]
fn what_may_not_be_repeated_is_not_hedged() {
    let rules = Rules { retry: None, restraint: None, usual: None };
    let due = |context: CallContext| {
        let mut attempts = Attempts::new(&context);
        attempts.begin();
        attempts.hedge_after(Some(5 * MS), &rules, &context, Mono(0));
        attempts.hedge_due(Mono(0).plus(5 * MS))
    };
    let context = within(1_000);
    assert!(due(context));
    assert!(!due(context.idempotent(Idempotency::Unknown)));
    assert!(!due(CallContext { hedge: true, ..context }));
}

#[test]
fn the_last_places_tried_are_remembered() {
    let mut tried = Tried::default();
    for id in 0..20 {
        tried.push(id);
        tried.push(id);
    }
    assert_eq!(tried.ids().len(), TRIED_MAX);
    assert!(tried.contains(19) && tried.contains(14) && !tried.contains(13));
}

/// What happens next in a random course: (after how many ms, failed, whether the hedge ends rather than the first).
type Turn = (u64, bool);

proptest! {
    /// However a call goes: never more attempts than allowed, never more than two at once, none at or past the deadline,
    /// and no hedge without an attempt beside it.
    #[test]
    fn bounds_hold_in_every_course(
        turns in proptest::collection::vec((0_u64..200, any::<bool>()), 1..40),
        max_retries in 0_u32..5,
        deadline_ms in 1_u32..2_000,
        hedge_ms in proptest::option::of(1_u32..100),
        seed: u64,
    ) {
        let turns: Vec<Turn> = turns;
        let (context, retry) = (within(deadline_ms), retry(max_retries));
        let rules = Rules { retry: Some(&retry), restraint: None, usual: None };
        let mut attempts = Attempts::new(&context);
        let mut now = Mono(0);
        attempts.begin();
        attempts.hedge_after(hedge_ms.map(|ms| ms * MS), &rules, &context, now);
        for (turn, (ms, failed)) in (0_u64..).zip(turns) {
            now = now.plus(Duration::from_millis(ms));
            if context.deadline.expired(now) {
                break;
            }
            if attempts.hedge_due(now) {
                prop_assert_eq!(attempts.running(), 1);
                attempts.begin_hedge();
            }
            prop_assert!(attempts.made() <= max_retries + 1);
            prop_assert!(attempts.running() <= 2);
            let class = if failed { Class::Failure } else { Class::Success };
            match attempts.ended(&rules, &context, &class.into(), now, || seed.wrapping_mul(turn + 1)) {
                After::Other => prop_assert_eq!(attempts.running(), 1),
                After::HandBack(_) => break,
                After::Retry { at, wait, .. } => {
                    prop_assert!(attempts.running() == 0 && at < context.deadline.0);
                    prop_assert!(wait >= super::RETRY_DELAY_MIN);
                    now = at;
                    attempts.begin();
                    attempts.hedge_after(hedge_ms.map(|ms| ms * MS), &rules, &context, now);
                }
            }
        }
        prop_assert!(attempts.made() <= max_retries + 1);
    }
}
