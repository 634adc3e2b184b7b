//! Who can be called: apps by id and namespace, outside services by name.
//!
//! An app is known because this process hosts it ([`Directory::register`]) or because another one of this machine does
//! ([`Directory::set_neighbours`]). Its instances take turns wherever they are.
//!
//! Read on every call and written when something starts or stops, so readers take a snapshot without a lock and writers
//! replace it whole.

use crate::{
    AppChannel, CallError, HttpEndpoint, PeerWays, Target, target::Address, target::Instances,
};
use arc_swap::{ArcSwap, ArcSwapOption};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// The namespace of apps that name none.
const DEFAULT: &str = "default";

/// Who can be called.
#[derive(Default)]
pub struct Directory {
    table: ArcSwap<Table>,
    registered: Mutex<Registered>,
    /// A box of its own, because what is swapped has to have a size.
    peers: ArcSwapOption<Box<dyn PeerWays>>,
}

#[derive(Default)]
struct Table {
    /// By `id.namespace`.
    apps: HashMap<String, Arc<Instances>>,
    /// The same without what other processes host.
    hosted: HashMap<String, Arc<Instances>>,
    endpoints: HashMap<String, Arc<HttpEndpoint>>,
}

#[derive(Default)]
struct Registered {
    next: u64,
    apps: Vec<Entry>,
    neighbours: Vec<Entry>,
    endpoints: Vec<Arc<HttpEndpoint>>,
}

struct Entry {
    number: u64,
    app_id: String,
    namespace: String,
    channel: Option<Arc<AppChannel>>,
}

/// An app's presence in a directory; dropping it takes the app out again.
#[must_use = "dropping a registration takes the app out of the directory"]
pub struct Registration {
    directory: Arc<Directory>,
    number: u64,
}

impl Directory {
    /// An empty directory.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Makes an instance of an app callable for as long as the registration lives. Instances of one app take turns.
    pub fn register(
        self: &Arc<Self>,
        app_id: &str,
        namespace: &str,
        channel: Arc<AppChannel>,
    ) -> Registration {
        self.enter(app_id, namespace, Some(channel))
    }

    /// Makes an app known that has no port: calling it says so, instead of that there is no such app.
    pub fn register_without_port(self: &Arc<Self>, app_id: &str, namespace: &str) -> Registration {
        self.enter(app_id, namespace, None)
    }

    fn enter(
        self: &Arc<Self>,
        app_id: &str,
        namespace: &str,
        channel: Option<Arc<AppChannel>>,
    ) -> Registration {
        self.change(|registered| {
            let number = registered.next;
            registered.next += 1;
            let (app_id, namespace) = (app_id.to_owned(), namespace.to_owned());
            registered.apps.push(Entry { number, app_id, namespace, channel });
            Registration { directory: Arc::clone(self), number }
        })
    }

    /// Replaces what is known of the apps of other processes: id, namespace, and the way to it, if it can be called.
    pub fn set_neighbours(&self, apps: Vec<(String, String, Option<Arc<AppChannel>>)>) {
        self.change(|registered| {
            let entry =
                |(app_id, namespace, channel)| Entry { number: 0, app_id, namespace, channel };
            registered.neighbours = apps.into_iter().map(entry).collect();
        });
    }

    /// Says how apps of other hosts are reached from now on; `None` for not at all.
    pub fn set_peer_ways(&self, ways: Option<Box<dyn PeerWays>>) {
        self.peers.store(ways.map(Arc::new));
    }

    /// The instances of an app that this process hosts.
    ///
    /// # Errors
    /// [`CallError::NotFound`].
    pub fn hosted(&self, app_id: &str, namespace: &str) -> Result<Arc<Instances>, CallError> {
        let found = self.table.load().hosted.get(&key(app_id, namespace)).cloned();
        found.ok_or_else(|| not_found(app_id, namespace))
    }

    /// Replaces the outside services that have names. Of two with the same name the later one holds.
    pub fn set_endpoints(&self, endpoints: Vec<HttpEndpoint>) {
        self.change(|registered| {
            registered.endpoints = endpoints.into_iter().map(Arc::new).collect();
        });
    }

