//! Secrets over HTTP.

use super::{Exchange, Reply};
use crate::{
    errors::{Fault, catalogue},
    operations::secrets,
};
use http::StatusCode;
use serde::Serialize;

/// `GET secrets/{store}/{name}`
pub(super) async fn get(x: &Exchange<'_>, store: &str, name: &str) -> Result<Reply, Fault> {
    answer(&secrets::get(x.host, store, name).await?)
}

/// `GET secrets/{store}/bulk`
pub(super) async fn bulk(x: &Exchange<'_>, store: &str) -> Result<Reply, Fault> {
    answer(&secrets::bulk(x.host, store).await?)
}

fn answer(body: &impl Serialize) -> Result<Reply, Fault> {
    let body = serde_json::to_vec(body).map_err(|error| {
        Fault::new(&catalogue::SECRET_GET, format!("could not write the answer: {error}"))
    })?;
    Ok(Reply::json(StatusCode::OK, body.into()))
}
