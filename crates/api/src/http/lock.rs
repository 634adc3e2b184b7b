//! Locks over HTTP.
//!
//! The two routes that the SDKs know, with more in their bodies for those who want it: how long to wait, who else may hold
//! the lock, whether the owner may take it again. And three more: renew, look, force.

use super::{Exchange, Reply, RequestBody};
use crate::{
    clock,
    errors::{Fault, catalogue},
    operations::lock::{self, Wanted},
};
use bytes::Bytes;
use http::StatusCode;
use outrigger_coordination::{Held, Holder, Mode, PERMITS_MAX, Released};
use outrigger_kernel::Deadline;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What the bodies of all routes have in them; each reads what it needs.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Asked {
    resource_id: Option<String>,
    lock_owner: Option<String>,
    expiry_in_seconds: Option<f64>,
    /// Ours: for how long to wait in line.
    wait_in_seconds: Option<f64>,
    /// Ours: `exclusive` or `shared`.
    mode: Option<String>,
    /// Ours: how many may hold it together.
    permits: Option<u32>,
    /// Ours: whether the owner may take again what it has.
    reentrant: Option<bool>,
    /// Ours: which of the owner's locks.
    fencing_token: Option<u64>,
}

impl Asked {
    async fn read(x: &Exchange<'_>, body: RequestBody) -> Result<Self, Fault> {
        let body: Bytes = x.read(body).await?;
        serde_json::from_slice(&body)
            .map_err(|error| malformed(&format!("the body is not what a lock needs: {error}")))
    }

    fn names(&self) -> Result<(String, String), Fault> {
        let given = |text: &Option<String>, field: &str| {
            let text = text.clone().filter(|text| !text.is_empty());
            text.ok_or_else(|| malformed(&format!("{field} is missing or empty")))
        };
        Ok((given(&self.resource_id, "resourceId")?, given(&self.lock_owner, "lockOwner")?))
    }

    fn ttl(&self) -> Result<Duration, Fault> {
        let seconds = self.expiry_in_seconds.filter(|seconds| *seconds > 0.0);
        let ttl = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        ttl.ok_or_else(|| malformed("expiryInSeconds is missing, or not a number above 0"))
    }

    fn wait(&self) -> Result<Option<Duration>, Fault> {
        let Some(seconds) = self.wait_in_seconds else { return Ok(None) };
        let wait = Duration::try_from_secs_f64(seconds);
        let wait = wait.map_err(|_| malformed("waitInSeconds is not a number from 0"))?;
        Ok((!wait.is_zero()).then_some(wait))
    }

