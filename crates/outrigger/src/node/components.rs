//! From resource documents to the components an app may use: who serves each, with which settings, secrets and policies.
//!
//! Secret stores come first, because the settings of the others may refer to them. A component that cannot be served ends
//! the start, unless it says `ignoreErrors`; on a reload it keeps what was there before.

use super::{
    engines::Engines,
    policies::Policies,
    serving,
    serving::Serving,
    sources::{self, Loaded},
};
use crate::{
    failure::{Exit, Failure},
    settings::{Environment, app::AppSettings, node::ComponentsMode},
};
use futures_util::FutureExt;
use outrigger_api::{
    Components, LOCK_CAPABILITIES, LockComponent, PUBSUB_CAPABILITIES, Policed, PubsubComponent,
    Registered, STATE_CAPABILITIES, SecretComponent, StateComponent,
    secrets::{EnvSecrets, FileSecrets, SecretStore},
};
use outrigger_calls::{
    Base, CallPolicy, ClientTls, HttpEndpoint, Inbound, OutboundClient, discover::FixedList,
};
use outrigger_coordination::Locks;
use outrigger_kernel::World;
use outrigger_keyspace::Durability;
use outrigger_resources::{
    Body, Component, ComponentBlock, Configuration, Direction, DurabilitySetting, Issue,
    KeyPrefixSetting, PubsubSettings, Settings, StateSettings, Subscription, Templates,
    type_catalog::{Block, HostPort},
};
use outrigger_state::{KeyPrefix, Store};
use std::{
    collections::BTreeMap,
    net::{TcpStream, ToSocketAddrs},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

/// How long a silent address is waited for. Loopback answers at once or not at all.
const KNOCK_MAX: Duration = Duration::from_millis(200);
/// Messages of one subscription that an app works on at once, unless its broker component says otherwise.
const IN_FLIGHT_DEFAULT: u32 = 64;

/// What all apps of a node build their components from.
pub(crate) struct Workshop<'a> {
    pub(crate) engines: &'a Engines,
    pub(crate) environment: &'a Environment,
    pub(crate) mode: ComponentsMode,
    pub(crate) world: &'a Arc<dyn World>,
    pub(crate) outbound: &'a OutboundClient,
}

/// What an app gets.
pub(crate) struct Built {
    pub(crate) components: Components,
    /// Services outside that have a name.
    pub(crate) endpoints: Vec<HttpEndpoint>,
    /// What stands before the app itself.
    pub(crate) inbound: Option<Inbound>,
    /// Declared subscriptions that apply to the app.
    pub(crate) subscriptions: Vec<Subscription>,
    /// What the user should be told, one line each.
    pub(crate) notices: Vec<String>,
}

/// Builds everything in `loaded` that applies to `app`.
pub(crate) fn build(
    workshop: &Workshop<'_>,
    app: &AppSettings,
    configuration: &Configuration,
    loaded: &Loaded,
) -> Result<Built, Failure> {
    loaded.check()?;
    let bodies: Vec<&Body> = loaded.applying(&app.id, &app.namespace).collect();
    let policies = Policies::new(
        bodies
            .iter()
            .filter_map(|body| if let Body::Resiliency(r) = body { Some(&**r) } else { None })
            .collect(),
    )
    .sharing(workshop.engines.limits(), &app.namespace);
    let mut bench = Bench {
        workshop,
        app,
        configuration,
        policies: &policies,
        built: Components {
            resiliencies: policies.names(),
            calls: policies.calls(workshop.world.random(), workshop.world.mono())?,
            ..Components::default()
        },
        endpoints: Vec::new(),
        notices: Vec::new(),
    };
    let mut components = loaded.components(&app.id, &app.namespace);
    let order: Vec<String> = components.iter().map(|found| found.head.name.clone()).collect();
    components
        .sort_by_key(|component| Block::of(&component.type_name) != Some(Block::SecretStores));
    for component in components {
        bench.add_or_skip(component)?;
    }
    // They were made in another order than they stand in.
    bench.built.registered.sort_by_key(|one| order.iter().position(|name| *name == one.name));
    let mut subscriptions = Vec::new();
    for body in bodies {
        match body {
            Body::HttpEndpoint(endpoint) => bench.add_endpoint(endpoint)?,
            Body::Subscription(subscription) => subscriptions.push((**subscription).clone()),
            Body::Other(other) => {
                bench.notices.push(format!(
                    "{} {} is left out: this build does not serve that kind",
                    other.kind, other.head.name
                ));
            }
            Body::Component(_) | Body::Configuration(_) | Body::Resiliency(_) => {}
        }
    }
    let Bench { built: components, endpoints, notices, .. } = bench;
    let inbound = policies.inbound(&app.id)?.map(|effective| {
        let policy = CallPolicy::seeded(effective.policy, 1, workshop.world.random());
        Inbound::new(&app.id, policy)
    });
    Ok(Built { components, endpoints, inbound, subscriptions, notices })
}

