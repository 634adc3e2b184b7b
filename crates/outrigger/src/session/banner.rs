//! What `run` shows first: where things are and what to do next.

use super::{Manner, shown};
use crate::{
    node::{Hold, Node, Side},
    plan::Plan,
    settings::node::DataPlace,
};
use std::{fmt::Write, io::Write as _, sync::Arc, time::Duration};

/// The lines before the first line of an app.
pub(super) fn head(plan: &Plan, sides: &[Arc<Side>], node: &Node, manner: &Manner) -> String {
    let data = match &plan.node.data {
        DataPlace::Memory => {
            "in memory (gone afterwards; leave out `--ephemeral` to keep it)".to_owned()
        }
        DataPlace::Folder(folder) => {
            let shared = match node.hold() {
                Some(Hold::Shares(Some(pid))) => {
                    format!("shared with process {pid}, which holds it; ")
                }
                Some(Hold::Shares(None)) => {
                    "shared with another process, which holds it; ".to_owned()
                }
                Some(Hold::Holds) | None => String::new(),
            };
            let folder = shown(folder, &manner.environment);
            format!("{folder} ({shared}kept; `--ephemeral` to discard)")
        }
    };
    let mut out = format!("\n  Outrigger {}  data {data}\n\n", env!("CARGO_PKG_VERSION"));
    match sides {
        [side] => one(&mut out, side),
        sides => many(&mut out, sides),
    }
    let components = node.component_summary();
    line(&mut out, "Components", &components.list);
    if components.defaults {
        line(&mut out, "", "defaults, because no ./resources or ./components was found");
    }
    out.push('\n');
    out
}

fn one(out: &mut String, side: &Side) {
    let ports = side.ports();
    line(
        out,
        "Dapr HTTP API",
        &format!("http://127.0.0.1:{:<6} (DAPR_HTTP_PORT set for your app)", ports.http),
    );
    line(out, "Dapr gRPC API", &format!("http://127.0.0.1:{:<6} (DAPR_GRPC_PORT)", ports.grpc));
    if let Some(port) = ports.metrics {
        line(out, "Metrics", &format!("http://127.0.0.1:{port}/metrics"));
    }
    moved(out, side);
}

fn many(out: &mut String, sides: &[Arc<Side>]) {
    let width = sides.iter().map(|side| side.app_id().len()).max().unwrap_or_default();
    for (index, side) in sides.iter().enumerate() {
        let ports = side.ports();
        let title = if index == 0 { "Apps" } else { "" };
        line(
            out,
            title,
            &format!("{:<width$}  HTTP {}  gRPC {}", side.app_id(), ports.http, ports.grpc),
        );
    }
    if let Some(port) = sides.first().and_then(|side| side.ports().metrics) {
        line(out, "Metrics", &format!("http://127.0.0.1:{port}/metrics"));
    }
    for side in sides {
        moved(out, side);
    }
}

fn moved(out: &mut String, side: &Side) {
    for told in &side.ports().moved {
        line(out, "", told);
    }
}

fn line(out: &mut String, title: &str, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "  {title:<15} {text}");
}

/// The line that ends the wait.
pub(super) fn ready(took: Duration, as_reference: bool) -> String {
    let reference = if as_reference {
        "You're up and running! Both Dapr and your app logs will appear here.\n"
    } else {
        ""
    };
    format!("  ready in {:.2} s   Ctrl-C stops\n{reference}\n", took.as_secs_f64())
}

/// Shows text that is not data.
pub(super) fn show(text: &str) {
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}
