//! What all apps of one process share.

use super::{Environment, Layers, data_dir};
use crate::failure::Failure;
use std::{path::PathBuf, time::Duration};

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
    /// When no data folder can be named.
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
        })
    }
}
