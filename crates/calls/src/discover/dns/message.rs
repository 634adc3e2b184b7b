//! DNS messages as bytes: one question out, one answer in.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

/// How many bytes a server may send by UDP: what passes every path unbroken.
const UDP_BYTES: u16 = 1_232;
const RECORDS_MAX: usize = 1_024;
const NAME_BYTES_MAX: usize = 255;
const HOPS_MAX: usize = 32;
const ALIASES_MAX: usize = 16;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    A = 1,
    Aaaa = 28,
    Srv = 33,
}

const CNAME: u16 = 5;
const SOA: u16 = 6;
const OPT: u16 = 41;
const INTERNET: u16 = 1;

/// One place of a service, as an SRV record has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The lowest is used while it can be.
    pub priority: u16,
    /// The share among those of the same priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host, in lower case.
    pub host: String,
}

/// A record that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Datum {
    Address(IpAddr),
    Service(Service),
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// These records, for so long. None of them: there are none.
    Records(Vec<Datum>, Duration),
    /// It did not fit: ask by TCP.
    Truncated,
    /// It cannot say, for this reason.
    Refused(u8),
}

/// Not an answer to the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbled;

/// The question, or `None` when `name` cannot be one.
pub(super) fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    // One question, one additional record, recursion desired.
    let mut bytes = Vec::with_capacity(name.len() + 29);
    bytes.extend(id.to_be_bytes());
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.') {
        let is_label = !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let length = u8::try_from(label.len()).ok().filter(|length| *length <= 63 && is_label)?;
        bytes.push(length);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    if bytes.len() - 12 > NAME_BYTES_MAX {
        return None;
    }
    bytes.extend((kind as u16).to_be_bytes());
    bytes.extend(INTERNET.to_be_bytes());
    // EDNS: the root's name, the type, the size we take, no flags, no options.
    bytes.push(0);
    bytes.extend(OPT.to_be_bytes());
    bytes.extend(UDP_BYTES.to_be_bytes());
    bytes.extend([0; 6]);
    Some(bytes)
}

/// The answer to the question that `id`, `name` and `kind` made.
pub(super) fn answer(bytes: &[u8], id: u16, name: &str, kind: Kind) -> Result<Reply, Garbled> {
    let mut reader = Reader { bytes, at: 0 };
    let (own_id, flags) = (reader.u16()?, reader.u16()?);
    let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?].map(usize::from);
    let is_response = flags & 0x8000 != 0 && flags & 0x7800 == 0;
    if own_id != id || !is_response || counts[0] != 1 {
        return Err(Garbled);
    }
    let (asked, asked_kind, class) = (reader.name()?, reader.u16()?, reader.u16()?);
    if asked != name.to_ascii_lowercase() || asked_kind != kind as u16 || class != INTERNET {
        return Err(Garbled);
    }
    if flags & 0x0200 != 0 {
        return Ok(Reply::Truncated);
    }
    let code = (flags & 0xf) as u8;
    // 3 says that there is no such name.
    if code != 0 && code != 3 {
        return Ok(Reply::Refused(code));
    }
    let (answers, authorities) = (counts[1].min(RECORDS_MAX), counts[2].min(RECORDS_MAX));
    let mut records = Vec::with_capacity(answers.min(64));
    for _ in 0..answers {
        records.push(reader.record()?);
    }
    let (data, ttl) = resolve(&records, asked, kind);
    if !data.is_empty() {
        return Ok(Reply::Records(data, Duration::from_secs(ttl.into())));
    }
    let mut denied_for = u32::MAX;
    for _ in 0..authorities {
        let record = reader.record()?;
        if let Data::Authority { minimum } = record.data {
            denied_for = denied_for.min(record.ttl).min(minimum);
        }
    }
    // Nobody said how long: not long.
    let denied_for = if denied_for == u32::MAX { 5 } else { denied_for };
    Ok(Reply::Records(data, Duration::from_secs(denied_for.into())))
}

/// Follows the aliases from `name` to the records of its real name.
fn resolve(records: &[Record], mut name: String, kind: Kind) -> (Vec<Datum>, u32) {
    let mut ttl = u32::MAX;
    for _ in 0..ALIASES_MAX {
        let alias = records.iter().find_map(|record| match &record.data {
            Data::Alias(target) if record.name == name => Some((target, record.ttl)),
            _ => None,
        });
        let Some((target, alias_ttl)) = alias else { break };
        ttl = ttl.min(alias_ttl);
        name.clone_from(target);
    }
    let mut data = Vec::new();
    for record in records.iter().filter(|record| record.name == name) {
        if let Data::Asked(record_kind, datum) = &record.data
            && *record_kind == kind
        {
            ttl = ttl.min(record.ttl);
            data.push(datum.clone());
        }
    }
    (data, ttl)
}

struct Record {
    name: String,
    ttl: u32,
    data: Data,
}

enum Data {
    Asked(Kind, Datum),
    Alias(String),
    Authority { minimum: u32 },
    Other,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Garbled> {
        let bytes = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        self.at += N;
        bytes.copied().ok_or(Garbled)
    }

    fn u16(&mut self) -> Result<u16, Garbled> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Garbled> {
        self.take().map(u32::from_be_bytes)
    }

