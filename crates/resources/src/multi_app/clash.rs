//! What several apps cannot have in common: ids and ports.

use super::App;
use crate::{codes, fields::Report, issue::Issue};
use std::collections::BTreeMap;

/// Reports apps of one id and ports used twice.
pub(super) fn check(report: &mut Report, apps: &[App]) {
    let mut ids: BTreeMap<&str, &App> = BTreeMap::new();
    for app in apps {
        if let Some(first) = ids.insert(&app.app_id, app) {
            let message = format!("the app {} stands at {} already", app.app_id, first.origin);
            report.push(Issue::error(codes::DUPLICATE_APP, app.origin.clone(), message));
        }
    }
    // Where an app listens is its own affair unless it says that it is this machine: so ports are told apart by host.
    let mut taken: BTreeMap<(&str, u16), (&App, &str)> = BTreeMap::new();
    for app in apps {
        let host = app.app_channel_address.as_deref().unwrap_or("127.0.0.1");
        let host = if host == "localhost" { "127.0.0.1" } else { host };
        let profile = app.profile_port.filter(|_| app.enable_profiling);
        for (host, name, port) in [
            (host, "appPort", app.app_port),
            ("127.0.0.1", "daprHTTPPort", app.http_port),
            ("127.0.0.1", "daprGRPCPort", app.grpc_port),
            ("127.0.0.1", "daprInternalGRPCPort", app.internal_grpc_port),
            ("127.0.0.1", "metricsPort", app.metrics_port),
            ("127.0.0.1", "profilePort", profile),
        ] {
            let Some(port) = port else { continue };
            let Some((other, theirs)) = taken.get(&(host, port)) else {
                taken.insert((host, port), (app, name));
                continue;
            };
            let (id, their_id) = (&app.app_id, &other.app_id);
            let message =
                format!("{name} of the app {id} is {port}, and so is {theirs} of {their_id}");
            report.push(Issue::error(codes::PORT_CLASH, app.origin.clone(), message));
        }
    }
}
