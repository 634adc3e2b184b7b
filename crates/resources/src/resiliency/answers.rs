//! Policies that stand outside the attempts, or in their place: caches, fallbacks, and faults on purpose.
//!
//! As in the other policies, what is left out is decided by whoever makes machines of these.

use super::guards::{
    COUNTS, Decimal, UNIT, decimal, either, ordered, percent, span, status_list_of_failures,
};
use crate::{
    codes,
    fields::{Fields, Report},
};
use std::{collections::BTreeMap, time::Duration};

/// Bytes that a cache may hold.
const MEMORY: std::ops::RangeInclusive<u64> = 1_024..=1 << 40;
/// Bytes that one answer may have to be kept.
const BODY: std::ops::RangeInclusive<u64> = 1..=64 << 20;
/// Most headers a policy names.
const HEADERS_MAX: usize = 16;

/// A response cache, and the single flight before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CachePolicy {
    /// `maxEntries`: answers kept, over all targets that name it.
    pub max_entries: Option<u32>,
    /// `maxBytes`: their bytes.
    pub max_bytes: Option<u64>,
    /// `maxBody`: bytes of one body.
    pub max_body: Option<u64>,
    /// `freshFor`: how long an answer is fresh that does not say.
    pub fresh_for: Option<Duration>,
    /// `staleWhileRevalidate`, where an answer does not say.
    pub stale_while_revalidate: Option<Duration>,
    /// `staleIfError`, where an answer does not say.
    pub stale_if_error: Option<Duration>,
    /// `negative`: how long a 404 and its like are kept that do not say.
    pub negative: Option<Duration>,
    /// `refreshAhead`: whether answers are refreshed before they expire (true).
    pub refresh_ahead: Option<bool>,
    /// `jitterPercent`: by how much lifetimes are shortened at most.
    pub jitter_percent: Option<Decimal>,
    /// `keyHeaders`: request headers that keep callers apart, in lower case.
    pub key_headers: Vec<String>,
    /// `coalesce: any`: answers without a lifetime go to all who waited for them too.
    pub coalesce_any: bool,
}

/// What to answer when a call has failed for good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FallbackPolicy {
    /// `lastGood`: how old the last good answer may be.
    pub last_good: Option<Duration>,
    /// `target`: another app or endpoint.
    pub target: Option<String>,
    /// `minTime`: how much of the call's time must be left to try it.
    pub min_time: Option<Duration>,
    /// `answer`: a constant.
    pub answer: Option<StaticAnswer>,
    /// `httpStatusCodes`: which failures count; all of 500-599 unless set.
    pub statuses: Option<String>,
    /// `methods: all`: calls of every method, not only safe ones.
    pub all_methods: bool,
    /// `maxBytes` of the last good answers, over all targets that name it.
    pub max_bytes: Option<u64>,
    /// `maxBody` of one of them.
    pub max_body: Option<u64>,
}

/// `answer` of a fallback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticAnswer {
    /// `status` (200).
    pub status: u16,
    /// `headers`.
    pub headers: BTreeMap<String, String>,
    /// `body`.
    pub body: String,
}

/// Faults on purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPolicy {
    /// `enabled`; without it nothing is done.
    pub enabled: bool,
    /// `for`: how long after they came into force they stop by themselves.
    pub lasts: Option<Duration>,
    /// `headers` that a call must have, by name in lower case; `*` for any value.
    pub headers: BTreeMap<String, String>,
    /// `delay`.
    pub delay: Option<DelayFault>,
    /// `abort`.
    pub abort: Option<AbortFault>,
    /// `drop`: the share of the calls.
    pub drop: Option<Decimal>,
    /// `corrupt`: the share of the answers, and in one of how many bytes.
    pub corrupt: Option<(Decimal, u32)>,
    /// `bandwidth`: the share of the answers, and how many bytes a second.
    pub bandwidth: Option<(Decimal, u64)>,
}

/// `delay` of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayFault {
    /// `percent` of the calls (100).
    pub percent: Decimal,
    /// `min`.
    pub min: Duration,
    /// `max`, `min` unless set.
    pub max: Duration,
}

/// `abort` of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortFault {
    /// `percent` of the calls (100).
    pub percent: Decimal,
    /// How they end.
    pub end: AbortEnd,
}

