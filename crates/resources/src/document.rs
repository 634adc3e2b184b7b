//! From one document to one resource.

use crate::{
    codes,
    component::Component,
    configuration::Configuration,
    fields::{Fields, Report},
    http_endpoint::HttpEndpoint,
    issue::{Issue, Severity},
    load::{Body, Other, Resource},
    resiliency::Resiliency,
    subscription::{Subscription, SubscriptionVersion},
    typo,
    value::Head,
    yaml::{Node, Value},
};

const GROUP: &str = "dapr.io/";

/// Kinds that exist in the reference and mean nothing here yet.
const NOT_SERVED: [&str; 2] = ["MCPServer", "WorkflowAccessPolicy"];

/// Kinds and the versions in which they exist.
const KINDS: [(&str, &[&str]); 7] = [
    ("Component", &["v1alpha1"]),
    ("Configuration", &["v1alpha1"]),
    ("Subscription", &["v1alpha1", "v2alpha1"]),
    ("Resiliency", &["v1alpha1"]),
    ("HTTPEndpoint", &["v1alpha1"]),
    (NOT_SERVED[0], &["v1alpha1"]),
    (NOT_SERVED[1], &["v1alpha1"]),
];

/// Reads a document. `None` when it is of no use, which has been reported.
pub(crate) fn read(report: &mut Report, root: &Node) -> Option<Resource> {
    let errors = report.errors();
    let Value::Map(_) = &root.value else {
        let message = format!("a resource is a mapping, not {}", root.describe());
        report.warn(codes::NOT_A_RESOURCE, root.place, message);
        return None;
    };
    let mut fields = Fields::open(report, root, String::new())?;
    let (kind, version) = identify(report, &mut fields)?;
    let head = Head::read(report, &mut fields, kind != "Configuration");
    let origin = report.origin(root.place);
    let body = match kind {
        "Component" => {
            head.require_name(report, &fields);
            Some(Body::Component(Box::new(Component::read(report, &mut fields, head))))
        }
        "Configuration" => {
            Some(Body::Configuration(Box::new(Configuration::read(report, &mut fields, head))))
        }
        "Subscription" => {
            let version = match version {
                "v2alpha1" => SubscriptionVersion::V2Alpha1,
                _ => SubscriptionVersion::V1Alpha1,
            };
            Subscription::read(report, &mut fields, head, version)
                .map(|subscription| Body::Subscription(Box::new(subscription)))
        }
        "Resiliency" => Resiliency::read(report, &mut fields, head)
            .map(|resiliency| Body::Resiliency(Box::new(resiliency))),
        "HTTPEndpoint" => {
            head.require_name(report, &fields);
            HttpEndpoint::read(report, &mut fields, head)
                .map(|endpoint| Body::HttpEndpoint(Box::new(endpoint)))
        }
        _ => {
            let message = format!("{kind} {} is kept but not served", head.name);
            report.note(codes::NOT_SERVED, fields.place_of("kind"), message);
            let document = root.to_json();
            let other = Other { kind: kind.to_owned(), head, document };
            // Nothing in it was asked for, so there is nothing to say about its fields.
            return Some(Resource { origin, body: Body::Other(Box::new(other)) });
        }
    };
    fields.get("status");
    fields.finish(report);
    body.filter(|_| report.errors() == errors).map(|body| Resource { origin, body })
}

/// The kind and version of a document, if they are ones we know.
fn identify<'n>(report: &mut Report, fields: &mut Fields<'n>) -> Option<(&'static str, &'n str)> {
    let api_version = fields.text(report, "apiVersion");
    let kind = fields.text(report, "kind");
    let (Some(api_version), Some(kind)) = (api_version, kind) else {
        let lacking = if api_version.is_none() { "apiVersion" } else { "kind" };
        let message = format!("the document has no {lacking}");
        report.warn(codes::NOT_A_RESOURCE, fields.place(), message);
        return None;
    };
    let Some(version) = api_version.strip_prefix(GROUP) else {
        return foreign(report, fields, api_version, kind);
    };
    let Some((known, versions)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        let message = format!("there is no kind {kind} in {api_version}");
        let origin = report.origin(fields.place_of("kind"));
        let mut issue = Issue::new(Severity::Warning, codes::UNKNOWN_KIND, origin, message);
        if let Some(near) = typo::nearest(kind, KINDS.iter().map(|(known, _)| *known)) {
            issue = issue.remedy(format!("Did you mean {near}?"));
        }
        report.push(issue);
        return None;
    };
    if !versions.contains(&version) {
        let message = format!("the kind {kind} does not exist in {api_version}");
        let origin = report.origin(fields.place_of("apiVersion"));
        let newest = versions.last().copied().unwrap_or_default();
        let issue = Issue::new(Severity::Warning, codes::UNKNOWN_VERSION, origin, message);
        report.push(issue.remedy(format!("Write apiVersion: {GROUP}{newest}.")));
        return None;
    }
    Some((known, version))
}

fn foreign<T>(
    report: &mut Report,
    fields: &Fields<'_>,
    api_version: &str,
    kind: &str,
) -> Option<T> {
    let group = api_version.split('/').next().unwrap_or_default();
    let place = fields.place_of("apiVersion");
    match typo::nearest(group, ["dapr.io"]) {
        Some(near) => {
            let message = format!("there is no API {api_version}");
            let origin = report.origin(place);
            let issue = Issue::new(Severity::Warning, codes::UNKNOWN_VERSION, origin, message);
            report.push(issue.remedy(format!("Did you mean {near}/v1alpha1?")));
        }
        None => {
            let message = format!("{kind} of {api_version} is none of ours and left out");
            report.note(codes::FOREIGN, place, message);
        }
    }
    None
}
