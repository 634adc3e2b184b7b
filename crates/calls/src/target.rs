//! What an address in an invocation means: an app, a named endpoint, or a URL.

use crate::{AppChannel, CallError, ClientTls, lookup::Kept};
use http::{HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Something that can be called.
#[derive(Clone, Debug)]
pub enum Target {
    /// An app, by its id.
    App(Arc<Instances>),
    /// An HTTP service outside, by the name of a resource.
    Endpoint(Arc<HttpEndpoint>),
    /// An HTTP service outside, by its address.
    Url(Base),
}

impl Target {
    /// An app of which no instance is known.
    #[must_use]
    pub fn absent(app_id: &str, namespace: &str) -> Self {
        Self::App(Arc::new(Instances::new(app_id, namespace, Vec::new(), None, None)))
    }

    /// The id by which breakers, headers and metrics know it.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::App(app) => &app.app_id,
            Self::Endpoint(endpoint) => &endpoint.name,
            Self::Url(base) => base.as_str(),
        }
    }

    /// What tells it from every other target: apps of one id in two namespaces, and an endpoint of that name, have nothing in
    /// common.
    pub(crate) fn scope(&self) -> String {
        match self {
            Self::App(app) => format!("app\n{}\n{}", app.app_id, app.namespace),
            Self::Endpoint(endpoint) => format!("endpoint\n{}", endpoint.name),
            Self::Url(base) => format!("url\n{}", base.as_str()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// One instance of an app.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) channel: Arc<AppChannel>,
    /// Its share of the traffic in relation to the others.
    pub(crate) weight: u32,
    /// Where it stands, if it is elsewhere.
    pub(crate) zone: Option<Arc<str>>,
    /// Whether it is on this machine.
    pub(crate) here: bool,
}

impl Member {
    /// An instance on this machine.
    pub(crate) fn here(channel: Arc<AppChannel>) -> Self {
        Self { channel, weight: 1, zone: None, here: true }
    }
}

/// The live instances of one app, near ones first: this machine's, those of its zone, the others.
#[derive(Debug)]
pub struct Instances {
    app_id: String,
    namespace: String,
    members: Box<[Member]>,
    channels: Box<[Arc<AppChannel>]>,
    /// Where each of the three groups ends.
    ends: [usize; 3],
    /// This machine's, if it has a name.
    zone: Option<Arc<str>>,
    has_neighbours: bool,
    kept: Option<Arc<Kept>>,
    turn: AtomicUsize,
}

impl Instances {
    pub(crate) fn new(
        app_id: &str,
        namespace: &str,
        mut members: Vec<Member>,
        zone: Option<Arc<str>>,
        kept: Option<Arc<Kept>>,
    ) -> Self {
        let group = |member: &Member| match member {
            Member { here: true, .. } => 0,
            Member { zone: Some(own), .. } if Some(own) == zone.as_ref() => 1,
            _ => 2,
        };
        members.sort_by_key(group);
        let ends = [0, 1, 2].map(|last| members.partition_point(|member| group(member) <= last));
        let channels: Box<[_]> = members.iter().map(|member| Arc::clone(&member.channel)).collect();
        Self {
            app_id: app_id.to_owned(),
            namespace: namespace.to_owned(),
            has_neighbours: channels.iter().any(|channel| channel.is_neighbour()),
            members: members.into(),
            channels,
            zone,
            ends,
            kept,
            turn: AtomicUsize::new(0),
        }
    }

    /// The app.
    #[must_use]
    pub fn app_id(&self) -> &str {
        &self.app_id
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// One channel per instance, healthy or not; those of this process first.
    #[must_use]
    pub fn channels(&self) -> &[Arc<AppChannel>] {
        &self.channels
    }

    /// The instances with what is known of each.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The zone of this machine, if it has a name.
    pub(crate) fn zone(&self) -> Option<&Arc<str>> {
        self.zone.as_ref()
    }

    /// Whether some of them are elsewhere.
    pub(crate) fn is_spread(&self) -> bool {
        self.ends[0] < self.members.len()
    }

    /// Whether some of them are apps of other processes.
    pub(crate) fn has_neighbours(&self) -> bool {
        self.has_neighbours
    }

    /// By what the app is looked for elsewhere, if it is.
    pub(crate) fn kept(&self) -> Option<&Arc<Kept>> {
        self.kept.as_ref()
    }

    /// The next one in turn, near ones first, passing over unhealthy ones and, while there is another, over those in
    /// `tried` and those to which no connection came up lately.
    ///
    /// # Errors
    /// [`CallError::NoEndpoint`] when there is no instance with a port, [`CallError::Unhealthy`] when none is healthy.
    pub fn pick(&self, tried: &[Arc<AppChannel>]) -> Result<Arc<AppChannel>, CallError> {
        let healthy = |channel: &&Arc<AppChannel>| channel.is_healthy();
        let untried =
            |channel: &&Arc<AppChannel>| !tried.iter().any(|other| Arc::ptr_eq(channel, other));
        let count = self.channels.len();
        let turn = if count > 1 { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let near_first = || self.near_first(turn);
        let fresh = || near_first().filter(healthy).filter(untried);
        let picked = fresh()
            .find(|channel| count == 1 || !channel.is_away())
            .or_else(|| fresh().next())
            .or_else(|| near_first().find(healthy));
        picked.cloned().ok_or_else(|| {
            let app = self.app_id.clone();
            if count == 0 { CallError::NoEndpoint { app } } else { CallError::Unhealthy { app } }
        })
    }

    /// All of them, group by group, each beginning where it is in its turn.
    fn near_first(&self, turn: usize) -> impl Iterator<Item = &Arc<AppChannel>> {
        let starts = [0, self.ends[0], self.ends[1]];
        starts.into_iter().zip(self.ends).flat_map(move |(start, end)| {
            let group = &self.channels[start..end];
            let first = first_of(&self.members[start..end], turn);
            group[first..].iter().chain(&group[..first])
        })
    }
}

/// Which of a group has its turn: each as often as its weight says, spread evenly.
fn first_of(group: &[Member], turn: usize) -> usize {
    let Some(first) = group.first() else { return 0 };
    if group.iter().all(|member| member.weight == first.weight) {
        return turn % group.len();
    }
    // Multiples of the golden ratio, less their whole part, fill the unit interval evenly from the first one on.
    let spot = (turn as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let sum: u64 = group.iter().map(|member| u64::from(member.weight)).sum();
    let mut left = (spot * sum) >> 32;
    for (index, member) in group.iter().enumerate() {
        let weight = u64::from(member.weight);
        if left < weight {
            return index;
        }
        left -= weight;
    }
    0
}

/// An HTTP service outside that has a name here.
#[derive(Clone, Debug)]
pub struct HttpEndpoint {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub base: Base,
    /// Added to every call.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How it is trusted and how we show who we are, if not in the usual way.
    pub tls: Option<Arc<ClientTls>>,
    /// The places it is at, where these are written down: made by [`crate::OutboundClient::instances`].
    pub instances: Option<Arc<Instances>>,
}

/// The part of a URL that paths are appended to: scheme, host, port, and perhaps a path of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    text: String,
    https: bool,
    host: String,
    port: u16,
    authority: HeaderValue,
    path_start: usize,
}

impl Base {
    /// Parses `http(s)://host[:port][/path]`.
    ///
    /// # Errors
    /// [`CallError::BadTarget`] for anything else: user names, queries and fragments have no place here.
    pub fn parse(url: &str) -> Result<Self, CallError> {
        let bad = |reason| CallError::BadTarget { target: url.to_owned(), reason };
        let uri: Uri = url.parse().map_err(|_| bad("it is not a URL"))?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("only http and https URLs can be called")),
        };
        let authority = uri.authority().ok_or_else(|| bad("the URL has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("a URL with a user name or password is not accepted"));
        }
        if uri.query().is_some() || url.contains('#') {
            return Err(bad("the URL must end before the query"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(bad("the URL has no host"));
        }
        let port = match &authority.as_str()[authority.host().len()..] {
            "" if https => 443,
            "" => 80,
            port => {
                let number = port.strip_prefix(':').and_then(|digits| digits.parse().ok());
                number.ok_or_else(|| bad("the URL's port is not a port number"))?
            }
        };
        let path = crate::CanonicalPath::parse(uri.path())?;
        if let Some(ambiguity) = path.ambiguity() {
            return Err(CallError::BadPath(ambiguity));
        }
        let path = path.as_str().trim_end_matches('/');
        let scheme = if https { "https" } else { "http" };
        let host_and_port = authority.as_str().to_ascii_lowercase();
        let root = format!("{scheme}://{host_and_port}");
        let value =
            HeaderValue::try_from(host_and_port).map_err(|_| bad("the host is not valid"))?;
        let path_start = root.len();
        Ok(Self { text: root + path, https, host, port, authority: value, path_start })
    }

    /// The whole of it, in lower case up to the path, without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is reached over TLS.
    #[must_use]
    pub fn https(&self) -> bool {
        self.https
    }

    /// The host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, also when the URL does not say it.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path that comes before the caller's; empty or without a trailing slash.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.text[self.path_start..]
    }

    pub(crate) fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    pub(crate) fn root(&self) -> &str {
        &self.text[..self.path_start]
    }
}

/// What an address looks like before anybody knows whether it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address<'a> {
    Url(Base),
    /// The name of an endpoint or the id of an app.
    Name(Cow<'a, str>),
}

impl<'a> Address<'a> {
    /// Reads an address as it stands in a path or header: perhaps percent-encoded, perhaps with the slashes of a URL
    /// run together by somebody who cleaned the path.
    pub(crate) fn parse(text: &'a str) -> Result<Self, CallError> {
        let bad = |reason| CallError::BadTarget { target: text.to_owned(), reason };
        let decoded =
            percent_decode_str(text).decode_utf8().map_err(|_| bad("it is not valid UTF-8"))?;
        for scheme in ["http:/", "https:/"] {
            if let Some(rest) = strip_prefix_ignoring_case(&decoded, scheme) {
                let rest = rest.trim_start_matches('/');
                return Base::parse(&format!("{scheme}/{rest}")).map(Self::Url);
            }
        }
        if decoded.is_empty() {
            return Err(bad("it is empty"));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !decoded.bytes().all(plain) {
            return Err(bad("a name has letters, digits, '-', '_' and at most one '.'"));
        }
        Ok(Self::Name(decoded))
    }
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

/// Splits what follows `/invoke/` in a path into the address and the method path behind `/method/`. The address may be
/// a URL with slashes of its own. The method path keeps its percent-encoding and has no leading slash.
#[must_use]
pub fn split_invocation(rest: &str) -> Option<(&str, &str)> {
    let (target, method) = match rest.split_once("/method/") {
        Some(parts) => parts,
        None => (rest.strip_suffix("/method")?, ""),
    };
    (!target.is_empty()).then_some((target, method))
}

#[cfg(test)]
mod tests {
    use super::{Address, Base, split_invocation};

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("orders", "name orders"),
            ("orders.prod", "name orders.prod"),
            ("my%2Dapp", "name my-app"),
            ("https%3A%2F%2Fapi.example.com", "url https://api.example.com"),
            ("http://localhost:8080/base/", "url http://localhost:8080/base"),
            ("HTTPS:/Api.Example.com:444", "url https://api.example.com:444"),
            ("http://[::1]:80", "url http://[::1]:80"),
        ] {
            let read = match Address::parse(text) {
                Ok(Address::Url(base)) => format!("url {}", base.as_str()),
                Ok(Address::Name(name)) => format!("name {name}"),
                Err(error) => panic!("{text}: {error}"),
            };
            assert_eq!(read, expected, "{text}");
        }
        for bad in [
            "",
            "a/b",
            "a b",
            "%FF",
            "http://",
            "https://user:pw@host",
            "http://h/a?b",
            "http://h/a%252fb",
            "http://h:99999/",
            "http://h:/",
            "ftp://h/",
            "..%2f",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parts_of_a_base() {
        let base = Base::parse("https://[::1]/a/%62/").unwrap();
        assert_eq!((base.host(), base.port(), base.path()), ("::1", 443, "/a/b"));
        assert_eq!(base.root(), "https://[::1]");
        assert_eq!(base.authority(), "[::1]");
    }

    #[test]
    fn splitting() {
        assert_eq!(split_invocation("orders/method/a/b"), Some(("orders", "a/b")));
        assert_eq!(split_invocation("orders/method/"), Some(("orders", "")));
        assert_eq!(split_invocation("orders/method"), Some(("orders", "")));
        let url = split_invocation("https://h:1/x/method/a/method/b");
        assert_eq!(url, Some(("https://h:1/x", "a/method/b")));
        assert_eq!(split_invocation("/method/x"), None);
        assert_eq!(split_invocation("orders"), None);
    }

    #[test]
    fn what_is_kept_of_one_target_is_of_no_other() {
        let app = |namespace| super::Target::absent("orders", namespace).scope();
        assert_ne!(app("dev"), app("prod"));
        assert_eq!(app("dev"), app("dev"));
    }
}
