//! Orders at a steady rate, each repeated until it is accepted, each followed until it is shipped.
//!
//! The rate is open-loop: an order is sent when its time has come, whether or not earlier ones were answered. At most
//! [`UNDER_WAY_MAX`] are under way at once; what would go beyond is counted as skipped, never queued.

use super::{ITEMS, web::Sidecar};
use http::Method;
use outrigger_kernel::{Deadline, World};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Most orders sent and not answered at once.
const UNDER_WAY_MAX: usize = 512;
/// How long an order is repeated before its sender gives up. Longer than any outage of the demo.
const PATIENCE: Duration = Duration::from_secs(45);
/// How many unfinished orders are looked up at once.
const LOOK_UP_MAX: usize = 200;

/// An order that was sent.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) item: &'static str,
    pub(super) quantity: i64,
    pub(super) amount_cents: i64,
    /// Whether somebody answered "accepted". Only such an order was promised.
    pub(super) accepted: bool,
    pub(super) shipped: bool,
    given_up: bool,
}

impl Order {
    #[cfg(test)]
    pub(super) fn for_audit(
        item: &'static str,
        quantity: i64,
        amount_cents: i64,
        accepted: bool,
    ) -> Self {
        Self { item, quantity, amount_cents, accepted, shipped: false, given_up: false }
    }
}

/// What the screen shows.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    pub(super) sent: usize,
    pub(super) accepted: usize,
    pub(super) shipped: usize,
    pub(super) repeated: usize,
    pub(super) skipped: usize,
    /// Time to "accepted", in milliseconds, of the last orders.
    pub(super) accept_ms: Vec<u64>,
    /// Time from placed to shipped, in milliseconds, of the last orders.
    pub(super) ship_ms: Vec<u64>,
}

#[derive(Default)]
struct Book {
    orders: BTreeMap<String, Order>,
    figures: Figures,
}

/// The generator and its book of orders. Clones share both.
#[derive(Clone)]
pub(super) struct Load {
    book: Arc<Mutex<Book>>,
    stopped: Arc<AtomicBool>,
    sidecar: Sidecar,
    world: Arc<dyn World>,
}

impl Load {
    /// Starts sending `rate` orders per second through the runtime on `port`.
    pub(super) fn start(port: u16, rate: u32, world: Arc<dyn World>) -> Self {
        let load = Self {
            book: Arc::default(),
            stopped: Arc::default(),
            sidecar: Sidecar::new(port, world.clone()),
            world: world.clone(),
        };
        drop(world.spawn("demo load", Box::pin(load.clone().send_all(rate))));
        drop(world.spawn("demo follow-up", Box::pin(load.clone().follow_all())));
        load
    }

    /// Sends no further orders; those under way go on.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// The book, for the audit.
    pub(super) fn orders(&self) -> BTreeMap<String, Order> {
        self.book().orders.clone()
    }

    /// Whether every order was answered (or given up) and every accepted one is shipped.
    pub(super) fn settled(&self) -> bool {
        self.book().orders.values().all(|o| if o.accepted { o.shipped } else { o.given_up })
    }

    /// The figures now.
    pub(super) fn figures(&self) -> Figures {
        self.book().figures.clone()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send_all(self, rate: u32) {
        let gap = Duration::from_secs(1) / rate;
        let mut due = self.world.mono();
        let mut number = 0_u64;
        while !self.stopped.load(Ordering::SeqCst) {
            self.world.sleep(due.since(self.world.mono())).await;
            due = due.plus(gap);
            number += 1;
            let under_way =
                self.book().orders.values().filter(|o| !o.accepted && !o.given_up).count();
            if under_way >= UNDER_WAY_MAX {
                self.book().figures.skipped += 1;
                continue;
            }
            let id = format!("{number:06}-{:08x}", self.world.random() >> 32);
            drop(self.world.spawn("demo order", Box::pin(self.clone().send(id))));
        }
    }

    async fn send(self, id: String) {
        let quantity = 1 + i64::try_from(self.world.random() % 5).unwrap_or(0);
        let item = ITEMS[usize::try_from(self.world.random() % 5).unwrap_or(0)];
        let order = Order {
            item,
            quantity,
            amount_cents: quantity * 1_250,
            accepted: false,
            shipped: false,
            given_up: false,
        };
        let body = json!({
            "id": id, "item": item, "quantity": quantity, "amount_cents": order.amount_cents,
        });
        {
            let mut book = self.book();
            book.orders.insert(id.clone(), order);
            book.figures.sent += 1;
        }
        let started = self.world.mono();
        let patience = Deadline::after(&*self.world, PATIENCE);
        while !patience.expired(self.world.mono()) {
            let answer = self.sidecar.invoke("gateway", "order", &body).await;
            if answer.is_ok_and(|reply| reply.status.is_success()) {
                let took = self.world.mono().since(started);
                let mut book = self.book();
                book.figures.accepted += 1;
                remember(&mut book.figures.accept_ms, took);
                if let Some(order) = book.orders.get_mut(&id) {
                    order.accepted = true;
                }
                return;
            }
            self.book().figures.repeated += 1;
            // Equal jitter around 150 ms: a fleet that was refused together does not come back together.
            let pause = 75 + self.world.random() % 150;
            self.world.sleep(Duration::from_millis(pause)).await;
        }
        if let Some(order) = self.book().orders.get_mut(&id) {
            order.given_up = true;
        }
    }

    /// Looks up orders that are not known to be shipped, oldest first, for as long as the process lives.
    async fn follow_all(self) {
        loop {
            self.world.sleep(Duration::from_millis(300)).await;
            let ids: Vec<String> = {
                let book = self.book();
                let open = book.orders.iter().filter(|(_, o)| o.accepted && !o.shipped);
                open.take(LOOK_UP_MAX).map(|(id, _)| format!("order-{id}")).collect()
            };
            if ids.is_empty() {
                continue;
            }
            let query = json!({ "keys": ids });
            let reply = self.sidecar.call(Method::POST, "/v1.0/state/store/bulk", &query).await;
            let Ok(Value::Array(items)) = reply.map(|reply| reply.body) else { continue };
            let mut book = self.book();
            for item in &items {
                let data = &item["data"];
                let id = data["id"].as_str().unwrap_or_default();
                let Some(order) = book.orders.get_mut(id) else { continue };
                if data["status"] == "shipped" && !order.shipped {
                    order.shipped = true;
                    book.figures.shipped += 1;
                    let placed = data["placed_at_ms"].as_u64().unwrap_or(0);
                    let shipped = data["shipped_at_ms"].as_u64().unwrap_or(0);
                    let took = Duration::from_millis(shipped.saturating_sub(placed));
                    remember(&mut book.figures.ship_ms, took);
                }
            }
        }
    }
}

/// Keeps the last 500 measurements.
fn remember(measurements: &mut Vec<u64>, took: Duration) {
    if measurements.len() >= 500 {
        measurements.remove(0);
    }
    measurements.push(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
}
