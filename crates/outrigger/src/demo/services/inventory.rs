//! Reserves stock: the reservation and the lowered stock are one transaction, so stock is never taken twice.

use super::{acknowledge, not_found, order_of, subscription};
use crate::demo::{
    STOCK_AT_START,
    web::{Handler, Sidecar, StateWrite},
};
use anyhow::Result;
use http::StatusCode;
use outrigger_kernel::BoxFuture;
use serde_json::{Value, json};

pub(super) struct Inventory {
    pub(super) sidecar: Sidecar,
}

impl Inventory {
    async fn reserve(&self, envelope: &Value) -> Result<bool> {
        let Some((id, order)) = order_of(envelope) else { return Ok(true) };
        let quantity = order["quantity"].as_i64().unwrap_or(0);
        let stock_key = format!("stock-{}", order["item"].as_str().unwrap_or("unknown"));
        let reservation = format!("reservation-{id}");
        if self.sidecar.state(&reservation).await?.is_none() {
            let stock = self.sidecar.state(&stock_key).await?;
            let left = stock.as_ref().map_or(STOCK_AT_START, |(v, _)| v.as_i64().unwrap_or(0));
            let writes = [
                StateWrite { key: reservation, value: json!({ "quantity": quantity }), etag: None },
                StateWrite {
                    key: stock_key,
                    value: json!(left - quantity),
                    etag: stock.map(|(_, etag)| etag),
                },
            ];
            if !self.sidecar.write_together(&writes).await? {
                return Ok(false);
            }
        }
        self.sidecar.publish("stock-reserved", &order).await?;
        Ok(true)
    }
}

impl Handler for Inventory {
    fn handle(&self, path: String, body: Value) -> BoxFuture<'_, (StatusCode, Value)> {
        Box::pin(async move {
            match path.as_str() {
                "/dapr/subscribe" => subscription("order-placed"),
                "/event" => acknowledge(self.reserve(&body).await),
                _ => not_found(),
            }
        })
    }
}
