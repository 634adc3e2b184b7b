//! `tracing` and `metrics` of a configuration.

use super::read::section;
use crate::{
    codes,
    fields::{Fields, Report},
    issue::{Issue, Severity},
};
use std::{collections::BTreeMap, time::Duration};

/// `tracing`: which requests are traced and where the spans go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tracing {
    /// `samplingRate`: the share of new traces that is recorded, 0 to 1.
    pub sampling_rate: Option<f64>,
    /// `stdout`: print spans.
    pub stdout: Option<bool>,
    /// `zipkin`.
    pub zipkin: Zipkin,
    /// `otel`.
    pub otel: Otel,
}

impl Tracing {
    /// The share of new traces recorded: one in ten thousand unless the file says otherwise.
    #[must_use]
    pub fn sampling_rate_or_default(&self) -> f64 {
        self.sampling_rate.unwrap_or(0.0001)
    }
}

/// `tracing.zipkin`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zipkin {
    /// `endpointAddress`.
    pub endpoint_address: Option<String>,
}

/// `tracing.otel`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Otel {
    /// `endpointAddress`: host and port, without a scheme.
    pub endpoint_address: Option<String>,
    /// `isSecure` (true).
    pub is_secure: Option<bool>,
    /// `protocol`.
    pub protocol: Option<OtelProtocol>,
    /// `headers`: `a=1,b=2`, values percent-decoded.
    pub headers: Option<BTreeMap<String, String>>,
    /// `timeout` of one export; a bare number is milliseconds (10 s).
    pub timeout: Option<Duration>,
}

impl Otel {
    /// Whether the connection uses TLS: yes unless the file says otherwise.
    #[must_use]
    pub fn is_secure_or_default(&self) -> bool {
        self.is_secure.unwrap_or(true)
    }

    /// How long one export may take: ten seconds unless the file says otherwise.
    #[must_use]
    pub fn timeout_or_default(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(10))
    }
}

/// How spans travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtelProtocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP.
    Http,
}

/// `metrics`. The older spelling `metric` is read too; where both speak, `metrics` wins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// `enabled` (true).
    pub enabled: Option<bool>,
    /// `recordErrorCodes` (false).
    pub record_error_codes: Option<bool>,
    /// `http`.
    pub http: MetricsHttp,
    /// `latencyDistributionBuckets` in milliseconds, ascending.
    pub latency_buckets_ms: Option<Vec<f64>>,
    /// `rules`: labels rewritten by regular expressions.
    pub rules: Option<Vec<MetricsRule>>,
}

impl Metrics {
    /// Whether metrics are collected: yes unless the file says otherwise.
    #[must_use]
    pub fn enabled_or_default(&self) -> bool {
        self.enabled.unwrap_or(true)
    }
}

/// `metrics.http`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsHttp {
    /// `increasedCardinality`: paths and app ids in labels.
    pub increased_cardinality: Option<bool>,
    /// `pathMatching`: path templates kept as label values.
    pub path_matching: Option<Vec<String>>,
    /// `excludeVerbs`: no method label.
    pub exclude_verbs: Option<bool>,
}

/// `metrics.rules[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsRule {
    /// The metric.
    pub name: String,
    /// Its labels that are rewritten.
    pub labels: Vec<MetricsLabel>,
}

/// `metrics.rules[].labels[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsLabel {
    /// The label.
    pub name: String,
    /// New value by the regular expression that the old one matches. Not compiled here.
    pub regex: BTreeMap<String, String>,
}

pub(super) fn read_tracing(report: &mut Report, fields: &mut Fields<'_>) -> Tracing {
    let sampling_rate = match fields.text(report, "samplingRate") {
        Some(_) => fields.number(report, "samplingRate"),
        None => None,
    };
    if sampling_rate.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
        let message = format!("{} must be between 0 and 1", fields.path_of("samplingRate"));
        report.error(codes::BAD_VALUE, fields.place_of("samplingRate"), message);
    }
    Tracing {
        sampling_rate,
        stdout: fields.switch(report, "stdout"),
        zipkin: section(report, fields, "zipkin", |report, fields| Zipkin {
            endpoint_address: fields.string(report, "endpointAddress"),
        }),
        otel: section(report, fields, "otel", read_otel),
    }
}

