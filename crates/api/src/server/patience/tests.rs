//! Hours of silence in milliseconds.

use super::{HALF_CLOSED_MAX, HEAD_MAX, IDLE_MAX, Patient, Pulse, STALL_MAX};
use outrigger_kernel::World;
use outrigger_sim::SimWorld;
use std::{io::ErrorKind, sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

struct Set {
    world: Arc<dyn World>,
    pulse: Arc<Pulse>,
    client: DuplexStream,
    server: Patient<DuplexStream>,
}

fn set() -> Set {
    let world: Arc<dyn World> = SimWorld::new(1);
    let (client, socket) = tokio::io::duplex(64);
    let pulse = Pulse::new();
    let server = Patient::new(socket, Arc::clone(&pulse), Arc::clone(&world));
    Set { world, pulse, client, server }
}

impl Set {
    /// How long the server waits for more before it gives up.
    async fn waits(&mut self) -> Duration {
        let began = self.world.mono();
        let mut buffer = [0; 64];
        loop {
            match self.server.read(&mut buffer).await {
                Ok(0) => panic!("the client is there"),
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
                    return self.world.mono().since(began);
                }
            }
        }
    }
}

fn about(expected: Duration, found: Duration) {
    let slack = Duration::from_millis(50);
    assert!(found >= expected && found < expected + slack, "{found:?} instead of {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing() {
    let mut set = set();
    about(IDLE_MAX, set.waits().await);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_begun_has_to_be_finished() {
    let mut set = set();
    set.client.write_all(b"GET / HT").await.unwrap();
    about(HEAD_MAX, set.waits().await);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_has_no_more_time() {
    let mut set = set();
    let (world, mut client) = (Arc::clone(&set.world), set.client);
    let dripping = async move {
        loop {
            client.write_all(b"x").await.unwrap();
            world.sleep(Duration::from_secs(1)).await;
        }
    };
    let (spare, _) = tokio::io::duplex(1);
    set.client = spare;
    tokio::select! {
        waited = set.waits() => about(HEAD_MAX, waited),
        () = dripping => {}
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_request_is_served_nobody_is_hurried() {
    let mut set = set();
    set.client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut buffer = [0; 64];
    assert_eq!(set.server.read(&mut buffer).await.unwrap(), 18);
    let busy = set.pulse.begin();
    let long = set.world.sleep(IDLE_MAX * 10);
    tokio::select! {
        () = long => {}
        read = set.server.read(&mut buffer) => panic!("{read:?}"),
    }
    drop(busy);
    // Once it is answered, the wait for the next one begins.
    about(IDLE_MAX, set.waits().await);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_in_time_has_its_time_anew() {
    let mut set = set();
    let mut buffer = [0; 64];
    for _ in 0..3 {
        set.world.sleep(IDLE_MAX / 2).await;
        set.client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(set.server.read(&mut buffer).await.unwrap(), 18);
        drop(set.pulse.begin());
    }
    about(IDLE_MAX, set.waits().await);
}

#[tokio::test(start_paused = true)]
async fn http2_is_left_alone() {
    let mut set = set();
    set.client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let long = set.world.sleep(IDLE_MAX * 10);
    tokio::select! {
        () = long => {}
        waited = set.waits() => panic!("given up after {waited:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read() {
    let mut set = set();
    let began = set.world.mono();
    let error = set.server.write_all(&[0; 1024]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    about(STALL_MAX, set.world.mono().since(began));
    drop(set.client);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_is_waited_for() {
    let set = set();
    let (world, mut client, mut server) = (set.world, set.client, set.server);
    let reading = async {
        let mut buffer = [0; 8];
        for _ in 0..8 {
            world.sleep(STALL_MAX / 2).await;
            client.read_exact(&mut buffer).await.unwrap();
        }
    };
    let writing = server.write_all(&[0; 128]);
    let (written, ()) = tokio::join!(writing, reading);
    written.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_sending_is_served_for_a_while() {
    let mut set = set();
    set.client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut buffer = [0; 64];
    assert_eq!(set.server.read(&mut buffer).await.unwrap(), 18);
    let busy = set.pulse.begin();
    set.client.shutdown().await.unwrap();
    let began = set.world.mono();
    assert_eq!(set.server.read(&mut buffer).await.unwrap(), 0);
    about(HALF_CLOSED_MAX, set.world.mono().since(began));
    drop(busy);
}

#[tokio::test(start_paused = true)]
async fn between_requests_the_end_is_the_end() {
    let mut set = set();
    let began = set.world.mono();
    set.client.shutdown().await.unwrap();
    assert_eq!(set.server.read(&mut [0; 64]).await.unwrap(), 0);
    about(Duration::ZERO, set.world.mono().since(began));
}