struct Bench<'a> {
    workshop: &'a Workshop<'a>,
    app: &'a AppSettings,
    configuration: &'a Configuration,
    policies: &'a Policies<'a>,
    built: Components,
    endpoints: Vec<HttpEndpoint>,
    notices: Vec<String>,
}

impl Bench<'_> {
    fn add_or_skip(&mut self, component: &Component) -> Result<(), Failure> {
        let (name, kind) = (&component.head.name, &component.type_name);
        if !self.configuration.component_allowed(kind, &component.version) {
            self.notices
                .push(format!("{name} ({kind}) is left out: the configuration denies that type"));
            return Ok(());
        }
        match self.add(component) {
            Err(failure) if component.ignore_errors => {
                self.notices.push(format!(
                    "{name} ({kind}) is left out, as ignoreErrors says: {}",
                    failure.what()
                ));
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn add(&mut self, component: &Component) -> Result<(), Failure> {
        let decision = serving::decide(component, self.workshop.mode, &listens)?;
        self.notices.extend(decision.notice);
        if decision.serving == Serving::Nobody {
            return Ok(());
        }
        let values = self.resolve(component)?;
        let settings = Settings::new(component, &values);
        match Block::of(&component.type_name) {
            Some(Block::State) => self.add_state(component, settings, &decision.serving)?,
            Some(Block::Pubsub) => self.add_pubsub(component, settings, &decision.serving)?,
            Some(Block::Lock) => self.add_locks(component, settings, &decision.serving)?,
            Some(Block::SecretStores) => self.add_secrets(component, settings)?,
            _ => return Ok(()),
        }
        Ok(())
    }

    fn resolve(&self, component: &Component) -> Result<BTreeMap<String, String>, Failure> {
        let env = |name: &str| self.workshop.environment.get(name).map(ToOwned::to_owned);
        let secrets = |store: &str, name: &str, key: &str| self.secret(store, name, key);
        let unresolved = |issues: Vec<Issue>| first(&issues, "OUTR-0014");
        let mut values =
            outrigger_resources::resolve(component, &secrets, &env).map_err(unresolved)?;
        let world = self.workshop.world;
        let uuid =
            || uuid::Builder::from_random_bytes(random_bytes(&**world)).into_uuid().to_string();
        let pod = env("POD_NAME");
        let templates = Templates {
            app_id: &self.app.id,
            namespace: &self.app.namespace,
            pod_name: pod.as_deref(),
            uuid: &uuid,
        };
        templates.fill(component, &mut values).map_err(unresolved)?;
        Ok(values)
    }

    /// A field of a secret. The stores of this build have their secrets at hand, so nothing is waited for.
    fn secret(&self, store: &str, name: &str, key: &str) -> Result<String, String> {
        let found = self
            .built
            .secrets
            .get(store)
            .ok_or_else(|| format!("there is no secret store {store:?}"))?;
        let answer = found.store.get(name).now_or_never();
        let mut secret = answer
            .ok_or_else(|| format!("the secret store {store:?} did not answer"))?
            .map_err(|e| e.to_string())?;
        secret.remove(key).ok_or_else(|| format!("the secret {name:?} has no key {key:?}"))
    }

    fn add_state(
        &mut self,
        component: &Component,
        settings: Settings<'_>,
        serving: &Serving,
    ) -> Result<(), Failure> {
        let read = StateSettings::read(settings).map_err(|issues| first(&issues, "OUTR-0015"))?;
        let asked = [
            ("primaryEncryptionKey", read.primary_encryption_key.is_some()),
            ("outboxPublishPubsub", read.outbox.is_some()),
        ];
        if let Some((setting, _)) = asked.into_iter().find(|(_, asked)| *asked) {
            // Going on without would be worse than not starting: plain text on disk, events never sent.
            let what = format!(
                "component {} asks for {setting}, which this build does not have",
                component.head.name
            );
            return Err(Failure::new("OUTR-0015", Exit::Usage, what)
                .at(&component.origin)
                .help("remove the entry"));
        }
        let name = &component.head.name;
        if read.durability.is_some() && *serving == Serving::Memory {
            let what = format!(
                "component {name} asks for a durability, but a store of type {} keeps nothing",
                component.type_name
            );
            return Err(Failure::new("OUTR-0015", Exit::Usage, what)
                .at(&component.origin)
                .help("remove the entry, or choose a type that keeps what it is given, such as state.outrigger"));
        }
        let durability = match read.durability.unwrap_or_default() {
            DurabilitySetting::Flush => Durability::Flush,
            DurabilitySetting::Relaxed => Durability::Relaxed,
        };
        let space = self.workshop.engines.space(serving)?.with_durability(durability);
        let outbound =
            self.policies.component(name, ComponentBlock::Statestore, Direction::Outbound)?;
        let state = StateComponent {
            name: name.as_str().into(),
            store: Store::new(space, name.clone()),
            prefix: prefix(read.key_prefix),
            ttl_default_seconds: read.ttl_seconds_default,
            outbound: Policed::seeded(outbound, self.workshop.world.random()),
        };
        self.built.state.insert(name.clone(), Arc::new(state));
        let mut capabilities = STATE_CAPABILITIES.to_vec();
        if durability == Durability::Relaxed {
            // Somebody who looks at what a store can do is to see what it does not.
            capabilities.push("RELAXED_DURABILITY");
        }
        self.register(component, &capabilities);
        Ok(())
    }

    fn add_pubsub(
        &mut self,
        component: &Component,
        settings: Settings<'_>,
        serving: &Serving,
    ) -> Result<(), Failure> {
        let read = PubsubSettings::read(settings).map_err(|issues| first(&issues, "OUTR-0015"))?;
        let name = &component.head.name;
        let in_flight = settings
            .integer("maxInFlight", 1..=10_000)
            .map_err(|issue| sources::failure(&issue))?;
        let block = ComponentBlock::Pubsub;
        let outbound = self.policies.component(name, block, Direction::Outbound)?;
        let inbound = self.policies.component(name, block, Direction::Inbound)?;
        let pubsub = PubsubComponent {
            name: name.as_str().into(),
            broker: self.workshop.engines.broker(serving, name)?,
            scopes: read.scopes,
            consumer_group: read.consumer_id.unwrap_or_else(|| self.app.id.clone()),
            outbound: Policed::seeded(outbound, self.workshop.world.random()),
            inbound,
            policies: self.policies.names(),
            max_in_flight: in_flight
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(IN_FLIGHT_DEFAULT),
        };
        self.built.pubsub.insert(name.clone(), Arc::new(pubsub));
        self.register(component, PUBSUB_CAPABILITIES);
        Ok(())
    }

    fn add_locks(
        &mut self,
        component: &Component,
        settings: Settings<'_>,
        serving: &Serving,
    ) -> Result<(), Failure> {
        let name = &component.head.name;
        // Locks know no namespaces as prefixes: the word is as good as any other text.
        let prefix = match settings.text("keyPrefix") {
            Some(text) if text.eq_ignore_ascii_case("namespace") => {
                Ok(KeyPrefix::Literal(text.to_lowercase()))
            }
            text => KeyPrefix::parse(text),
        };
        let prefix = prefix.map_err(|error| {
            let what = format!("component {name} cannot be used");
            Failure::new("OUTR-0015", Exit::Usage, what).at(&component.origin).why(error)
        })?;
        let locks = Locks::new(self.workshop.engines.space(serving)?, name);
        let component_of = LockComponent { name: name.as_str().into(), locks, prefix };
        self.built.locks.insert(name.clone(), Arc::new(component_of));
        self.register(component, LOCK_CAPABILITIES);
        Ok(())
    }

    fn add_secrets(
        &mut self,
        component: &Component,
        settings: Settings<'_>,
    ) -> Result<(), Failure> {
        let name = &component.head.name;
        let wrong = |issue: Issue| sources::failure(&issue);
        let store: Arc<dyn SecretStore> = match component.type_name.as_str() {
            "secretstores.local.env" => {
                let variables = self.workshop.environment.pairs();
                Arc::new(EnvSecrets::new(variables, settings.text("prefix").unwrap_or_default()))
            }
            "secretstores.local.file" => {
                let path = PathBuf::from(settings.required("secretsFile").map_err(wrong)?);
                let multi_valued =
                    settings.switch("multiValued").map_err(wrong)?.unwrap_or_default();
                let separator = settings.text("nestedSeparator").unwrap_or(":");
                let opened = FileSecrets::open(&path, separator, multi_valued).map_err(|reason| {
                    let what = format!("component {name} cannot be used");
                    Failure::new("OUTR-0015", Exit::Usage, what).at(&component.origin).why(reason)
                });
                Arc::new(opened?)
            }
            other => {
                return Err(Failure::internal(format!(
                    "a secret store of type {other} has no maker"
                )));
            }
        };
        let secrets = SecretComponent { name: name.as_str().into(), store };
        self.built.secrets.insert(name.clone(), Arc::new(secrets));
        self.register(component, &[]);
        Ok(())
    }

    fn add_endpoint(
        &mut self,
        endpoint: &outrigger_resources::HttpEndpoint,
    ) -> Result<(), Failure> {
        let env = |name: &str| self.workshop.environment.get(name).map(ToOwned::to_owned);
        let secrets = |store: &str, name: &str, key: &str| self.secret(store, name, key);
        let name = &endpoint.head.name;
        let wrong = |reason: &dyn std::fmt::Display| {
            Failure::new("OUTR-0015", Exit::Usage, format!("HTTP endpoint {name} cannot be used"))
                .at(&endpoint.origin)
                .why(reason)
        };
        let values = outrigger_resources::resolve_headers(endpoint, &secrets, &env)
            .map_err(|issues| first(&issues, "OUTR-0014"))?;
        let mut headers = Vec::with_capacity(values.len());
        for (header, value) in values {
            let header = http::HeaderName::try_from(&header).map_err(|error| wrong(&error))?;
            headers.push((
                header,
                http::HeaderValue::try_from(&value).map_err(|error| wrong(&error))?,
            ));
        }
        let base = Base::parse(&endpoint.base_url).map_err(|error| wrong(&error))?;
        let tls = match &endpoint.client_tls {
            None => None,
            Some(_) => {
                let texts = outrigger_resources::resolve_tls(endpoint, &secrets, &env)
                    .map_err(|issues| first(&issues, "OUTR-0014"))?;
                let root = texts.root_ca.as_ref().map(String::as_bytes);
                let identity = texts.identity.as_ref();
                let certificate = identity.map(|(certificate, _)| certificate.as_bytes());
                let key = identity.map(|(_, key)| key.as_bytes());
                let tls = ClientTls::from_pem(root, certificate, key);
                Some(tls.map_err(|error| wrong(&error))?)
            }
        };
        let places = FixedList::parse(&endpoint.addresses.join("\n"));
        let places = places.map_err(|error| wrong(&error))?;
        let outbound = self.workshop.outbound;
        let spread = || outbound.instances(name, &base, tls.as_ref(), places.places());
        let instances = (!places.places().is_empty()).then(spread);
        self.endpoints.push(HttpEndpoint { name: name.clone(), base, headers, tls, instances });
        self.built.endpoints.push(name.clone());
        Ok(())
    }

    fn register(&mut self, component: &Component, capabilities: &[&str]) {
        let (name, kind, version) =
            (&component.head.name, &component.type_name, &component.version);
        tracing::info!(
            scope = "dapr.runtime.processor",
            app_id = self.app.id,
            "Component loaded: {name} ({kind}/{version})"
        );
        self.built.registered.push(Registered {
            name: component.head.name.clone(),
            type_name: component.type_name.clone(),
            version: component.version.clone(),
            capabilities: capabilities.iter().map(|word| (*word).to_owned()).collect(),
        });
    }
}

fn prefix(setting: KeyPrefixSetting) -> KeyPrefix {
    match setting {
        KeyPrefixSetting::AppId => KeyPrefix::AppId,
        KeyPrefixSetting::Name => KeyPrefix::Name,
        KeyPrefixSetting::None => KeyPrefix::None,
        KeyPrefixSetting::Namespace => KeyPrefix::Namespace,
        KeyPrefixSetting::Literal(text) => KeyPrefix::Literal(text),
    }
}

fn first(issues: &[Issue], code: &'static str) -> Failure {
    match issues.first() {
        Some(issue) => sources::failure(issue),
        None => Failure::new(code, Exit::Usage, "a component cannot be used"),
    }
}

fn listens(address: &HostPort) -> bool {
    let candidates = (address.host.as_str(), address.port).to_socket_addrs().into_iter().flatten();
    candidates.into_iter().any(|at| TcpStream::connect_timeout(&at, KNOCK_MAX).is_ok())
}

fn random_bytes(world: &dyn World) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&world.random().to_ne_bytes());
    bytes[8..].copy_from_slice(&world.random().to_ne_bytes());
    bytes
}
