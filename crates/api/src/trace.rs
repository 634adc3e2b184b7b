//! Where a request stands in a distributed trace, and what becomes of its span when it ends.
//!
//! W3C Trace Context comes in by header or gRPC metadata (or, from older gRPC clients, in binary form), goes into every
//! event published and every call passed on, and ends as a [`FinishedSpan`] in a [`TelemetrySink`] that the binary
//! exports from. Nothing here waits or does I/O: a span that nobody samples costs three numbers.

use crate::names;
use http::{HeaderMap, HeaderValue};
use outrigger_kernel::{Mono, TraceContext, Wall, World};
use std::{borrow::Cow, time::Duration};

/// Receives spans as they end. Must not block: it is called on the request's own task.
pub trait TelemetrySink: Send + Sync + 'static {
    /// Takes a finished, sampled span.
    fn span(&self, span: FinishedSpan);
}

/// A sink that keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTelemetry;

impl TelemetrySink for NoTelemetry {
    fn span(&self, _span: FinishedSpan) {}
}

/// A unit of work that is over.
#[derive(Clone, Debug)]
pub struct FinishedSpan {
    /// What was done: `GetState`, `pubsub/orders`, ...
    pub name: Cow<'static, str>,
    /// Which side of a call it is.
    pub kind: SpanKind,
    /// The app whose work it is; what exporters call the service.
    pub app_id: std::sync::Arc<str>,
    /// Trace and span id.
    pub context: TraceContext,
    /// The span that caused it.
    pub parent: Option<u64>,
    /// When it began.
    pub start: Wall,
    /// How long it took.
    pub duration: Duration,
    /// What is known about it, under the names of the OpenTelemetry conventions.
    pub attributes: Vec<(&'static str, AttributeValue)>,
    /// How it ended.
    pub status: SpanStatus,
    /// Other spans that caused it, for work on several messages at once.
    pub links: Vec<TraceContext>,
}

/// Which side of a call a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Serves a request.
    Server,
    /// Makes a request.
    Client,
    /// Sends a message.
    Producer,
    /// Handles a message.
    Consumer,
}

/// How a span ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpanStatus {
    /// Nothing to report.
    Unset,
    /// It failed, and why.
    Error(String),
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValue {
    /// Text.
    Text(String),
    /// A whole number.
    Number(i64),
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A request's place in its trace, with the parts that are only passed on.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The span this request runs in.
    pub context: TraceContext,
    /// The caller's span.
    pub parent: Option<u64>,
    /// `tracestate`, as it came.
    pub state: Option<HeaderValue>,
    /// `baggage`, as it came.
    pub baggage: Option<HeaderValue>,
}

impl Trace {
    /// Continues the trace that `headers` carry, or begins one that is sampled at `rate` (0 to 1).
    #[must_use]
    pub fn from_headers(world: &dyn World, headers: &HeaderMap, rate: f64) -> Self {
        let parent = headers
            .get(names::TRACEPARENT)
            .and_then(|value| TraceContext::parse(value.to_str().ok()?))
            .or_else(|| headers.get(names::GRPC_TRACE_BIN).and_then(from_binary_header));
        let Some(parent) = parent else {
            // State without a parent means nothing; baggage does not depend on one.
            let baggage = headers.get(names::BAGGAGE).cloned();
            return Self { baggage, ..Self::root(world, rate) };
        };
        Self {
            context: parent.child(world),
            parent: Some(parent.span_id),
            state: headers.get(names::TRACESTATE).cloned(),
            baggage: headers.get(names::BAGGAGE).cloned(),
        }
    }

    /// Begins a trace.
    #[must_use]
    pub fn root(world: &dyn World, rate: f64) -> Self {
        let sampled = rate > 0.0 && (rate >= 1.0 || draw(world) < rate);
        let context = TraceContext::root(world, sampled);
        Self { context, parent: None, state: None, baggage: None }
    }

    /// Continues the trace that an event's attributes carry, or begins one.
    #[must_use]
    pub fn from_event(
        world: &dyn World,
        traceparent: Option<&str>,
        tracestate: Option<&str>,
        rate: f64,
    ) -> Self {
        let Some(parent) = traceparent.and_then(TraceContext::parse) else {
            return Self::root(world, rate);
        };
        Self {
            context: parent.child(world),
            parent: Some(parent.span_id),
            state: tracestate.and_then(|s| HeaderValue::from_str(s).ok()),
            baggage: None,
        }
    }

    /// The headers by which the next hop continues this trace.
    pub fn write(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.context.to_string()) {
            headers.insert(names::TRACEPARENT, value);
        }
        if let Some(state) = &self.state {
            headers.insert(names::TRACESTATE, state.clone());
        }
        if let Some(baggage) = &self.baggage {
            headers.insert(names::BAGGAGE, baggage.clone());
        }
    }

    /// Tells a caller that traces, or whose request is recorded, under which id; an app's own word stands.
    pub(crate) fn answer(&self, headers: &mut HeaderMap) {
        let of_interest = self.parent.is_some() || self.context.sampled;
        if of_interest
            && !headers.contains_key(names::TRACEPARENT)
            && let Ok(value) = HeaderValue::try_from(self.context.to_string())
        {
            headers.insert(names::TRACEPARENT, value);
        }
    }

    /// `tracestate` as text.
    #[must_use]
    pub fn state_text(&self) -> Option<&str> {
        self.state.as_ref()?.to_str().ok()
    }
}

