//! An answer on its way out.

use super::ReplyBody;
use crate::names;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use std::collections::BTreeMap;

/// An answer, and the error code it carries, if it is one.
#[derive(Debug)]
pub(crate) struct Reply {
    response: Response<ReplyBody>,
    code: Option<&'static str>,
}

impl Reply {
    /// An answer without a body: 204.
    pub(crate) fn empty() -> Self {
        Self::with(StatusCode::NO_CONTENT, ReplyBody::Whole(None))
    }

    /// JSON.
    pub(crate) fn json(status: StatusCode, body: Bytes) -> Self {
        let mut reply = Self::with(status, ReplyBody::Whole(Some(body)));
        let json = HeaderValue::from_static(names::JSON);
        reply.headers_mut().insert(header::CONTENT_TYPE, json);
        reply
    }

    /// Plain text.
    pub(crate) fn text(status: StatusCode, text: &'static str) -> Self {
        let body = ReplyBody::Whole(Some(Bytes::from_static(text.as_bytes())));
        let mut reply = Self::with(status, body);
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        reply.headers_mut().insert(header::CONTENT_TYPE, plain);
        reply
    }

    /// Bytes of a given type; JSON where none is known, as clients expect.
    pub(crate) fn data(body: Bytes, content_type: Option<&str>) -> Self {
        let mut reply = Self::json(StatusCode::OK, body);
        if let Some(value) = content_type.and_then(|t| HeaderValue::from_str(t).ok()) {
            reply.headers_mut().insert(header::CONTENT_TYPE, value);
        }
        reply
    }

    /// Somebody else's answer, passed on.
    pub(crate) fn passed(response: Response<outrigger_calls::Body>) -> Self {
        Self { response: response.map(ReplyBody::Stream), code: None }
    }

    fn with(status: StatusCode, body: ReplyBody) -> Self {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        Self { response, code: None }
    }

    pub(crate) fn headers_mut(&mut self) -> &mut HeaderMap {
        self.response.headers_mut()
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn body(&self) -> &ReplyBody {
        self.response.body()
    }

    /// Sets a header whose value may be anything; what cannot be a header value is left out.
    pub(crate) fn header(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers_mut().insert(name, value);
        }
    }

    /// What a component says beside the value, as `metadata.<name>` headers.
    pub(crate) fn metadata(&mut self, metadata: &BTreeMap<String, String>) {
        for (name, value) in metadata {
            if let Ok(name) = HeaderName::try_from(format!("{}{name}", names::METADATA_PREFIX)) {
                self.header(name, value);
            }
        }
    }

    /// Marks the answer as the error `code`.
    pub(crate) fn fail_with(&mut self, code: &'static str) {
        self.code = Some(code);
    }

    /// The error it is.
    pub(crate) fn code(&self) -> Option<&'static str> {
        self.code
    }

    pub(crate) fn into_response(self) -> Response<ReplyBody> {
        self.response
    }
}
