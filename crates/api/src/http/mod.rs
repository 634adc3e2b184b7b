//! The HTTP side of the API: a request in, an answer out.
//!
//! ```text
//!   handle -- cross-origin -- route -- allowed? -- token? -- dispatch --> one file per family
//!      '------ afterwards: metrics, span, one log event, cross-origin headers
//! ```
//!
//! The invariant: [`handle`] always answers. Whatever a client sends ends in a reply with a stable code; no input
//! reaches a panic.

mod body;
mod cors;
mod health;
mod invoke;
mod later;
mod lock;
mod metadata;
mod path;
mod policies;
mod publish;
mod reply;
mod route;
mod secrets;
mod shutdown;
mod state;
mod wire;

pub use body::{ReplyBody, RequestBody};
pub(crate) use reply::Reply;
pub(crate) use route::Op;

use crate::{
    access_log,
    errors::{Fault, catalogue},
    guard,
    host::Host,
    metrics::Served,
    trace::{Started, Trace},
};
use bytes::Bytes;
use http::{Request, Response, request::Parts};
use outrigger_kernel::Deadline;
use outrigger_resources::ApiProtocol;
use path::{Malformed, Query, clean, decode};
use route::{Matched, route};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Which routes a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// The whole API.
    Full,
    /// Metadata and health only: what `--dapr-public-port` shows to others.
    Public,
}

/// A request under way, as the handlers see it.
pub(crate) struct Exchange<'a> {
    pub(crate) host: &'a Arc<Host>,
    pub(crate) parts: &'a Parts,
    pub(crate) query: Query<'a>,
    pub(crate) trace: &'a Trace,
    pub(crate) deadline: Deadline,
    /// The same, if the client has named a time.
    pub(crate) named_deadline: Option<Deadline>,
}

impl Exchange<'_> {
    /// The request's `metadata.*` query parameters.
    pub(crate) fn metadata(&self) -> BTreeMap<String, String> {
        self.query.prefixed(crate::names::METADATA_PREFIX)
    }

    /// The whole body.
    pub(crate) async fn read(&self, body: RequestBody) -> Result<Bytes, Fault> {
        let limit = self.host.settings.max_body_bytes;
        body::read(&*self.host.world, body, limit, self.deadline).await
    }
}

impl From<Malformed> for Fault {
    fn from(error: Malformed) -> Self {
        Self::new(&catalogue::MALFORMED_REQUEST, error.to_string())
    }
}

/// Answers one request.
pub async fn handle(
    host: Arc<Host>,
    surface: Surface,
    request: Request<RequestBody>,
) -> Response<ReplyBody> {
    let started = Started::now(&*host.world);
    let (mut parts, body) = request.into_parts();
    if let Some(answer) = cors::preflight(&host.settings.allowed_origins, &parts) {
        return answer.into_response();
    }
    let request_bytes = body.known_length();
    let trace = Trace::from_headers(&*host.world, &parts.headers, host.settings.sampling_rate);
    let uri = std::mem::take(&mut parts.uri);
    let cleaned = clean(uri.path());
    let matched = permitted(&host, surface, route(&parts.method, &cleaned));
    let named = named_timeout(&parts);
    let exchange = Exchange {
        host: &host,
        parts: &parts,
        query: Query(uri.query().unwrap_or_default()),
        trace: &trace,
        deadline: Deadline::after(&*host.world, named.unwrap_or(host.settings.request_timeout)),
        named_deadline: named.map(|named| Deadline::after(&*host.world, named)),
    };
    // The public port is for those who have no token.
    let free = surface == Surface::Public || matched.op.is_probe();
    let answer = if guard::admits(&host, free, &parts.headers) {
        dispatch(&exchange, matched, uri.path(), body).await
    } else {
        Ok(guard::refusal())
    };
    let mut reply = answer.unwrap_or_else(Fault::into_reply);
    cors::decorate(&host.settings.allowed_origins, &parts, reply.headers_mut());
    trace.answer(reply.headers_mut());
    let took = started.elapsed(&*host.world);
    host.metrics.http_served(&Served {
        method: &parts.method,
        path: matched.op.template(),
        status: reply.status(),
        request_bytes,
        response_bytes: reply.body().known_length(),
        took,
    });
    if let Some(code) = reply.code() {
        host.metrics.failed(matched.op.api(), code);
    }
    access_log::http(
        &host,
        &access_log::HttpRequest {
            parts: &parts,
            path: uri.path(),
            op: matched.op,
            trace: &trace,
            started,
            took,
            reply: &reply,
        },
    );
    reply.into_response()
}

