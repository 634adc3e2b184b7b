//! The door for other processes of this machine: a Unix socket that only this user can reach.
//!
//! What comes through it has been through an API of ours already, in the process of the caller: its policy, its headers,
//! its trace. So nothing of that happens a second time here; the call goes on to the app, by the app's own rules
//! ([`Relay`]).

use super::{Bounds, Connection, Listener, Serving, Tracked, builder};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, service::service_fn};
use outrigger_calls::{Body, Relay, body};
use outrigger_kernel::World;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// What a process of ours may do at once; more than any app is allowed, since it speaks for all of its own.
const BOUNDS: Bounds = Bounds {
    header_bytes: 1024 * 1024,
    streams: 4096,
    connections: 8192,
    unread: Duration::from_secs(60 * 60),
};

/// Serves calls of other processes to the apps of this one until `stop`, then drains for at most `drain`.
pub async fn serve_peers(
    relay: Arc<Relay>,
    world: Arc<dyn World>,
    listener: Listener,
    stop: CancellationToken,
    drain: Duration,
) {
    let builder = builder(&world, BOUNDS);
    let serving = Serving::new(Arc::clone(&world), drain, BOUNDS);
    let connect = |socket, connection: &Connection| {
        let (relay, pulse) = (Arc::clone(&relay), Arc::clone(&connection.pulse));
        let service = service_fn(move |request: Request<Incoming>| {
            let (relay, busy) = (Arc::clone(&relay), pulse.begin());
            async move {
                let answer = answer(&relay, request).await;
                Ok::<_, Infallible>(answer.map(|body| Tracked::new(body, busy)))
            }
        });
        builder.serve_connection(connection.io(socket), service).into_owned()
    };
    serving.run(listener, stop, "peer connection", connect).await;
}

async fn answer(relay: &Relay, request: Request<Incoming>) -> Response<Body> {
    if Relay::is_meant(request.headers()) {
        return relay.answer(request.map(body::streamed)).await;
    }
    // A person with curl: this is no API.
    let told = "This socket is for processes of Outrigger. The API is served at the ports that `outrigger list` shows.\n";
    let mut answer = Response::new(body::full(Bytes::from_static(told.as_bytes())));
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
}
