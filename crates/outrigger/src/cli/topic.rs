//! `outrigger topic tail PUBSUB TOPIC`: events, those that are there and those that come.

use super::{
    Context, Outcome,
    output::{self, Form, OutputArgs},
};
use crate::{
    control::{self, Question},
    failure::{Exit, Failure},
    running,
    world::RealWorld,
};
use serde_json::Value;
use std::{process::ExitCode, sync::Arc};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

/// Look into topics.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct TopicArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Print events, one per line: those that are there and those that come. Takes none away from anybody.
    Tail {
        /// The broker.
        pubsub: String,
        /// The topic.
        topic: String,
        /// End after so many events.
        #[arg(short = 'n', long, value_name = "COUNT")]
        count: Option<u64>,
        /// Ask the runtime beside this app.
        #[arg(short = 'a', long = "app-id", value_name = "APP")]
        app_id: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
}

pub(super) async fn run(args: TopicArgs, context: Context, _world: Arc<RealWorld>) -> Outcome {
    let Verb::Tail { pubsub, topic, count, app_id, output } = args.verb;
    let folder = running::folder(&context.environment);
    let all = running::all(&folder);
    let serves = |runtime: &&running::Running| {
        app_id.as_ref().is_none_or(|id| runtime.apps.iter().any(|app| app.app_id == *id))
    };
    let runtime = all.iter().find(serves).ok_or_else(|| {
        Failure::new("OUTR-0020", Exit::Unavailable, "no runtime is running here")
            .help("start one with `outrigger run`")
    })?;
    let lost = |reason: &dyn std::fmt::Display| {
        Failure::new(
            "OUTR-0020",
            Exit::Unavailable,
            format!("process {} does not answer", runtime.pid),
        )
        .why(reason)
    };
    let stream =
        UnixStream::connect(control::socket(&folder, runtime.pid)).await.map_err(|e| lost(&e))?;
    let (read, mut write) = stream.into_split();
    let question = Question::Tail { app: app_id, pubsub, topic };
    let mut question = serde_json::to_string(&question).map_err(|e| lost(&e))?;
    question.push('\n');
    write.write_all(question.as_bytes()).await.map_err(|e| lost(&e))?;
    let mut lines = BufReader::new(read).lines();
    let mut seen = 0;
    while count.is_none_or(|count| seen < count) {
        let Some(line) = lines.next_line().await.map_err(|e| lost(&e))? else {
            return Err(lost(&"the runtime has ended"));
        };
        let answer: Value = serde_json::from_str(&line).map_err(|e| lost(&e))?;
        if let Some(error) = answer.get("error").and_then(Value::as_str) {
            return Err(Failure::new("OUTR-0021", Exit::NotFound, error));
        }
        show(output.form, &answer);
        seen += 1;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(form: Form, answer: &Value) {
    match form {
        Form::Name => output::line(answer.get("id").and_then(Value::as_str).unwrap_or_default()),
        Form::Yaml => output::document(form, answer),
        // What people want to see is the event; one line each, so that `jq` can follow.
        Form::Table => {
            output::line(&answer.get("message").cloned().unwrap_or_default().to_string())
        }
        Form::Json | Form::Jsonl | Form::Env => output::line(&answer.to_string()),
    }
}
