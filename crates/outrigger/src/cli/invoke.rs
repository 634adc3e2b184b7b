//! `outrigger invoke APP METHOD`: one call through the runtime.

use super::{
    Context, Outcome,
    client::{TargetArgs, content_type, data, segment},
    output,
};
use crate::{
    failure::{Exit, Failure},
    world::RealWorld,
};
use http::Method;
use std::{process::ExitCode, sync::Arc};

/// Call a method of an app.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct InvokeArgs {
    /// The app.
    #[arg(value_name = "APP", required_unless_present = "app")]
    app_word: Option<String>,
    /// The method: a path of the app.
    #[arg(value_name = "METHOD", required_unless_present = "method")]
    method_word: Option<String>,
    /// The app, as the reference's CLI names it.
    #[arg(
        short = 'a',
        long = "app-id",
        value_name = "APP",
        conflicts_with = "app_word",
        hide = true
    )]
    app: Option<String>,
    /// The method, as the reference's CLI names it.
    #[arg(
        short = 'm',
        long = "method",
        value_name = "METHOD",
        conflicts_with = "method_word",
        hide = true
    )]
    method: Option<String>,
    /// The body: text, @FILE, or - for stdin.
    #[arg(short, long, value_name = "DATA")]
    data: Option<String>,
    /// The body from a file.
    #[arg(short = 'f', long = "data-file", value_name = "FILE", conflicts_with = "data")]
    data_file: Option<String>,
    /// HTTP verb [default: POST].
    #[arg(
        short = 'v',
        long = "verb",
        value_name = "VERB",
        default_value = "POST",
        hide_default_value = true
    )]
    verb: String,
    /// A header, `name: value`; repeatable.
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// Talk to the runtime beside this app.
    #[arg(long = "from", value_name = "APP")]
    from: Option<String>,
    /// Talk to the runtime at this port.
    #[arg(long = "dapr-http-port", value_name = "PORT", env = "DAPR_HTTP_PORT")]
    http_port: Option<u16>,
    /// Give up after so many seconds.
    #[arg(long = "timeout", value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
}

pub(super) async fn run(args: InvokeArgs, context: Context, world: Arc<RealWorld>) -> Outcome {
    let target = TargetArgs { app_id: args.from, http_port: args.http_port, timeout: args.timeout };
    let client = target.client(&context, &*world)?;
    let app = args.app.or(args.app_word).unwrap_or_default();
    let method = args.method.or(args.method_word).unwrap_or_default();
    let body = match (&args.data, &args.data_file) {
        (Some(text), _) => data(text)?,
        (None, Some(file)) => data(&format!("@{file}"))?,
        (None, None) => bytes::Bytes::new(),
    };
    let mut headers = Vec::new();
    for header in &args.headers {
        let (name, value) = header.split_once(':').ok_or_else(|| {
            Failure::new("OUTR-0001", Exit::Usage, format!("{header:?} is not a header"))
                .help("write it as 'name: value'")
        })?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    if !body.is_empty()
        && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
    {
        headers.push(("content-type".to_owned(), content_type(&body).to_owned()));
    }
    let verb = Method::from_bytes(args.verb.to_ascii_uppercase().as_bytes()).map_err(|_| {
        Failure::new("OUTR-0001", Exit::Usage, format!("{:?} is not an HTTP verb", args.verb))
    })?;
    let path = format!("/v1.0/invoke/{}/method/{}", segment(&app), method.trim_start_matches('/'));
    let answer = client.send(verb, &path, &headers, body).await?;
    if answer.status.is_success() {
        output::raw(&answer.body);
        if context.name == super::Name::Dapr {
            output::note("App invoked successfully");
        }
        return Ok(ExitCode::SUCCESS);
    }
    Err(answer.refusal(&format!("{app} answered {method}")))
}
