//! Reading server addresses out of settings, whose forms differ from driver to driver.

use super::find;
use crate::{component::Component, value::ValueSource};
use std::{fmt, net::IpAddr};

/// Where a server is to be found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// Whether this names the machine we run on. Names other than `localhost` are not looked up.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host.trim_end_matches('.').to_ascii_lowercase();
        match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
            // Connecting to the unspecified address reaches this machine as well.
            Ok(address) => address.is_loopback() || address.is_unspecified(),
            Err(_) => host == "localhost" || host.ends_with(".localhost"),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The servers a component points at, as far as its file gives them in the clear. Empty for types that have none, and
/// when the address is a secret or an environment variable: then nobody can tell without resolving it first.
#[must_use]
pub fn addresses(component: &Component) -> Vec<HostPort> {
    addresses_in(&component.type_name, &|name| match &component.entry(name)?.value {
        ValueSource::Literal(text) => Some(text.clone()),
        ValueSource::Secret { .. } | ValueSource::Env(_) => None,
    })
}

/// As [`addresses`], from settings that are resolved already; `setting` finds one by name, whatever its case.
#[must_use]
pub fn addresses_in(type_name: &str, setting: &dyn Fn(&str) -> Option<String>) -> Vec<HostPort> {
    let Some(known) = find(type_name) else { return Vec::new() };
    let port = setting("port").and_then(|port| port.trim().parse().ok()).unwrap_or(known.port);
    let texts = known.address_settings.iter().filter_map(|name| setting(name));
    texts.map(|text| read(&text, port)).find(|found| !found.is_empty()).unwrap_or_default()
}

/// All hosts in a text that is a host, a list of hosts, a URL, a list of URLs, or a connection string.
fn read(text: &str, port: u16) -> Vec<HostPort> {
    let text = text.trim();
    // MySQL's form: user:password@tcp(host:port)/database.
    if let Some((_, inside)) = text.split_once("@tcp(") {
        return one(inside.split(')').next().unwrap_or_default(), port).into_iter().collect();
    }
    let pairs = !text.contains("://") && text.contains('=');
    if pairs {
        return key_values(text, port);
    }
    text.split(',').filter_map(|item| one(authority(item), port)).collect()
}

/// `host=a port=1` (PostgreSQL) and `Server=a,1;Database=b` (SQL Server).
fn key_values(text: &str, mut port: u16) -> Vec<HostPort> {
    let mut hosts = "";
    // SQL Server separates by semicolons and allows blanks in its keys; PostgreSQL separates by blanks.
    let separator: fn(char) -> bool =
        if text.contains(';') { |c| c == ';' } else { char::is_whitespace };
    for (key, value) in text.split(separator).filter_map(|pair| pair.split_once('=')) {
        let value = value.trim().trim_matches(['\'', '"']);
        match key.trim().to_ascii_lowercase().as_str() {
            "host" | "hostaddr" | "server" | "data source" | "addr" | "address" => hosts = value,
            "port" => port = value.parse().unwrap_or(port),
            _ => {}
        }
    }
    let hosts = hosts.strip_prefix("tcp:").unwrap_or(hosts);
    // SQL Server writes host,port; nobody calls a host by digits alone.
    if let Some((host, number)) = hosts.split_once(',')
        && let Ok(port) = number.trim().parse()
    {
        return one(host.trim(), port).into_iter().collect();
    }
    hosts.split(',').filter_map(|host| one(host.trim(), port)).collect()
}

/// The part of a URL between the scheme with its credentials, and the path.
fn authority(url: &str) -> &str {
    let url = url.trim();
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address.
fn one(text: &str, default_port: u16) -> Option<HostPort> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None if text.matches(':').count() > 1 => (text, None),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(port) => port.parse().ok()?,
        None => default_port,
    };
    // A path is a Unix socket, braces are templates: neither is a host.
    let sensible = !host.is_empty() && !host.contains(['/', '{', '}', ' ', '=', '$']);
    (sensible && port > 0).then(|| HostPort { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::{HostPort, addresses_in, read};

    #[test]
    fn forms_of_addresses() {
        for (text, expected) in [
            ("localhost:6379", "localhost:6379"),
            ("localhost", "localhost:1"),
            ("a:1, b:2 ,c", "a:1 b:2 c:1"),
            ("redis://user:p@ss@h:7/0", "h:7"),
            ("http://a:2379,http://b:2379/", "a:2379 b:2379"),
            ("postgres://u:p@h1:5,h2:6/db?sslmode=off", "h1:5 h2:6"),
            ("host=localhost user=postgres port=5432 dbname=x", "localhost:5432"),
            ("host=/var/run/postgresql user=x", ""),
            ("Server=tcp:db.example,1433;Database=x", "db.example:1433"),
            ("Server=localhost;Initial Catalog=x;", "localhost:1"),
            ("root:secret@tcp(127.0.0.1:3306)/db?x=y", "127.0.0.1:3306"),
            ("mongodb://u:p@[::1]:27017/x", "[::1]:27017"),
            ("::1", "[::1]:1"),
            ("{env}:1", ""),
            ("h:notaport", ""),
            ("h:99999", ""),
            ("", ""),
        ] {
            let found = read(text, 1);
            let told: Vec<String> = found.iter().map(HostPort::to_string).collect();
            assert_eq!(told.join(" "), expected, "{text}");
        }
    }

    #[test]
    fn loopback() {
        let at = |host: &str| HostPort { host: host.into(), port: 1 }.is_loopback();
        for host in ["localhost", "LOCALHOST.", "x.localhost", "127.1.2.3", "::1", "0.0.0.0"] {
            assert!(at(host), "{host}");
        }
        for host in ["10.0.0.1", "redis", "localhost.example.com", "::2"] {
            assert!(!at(host), "{host}");
        }
        assert!(at("::ffff:127.0.0.1"));
    }

    #[test]
    fn a_separate_port_setting_counts() {
        let setting = |name: &str| match name {
            "hosts" => Some("a,b".into()),
            "port" => Some("99".into()),
            _ => None,
        };
        let found = addresses_in("state.cassandra", &setting);
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|at| at.port == 99));
        assert!(addresses_in("state.in-memory", &setting).is_empty());
    }
}
