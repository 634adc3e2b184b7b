//! A fault as a gRPC status with details in `grpc-status-details-bin`.

use super::Fault;
use crate::names;
use http::HeaderMap;
use outrigger_proto::rpc;
use prost::Message;
use tonic::{Status, metadata::MetadataMap};

impl Fault {
    /// The status. Unlike over HTTP every fault carries at least an `ErrorInfo`: clients cannot see the code otherwise.
    #[must_use]
    pub fn into_status(self) -> Status {
        let fault = &self.0;
        let reason =
            if fault.entry.reason.is_empty() { fault.entry.code } else { fault.entry.reason };
        let info = rpc::ErrorInfo {
            reason: reason.to_owned(),
            domain: names::ERROR_DOMAIN.to_owned(),
            metadata: fault.info.clone(),
        };
        let mut details = vec![packed("ErrorInfo", &info)];
        if let Some(resource) = &fault.resource {
            let info = rpc::ResourceInfo {
                resource_type: resource.kind.to_owned(),
                resource_name: resource.name.clone(),
                owner: String::new(),
                description: resource.description.clone(),
            };
            details.push(packed("ResourceInfo", &info));
        }
        if !fault.violations.is_empty() {
            let field_violations = fault
                .violations
                .iter()
                .map(|(field, description)| rpc::bad_request::FieldViolation {
                    field: field.clone(),
                    description: description.clone(),
                })
                .collect();
            details.push(packed("BadRequest", &rpc::BadRequest { field_violations }));
        }
        if let Some(pause) = fault.retry_after {
            let retry_delay = prost_types::Duration::try_from(pause).ok();
            details.push(packed("RetryInfo", &rpc::RetryInfo { retry_delay }));
        }
        let status =
            rpc::Status { code: self.grpc() as i32, message: self.message().to_owned(), details };
        let encoded = status.encode_to_vec().into();
        let headers = HeaderMap::from_iter(fault.headers.iter().cloned());
        let metadata = MetadataMap::from_headers(headers);
        Status::with_details_and_metadata(self.grpc(), self.message(), encoded, metadata)
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        fault.into_status()
    }
}

fn packed(name: &str, message: &impl Message) -> prost_types::Any {
    let type_url = format!("type.googleapis.com/google.rpc.{name}");
    prost_types::Any { type_url, value: message.encode_to_vec() }
}
