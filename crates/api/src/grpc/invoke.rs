//! `InvokeService`: the message form of an invocation, to apps that speak gRPC and to apps that speak HTTP.

use super::{
    Context,
    callback::{self, Invoked},
    service::{failed, incomplete},
};
use crate::{
    errors::{Fault, catalogue, codes},
    host::Host,
    names,
    operations::invoke::{self, Elsewhere, Route},
    trace::Started,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use outrigger_calls::{CallError, CanonicalPath, Invocation, body};
use outrigger_proto::{
    common::v1::{self as common, http_extension::Verb},
    rpc,
    runtime::v1 as pb,
};
use prost::Message;
use std::{collections::BTreeMap, sync::Arc};
use tonic::{
    Request, Response, Status,
    metadata::{KeyRef, MetadataMap, MetadataValue},
};

pub(super) async fn service(
    host: Arc<Host>,
    context: Context,
    request: Request<pb::InvokeServiceRequest>,
) -> Result<Response<common::InvokeResponse>, Status> {
    let started = Started::now(&*host.world);
    let (metadata, _, asked) = request.into_parts();
    let fail = |fault: Fault| failed(&host, "invoke", fault);
    let mut message =
        asked.message.ok_or_else(|| fail(incomplete("the request has no message")))?;
    split_query(&mut message);
    if asked.id.is_empty() {
        let fault = Fault::new(&catalogue::DIRECT_INVOKE_NO_APP, "the request names no app");
        return Err(fail(fault));
    }
    let no_answer = |error: &CallError| fail(invoke::fault(&asked.id, error));
    let route = invoke::resolve(&host, &asked.id, context.named_deadline).await;
    let route = route.map_err(|error| no_answer(&error))?;
    let path = CanonicalPath::parse(&message.method).map_err(|bad| no_answer(&bad.into()))?;
    let call = Call { host: &host, context: &context, route: &route, path, id: &asked.id };
    let (status, answer) = if route.is_grpc_app() {
        call.to_grpc(&metadata, message).await
    } else {
        call.to_http(&metadata, message).await
    };
    let took = started.elapsed(&*host.world);
    host.metrics.invoked(route.label(), &Method::POST, status, took);
    answer
}

/// A query may stand behind the method, as it would in a path; it goes in front of the one that has a field of its own.
fn split_query(message: &mut common::InvokeRequest) {
    if let Some((method, query)) = message.method.split_once('?') {
        let (method, mut query) = (method.to_owned(), query.to_owned());
        let extension = message.http_extension.get_or_insert_default();
        if !extension.querystring.is_empty() {
            query.push('&');
            query.push_str(&extension.querystring);
        }
        extension.querystring = query;
        message.method = method;
    }
}

struct Call<'a> {
    host: &'a Arc<Host>,
    context: &'a Context,
    route: &'a Route,
    path: CanonicalPath,
    id: &'a str,
}

/// The status for metrics, and the answer.
type Outcome = (StatusCode, Result<Response<common::InvokeResponse>, Status>);

