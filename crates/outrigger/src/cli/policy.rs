//! `outrigger policy explain TARGET`: what stands between a call and its target, in order, and where each part comes from.

use super::{
    Context, Outcome,
    output::{self, Column, Form, OutputArgs},
};
use crate::{
    failure::{Exit, Failure},
    node::{
        policies::{Explained, Policies},
        resource_paths, sources,
    },
    settings::{Layers, app::AppSettings, flags::Flags},
};
use clap::Subcommand;
use outrigger_resources::{Body, ComponentBlock, Direction};
use serde_json::{Map, Value, json};
use std::process::ExitCode;

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

pub(super) fn run(args: &PolicyArgs, context: &Context) -> Outcome {
    let Verb::Explain(args) = &args.verb;
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
    Ok(parts.iter().map(|part| row("outbound", part)).collect())
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
