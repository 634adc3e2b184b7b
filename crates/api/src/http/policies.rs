//! What calls to a target have met lately, and what an operator makes of it: breakers held open or closed, faults ended,
//! a cache emptied. Of this app's calls only; others have policies of their own.

use super::{Exchange, Reply};
use crate::{
    errors::{Fault, catalogue},
    operations::invoke,
};
use http::StatusCode;
use outrigger_calls::CallPolicy;
use outrigger_kernel::Mono;
use outrigger_resilience::{Forced, Phase};
use serde_json::{Value, json};
use std::sync::Arc;

/// Most breakers that are listed.
const BREAKERS_MAX: usize = 100;

/// `GET policies/{target}`
pub(super) fn get(x: &Exchange<'_>, target: &str) -> Result<Reply, Fault> {
    let policy = find(x, target)?;
    Ok(shown(target, &policy, x.host.world.mono()))
}

/// `POST policies/{target}/{verb}`
pub(super) fn make(x: &Exchange<'_>, target: &str, verb: &str) -> Result<Reply, Fault> {
    let policy = find(x, target)?;
    let now = x.host.world.mono();
    match verb {
        "open" => force(&policy, target, Some(Forced::Open), now)?,
        "close" => force(&policy, target, Some(Forced::Closed), now)?,
        "auto" => force(&policy, target, None, now)?,
        "stop-faults" => match policy.chaos() {
            Some(chaos) => chaos.stop(),
            None => return Err(missing(target, "faults")),
        },
        "clear-cache" => match policy.shelf() {
            Some(shelf) => shelf.clear(),
            None => return Err(missing(target, "a cache")),
        },
        other => {
            let what = format!(
                "{other:?} cannot be done to a policy: open, close, auto, stop-faults or clear-cache"
            );
            return Err(Fault::new(&catalogue::POLICY_VERB, what));
        }
    }
    tracing::info!(target, verb, "a policy was changed by an operator");
    Ok(shown(target, &policy, now))
}

fn find(x: &Exchange<'_>, target: &str) -> Result<Arc<CallPolicy>, Fault> {
    invoke::policy(x.host, target).ok_or_else(|| {
        let what = format!("no policy of this app applies to {target:?}");
        Fault::new(&catalogue::POLICY_NOT_FOUND, what)
    })
}

fn missing(target: &str, what: &str) -> Fault {
    let what = format!("the policy of {target:?} does not have {what}");
    Fault::new(&catalogue::POLICY_NOT_FOUND, what)
}

fn force(
    policy: &CallPolicy,
    target: &str,
    forced: Option<Forced>,
    now: Mono,
) -> Result<(), Fault> {
    let breakers = policy.breakers().ok_or_else(|| missing(target, "a circuit breaker"))?;
    breakers.force(forced, now);
    Ok(())
}

fn shown(target: &str, policy: &CallPolicy, now: Mono) -> Reply {
    let breakers = policy.breakers().map(|breakers| {
        let mut all = breakers.all();
        all.truncate(BREAKERS_MAX);
        let all = all.iter().map(|(operation, breaker)| {
            let status = breaker.status(now);
            json!({
                "operation": &**operation,
                "phase": phase(status.phase),
                "opened": status.opened,
                "waitMs": u64::try_from(status.wait.as_millis()).unwrap_or(u64::MAX),
            })
        });
        let all: Vec<Value> = all.collect();
        let forced = match breakers.forced() {
            None => "auto",
            Some(Forced::Open) => "open",
            Some(Forced::Closed) => "closed",
            Some(Forced::Disabled) => "disabled",
        };
        json!({ "forced": forced, "operations": all })
    });
    let faults = policy.chaos().map(|chaos| {
        let done = chaos.totals();
        json!({
            "secondsLeft": chaos.left(now).unwrap_or_default().as_secs(),
            "active": chaos.left(now).is_some(),
            "delayed": done.delayed,
            "aborted": done.aborted,
            "dropped": done.dropped,
            "corrupted": done.corrupted,
            "slowed": done.paced,
        })
    });
    let cache = policy.shelf().map(|shelf| json!({ "addresses": shelf.len() }));
    let body = json!({ "target": target, "breakers": breakers, "faults": faults, "cache": cache });
    Reply::json(StatusCode::OK, body.to_string().into())
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Closed => "closed",
        Phase::HalfOpen => "half-open",
        Phase::Open => "open",
    }
}