    /// What `address` (an app id, `id.namespace`, an endpoint's name, or a URL, percent-encoded or not) stands for when
    /// an app of `namespace` says it.
    ///
    /// # Errors
    /// [`CallError::NotFound`] and [`CallError::BadTarget`].
    pub fn resolve(&self, address: &str, namespace: &str) -> Result<Target, CallError> {
        let name = match Address::parse(address)? {
            Address::Url(base) => return Ok(Target::Url(base)),
            Address::Name(name) => name,
        };
        let table = self.table.load();
        if let Some(endpoint) = table.endpoints.get(&*name) {
            return Ok(Target::Endpoint(Arc::clone(endpoint)));
        }
        let (app, namespace) = name.split_once('.').unwrap_or((&name, namespace));
        if namespace.contains('.') {
            let reason = "an app id has at most one '.', in front of its namespace";
            return Err(CallError::BadTarget { target: address.to_owned(), reason });
        }
        let found = table.apps.get(&key(app, namespace));
        found.map(|app| Target::App(Arc::clone(app))).ok_or_else(|| not_found(app, namespace))
    }

    /// Every app known, as (id, namespace, number of instances with a port), in order.
    #[must_use]
    pub fn apps(&self) -> Vec<(String, String, usize)> {
        let table = self.table.load();
        let named = |app: &Arc<Instances>| {
            (app.app_id().to_owned(), app.namespace().to_owned(), app.channels().len())
        };
        let mut apps: Vec<_> = table.apps.values().map(named).collect();
        apps.sort();
        apps
    }

    fn change<T>(&self, change: impl FnOnce(&mut Registered) -> T) -> T {
        let mut registered = self.registered.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut registered);
        self.table.store(Arc::new(registered.table()));
        result
    }
}

impl Registered {
    fn table(&self) -> Table {
        let hosted = instances(self.apps.iter());
        let apps = match self.neighbours.is_empty() {
            true => hosted.clone(),
            // Those of this process first: theirs are the access lists that hold here.
            false => instances(self.apps.iter().chain(&self.neighbours)),
        };
        let named = |endpoint: &Arc<HttpEndpoint>| (endpoint.name.clone(), Arc::clone(endpoint));
        Table { apps, hosted, endpoints: self.endpoints.iter().map(named).collect() }
    }
}

fn instances<'a>(entries: impl Iterator<Item = &'a Entry>) -> HashMap<String, Arc<Instances>> {
    let mut channels: HashMap<String, (&Entry, Vec<Arc<AppChannel>>)> = HashMap::new();
    for entry in entries {
        let key = key(&entry.app_id, &entry.namespace);
        let (_, channels) = channels.entry(key).or_insert_with(|| (entry, Vec::new()));
        channels.extend(entry.channel.clone());
    }
    let named = |(entry, channels): (&Entry, Vec<_>)| {
        Arc::new(Instances::new(&entry.app_id, &entry.namespace, channels.into()))
    };
    channels.into_iter().map(|(key, value)| (key, named(value))).collect()
}

fn not_found(app: &str, namespace: &str) -> CallError {
    let namespace = if namespace.is_empty() { DEFAULT } else { namespace }.to_owned();
    CallError::NotFound { app: app.to_owned(), namespace }
}

/// An app without a namespace is in the one called `default`, and may be called there by its full name.
fn key(app_id: &str, namespace: &str) -> String {
    let namespace = if namespace.is_empty() { DEFAULT } else { namespace };
    [app_id, ".", namespace].concat()
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.directory.change(|known| known.apps.retain(|entry| entry.number != self.number));
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.apps()).finish()
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registration({})", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::Directory;

    #[test]
    fn without_a_namespace_is_in_the_default_one() {
        let directory = Directory::new();
        let _here = directory.register_without_port("shop", "");
        for (address, from) in
            [("shop", ""), ("shop.default", ""), ("shop", "default"), ("shop.default", "prod")]
        {
            assert!(directory.resolve(address, from).is_ok(), "{address} from {from:?}");
        }
        assert!(directory.resolve("shop", "prod").is_err());
    }
}
