//! The port that a metrics collector asks.

use crate::metrics::{Metrics, TEXT_TYPE};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use outrigger_kernel::World;
use std::{convert::Infallible, pin::pin, sync::Arc};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

/// Most collectors at once.
const CONNECTIONS_MAX: usize = 64;

/// Serves `/metrics` (and `/`) until `stop`.
pub async fn serve_metrics(
    metrics: Arc<Metrics>,
    world: Arc<dyn World>,
    listener: TcpListener,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut stopped = pin!(stop.cancelled());
    loop {
        // The semaphore is never closed.
        let place = Arc::clone(&places).acquire_owned().await.ok();
        let accepted = tokio::select! {
            biased;
            () = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            world.sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let (metrics, stop) = (Arc::clone(&metrics), stop.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer(&metrics, &request);
            async move { Ok::<_, Infallible>(answer) }
        });
        let serving = hyper::server::conn::http1::Builder::new()
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream), service);
        let task = async move {
            let _place = place;
            tokio::select! {
                ended = serving => drop(ended),
                () = stop.cancelled() => {}
            }
        };
        let _task = world.spawn("metrics connection", Box::pin(task));
    }
}

fn answer(metrics: &Metrics, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let known = matches!(request.uri().path(), "/" | "/metrics");
    if !known || !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::NOT_FOUND;
        return answer;
    }
    let mut answer = Response::new(Full::new(Bytes::from(metrics.text())));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT_TYPE));
    answer
}
