//! Contexts from headers and back.

use super::{CallContext, GrpcTimeout, Headers, Idempotency, Incoming, header, parse_grpc_timeout};
use crate::{Criticality, Pushback, parse_request_timeout, parse_timeout_ms};
use outrigger_kernel::{Deadline, Mono, Wall};
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};

const LIMIT: Duration = Duration::from_secs(10);

fn read(headers: &[(&str, &'static str)], method: &str, trusted: bool) -> CallContext {
    let find = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, v)| *v);
    CallContext::read(&Incoming { method, limit: LIMIT, trusted }, find, Mono(0))
}

#[test]
fn the_earliest_deadline_wins_and_nobody_gets_more_than_the_limit() {
    let left = |headers: &[(&str, &'static str)]| {
        read(headers, "POST", true).deadline.remaining(Mono(0)).as_millis()
    };
    assert_eq!(left(&[]), 10_000);
    assert_eq!(left(&[(header::GRPC_TIMEOUT, "2S"), (header::TIMEOUT_MS, "700")]), 700);
    assert_eq!(left(&[(header::ENVOY_TIMEOUT_MS, "900"), (header::REQUEST_TIMEOUT, "1")]), 900);
    assert_eq!(left(&[(header::GRPC_TIMEOUT, "9H")]), 10_000);
    assert_eq!(left(&[(header::TIMEOUT_MS, "-5"), (header::GRPC_TIMEOUT, "x")]), 10_000);
    assert_eq!(left(&[(header::TIMEOUT_MS, "0")]), 0);
}

#[test]
fn outsiders_cannot_make_themselves_important() {
    let class = |word, trusted| read(&[(header::CRITICALITY, word)], "GET", trusted).criticality;
    assert_eq!(class("critical-plus", false), Criticality::Critical);
    assert_eq!(class("critical-plus", true), Criticality::CriticalPlus);
    assert_eq!(class("sheddable", false), Criticality::Sheddable);
    assert_eq!(class("royal", true), Criticality::Critical);
}

#[test]
fn who_may_be_repeated() {
    let of = |headers: &[(&str, &'static str)], method| read(headers, method, true).idempotency;
    assert_eq!(of(&[], "POST"), Idempotency::Unknown);
    assert_eq!(of(&[], "DELETE"), Idempotency::Method);
    assert_eq!(of(&[(header::IDEMPOTENCY_KEY, "k")], "POST"), Idempotency::Key);
    assert_eq!(of(&[(header::IDEMPOTENCY_KEY, "")], "POST"), Idempotency::Unknown);
    assert_eq!(of(&[(header::IDEMPOTENT, "1")], "PATCH"), Idempotency::Declared);
    assert_eq!(of(&[(header::IDEMPOTENT, "yes")], "PATCH"), Idempotency::Unknown);
}

#[test]
fn attempts_are_counted_in_three_notations() {
    let of = |name, value| read(&[(name, value)], "GET", true).attempt;
    assert_eq!(of(header::ATTEMPT, "3"), 3);
    assert_eq!(of(header::ENVOY_ATTEMPT, "2"), 2);
    assert_eq!(of(header::GRPC_ATTEMPTS, "2"), 3);
    assert_eq!(of(header::ATTEMPT, "0"), 1);
    assert_eq!(of(header::ATTEMPT, "many"), 1);
}

#[test]
fn a_hop_keeps_its_reserve() {
    let context = CallContext::until(Deadline(Mono(0).plus(Duration::from_millis(100))));
    let ms = Duration::from_millis;
    assert_eq!(context.onward(Mono(0), None), Some(ms(99)));
    assert_eq!(context.onward(Mono(0), Some(ms(30))), Some(ms(85)));
    assert_eq!(context.onward(Mono(0).plus(ms(99)), None), None);
    assert_eq!(context.onward(Mono(0).plus(ms(500)), None), None);
}

#[test]
fn a_context_is_no_larger_than_said() {
    assert!(size_of::<CallContext>() <= 40, "{}", size_of::<CallContext>());
}

#[test]
fn what_is_asked_for_less_holds() {
    let read = |headers: &[(&str, &'static str)]| {
        let find = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, v)| *v);
        // 1994-11-06T08:49:30Z
        Pushback::read(find, Wall(784_111_770_000))
    };
    let after = |seconds| Pushback::After(Duration::from_secs(seconds));
    assert_eq!(read(&[(header::GRPC_PUSHBACK, "-1"), (header::RETRY_AFTER, "3")]), Pushback::No);
    assert_eq!(read(&[(header::GRPC_PUSHBACK, "5000"), (header::RETRY_AFTER, "3")]), after(5));
    assert_eq!(read(&[(header::RETRY, "elsewhere"), (header::RETRY_AFTER, "3")]), after(3));
    assert_eq!(read(&[(header::RETRY, "after=2000")]), after(2));
    assert_eq!(read(&[(header::RETRY, "elsewhere")]), Pushback::Elsewhere);
    assert_eq!(read(&[(header::RETRY_AFTER, "soon")]), Pushback::None);
    assert_eq!(read(&[(header::RETRY_AFTER, "Sun, 06 Nov 1994 08:49:37 GMT")]), after(7));
    assert_eq!(read(&[(header::RETRY_AFTER, "Sun, 06 Nov 1994 08:49:07 GMT")]), after(0));
}

#[test]
fn calls_of_one_trace_have_one_rank() {
    let incoming = Incoming { method: "GET", limit: LIMIT, trusted: true };
    let rank = |trace: &str| {
        let header = |name: &str| (name == "traceparent").then_some(trace);
        CallContext::read(&incoming, header, Mono(0)).rank()
    };
    let (trace, other) = ("0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736");
    let first = rank(&format!("00-{trace}-b7ad6b7169203331-01"));
    assert_eq!(first, rank(&format!("00-{trace}-00f067aa0ba902b7-00")), "another span of it");
    assert_ne!(first, rank(&format!("00-{other}-b7ad6b7169203331-01")));
    assert_eq!(rank("nonsense"), crate::Rank::default(), "not the first to be shed");
    let named = |name: &str| match name {
        "outrigger-cohort" => Some("3"),
        "traceparent" => Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        _ => None,
    };
    let context = CallContext::read(&incoming, named, Mono(0));
    assert_eq!(context.rank(), crate::Rank::new(crate::Criticality::Critical, 3));
}

proptest! {
    #[test]
    fn what_is_printed_can_be_read_and_is_never_more(ns: u64) {
        let left = Duration::from_nanos(ns);
        let printed = GrpcTimeout::new(left);
        let read = parse_grpc_timeout(printed.as_str()).unwrap();
        prop_assert!(read <= left);
        // Within a microsecond, or a millionth of it.
        let day = Duration::from_secs(86_400);
        prop_assert!(read == day || left - read <= Duration::from_micros(1).max(left / 90_000));
    }

    #[test]
    fn what_is_said_on_trying_again_arrives(wait_ms in 0_u64..80_000_000) {
        let after = Pushback::After(Duration::from_millis(wait_ms));
        for said in [Pushback::None, Pushback::No, Pushback::Elsewhere, after] {
            let mut sent = BTreeMap::new();
            said.print(|name, value| {
                sent.insert(name, value.to_string());
            });
            let read = Pushback::read(|name| sent.get(name).map(String::as_str), Wall(0));
            match (said, read) {
                // Rounded up to seconds, for those who know no finer.
                (Pushback::After(said), Pushback::After(read)) => {
                    prop_assert!(read >= said && read - said < Duration::from_secs(1));
                }
                (said, read) => prop_assert_eq!(said, read),
            }
        }
    }

    #[test]
    fn nothing_that_comes_in_panics(text in "\\PC{0,20}", digits in "[0-9]{0,30}[a-zA-Z]?") {
        for text in [text.as_str(), digits.as_str()] {
            let _ = (parse_grpc_timeout(text), parse_timeout_ms(text), parse_request_timeout(text));
            let incoming = Incoming { method: text, limit: LIMIT, trusted: true };
            let context = CallContext::read(&incoming, |_| Some(text), Mono(u64::MAX - 5));
            prop_assert!(context.cohort.is_none_or(|cohort| cohort < 128) && context.attempt > 0);
            let _ = Pushback::read(|_| Some(text), Wall(u64::MAX));
        }
    }

    #[test]
    fn the_next_hop_reads_what_this_one_printed(left_ms in 1_u64..9_000, attempt in 1_u32..9, hedge: bool, cohort in proptest::option::of(0_u8..128)) {
        let context = CallContext {
            criticality: Criticality::SheddablePlus,
            cohort,
            ..CallContext::until(Deadline(Mono(0))).idempotent(Idempotency::Declared)
        };
        let left = Duration::from_millis(left_ms);
        let mut sent = BTreeMap::new();
        Headers { context, left, attempt, hedge }.print(|name, value| {
            sent.insert(name, value.to_string());
        });
        let incoming = Incoming { method: "POST", limit: LIMIT, trusted: true };
        let read = CallContext::read(&incoming, |name| sent.get(name).map(String::as_str), Mono(7));
        prop_assert_eq!(read.deadline.remaining(Mono(7)), left);
        let expected = CallContext { deadline: read.deadline, attempt, hedge, ..context };
        prop_assert_eq!(read, expected);
    }
}
