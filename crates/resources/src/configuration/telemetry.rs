//! `tracing` and `metrics` of a configuration.

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
