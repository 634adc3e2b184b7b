//! The bulkhead's seats and line, step by step and in random histories.

use super::{Bulkhead, BulkheadSettings, Entrant, Entry, Seat, Seats, Waiter, Why};
use crate::{Criticality, Ended, Rank};
use outrigger_kernel::{Deadline, Mono, World};
use proptest::prelude::*;
use std::{
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

fn at(ms: u64) -> Mono {
    Mono(0).plus(Duration::from_millis(ms))
}

fn bulkhead(seats: u32, queue_max: u32) -> Bulkhead {
    let seats = Seats::Fixed(seats);
    Bulkhead::new(BulkheadSettings { seats, queue_max, ..BulkheadSettings::default() })
}

fn of(criticality: Criticality) -> Entrant {
    Entrant { rank: Rank::new(criticality, 64), ..Entrant::default() }
}

fn seat(entry: Entry) -> Seat {
    match entry {
        Entry::Seated(seat) => seat,
        Entry::Queued(_) => panic!("queued"),
    }
}

fn waiter(entry: Entry) -> Waiter {
    match entry {
        Entry::Queued(waiter) => waiter,
        Entry::Seated(_) => panic!("seated"),
    }
}

fn poll(waiter: &mut Waiter, now: Mono) -> Option<Result<Seat, Why>> {
    match waiter.poll_seat(now, Waker::noop()) {
        Poll::Ready(done) => Some(done.map_err(|refused| refused.why)),
        Poll::Pending => None,
    }
}

#[test]
fn first_come_first_served_and_a_dropped_seat_goes_on() {
    let bulkhead = bulkhead(1, 10);
    let first = seat(bulkhead.enter(&Entrant::default(), at(0)).unwrap());
    let mut second = waiter(bulkhead.enter(&Entrant::default(), at(1)).unwrap());
    let mut third = waiter(bulkhead.enter(&Entrant::default(), at(2)).unwrap());
    assert!(poll(&mut second, at(3)).is_none());
    assert!(bulkhead.try_seat().is_none());
    drop(first);
    assert!(poll(&mut third, at(4)).is_none());
    let seated = poll(&mut second, at(4)).unwrap().unwrap();
    assert!(bulkhead.try_seat().is_none(), "nobody overtakes the line");
    seated.finish(Ended::Answered, at(5));
    drop(poll(&mut third, at(5)).unwrap().unwrap());
    let status = bulkhead.status(at(6));
    assert_eq!((status.seated, status.waiting), (0, 0));
    assert!(bulkhead.try_seat().is_some());
}

#[test]
fn cancelled_waiters_leave_the_line_and_pass_on_what_they_were_granted() {
    let bulkhead = bulkhead(1, 10);
    let first = seat(bulkhead.enter(&Entrant::default(), at(0)).unwrap());
    let second = waiter(bulkhead.enter(&Entrant::default(), at(0)).unwrap());
    let third = waiter(bulkhead.enter(&Entrant::default(), at(0)).unwrap());
    let mut fourth = waiter(bulkhead.enter(&Entrant::default(), at(0)).unwrap());
    drop(second);
    assert_eq!(bulkhead.status(at(0)).waiting, 2);
    drop(first);
    drop(third);
    assert!(matches!(poll(&mut fourth, at(1)), Some(Ok(_))));
    let status = bulkhead.status(at(1));
    assert_eq!((status.seated, status.waiting), (0, 0));
}

#[test]
fn nobody_waits_longer_than_allowed() {
    let bulkhead = bulkhead(1, 10);
    let _first = seat(bulkhead.enter(&Entrant::default(), at(0)).unwrap());
    let mut patient = waiter(bulkhead.enter(&Entrant::default(), at(0)).unwrap());
    assert_eq!(patient.until(), at(50));
    let deadline = Some(Deadline(at(100)));
    let mut hurried =
        waiter(bulkhead.enter(&Entrant { deadline, ..Entrant::default() }, at(0)).unwrap());
    assert_eq!(hurried.until(), at(10), "a tenth of what is left");
    assert!(poll(&mut hurried, at(9)).is_none());
    assert_eq!(poll(&mut hurried, at(10)).unwrap().unwrap_err(), Why::Waited);
    assert_eq!(poll(&mut patient, at(50)).unwrap().unwrap_err(), Why::Waited);
    assert_eq!(bulkhead.status(at(50)).waiting, 0);
}

#[test]
fn what_cannot_end_in_time_does_not_begin() {
    let bulkhead = bulkhead(10, 10);
    for n in 0..100 {
        let seat = seat(bulkhead.enter(&Entrant::default(), at(n * 20)).unwrap());
        seat.finish(Ended::Answered, at(n * 20 + 20));
    }
    let now = at(2_000);
    assert_eq!(bulkhead.status(now).service, Duration::from_millis(20));
    let by = |ms| Entrant {
        deadline: Some(Deadline(now.plus(Duration::from_millis(ms)))),
        ..Entrant::default()
    };
    assert_eq!(bulkhead.enter(&by(19), now).unwrap_err().why, Why::TooLate);
    assert!(bulkhead.enter(&by(21), now).is_ok());
    let later = at(9_000);
    let tight = Entrant {
        deadline: Some(Deadline(later.plus(Duration::from_millis(1)))),
        ..Entrant::default()
    };
    assert!(bulkhead.enter(&tight, later).is_ok(), "what was long ago keeps nobody out for ever");
}

#[test]
fn under_pressure_the_newest_is_next_and_the_oldest_goes() {
    let bulkhead = bulkhead(1, 3);
    let mut seated = seat(bulkhead.enter(&Entrant::default(), at(0)).unwrap());
    let mut standing = waiter(bulkhead.enter(&Entrant::default(), at(0)).unwrap());
    // Somebody waits all the time, though each only for 19 ms.
    for n in 1..6_u64 {
        let next = waiter(bulkhead.enter(&Entrant::default(), at(n * 19)).unwrap());
        drop(seated);
        seated = poll(&mut standing, at(n * 19)).unwrap().unwrap();
        standing = next;
    }
    let mut newer = waiter(bulkhead.enter(&Entrant::default(), at(101)).unwrap());
    let mut newest = waiter(bulkhead.enter(&Entrant::default(), at(102)).unwrap());
    let mut one_more = waiter(bulkhead.enter(&Entrant::default(), at(102)).unwrap());
    assert_eq!(poll(&mut standing, at(103)).unwrap().unwrap_err(), Why::Full, "it made room");
    seated.finish(Ended::Answered, at(104));
    assert!(poll(&mut newest, at(104)).is_none());
    let seated = poll(&mut one_more, at(104)).unwrap().unwrap();
    seated.finish(Ended::Answered, at(106));
    assert_eq!(poll(&mut newer, at(106)).unwrap().unwrap_err(), Why::Waited, "5 ms are over");
    assert!(matches!(poll(&mut newest, at(106)), Some(Ok(_))));
}

#[test]
fn worth_goes_first_and_makes_room() {
    let bulkhead = bulkhead(1, 2);
    let seated = seat(bulkhead.enter(&Entrant::default(), at(0)).unwrap());
    let mut crawl = waiter(bulkhead.enter(&of(Criticality::Sheddable), at(0)).unwrap());
    let mut page = waiter(bulkhead.enter(&of(Criticality::Critical), at(1)).unwrap());
    assert_eq!(bulkhead.enter(&of(Criticality::Sheddable), at(1)).unwrap_err().why, Why::Full);
    let mut payment = waiter(bulkhead.enter(&of(Criticality::CriticalPlus), at(2)).unwrap());
    assert_eq!(poll(&mut crawl, at(2)).unwrap().unwrap_err(), Why::Full);
    drop(seated);
    let seated = poll(&mut payment, at(3)).unwrap().unwrap();
    assert!(poll(&mut page, at(3)).is_none());
    drop(seated);
    assert!(matches!(poll(&mut page, at(3)), Some(Ok(_))));
}

#[test]
fn exempt_calls_are_always_seated() {
    let bulkhead = bulkhead(1, 0);
    let _seated = seat(bulkhead.enter(&Entrant::default(), at(0)).unwrap());
    let exempt = Entrant { exempt: true, ..Entrant::default() };
    let health: Vec<_> = (0..100).map(|_| seat(bulkhead.enter(&exempt, at(0)).unwrap())).collect();
    assert_eq!(bulkhead.status(at(0)).seated, 1);
    health.into_iter().for_each(|seat| seat.finish(Ended::Answered, at(1)));
    assert_eq!(bulkhead.status(at(1)).seated, 1);
}

#[tokio::test(start_paused = true)]
async fn the_driver_waits_and_gives_up() {
    let world: Arc<dyn World> = outrigger_sim::SimWorld::new(1);
    let bulkhead = bulkhead(1, 10);
    let first = bulkhead.seat(&*world, &Entrant::default()).await.unwrap();
    let started = world.mono();
    let refused = bulkhead.seat(&*world, &Entrant::default()).await.unwrap_err();
    assert_eq!(refused.why, Why::Waited);
    let waited = world.mono().since(started).as_millis();
    assert!((50..=52).contains(&waited), "{waited} ms");
    let entrant = Entrant::default();
    let waiting = bulkhead.seat(&*world, &entrant);
    let release = async {
        world.sleep(Duration::from_millis(10)).await;
        drop(first);
    };
    let (seated, ()) = tokio::join!(waiting, release);
    drop(seated.unwrap());
    assert_eq!(bulkhead.status(world.mono()).seated, 0);
}

#[test]
fn threads_never_exceed_the_seats_and_leak_none() {
    let bulkhead = bulkhead(3, 4);
    let (inside, most) =
        (std::sync::atomic::AtomicU32::new(0), std::sync::atomic::AtomicU32::new(0));
    use std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..5_000_u64 {
                    let held = match bulkhead.enter(&Entrant::default(), at(n / 100)) {
                        Ok(Entry::Seated(seat)) => Some(seat),
                        Ok(Entry::Queued(mut waiter)) => {
                            let looked = (0..20).find_map(|_| poll(&mut waiter, at(n / 100)));
                            looked.and_then(Result::ok)
                        }
                        Err(_) => None,
                    };
                    if held.is_some() {
                        most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                        inside.fetch_sub(1, SeqCst);
                    }
                }
            });
        }
    });
    assert!(most.load(SeqCst) <= 3);
    let status = bulkhead.status(at(0));
    assert_eq!((status.seated, status.waiting), (0, 0));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Enter { class: usize, deadline_ms: Option<u64> },
    Finish { which: usize },
    Drop { which: usize },
    Cancel { which: usize },
    Poll { which: usize },
    Wait { ms: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = any::<usize>;
    let deadline = proptest::option::of(0_u64..300);
    let step = prop_oneof![
        6 => (0..4_usize, deadline).prop_map(|(class, deadline_ms)| Step::Enter { class, deadline_ms }),
        2 => which().prop_map(|which| Step::Finish { which }),
        1 => which().prop_map(|which| Step::Drop { which }),
        1 => which().prop_map(|which| Step::Cancel { which }),
        3 => which().prop_map(|which| Step::Poll { which }),
        2 => (0_u64..40).prop_map(|ms| Step::Wait { ms }),
    ];
    proptest::collection::vec(step, 0..300)
}

