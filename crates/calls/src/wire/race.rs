//! Which of several addresses answers first, without asking all at once (RFC 8305, "happy eyeballs").
//!
//! Families alternate, beginning with that of the first address. An attempt that has not come up after 250 ms gets
//! company, one that fails is followed by the next at once; the first connection wins and the other attempts are given
//! up. So an address that swallows packets costs a quarter of a second and not the whole time of the call.

use futures_util::{StreamExt, stream::FuturesUnordered};
use outrigger_kernel::{Deadline, World, within};
use std::{future::Future, io, net::SocketAddr, time::Duration};

/// How long an attempt has before the next one begins (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// How many addresses are tried.
const ADDRESSES_MAX: usize = 16;

/// The first of `addresses` that `connect` connects to, and the connection.
pub(super) async fn first_of<T, F: Future<Output = io::Result<T>>>(
    world: &dyn World,
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<(SocketAddr, T)> {
    let mut rest = alternating(addresses).into_iter().take(ADDRESSES_MAX).peekable();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut trying = FuturesUnordered::new();
    loop {
        if let Some(address) = rest.next() {
            let attempt = connect(address);
            trying.push(async move { (address, attempt.await) });
        }
        let ended = match rest.peek() {
            None => trying.next().await,
            Some(_) => {
                let next_begins = Deadline::after(world, STAGGER);
                match within(world, next_begins, trying.next()).await {
                    Ok(ended) => ended,
                    Err(_) => continue,
                }
            }
        };
        match ended {
            Some((address, Ok(connected))) => return Ok((address, connected)),
            Some((_, Err(error))) => last = error,
            None => return Err(last),
        }
    }
}

/// The same addresses, families in turns; within a family in the order they came.
fn alternating(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut mixed = Vec::new();
    loop {
        let pair = [one.next(), other.next()];
        if pair == [None, None] {
            return mixed;
        }
        mixed.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::{alternating, first_of};
    use outrigger_kernel::World;
    use outrigger_sim::SimWorld;
    use std::{io, net::SocketAddr, sync::Mutex, time::Duration};

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns() {
        let given = addresses(&["1.1.1.1:1", "1.1.1.2:1", "1.1.1.3:1", "[::1]:1", "[::2]:1"]);
        let meant = addresses(&["1.1.1.1:1", "[::1]:1", "1.1.1.2:1", "[::2]:1", "1.1.1.3:1"]);
        assert_eq!(alternating(given), meant);
        assert!(alternating(Vec::new()).is_empty());
    }

    /// What a pretended network does: port 1 swallows, port 2 refuses after 10 ms, port 3 takes 300 ms, 4 connects.
    async fn connect(world: &SimWorld, address: SocketAddr) -> io::Result<u16> {
        let (wait, result) = match address.port() {
            1 => return std::future::pending().await,
            2 => (10, Err(io::ErrorKind::ConnectionRefused.into())),
            3 => (300, Ok(3)),
            port => (1, Ok(port)),
        };
        world.sleep(Duration::from_millis(wait)).await;
        result
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_swallows_costs_a_quarter_of_a_second_and_one_that_refuses_nothing() {
        for (given, won, after_ms) in [
            (&["10.0.0.1:1", "10.0.0.2:4"][..], 4, 251),
            (&["10.0.0.1:2", "10.0.0.2:4"], 4, 11),
            (&["10.0.0.1:3", "10.0.0.2:1"], 3, 300),
            (&["10.0.0.1:1", "10.0.0.2:2", "[::1]:3"], 3, 550),
        ] {
            let world = SimWorld::new(1);
            let begun = Mutex::new(Vec::new());
            let dial = |address| {
                begun.lock().unwrap().push(address);
                connect(&world, address)
            };
            let began = world.mono();
            let (address, port) = first_of(&*world, addresses(given), dial).await.unwrap();
            assert_eq!((port, address.port()), (won, won));
            let took = world.mono().since(began).as_millis();
            assert!((after_ms..=after_ms + 2).contains(&took), "{given:?}: {took} ms");
        }
        let world = SimWorld::new(1);
        let refused = first_of(&*world, addresses(&["1.1.1.1:2"]), |a| connect(&world, a)).await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let nobody = first_of(&*world, Vec::new(), |a| connect(&world, a)).await;
        assert_eq!(nobody.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
