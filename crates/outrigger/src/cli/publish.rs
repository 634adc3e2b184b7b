//! `outrigger publish PUBSUB TOPIC DATA`: one event.

use super::{
    Context, Outcome,
    client::{TargetArgs, content_type, data, segment},
    output,
};
use crate::world::RealWorld;
use http::Method;
use std::{process::ExitCode, sync::Arc};

/// Publish an event.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct PublishArgs {
    /// The broker.
    #[arg(value_name = "PUBSUB", required_unless_present = "pubsub")]
    pubsub_word: Option<String>,
    /// The topic.
    #[arg(value_name = "TOPIC", required_unless_present = "topic")]
    topic_word: Option<String>,
    /// The event: text, @FILE, or - for stdin.
    #[arg(value_name = "DATA")]
    data_word: Option<String>,
    /// The broker, as the reference's CLI names it.
    #[arg(short = 'p', long, conflicts_with = "pubsub_word", hide = true)]
    pubsub: Option<String>,
    /// The topic, as the reference's CLI names it.
    #[arg(short = 't', long, conflicts_with = "topic_word", hide = true)]
    topic: Option<String>,
    /// The event, as the reference's CLI names it.
    #[arg(short = 'd', long, conflicts_with = "data_word", hide = true)]
    data: Option<String>,
    /// Metadata of the request, `name=value`; repeatable.
    #[arg(short = 'm', long = "metadata", value_name = "NAME=VALUE")]
    metadata: Vec<String>,
    /// The content type [default: JSON when it is JSON, else text].
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Publish as this app, as the reference's CLI names it.
    #[arg(short = 'i', long = "publish-app-id", value_name = "APP", hide = true)]
    publish_app: Option<String>,
    #[command(flatten)]
    target: TargetArgs,
}

pub(super) async fn run(args: PublishArgs, context: Context, world: Arc<RealWorld>) -> Outcome {
    let app_id = args.publish_app.or(args.target.app_id);
    let client = TargetArgs { app_id, ..args.target }.client(&context, &*world)?;
    // `dapr publish --pubsub p --topic t` leaves no words for the first two places.
    let named = args.pubsub.is_some() && args.topic.is_some();
    let event =
        args.data.or(args.data_word).or(if named { args.pubsub_word.clone() } else { None });
    let body = event.as_deref().map(data).transpose()?.unwrap_or_default();
    let pubsub = args.pubsub.or(args.pubsub_word).unwrap_or_default();
    let topic = args.topic.or(args.topic_word).unwrap_or_default();
    let kind = args.content_type.unwrap_or_else(|| content_type(&body).to_owned());
    let query: Vec<String> = args
        .metadata
        .iter()
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            format!("metadata.{}={}", segment(name), segment(value))
        })
        .collect();
    let mark = if query.is_empty() { "" } else { "?" };
    // A topic may hold slashes; everything else is one segment.
    let topic_path: Vec<String> = topic.split('/').map(segment).collect();
    let path = format!(
        "/v1.0/publish/{}/{}{mark}{}",
        segment(&pubsub),
        topic_path.join("/"),
        query.join("&")
    );
    let headers = [("content-type".to_owned(), kind)];
    let answer = client.send(Method::POST, &path, &headers, body).await?;
    answer.success(&format!("publishing to {topic} of {pubsub}"))?;
    if context.name == super::Name::Dapr {
        output::note("Event published successfully");
    }
    Ok(ExitCode::SUCCESS)
}
