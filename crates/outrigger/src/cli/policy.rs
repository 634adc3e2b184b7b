//! `outrigger policy`: what stands between a call and its target, in order, and where each part comes from; how it stands
//! in a running runtime; and what an operator makes of it there.

use super::{
    Context, Outcome,
    client::{TargetArgs, segment},
    output::{self, Column, Form, OutputArgs},
};
use crate::{
    failure::{Exit, Failure},
    node::{
        policies::{Explained, Policies},
        resource_paths, sources,
    },
    settings::{Layers, app::AppSettings, flags::Flags},
    world::RealWorld,
};
use bytes::Bytes;
use clap::Subcommand;
use http::Method;
use outrigger_resources::{Body, ComponentBlock, Direction};
use serde_json::{Map, Value, json};
use std::{process::ExitCode, sync::Arc};

/// See what stands between calls and their targets.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Print the policy of a target, outermost part first, and where each part comes from.
    Explain(ExplainArgs),
    /// Print how the policy of a target stands in a running runtime: breakers, faults, cache.
    Status(LiveArgs),
    /// Hold the circuit breakers of a target open: nothing is called any more.
    Open(LiveArgs),
    /// Hold them closed: everything is called, whatever fails.
    Close(LiveArgs),
    /// Let them stand for themselves again.
    Auto(LiveArgs),
    /// End the faults on purpose before their time.
    StopFaults(LiveArgs),
    /// Empty the cache that the target's answers are kept in.
    ClearCache(LiveArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct LiveArgs {
    /// An app's id, or the name of an HTTP endpoint.
    target: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    runtime: TargetArgs,
}

#[derive(Clone, Debug, clap::Args)]
struct ExplainArgs {
    /// An app's id, the name of an HTTP endpoint, or the name of a component.
    target: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    flags: Flags,
}

/// Who calls, where nobody says.
const CALLER: &str = "app";

pub(super) async fn run(args: PolicyArgs, context: Context, world: Arc<RealWorld>) -> Outcome {
    let (verb, live) = match &args.verb {
        Verb::Explain(args) => return explain(args, &context),
        Verb::Status(live) => (None, live),
        Verb::Open(live) => (Some("open"), live),
        Verb::Close(live) => (Some("close"), live),
        Verb::Auto(live) => (Some("auto"), live),
        Verb::StopFaults(live) => (Some("stop-faults"), live),
        Verb::ClearCache(live) => (Some("clear-cache"), live),
    };
    let path = format!("/v1.0-alpha1/policies/{}", segment(&live.target));
    let (method, path) = match verb {
        None => (Method::GET, path),
        Some(verb) => (Method::POST, format!("{path}/{verb}")),
    };
    let client = live.runtime.client(&context, &*world)?;
    let answer = client.send(method, &path, &[], Bytes::new()).await?;
    let body = answer.success(&format!("the policy of {}", live.target))?;
    let told: Value = serde_json::from_slice(&body).unwrap_or_default();
    output::rows(live.output.form, &STANDING, &standing(&told));
    Ok(ExitCode::SUCCESS)
}

const STANDING: [Column; 4] = [
    Column("PART", "part"),
    Column("OPERATION", "operation"),
    Column("STANDS", "stands"),
    Column("DETAIL", "detail"),
];

/// How a policy stands, a row for each part.
fn standing(told: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |part: &str, operation: &str, stands: &str, detail: String| {
        let row =
            json!({ "part": part, "operation": operation, "stands": stands, "detail": detail });
        rows.extend(if let Value::Object(row) = row { Some(row) } else { None });
    };
    let breakers = &told["breakers"];
    if breakers.is_object() {
        add("breakers", "", breakers["forced"].as_str().unwrap_or_default(), String::new());
    }
    for one in breakers["operations"].as_array().into_iter().flatten() {
        let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
        let wait = one["waitMs"].as_u64().unwrap_or_default();
        let opened = one["opened"].as_u64().unwrap_or_default();
        let wait = if wait > 0 { format!(", {wait}ms to go") } else { String::new() };
        add("breaker", &text("operation"), &text("phase"), format!("opened {opened} times{wait}"));
    }
    let faults = &told["faults"];
    if faults.is_object() {
        let count = |name: &str| faults[name].as_u64().unwrap_or_default();
        let active = faults["active"].as_bool().unwrap_or_default();
        let detail = format!(
            "{}s to go; {} delayed, {} aborted, {} dropped, {} corrupted, {} slowed",
            count("secondsLeft"),
            count("delayed"),
            count("aborted"),
            count("dropped"),
            count("corrupted"),
            count("slowed"),
        );
        add("faults", "", if active { "on" } else { "off" }, detail);
    }
    if let Some(addresses) = told["cache"]["addresses"].as_u64() {
        add("cache", "", "on", format!("answers of {addresses} addresses"));
    }
    rows
}

fn explain(args: &ExplainArgs, context: &Context) -> Outcome {
    let (layers, _) = args.flags.layers(context.settings.as_deref(), &context.environment)?;
    let app = AppSettings::read(&layers, CALLER)?;
    let loaded = sources::read(&resource_paths(&app.resources));
    loaded.check()?;
    let bodies: Vec<&Body> = loaded.applying(&app.id, &app.namespace).collect();
    let resiliencies = bodies.iter().filter_map(|body| match body {
        Body::Resiliency(resiliency) => Some(&**resiliency),
        _ => None,
    });
    let policies = Policies::new(resiliencies.collect());
    let component = bodies.iter().find_map(|body| match body {
        Body::Component(found) if found.head.name == args.target => Some(found),
        _ => None,
    });
    let rows = match component {
        Some(component) => of_component(&policies, &args.target, component.block())?,
        None => of_app(&policies, &args.target, &layers, &app)?,
    };
    print(args.output.form, &rows);
    if args.output.form == Form::Table && rows.is_empty() {
        output::note("no policy applies: there is one attempt, and it ends when its caller says");
    }
    Ok(ExitCode::SUCCESS)
}

type Row = Map<String, Value>;

fn row(way: &str, part: &Explained) -> Row {
    let row = json!({ "way": way, "part": part.part, "does": part.says, "from": part.from });
    if let Value::Object(row) = row { row } else { Row::new() }
}

fn of_app(
    policies: &Policies<'_>,
    target: &str,
    layers: &Layers,
    app: &AppSettings,
) -> Result<Vec<Row>, Failure> {
    let effective = policies.app(Some(target))?;
    let silence = app.call_timeout;
    let end = Explained {
        part: "end",
        says: format!("when its caller says, else after {silence:?} in which nothing moves"),
        from: match layers.origin("calls.timeout") {
            origin if layers.is_set("calls.timeout") => format!("calls.timeout: {origin}"),
            _ => "built-in default".to_owned(),
        },
    };
    let mut parts = vec![end];
    parts.extend(effective.explained());
    if effective.policy.retry.is_none() {
        parts.push(policies.reconnect_explained()?);
    }
    let mut rows: Vec<Row> = parts.iter().map(|part| row("outbound", part)).collect();
    if let Some(inbound) = policies.inbound(target)? {
        rows.extend(inbound.explained().iter().map(|part| row("inbound", part)));
    }
    Ok(rows)
}

fn of_component(policies: &Policies<'_>, target: &str, block: &str) -> Result<Vec<Row>, Failure> {
    let block = match block {
        "state" => ComponentBlock::Statestore,
        "pubsub" => ComponentBlock::Pubsub,
        other => {
            let what =
                format!("{target} is a component of the block {other}, which has no policies");
            return Err(Failure::new("OUTR-0021", Exit::NotFound, what));
        }
    };
    let mut rows = Vec::new();
    for (way, direction) in [("outbound", Direction::Outbound), ("inbound", Direction::Inbound)] {
        let effective = policies.of_component(target, block, direction)?;
        rows.extend(effective.explained().iter().map(|part| row(way, part)));
    }
    Ok(rows)
}

fn print(form: Form, rows: &[Row]) {
    let columns = [
        Column("PART", "part"),
        Column("WAY", "way"),
        Column("DOES", "does"),
        Column("FROM", "from"),
    ];
    output::rows(form, &columns, rows);
}
