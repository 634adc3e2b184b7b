//! W3C Trace Context, level 1: where a unit of work stands in a distributed trace.
//!
//! Source: <https://www.w3.org/TR/trace-context/>. A malformed `traceparent` is ignored, as the specification asks: a
//! new trace begins.

use crate::World;
use std::fmt;

/// A position in a trace: the trace, the span that caused this work, and whether it is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Identifies the whole trace; never zero.
    pub trace_id: u128,
    /// Identifies the span that work is done under; never zero.
    pub span_id: u64,
    /// Whether the caller records this trace.
    pub sampled: bool,
}

impl TraceContext {
    /// Begins a new trace.
    #[must_use]
    pub fn root(world: &dyn World, sampled: bool) -> Self {
        let trace_id = (u128::from(world.random()) << 64 | u128::from(world.random())).max(1);
        Self { trace_id, span_id: world.random().max(1), sampled }
    }

    /// A child span of this one in the same trace.
    #[must_use]
    pub fn child(self, world: &dyn World) -> Self {
        Self { span_id: world.random().max(1), ..self }
    }

    /// Parses a `traceparent` header; `None` when it is malformed or all zero.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.trim().splitn(5, '-');
        let version = lower_hex(parts.next()?, 2)?;
        let trace_id = lower_hex(parts.next()?, 32)?;
        let span_id = u64::try_from(lower_hex(parts.next()?, 16)?).ok()?;
        let flags = lower_hex(parts.next()?, 2)?;
        let trailing = parts.next().is_some();
        // Version ff is forbidden; version 00 has exactly four fields, later ones may append more.
        if version == 0xff || (version == 0 && trailing) || trace_id == 0 || span_id == 0 {
            return None;
        }
        Some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }
}

impl fmt::Display for TraceContext {
    /// Writes the `traceparent` form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

fn lower_hex(digits: &str, length: usize) -> Option<u128> {
    let well_formed = digits.len() == length
        && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    well_formed.then(|| u128::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::TraceContext;

    #[test]
    fn round_trip_and_refusals() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(TraceContext::parse(good).unwrap().to_string(), good);
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }
}
