//! Probes. They need no token, do no work and never wait.

use super::{Exchange, Reply};
use crate::errors::{Entry, Fault, catalogue};

pub(super) fn healthz(x: &Exchange<'_>) -> Result<Reply, Fault> {
    if let Some(asked) = x.query.get("appid")
        && *asked != *x.host.app_id
    {
        let message = format!("this is the runtime of {}, not of {asked}", x.host.app_id);
        return Err(Fault::new(&catalogue::HEALTH_APP_ID_MISMATCH, message));
    }
    answer(x.host.health.is_ready(), &catalogue::HEALTH_NOT_READY, "the runtime is not ready")
}

pub(super) fn outbound(x: &Exchange<'_>) -> Result<Reply, Fault> {
    let ready = x.host.health.is_outbound_ready();
    answer(ready, &catalogue::OUTBOUND_HEALTH_NOT_READY, "the runtime cannot serve calls yet")
}

fn answer(ready: bool, entry: &'static Entry, message: &str) -> Result<Reply, Fault> {
    if ready { Ok(Reply::empty()) } else { Err(Fault::new(entry, message)) }
}
