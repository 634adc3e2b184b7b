//! Where sets of places come from.

use crate::{AppChannel, Directory};
use outrigger_kernel::BoxFuture;
use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

/// How many places one source gives at most; more are left out.
pub const PLACES_MAX: usize = 1_000;

/// Finds the places that answer for one name.
pub trait Source: fmt::Debug + Send + Sync {
    /// The places as of now. An empty set says that there are none, an error that it is not known.
    fn find(&self) -> BoxFuture<'_, Result<Found, FindError>>;
}

/// What a source found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The places.
    pub places: Vec<Place>,
    /// For how long that holds; `None` for ever.
    pub valid_for: Option<Duration>,
}

/// A source does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FindError(pub String);

/// One place that answers for a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// By which it is known again in the next set.
    pub name: Arc<str>,
    /// Its share of the traffic in relation to the others.
    pub weight: u32,
    /// Where it stands, if that is known.
    pub zone: Option<Arc<str>>,
    /// How it is reached.
    pub at: At,
}

/// How a place is reached.
#[derive(Clone, Debug)]
pub enum At {
    /// At this address.
    Address(SocketAddr),
    /// At whatever address the host has when it is dialed.
    Host(String, u16),
    /// Through a channel that is there already.
    Channel(Arc<AppChannel>),
}

impl Place {
    /// A place at an address.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        let name = address.to_string().into();
        Self { name, weight: 1, zone: None, at: At::Address(address) }
    }
}

impl PartialEq for At {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Address(own), Self::Address(other)) => own == other,
            (Self::Host(host, port), Self::Host(other, other_port)) => {
                host == other && port == other_port
            }
            (Self::Channel(own), Self::Channel(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }
}

/// Places written down in the settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FixedList(Vec<Place>);

/// Not a place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not host:port, optionally with weight=N and zone=NAME behind it")]
pub struct BadPlace(pub String);

impl FixedList {
    /// These places.
    #[must_use]
    pub fn new(mut places: Vec<Place>) -> Self {
        places.truncate(PLACES_MAX);
        Self(places)
    }

    /// The places.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.0
    }

    /// One place per line or comma: `host:port`, then `weight=N` and `zone=NAME` if wanted.
    ///
    /// # Errors
    /// [`BadPlace`] for the first that is none.
    pub fn parse(text: &str) -> Result<Self, BadPlace> {
        let lines = text.split([',', '\n']).map(str::trim).filter(|line| !line.is_empty());
        lines.map(place).collect::<Result<Vec<_>, _>>().map(Self::new)
    }
}

fn place(line: &str) -> Result<Place, BadPlace> {
    let bad = || BadPlace(line.to_owned());
    let mut words = line.split_whitespace();
    let name = words.next().ok_or_else(bad)?;
    let at = match name.parse::<SocketAddr>() {
        Ok(address) => At::Address(address),
        Err(_) => {
            let (host, port) = name.rsplit_once(':').ok_or_else(bad)?;
            let is_name = !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?;
            if !is_name {
                return Err(bad());
            }
            At::Host(host.to_ascii_lowercase(), port)
        }
    };
    let mut place = Place { name: name.to_ascii_lowercase().into(), weight: 1, zone: None, at };
    for word in words {
        match word.split_once('=') {
            Some(("weight", weight)) => place.weight = weight.parse().map_err(|_| bad())?,
            Some(("zone", zone)) if !zone.is_empty() => place.zone = Some(zone.into()),
            _ => return Err(bad()),
        }
    }
    Ok(place)
}

impl Source for FixedList {
    fn find(&self) -> BoxFuture<'_, Result<Found, FindError>> {
        let found = Found { places: self.0.clone(), valid_for: None };
        Box::pin(async move { Ok(found) })
    }
}

/// How long a look into the directory holds.
const LOCAL_FOR: Duration = Duration::from_secs(1);

/// The instances of an app on this machine, as the directory knows them: this process's own and its neighbours'.
#[derive(Clone, Debug)]
pub struct LocalApps {
    directory: Arc<Directory>,
    address: String,
    namespace: String,
}

impl LocalApps {
    /// The app that `address` means to an app of `namespace`.
    #[must_use]
    pub fn new(directory: Arc<Directory>, address: &str, namespace: &str) -> Self {
        let (address, namespace) = (address.to_owned(), namespace.to_owned());
        Self { directory, address, namespace }
    }
}

impl Source for LocalApps {
    fn find(&self) -> BoxFuture<'_, Result<Found, FindError>> {
        Box::pin(async move {
            let places = match self.directory.resolve(&self.address, &self.namespace) {
                Ok(crate::Target::App(app)) => {
                    let numbered = app.channels().iter().take(PLACES_MAX).map(|channel| Place {
                        // An instance has no name of its own; what makes it the same one is its channel.
                        name: format!("{}@{:p}", app.app_id(), Arc::as_ptr(channel)).into(),
                        weight: 1,
                        zone: None,
                        at: At::Channel(Arc::clone(channel)),
                    });
                    numbered.collect()
                }
                Ok(_) => return Err(FindError(format!("{} is not an app", self.address))),
                Err(crate::CallError::NotFound { .. }) => Vec::new(),
                Err(error) => return Err(FindError(error.to_string())),
            };
            Ok(Found { places, valid_for: Some(LOCAL_FOR) })
        })
    }
}
