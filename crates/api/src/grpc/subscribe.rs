//! The rpc by which an app opens a subscription of its own: the stream's plumbing.
//!
//! ```text
//!   app: initial_request -->              <-- initial_response
//!                                         <-- event_message (id)
//!   app: event_processed (id, status) -->
//! ```
//!
//! What a subscription is and what becomes of events nobody answered is `deliver`'s business; here messages are moved.
//! The stream ends when either side ends it, or the port stops.

use super::{Context, service::failed};
use crate::{
    components::PubsubComponent,
    deliver::{Events as Incoming, Judge, StreamOpening, StreamRefused},
    errors::{Entry, Fault, catalogue},
    host::Host,
};
use futures_util::{Stream, StreamExt, stream};
use outrigger_kernel::{Deadline, within};
use outrigger_proto::runtime::v1::{
    self as pb, subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType as Said,
    subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType as Told,
};
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

type Message = pb::SubscribeTopicEventsResponseAlpha1;

/// What the app hears.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

/// How long an app may take to say what it wants.
const OPENING_MAX: Duration = Duration::from_secs(30);

/// What all streams of a port have in common.
#[derive(Clone)]
pub(crate) struct Streams {
    stop: CancellationToken,
}

impl Streams {
    /// Streams that end at `stop`.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self { stop }
    }
}

/// Opens a subscription: the answer is the stream of its events.
pub(super) async fn open(
    host: Arc<Host>,
    _context: Context,
    streams: Streams,
    request: Request<Streaming<pb::SubscribeTopicEventsRequestAlpha1>>,
) -> Result<Response<Events>, Status> {
    let mut incoming = request.into_inner();
    let (pubsub, opening) = initial(&host, &mut incoming).await?;
    let component = find(&host, &pubsub).map_err(|fault| failed(&host, "pubsub", fault))?;
    let opened = host.subscriptions.open_stream(component, opening).await;
    let opened = opened.map_err(|why| failed(&host, "pubsub", refused(&pubsub, &why)))?;
    tracing::info!(app_id = &*host.app_id, pubsub, "the app has opened a stream of events");
    let (events, judge) = opened.split();
    let listening = Box::pin(listen(incoming, judge, streams.stop.clone()));
    let _task = host.world.spawn("event stream", listening);
    Ok(Response::new(tell(events, streams.stop)))
}

/// What the app wants: the first message of its stream.
async fn initial(
    host: &Host,
    incoming: &mut Streaming<pb::SubscribeTopicEventsRequestAlpha1>,
) -> Result<(String, StreamOpening), Status> {
    let deadline = Deadline::after(&*host.world, OPENING_MAX);
    let first = within(&*host.world, deadline, incoming.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no initial request came"))??;
    let said = first.and_then(|message| message.subscribe_topic_events_request_type);
    let Some(Said::InitialRequest(initial)) = said else {
        return Err(Status::invalid_argument("a stream begins with its initial request"));
    };
    let opening = StreamOpening {
        topic: initial.topic,
        metadata: initial.metadata,
        dead_letter_topic: initial.dead_letter_topic.filter(|topic| !topic.is_empty()),
    };
    Ok((initial.pubsub_name, opening))
}

fn find(host: &Host, pubsub: &str) -> Result<Arc<PubsubComponent>, Fault> {
    let refuse = |entry: &'static Entry, message: String| {
        Fault::new(entry, message).about("pubsub", pubsub, true)
    };
    if pubsub.is_empty() {
        return Err(refuse(&catalogue::PUBSUB_EMPTY, "pubsub name is empty".to_owned()));
    }
    let components = host.components.load();
    let component = components.pubsub.get(pubsub).cloned();
    component.ok_or_else(|| {
        refuse(&catalogue::PUBSUB_NOT_FOUND, format!("pubsub {pubsub} is not found"))
    })
}

fn refused(pubsub: &str, why: &StreamRefused) -> Fault {
    let entry = match why {
        StreamRefused::NoTopic => &catalogue::TOPIC_EMPTY,
        StreamRefused::Forbidden { .. } => &catalogue::PUBSUB_FORBIDDEN,
        StreamRefused::TooMany | StreamRefused::Stopping | StreamRefused::Broker(_) => {
            &catalogue::PUBSUB_SUBSCRIBE
        }
    };
    Fault::new(entry, why.to_string()).about("pubsub", pubsub, true)
}

/// Takes the app's answers until it goes or the port stops. With the judge goes the subscription.
async fn listen(
    mut incoming: Streaming<pb::SubscribeTopicEventsRequestAlpha1>,
    judge: Judge,
    stop: CancellationToken,
) {
    loop {
        let message = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            message = incoming.message() => message,
        };
        let Ok(Some(message)) = message else { return };
        match message.subscribe_topic_events_request_type {
            Some(Said::EventProcessed(processed)) => {
                // No status is protobuf's way of writing the first one: success.
                let status = processed.status.unwrap_or_default().status;
                if !judge.settle(&processed.id, status) {
                    tracing::debug!(
                        id = processed.id,
                        "nobody waits for the answer to this event any more"
                    );
                }
            }
            Some(Said::InitialRequest(_)) | None => {
                tracing::debug!("a message without an answer on a stream of events is ignored");
            }
        }
    }
}

/// The opening's answer, then the events.
fn tell(events: Incoming, stop: CancellationToken) -> Events {
    let opened = Told::InitialResponse(pb::SubscribeTopicEventsResponseInitialAlpha1 {});
    let opened = stream::once(std::future::ready(opened));
    let all = opened
        .chain(events.map(Told::EventMessage))
        .map(|told| Ok(Message { subscribe_topic_events_response_type: Some(told) }));
    Box::pin(all.take_until(stop.cancelled_owned()))
}
