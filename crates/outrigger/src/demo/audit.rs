//! Counts what the demo promised against what is in the store.
//!
//! - every accepted order is there and shipped: nothing was lost;
//! - charges on the ledger are as many as charge records, and their sums agree: nobody was charged twice;
//! - what left the stock is what was reserved: nothing was taken twice.

use super::{
    ACCOUNTS, ITEMS, STOCK_AT_START,
    load::{Load, Order},
    web::Sidecar,
};
use anyhow::{Result, bail};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How many keys one bulk read asks for.
const BULK: usize = 500;

/// What the audit found.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    sent: usize,
    accepted: usize,
    lost: Vec<String>,
    unshipped: Vec<String>,
    charges: i64,
    ledger_lines: i64,
    charged_cents: i64,
    ledger_cents: i64,
    wrong_amounts: usize,
    reserved: i64,
    stock_taken: i64,
}

impl Verdict {
    /// Whether every promise was kept.
    pub(super) fn clean(&self) -> bool {
        self.lost.is_empty()
            && self.unshipped.is_empty()
            && self.charges == self.ledger_lines
            && self.charged_cents == self.ledger_cents
            && self.wrong_amounts == 0
            && self.reserved == self.stock_taken
    }

    /// Prints the audit, on standard output: it is the demo's result.
    #[expect(clippy::print_stdout, reason = "the audit is what this command is for")]
    pub(super) fn print(&self) {
        let mark = |good: bool| if good { "ok " } else { "BAD" };
        let twice = self.ledger_lines - self.charges;
        println!("audit of {} orders sent, {} accepted", self.sent, self.accepted);
        println!("  {} orders lost: {}", mark(self.lost.is_empty()), self.lost.len());
        println!(
            "  {} accepted but not shipped: {}",
            mark(self.unshipped.is_empty()),
            self.unshipped.len()
        );
        println!(
            "  {} charged twice: {twice} ({} charges, {} ledger lines)",
            mark(twice == 0 && self.wrong_amounts == 0),
            self.charges,
            self.ledger_lines
        );
        println!(
            "  {} money: charged {} cents, on the ledger {} cents",
            mark(self.charged_cents == self.ledger_cents),
            self.charged_cents,
            self.ledger_cents
        );
        println!(
            "  {} stock: reserved {}, taken {}",
            mark(self.reserved == self.stock_taken),
            self.reserved,
            self.stock_taken
        );
        for id in self.lost.iter().chain(&self.unshipped).take(10) {
            println!("      order {id}");
        }
        println!(
            "{}",
            if self.clean() { "every promise was kept" } else { "PROMISES WERE BROKEN" }
        );
    }
}

/// Reads everything and compares.
pub(super) async fn run(load: &Load, sidecar: &Sidecar) -> Result<Verdict> {
    let orders = load.orders();
    let mut verdict = Verdict { sent: orders.len(), ..Verdict::default() };
    verdict.accepted = orders.values().filter(|order| order.accepted).count();
    let keys = |kind: &str| orders.keys().map(|id| format!("{kind}-{id}")).collect::<Vec<_>>();
    let placed = read(sidecar, &keys("order")).await?;
    let charges = read(sidecar, &keys("charge")).await?;
    let reservations = read(sidecar, &keys("reservation")).await?;
    for (id, order) in &orders {
        check_order(&mut verdict, id, order, placed.get(&format!("order-{id}")));
        if let Some(charge) = charges.get(&format!("charge-{id}")) {
            let amount = charge["amount_cents"].as_i64().unwrap_or(0);
            verdict.charges += 1;
            verdict.charged_cents += amount;
            verdict.wrong_amounts += usize::from(amount != order.amount_cents);
        }
        if let Some(reservation) = reservations.get(&format!("reservation-{id}")) {
            verdict.reserved += reservation["quantity"].as_i64().unwrap_or(0);
        }
    }
    let accounts: Vec<String> = (0..ACCOUNTS).map(|n| format!("ledger-{n}")).collect();
    for account in read(sidecar, &accounts).await?.values() {
        verdict.ledger_lines += account["count"].as_i64().unwrap_or(0);
        verdict.ledger_cents += account["total_cents"].as_i64().unwrap_or(0);
    }
    let stocks: Vec<String> = ITEMS.iter().map(|item| format!("stock-{item}")).collect();
    for stock in read(sidecar, &stocks).await?.values() {
        verdict.stock_taken += STOCK_AT_START - stock.as_i64().unwrap_or(0);
    }
    Ok(verdict)
}

fn check_order(verdict: &mut Verdict, id: &str, order: &Order, stored: Option<&Value>) {
    match stored {
        None if order.accepted => verdict.lost.push(id.to_owned()),
        Some(stored) if order.accepted && stored["status"] != "shipped" => {
            verdict.unshipped.push(format!("{id} ({} x {})", order.quantity, order.item));
        }
        _ => {}
    }
}

async fn read(sidecar: &Sidecar, keys: &[String]) -> Result<BTreeMap<String, Value>> {
    let mut found = BTreeMap::new();
    for some in keys.chunks(BULK) {
        let query = json!({ "keys": some });
        let reply = sidecar.call(Method::POST, "/v1.0/state/store/bulk", &query).await?;
        let Value::Array(items) = reply.body else {
            bail!("a bulk read answered {}: {}", reply.status, reply.body);
        };
        for item in items {
            let (Some(key), Some(data)) = (item["key"].as_str(), item.get("data")) else {
                continue;
            };
            if !data.is_null() {
                found.insert(key.to_owned(), data.clone());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{Verdict, check_order};
    use crate::demo::load::Order;
    use serde_json::json;

    fn order(accepted: bool) -> Order {
        Order::for_audit("rope", 2, 2_500, accepted)
    }

    #[test]
    fn an_accepted_order_must_be_there_and_shipped() {
        let mut verdict = Verdict::default();
        check_order(&mut verdict, "1", &order(true), Some(&json!({ "status": "shipped" })));
        check_order(&mut verdict, "2", &order(false), None);
        assert!(verdict.clean());
        check_order(&mut verdict, "3", &order(true), None);
        check_order(&mut verdict, "4", &order(true), Some(&json!({ "status": "placed" })));
        assert_eq!(verdict.lost, ["3"]);
        assert_eq!(verdict.unshipped.len(), 1);
        assert!(!verdict.clean());
    }

    #[test]
    fn a_second_ledger_line_for_one_charge_is_found() {
        let fair = Verdict { charges: 3, ledger_lines: 3, ..Verdict::default() };
        assert!(fair.clean());
        assert!(!Verdict { ledger_lines: 4, ..fair }.clean());
    }

    #[test]
    fn money_and_stock_must_agree() {
        let money = Verdict { charged_cents: 10, ledger_cents: 20, ..Verdict::default() };
        assert!(!money.clean());
        let stock = Verdict { reserved: 5, stock_taken: 6, ..Verdict::default() };
        assert!(!stock.clean());
        let amount = Verdict { wrong_amounts: 1, ..Verdict::default() };
        assert!(!amount.clean());
    }
}
