//! Ships what is paid for.

use super::{acknowledge, not_found, order_of, subscription};
use crate::demo::web::{Handler, Sidecar, StateWrite};
use anyhow::Result;
use http::StatusCode;
use outrigger_kernel::BoxFuture;
use serde_json::{Value, json};

pub(super) struct Shipping {
    pub(super) sidecar: Sidecar,
}

impl Shipping {
    async fn ship(&self, envelope: &Value) -> Result<bool> {
        let Some((id, order)) = order_of(envelope) else { return Ok(true) };
        let key = format!("shipment-{id}");
        if self.sidecar.state(&key).await?.is_none() {
            let value = json!({ "item": order["item"], "quantity": order["quantity"] });
            if !self.sidecar.write_together(&[StateWrite { key, value, etag: None }]).await? {
                return Ok(false);
            }
        }
        self.sidecar.publish("order-shipped", &order).await?;
        Ok(true)
    }
}

impl Handler for Shipping {
    fn handle(&self, path: String, body: Value) -> BoxFuture<'_, (StatusCode, Value)> {
        Box::pin(async move {
            match path.as_str() {
                "/dapr/subscribe" => subscription("payment-taken"),
                "/event" => acknowledge(self.ship(&body).await),
                _ => not_found(),
            }
        })
    }
}
