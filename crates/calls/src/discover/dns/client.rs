//! Asks the servers: by UDP, by TCP when an answer does not fit, one server after the other.

use super::{
    DnsSettings,
    message::{self, Datum, Kind, Reply, Service},
};
use outrigger_kernel::{Deadline, Mono, World, within};
use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
};

/// How long an entry of the hosts file holds.
const HOSTS_FOR: Duration = Duration::from_secs(60);

/// Records, and how long they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records<T> {
    /// The records; none is an answer too.
    pub records: Vec<T>,
    /// How long that holds.
    pub valid_for: Duration,
}

/// No server could say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsFailure {
    /// Not something that can be asked for.
    #[error("{0:?} is not a host name")]
    BadName(String),
    /// There is nobody to ask.
    #[error("no DNS server is known: /etc/resolv.conf names none")]
    NoServers,
    /// The last server asked did not answer in time.
    #[error("the DNS server {server} did not answer within {after:?}")]
    Silent {
        /// The server.
        server: SocketAddr,
        /// How long it had.
        after: Duration,
    },
    /// The last server asked answered that it cannot say.
    #[error("the DNS server {server} answered with code {code}")]
    Refused {
        /// The server.
        server: SocketAddr,
        /// The code: 2 for a failure of its own, 5 for a refusal.
        code: u8,
    },
    /// The last server asked cannot be reached.
    #[error("the DNS server {server} cannot be reached: {reason}")]
    Unreachable {
        /// The server.
        server: SocketAddr,
        /// Why.
        reason: String,
    },
}

impl DnsFailure {
    /// The failure, if the server may well know another name: one broken domain of the search list does not hide the others.
    fn about_this_name(self) -> Result<Self, Self> {
        if let Self::Refused { .. } = self { Ok(self) } else { Err(self) }
    }
}

/// None of the names is there, or not all of them are known.
fn none<T>(denied_for: Duration, refused: Option<DnsFailure>) -> Result<Records<T>, DnsFailure> {
    match refused {
        Some(failure) => Err(failure),
        None => Ok(Records { records: Vec::new(), valid_for: denied_for }),
    }
}

/// How old what was read of the system's files may be.
const SYSTEM_FOR: Duration = Duration::from_secs(5);
/// How many names the system's own resolver is asked for at once.
static ASKED_AT_ONCE: Semaphore = Semaphore::const_new(4);
/// How long an answer of it holds, which does not say.
const ASKED_FOR: Duration = Duration::from_secs(30);

/// A stub resolver. Keeps nothing but the settings.
#[derive(Clone)]
pub struct DnsClient {
    world: Arc<dyn World>,
    settings: Settings,
    /// Which server answered last; it is asked first, so that one that is down does not cost every question its time.
    good: Arc<AtomicUsize>,
}

#[derive(Clone)]
enum Settings {
    Fixed(Arc<DnsSettings>),
    /// Those of this machine, and when they were read.
    System(Arc<Mutex<(Arc<DnsSettings>, Mono)>>),
}

impl DnsClient {
    /// A client with these settings.
    #[must_use]
    pub fn new(world: Arc<dyn World>, settings: DnsSettings) -> Self {
        Self { world, settings: Settings::Fixed(Arc::new(settings)), good: Arc::default() }
    }

    /// A client with the settings of this machine, whatever they are at the time. Hosts that DNS does not know are asked
    /// of the system, which may know others: by multicast, say.
    #[must_use]
    pub fn system(world: Arc<dyn World>) -> Self {
        let read = (Arc::new(DnsSettings::system()), world.mono());
        let settings = Settings::System(Arc::new(Mutex::new(read)));
        Self { world, settings, good: Arc::default() }
    }

    fn settings(&self) -> Arc<DnsSettings> {
        match &self.settings {
            Settings::Fixed(settings) => Arc::clone(settings),
            Settings::System(read) => {
                let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                let now = self.world.mono();
                if now.since(read.1) >= SYSTEM_FOR {
                    *read = (Arc::new(DnsSettings::system()), now);
                }
                Arc::clone(&read.0)
            }
        }
    }

    /// The addresses of a host, of both families.
    ///
    /// # Errors
    /// [`DnsFailure`] when it is not known whether there are any.
    pub async fn addresses(&self, name: &str) -> Result<Records<IpAddr>, DnsFailure> {
        if let Ok(ip) = name.parse() {
            return Ok(Records { records: vec![ip], valid_for: HOSTS_FOR });
        }
        let settings = self.settings();
        let known = settings.hosts.get(&name.trim_end_matches('.').to_ascii_lowercase());
        if let Some(known) = known {
            return Ok(Records { records: known.clone(), valid_for: HOSTS_FOR });
        }
        let found = self.addresses_by_dns(name, &settings).await;
        match (&self.settings, found) {
            (Settings::System(_), found)
                if found.as_ref().map_or(true, |found| found.records.is_empty()) =>
            {
                // What has a domain is DNS's to know, where there is one to ask.
                let may_know =
                    settings.servers.is_empty() || !name.contains('.') || name.ends_with(".local");
                let records = if may_know { self.ask_system(name).await } else { Vec::new() };
                if records.is_empty() {
                    return found;
                }
                Ok(Records { records, valid_for: ASKED_FOR })
            }
            (_, found) => found,
        }
    }

    /// Asks the system's resolver, which takes a thread for as long as it likes; so no more than a few are asked at once.
    async fn ask_system(&self, name: &str) -> Vec<IpAddr> {
        let Ok(place) = ASKED_AT_ONCE.try_acquire() else { return Vec::new() };
        let (tell, told) = tokio::sync::oneshot::channel();
        let name = name.to_owned();
        let ask = async move {
            // Whoever asked may have gone; the thread has not, and keeps its place.
            let known = tokio::net::lookup_host((name, 0)).await.into_iter().flatten();
            drop(place);
            drop(tell.send(known.map(|address| address.ip()).collect()));
        };
        drop(self.world.spawn("system resolver", Box::pin(ask)));
        told.await.unwrap_or_default()
    }

