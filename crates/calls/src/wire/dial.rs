//! Making a connection: names to addresses, addresses to sockets, sockets to TLS.

use super::{
    io::{Io, Socket},
    race::first_of,
    tls::Security,
};
use crate::{
    CallError, Phase, Reach,
    discover::{At, Discovery, DiscoverySettings, DnsClient, DnsSource, Place},
};
use http::HeaderValue;
use outrigger_kernel::{Deadline, World, within};
use rustls::{ClientConfig, pki_types::ServerName};
use socket2::{SockRef, TcpKeepalive};
use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::{
    io::AsyncBufReadExt,
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

/// Where to connect to.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// Host and port of something near.
    Host(String, u16),
    /// A Unix socket.
    Socket(PathBuf),
    /// Something outside, which may be out of reach, and which insists on being called by its proper name.
    Outside {
        host: String,
        port: u16,
        /// The name that its certificate must have.
        proves: String,
        authority: HeaderValue,
        reach: Reach,
        dns: Option<DnsClient>,
    },
}

/// What is spoken once connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
    /// HTTP/2 if the other side can, else HTTP/1.1; agreed on by TLS.
    Negotiated,
}

/// Makes connections to one address.
#[derive(Debug)]
pub(crate) struct Dialer {
    address: Address,
    name: String,
    protocol: Protocol,
    security: Security,
    tls: OnceLock<Option<Arc<ClientConfig>>>,
    timeout: Duration,
    /// What is known of the host's addresses, once it was asked for.
    known: OnceLock<Discovery>,
    /// The address that a connection came up to last.
    good: Mutex<Option<SocketAddr>>,
}

/// A connection just made.
#[derive(Debug)]
pub(crate) struct Dialed {
    pub(crate) io: Io,
    pub(crate) http2: bool,
}

impl Dialer {
    pub(crate) fn new(
        address: Address,
        protocol: Protocol,
        security: Security,
        timeout: Duration,
    ) -> Self {
        let name = match &address {
            Address::Host(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Address::Host(host, port) => format!("{host}:{port}"),
            Address::Socket(path) => path.display().to_string(),
            Address::Outside { authority, host, port, proves, .. } => {
                let name = String::from_utf8_lossy(authority.as_bytes()).into_owned();
                if host == proves { name } else { format!("{name} at {host}:{port}") }
            }
        };
        Self {
            address,
            name,
            protocol,
            security,
            tls: OnceLock::new(),
            timeout,
            known: OnceLock::new(),
            good: Mutex::default(),
        }
    }

    /// The address as errors and logs show it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn secure(&self) -> bool {
        !matches!(self.security, Security::Plain)
    }

    /// What goes into `Host` or `:authority`.
    pub(crate) fn authority(&self) -> HeaderValue {
        match &self.address {
            Address::Outside { authority, .. } => authority.clone(),
            Address::Host(..) => HeaderValue::try_from(&*self.name)
                .unwrap_or_else(|_| HeaderValue::from_static("localhost")),
            Address::Socket(_) => HeaderValue::from_static("localhost"),
        }
    }

    /// Connects, with TLS if need be.
    pub(crate) async fn dial(&self, world: &Arc<dyn World>) -> Result<Dialed, CallError> {
        let deadline = Deadline::after(&**world, self.timeout);
        let dialed = within(&**world, deadline, async {
            let socket = self.connect(world).await.map_err(|source| self.refused(source))?;
            self.protect(socket).await
        });
        dialed.await.unwrap_or_else(|_| {
            Err(CallError::Timeout { target: self.name.clone(), waiting_for: Phase::Connection })
        })
    }

    /// Connects and hangs up, to see whether somebody listens.
    pub(crate) async fn knock(&self, world: &Arc<dyn World>) -> io::Result<()> {
        let deadline = Deadline::after(&**world, self.timeout);
        let knocked = within(&**world, deadline, self.connect(world)).await;
        knocked.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map(drop)
    }

    fn refused(&self, source: io::Error) -> CallError {
        CallError::Connect { target: self.name.clone(), source }
    }

    async fn connect(&self, world: &Arc<dyn World>) -> io::Result<Socket> {
        let (host, port) = match &self.address {
            Address::Socket(path) => return UnixStream::connect(path).await.map(Socket::Unix),
            Address::Host(host, port) | Address::Outside { host, port, .. } => (host, *port),
        };
        let mut addresses = self.resolve(host, port, world).await?;
        if matches!(self.address, Address::Outside { reach: Reach::Public, .. }) {
            addresses.retain(|address| is_public(address.ip()));
            if addresses.is_empty() {
                let reason = "its address is not one of the public internet";
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
            }
        }
        // The one that was good the last time first: a family that leads nowhere should not cost every connection.
        let good = *self.good();
        if let Some(place) = addresses.iter().position(|address| Some(*address) == good) {
            addresses.swap(0, place);
        }
        let connect = |address| async move { prepare(TcpStream::connect(address).await?) };
        match first_of(&**world, addresses, connect).await {
            Ok((address, socket)) => {
                *self.good() = Some(address);
                Ok(Socket::Tcp(socket))
            }
            Err(error) => {
                // Perhaps it has moved.
                self.known.get().into_iter().for_each(Discovery::hurry);
                Err(error)
            }
        }
    }

