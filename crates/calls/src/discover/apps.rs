//! Where the places of apps are found: written down, or by a name made of the app's id.

use super::{At, DnsClient, DnsSource, FixedList, Place, Several, Source};
use std::{collections::HashMap, fmt, sync::Arc};

/// Knows where the places of an app are found.
pub trait AppSources: fmt::Debug + Send + Sync {
    /// The source for the app `app_id` of `namespace`; `None` when there certainly is none.
    fn source(&self, app_id: &str, namespace: &str) -> Option<Arc<dyn Source>>;
}

/// Apps whose places are written down.
#[derive(Debug)]
pub struct ListedApps(HashMap<String, Arc<dyn Source>>);

impl ListedApps {
    /// These apps, whatever the namespace. A place that has a host instead of an address stands for all addresses that
    /// DNS has of it.
    #[must_use]
    pub fn new(apps: impl IntoIterator<Item = (String, Vec<Place>)>, dns: &DnsClient) -> Self {
        Self(apps.into_iter().map(|(app, places)| (app, listed(places, dns))).collect())
    }
}

/// What a list stands for: addresses as they are, hosts by DNS.
#[must_use]
pub fn listed(places: Vec<Place>, dns: &DnsClient) -> Arc<dyn Source> {
    let (hosts, fixed): (Vec<_>, Vec<_>) =
        places.into_iter().partition(|place| matches!(place.at, At::Host(..)));
    let fixed = Arc::new(FixedList::new(fixed));
    let hosts = hosts.into_iter().take(HOSTS_MAX).filter_map(|place| match &place.at {
        At::Host(host, port) => {
            let source = DnsSource::hosts(dns.clone(), host, *port);
            Some(Arc::new(source.like(place.weight, place.zone.clone())) as Arc<dyn Source>)
        }
        _ => None,
    });
    let mut sources: Vec<Arc<dyn Source>> = hosts.collect();
    if sources.is_empty() {
        return fixed;
    }
    sources.insert(0, fixed);
    Arc::new(Several::new(sources))
}

/// How many hosts one list can have; each is asked for by itself.
const HOSTS_MAX: usize = 64;

impl AppSources for ListedApps {
    fn source(&self, app_id: &str, _namespace: &str) -> Option<Arc<dyn Source>> {
        self.0.get(app_id).cloned()
    }
}

/// Apps whose places DNS knows, by a name made of their id.
#[derive(Debug)]
pub struct DnsApps {
    dns: DnsClient,
    template: String,
    port: Option<u16>,
}

impl DnsApps {
    /// What stands for the app's id in a template.
    pub const ID: &str = "{id}";
    /// What stands for its namespace.
    pub const NAMESPACE: &str = "{namespace}";

    /// Apps whose places are at `port` of the host that `template` gives a name.
    #[must_use]
    pub fn hosts(dns: DnsClient, template: &str, port: u16) -> Self {
        Self { dns, template: template.to_owned(), port: Some(port) }
    }

    /// Apps whose places are those of the service (SRV records) that `template` gives a name.
    #[must_use]
    pub fn services(dns: DnsClient, template: &str) -> Self {
        Self { dns, template: template.to_owned(), port: None }
    }
}

impl AppSources for DnsApps {
    fn source(&self, app_id: &str, namespace: &str) -> Option<Arc<dyn Source>> {
        // A dot in an id would be a name of another domain.
        if app_id.contains('.') || namespace.contains('.') {
            return None;
        }
        let name = self.template.replace(Self::ID, app_id).replace(Self::NAMESPACE, namespace);
        Some(Arc::new(match self.port {
            Some(port) => DnsSource::hosts(self.dns.clone(), &name, port),
            None => DnsSource::services(self.dns.clone(), &name),
        }))
    }
}
