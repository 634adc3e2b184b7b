//! Kind `Component`: one building block instance, such as a state store or a broker.

use crate::{
    codes,
    fields::{Fields, Report},
    issue::{Issue, Origin, Severity},
    type_catalog::{self, Block},
    typo,
    value::{Head, NamedValue, ValueSource, named_values},
};
use std::time::Duration;

/// How long a component may take to start unless the file says otherwise.
pub const INIT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// A component as written; its secret and environment references are not resolved yet (see [`crate::resolve()`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Name, namespace, labels and scopes.
    pub head: Head,
    /// `spec.type`, such as `state.redis`; lower-cased.
    pub type_name: String,
    /// `spec.version`, such as `v1`.
    pub version: String,
    /// `spec.ignoreErrors`: a failure to start is logged instead of ending the process.
    pub ignore_errors: bool,
    /// `spec.initTimeout`.
    pub init_timeout: Duration,
    /// `spec.metadata`, in file order.
    pub metadata: Vec<NamedValue>,
    /// `auth.secretStore`: where the secret references of `metadata` are looked up.
    pub secret_store: Option<String>,
    /// Where the document begins.
    pub origin: Origin,
}

impl Component {
    pub(crate) fn read(report: &mut Report, fields: &mut Fields<'_>, head: Head) -> Self {
        let origin = report.origin(fields.place());
        let secret_store = secret_store(report, fields);
        let mut component = Self {
            head,
            type_name: String::new(),
            version: "v1".into(),
            ignore_errors: false,
            init_timeout: INIT_TIMEOUT_DEFAULT,
            metadata: Vec::new(),
            secret_store,
            origin,
        };
        let Some(mut spec) = fields.object(report, "spec") else {
            fields.missing(report, "spec");
            return component;
        };
        component.type_name = spec.required(report, "type").to_ascii_lowercase();
        check_type(report, &spec, &component.type_name);
        if let Some(version) = spec.string(report, "version") {
            component.version = version;
        }
        component.ignore_errors = spec.switch(report, "ignoreErrors").unwrap_or(false);
        if let Some(timeout) = spec.duration(report, "initTimeout", None) {
            component.init_timeout = timeout;
        }
        component.metadata = named_values(report, &mut spec, "metadata");
        spec.finish_spec(report);
        component
    }

    /// The block part of the type: `state` of `state.redis`.
    #[must_use]
    pub fn block(&self) -> &str {
        self.type_name.split('.').next().unwrap_or_default()
    }

    /// The metadata entry called `name`, whatever its case.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&NamedValue> {
        self.metadata.iter().find(|entry| entry.name.eq_ignore_ascii_case(name))
    }

    /// The text of the metadata entry called `name`, when it is written in the file itself.
    #[must_use]
    pub fn literal(&self, name: &str) -> Option<&str> {
        match &self.entry(name)?.value {
            ValueSource::Literal(text) => Some(text),
            ValueSource::Secret { .. } | ValueSource::Env(_) => None,
        }
    }
}

/// `auth.secretStore` of a document.
pub(crate) fn secret_store(report: &mut Report, fields: &mut Fields<'_>) -> Option<String> {
    let mut auth = fields.object(report, "auth")?;
    let store = auth.string(report, "secretStore");
    auth.finish(report);
    store
}

fn check_type(report: &mut Report, spec: &Fields<'_>, type_name: &str) {
    if type_name.is_empty() {
        return;
    }
    let place = spec.place_of("type");
    let (block, rest) = type_name.split_once('.').unwrap_or((type_name, ""));
    if Block::of(type_name).is_none() {
        let message = format!("the component type {type_name} belongs to no known block");
        let mut issue = Issue::error(codes::UNKNOWN_BLOCK, report.origin(place), message);
        if let Some(near) = typo::nearest(block, Block::ALL.iter().map(|block| block.prefix())) {
            issue = issue.remedy(format!("Did you mean {near}.{rest}?"));
        }
        report.push(issue);
    } else if type_catalog::find(type_name).is_none() {
        // Types of one's own are welcome; only those that look like a slip are spoken of.
        let siblings = type_catalog::ALL.iter().map(|known| known.name);
        let siblings = siblings.filter(|name| name.split('.').next() == Some(block));
        let near =
            typo::nearest(rest, siblings.filter_map(|name| name.split_once('.').map(|s| s.1)));
        if let Some(near) = near {
            let message = format!("the component type {type_name} is not known");
            let origin = report.origin(place);
            let issue = Issue::new(Severity::Warning, codes::UNKNOWN_TYPE, origin, message);
            report.push(issue.remedy(format!("Did you mean {block}.{near}?")));
        }
    }
}
