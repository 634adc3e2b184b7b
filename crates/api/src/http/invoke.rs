//! Invocation over HTTP: any method, any path, both bodies streamed.
//!
//! Whom to call stands in the path, in a header, or in Basic authentication (the form of URLs such as
//! `http://dapr-app-id:orders@localhost:3500/total`). Apps that speak gRPC are called too: their answer to `OnInvoke`
//! becomes an HTTP answer.

use super::{Exchange, Reply, RequestBody};
use crate::{
    errors::{Fault, catalogue},
    grpc::callback,
    names,
    operations::invoke::{self, Elsewhere, Route},
    trace::Started,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, StatusCode, header};
use outrigger_calls::{
    CallError, CanonicalPath, Invocation, body, split_invocation, strip_hop_by_hop,
};

/// `{app}/method/{path}` behind `/v1.0/invoke/`.
pub(super) async fn by_path(
    x: &Exchange<'_>,
    matched: &str,
    raw_path: &str,
    body: RequestBody,
) -> Result<Reply, Fault> {
    // The path as it came, because cleaning takes away a trailing slash that the app may care about.
    let raw = raw_path.strip_prefix("/v1.0/invoke/").and_then(split_invocation);
    let (address, method) = raw.unwrap_or((matched, ""));
    call(x, address, method, x.parts.headers.clone(), body).await
}

/// Any path that is no other route, when a header says whom to call.
pub(super) async fn by_header(
    x: &Exchange<'_>,
    raw_path: &str,
    body: RequestBody,
) -> Result<Reply, Fault> {
    let mut headers = x.parts.headers.clone();
    if let Some(address) = headers.remove(names::APP_ID) {
        let address = address.to_str().map_err(|_| no_target())?;
        return call(x, address, raw_path, headers, body).await;
    }
    let address =
        headers.get(header::AUTHORIZATION).and_then(basic_target).ok_or_else(no_target)?;
    headers.remove(header::AUTHORIZATION);
    call(x, &address, raw_path, headers, body).await
}

/// Nobody to call.
pub(super) fn no_target() -> Fault {
    Fault::new(
        &catalogue::DIRECT_INVOKE_NO_APP,
        "there is no such route, and no app to call is named",
    )
}

fn basic_target(value: &header::HeaderValue) -> Option<String> {
    let encoded = value.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    let named = user.eq_ignore_ascii_case(names::APP_ID) && !password.is_empty();
    named.then(|| password.to_owned())
}

async fn call(
    x: &Exchange<'_>,
    address: &str,
    path: &str,
    headers: HeaderMap,
    body: RequestBody,
) -> Result<Reply, Fault> {
    let started = Started::now(&*x.host.world);
    let route = invoke::resolve(x.host, address, x.named_deadline).await;
    let route = route.map_err(|error| invoke::fault(address, &error))?;
    let answer = send(x, address, &route, path, headers, body).await;
    let status = answer.as_ref().map_or_else(Fault::http, Reply::status);
    let took = started.elapsed(&*x.host.world);
    x.host.metrics.invoked(route.label(), &x.parts.method, status, took);
    answer
}

async fn send(
    x: &Exchange<'_>,
    address: &str,
    route: &Route,
    path: &str,
    headers: HeaderMap,
    request_body: RequestBody,
) -> Result<Reply, Fault> {
    let path = CanonicalPath::parse(path)
        .map_err(|bad| invoke::fault(address, &CallError::BadPath(bad)))?;
    if route.is_grpc_app() {
        return send_to_grpc(x, address, route, &path, &headers, request_body).await;
    }
    let query = Some(x.query.0).filter(|query| !query.is_empty());
    let elsewhere = Elsewhere { host: x.host, trace: x.trace };
    let answer = x.host.invoker.invoke(Invocation {
        target: &route.target,
        caller: Some(invoke::caller(x.host)),
        method: x.parts.method.clone(),
        path: &path,
        operation: None,
        query,
        headers,
        edits: invoke::edits(x.host, route, x.trace),
        body: body::streamed(request_body),
        policy: route.policy.as_deref(),
        reconnect: Some(&route.reconnect),
        patience: invoke::patience(x.host, x.named_deadline),
        alternates: Some(&elsewhere),
    });
    let answer = answer.await.map_err(|error| invoke::fault(address, &route.told(error)))?;
    Ok(Reply::passed(answer))
}

async fn send_to_grpc(
    x: &Exchange<'_>,
    address: &str,
    route: &Route,
    path: &CanonicalPath,
    headers: &HeaderMap,
    request_body: RequestBody,
) -> Result<Reply, Fault> {
    let content = x.read(request_body).await?;
    let request = callback::http_request(&x.parts.method, path, x.query.0, headers, content);
    let headers = callback::passable(headers);
    let invoked = callback::Invoked { route, operation: path, headers };
    match callback::on_invoke(x.host, x.trace, x.named_deadline, invoked, request).await {
        Ok((answer, headers)) => {
            let content_type = Some(answer.content_type.as_str()).filter(|t| !t.is_empty());
            let data = answer.data.unwrap_or_default();
            let mut reply = Reply::data(data.value.into(), content_type);
            let mut passed = callback::passable(&headers);
            strip_hop_by_hop(&mut passed);
            passed.remove(header::DATE);
            reply.headers_mut().extend(passed);
            Ok(reply)
        }
        Err(status) => {
            if let Some(error) = callback::call_error(&status) {
                return Err(invoke::fault(address, error));
            }
            let body = serde_json::json!({
                "code": status.code() as i32,
                "message": status.message(),
                "details": [],
            });
            let http = crate::errors::codes::http_of(status.code());
            let http = if http.is_success() { StatusCode::INTERNAL_SERVER_ERROR } else { http };
            Ok(Reply::json(http, body.to_string().into()))
        }
    }
}