/// The route, if this listener and the configuration's lists let it be served; what they do not let is as if it were
/// not there, which may leave an invocation by header.
fn permitted<'a>(host: &Host, surface: Surface, matched: Matched<'a>) -> Matched<'a> {
    let instead = |op| Matched { op, version: "v1", first: "", second: "" };
    if surface == Surface::Public {
        let public = matches!(matched.op, Op::Healthz | Op::HealthzOutbound | Op::MetadataGet);
        return if public { matched } else { instead(Op::Nothing) };
    }
    let lists = &host.configuration.load().api;
    if (lists.allowed.is_none() && lists.denied.is_none()) || matched.op.is_probe() {
        return matched;
    }
    let served = |api: &str, version: &str| lists.permits(api, version, ApiProtocol::Http);
    if served(matched.op.api(), matched.version) {
        matched
    } else if served("invoke", "v1") {
        instead(Op::Unmatched)
    } else {
        instead(Op::Nothing)
    }
}

/// What the client gives the request, in seconds. Never more than a day, so that arithmetic on it is safe.
fn named_timeout(parts: &Parts) -> Option<Duration> {
    ["request-timeout", "x-request-timeout"]
        .into_iter()
        .find_map(|name| parts.headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok())
        .filter(|seconds| seconds.is_finite() && *seconds > 0.0)
        .map(|seconds| Duration::from_secs_f64(seconds.min(86_400.0)))
}

async fn dispatch(
    x: &Exchange<'_>,
    matched: Matched<'_>,
    raw_path: &str,
    body: RequestBody,
) -> Result<Reply, Fault> {
    let Matched { op, first, second, .. } = matched;
    match op {
        Op::StateGet => {
            state::get(x, &decode(first, "the store")?, &decode(second, "the key")?).await
        }
        Op::StateDelete => {
            state::delete(x, &decode(first, "the store")?, &decode(second, "the key")?).await
        }
        Op::StateSave => state::save(x, &decode(first, "the store")?, body).await,
        Op::StateBulkGet => state::bulk_get(x, &decode(first, "the store")?, body).await,
        Op::StateTransaction => state::transact(x, &decode(first, "the store")?, body).await,
        Op::StateQuery => state::query(x, &decode(first, "the store")?),
        Op::Publish | Op::BulkPublish => {
            let pubsub = decode(first, "the pub/sub name")?;
            let topic = decode(second, "the topic")?;
            if op == Op::Publish {
                Box::pin(publish::one(x, &pubsub, &topic, body)).await
            } else {
                Box::pin(publish::bulk(x, &pubsub, &topic, body)).await
            }
        }
        Op::SecretGet => {
            let (store, secret) = (decode(first, "the store")?, decode(second, "the secret")?);
            Box::pin(secrets::get(x, &store, &secret)).await
        }
        Op::SecretBulk => Box::pin(secrets::bulk(x, &decode(first, "the store")?)).await,
        Op::Lock => Box::pin(lock::take(x, &decode(first, "the store")?, body)).await,
        Op::LockRenew => Box::pin(lock::renew(x, &decode(first, "the store")?, body)).await,
        Op::Unlock => Box::pin(lock::release(x, &decode(first, "the store")?, body)).await,
        Op::LockStatus | Op::LockForce => {
            let (store, resource) = (decode(first, "the store")?, decode(second, "the resource")?);
            if op == Op::LockStatus {
                Box::pin(lock::status(x, &store, &resource)).await
            } else {
                Box::pin(lock::force(x, &store, &resource)).await
            }
        }
        Op::MetadataGet => Ok(metadata::get(x)),
        Op::MetadataSet => Box::pin(metadata::set(x, &decode(first, "the key")?, body)).await,
        Op::Healthz => health::healthz(x),
        Op::HealthzOutbound => health::outbound(x),
        Op::PolicyGet => policies::get(x, &decode(first, "the target")?),
        Op::PolicyDo => policies::make(x, &decode(first, "the target")?, second),
        Op::Shutdown => Ok(shutdown::shutdown(x)),
        // Boxed, as are others: a request's future is copied as a whole before it runs, whatever it turns out to be.
        Op::Invoke => Box::pin(invoke::by_path(x, first, raw_path, body)).await,
        Op::Unmatched => Box::pin(invoke::by_header(x, raw_path, body)).await,
        Op::Nothing => Err(invoke::no_target()),
        op => Err(later::answer(op, first)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Surface, handle};
    use crate::host::Host;
    use http::Request;
    use std::sync::Arc;

    fn size<F>(_: fn(Arc<Host>, Surface, Request<super::RequestBody>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_takes_little_room() {
        assert!(size(handle) <= 3_072, "{} bytes, copied for every request", size(handle));
    }
}
