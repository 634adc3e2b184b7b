//! A DNS server of the tests' own, on loopback, that can be told to misbehave.

use super::super::{DnsClient, DnsSettings};
use outrigger_sim::SimWorld;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::AbortHandle,
};

/// What the server says of a name and type.
#[derive(Clone, Default)]
pub(super) struct Zone {
    /// Owner, type, TTL and data of each record.
    pub(super) records: Vec<(&'static str, u16, u32, Vec<u8>)>,
    /// Answers with this code, whatever was asked.
    pub(super) code: u8,
    /// Answers with the code 2 what is asked of this name.
    pub(super) breaks_at: &'static str,
    /// Says nothing.
    pub(super) silent: bool,
    /// Says by UDP that it does not fit.
    pub(super) truncates: bool,
    /// Sends something forged first.
    pub(super) forges: bool,
}

/// A DNS server on loopback, by UDP and TCP at the same port.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) zone: Arc<Mutex<Zone>>,
    asked: Arc<Mutex<HashMap<(String, u16), u32>>>,
    tasks: [AbortHandle; 2],
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

pub(super) fn name_bytes(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> =
        labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let (kind, ttl) = (kind.to_be_bytes(), ttl.to_be_bytes());
    let length = (data.len() as u16).to_be_bytes();
    [owner, &kind, &[0, 1], &ttl, &length, data].concat()
}

impl Zone {
    fn answer(&self, question: &[u8], by_udp: bool) -> ((String, u16), Vec<u8>) {
        let (mut at, mut labels) = (12, Vec::new());
        while question[at] != 0 {
            let end = at + 1 + usize::from(question[at]);
            labels.push(String::from_utf8(question[at + 1..end].to_vec()).unwrap());
            at = end;
        }
        let name = labels.join(".");
        let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
        let cut = by_udp && self.truncates;
        let mut answers = Vec::new();
        // Aliases come along, as a recursive server sends them.
        let mut owner = name.as_str();
        loop {
            let of = |wanted| {
                self.records.iter().filter(move |(own, kind, ..)| *own == owner && *kind == wanted)
            };
            let alias = of(5).next();
            for (_, kind, ttl, data) in of(kind).chain(alias) {
                // The question's name is pointed at, as everyone does.
                let owner = if owner == name { vec![0xc0, 12] } else { name_bytes(owner) };
                answers.push(record(&owner, *kind, *ttl, data));
            }
            let Some((.., data)) = alias else { break };
            let target = data.clone();
            let known = self.records.iter().find(|(own, ..)| name_bytes(own) == target);
            let Some((next, ..)) = known else { break };
            owner = next;
        }
        let mut soa = [name_bytes("ns"), name_bytes("host")].concat();
        soa.extend([1_u32, 2, 3, 4, 7].iter().flat_map(|number| number.to_be_bytes()));
        let authority = answers.is_empty().then(|| record(&[0], 6, 60, &soa));
        let counts = [1, if cut { 0 } else { answers.len() as u8 }, u8::from(authority.is_some())];
        let mut bytes = question[..2].to_vec();
        let code = if name == self.breaks_at { 2 } else { self.code };
        bytes.extend([0x81 | u8::from(cut) << 1, 0x80 | code]);
        bytes.extend([0, counts[0], 0, counts[1], 0, counts[2], 0, 0]);
        bytes.extend(&question[12..at + 5]);
        if !cut {
            bytes.extend(answers.concat());
            bytes.extend(authority.unwrap_or_default());
        }
        ((name, kind), bytes)
    }
}

impl Server {
    pub(super) async fn start(zone: Zone) -> Self {
        // A port that is free for the one may be taken for the other.
        let (socket, address, listener) = loop {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let address = socket.local_addr().unwrap();
            if let Ok(listener) = TcpListener::bind(address).await {
                break (socket, address, listener);
            }
        };
        let (zone, asked) = (Arc::new(Mutex::new(zone)), Arc::<Mutex<HashMap<_, _>>>::default());
        let (udp_zone, udp_asked) = (Arc::clone(&zone), Arc::clone(&asked));
        let udp = async move {
            let mut bytes = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut bytes).await.unwrap();
                let (key, answer, zone) = {
                    let zone = udp_zone.lock().unwrap().clone();
                    let (key, answer) = zone.answer(&bytes[..length], true);
                    (key, answer, zone)
                };
                *udp_asked.lock().unwrap().entry(key).or_insert(0) += 1;
                if zone.forges {
                    let mut forged = answer.clone();
                    forged[0] ^= 1;
                    socket.send_to(&forged, from).await.unwrap();
                    socket.send_to(b"nonsense", from).await.unwrap();
                }
                if !zone.silent {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        };
        let tcp_zone = Arc::clone(&zone);
        let tcp = async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut bytes).await.unwrap();
                let (_, answer) = tcp_zone.lock().unwrap().answer(&bytes, false);
                stream.write_all(&(answer.len() as u16).to_be_bytes()).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        };
        let tasks = [spawn(udp), spawn(tcp)];
        Self { address, zone, asked, tasks }
    }

    pub(super) fn client(&self, more: DnsSettings) -> DnsClient {
        let mut servers = vec![self.address];
        servers.extend(&more.servers);
        DnsClient::new(SimWorld::new(7), DnsSettings { servers, ..more })
    }

    pub(super) fn asked(&self, name: &str, kind: u16) -> u32 {
        self.asked.lock().unwrap().get(&(name.to_owned(), kind)).copied().unwrap_or(0)
    }
}

#[expect(clippy::disallowed_methods, reason = "the test's own server, stopped by its handle")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    tokio::spawn(task).abort_handle()
}

pub(super) const A: u16 = 1;
pub(super) const CNAME: u16 = 5;
pub(super) const AAAA: u16 = 28;
pub(super) const SRV: u16 = 33;

pub(super) fn srv(priority: u16, weight: u16, port: u16, host: &str) -> Vec<u8> {
    let numbers = [priority, weight, port].map(u16::to_be_bytes).concat();
    [numbers, name_bytes(host)].concat()
}
