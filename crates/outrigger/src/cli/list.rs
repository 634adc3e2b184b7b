//! `outrigger list`: what runs on this machine. JSON has the field names of `dapr list`.

use super::{
    Context, Outcome,
    output::{self, Column, OutputArgs},
};
use crate::running;
use serde_json::{Map, Value, json};
use std::process::ExitCode;

/// List running apps.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &ListArgs, context: &Context) -> Outcome {
    let running = running::all(&running::folder(&context.environment));
    let apps =
        running.iter().flat_map(|runtime| runtime.apps.iter().map(move |app| (runtime, app)));
    let rows: Vec<Map<String, Value>> = apps
        .map(|(runtime, app)| {
            let row = json!({
                "appId": app.app_id,
                "httpPort": app.http_port,
                "grpcPort": app.grpc_port,
                "appPort": app.app_port,
                "metricsEnabled": app.metrics_port != 0,
                "metricsPort": app.metrics_port,
                "command": app.command,
                "created": created(runtime.since),
                "daprdPid": runtime.pid,
                "cliPid": runtime.pid,
                "appPid": app.app_pid,
                "app": app.app_ended.map_or_else(|| app.app_pid.to_string(), |code| format!("ended ({code})")),
                "runTemplatePath": runtime.run_file,
                "dataDir": runtime.data_dir,
            });
            match row {
                Value::Object(row) => row,
                _ => Map::new(),
            }
        })
        .collect();
    let columns = [
        Column("APP ID", "appId"),
        Column("HTTP", "httpPort"),
        Column("GRPC", "grpcPort"),
        Column("APP PORT", "appPort"),
        Column("COMMAND", "command"),
        Column("CREATED", "created"),
        Column("PID", "daprdPid"),
        Column("APP PID", "app"),
    ];
    if rows.is_empty() && args.output.form == output::Form::Table {
        output::note("nothing is running; start something with `outrigger run`");
        return Ok(ExitCode::SUCCESS);
    }
    output::rows(args.output.form, &columns, &rows);
    Ok(ExitCode::SUCCESS)
}

fn created(since: u64) -> String {
    let time =
        i64::try_from(since).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map(|time| time.to_string()).unwrap_or_default()
}