/// How an aborted call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortEnd {
    /// `httpStatus`.
    Http(u16),
    /// `grpcStatus`.
    Grpc(u16),
    /// `reset: true`: as if the connection had broken.
    Reset,
}

/// Reads a cache.
pub(super) fn read_cache(report: &mut Report, fields: &mut Fields<'_>) -> CachePolicy {
    let coalesce = [("kept", false), ("any", true)];
    CachePolicy {
        max_entries: fields.integer(report, "maxEntries", COUNTS),
        max_bytes: fields.integer(report, "maxBytes", MEMORY),
        max_body: fields.integer(report, "maxBody", BODY),
        fresh_for: fields.duration(report, "freshFor", UNIT),
        stale_while_revalidate: fields.duration(report, "staleWhileRevalidate", UNIT),
        stale_if_error: fields.duration(report, "staleIfError", UNIT),
        negative: fields.duration(report, "negative", UNIT),
        refresh_ahead: fields.switch(report, "refreshAhead"),
        jitter_percent: percent(report, fields, "jitterPercent"),
        key_headers: header_names(report, fields, "keyHeaders"),
        coalesce_any: fields.choice(report, "coalesce", &coalesce).unwrap_or(false),
    }
}

/// Reads a fallback; one that has nothing to answer with is reported.
pub(super) fn read_fallback(report: &mut Report, fields: &mut Fields<'_>) -> FallbackPolicy {
    let methods = [("safe", false), ("all", true)];
    let answer = fields.object(report, "answer").map(|mut answer| {
        let read = StaticAnswer {
            status: answer.integer(report, "status", 200..=599).unwrap_or(200),
            headers: headers(report, &mut answer, "headers"),
            body: answer.string(report, "body").unwrap_or_default(),
        };
        answer.finish(report);
        read
    });
    let policy = FallbackPolicy {
        last_good: span(report, fields, "lastGood"),
        target: fields.string(report, "target"),
        min_time: fields.duration(report, "minTime", UNIT),
        answer,
        statuses: status_list_of_failures(report, fields, "httpStatusCodes"),
        all_methods: fields.choice(report, "methods", &methods).unwrap_or(false),
        max_bytes: fields.integer(report, "maxBytes", MEMORY),
        max_body: fields.integer(report, "maxBody", BODY),
    };
    if !["lastGood", "target", "answer"].iter().any(|name| fields.has(name)) {
        fields.missing(report, "lastGood, target or answer");
    }
    policy
}

/// Reads faults.
pub(super) fn read_fault(report: &mut Report, fields: &mut Fields<'_>) -> FaultPolicy {
    let enabled = fields.switch(report, "enabled").unwrap_or(false);
    let lasts = span(report, fields, "for");
    const LONGEST: Duration = Duration::from_secs(86_400);
    if lasts.is_some_and(|lasts| lasts > LONGEST) {
        let message = format!("{} must be a day at most", fields.path_of("for"));
        report.error(codes::BAD_VALUE, fields.place_of("for"), message);
    }
    let policy = FaultPolicy {
        enabled,
        lasts,
        headers: headers(report, fields, "headers"),
        delay: fields.object(report, "delay").and_then(|delay| read_delay(report, delay)),
        abort: fields.object(report, "abort").and_then(|abort| read_abort(report, abort)),
        drop: fields.object(report, "drop").map(|mut drop| {
            let share = share(report, &mut drop);
            drop.finish(report);
            share
        }),
        corrupt: fields.object(report, "corrupt").map(|mut corrupt| {
            let every = corrupt.integer(report, "every", COUNTS).unwrap_or(1_000);
            let read = (share(report, &mut corrupt), every);
            corrupt.finish(report);
            read
        }),
        bandwidth: fields.object(report, "bandwidth").and_then(|mut bandwidth| {
            let rate = required(report, &mut bandwidth, "bytesPerSecond", |report, fields| {
                fields.integer(report, "bytesPerSecond", 1..=1_u64 << 40)
            });
            let share = share(report, &mut bandwidth);
            bandwidth.finish(report);
            Some((share, rate?))
        }),
    };
    let kinds = ["delay", "abort", "drop", "corrupt", "bandwidth"];
    if !kinds.iter().any(|name| fields.has(name)) {
        fields.missing(report, "delay, abort, drop, corrupt or bandwidth");
    }
    policy
}

