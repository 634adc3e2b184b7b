//! The balancer in simulated time.

use super::{
    Ask, BalanceSettings, Balancer, Cause, Endpoint, Locality, NoEndpoint, OutlierSettings,
    Strategy, Verdict, sticky_key,
};
use crate::dice::mixed;
use outrigger_kernel::Mono;
use proptest::prelude::*;
use std::{collections::HashMap, sync::Arc, time::Duration};

const START: Mono = Mono(1 << 40);

fn balancer(settings: BalanceSettings, endpoints: &[(&str, u32)]) -> Balancer<()> {
    let balancer = Balancer::new(settings);
    balancer.update(set(endpoints), START);
    balancer
}

fn set<'a>(endpoints: &'a [(&'a str, u32)]) -> impl Iterator<Item = Endpoint<()>> + 'a {
    endpoints.iter().map(|(name, weight)| Endpoint { weight: *weight, ..Endpoint::new(*name, ()) })
}

fn by(strategy: Strategy) -> BalanceSettings {
    BalanceSettings { strategy, ..BalanceSettings::default() }
}

fn name(balancer: &Balancer<()>, ask: Ask<'_>, now: Mono, random: u64) -> String {
    balancer.pick(ask, now, random).unwrap().endpoint().name.to_string()
}

/// How often each was picked in `count` picks that end at once and well.
fn spread(balancer: &Balancer<()>, now: Mono, count: u64) -> HashMap<String, u64> {
    let mut picked = HashMap::new();
    for n in 0..count {
        let pick = balancer.pick(Ask::default(), now, mixed(n)).unwrap();
        *picked.entry(pick.endpoint().name.to_string()).or_insert(0) += 1;
        pick.record(Verdict::Success, now);
    }
    picked
}

fn near(actual: u64, wanted: u64) -> bool {
    actual.abs_diff(wanted) * 10 <= wanted
}

#[test]
fn no_endpoints_is_said_and_not_chosen() {
    let empty = balancer(BalanceSettings::default(), &[]);
    assert_eq!(empty.pick(Ask::default(), START, 1).unwrap_err(), NoEndpoint::None);
    let drained = balancer(BalanceSettings::default(), &[("a", 0), ("b", 0)]);
    assert_eq!(drained.pick(Ask::default(), START, 1).unwrap_err(), NoEndpoint::None);
    let two = balancer(BalanceSettings::default(), &[("a", 1), ("b", 1)]);
    let none = two.pick_where(Ask::default(), START, 1, |()| false);
    assert_eq!(none.unwrap_err(), NoEndpoint::Unusable);
}

#[test]
fn turns_are_taken_in_order_and_by_weight() {
    let even = balancer(by(Strategy::RoundRobin), &[("a", 1), ("b", 1), ("c", 1)]);
    let turns: String = (0..6).map(|n| name(&even, Ask::default(), START, n)).collect();
    assert_eq!(turns, "abcabc");
    let uneven = balancer(by(Strategy::RoundRobin), &[("a", 1), ("b", 2), ("c", 5)]);
    let picked = spread(&uneven, START, 8_000);
    assert!(near(picked["a"], 1_000) && near(picked["b"], 2_000) && near(picked["c"], 5_000));
}

#[test]
fn chance_and_two_choices_follow_the_weights() {
    for strategy in [Strategy::Random, Strategy::PeakEwma] {
        let uneven = balancer(by(strategy), &[("a", 1), ("b", 1), ("c", 2)]);
        let mut held = Vec::new();
        for n in 0..4_000 {
            held.push(uneven.pick(Ask::default(), START, mixed(n)).unwrap());
        }
        let picks: Vec<u32> = uneven.status(START).iter().map(|one| one.in_flight).collect();
        assert!(near(picks[0].into(), 1_000) && near(picks[2].into(), 2_000), "{picks:?}");
        drop(held);
        assert!(uneven.status(START).iter().all(|one| one.in_flight == 0));
    }
}

#[test]
fn the_least_loaded_gets_the_next() {
    let three = balancer(by(Strategy::LeastLoaded), &[("a", 1), ("b", 1), ("c", 2)]);
    let _held: Vec<_> = (0..40).map(|n| three.pick(Ask::default(), START, n).unwrap()).collect();
    let picks: Vec<u32> = three.status(START).iter().map(|one| one.in_flight).collect();
    assert_eq!(picks, [10, 10, 20]);
}

#[test]
fn what_was_tried_is_passed_over_while_there_is_another() {
    for strategy in [
        Strategy::PeakEwma,
        Strategy::Random,
        Strategy::RoundRobin,
        Strategy::LeastLoaded,
        Strategy::Sticky { load_factor: 1.25 },
    ] {
        let three = balancer(by(strategy), &[("a", 1), ("b", 1), ("c", 1)]);
        for random in 0..50 {
            let mut tried = Vec::new();
            for _ in 0..3 {
                let ask = Ask { tried: &tried, key: Some(random) };
                let pick = three.pick(ask, START, random).unwrap();
                assert!(!tried.contains(&pick.id()), "{strategy:?}");
                tried.push(pick.id());
            }
            assert!(three.pick(Ask { tried: &tried, key: Some(random) }, START, 1).is_ok());
        }
    }
}

#[test]
fn those_that_stay_keep_what_is_known_of_them() {
    let three = balancer(BalanceSettings::default(), &[("a", 1), ("b", 1), ("c", 1)]);
    let pick = three.pick(Ask::default(), START, 1).unwrap();
    let (stays, id) = (pick.endpoint().name.clone(), pick.id());
    pick.record(Verdict::Success, START.plus(Duration::from_millis(40)));
    let now = START.plus(Duration::from_millis(40));
    three.update(set(&[(&stays, 3), ("new", 1), ("new", 9)]), now);
    let status = three.status(now);
    assert_eq!(status.len(), 2);
    assert_eq!((status[0].weight, status[0].picks), (3, 1));
    assert!(status[0].latency.is_some_and(|latency| latency >= Duration::from_millis(39)));
    assert_eq!((status[0].risen, status[1].risen, status[1].weight), (1.0, 0.1, 1));
    let again = three.pick(Ask::default(), now, 1).unwrap();
    assert_eq!((again.id(), again.endpoint().weight), (id, 3));
    three.configure(by(Strategy::Random));
    assert_eq!(three.status(now)[0].in_flight, 1);
}

#[test]
fn a_newcomer_comes_up_slowly() {
    for strategy in [Strategy::Random, Strategy::PeakEwma, Strategy::RoundRobin] {
        let three = balancer(by(strategy), &[("a", 1), ("b", 1), ("c", 1)]);
        three.update(set(&[("a", 1), ("b", 1), ("c", 1), ("new", 1)]), START);
        let early = spread(&three, START, 4_000).remove("new").unwrap_or(0);
        let half = spread(&three, START.plus(Duration::from_millis(7_500)), 4_000)["new"];
        let late = spread(&three, START.plus(Duration::from_secs(15)), 4_000)["new"];
        assert!(early > 20 && early < 200, "{strategy:?}: {early}");
        assert!(early < half && half < late, "{strategy:?}: {early} {half} {late}");
        assert!(late > 700, "{strategy:?}: {late}");
    }
    // Nor does it matter that there is only one other.
    let one = balancer(BalanceSettings::default(), &[("a", 1)]);
    one.update(set(&[("a", 1), ("new", 1)]), START);
    assert!(spread(&one, START, 1_000)["new"] < 200);
}

#[test]
fn failing_fast_does_not_draw_traffic() {
    // Without ejection, so that cost alone has to do it.
    let settings = BalanceSettings { outliers: None, ..BalanceSettings::default() };
    let five = balancer(settings, &[("hole", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)]);
    let (mut now, mut to_hole) = (START, [0_u32; 2]);
    for n in 0..2_000 {
        let pick = five.pick(Ask::default(), now, mixed(n)).unwrap();
        let is_hole = &*pick.endpoint().name == "hole";
        to_hole[usize::from(n >= 1_000)] += u32::from(is_hole);
        let (took, verdict) =
            if is_hole { (100, Verdict::Failure) } else { (5_000, Verdict::Success) };
        pick.record(verdict, now.plus(Duration::from_micros(took)));
        now = now.plus(Duration::from_millis(1));
    }
    assert!(to_hole[0] < 50 && to_hole[1] < 20, "{to_hole:?} of 1000 each");
}

#[test]
fn a_pushback_is_obeyed() {
    let two = balancer(BalanceSettings::default(), &[("a", 1), ("b", 1)]);
    let pick = two.pick(Ask::default(), START, 1).unwrap();
    let busy = pick.endpoint().name.to_string();
    pick.record(Verdict::PushedBack(Some(Duration::from_secs(3_600))), START);
    let other = two.pick(Ask { tried: &[], key: None }, START, 2).unwrap();
    other.record(Verdict::Success, START.plus(Duration::from_millis(5)));
    let now = START.plus(Duration::from_secs(5));
    assert_eq!(spread(&two, now, 100).get(&busy), None);
    let mut later = START.plus(Duration::from_secs(600));
    let picked = (0..100).map(|n| {
        let pick = two.pick(Ask::default(), later, n).unwrap();
        let name = pick.endpoint().name.to_string();
        later = later.plus(Duration::from_millis(5));
        pick.record(Verdict::Success, later);
        name
    });
    assert!(picked.filter(|name| *name == busy).count() > 5);
}

#[test]
fn five_failures_in_a_row_eject_and_a_success_brings_back() {
    let ten: Vec<String> = (0..10).map(|n| format!("e{n}")).collect();
    let ten: Vec<(&str, u32)> = ten.iter().map(|name| (name.as_str(), 1)).collect();
    let fleet = balancer(by(Strategy::RoundRobin), &ten);
    let mut ejected = None;
    for n in 0..50 {
        let pick = fleet.pick(Ask::default(), START, n).unwrap();
        let bad = &*pick.endpoint().name == "e3";
        let cause = pick.record(if bad { Verdict::Failure } else { Verdict::Success }, START);
        ejected = ejected.or(cause.map(|cause| (n, cause)));
    }
    assert_eq!(ejected, Some((43, Cause::ConsecutiveFailures)));
    assert_eq!(fleet.totals().ejected_consecutive, 1);
    let out = fleet.status(START)[3].ejected_for.unwrap();
    assert!(out >= Duration::from_secs(9) && out <= Duration::from_secs(11));
    assert_eq!(spread(&fleet, START, 100).get("e3"), None);

    // Back on probation: one call at a time, and a failure ends it at once, for longer.
    let back = START.plus(Duration::from_secs(11));
    let usable = |pick: &super::Pick<()>| &*pick.endpoint().name == "e3";
    let probe = (0..20).map(|n| fleet.pick(Ask::default(), back, n).unwrap()).find(usable);
    assert!((0..20).map(|n| fleet.pick(Ask::default(), back, n).unwrap()).all(|p| !usable(&p)));
    assert_eq!(probe.unwrap().record(Verdict::Failure, back), Some(Cause::ConsecutiveFailures));
    assert!(fleet.status(back)[3].ejected_for.unwrap() >= Duration::from_secs(18));

    let later = back.plus(Duration::from_secs(23));
    let probe = (0..20).map(|n| fleet.pick(Ask::default(), later, n).unwrap()).find(usable);
    probe.unwrap().record(Verdict::Success, later);
    assert_eq!(fleet.status(later)[3].risen, 0.1);
    assert_eq!(fleet.status(later.plus(Duration::from_secs(15)))[3].risen, 1.0);
}

#[test]
fn when_everything_fails_enough_stays_in() {
    let six = balancer(
        by(Strategy::Random),
        &[("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1), ("f", 1)],
    );
    for n in 0..10_000 {
        let now = START.plus(Duration::from_millis(n));
        six.pick(Ask::default(), now, mixed(n)).unwrap().record(Verdict::Failure, now);
    }
    let now = START.plus(Duration::from_secs(10));
    assert_eq!(six.status(now).iter().filter(|one| one.ejected_for.is_some()).count(), 1);
}

#[test]
fn being_busy_is_no_illness() {
    let three = balancer(by(Strategy::Random), &[("a", 1), ("b", 1), ("c", 1)]);
    for n in 0..300 {
        let pick = three.pick(Ask::default(), START, mixed(n)).unwrap();
        assert_eq!(pick.record(Verdict::PushedBack(None), START), None);
    }
    assert!(three.status(START).iter().all(|one| one.ejected_for.is_none() && one.failing > 0.5));
}

#[test]
fn panic_brings_the_ejected_back() {
    let outliers = OutlierSettings { ejected_share_max: 1.0, ..OutlierSettings::default() };
    let settings = BalanceSettings { outliers: Some(outliers), ..by(Strategy::Random) };
    let four = balancer(settings, &[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
    let eject = |victim: &str| {
        for n in 0..200 {
            let pick = four.pick(Ask::default(), START, mixed(n)).unwrap();
            if &*pick.endpoint().name == victim {
                pick.record(Verdict::Failure, START);
            }
        }
    };
    eject("a");
    eject("b");
    let picked = spread(&four, START, 100);
    assert!(!picked.contains_key("a") && !picked.contains_key("b"));
    eject("c");
    assert_eq!(spread(&four, START, 200).len(), 4);
}

fn zoned(zones: &[(&str, &str)], settings: BalanceSettings) -> Balancer<()> {
    let balancer = Balancer::new(settings);
    let endpoint = |(name, zone): &(&str, &str)| Endpoint {
        zone: Some(Arc::from(*zone)),
        ..Endpoint::new(*name, ())
    };
    balancer.update(zones.iter().map(endpoint), START);
    balancer
}

#[test]
fn the_own_zone_comes_first_and_spills_what_it_cannot_carry() {
    let locality = Some(Locality::new("here"));
    let zones = [("a", "here"), ("b", "here"), ("c", "here"), ("d", "there"), ("e", "there")];
    for strategy in [Strategy::Random, Strategy::PeakEwma, Strategy::RoundRobin] {
        let settings = BalanceSettings { locality: locality.clone(), ..by(strategy) };
        let fleet = zoned(&zones, settings);
        let picked = spread(&fleet, START, 1_000);
        assert!(!picked.contains_key("d") && !picked.contains_key("e"), "{strategy:?}");
    }
    // One of three left carries 1.4 / 3 of the calls.
    let settings = BalanceSettings { locality, panic_share: 0.0, ..by(Strategy::Random) };
    let fleet = Balancer::new(settings);
    let endpoint = |(name, zone): &(&'static str, &str)| Endpoint {
        zone: Some(Arc::from(*zone)),
        ..Endpoint::new(*name, *name)
    };
    fleet.update(zones.iter().map(endpoint), START);
    let usable = |name: &&str| *name != "a" && *name != "b";
    let stayed = (0..3_000).map(|n| {
        let pick = fleet.pick_where(Ask::default(), START, mixed(n), usable).unwrap();
        u64::from(*pick.value() == "c")
    });
    assert!(near(stayed.sum(), 1_400));
    let none_here = |name: &&str| *name == "e";
    assert_eq!(*fleet.pick_where(Ask::default(), START, 1, none_here).unwrap().value(), "e");
}

#[test]
fn a_call_leaves_the_zone_when_staying_costs_too_much() {
    let settings =
        BalanceSettings { locality: Some(Locality::new("here")), ..by(Strategy::PeakEwma) };
    let two = zoned(&[("near", "here"), ("far", "there")], settings);
    let held: Vec<_> = (0..2).map(|n| two.pick(Ask::default(), START, n).unwrap()).collect();
    assert!(held.iter().all(|pick| &*pick.endpoint().name == "near"));
    let third = two.pick(Ask::default(), START, 3).unwrap();
    assert_eq!(&*third.endpoint().name, "near");
    let fourth = two.pick(Ask::default(), START, 4).unwrap();
    assert_eq!(&*fourth.endpoint().name, "far");
}

#[test]
fn a_slow_endpoint_does_not_hide_behind_hedges() {
    let one = balancer(BalanceSettings::default(), &[("a", 1)]);
    let pick = |now| one.pick(Ask::default(), now, 1).unwrap();
    let ms = |count| START.plus(Duration::from_millis(count));
    pick(ms(0)).record(Verdict::Success, ms(10));
    let latency = |now| one.status(now)[0].latency.unwrap().as_millis();
    pick(ms(10)).overtaken(ms(35));
    assert_eq!(latency(ms(35)), 50, "twice what it had taken");
    pick(ms(35)).overtaken(ms(60));
    assert!((95..=100).contains(&latency(ms(60))), "again: {}", latency(ms(60)));
    (0..20).for_each(|_| pick(ms(60)).overtaken(ms(85)));
    assert_eq!(latency(ms(85)), 200, "but not without end");
    pick(ms(85)).overtaken(ms(86));
    assert!(latency(ms(86)) > 150, "one that was not slow says nothing: {}", latency(ms(86)));
}

#[test]
fn a_cancelled_call_counts_only_when_it_was_slow() {
    let one = balancer(BalanceSettings::default(), &[("a", 1)]);
    let pick = |now| one.pick(Ask::default(), now, 1).unwrap();
    pick(START).record(Verdict::Success, START.plus(Duration::from_millis(10)));
    let now = START.plus(Duration::from_millis(10));
    let latency = |now| one.status(now)[0].latency.unwrap().as_millis();
    pick(now).cancelled(now.plus(Duration::from_millis(2)));
    assert_eq!(latency(now), 10);
    pick(now).cancelled(now.plus(Duration::from_millis(200)));
    assert_eq!(latency(now.plus(Duration::from_millis(200))), 200);
}

proptest! {
    #[test]
    fn a_key_moves_only_when_its_endpoint_goes(seed: u64, count in 3_usize..20, gone in 0_usize..20) {
        let names: Vec<String> = (0..count).map(|n| format!("10.{seed}.0.{n}")).collect();
        let all: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1 + name.len() as u32 % 3)).collect();
        let fleet = balancer(by(Strategy::Sticky { load_factor: 1.25 }), &all);
        let key = |n: u64| sticky_key(&(seed ^ n).to_le_bytes());
        let place = |n| name(&fleet, Ask { tried: &[], key: Some(key(n)) }, START, n);
        let before: Vec<String> = (0..100).map(place).collect();
        let (left, gone) = (&mut all.clone(), gone % count);
        let gone = left.remove(gone).0;
        fleet.update(set(left), START);
        for (n, before) in (0..).zip(before) {
            prop_assert!(before == gone || before == place(n));
        }
    }

    #[test]
    fn whatever_happens_calls_in_flight_add_up(steps in proptest::collection::vec((0_u8..6, any::<u64>()), 1..200)) {
        let fleet = balancer(BalanceSettings::default(), &[("a", 1), ("b", 2), ("c", 0), ("d", 7)]);
        let (mut held, mut now) = (Vec::new(), START);
        for (what, random) in steps {
            now = now.plus(Duration::from_millis(random % 3_000));
            match (what, held.pop()) {
                (0..=2, rest) => {
                    held.extend(rest);
                    held.push(fleet.pick(Ask::default(), now, random).unwrap());
                }
                (3, Some(pick)) => drop(pick.record(Verdict::Failure, now)),
                (4, Some(pick)) => drop(pick.record(Verdict::Success, now)),
                (_, pick) => drop(pick),
            }
            let in_flight: u32 = fleet.status(now).iter().map(|one| one.in_flight).sum();
            prop_assert_eq!(in_flight as usize, held.len());
            prop_assert_eq!(fleet.status(now)[2].picks, 0);
        }
    }
}
