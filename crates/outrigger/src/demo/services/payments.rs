//! Charges customers: the charge and the ledger line are one transaction, so nobody is charged twice.

use super::{acknowledge, not_found, order_of, subscription};
use crate::demo::{
    ledger_key,
    web::{Handler, Sidecar, StateWrite},
};
use anyhow::Result;
use http::StatusCode;
use outrigger_kernel::BoxFuture;
use serde_json::{Value, json};

pub(super) struct Payments {
    pub(super) sidecar: Sidecar,
}

impl Payments {
    async fn charge(&self, envelope: &Value) -> Result<bool> {
        let Some((id, order)) = order_of(envelope) else { return Ok(true) };
        let amount = order["amount_cents"].as_i64().unwrap_or(0);
        let charge = format!("charge-{id}");
        if self.sidecar.state(&charge).await?.is_none() {
            let account = ledger_key(&id);
            let ledger = self.sidecar.state(&account).await?;
            let (count, total) = ledger.as_ref().map_or((0, 0), |(value, _)| {
                (value["count"].as_i64().unwrap_or(0), value["total_cents"].as_i64().unwrap_or(0))
            });
            let writes = [
                StateWrite { key: charge, value: json!({ "amount_cents": amount }), etag: None },
                StateWrite {
                    key: account,
                    value: json!({ "count": count + 1, "total_cents": total + amount }),
                    etag: ledger.map(|(_, etag)| etag),
                },
            ];
            if !self.sidecar.write_together(&writes).await? {
                return Ok(false);
            }
        }
        self.sidecar.publish("payment-taken", &order).await?;
        Ok(true)
    }
}

impl Handler for Payments {
    fn handle(&self, path: String, body: Value) -> BoxFuture<'_, (StatusCode, Value)> {
        Box::pin(async move {
            match path.as_str() {
                "/dapr/subscribe" => subscription("stock-reserved"),
                "/event" => acknowledge(self.charge(&body).await),
                _ => not_found(),
            }
        })
    }
}
