//! `outrigger config`: every setting, its value and where the value comes from.

use super::{
    Context, Outcome,
    output::{self, Column, Form, OutputArgs},
};
use crate::settings::{
    catalogue::{CATALOGUE, Shape},
    data_dir,
    flags::Flags,
};
use serde_json::{Map, Value, json};
use std::process::ExitCode;

/// Show the effective settings and where each comes from.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ConfigArgs {
    #[command(flatten)]
    output: OutputArgs,
    /// Show settings that have no effect in this build, too.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    flags: Flags,
}

pub(super) fn run(args: &ConfigArgs, context: &Context) -> Outcome {
    let (layers, file) = args.flags.layers(context.settings.as_deref(), &context.environment)?;
    let mut rows = Vec::new();
    for setting in CATALOGUE {
        if setting.inert && !args.all && layers.entry(setting.key).is_none() {
            continue;
        }
        let entry = layers.entry(setting.key);
        let mut value = match entry {
            None => Value::Null,
            Some(_) if setting.secret => "(hidden)".into(),
            Some(entry) if setting.shape == Shape::List => entry.values.clone().into(),
            Some(entry) => typed(setting.shape, entry.values.last().map_or("", String::as_str)),
        };
        let mut origin = entry.map_or_else(|| "unset".to_owned(), |entry| entry.origin.to_string());
        if setting.key == "data.dir" && entry.is_none() {
            // The one value that is computed rather than listed: people look for it here.
            if let Ok(folder) = data_dir::choose(None, &context.environment) {
                value = folder.display().to_string().into();
                "default".clone_into(&mut origin);
            }
        }
        let row = json!({
            "key": setting.key,
            "value": value,
            "origin": origin,
            "flag": format!("--{}", setting.flag),
            "variable": setting.variable(),
        });
        rows.push(if let Value::Object(row) = row { row } else { Map::new() });
    }
    print(args.output.form, &rows);
    if args.output.form == Form::Table {
        match file {
            Some(path) => output::note(&format!("settings file: {}", path.display())),
            None => output::note("settings file: none found"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(form: Form, rows: &[Map<String, Value>]) {
    let text = |row: &Map<String, Value>, field: &str| {
        row.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    match form {
        Form::Env => {
            for row in rows.iter().filter(|row| !row.get("value").is_none_or(Value::is_null)) {
                let value = match row.get("value") {
                    Some(Value::Array(items)) => {
                        let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                        items.join(",")
                    }
                    Some(Value::String(text)) => text.clone(),
                    other => other.map(ToString::to_string).unwrap_or_default(),
                };
                output::line(&format!("{}={}", text(row, "variable"), output::shell_value(&value)));
            }
        }
        form => {
            let columns = [
                Column("KEY", "key"),
                Column("VALUE", "value"),
                Column("ORIGIN", "origin"),
                Column("FLAG", "flag"),
            ];
            output::rows(form, &columns, rows);
        }
    }
}

fn typed(shape: Shape, text: &str) -> Value {
    match shape {
        Shape::Port | Shape::Number => {
            text.parse::<i64>().map_or_else(|_| text.into(), Value::from)
        }
        Shape::Switch => text.parse::<bool>().map_or_else(|_| text.into(), Value::from),
        _ => text.into(),
    }
}
