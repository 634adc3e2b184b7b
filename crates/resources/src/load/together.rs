//! What is wrong with resources only when they are seen together.

use super::{Body, Resource};
use crate::{
    codes,
    issue::{Issue, Severity},
    resiliency::{BUILT_IN_POLICIES, PolicyNames, Resiliency},
    typo,
};
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong with resources taken together: two components of one name (the later is removed), a second actor state
/// store, targets that name policies nobody defines.
#[must_use]
pub fn check_together(resources: &mut Vec<Resource>) -> Vec<Issue> {
    let mut issues = Vec::new();
    remove_duplicates(resources, &mut issues);
    check_actor_stores(resources, &mut issues);
    check_policies(resources, &mut issues);
    issues
}

fn remove_duplicates(resources: &mut Vec<Resource>, issues: &mut Vec<Issue>) {
    let mut seen = BTreeMap::new();
    resources.retain(|resource| {
        let (code, kind) = match &resource.body {
            Body::Component(_) => (codes::DUPLICATE_COMPONENT, "component"),
            Body::HttpEndpoint(_) => (codes::DUPLICATE_NAME, "HTTP endpoint"),
            _ => return true,
        };
        let head = resource.head();
        let key = (kind, head.name.clone(), head.namespace.clone());
        let Some(first) = seen.get(&key) else {
            seen.insert(key, resource.origin.clone());
            return true;
        };
        let message = format!("the {kind} {} is defined at {first} already", head.name);
        issues.push(Issue::error(code, resource.origin.clone(), message));
        false
    });
}

fn check_actor_stores(resources: &[Resource], issues: &mut Vec<Issue>) {
    let is_store = |resource: &&Resource| match &resource.body {
        Body::Component(component) => {
            let literal = component.literal("actorStateStore").unwrap_or_default();
            literal.eq_ignore_ascii_case("true") && component.type_name.starts_with("state.")
        }
        _ => false,
    };
    let stores: Vec<&Resource> = resources.iter().filter(is_store).collect();
    for (i, store) in stores.iter().enumerate() {
        let meets = |other: &&&Resource| overlap(&other.head().scopes, &store.head().scopes);
        let Some(earlier) = stores[..i].iter().find(meets) else { continue };
        let (name, first) = (&store.head().name, &earlier.head().name);
        let message = format!(
            "{name} is a second actor state store beside {first}, defined at {}",
            earlier.origin
        );
        let (code, origin) = (codes::ACTOR_STORES, store.origin.clone());
        issues.push(Issue::new(Severity::Warning, code, origin, message));
    }
}

/// Whether some app is in both scopes.
fn overlap(a: &[String], b: &[String]) -> bool {
    a.is_empty() || b.is_empty() || a.iter().any(|app| b.contains(app))
}

fn check_policies(resources: &[Resource], issues: &mut Vec<Issue>) {
    let resiliencies = || {
        resources.iter().filter_map(|resource| match &resource.body {
            Body::Resiliency(resiliency) => Some(&**resiliency),
            _ => None,
        })
    };
    let mut defined = Defined::default();
    for policies in resiliencies().map(|resiliency| &resiliency.policies) {
        defined.timeouts.extend(policies.timeouts.keys().map(String::as_str));
        defined.retries.extend(policies.retries.keys().map(String::as_str));
        defined.breakers.extend(policies.circuit_breakers.keys().map(String::as_str));
        defined.bulkheads.extend(policies.bulkheads.keys().map(String::as_str));
        defined.rate_limits.extend(policies.rate_limits.keys().map(String::as_str));
        defined.hedges.extend(policies.hedges.keys().map(String::as_str));
        defined.throttles.extend(policies.throttles.keys().map(String::as_str));
        defined.balancers.extend(policies.load_balancers.keys().map(String::as_str));
        defined.caches.extend(policies.caches.keys().map(String::as_str));
        defined.fallbacks.extend(policies.fallbacks.keys().map(String::as_str));
        defined.faults.extend(policies.faults.keys().map(String::as_str));
    }
    defined.retries.extend(BUILT_IN_POLICIES);
    for resiliency in resiliencies() {
        for (target, names) in targets(resiliency) {
            defined.check(&target, names, issues);
        }
    }
}

fn targets(resiliency: &Resiliency) -> impl Iterator<Item = (String, &PolicyNames)> {
    let targets = &resiliency.targets;
    let apps = targets.apps.iter().flat_map(|(id, app)| {
        let inbound = app.inbound.iter().map(move |names| (format!("the app {id}"), names));
        std::iter::once((format!("the app {id}"), &app.policies)).chain(inbound)
    });
    let actors =
        targets.actors.iter().map(|(kind, actor)| (format!("the actor {kind}"), &actor.policies));
    let components = targets.components.iter().flat_map(|(name, component)| {
        let called = format!("the component {name}");
        [(called.clone(), &component.outbound), (called, &component.inbound)]
    });
    apps.chain(actors).chain(components)
}

/// The policies that some document defines.
#[derive(Default)]
struct Defined<'a> {
    timeouts: BTreeSet<&'a str>,
    retries: BTreeSet<&'a str>,
    breakers: BTreeSet<&'a str>,
    bulkheads: BTreeSet<&'a str>,
    rate_limits: BTreeSet<&'a str>,
    hedges: BTreeSet<&'a str>,
    throttles: BTreeSet<&'a str>,
    balancers: BTreeSet<&'a str>,
    caches: BTreeSet<&'a str>,
    fallbacks: BTreeSet<&'a str>,
    faults: BTreeSet<&'a str>,
}

impl Defined<'_> {
    fn check(&self, target: &str, names: &PolicyNames, issues: &mut Vec<Issue>) {
        let Some(origin) = &names.origin else { return };
        for (what, name, known) in [
            ("timeout", &names.timeout, &self.timeouts),
            ("retry policy", &names.retry, &self.retries),
            ("circuit breaker", &names.circuit_breaker, &self.breakers),
            ("bulkhead", &names.bulkhead, &self.bulkheads),
            ("rate limit", &names.rate_limit, &self.rate_limits),
            ("hedge", &names.hedge, &self.hedges),
            ("throttle", &names.throttle, &self.throttles),
            ("load balancer", &names.load_balancer, &self.balancers),
            ("cache", &names.cache, &self.caches),
            ("fallback", &names.fallback, &self.fallbacks),
            ("fault", &names.fault, &self.faults),
        ] {
            let Some(name) = name.as_deref().filter(|name| !known.contains(name)) else {
                continue;
            };
            let message = format!("{target} wants the {what} {name}, which nothing defines");
            let (code, origin) = (codes::UNDEFINED_POLICY, origin.clone());
            let mut issue = Issue::new(Severity::Warning, code, origin, message);
            if let Some(near) = typo::nearest(name, known.iter().copied()) {
                issue = issue.remedy(format!("Did you mean {near}?"));
            }
            issues.push(issue);
        }
    }
}
