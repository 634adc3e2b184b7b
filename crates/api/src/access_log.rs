//! One event per unit of work, and its span.
//!
//! At debug, or at info where API logging is on; always with the trace id, so that a line can be found from a trace and
//! the other way round.

use crate::{
    grpc::Context,
    host::Host,
    http::{Op, Reply},
    trace::{FinishedSpan, SpanKind, SpanStatus, Started, Trace},
};
use http::request::Parts;
use std::{borrow::Cow, sync::Arc, time::Duration};
use tonic::Code;

/// An answered HTTP request.
pub(crate) struct HttpRequest<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) path: &'a str,
    pub(crate) op: Op,
    pub(crate) trace: &'a Trace,
    pub(crate) started: Started,
    pub(crate) took: Duration,
    pub(crate) reply: &'a Reply,
}

/// Writes one event at info or at debug, with the same fields.
macro_rules! event {
    ($host:expr, $($fields:tt)*) => {
        if $host.settings.log_requests {
            tracing::info!(target: "outrigger::api", $($fields)*);
        } else {
            tracing::debug!(target: "outrigger::api", $($fields)*);
        }
    };
}

fn is_wanted(host: &Host) -> bool {
    host.settings.log_requests || tracing::enabled!(target: "outrigger::api", tracing::Level::DEBUG)
}

/// After an HTTP request.
pub(crate) fn http(host: &Host, request: &HttpRequest<'_>) {
    let status = request.reply.status();
    let muted = request.op.is_probe() && host.settings.log_omit_probes;
    if !muted && is_wanted(host) {
        let shown =
            if host.settings.log_routes_only { request.op.template() } else { request.path };
        event!(
            host,
            app_id = &*host.app_id,
            trace_id = %format_args!("{:032x}", request.trace.context.trace_id),
            method = %request.parts.method,
            path = shown,
            operation = request.op.name(),
            code = status.as_u16(),
            error = request.reply.code(),
            duration_us = micros(request.took),
            "HTTP API called"
        );
    }
    if request.trace.context.sampled && !request.op.is_probe() {
        let failed = status.is_server_error();
        let reason = || request.reply.code().unwrap_or_else(|| status.as_str()).to_owned();
        host.telemetry.span(FinishedSpan {
            name: Cow::Borrowed(request.op.name()),
            kind: SpanKind::Server,
            app_id: Arc::clone(&host.app_id),
            context: request.trace.context,
            parent: request.trace.parent,
            start: request.started.wall(),
            duration: request.took,
            attributes: vec![
                ("http.request.method", request.parts.method.as_str().into()),
                ("http.route", request.op.template().into()),
                ("url.path", request.path.into()),
                ("http.response.status_code", number(status.as_u16())),
            ],
            status: if failed { SpanStatus::Error(reason()) } else { SpanStatus::Unset },
            links: Vec::new(),
        });
    }
}

/// After a gRPC call of our own service.
pub(crate) fn grpc(
    host: &Host,
    operation: &'static str,
    context: &Context,
    took: Duration,
    code: Code,
    message: &str,
) {
    if is_wanted(host) {
        event!(
            host,
            app_id = &*host.app_id,
            trace_id = %format_args!("{:032x}", context.trace.context.trace_id),
            method = operation,
            code = crate::metrics::code_word(code),
            error = if code == Code::Ok { None } else { Some(message) },
            duration_us = micros(took),
            "gRPC API called"
        );
    }
    let status = match code {
        Code::Ok => SpanStatus::Unset,
        _ => SpanStatus::Error(message.to_owned()),
    };
    rpc_span(host, Cow::Borrowed(operation), context, took, status);
}

/// After a gRPC call that was passed on.
pub(crate) fn passed(
    host: &Host,
    path: &str,
    target: &str,
    context: &Context,
    took: Duration,
    status: SpanStatus,
) {
    if is_wanted(host) {
        event!(
            host,
            app_id = &*host.app_id,
            trace_id = %format_args!("{:032x}", context.trace.context.trace_id),
            method = path,
            target = target,
            duration_us = micros(took),
            "gRPC call passed on"
        );
    }
    rpc_span(host, Cow::Owned(path.to_owned()), context, took, status);
}

fn rpc_span(
    host: &Host,
    name: Cow<'static, str>,
    context: &Context,
    took: Duration,
    status: SpanStatus,
) {
    if !context.trace.context.sampled {
        return;
    }
    let attributes = vec![("rpc.system.name", "grpc".into()), ("rpc.method", name.as_ref().into())];
    host.telemetry.span(FinishedSpan {
        name,
        kind: SpanKind::Server,
        app_id: Arc::clone(&host.app_id),
        context: context.trace.context,
        parent: context.trace.parent,
        start: context.started.wall(),
        duration: took,
        attributes,
        status,
        links: Vec::new(),
    });
}

fn number(n: u16) -> crate::trace::AttributeValue {
    crate::trace::AttributeValue::Number(i64::from(n))
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
