//! From settings to what the API and the way to the app are made with.

use super::Node;
use crate::{
    failure::{Exit, Failure},
    settings::app::{AppSettings, ChannelSettings},
    telemetry,
};
use outrigger_api::{AppConnection, AppHealthCheck, Settings};
use outrigger_calls::{AppChannel, AppProtocol, AppTarget, Forwarding};
use outrigger_kernel::World;
use outrigger_resources::Configuration;
use std::sync::Arc;

/// What `Forwarded` headers say of this machine: the address that others know it by, else the one the API listens on.
pub(super) fn forwarding(node: &Node, settings: &AppSettings) -> Option<Forwarding> {
    let told = node.environment.get("DAPR_HOST_IP").and_then(|text| text.parse().ok());
    let address = told.or_else(|| settings.ports.addresses.first().copied())?;
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    Some(Forwarding::new(address, name.as_deref().unwrap_or_default()))
}

/// The way to the app; its port may still be unknown.
pub(super) fn new_channel(
    settings: &ChannelSettings,
    world: &Arc<dyn World>,
) -> Result<Arc<AppChannel>, Failure> {
    let protocol: AppProtocol = settings.protocol.parse().map_err(|error| {
        Failure::new("OUTR-0001", Exit::Usage, "the app's protocol is unknown").why(error)
    })?;
    let target = AppTarget {
        protocol,
        host: settings.host.clone(),
        port: settings.port.unwrap_or_default(),
        socket: None,
    };
    let mut headers = Vec::new();
    if let Some(token) = &settings.api_token {
        let value = http::HeaderValue::try_from(token).map_err(|_| {
            Failure::new("OUTR-0001", Exit::Usage, "APP_API_TOKEN cannot be sent in a header")
        })?;
        headers.push((http::HeaderName::from_static("dapr-api-token"), value));
    }
    let channel = outrigger_calls::ChannelSettings {
        max_concurrency: settings.max_concurrency,
        headers,
        ..Default::default()
    };
    Ok(AppChannel::new(target, channel, Arc::clone(world)))
}

/// What does not change while the host runs.
pub(super) fn host_settings(
    node: &Node,
    app: &AppSettings,
    configuration: &Configuration,
) -> Settings {
    let logging = &configuration.api_logging;
    let connection = app.channel.as_ref().map(|channel| AppConnection {
        port: channel.port,
        address: channel.host.clone(),
        protocol: channel.protocol.clone(),
        max_concurrency: channel.max_concurrency,
        health: channel.health.as_ref().map(|health| AppHealthCheck {
            path: health.path.clone(),
            interval: health.interval,
            timeout: health.timeout,
            threshold: health.threshold,
        }),
    });
    let origins = app.allowed_origins.split(',').map(str::trim).filter(|origin| !origin.is_empty());
    let features = configuration.features.iter().flatten().filter(|feature| feature.enabled);
    Settings {
        api_token: app.api_token.clone(),
        max_body_bytes: app.body_bytes_max,
        // The reference's bound of 4 KiB is one line of its buffer; ours is the whole head, so it is never below this.
        max_header_bytes: app.header_bytes_max.max(64 * 1024),
        call_timeout: app.call_timeout,
        stream_silence: app.call_stream_silence,
        drain: node.settings.grace,
        sampling_rate: telemetry::sampling_rate(&node.environment, &configuration.tracing),
        allowed_origins: origins.map(ToOwned::to_owned).collect(),
        log_requests: app.api_logging || logging.enabled.unwrap_or_default(),
        log_routes_only: logging.obfuscate_urls.unwrap_or_default(),
        log_omit_probes: logging.omit_health_checks.unwrap_or_default(),
        app: connection.unwrap_or_default(),
        ask_for_subscriptions: !app.disable_init_endpoints.iter().any(|name| name == "subscribe"),
        features: features.map(|feature| feature.name.clone()).collect(),
        ..Settings::default()
    }
}
