//! Asking the app how it is.

use crate::{grpc::callback, host::Host};
use outrigger_calls::{AppHealth, HttpProbe, Probe, ProbeSettings};
use outrigger_kernel::{BoxFuture, Deadline};
use std::sync::Arc;

/// Starts the health check that the settings ask for; `None` when they ask for none. Dropping what is returned ends it.
///
/// The app counts as unwell until its first good answer. While it is, calls to it are refused; subscriptions started
/// with the verdicts ([`AppHealth::subscribe`]) are paused.
#[must_use]
pub fn watch_app(host: &Arc<Host>) -> Option<AppHealth> {
    let check = host.settings.app.health.as_ref()?;
    let channel = host.app.as_ref()?;
    let settings = ProbeSettings {
        interval: check.interval,
        timeout: check.timeout,
        threshold: check.threshold,
    };
    let asked: Box<dyn Probe> = if host.settings.app.is_grpc() {
        let channel = Arc::clone(channel);
        Box::new(move |deadline: Deadline| -> BoxFuture<'static, Result<(), String>> {
            let channel = Arc::clone(&channel);
            Box::pin(async move { callback::probe(&channel, deadline).await })
        })
    } else {
        let slash = if check.path.starts_with('/') { "" } else { "/" };
        let path = format!("{slash}{}", check.path);
        Box::new(HttpProbe { channel: Arc::clone(channel), path })
    };
    let probe = Counted { host: Arc::clone(host), asked };
    Some(AppHealth::start(channel, probe, settings, Arc::clone(&host.world)))
}

/// A probe whose answers are counted.
struct Counted {
    host: Arc<Host>,
    asked: Box<dyn Probe>,
}

impl Probe for Counted {
    fn ask(&self, deadline: Deadline) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let started = self.host.world.mono();
            let answer = self.asked.ask(deadline).await;
            let took = self.host.world.mono().since(started);
            self.host.metrics.probed(answer.is_ok(), took);
            answer
        })
    }
}
