//! Metadata over HTTP.

use super::{Exchange, Reply, RequestBody};
use crate::{
    errors::{Fault, catalogue},
    operations::metadata,
};
use http::StatusCode;

/// `GET metadata`
pub(super) fn get(x: &Exchange<'_>) -> Reply {
    let body = metadata::to_json(&metadata::get(x.host)).to_string();
    Reply::json(StatusCode::OK, body.into())
}

/// `PUT metadata/{key}`
pub(super) async fn set(x: &Exchange<'_>, key: &str, body: RequestBody) -> Result<Reply, Fault> {
    let body = x.read(body).await?;
    let value = std::str::from_utf8(&body)
        .map_err(|_| Fault::new(&catalogue::MALFORMED_REQUEST, "the value is not UTF-8 text"))?;
    metadata::set(x.host, key, value)?;
    Ok(Reply::empty())
}
