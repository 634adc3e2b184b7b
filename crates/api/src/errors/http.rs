//! A fault as an HTTP answer: `{"errorCode", "message", "details"}`.

use super::Fault;
use crate::{http::Reply, names};
use bytes::Bytes;
use http::{HeaderValue, header};
use serde_json::{Value, json};

const TYPE_PREFIX: &str = "type.googleapis.com/google.rpc.";

impl Fault {
    /// The JSON body.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut body = json!({ "errorCode": self.code(), "message": self.message() });
        let details = self.details_json();
        if !details.is_empty() {
            body["details"] = Value::Array(details);
        }
        body
    }

    /// The answer.
    pub(crate) fn into_reply(self) -> Reply {
        let body = Bytes::from(self.to_json().to_string());
        let mut reply = Reply::json(self.http(), body);
        if let Some(pause) = self.0.retry_after {
            let seconds = pause.as_secs().max(1);
            reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        for (name, value) in &self.0.headers {
            reply.headers_mut().insert(name.clone(), value.clone());
        }
        reply.fail_with(self.code());
        reply
    }

    fn details_json(&self) -> Vec<Value> {
        let fault = &self.0;
        if fault.entry.reason.is_empty() {
            return Vec::new();
        }
        let mut details = vec![json!({
            "@type": format!("{TYPE_PREFIX}ErrorInfo"),
            "reason": fault.entry.reason,
            "domain": names::ERROR_DOMAIN,
            "metadata": fault.info,
        })];
        if let Some(resource) = &fault.resource {
            details.push(json!({
                "@type": format!("{TYPE_PREFIX}ResourceInfo"),
                "resource_type": resource.kind,
                "resource_name": resource.name,
                "owner": "",
                "description": resource.description,
            }));
        }
        if !fault.violations.is_empty() {
            let violations: Vec<Value> = fault
                .violations
                .iter()
                .map(|(field, description)| json!({ "field": field, "description": description }))
                .collect();
            details.push(json!({
                "@type": format!("{TYPE_PREFIX}BadRequest"),
                "field_violations": violations,
            }));
        }
        details
    }
}