    async fn addresses_by_dns(
        &self,
        name: &str,
        settings: &DnsSettings,
    ) -> Result<Records<IpAddr>, DnsFailure> {
        let (mut denied_for, mut refused) = (Duration::MAX, None);
        for name in settings.candidates(name) {
            let (a, aaaa) = futures_util::future::join(
                self.ask(settings, &name, Kind::A),
                self.ask(settings, &name, Kind::Aaaa),
            )
            .await;
            let (records, valid_for) = match (a, aaaa) {
                (Ok((mut a, a_for)), Ok((aaaa, aaaa_for))) => {
                    // That one family is not there must not make the other one be asked for all the time.
                    let valid_for = match (a.is_empty(), aaaa.is_empty()) {
                        (false, true) => a_for,
                        (true, false) => aaaa_for,
                        _ => a_for.min(aaaa_for),
                    };
                    a.extend(aaaa);
                    (a, valid_for)
                }
                // One family is enough to go on with; the other may be known next time.
                (Ok((some, valid_for)), Err(_)) | (Err(_), Ok((some, valid_for)))
                    if !some.is_empty() =>
                {
                    (some, valid_for)
                }
                (Err(failure), _) | (_, Err(failure)) => {
                    refused = Some(failure.about_this_name()?);
                    continue;
                }
            };
            if !records.is_empty() {
                let ip = |datum| match datum {
                    Datum::Address(ip) => Some(ip),
                    Datum::Service(_) => None,
                };
                return Ok(Records {
                    records: records.into_iter().filter_map(ip).collect(),
                    valid_for,
                });
            }
            denied_for = denied_for.min(valid_for);
        }
        none(denied_for, refused)
    }

    /// The places of a service, by its full name: `_grpc._tcp.shop.example.org`.
    ///
    /// # Errors
    /// [`DnsFailure`] when it is not known whether there are any.
    pub async fn services(&self, name: &str) -> Result<Records<Service>, DnsFailure> {
        let settings = self.settings();
        let (mut denied_for, mut refused) = (Duration::MAX, None);
        for name in settings.candidates(name) {
            let (records, valid_for) = match self.ask(&settings, &name, Kind::Srv).await {
                Ok(found) => found,
                Err(failure) => {
                    refused = Some(failure.about_this_name()?);
                    continue;
                }
            };
            let service = |datum| match datum {
                // A lone dot says that the service is decidedly not offered.
                Datum::Service(service) => Some(service).filter(|service| !service.host.is_empty()),
                Datum::Address(_) => None,
            };
            if !records.is_empty() {
                let records = records.into_iter().filter_map(service).collect();
                return Ok(Records { records, valid_for });
            }
            denied_for = denied_for.min(valid_for);
        }
        none(denied_for, refused)
    }

    async fn ask(
        &self,
        settings: &DnsSettings,
        name: &str,
        kind: Kind,
    ) -> Result<(Vec<Datum>, Duration), DnsFailure> {
        let mut failure = DnsFailure::NoServers;
        for _ in 0..settings.attempts.max(1) {
            let servers = &settings.servers;
            let first = self.good.load(Ordering::Relaxed).min(servers.len());
            let order = (first..servers.len()).chain(0..first);
            for (number, server) in order.map(|number| (number, &servers[number])) {
                let after = settings.attempt;
                let deadline = Deadline(self.world.mono().plus(after));
                let exchange = self.exchange(*server, name, kind);
                failure = match within(&*self.world, deadline, exchange).await {
                    Ok(Ok(Reply::Records(records, valid_for))) => {
                        self.good.store(number, Ordering::Relaxed);
                        return Ok((records, valid_for));
                    }
                    Ok(Ok(Reply::Refused(code))) => DnsFailure::Refused { server: *server, code },
                    Ok(Ok(Reply::Truncated)) => DnsFailure::Refused { server: *server, code: 0 },
                    Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => {
                        return Err(DnsFailure::BadName(name.to_owned()));
                    }
                    Ok(Err(error)) => {
                        DnsFailure::Unreachable { server: *server, reason: error.to_string() }
                    }
                    Err(_) => DnsFailure::Silent { server: *server, after },
                };
            }
        }
        Err(failure)
    }

    async fn exchange(&self, server: SocketAddr, name: &str, kind: Kind) -> io::Result<Reply> {
        #[expect(clippy::cast_possible_truncation, reason = "16 of the random bits are wanted")]
        let id = self.world.random() as u16;
        let question = message::question(id, name, kind).ok_or(io::ErrorKind::InvalidInput)?;
        // A socket of its own, whose port nobody can know beforehand.
        let own: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((own, 0)).await?;
        socket.connect(server).await?;
        socket.send(&question).await?;
        let mut bytes = vec![0; 4_096];
        loop {
            let length = socket.recv(&mut bytes).await?;
            match message::answer(&bytes[..length], id, name, kind) {
                Ok(Reply::Truncated) => break,
                Ok(reply) => return Ok(reply),
                // Somebody else's, or forged: the real one may still come.
                Err(message::Garbled) => {}
            }
        }
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(question.len()).unwrap_or(u16::MAX).to_be_bytes();
        stream.write_all(&[&length[..], &question].concat()).await?;
        let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut bytes).await?;
        let reply = message::answer(&bytes, id, name, kind);
        reply.map_err(|message::Garbled| io::ErrorKind::InvalidData.into())
    }
}

impl fmt::Debug for DnsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DnsClient({:?})", self.settings().servers)
    }
}
