//! Who can be called: apps by id and namespace, outside services by name.
//!
//! An app is known because this process hosts it ([`Directory::register`]), because another one of this machine does
//! ([`Directory::set_neighbours`]), or because name resolution has found it on other hosts ([`Directory::find`]). Instances
//! of this machine take turns; those of other hosts get what these cannot take.
//!
//! Read on every call and written when something starts or stops, so readers take a snapshot without a lock and writers
//! replace it whole.

use crate::{
    AppChannel, CallError, HttpEndpoint, Lookup, PeerWays, Target,
    discover::{At, Place},
    lookup::{Kept, Led},
    target::{Address, Instances, Member},
};
use arc_swap::{ArcSwap, ArcSwapOption};
use outrigger_kernel::Deadline;
use outrigger_resilience::WEIGHT_MAX;
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
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
    lookup: ArcSwapOption<Lookup>,
}

#[derive(Default)]
struct Table {
    /// By `id.namespace`.
    apps: HashMap<String, Arc<Instances>>,
    /// The same without what other processes host.
    hosted: HashMap<String, Arc<Instances>>,
    /// Apps of this process that take no new calls.
    leaving: HashSet<String>,
    endpoints: HashMap<String, Arc<HttpEndpoint>>,
}

#[derive(Default)]
struct Registered {
    next: u64,
    apps: Vec<Entry>,
    neighbours: Vec<Entry>,
    /// By `id.namespace`.
    elsewhere: HashMap<String, Elsewhere>,
    /// The zone of this machine.
    zone: Option<Arc<str>>,
    endpoints: Vec<Arc<HttpEndpoint>>,
}

/// What name resolution has found of an app.
struct Elsewhere {
    kept: Arc<Kept>,
    places: Arc<[Place]>,
}