proptest! {
    /// Whatever happens: never more seated than seats, never more waiting than places, no seat is lost, nobody waits
    /// while a seat is free, and nobody is seated past its time.
    #[test]
    fn seats_are_neither_lost_nor_doubled(seats in 1_u32..4, queue_max in 0_u32..5, steps in steps()) {
        let bulkhead = bulkhead(seats, queue_max);
        let (mut seated, mut waiting): (Vec<Seat>, Vec<Waiter>) = Default::default();
        let mut now = at(0);
        for step in steps {
            match step {
                Step::Enter { class, deadline_ms } => {
                    let deadline = deadline_ms.map(|ms| Deadline(now.plus(Duration::from_millis(ms))));
                    let entrant = Entrant { deadline, ..of(Criticality::ALL[class]) };
                    match bulkhead.enter(&entrant, now) {
                        Ok(Entry::Seated(seat)) => seated.push(seat),
                        Ok(Entry::Queued(waiter)) => waiting.push(waiter),
                        Err(_) => {}
                    }
                }
                Step::Finish { which } if !seated.is_empty() => {
                    let index = which % seated.len();
                    seated.swap_remove(index).finish(Ended::Answered, now);
                }
                Step::Drop { which } if !seated.is_empty() => {
                    let index = which % seated.len();
                    drop(seated.swap_remove(index));
                }
                Step::Cancel { which } if !waiting.is_empty() => {
                    let index = which % waiting.len();
                    drop(waiting.swap_remove(index));
                }
                Step::Poll { which } if !waiting.is_empty() => {
                    let index = which % waiting.len();
                    let until = waiting[index].until();
                    if let Some(done) = poll(&mut waiting[index], now) {
                        drop(waiting.swap_remove(index));
                        if let Ok(seat) = done {
                            prop_assert!(now <= until);
                            seated.push(seat);
                        }
                    }
                }
                Step::Wait { ms } => now = now.plus(Duration::from_millis(ms)),
                _ => {}
            }
            let status = bulkhead.status(now);
            prop_assert!(status.seated <= seats && status.waiting <= queue_max);
            prop_assert!(status.seated as usize >= seated.len());
            prop_assert!(status.waiting as usize <= waiting.len());
            prop_assert!(status.waiting == 0 || status.seated == seats, "somebody waits beside a free seat: {:?}", status);
        }
        waiting.clear();
        seated.clear();
        let status = bulkhead.status(now);
        prop_assert_eq!((status.seated, status.waiting), (0, 0));
    }
}