    fn good(&self) -> MutexGuard<'_, Option<SocketAddr>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses of a host. Outside they are kept for as long as DNS says, and longer while it says nothing.
    async fn resolve(
        &self,
        host: &str,
        port: u16,
        world: &Arc<dyn World>,
    ) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let Address::Outside { dns: Some(dns), .. } = &self.address else {
            return Ok(tokio::net::lookup_host((host, port)).await?.collect());
        };
        let known = self.known.get_or_init(|| {
            let source = Arc::new(DnsSource::hosts(dns.clone(), host, port));
            let settings = DiscoverySettings::default();
            Discovery::start(Arc::clone(world), source, settings, |_| {})
        });
        let set = known.current(Deadline::after(&**world, self.timeout)).await;
        let address = |place: &Place| match place.at {
            At::Address(address) => Some(address),
            _ => None,
        };
        let addresses: Vec<_> = set.places.iter().filter_map(address).collect();
        match &set.stale {
            Some(error) if addresses.is_empty() => Err(io::Error::other(error.to_string())),
            _ => Ok(addresses),
        }
    }

    async fn protect(&self, socket: Socket) -> Result<Dialed, CallError> {
        let failed = |reason: String| CallError::Tls { target: self.name.clone(), reason };
        let known = self.protocol == Protocol::Http2;
        let Some(config) = self.tls_config().map_err(|error| failed(error.to_string()))? else {
            return Ok(Dialed { io: Io::plain(socket), http2: known });
        };
        let host = match &self.address {
            Address::Host(host, _) | Address::Outside { proves: host, .. } => host.as_str(),
            Address::Socket(_) => "localhost",
        };
        let peer = self.security.peer();
        let name = match peer {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned())
                .map_err(|_| failed(format!("{host:?} is not a name a certificate can have")))?,
        };
        let stream = TlsConnector::from(config).connect(name, socket).await;
        let mut stream = stream.map_err(|error| failed(error.to_string()))?;
        if peer.is_some() {
            // The handshake is over for us before the other side has looked at our certificate. It speaks first once it
            // has, and until then nothing is sent that could count as seen.
            let heard = stream.fill_buf().await.map(|bytes| !bytes.is_empty());
            match heard {
                Ok(true) => {}
                Ok(false) => return Err(failed("it hung up before it said anything: it does not believe our certificate, or has no room".into())),
                Err(error) => return Err(failed(error.to_string())),
            }
        }
        let agreed = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let http2 = match self.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Negotiated => agreed,
        };
        Ok(Dialed { io: Io::tls(stream), http2 })
    }

    fn tls_config(&self) -> Result<Option<Arc<ClientConfig>>, super::tls::BadTls> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        let protocols: &[&[u8]] = match self.protocol {
            Protocol::Http1 => &[b"http/1.1"],
            Protocol::Http2 => &[b"h2"],
            Protocol::Negotiated => &[b"h2", b"http/1.1"],
        };
        let config = self.security.config(protocols)?;
        Ok(self.tls.get_or_init(|| config).clone())
    }
}

/// How long a silent connection waits before the kernel asks whether the other side is still there, how often it asks,
/// and how many questions may go unanswered. Streams may be silent for hours, so this, and not silence, tells that a
/// machine has vanished: half a minute after the fact.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
/// How long what was sent may go without the other side's kernel saying that it has it. Without this it is a quarter of
/// an hour, because keep-alive does not ask while something is under way.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(20);

fn prepare(socket: TcpStream) -> io::Result<TcpStream> {
    // Connecting to a port of one's own machine where nobody listens can, when the kernel happens to pick that very
    // port for the calling side, connect a socket to itself.
    let other = socket.peer_addr()?;
    if socket.local_addr()? == other {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    socket.set_nodelay(true)?;
    if other.ip().is_loopback() {
        return Ok(socket);
    }
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_PROBES);
    let plain = SockRef::from(&socket);
    plain.set_tcp_keepalive(&keepalive)?;
    plain.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    Ok(socket)
}

/// Whether an address is one that anybody on the internet could reach.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_documentation()
                || v4.is_multicast()
                || a == 0
                || a >= 240
                // Shared by a provider's customers (RFC 6598), protocol assignments (RFC 6890), benchmarks (RFC 2544).
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && (18..20).contains(&b)))
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped().or_else(|| embedded(v6)) {
            Some(v4) => is_public(IpAddr::V4(v4)),
            None => {
                !(v6.is_loopback()
                    || v6.is_unspecified()
                    || v6.is_multicast()
                    || v6.is_unique_local()
                    || v6.is_unicast_link_local())
            }
        },
    }
}

/// The IPv4 address that a NAT64 address (RFC 6052) leads to.
fn embedded(v6: Ipv6Addr) -> Option<std::net::Ipv4Addr> {
    let s = v6.segments();
    let nat64 = s[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    nat64.then(|| std::net::Ipv4Addr::from(u32::from(s[6]) << 16 | u32::from(s[7])))
}

#[cfg(test)]
mod tests {
    use super::{Address, Dialer, Protocol, Security, is_public};
    use crate::{CallError, Reach};
    use http::HeaderValue;
    use outrigger_kernel::World;
    use outrigger_sim::SimWorld;
    use std::{sync::Arc, time::Duration};

    #[test]
    fn public_addresses() {
        for address in ["1.1.1.1", "2606:4700::1111", "100.63.0.1", "::ffff:8.8.8.8"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "169.254.169.254",
            "192.168.0.1",
            "0.0.0.0",
            "100.64.0.1",
            "198.18.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[tokio::test]
    async fn what_is_out_of_reach_is_not_connected_to() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = Address::Outside {
            host: "localhost".to_owned(),
            port,
            proves: "localhost".to_owned(),
            authority: HeaderValue::from_static("localhost"),
            reach: Reach::Public,
            dns: None,
        };
        let timeout = Duration::from_secs(5);
        let dialer = Dialer::new(address, Protocol::Http1, Security::Plain, timeout);
        let world: Arc<dyn World> = SimWorld::new(1);
        let refused = dialer.dial(&world).await.unwrap_err();
        assert!(matches!(refused, CallError::Connect { .. }), "{refused}");
        assert!(refused.to_string().contains("public internet"), "{refused}");
    }
}