/// When a piece of work began, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    wall: Wall,
    mono: Mono,
}

impl Started {
    /// Now.
    #[must_use]
    pub fn now(world: &dyn World) -> Self {
        Self { wall: world.wall(), mono: world.mono() }
    }

    /// How long ago that was.
    #[must_use]
    pub fn elapsed(self, world: &dyn World) -> Duration {
        world.mono().since(self.mono)
    }

    /// The wall clock then.
    #[must_use]
    pub fn wall(self) -> Wall {
        self.wall
    }
}

/// A number in 0..1 from the top 53 bits, the ones a float can hold.
fn draw(world: &dyn World) -> f64 {
    let bits = u32::try_from(world.random() >> 32).unwrap_or(u32::MAX);
    f64::from(bits) / f64::from(u32::MAX)
}

/// `grpc-trace-bin`: version 0, then fields 0 (trace id, 16 bytes), 1 (span id, 8 bytes) and 2 (options, 1 byte).
fn from_binary_header(value: &HeaderValue) -> Option<TraceContext> {
    use base64::{Engine, engine::general_purpose};
    let text = value.as_bytes();
    let bytes = general_purpose::STANDARD_NO_PAD
        .decode(text)
        .or_else(|_| general_purpose::STANDARD.decode(text))
        .ok()?;
    let [0, 0, trace @ .., 2, options] = bytes.as_slice() else { return None };
    let (trace_id, rest) = trace.split_at_checked(16)?;
    let (1, span_id) = (*rest.first()?, rest.get(1..)?) else { return None };
    let trace_id = u128::from_be_bytes(trace_id.try_into().ok()?);
    let span_id = u64::from_be_bytes(span_id.try_into().ok()?);
    (trace_id != 0 && span_id != 0).then_some(TraceContext {
        trace_id,
        span_id,
        sampled: options & 1 == 1,
    })
}

#[cfg(test)]
mod tests {
    use super::Trace;
    use crate::names;
    use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
    use http::{HeaderMap, HeaderValue};
    use outrigger_sim::SimWorld;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_str(v).unwrap())).collect()
    }

    #[tokio::test]
    async fn continues_what_it_is_given() {
        let world = SimWorld::new(1);
        let given = headers(&[("traceparent", PARENT), ("tracestate", "a=1"), ("baggage", "b=2")]);
        let trace = Trace::from_headers(&*world, &given, 0.0);
        assert_eq!(trace.parent, Some(0x00f0_67aa_0ba9_02b7));
        assert!(trace.context.sampled && trace.context.span_id != 0x00f0_67aa_0ba9_02b7);
        let mut next = HeaderMap::new();
        trace.write(&mut next);
        assert_eq!(next[names::TRACEPARENT], trace.context.to_string());
        assert_eq!(
            (&next[names::TRACESTATE], &next[names::BAGGAGE]),
            (&"a=1".parse().unwrap(), &"b=2".parse().unwrap())
        );
    }

    #[tokio::test]
    async fn reads_the_binary_form() {
        let world = SimWorld::new(1);
        let mut bytes = vec![0, 0];
        bytes.extend([0x4b; 16]);
        bytes.push(1);
        bytes.extend([0x0f; 8]);
        bytes.extend([2, 1]);
        let encoded = STANDARD_NO_PAD.encode(&bytes);
        let trace = Trace::from_headers(&*world, &headers(&[("grpc-trace-bin", &encoded)]), 0.0);
        assert_eq!(trace.parent, Some(0x0f0f_0f0f_0f0f_0f0f));
        assert_eq!(trace.context.trace_id, u128::from_be_bytes([0x4b; 16]));
        for cut in 0..bytes.len() {
            let encoded = STANDARD_NO_PAD.encode(&bytes[..cut]);
            let trace =
                Trace::from_headers(&*world, &headers(&[("grpc-trace-bin", &encoded)]), 0.0);
            assert_eq!(trace.parent, None, "{cut} bytes");
        }
    }

    #[tokio::test]
    async fn begins_where_nothing_usable_is_given() {
        let world = SimWorld::new(1);
        let broken =
            headers(&[("traceparent", "00-zz"), ("tracestate", "a=1"), ("baggage", "b=2")]);
        let trace = Trace::from_headers(&*world, &broken, 1.0);
        assert!(trace.parent.is_none() && trace.state.is_none() && trace.baggage.is_some());
        assert!(trace.context.sampled);
        let sampled =
            |rate: f64| (0..10_000).filter(|_| Trace::root(&*world, rate).context.sampled).count();
        assert_eq!(sampled(0.0), 0);
        assert_eq!(sampled(1.0), 10_000);
        assert!((800..1200).contains(&sampled(0.1)), "{}", sampled(0.1));
    }
}
