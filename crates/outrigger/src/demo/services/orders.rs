//! Keeps the orders: placed when taken, shipped when everything is done.

use super::{acknowledge, not_found, order_of, subscription};
use crate::demo::web::{Handler, Sidecar, StateWrite};
use anyhow::{Result, bail};
use http::StatusCode;
use outrigger_kernel::{BoxFuture, World};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) struct Orders {
    pub(super) sidecar: Sidecar,
    pub(super) world: Arc<dyn World>,
}

impl Orders {
    /// Saves the order unless it is saved already, then announces it. The caller may repeat this until it hears "yes".
    async fn place(&self, order: &Value) -> Result<bool> {
        let Some(id) = order.get("id").and_then(Value::as_str) else { return Ok(false) };
        let key = format!("order-{id}");
        if self.sidecar.state(&key).await?.is_none() {
            let mut value = order.clone();
            value["status"] = json!("placed");
            value["placed_at_ms"] = json!(self.world.wall().0);
            let write = StateWrite { key: key.clone(), value, etag: None };
            let written = self.sidecar.write_together(&[write]).await?;
            // Refused can mean that a twin of this request was first, which is as good, or that nothing was saved.
            if !written && self.sidecar.state(&key).await?.is_none() {
                bail!("the order could not be saved");
            }
        }
        // Announced even when it was saved before: the earlier attempt may have been killed in between.
        self.sidecar.publish("order-placed", order).await?;
        Ok(true)
    }

    async fn shipped(&self, envelope: &Value) -> Result<bool> {
        let Some((id, _)) = order_of(envelope) else { return Ok(true) };
        let key = format!("order-{id}");
        let Some((mut order, etag)) = self.sidecar.state(&key).await? else { return Ok(false) };
        if order["status"] == "shipped" {
            return Ok(true);
        }
        order["status"] = json!("shipped");
        order["shipped_at_ms"] = json!(self.world.wall().0);
        self.sidecar.write_together(&[StateWrite { key, value: order, etag: Some(etag) }]).await
    }
}

impl Handler for Orders {
    fn handle(&self, path: String, body: Value) -> BoxFuture<'_, (StatusCode, Value)> {
        Box::pin(async move {
            match path.as_str() {
                "/dapr/subscribe" => subscription("order-shipped"),
                "/event" => acknowledge(self.shipped(&body).await),
                "/place" => match self.place(&body).await {
                    Ok(true) => (StatusCode::OK, json!({ "accepted": true })),
                    Ok(false) => {
                        (StatusCode::BAD_REQUEST, json!({ "error": "an order needs an id" }))
                    }
                    Err(error) => (StatusCode::BAD_GATEWAY, json!({ "error": error.to_string() })),
                },
                _ => not_found(),
            }
        })
    }
}
