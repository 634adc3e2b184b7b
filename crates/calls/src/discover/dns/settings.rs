//! Servers, search list and hosts, as `/etc/resolv.conf` and `/etc/hosts` have them.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// How many servers are asked at most, as everywhere.
const SERVERS_MAX: usize = 3;
const SEARCH_MAX: usize = 16;
const HOSTS_MAX: usize = 10_000;
/// The longest name that can be asked for, written with dots.
const NAME_MAX: usize = 253;

/// Whom to ask, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// The servers, in the order in which they are asked.
    pub servers: Vec<SocketAddr>,
    /// The domains that are put behind short names.
    pub search: Vec<String>,
    /// How many dots make a name be tried as it is first.
    pub ndots: usize,
    /// How long a server has for an answer.
    pub attempt: Duration,
    /// How often each server is asked.
    pub attempts: u32,
    /// Names that need no asking.
    pub hosts: HashMap<String, Vec<IpAddr>>,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            attempt: Duration::from_secs(2),
            attempts: 2,
            hosts: HashMap::new(),
        }
    }
}

impl DnsSettings {
    /// What this machine has. Files that cannot be read count as empty.
    #[must_use]
    pub fn system() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/etc/resolv.conf"), &read("/etc/hosts"))
    }

    /// The same from the text of both files. Lines that make no sense are passed over.
    #[must_use]
    pub fn parse(resolv_conf: &str, hosts: &str) -> Self {
        let mut settings = Self::default();
        for line in resolv_conf.lines() {
            let mut words = line.split([';', '#']).next().unwrap_or_default().split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    settings.servers.extend(server.map(|ip| SocketAddr::new(ip, 53)));
                }
                // The last of them holds.
                Some("search" | "domain") => {
                    let domain = |word: &str| word.trim_end_matches('.').to_ascii_lowercase();
                    settings.search =
                        words.map(domain).filter(|domain| !domain.is_empty()).collect();
                }
                Some("options") => words.for_each(|word| settings.option(word)),
                _ => {}
            }
        }
        settings.servers.truncate(SERVERS_MAX);
        settings.search.truncate(SEARCH_MAX);
        for line in hosts.lines().take(HOSTS_MAX) {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(Ok(ip)) = words.next().map(str::parse::<IpAddr>) else { continue };
            for name in words {
                settings.hosts.entry(name.to_ascii_lowercase()).or_default().push(ip);
            }
        }
        settings
    }

    fn option(&mut self, word: &str) {
        let Some((name, number)) = word.split_once(':') else { return };
        let Ok(number) = number.parse::<u32>() else { return };
        match name {
            "ndots" => self.ndots = number.min(15) as usize,
            "timeout" => self.attempt = Duration::from_secs(number.clamp(1, 30).into()),
            "attempts" => self.attempts = number.clamp(1, 5),
            _ => {}
        }
    }

    /// The full names that `name` may stand for, in the order in which to try them.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        let whole = name.trim_end_matches('.').to_ascii_lowercase();
        if name.ends_with('.') {
            return vec![whole];
        }
        let longer = self.search.iter().map(|domain| [&whole, ".", domain].concat());
        // What is no name with a domain behind it may be one without.
        let mut names: Vec<String> = longer.filter(|name| name.len() <= NAME_MAX).collect();
        let place = if whole.matches('.').count() >= self.ndots { 0 } else { names.len() };
        names.insert(place, whole);
        names
    }
}

#[cfg(test)]
mod tests {
    use super::DnsSettings;
    use std::time::Duration;

    #[test]
    fn the_files_of_a_pod_are_understood() {
        let resolv_conf = "# made by hand\nnameserver 10.96.0.10\nnameserver fd00::10\nnameserver x\n\
            search shop.svc.cluster.local svc.cluster.local cluster.local.\n\
            options ndots:5 timeout:1 attempts:9 edns0 rotate\n";
        let hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost # both\nnonsense here\n";
        let settings = DnsSettings::parse(resolv_conf, hosts);
        let servers: Vec<String> = settings.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.96.0.10:53", "[fd00::10]:53"]);
        assert_eq!((settings.ndots, settings.attempts), (5, 5));
        assert_eq!(settings.attempt, Duration::from_secs(1));
        assert_eq!(settings.hosts["localhost"].len(), 2);
        let names = settings.candidates("Cart.shop.svc");
        assert_eq!(names.len(), 4);
        assert_eq!(names[0], "cart.shop.svc.shop.svc.cluster.local");
        assert_eq!(names[3], "cart.shop.svc");
        assert_eq!(settings.candidates("example.org."), ["example.org"]);
        assert_eq!(settings.candidates("a.b.c.d.e.f")[0], "a.b.c.d.e.f");
        let long = ["a".repeat(59).as_str(); 4].join(".");
        assert_eq!(settings.candidates(&long).len(), 2, "with the shortest domain, and by itself");
    }

    #[test]
    fn nothing_to_read_is_nobody_to_ask() {
        assert_eq!(DnsSettings::parse("", ""), DnsSettings::default());
    }
}
