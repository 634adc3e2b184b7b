//! What all apps of one process share.

use super::{Environment, Layers, app::Port, data_dir};
use crate::failure::{Exit, Failure};
use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

/// The settings of a node. Data only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// Where data lives.
    pub data: DataPlace,
    /// Where outside component types are served from.
    pub components: ComponentsMode,
    /// Whether to follow changes of resource files.
    pub reload: bool,
    /// Time between full comparisons of resources.
    pub reload_interval: Duration,
    /// Time that work in flight gets at shutdown.
    pub grace: Duration,
    /// Time to go on serving after the first signal.
    pub block: Option<Duration>,
    /// Who the apps are to other hosts.
    pub identity: IdentitySettings,
}

/// Who the apps are to other hosts, and where those are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySettings {
    /// Whether somebody switched it on or off.
    pub enabled: Option<bool>,
    /// Where certificates come from.
    pub source: IdentitySource,
    /// Trust domain of an authority that is made now.
    pub trust_domain: String,
    /// Life of certificates that are given here, and whether somebody chose it.
    pub ttl: (Duration, bool),
    /// How much clocks may differ, and whether somebody chose it.
    pub skew: (Duration, bool),
    /// The port for other hosts.
    pub port: Port,
    /// Its address.
    pub address: IpAddr,
}

/// Where certificates come from.
#[derive(Clone, PartialEq, Eq)]
pub enum IdentitySource {
    /// Nobody said; the authority in the data folder, if identity is on at all.
    Unsaid,
    /// The authority in the data folder.
    Local,
    /// The authority of another runtime.
    Joined {
        /// Its host and port.
        at: (String, u16),
        /// For the first time.
        token: Option<String>,
    },
    /// Files in this folder.
    Files(PathBuf),
}

impl fmt::Debug for IdentitySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the token.
        match self {
            Self::Unsaid => f.write_str("Unsaid"),
            Self::Local => f.write_str("Local"),
            Self::Joined { at: (host, port), .. } => write!(f, "Joined({host}:{port})"),
            Self::Files(folder) => write!(f, "Files({})", folder.display()),
        }
    }
}

impl IdentitySettings {
    fn read(layers: &Layers) -> Result<Self, Failure> {
        let source = match (layers.text("identity.dir"), layers.text("identity.ca")) {
            (Some(_), Some(_)) => {
                let what = "an identity comes from files or from an authority, not from both";
                return Err(Failure::new("OUTR-0001", Exit::Usage, what)
                    .at(layers.origin("identity.dir"))
                    .help("give --identity-dir or --ca"));
            }
            (Some(folder), None) => IdentitySource::Files(PathBuf::from(folder)),
            (None, Some("local")) => IdentitySource::Local,
            (None, Some(at)) => IdentitySource::Joined {
                at: authority_at(at, &layers.origin("identity.ca"))?,
                token: layers.text("identity.join-token").map(ToOwned::to_owned),
            },
            (None, None) => IdentitySource::Unsaid,
        };
        let time = |key| (layers.duration(key).unwrap_or_default(), layers.is_set(key));
        let enabled = layers.text("mtls.enabled").map(|_| layers.switch("mtls.enabled"));
        Ok(Self {
            enabled,
            source,
            trust_domain: layers.text("identity.trust-domain").unwrap_or("public").to_owned(),
            ttl: time("identity.certificate-ttl"),
            skew: time("identity.clock-skew"),
            port: Port {
                number: layers.port("peer.port").unwrap_or_default(),
                asked_for: layers.is_set("peer.port"),
                flag: "dapr-internal-grpc-port",
            },
            address: super::app::address(
                layers,
                "peer.listen-address",
                layers.text("peer.listen-address").unwrap_or("127.0.0.1"),
            )?,
        })
    }
}

/// Host and port of `https://host:port`.
pub(crate) fn authority_at(text: &str, origin: &str) -> Result<(String, u16), Failure> {
    let rest = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
    let parts = rest.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let fits = !host.is_empty() && !host.contains(['/', '@', '?', '#']);
        fits.then(|| (host.to_owned(), port))
    });
    parts.ok_or_else(|| {
        let what = format!("{text:?} is not where an authority can be");
        Failure::new("OUTR-0001", Exit::Usage, what)
            .at(origin)
            .help("give https://host:port of the runtime that has it (its --dapr-internal-grpc-port), or local")
    })
}

/// Where data lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataPlace {
    /// In memory; gone afterwards.
    Memory,
    /// In this folder.
    Folder(PathBuf),
}

/// Where outside component types are served from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComponentsMode {
    /// The real system when something listens there; the embedded store when a loopback address is silent.
    Auto,
    /// The real system, or fail at start.
    Real,
    /// The embedded store.
    Embedded,
}

impl NodeSettings {
    /// The typed view of `layers`. `mode` is used when nobody set one.
    ///
    /// # Errors
    /// When no data folder can be named, or the identity has no single source.
    pub fn read(
        layers: &Layers,
        environment: &Environment,
        mode: ComponentsMode,
    ) -> Result<Self, Failure> {
        let mode = match layers.text("components.mode") {
            Some("auto") => ComponentsMode::Auto,
            Some("real") => ComponentsMode::Real,
            Some("embedded") => ComponentsMode::Embedded,
            _ => mode,
        };
        let data = match layers.switch("data.ephemeral") {
            true => DataPlace::Memory,
            false => DataPlace::Folder(data_dir::choose(layers.text("data.dir"), environment)?),
        };
        let second = Duration::from_secs(1);
        Ok(Self {
            data,
            components: mode,
            reload: layers.switch("reload.enabled"),
            reload_interval: layers.duration("reload.interval").unwrap_or(second * 60).max(second),
            grace: layers.duration("shutdown.grace").unwrap_or(second * 5),
            block: layers.duration("shutdown.block").filter(|time| !time.is_zero()),
            identity: IdentitySettings::read(layers)?,
        })
    }
}