    fn mode(&self) -> Result<Mode, Fault> {
        match (self.mode.as_deref(), self.permits) {
            (None | Some("" | "exclusive"), None) => Ok(Mode::Exclusive),
            (Some("shared"), None) => Ok(Mode::Shared),
            (None | Some(""), Some(of)) if (1..=PERMITS_MAX).contains(&of) => {
                Ok(Mode::Permit { of })
            }
            (None | Some(""), Some(_)) => {
                Err(malformed(&format!("permits is a number from 1 to {PERMITS_MAX}")))
            }
            (Some(_), Some(_)) => Err(malformed("a lock has a mode or permits, not both")),
            (Some(other), None) => {
                Err(malformed(&format!("mode is exclusive or shared, not {other:?}")))
            }
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Taken {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fencing_token: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    depth: Option<u32>,
}

impl Taken {
    fn of(held: Option<&Held>) -> Self {
        Self {
            success: held.is_some(),
            fencing_token: held.map(|held| held.token),
            expires_at: held.map(|held| clock::rfc3339(held.expires_at)),
            depth: held.map(|held| held.depth),
        }
    }
}

/// `POST lock/{store}`
pub(super) async fn take(x: &Exchange<'_>, store: &str, body: RequestBody) -> Result<Reply, Fault> {
    let store = lock::find(x.host, store)?;
    let asked = Asked::read(x, body).await?;
    let (resource, owner) = asked.names()?;
    let wanted = Wanted {
        resource,
        owner,
        ttl: asked.ttl()?,
        wait: asked.wait()?,
        mode: asked.mode()?,
        reentrant: asked.reentrant.unwrap_or_default(),
    };
    let held = lock::take(x.host, &store, wanted, x.deadline).await?;
    json(&Taken::of(held.as_ref()))
}

/// `POST lock/{store}/renew`
pub(super) async fn renew(
    x: &Exchange<'_>,
    store: &str,
    body: RequestBody,
) -> Result<Reply, Fault> {
    let store = lock::find(x.host, store)?;
    let asked = Asked::read(x, body).await?;
    let (resource, owner) = asked.names()?;
    let (token, ttl) = (asked.fencing_token, asked.ttl()?);
    let held = lock::renew(x.host, &store, (&resource, &owner), token, ttl, x.deadline).await?;
    json(&Taken::of(held.as_ref()))
}

/// `POST unlock/{store}`
pub(super) async fn release(
    x: &Exchange<'_>,
    store: &str,
    body: RequestBody,
) -> Result<Reply, Fault> {
    #[derive(Serialize)]
    struct Status {
        status: u8,
        #[serde(skip_serializing_if = "Option::is_none")]
        depth: Option<u32>,
    }
    let store = lock::find(x.host, store)?;
    let asked = Asked::read(x, body).await?;
    let (resource, owner) = asked.names()?;
    let token = asked.fencing_token;
    let released = lock::release(x.host, &store, (&resource, &owner), token, x.deadline).await?;
    let (status, depth) = match released {
        Released::Free => (0, None),
        Released::Still { depth } => (0, Some(depth)),
        Released::NotHeld => (1, None),
        Released::HeldByOthers => (2, None),
    };
    json(&Status { status, depth })
}

/// `GET lock/{store}/{resource}`, with `after` and `waitInSeconds` as soon as it has changed hands.
pub(super) async fn status(x: &Exchange<'_>, store: &str, resource: &str) -> Result<Reply, Fault> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Holds {
        lock_owner: String,
        mode: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        permits: Option<u32>,
        fencing_token: u64,
        depth: u32,
        since: String,
        expires_at: String,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Shown<'a> {
        resource_id: &'a str,
        holders: Vec<Holds>,
        waiting: Vec<String>,
    }
    let store = lock::find(x.host, store)?;
    let number = |name: &str| {
        let text = x.query.get(name);
        let parsed = text.map(|text| text.parse::<f64>().ok().filter(|n| *n >= 0.0));
        parsed.map(|n| n.ok_or_else(|| malformed(&format!("{name} is not a number from 0"))))
    };
    let seen = match x.query.get("after") {
        None => None,
        Some(text) => {
            Some(text.parse::<u64>().map_err(|_| malformed("after is no fencing token"))?)
        }
    };
    let wait = number("waitInSeconds").transpose()?.unwrap_or_default();
    let wait = Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX);
    let until = x.deadline.earliest(Deadline::after(&*x.host.world, wait));
    let after = seen.map(|seen| (seen, until));
    let status = lock::status(x.host, &store, resource, after).await?;
    let holders = status.holders.into_iter().map(|holder| {
        let Holder { owner, mode, token, depth, since, expires_at } = holder;
        let (mode, permits) = match mode {
            Mode::Exclusive => ("exclusive", None),
            Mode::Shared => ("shared", None),
            Mode::Permit { of } => ("permit", Some(of)),
        };
        let (since, expires_at) = (clock::rfc3339(since), clock::rfc3339(expires_at));
        Holds { lock_owner: owner, mode, permits, fencing_token: token, depth, since, expires_at }
    });
    let holders = holders.collect();
    json(&Shown { resource_id: resource, holders, waiting: status.waiting })
}

/// `DELETE lock/{store}/{resource}`
pub(super) async fn force(x: &Exchange<'_>, store: &str, resource: &str) -> Result<Reply, Fault> {
    #[derive(Serialize)]
    struct Forced {
        released: usize,
    }
    let store = lock::find(x.host, store)?;
    let released = lock::force(x.host, &store, resource, x.deadline).await?;
    json(&Forced { released })
}

fn malformed(message: &str) -> Fault {
    Fault::new(&catalogue::MALFORMED_REQUEST, message)
}

fn json(answer: &impl Serialize) -> Result<Reply, Fault> {
    let body = serde_json::to_vec(answer).map_err(|error| {
        Fault::new(&catalogue::INTERNAL, format!("could not write the answer: {error}"))
    })?;
    Ok(Reply::json(StatusCode::OK, body.into()))
}
