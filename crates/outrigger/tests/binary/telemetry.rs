//! Spans reach a collector; metrics can be scraped.

use crate::harness::{PATIENCE, Place, free_port, http, set, spawn};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use std::sync::mpsc::{Receiver, Sender, channel};
use tonic::{Request, Response, Status, async_trait};

struct Collector(Sender<ExportTraceServiceRequest>);

#[async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        // A test that has ended does not listen any more.
        drop(self.0.send(request.into_inner()));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector that hands on what it gets.
fn collector() -> (u16, Receiver<ExportTraceServiceRequest>) {
    let (send, receive) = channel();
    let port = free_port();
    let serve = async move {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let service = TowerToHyperService::new(TraceServiceServer::new(Collector(send)));
        let executor = hyper_util::rt::TokioExecutor::new();
        while let Ok((stream, _)) = listener.accept().await {
            let builder = hyper::server::conn::http2::Builder::new(executor.clone());
            // How the exporter ends its connection is its own business.
            drop(builder.serve_connection(TokioIo::new(stream), service.clone()).await);
        }
    };
    spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(serve);
    });
    (port, receive)
}

#[test]
fn a_request_becomes_a_span_of_its_trace() {
    let place = Place::new();
    let (collector, spans) = collector();
    let port = free_port().to_string();
    let mut command = place.command(&[
        "sidecar",
        "--app-id",
        "shop",
        "--ephemeral",
        "--dapr-http-port",
        &port,
        "--dapr-grpc-port",
        "0",
        "--metrics-port",
        "0",
    ]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{collector}"));
    let mut running = crate::harness::start(command);
    running.until("dapr initialized");
    assert_eq!(set(port.parse().unwrap(), "k", "1"), 204);
    // The drain flushes: nothing is lost with the process.
    assert_eq!(running.stop().0, 0);
    let request = spans.recv_timeout(PATIENCE).unwrap();
    let resource = &request.resource_spans[0];
    let service = format!("{:?}", resource.resource);
    assert!(service.contains("service.name") && service.contains("shop"), "{service}");
    let span = &resource.scope_spans[0].spans[0];
    assert!(span.name.contains("SaveState"), "{}", span.name);
    assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
}

#[test]
fn metrics_are_served_and_can_be_switched_off() {
    let place = Place::new();
    let port = free_port();
    let text = port.to_string();
    let (running, api) = place.sidecar(&["--ephemeral", "--metrics-port", &text]);
    assert_eq!(set(api, "k", "1"), 204);
    let answer = http(port, "GET", "/metrics", "");
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("dapr_http_server_request_count"), "{}", answer.body);
    assert!(answer.body.contains(r#"app_id="app""#), "{}", answer.body);
    drop(running);
    let (_running, _) =
        place.sidecar(&["--ephemeral", "--metrics-port", &text, "--enable-metrics=false"]);
    assert!(crate::harness::try_http(port, "GET", "/metrics", "").is_none());
}
