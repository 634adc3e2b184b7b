//! The field of the experiments with calls: servers that sleep, proxies of others before them, and a load that does not wait.
//!
//! Capacity is made of sleep and not of work: ten workers that take 50 ms each are 200 calls a second for next to no processor
//! time, so that servers, proxies and load fit on two cores, and all variants can run at the same time.

mod flood;
mod proxies;
mod servers;

pub(crate) use flood::{Flood, Shots};
pub(crate) use proxies::{haproxy, nginx};
pub(crate) use servers::{Sleepy, listen, relay};

use crate::process::{Folder, Server, outrigger, part};
use anyhow::Result;
use std::time::Duration;

/// Workers of a server, and how long each takes for a call: 200 calls a second.
pub(crate) const WORKERS: u32 = 10;
/// See [`WORKERS`].
pub(crate) const WORK: Duration = Duration::from_millis(50);
/// What such a server manages, in calls a second.
pub(crate) const CAPACITY: f64 = 200.0;

/// So many seconds, or a part of them where only a part is wanted.
pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(part(count).max(2))
}

/// A Resiliency resource with these policies, all named in the target `app`.
pub(crate) fn resiliency(home: &Folder, policies: &str, target: &str) -> Result<String> {
    let text = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {{name: bench}}\nspec:\n  policies:\n{policies}  \
         targets:\n    apps:\n      app: {target}\n"
    );
    home.write("resources/resiliency.yaml", &text)?;
    Ok(home.path().join("resources").to_string_lossy().into_owned())
}

/// Our runtime beside the app `app` on `port`, with resources in this folder.
pub(crate) fn ours(home: &Folder, port: u16, resources: &str) -> Result<Server> {
    let port = port.to_string();
    outrigger(home, &["--app-id", "app", "--app-port", &port, "--resources-path", resources])
}

/// How the app is called through [`ours`].
pub(crate) const THROUGH: &str = "/v1.0/invoke/app/method/work";