    /// A name in lower case, without the last dot. Parts of it may stand earlier in the message.
    fn name(&mut self) -> Result<String, Garbled> {
        let (mut name, mut at, mut jumped) = (String::new(), self.at, false);
        let mut hops = 0;
        loop {
            let length = *self.bytes.get(at).ok_or(Garbled)?;
            match length {
                0 => {
                    if !jumped {
                        self.at = at + 1;
                    }
                    return Ok(name);
                }
                1..=63 => {
                    let label = self.bytes.get(at + 1..at + 1 + usize::from(length));
                    if !name.is_empty() {
                        name.push('.');
                    }
                    // Bytes outside ASCII are in no name of ours; they only have to stay different.
                    name.extend(
                        label.ok_or(Garbled)?.iter().map(|b| char::from(b.to_ascii_lowercase())),
                    );
                    at += 1 + usize::from(length);
                }
                0xc0.. => {
                    let low = *self.bytes.get(at + 1).ok_or(Garbled)?;
                    if !jumped {
                        self.at = at + 2;
                        jumped = true;
                    }
                    at = usize::from(length & 0x3f) << 8 | usize::from(low);
                    hops += 1;
                }
                _ => return Err(Garbled),
            }
            if name.len() > 2 * NAME_BYTES_MAX || hops > HOPS_MAX {
                return Err(Garbled);
            }
        }
    }

    fn record(&mut self) -> Result<Record, Garbled> {
        let (name, kind, class) = (self.name()?, self.u16()?, self.u16()?);
        let ttl = self.u32()?;
        // The highest bit makes it nonsense, and nonsense is zero (RFC 2181 section 8).
        let ttl = if ttl >> 31 == 0 { ttl } else { 0 };
        let length = usize::from(self.u16()?);
        let end = self.at + length;
        if end > self.bytes.len() {
            return Err(Garbled);
        }
        let data = if class == INTERNET { self.data(kind)? } else { Data::Other };
        if self.at > end {
            return Err(Garbled);
        }
        self.at = end;
        Ok(Record { name, ttl, data })
    }

    fn data(&mut self, kind: u16) -> Result<Data, Garbled> {
        let address = |kind, ip| Data::Asked(kind, Datum::Address(ip));
        Ok(match kind {
            _ if kind == Kind::A as u16 => {
                address(Kind::A, Ipv4Addr::from(self.take::<4>()?).into())
            }
            _ if kind == Kind::Aaaa as u16 => {
                address(Kind::Aaaa, Ipv6Addr::from(self.take::<16>()?).into())
            }
            _ if kind == Kind::Srv as u16 => {
                let (priority, weight, port) = (self.u16()?, self.u16()?, self.u16()?);
                let host = self.name()?;
                let service = Service { priority, weight, port, host };
                Data::Asked(Kind::Srv, Datum::Service(service))
            }
            CNAME => Data::Alias(self.name()?),
            SOA => {
                self.name()?;
                self.name()?;
                // Serial number, refresh, retry, expiry: between servers.
                self.take::<16>()?;
                Data::Authority { minimum: self.u32()? }
            }
            _ => Data::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Garbled, Kind, Reply, answer, question};
    use proptest::prelude::*;

    #[test]
    fn only_names_are_asked_for() {
        let long_label = "a".repeat(64);
        let long_name = ["a".repeat(63).as_str(); 5].join(".");
        for name in ["", ".", "a..b", "a b", "caf\u{e9}", &long_label, &long_name] {
            assert_eq!(question(1, name, Kind::A), None, "{name:?}");
        }
        let bytes = question(0x1234, "_grpc._tcp.Shop", Kind::Srv).unwrap();
        assert_eq!(bytes[..12], [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!(bytes[12..29], *b"\x05_grpc\x04_tcp\x04Shop\0");
    }

    #[test]
    fn a_question_is_not_its_own_answer() {
        let mut bytes = question(7, "shop", Kind::A).unwrap();
        assert_eq!(answer(&bytes, 7, "shop", Kind::A), Err(Garbled));
        bytes[2] |= 0x80;
        assert!(
            matches!(answer(&bytes, 7, "SHOP", Kind::A), Ok(Reply::Records(none, _)) if none.is_empty())
        );
        for (id, name, kind) in [(8, "shop", Kind::A), (7, "ship", Kind::A), (7, "shop", Kind::Srv)]
        {
            assert_eq!(answer(&bytes, id, name, kind), Err(Garbled));
        }
        bytes[3] = 2;
        assert_eq!(answer(&bytes, 7, "shop", Kind::A), Ok(Reply::Refused(2)));
        bytes[2] |= 2;
        assert_eq!(answer(&bytes, 7, "shop", Kind::A), Ok(Reply::Truncated));
    }

    #[test]
    fn a_name_that_points_at_itself_ends() {
        let mut bytes = question(7, "shop", Kind::A).unwrap();
        bytes.truncate(12 + 6 + 4);
        (bytes[2], bytes[7], bytes[11]) = (0x80, 1, 0);
        let here = bytes.len() as u8;
        bytes.extend([0xc0, here, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 127, 0, 0, 1]);
        assert_eq!(answer(&bytes, 7, "shop", Kind::A), Err(Garbled));
    }

    proptest! {
        #[test]
        fn anything_can_be_read(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), whole: bool) {
            // With a proper beginning, so that it does not end there.
            if whole {
                let mut begin = question(7, "shop", Kind::Srv).unwrap();
                begin.truncate(22);
                (begin[2], begin[7], begin[9], begin[11]) = (0x80, 9, 9, 0);
                begin.append(&mut bytes);
                bytes = begin;
            }
            let _reply = answer(&bytes, 7, "shop", Kind::Srv);
        }
    }
}
