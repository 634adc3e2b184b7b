//! An app with the official Rust client: a gRPC app that is delivered to and called, and a gRPC client.
//!
//! The client's own callback service has no method calls, so calls are checked against an HTTP method of the peer named
//! by `PEER_APP_ID` where there is one.

use dapr::{
    appcallback::{
        AppCallbackService, Handler, HandlerMethod, TopicEventRequest, TopicEventResponse,
    },
    client::{Client, Etag, StateOptions, TonicClientWithAuth},
    dapr::proto::runtime::v1::app_callback_server::AppCallbackServer,
};
use prost_types::Any;
use std::{
    future::Future,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tonic::{Response, Status, transport::Server};

type Dapr = Client<TonicClientWithAuth>;
type Outcome = Result<(), Box<dyn std::error::Error>>;

const STORE: &str = "statestore";
const PUBSUB: &str = "pubsub";

static ARRIVED: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
static FAILED: AtomicUsize = AtomicUsize::new(0);

struct OnTopic;

#[tonic::async_trait]
impl HandlerMethod for OnTopic {
    async fn handler(
        &self,
        request: TopicEventRequest,
    ) -> Result<Response<TopicEventResponse>, Status> {
        ARRIVED.lock().unwrap_or_else(PoisonError::into_inner).push(request.data);
        Ok(Response::new(TopicEventResponse { status: 0 }))
    }
}

#[expect(clippy::print_stdout, reason = "the app's checks are lines on its standard output")]
async fn check(name: &str, work: impl Future<Output = Outcome>) {
    match work.await {
        Ok(()) => println!("check {name} ok"),
        Err(error) => {
            FAILED.fetch_add(1, Ordering::SeqCst);
            println!("check {name} FAILED: {error}");
        }
    }
}

fn ensure(condition: bool, what: &str) -> Outcome {
    if condition { Ok(()) } else { Err(what.into()) }
}

#[tokio::main]
async fn main() -> ExitCode {
    if let Err(error) = run().await {
        check("start", async { Err(error) }).await;
    }
    ExitCode::from(u8::from(FAILED.load(Ordering::SeqCst) > 0))
}

#[expect(clippy::disallowed_methods, reason = "an app is a program of its own")]
async fn run() -> Outcome {
    let mut callbacks = AppCallbackService::new();
    callbacks.add_handler(Handler {
        pub_sub_name: PUBSUB.to_owned(),
        topic: "rs-topic".to_owned(),
        handler: Box::new(OnTopic),
    });
    let address = format!("127.0.0.1:{}", std::env::var("APP_PORT")?).parse()?;
    let serving = Server::builder().add_service(AppCallbackServer::new(callbacks)).serve(address);
    drop(tokio::spawn(serving));
    let mut dapr = connect().await?;
    check("state.save_get", save_and_get(&mut dapr)).await;
    check("state.etag", etag(&mut dapr)).await;
    check("state.delete", delete(&mut dapr)).await;
    check("publish.deliver", publish(&mut dapr)).await;
    check("metadata.read", metadata(&mut dapr)).await;
    if let Ok(peer) = std::env::var("PEER_APP_ID") {
        check("invoke.peer", invoke(&mut dapr, &peer)).await;
    }
    Ok(())
}

/// The runtime may still be starting; the client itself does not try again.
async fn connect() -> Result<Dapr, Box<dyn std::error::Error>> {
    let mut last = None;
    for _ in 0..300 {
        match Dapr::new().await {
            Ok(client) => return Ok(client),
            Err(error) => last = Some(error),
        }
        pause().await;
    }
    Err(last.map_or_else(|| "never tried".into(), Into::into))
}

#[expect(clippy::disallowed_methods, reason = "an app is a program of its own")]
async fn pause() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn save_and_get(dapr: &mut Dapr) -> Outcome {
    dapr.save_state(STORE, "rs-key", b"{\"n\":1}".to_vec(), None, None, None).await?;
    let got = dapr.get_state(STORE, "rs-key", None).await?;
    ensure(got.data == b"{\"n\":1}", "another value")?;
    ensure(!got.etag.is_empty(), "no etag")
}

async fn etag(dapr: &mut Dapr) -> Outcome {
    dapr.save_state(STORE, "rs-etag", b"one".to_vec(), None, None, None).await?;
    let value = dapr.get_state(STORE, "rs-etag", None).await?.etag;
    let first_write = Some(StateOptions { concurrency: 1, consistency: 0 });
    let etag = Some(Etag { value });
    dapr.save_state(STORE, "rs-etag", b"two".to_vec(), etag.clone(), None, first_write).await?;
    let stale = dapr.save_state(STORE, "rs-etag", b"3".to_vec(), etag, None, first_write).await;
    ensure(stale.is_err(), "a stale etag was accepted")?;
    ensure(dapr.get_state(STORE, "rs-etag", None).await?.data == b"two", "another value")
}

async fn delete(dapr: &mut Dapr) -> Outcome {
    dapr.save_state(STORE, "rs-delete", b"x".to_vec(), None, None, None).await?;
    dapr.delete_state(STORE, "rs-delete", None).await?;
    ensure(dapr.get_state(STORE, "rs-delete", None).await?.data.is_empty(), "still there")
}

async fn publish(dapr: &mut Dapr) -> Outcome {
    let data = b"{\"id\":1}".to_vec();
    dapr.publish_event(PUBSUB, "rs-topic", "application/json", data.clone(), None).await?;
    for _ in 0..600 {
        if ARRIVED.lock().unwrap_or_else(PoisonError::into_inner).contains(&data) {
            return Ok(());
        }
        pause().await;
    }
    Err("waited in vain for the event".into())
}

async fn metadata(dapr: &mut Dapr) -> Outcome {
    let got = dapr.get_metadata().await?;
    ensure(format!("{got:?}").contains(STORE), "the store is missing")
}

async fn invoke(dapr: &mut Dapr, peer: &str) -> Outcome {
    let data = || Some(Any { type_url: String::new(), value: b"{\"n\":8}".to_vec() });
    let mut last = None;
    for _ in 0..300 {
        match dapr.invoke_service(peer, "echo", data()).await {
            Ok(answer) => {
                let text = answer.data.map(|data| data.value).unwrap_or_default();
                let text = String::from_utf8_lossy(&text).replace(' ', "");
                return ensure(text.contains("{\"echo\":{\"n\":8}}"), &text);
            }
            // Still starting.
            Err(error) => last = Some(error),
        }
        pause().await;
    }
    Err(last.map_or_else(|| "never tried".into(), Into::into))
}
