//! `outrigger state get|set|delete STORE KEY`: state, as the app beside the runtime sees it.

use super::{
    Context, Outcome,
    client::{TargetArgs, data, segment},
    output,
};
use crate::{
    failure::{Exit, Failure},
    world::RealWorld,
};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::{process::ExitCode, sync::Arc};

/// Read, write or delete state.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct StateArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Print the value of a key.
    Get {
        /// The store.
        store: String,
        /// The key.
        key: String,
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Set the value of a key.
    Set {
        /// The store.
        store: String,
        /// The key.
        key: String,
        /// The value: JSON or else text; @FILE, or - for stdin.
        value: String,
        /// Set it only while its etag is this.
        #[arg(long, value_name = "ETAG")]
        etag: Option<String>,
        /// Forget it after so many seconds.
        #[arg(long, value_name = "SECONDS")]
        ttl: Option<u32>,
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Delete a key.
    Delete {
        /// The store.
        store: String,
        /// The key.
        key: String,
        /// Delete it only while its etag is this.
        #[arg(long, value_name = "ETAG")]
        etag: Option<String>,
        #[command(flatten)]
        target: TargetArgs,
    },
}

pub(super) async fn run(args: StateArgs, context: Context, world: Arc<RealWorld>) -> Outcome {
    match args.verb {
        Verb::Get { store, key, target } => {
            let client = target.client(&context, &*world)?;
            let path = format!("/v1.0/state/{}/{}", segment(&store), segment(&key));
            let answer = client.send(Method::GET, &path, &[], Bytes::new()).await?;
            if answer.status == StatusCode::NO_CONTENT {
                return Err(Failure::new(
                    "OUTR-0022",
                    Exit::NotFound,
                    format!("{store} has no key {key:?}"),
                ));
            }
            output::raw(&answer.success(&format!("reading {key:?} of {store}"))?);
        }
        Verb::Set { store, key, value, etag, ttl, target } => {
            let client = target.client(&context, &*world)?;
            let given = data(&value)?;
            let value = serde_json::from_slice(&given)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&given).into_owned()));
            let mut item = json!({ "key": key, "value": value });
            if let Some(etag) = etag {
                item["etag"] = Value::String(etag);
                item["options"] = json!({ "concurrency": "first-write" });
            }
            if let Some(ttl) = ttl {
                item["metadata"] = json!({ "ttlInSeconds": ttl.to_string() });
            }
            let headers = [("content-type".to_owned(), "application/json".to_owned())];
            let path = format!("/v1.0/state/{}", segment(&store));
            let body = json!([item]).to_string().into();
            let answer = client.send(Method::POST, &path, &headers, body).await?;
            answer.success(&format!("setting {key:?} of {store}"))?;
        }
        Verb::Delete { store, key, etag, target } => {
            let client = target.client(&context, &*world)?;
            let headers: Vec<_> =
                etag.map(|etag| ("if-match".to_owned(), etag)).into_iter().collect();
            let path = format!("/v1.0/state/{}/{}", segment(&store), segment(&key));
            let answer = client.send(Method::DELETE, &path, &headers, Bytes::new()).await?;
            answer.success(&format!("deleting {key:?} of {store}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
