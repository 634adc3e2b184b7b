//! Sockets to listen on. A taken port is either an error that names its holder, or a reason to take the next one.

use crate::{
    failure::{Exit, Failure},
    procfs,
    settings::app::Port,
};
use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How many ports after a taken one are tried.
const FORWARD_MAX: u16 = 200;

/// What to do when a port is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenTaken {
    /// Fail: whoever started us counts on this port.
    Fail,
    /// Take the next free one, unless somebody asked for exactly this one.
    Forward,
}

/// The ports this process has bound already: passed over without a word, as one app's is the next one's neighbour.
#[derive(Debug, Default)]
pub struct Ours(Mutex<BTreeSet<u16>>);

impl Ours {
    fn ports(&self) -> MutexGuard<'_, BTreeSet<u16>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bound sockets of one port.
#[derive(Debug)]
pub struct Bound {
    /// One socket per address.
    pub sockets: Vec<TcpListener>,
    /// The port they are bound to.
    pub port: u16,
    /// The port that was wanted but taken, and by whom.
    pub moved_from: Option<(u16, Option<procfs::Holder>)>,
}

/// Binds `port` on every one of `addresses`.
///
/// # Errors
/// When the port is taken (and may not be moved), or an address cannot be used.
pub fn bind(
    addresses: &[IpAddr],
    port: &Port,
    when_taken: WhenTaken,
    ours: &Ours,
) -> Result<Bound, Failure> {
    let may_move = when_taken == WhenTaken::Forward && !port.asked_for && port.number != 0;
    let mut ours = ours.ports();
    let mut first = port.number;
    while may_move && ours.contains(&first) && first < u16::MAX {
        first += 1;
    }
    let bound = bind_from(addresses, &Port { number: first, ..port.clone() }, may_move)?;
    ours.insert(bound.port);
    Ok(bound)
}

fn bind_from(addresses: &[IpAddr], port: &Port, may_move: bool) -> Result<Bound, Failure> {
    match bind_all(addresses, port.number) {
        Ok(bound) => Ok(bound),
        Err((ErrorKind::AddrInUse, _)) if may_move => {
            let holder = procfs::holder(port.number);
            let next =
                (1..=FORWARD_MAX).filter_map(|step| port.number.checked_add(step)).chain([0]);
            let mut next = next.filter_map(|number| bind_all(addresses, number).ok());
            let bound = next.next().ok_or_else(|| taken(port))?;
            Ok(Bound { moved_from: Some((port.number, holder)), ..bound })
        }
        Err((ErrorKind::AddrInUse, _)) => Err(taken(port)),
        Err((kind, reason)) => Err(refused(port, kind, &reason)),
    }
}

fn bind_all(addresses: &[IpAddr], number: u16) -> Result<Bound, (ErrorKind, String)> {
    let loopback_only = addresses == [IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let mut sockets = Vec::with_capacity(addresses.len() + 1);
    let mut port = number;
    for address in addresses {
        let at = SocketAddr::new(*address, port);
        let failed = |error: std::io::Error| (error.kind(), format!("{at}: {error}"));
        let socket = TcpListener::bind(at).map_err(failed)?;
        port = socket.local_addr().map_err(failed)?.port();
        sockets.push(socket);
    }
    // Some clients try ::1 first for "localhost". It is served where the machine has it, and not missed elsewhere.
    if loopback_only {
        sockets.extend(TcpListener::bind((Ipv6Addr::LOCALHOST, port)).ok());
    }
    for socket in &sockets {
        socket.set_nonblocking(true).map_err(|error| (error.kind(), error.to_string()))?;
    }
    Ok(Bound { sockets, port, moved_from: None })
}

fn taken(port: &Port) -> Failure {
    let failure =
        Failure::new("OUTR-0004", Exit::Failed, format!("port {} is in use", port.number))
            .at(format!("--{}", port.flag));
    let failure = match procfs::holder(port.number) {
        Some(holder) => failure.why(format!("{holder} listens there")),
        None => failure.why("another process listens there; it may belong to another user"),
    };
    failure.help(format!(
        "choose another port with --{0} (0 takes any free one), or stop that process",
        port.flag
    ))
}

fn refused(port: &Port, kind: ErrorKind, reason: &str) -> Failure {
    let failure =
        Failure::new("OUTR-0005", Exit::Failed, format!("cannot listen on port {}", port.number))
            .at(format!("--{}", port.flag))
            .why(reason);
    match kind {
        ErrorKind::PermissionDenied => {
            failure.help("ports below 1024 need privileges; choose a higher one")
        }
        ErrorKind::AddrNotAvailable => failure.help("the address does not belong to this machine"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::{Ours, WhenTaken, bind};
    use crate::settings::app::Port;
    use std::net::{IpAddr, Ipv4Addr, TcpListener};

    const LOCAL: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::LOCALHOST)];

    fn taken() -> (TcpListener, u16) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        (socket, port)
    }

    #[test]
    fn a_taken_port_names_its_holder_and_flag() {
        let (_socket, number) = taken();
        let port = Port { number, asked_for: false, flag: "dapr-http-port" };
        let failure = bind(&LOCAL, &port, WhenTaken::Fail, &Ours::default()).unwrap_err();
        let text = failure.to_string();
        assert_eq!(failure.code(), "OUTR-0004");
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        assert!(text.contains("--dapr-http-port"), "{text}");
    }

    #[test]
    fn a_default_port_moves_and_one_asked_for_does_not() {
        let (_socket, number) = taken();
        let default = Port { number, asked_for: false, flag: "dapr-http-port" };
        let bound = bind(&LOCAL, &default, WhenTaken::Forward, &Ours::default()).unwrap();
        assert_ne!(bound.port, number);
        assert_eq!(bound.moved_from.map(|(from, _)| from), Some(number));
        let asked = Port { asked_for: true, ..default };
        assert_eq!(
            bind(&LOCAL, &asked, WhenTaken::Forward, &Ours::default()).unwrap_err().code(),
            "OUTR-0004"
        );
    }

    #[test]
    fn zero_takes_any_and_all_addresses_share_it() {
        let bound =
            bind(&LOCAL, &Port::any("dapr-http-port"), WhenTaken::Fail, &Ours::default()).unwrap();
        assert!(bound.port > 0);
        for socket in &bound.sockets {
            assert_eq!(socket.local_addr().unwrap().port(), bound.port);
        }
    }

    #[test]
    fn our_own_ports_are_passed_over_in_silence() {
        let (socket, number) = taken();
        drop(socket);
        let default = Port { number, asked_for: false, flag: "dapr-http-port" };
        let ours = Ours::default();
        let first = bind(&LOCAL, &default, WhenTaken::Forward, &ours).unwrap();
        let second = bind(&LOCAL, &default, WhenTaken::Forward, &ours).unwrap();
        assert!(second.port > first.port);
        assert!(second.moved_from.is_none_or(|(from, _)| from != number));
    }

    #[test]
    fn a_foreign_address_is_said_to_be_one() {
        let foreign = ["192.0.2.1".parse().unwrap()];
        let failure =
            bind(&foreign, &Port::any("dapr-http-port"), WhenTaken::Forward, &Ours::default())
                .unwrap_err();
        assert_eq!(failure.code(), "OUTR-0005");
    }
}
