//! `outrigger metadata`: what a runtime says about itself.

use super::{
    Context, Outcome,
    client::TargetArgs,
    output::{self, Form, OutputArgs},
};
use crate::world::RealWorld;
use bytes::Bytes;
use http::Method;
use serde_json::Value;
use std::{process::ExitCode, sync::Arc};

/// Show what a runtime says about itself.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct MetadataArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: MetadataArgs, context: Context, world: Arc<RealWorld>) -> Outcome {
    let client = args.target.client(&context, &*world)?;
    let answer = client.send(Method::GET, "/v1.0/metadata", &[], Bytes::new()).await?;
    let body = answer.success("reading metadata")?;
    let document = serde_json::from_slice(&body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
    let form = if args.output.form == Form::Table { Form::Yaml } else { args.output.form };
    match (form, &document) {
        (Form::Name, Value::Object(fields)) => {
            output::line(fields.get("id").and_then(Value::as_str).unwrap_or_default());
        }
        (Form::Env, Value::Object(fields)) => output::rows(form, &[], std::slice::from_ref(fields)),
        _ => output::document(form, &document),
    }
    Ok(ExitCode::SUCCESS)
}
