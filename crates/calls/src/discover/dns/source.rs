//! Addresses or services as places.

use super::{DnsClient, DnsFailure, Service};
use crate::discover::{FindError, Found, PLACES_MAX, Place, Source};
use outrigger_kernel::BoxFuture;
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// How many hosts of a service are asked for at a time.
const HOSTS_AT_ONCE: usize = 8;

/// Places by DNS.
///
/// | asked for | gives |
/// |---|---|
/// | [`DnsSource::hosts`] | one place per address of the host; a Kubernetes headless service is one host with many |
/// | [`DnsSource::services`] | one place per SRV record and address of its host, of the lowest priority that has any |
#[derive(Clone, Debug)]
pub struct DnsSource {
    client: DnsClient,
    name: String,
    /// Of hosts; services bring theirs.
    port: Option<u16>,
    /// Weight and zone of a host's addresses.
    like: (u32, Option<Arc<str>>),
}

impl DnsSource {
    /// The addresses of `host`, at `port`.
    #[must_use]
    pub fn hosts(client: DnsClient, host: &str, port: u16) -> Self {
        Self { client, name: host.to_owned(), port: Some(port), like: (1, None) }
    }

    /// The places of the service `name`, in full: `_http._tcp.shop.example.org`.
    #[must_use]
    pub fn services(client: DnsClient, name: &str) -> Self {
        Self { client, name: name.to_owned(), port: None, like: (1, None) }
    }

    /// The same, with this weight and zone for each address of the host.
    #[must_use]
    pub fn like(mut self, weight: u32, zone: Option<Arc<str>>) -> Self {
        self.like = (weight, zone);
        self
    }

    async fn look(&self) -> Result<Found, DnsFailure> {
        let Some(port) = self.port else { return self.look_for_services().await };
        let found = self.client.addresses(&self.name).await?;
        let addresses = found.records.into_iter().take(PLACES_MAX);
        let (weight, zone) = &self.like;
        let place = |ip| Place {
            weight: *weight,
            zone: zone.clone(),
            ..Place::at(SocketAddr::new(ip, port))
        };
        let places = addresses.map(place).collect();
        Ok(Found { places, valid_for: Some(found.valid_for) })
    }

    async fn look_for_services(&self) -> Result<Found, DnsFailure> {
        let found = self.client.services(&self.name).await?;
        let mut services = found.records;
        services.sort_by_key(|service| service.priority);
        services.truncate(PLACES_MAX);
        let mut valid_for = found.valid_for;
        let mut failure = None;
        for group in services.chunk_by(|a, b| a.priority == b.priority) {
            let mut places = Vec::new();
            for some in group.chunks(HOSTS_AT_ONCE) {
                let looks = some.iter().map(|service| self.places(service));
                for look in futures_util::future::join_all(looks).await {
                    match look {
                        Ok((some, some_for)) => {
                            valid_for = valid_for.min(some_for);
                            places.extend(some);
                        }
                        Err(error) => failure = Some(error),
                    }
                }
            }
            // Hosts that are not known do not take those with them that are.
            if !places.is_empty() {
                places.truncate(PLACES_MAX);
                return Ok(Found { places, valid_for: Some(valid_for) });
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None => Ok(Found { places: Vec::new(), valid_for: Some(valid_for) }),
        }
    }

    async fn places(&self, service: &Service) -> Result<(Vec<Place>, Duration), DnsFailure> {
        // The name in a record is a full one.
        let found = self.client.addresses(&[&service.host, "."].concat()).await?;
        let place = |ip| Place {
            // Weight 0 means a very small share, not none.
            weight: u32::from(service.weight).max(1),
            ..Place::at(SocketAddr::new(ip, service.port))
        };
        Ok((found.records.into_iter().map(place).collect(), found.valid_for))
    }
}

impl Source for DnsSource {
    fn find(&self) -> BoxFuture<'_, Result<Found, FindError>> {
        Box::pin(async { self.look().await.map_err(|failure| FindError(failure.to_string())) })
    }
}