struct Entry {
    number: u64,
    app_id: String,
    namespace: String,
    channel: Option<Arc<AppChannel>>,
    leaving: bool,
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
        self.enter(app_id, namespace, Some(channel), false)
    }

    /// Makes an app known that has no port: calling it says so, instead of that there is no such app.
    pub fn register_without_port(self: &Arc<Self>, app_id: &str, namespace: &str) -> Registration {
        self.enter(app_id, namespace, None, false)
    }

    /// Makes it known of an app that it takes no new calls: nobody finds it here, and who has found it before is told to
    /// go elsewhere, or to come back.
    pub fn register_leaving(self: &Arc<Self>, app_id: &str, namespace: &str) -> Registration {
        self.enter(app_id, namespace, None, true)
    }

    fn enter(
        self: &Arc<Self>,
        app_id: &str,
        namespace: &str,
        channel: Option<Arc<AppChannel>>,
        leaving: bool,
    ) -> Registration {
        self.change(|registered| {
            let number = registered.next;
            registered.next += 1;
            let (app_id, namespace) = (app_id.to_owned(), namespace.to_owned());
            registered.apps.push(Entry { number, app_id, namespace, channel, leaving });
            Registration { directory: Arc::clone(self), number }
        })
    }

    /// Replaces what is known of the apps of other processes: id, namespace, and the way to it, if it can be called.
    pub fn set_neighbours(&self, apps: Vec<(String, String, Option<Arc<AppChannel>>)>) {
        self.change(|registered| {
            let entry = |(app_id, namespace, channel)| Entry {
                number: 0,
                app_id,
                namespace,
                channel,
                leaving: false,
            };
            registered.neighbours = apps.into_iter().map(entry).collect();
        });
    }

    /// Says how apps of other hosts are reached from now on; `None` for not at all.
    pub fn set_peer_ways(&self, ways: Option<Box<dyn PeerWays>>) {
        self.peers.store(ways.map(Arc::new));
    }

    /// How apps of other hosts are reached.
    pub(crate) fn peer_ways(&self) -> Option<Arc<Box<dyn PeerWays>>> {
        self.peers.load_full()
    }

    /// Says where apps are looked for that this machine does not have; `None` for nowhere. What was found elsewhere
    /// before is forgotten.
    pub fn set_lookup(&self, lookup: Option<Arc<Lookup>>) {
        let zone = lookup.as_ref().and_then(|lookup| lookup.zone().cloned());
        self.lookup.store(lookup);
        let before = self.change(|registered| {
            registered.zone = zone;
            std::mem::take(&mut registered.elsewhere)
        });
        drop(before);
    }

    /// Where apps are looked for that this machine does not have.
    #[must_use]
    pub fn lookup(&self) -> Option<Arc<Lookup>> {
        self.lookup.load_full()
    }

    /// A name is looked for from now on.
    pub(crate) fn begin_elsewhere(&self, key: &str, make: impl FnOnce() -> Arc<Kept>) -> Arc<Kept> {
        self.change(|registered| {
            let kept = make();
            let found = Elsewhere { kept: Arc::clone(&kept), places: Arc::default() };
            registered.elsewhere.insert(key.to_owned(), found);
            kept
        })
    }

    /// What was found of a name that is looked for.
    pub(crate) fn set_elsewhere(&self, key: &str, led: &Weak<Led>, places: &Arc<[Place]>) {
        self.change(|registered| {
            let found = registered.elsewhere.get_mut(key);
            if let Some(found) = found.filter(|found| found.kept.is_led_by(led)) {
                found.places = Arc::clone(places);
            }
        });
    }

    /// These names are not looked for any more.
    pub(crate) fn end_elsewhere(&self, keys: &[String]) {
        if keys.is_empty() {
            return;
        }
        let ended: Vec<_> = self.change(|registered| {
            keys.iter().filter_map(|key| registered.elsewhere.remove(key)).collect()
        });
        drop(ended);
    }

    /// The instances of an app that this process hosts.
    ///
    /// # Errors
    /// [`CallError::NotFound`]; [`CallError::Unhealthy`] when it is leaving.
    pub fn hosted(&self, app_id: &str, namespace: &str) -> Result<Arc<Instances>, CallError> {
        let (table, key) = (self.table.load(), key(app_id, namespace));
        match table.hosted.get(&key) {
            Some(found) => Ok(Arc::clone(found)),
            None if table.leaving.contains(&key) => {
                Err(CallError::Unhealthy { app: app_id.to_owned() })
            }
            None => Err(not_found(app_id, namespace)),
        }
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

    /// The same, and apps that this machine does not have are looked for where [`Directory::set_lookup`] says. The first
    /// call waits for what the first look brings, until `deadline`; where the app is here as well, nobody waits.
    ///
    /// # Errors
    /// The same, and [`CallError::Unresolved`] or [`CallError::NoPeerWay`] when nothing could be found out.
    pub async fn find(
        self: &Arc<Self>,
        address: &str,
        namespace: &str,
        deadline: Deadline,
    ) -> Result<Target, CallError> {
        let known = self.resolve(address, namespace);
        let (app, namespace_of) = match &known {
            Ok(Target::App(app)) if app.kept().is_some() => {
                app.kept().iter().for_each(|kept| kept.used());
                return known;
            }
            Ok(Target::App(app)) => (app.app_id().to_owned(), app.namespace().to_owned()),
            Err(CallError::NotFound { app, namespace }) => (app.clone(), namespace.clone()),
            _ => return known,
        };
        let Some(lookup) = self.lookup.load_full() else { return known };
        let (key, namespace_of) = (key(&app, &namespace_of), named(&namespace_of));
        let Some(kept) = lookup.keep(self, &key, &app, namespace_of) else { return known };
        if matches!(&known, Ok(Target::App(app)) if !app.channels().is_empty()) {
            return known;
        }
        let settled = Box::pin(kept.settled(deadline)).await;
        match (self.resolve(address, namespace), settled) {
            (Err(CallError::NotFound { .. }), Err(unknown)) => Err(unknown),
            (found, _) => found,
        }
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
        let nowhere = HashMap::new();
        let apps = || self.apps.iter().filter(|entry| !entry.leaving);
        let hosted = self.instances(apps(), &nowhere);
        let leaving = self.apps.iter().filter(|entry| entry.leaving);
        let leaving = leaving.map(|entry| key(&entry.app_id, &entry.namespace)).collect();
        let apps = match self.neighbours.is_empty() && self.elsewhere.is_empty() {
            true => hosted.clone(),
            // Those of this process first: theirs are the access lists that hold here.
            false => self.instances(apps().chain(&self.neighbours), &self.elsewhere),
        };
        let named = |endpoint: &Arc<HttpEndpoint>| (endpoint.name.clone(), Arc::clone(endpoint));
        Table { apps, hosted, leaving, endpoints: self.endpoints.iter().map(named).collect() }
    }

    fn instances<'a>(
        &'a self,
        entries: impl Iterator<Item = &'a Entry>,
        elsewhere: &'a HashMap<String, Elsewhere>,
    ) -> HashMap<String, Arc<Instances>> {
        let mut apps: HashMap<String, (&str, &str, Vec<Member>)> = HashMap::new();
        for Entry { app_id, namespace, channel, .. } in entries {
            let app = apps.entry(key(app_id, namespace));
            let (.., members) = app.or_insert_with(|| (app_id, namespace, Vec::new()));
            members.extend(channel.clone().map(Member::here));
        }
        for (key, Elsewhere { kept, places }) in elsewhere {
            // One that is looked for and not found is not known.
            if !apps.contains_key(key) && places.is_empty() {
                continue;
            }
            let app = apps.entry(key.clone());
            let (.., members) =
                app.or_insert_with(|| (kept.app_id(), kept.namespace(), Vec::new()));
            members.extend(places.iter().filter_map(Member::elsewhere));
        }
        let made = |(key, (app_id, namespace, members)): (String, (&str, &str, _))| {
            let kept = elsewhere.get(&key).map(|found| Arc::clone(&found.kept));
            let zone = self.zone.clone();
            (key, Arc::new(Instances::new(app_id, namespace, members, zone, kept)))
        };
        apps.into_iter().map(made).collect()
    }
}

impl Member {
    fn elsewhere(place: &Place) -> Option<Self> {
        let At::Channel(channel) = &place.at else { return None };
        let (channel, zone) = (Arc::clone(channel), place.zone.clone());
        Some(Self { channel, weight: place.weight.min(WEIGHT_MAX), zone, here: false })
    }
}

fn not_found(app: &str, namespace: &str) -> CallError {
    CallError::NotFound { app: app.to_owned(), namespace: named(namespace).to_owned() }
}

/// An app without a namespace is in the one called `default`, and may be called there by its full name.
pub(crate) fn key(app_id: &str, namespace: &str) -> String {
    [app_id, ".", named(namespace)].concat()
}

fn named(namespace: &str) -> &str {
    if namespace.is_empty() { DEFAULT } else { namespace }
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