impl Call<'_> {
    async fn to_grpc(&self, metadata: &MetadataMap, message: common::InvokeRequest) -> Outcome {
        let invoked = Invoked {
            route: self.route,
            operation: &self.path,
            headers: callback::passable(metadata.as_ref()),
        };
        let Context { trace, named_deadline, .. } = self.context;
        match callback::on_invoke(self.host, trace, *named_deadline, invoked, message).await {
            Ok((answer, headers)) => {
                let mut response = Response::new(answer);
                copy_headers(&headers, response.metadata_mut());
                (StatusCode::OK, Ok(response))
            }
            Err(status) => match callback::call_error(&status) {
                None => (codes::http_of(status.code()), Err(status)),
                Some(error) => {
                    let fault = invoke::fault(self.id, error);
                    (fault.http(), Err(failed(self.host, "invoke", fault)))
                }
            },
        }
    }

    async fn to_http(&self, metadata: &MetadataMap, message: common::InvokeRequest) -> Outcome {
        let extension = message.http_extension.unwrap_or_default();
        let method = match extension.verb() {
            Verb::None => Method::POST,
            verb => Method::from_bytes(verb.as_str_name().as_bytes()).unwrap_or(Method::POST),
        };
        let mut headers = callback::passable(metadata.as_ref());
        if let Ok(content_type) = HeaderValue::from_str(&message.content_type)
            && !content_type.is_empty()
        {
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        let content = message.data.map(|data| Bytes::from(data.value)).unwrap_or_default();
        let query = Some(extension.querystring.as_str()).filter(|query| !query.is_empty());
        // What comes back is one message and no stream, whose silence would say nothing.
        let patience = invoke::patience(self.host, self.context.named_deadline);
        let elsewhere = Elsewhere { host: self.host, trace: &self.context.trace };
        let answer = self.host.invoker.invoke(Invocation {
            target: &self.route.target,
            caller: Some(invoke::caller(self.host)),
            method,
            path: &self.path,
            operation: None,
            query,
            headers,
            edits: invoke::edits(self.host, self.route, &self.context.trace),
            body: if content.is_empty() { body::empty() } else { body::full(content) },
            policy: self.route.policy.as_deref(),
            reconnect: Some(&self.route.reconnect),
            patience: patience.quiet(self.host.settings.call_timeout),
            alternates: Some(&elsewhere),
        });
        let fail = |fault: Fault| (fault.http(), Err(failed(self.host, "invoke", fault)));
        let answer = match answer.await {
            Ok(answer) => answer,
            Err(error) => return fail(invoke::fault(self.id, &self.route.told(error))),
        };
        let (head, content) = answer.into_parts();
        let limit = self.host.settings.max_body_bytes;
        match body::collect(content, limit).await {
            Ok(content) => (head.status, http_answer(&head, &content)),
            Err(error) => {
                let message = format!("the answer of {} could not be read: {error}", self.id);
                fail(Fault::new(&catalogue::MALFORMED_RESPONSE, message))
            }
        }
    }
}

fn http_answer(
    head: &http::response::Parts,
    content: &Bytes,
) -> Result<Response<common::InvokeResponse>, Status> {
    let mut metadata = MetadataMap::new();
    copy_headers(&head.headers, &mut metadata);
    if let Ok(status) = MetadataValue::try_from(head.status.as_str()) {
        metadata.insert(names::HTTP_STATUS, status);
    }
    if !head.status.is_success() {
        return Err(http_refusal(head.status, content, metadata));
    }
    let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let data = prost_types::Any { type_url: String::new(), value: content.to_vec() };
    let mut response = Response::new(common::InvokeResponse {
        data: Some(data),
        content_type: content_type.unwrap_or_default().to_owned(),
    });
    *response.metadata_mut() = metadata;
    Ok(response)
}

/// An HTTP status that is no success, as the gRPC status clients know it by.
fn http_refusal(status: StatusCode, content: &[u8], metadata: MetadataMap) -> Status {
    let words = status.canonical_reason().unwrap_or("Unknown");
    let shown = String::from_utf8_lossy(content);
    let end = shown.floor_char_boundary(1024);
    let info = rpc::ErrorInfo {
        reason: words.to_owned(),
        domain: names::ERROR_DOMAIN.to_owned(),
        metadata: BTreeMap::from([
            ("http.code".to_owned(), status.as_u16().to_string()),
            ("http.error_message".to_owned(), shown[..end].to_owned()),
        ]),
    };
    let code = codes::grpc_of(status);
    let detail = prost_types::Any {
        type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
        value: info.encode_to_vec(),
    };
    let all = rpc::Status { code: code as i32, message: words.to_owned(), details: vec![detail] };
    Status::with_details_and_metadata(code, words, all.encode_to_vec().into(), metadata)
}

/// The app's headers as metadata of the answer.
fn copy_headers(headers: &HeaderMap, metadata: &mut MetadataMap) {
    let mut kept = callback::passable(headers);
    kept.remove(header::DATE);
    // The map is built whole, because its typed view refuses binary entries that are not base64.
    let mut all = std::mem::take(metadata).into_headers();
    all.extend(kept);
    *metadata = MetadataMap::from_headers(all);
    let broken: Vec<String> = metadata
        .keys()
        .filter_map(|key| match key {
            KeyRef::Binary(key) => Some(key.as_str().to_owned()),
            KeyRef::Ascii(_) => None,
        })
        .filter(|key| metadata.get_bin(key.as_str()).is_some_and(|v| v.to_bytes().is_err()))
        .collect();
    for key in broken {
        metadata.remove_bin(key.as_str());
    }
}
