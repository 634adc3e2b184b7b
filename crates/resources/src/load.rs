//! From paths to resources: folders, files, documents, kinds.

use crate::{
    component::Component,
    configuration::Configuration,
    http_endpoint::HttpEndpoint,
    issue::{Issue, Origin},
    resiliency::Resiliency,
    resolve::EnvReader,
    subscription::Subscription,
    value::Head,
};
use std::path::{Path, PathBuf};

/// One document.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Where it begins.
    pub origin: Origin,
    /// What it is.
    pub body: Body,
}

impl Resource {
    /// Name, namespace, labels and scopes.
    #[must_use]
    pub fn head(&self) -> &Head {
        match &self.body {
            Body::Component(c) => &c.head,
            Body::Configuration(c) => &c.head,
            Body::Subscription(s) => &s.head,
            Body::Resiliency(r) => &r.head,
            Body::HttpEndpoint(e) => &e.head,
            Body::Other(o) => &o.head,
        }
    }

    /// Whether the app may use it: see [`Head::applies_to`].
    #[must_use]
    pub fn applies_to(&self, app_id: &str, namespace: Option<&str>) -> bool {
        self.head().applies_to(app_id, namespace)
    }
}

/// A document by its kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Kind `Component`.
    Component(Box<Component>),
    /// Kind `Configuration`.
    Configuration(Box<Configuration>),
    /// Kind `Subscription`.
    Subscription(Box<Subscription>),
    /// Kind `Resiliency`.
    Resiliency(Box<Resiliency>),
    /// Kind `HTTPEndpoint`.
    HttpEndpoint(Box<HttpEndpoint>),
    /// A kind that is known to exist but not served.
    Other(Box<Other>),
}

/// A document kept as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Other {
    /// Its kind, such as `MCPServer`.
    pub kind: String,
    /// Name, namespace, labels and scopes.
    pub head: Head,
    /// The whole document.
    pub document: serde_json::Value,
}

/// Reads every resource in `paths`: files as they are, folders one level deep in name order (`.yaml`, `.yml`, `.json`).
/// What cannot be read, or contradicts something read before, is left out and reported.
#[must_use]
pub fn load(paths: &[PathBuf]) -> (Vec<Resource>, Vec<Issue>) {
    let _ = paths;
    (Vec::new(), Vec::new())
}

/// Reads the documents of one file that is already in memory. Unlike [`load`] it does not compare resources with each
/// other: that is [`check_together`].
#[must_use]
pub fn parse(file: &Path, source: &[u8]) -> (Vec<Resource>, Vec<Issue>) {
    let _ = (file, source);
    (Vec::new(), Vec::new())
}

/// What is wrong with resources taken together: two components of one name (the later is removed), a second actor state
/// store, targets that name policies nobody defines.
#[must_use]
pub fn check_together(resources: &mut Vec<Resource>) -> Vec<Issue> {
    let _ = resources;
    Vec::new()
}

/// Reads configuration files and lays them over one another, later ones winning. `$NAME` and `${NAME}` in their values
/// are replaced from the environment, as the reference does for this kind alone.
#[must_use]
pub fn load_configuration(paths: &[PathBuf], env: &EnvReader<'_>) -> (Configuration, Vec<Issue>) {
    let _ = (paths, env);
    (Configuration::default(), Vec::new())
}