fn read_delay(report: &mut Report, mut fields: Fields<'_>) -> Option<DelayFault> {
    let percent = share(report, &mut fields);
    let min = required(report, &mut fields, "min", |report, fields| span(report, fields, "min"));
    let max = span(report, &mut fields, "max");
    ordered(report, &fields, ("min", min), ("max", max));
    fields.finish(report);
    let min = min?;
    Some(DelayFault { percent, min, max: max.unwrap_or(min) })
}

fn read_abort(report: &mut Report, mut fields: Fields<'_>) -> Option<AbortFault> {
    let percent = share(report, &mut fields);
    let http = fields.integer(report, "httpStatus", 400..=599).map(AbortEnd::Http);
    let grpc = fields.integer(report, "grpcStatus", 1..=16).map(AbortEnd::Grpc);
    let reset = fields.switch(report, "reset").unwrap_or(false).then_some(AbortEnd::Reset);
    either(report, &fields, "httpStatus", "grpcStatus");
    either(report, &fields, "httpStatus", "reset");
    either(report, &fields, "grpcStatus", "reset");
    if !["httpStatus", "grpcStatus", "reset"].iter().any(|name| fields.has(name)) {
        fields.missing(report, "httpStatus, grpcStatus or reset");
    }
    fields.finish(report);
    Some(AbortFault { percent, end: http.or(grpc).or(reset)? })
}

/// A field that must be there; what is wrong with it is reported once.
fn required<T>(
    report: &mut Report,
    fields: &mut Fields<'_>,
    name: &'static str,
    read: impl FnOnce(&mut Report, &mut Fields<'_>) -> Option<T>,
) -> Option<T> {
    let errors = report.errors();
    let value = read(report, fields);
    if value.is_none() && report.errors() == errors {
        fields.missing(report, name);
    }
    value
}

fn share(report: &mut Report, fields: &mut Fields<'_>) -> Decimal {
    decimal(report, fields, "percent", 0.0..=100.0).unwrap_or(Decimal::new(100.0))
}

/// Whether a text can be the name of a header (RFC 9110, section 5.1).
fn is_header_name(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= 256 && text.bytes().all(is_token)
}

fn header_names(report: &mut Report, fields: &mut Fields<'_>, name: &'static str) -> Vec<String> {
    let names = fields.texts(report, name).unwrap_or_default();
    let bad = names.iter().find(|text| !is_header_name(text)).cloned();
    if let Some(bad) = bad {
        let message = format!("{}: \"{bad}\" cannot be the name of a header", fields.path_of(name));
        report.error(codes::BAD_VALUE, fields.place_of(name), message);
    }
    if names.len() > HEADERS_MAX {
        let message = format!("{} names more than {HEADERS_MAX} headers", fields.path_of(name));
        report.error(codes::BAD_VALUE, fields.place_of(name), message);
    }
    names.iter().map(|text| text.to_ascii_lowercase()).collect()
}

/// Headers by name in lower case.
fn headers(
    report: &mut Report,
    fields: &mut Fields<'_>,
    name: &'static str,
) -> BTreeMap<String, String> {
    let all = fields.text_map(report, name).unwrap_or_default();
    let is_value = |text: &str| text.bytes().all(|byte| byte == b'\t' || (32..127).contains(&byte));
    let bad = all.iter().find(|(name, value)| !is_header_name(name) || !is_value(value));
    if let Some((bad, _)) = bad {
        let message = format!("{}.{bad} cannot stand in a header", fields.path_of(name));
        report.error(codes::BAD_VALUE, fields.place_of(name), message);
    }
    if all.len() > HEADERS_MAX {
        let message = format!("{} names more than {HEADERS_MAX} headers", fields.path_of(name));
        report.error(codes::BAD_VALUE, fields.place_of(name), message);
    }
    all.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
}

/// The name of one header or cookie.
pub(super) fn header_name(
    report: &mut Report,
    fields: &mut Fields<'_>,
    name: &'static str,
) -> Option<String> {
    let text = fields.string(report, name)?;
    if is_header_name(&text) {
        return Some(text);
    }
    let message = format!("{}: \"{text}\" cannot be a name there", fields.path_of(name));
    report.error(codes::BAD_VALUE, fields.place_of(name), message);
    None
}
