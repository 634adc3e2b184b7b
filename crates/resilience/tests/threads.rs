//! Balancer and flights under real threads: what is counted adds up, and nobody waits for ever.

use outrigger_kernel::{BoxFuture, Mono, World};
use outrigger_resilience::{
    Ask, BalanceSettings, Balancer, Endpoint, FlightSettings, Flights, Verdict,
};
use outrigger_sim::SimWorld;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

#[test]
fn calls_in_flight_add_up_while_the_set_changes() {
    let balancer = Balancer::new(BalanceSettings::default());
    let set = |count: u64| (0..count).map(|n| Endpoint::new(format!("e{n}"), n));
    balancer.update(set(5), Mono(1));
    std::thread::scope(|scope| {
        for thread in 0..3_u64 {
            let balancer = &balancer;
            scope.spawn(move || {
                let mut held = Vec::new();
                for n in 0..20_000_u64 {
                    let now = Mono((1 << 40) + n * 50_000);
                    let random = (n + thread).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    held.push(balancer.pick(Ask::default(), now, random).unwrap());
                    if held.len() > 7 {
                        let verdict =
                            if random % 5 == 0 { Verdict::Failure } else { Verdict::Success };
                        let _cause = held.remove(0).record(verdict, now);
                    }
                }
            });
        }
        for n in 0..500 {
            balancer.update(set(3 + n % 4), Mono((1 << 40) + n));
            balancer.configure(BalanceSettings::default());
        }
    });
    let status = balancer.status(Mono(1 << 41));
    assert!(status.iter().all(|one| one.in_flight == 0), "{status:?}");
}

/// Ready at once, but only after it was polled some more times.
async fn turns(mut count: u64) {
    std::future::poll_fn(move |context| {
        if count == 0 {
            return std::task::Poll::Ready(());
        }
        count -= 1;
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_stays_is_answered_whoever_leaves() {
    let (world, flights) = (SimWorld::new(1), Flights::<u64, u64>::new(FlightSettings::default()));
    let loads = Arc::new(AtomicU32::new(0));
    let mut waiting = Vec::new();
    for n in 0..20_000_u64 {
        let (flights, loads) = (flights.clone(), Arc::clone(&loads));
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let leaves = n % 3 == 0;
        let task: BoxFuture<'static, ()> = Box::pin(async move {
            let load = move || async move {
                loads.fetch_add(1, SeqCst);
                turns(50).await;
                n / 100
            };
            let joined = flights.join(n / 100, Mono(0), load).expect("not crowded");
            if leaves {
                tokio::select! {
                    biased;
                    answer = joined => { let _sent = sender.send(answer); }
                    () = turns(n % 40) => {}
                }
            } else {
                let _sent = sender.send(joined.await);
            }
        });
        drop(world.spawn("caller", task));
        if !leaves {
            waiting.push((n / 100, receiver));
        }
    }
    let all = async {
        for (key, receiver) in waiting {
            assert_eq!(receiver.await.unwrap(), Ok(key));
        }
    };
    // Real time: a waiter that nobody wakes would wait for ever.
    tokio::select! {
        () = all => {}
        () = world.sleep(Duration::from_secs(60)) => panic!("somebody was never woken"),
    }
    let loads = loads.load(SeqCst);
    assert!((200..5_000).contains(&loads), "{loads} loads for 200 keys");
}
