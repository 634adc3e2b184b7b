//! The five services of the order system. Each is idempotent, because delivery is at least once.
//!
//! ```text
//!   load -call-> gateway -call-> orders -event-> inventory -event-> payments -event-> shipping
//!                                   ^                                                    |
//!                                   +---------------------- event -----------------------+
//! ```
//!
//! The pattern is the same in every step: do the work in ONE state transaction that fails if it was done before, then
//! publish the next event, then acknowledge. A kill between any two of these repeats a step that changes nothing.

mod gateway;
mod inventory;
mod orders;
mod payments;
mod shipping;

use crate::demo::web::{Handler, Sidecar, serve};
use anyhow::{Context, Result, bail};
use http::StatusCode;
use outrigger_kernel::World;
use serde_json::{Value, json};
use std::sync::Arc;

/// Name, and whether it listens to a topic.
pub(super) const NAMES: [&str; 5] = ["gateway", "orders", "inventory", "payments", "shipping"];

/// Runs service `name` until the process is killed. Ports come from the environment the runtime gives its apps.
pub(super) async fn run(name: &str, world: Arc<dyn World>) -> Result<()> {
    let app_port = port("APP_PORT")?;
    let sidecar = Sidecar::new(port("DAPR_HTTP_PORT")?, world.clone());
    if let Ok(folder) = std::env::var("DEMO_FOLDER") {
        let file = std::path::Path::new(&folder).join(format!("{name}.pid"));
        std::fs::write(file, std::process::id().to_string())?;
    }
    let handler: Arc<dyn Handler> = match name {
        "gateway" => Arc::new(gateway::Gateway { sidecar }),
        "orders" => Arc::new(orders::Orders { sidecar, world: world.clone() }),
        "inventory" => Arc::new(inventory::Inventory { sidecar }),
        "payments" => Arc::new(payments::Payments { sidecar }),
        "shipping" => Arc::new(shipping::Shipping { sidecar }),
        other => bail!("there is no demo service '{other}'; there are {}", NAMES.join(", ")),
    };
    serve(app_port, handler, world).await
}

fn port(variable: &str) -> Result<u16> {
    let text = std::env::var(variable).with_context(|| format!("{variable} is not set"))?;
    text.parse().with_context(|| format!("{variable}={text} is not a port"))
}

/// The answer to `GET /dapr/subscribe` of a service that listens to one topic.
fn subscription(topic: &str) -> (StatusCode, Value) {
    (StatusCode::OK, json!([{ "pubsubname": "events", "topic": topic, "route": "/event" }]))
}

/// The answer of a service that listens to nothing, or was asked for something else.
fn not_found() -> (StatusCode, Value) {
    (StatusCode::NOT_FOUND, json!({ "error": "no such method" }))
}

/// Acknowledges an event that was handled and asks for another delivery of one that was not.
fn acknowledge(outcome: Result<bool>) -> (StatusCode, Value) {
    match outcome {
        Ok(true) => (StatusCode::OK, json!({ "status": "SUCCESS" })),
        Ok(false) | Err(_) => (StatusCode::OK, json!({ "status": "RETRY" })),
    }
}

/// The order inside an event's envelope, and its id.
fn order_of(envelope: &Value) -> Option<(String, Value)> {
    let order = envelope.get("data")?.clone();
    let id = order.get("id")?.as_str()?.to_owned();
    Some((id, order))
}
