//! Takes orders from outside and hands them to `orders`. Holds nothing: a killed gateway loses nothing.

use super::not_found;
use crate::demo::web::{Handler, Sidecar};
use http::StatusCode;
use outrigger_kernel::BoxFuture;
use serde_json::{Value, json};

pub(super) struct Gateway {
    pub(super) sidecar: Sidecar,
}

impl Handler for Gateway {
    fn handle(&self, path: String, body: Value) -> BoxFuture<'_, (StatusCode, Value)> {
        Box::pin(async move {
            if path != "/order" {
                return not_found();
            }
            match self.sidecar.invoke("orders", "place", &body).await {
                Ok(reply) => (reply.status, reply.body),
                Err(error) => (StatusCode::BAD_GATEWAY, json!({ "error": error.to_string() })),
            }
        })
    }
}
