//! Caches, fallbacks and faults in words: what `policy explain` says of them.

use outrigger_calls::{FaultSettings, LadderSettings, ShelfSettings};
use outrigger_resilience::{Abort, Fault, FaultRule, Step, cache::Early};
use std::time::Duration;

pub(super) fn cache(settings: &ShelfSettings) -> String {
    let cache = &settings.cache;
    let mut says = format!(
        "answers to GET by their own headers (RFC 9111), {} of them and {} bytes at most, {} each",
        cache.bounds.entries_max, cache.bounds.bytes_max, cache.body_max
    );
    let mut add = |text: String| {
        says.push_str("; ");
        says.push_str(&text);
    };
    let given = |time: Duration| (!time.is_zero()).then_some(time);
    if let Some(time) = given(cache.fresh_for) {
        add(format!("fresh for {time:?} if they do not say"));
    }
    if let Some(time) = given(cache.stale_while_revalidate) {
        add(format!("{time:?} longer while refreshed"));
    }
    if let Some(time) = given(cache.stale_if_error) {
        add(format!("{time:?} longer when the target fails"));
    }
    if cache.early != Early::Off {
        add("refreshed before they expire".to_owned());
    }
    if !settings.key_headers.is_empty() {
        let names: Vec<&str> = settings.key_headers.iter().map(|name| name.as_str()).collect();
        add(format!("apart by {}", names.join(", ")));
    }
    let all = if settings.coalesce_any { "also if it is not kept" } else { "if it may be kept" };
    add(format!("one call for all who ask at once, {all}"));
    says
}

pub(super) fn fallback(settings: &LadderSettings) -> String {
    let steps = settings.steps.iter().map(|step| match step {
        Step::LastGood { age_max } => format!("the last good answer, {age_max:?} old at most"),
        Step::Alternate { target, time_min } => {
            format!("what {target} says, if {time_min:?} are left")
        }
        Step::Answer(answer) => {
            format!("{} with {} bytes", answer.status.as_u16(), answer.body.len())
        }
    });
    let steps: Vec<String> = steps.collect();
    let methods = if settings.all_methods { "all methods" } else { "safe methods" };
    let statuses = settings.statuses.iter().map(|range| match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{}-{}", range.start(), range.end()),
    });
    let statuses: Vec<String> = statuses.collect();
    format!(
        "after no answer or HTTP {}, of {methods}: {}",
        statuses.join(","),
        steps.join("; else ")
    )
}

pub(super) fn faults(settings: &FaultSettings) -> String {
    let rules: Vec<String> = settings.rules.iter().map(rule).collect();
    let named = settings.rules.first().map(|rule| &rule.headers);
    let named = named.into_iter().flatten().map(|header| match &header.value {
        Some(value) => format!("{}: {value}", header.name),
        None => header.name.clone(),
    });
    let named: Vec<String> = named.collect();
    let whose = if named.is_empty() {
        String::new()
    } else {
        format!(" of calls with {}", named.join(", "))
    };
    format!("{}{whose}; off {:?} after coming into force", rules.join("; "), settings.lasts)
}

fn rule(rule: &FaultRule) -> String {
    let percent = (rule.share * 1e6).round() / 1e4;
    let does = match rule.fault {
        Fault::Delay { least, most } => format!("delayed by {least:?} to {most:?}"),
        Fault::Abort(Abort::Http(status)) => format!("aborted with HTTP {status}"),
        Fault::Abort(Abort::Grpc(code)) => format!("aborted with gRPC {code}"),
        Fault::Abort(Abort::Reset) => "cut off".to_owned(),
        Fault::Drop => "never answered".to_owned(),
        Fault::Corrupt { every } => format!("one bit in about {every} bytes flipped"),
        Fault::Bandwidth { bytes_per_s } => format!("answered at {bytes_per_s} bytes a second"),
    };
    format!("{percent} % {does}")
}