fn read_otel(report: &mut Report, fields: &mut Fields<'_>) -> Otel {
    let endpoint_address = fields.string(report, "endpointAddress").map(|address| {
        let bare = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
        bare.map(str::to_owned).unwrap_or(address)
    });
    let protocols = [("grpc", OtelProtocol::Grpc), ("http", OtelProtocol::Http)];
    Otel {
        endpoint_address,
        is_secure: fields.switch(report, "isSecure"),
        protocol: fields.choice(report, "protocol", &protocols),
        headers: read_headers(report, fields),
        timeout: fields.duration(report, "timeout", Some(Duration::from_millis(1))),
    }
}

fn read_headers(report: &mut Report, fields: &mut Fields<'_>) -> Option<BTreeMap<String, String>> {
    let text = fields.text(report, "headers")?;
    let mut headers = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=').filter(|(name, _)| !name.trim().is_empty())
        else {
            // The pair itself is not shown: what has lost its name may well be a secret.
            let message = format!("{} has a part without a name", fields.path_of("headers"));
            let origin = report.origin(fields.place_of("headers"));
            let issue = Issue::new(Severity::Error, codes::BAD_VALUE, origin, message);
            report.push(issue.remedy("Write name1=value1,name2=value2."));
            continue;
        };
        headers.insert(name.trim().to_owned(), percent_decoded(value.trim()));
    }
    Some(headers)
}

/// Undoes `%20`; what is no escape stays as it is.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let escaped = (bytes[i] == b'%').then(|| text.get(i + 1..i + 3)).flatten();
        let byte = escaped
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(byte.unwrap_or(bytes[i]));
        i += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
}

pub(super) fn read_metrics(report: &mut Report, fields: &mut Fields<'_>) -> Metrics {
    Metrics {
        enabled: fields.switch(report, "enabled"),
        record_error_codes: fields.switch(report, "recordErrorCodes"),
        http: section(report, fields, "http", |report, fields| MetricsHttp {
            increased_cardinality: fields.switch(report, "increasedCardinality"),
            path_matching: fields.texts(report, "pathMatching"),
            exclude_verbs: fields.switch(report, "excludeVerbs"),
        }),
        latency_buckets_ms: read_buckets(report, fields),
        rules: read_rules(report, fields),
    }
}

fn read_buckets(report: &mut Report, fields: &mut Fields<'_>) -> Option<Vec<f64>> {
    const NAME: &str = "latencyDistributionBuckets";
    let texts = fields.texts(report, NAME).filter(|texts| !texts.is_empty())?;
    let parsed: Result<Vec<f64>, _> = texts.iter().map(|text| text.trim().parse()).collect();
    let ascending = |buckets: &Vec<f64>| {
        buckets.iter().all(|b| b.is_finite() && *b > 0.0)
            && buckets.windows(2).all(|pair| pair[0] < pair[1])
    };
    let buckets = parsed.ok().filter(ascending);
    if buckets.is_none() {
        let message = format!("{} must be ascending numbers above 0", fields.path_of(NAME));
        report.error(codes::BAD_VALUE, fields.place_of(NAME), message);
    }
    buckets
}

fn read_rules(report: &mut Report, fields: &mut Fields<'_>) -> Option<Vec<MetricsRule>> {
    let mut rules = Vec::new();
    for mut rule in fields.objects(report, "rules")? {
        let name = rule.required(report, "name");
        let mut labels = Vec::new();
        for mut label in rule.objects(report, "labels").unwrap_or_default() {
            labels.push(MetricsLabel {
                name: label.required(report, "name"),
                regex: label.text_map(report, "regex").unwrap_or_default(),
            });
            label.finish(report);
        }
        rule.finish(report);
        rules.push(MetricsRule { name, labels });
    }
    Some(rules)
}

#[cfg(test)]
mod tests {
    use super::percent_decoded;

    #[test]
    fn escapes() {
        for (text, decoded) in
            [("a%20b", "a b"), ("100%", "100%"), ("%zz%2", "%zz%2"), ("%ff", "%ff")]
        {
            assert_eq!(percent_decoded(text), decoded);
        }
    }
}
