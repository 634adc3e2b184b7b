//! Apps that the host calls: one that echoes over HTTP, one that answers over gRPC.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use outrigger_calls::AppProtocol;
use outrigger_kernel::{TaskHandle, World};
use outrigger_proto::{
    common::v1 as common,
    runtime::v1::{
        self as pb,
        app_callback_health_check_server::{AppCallbackHealthCheck, AppCallbackHealthCheckServer},
        app_callback_server::{AppCallback, AppCallbackServer},
    },
};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, sync::mpsc};
use tonic::{Status, body::Body};
use tower_service::Service;

/// A request as the app got it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: ::http::HeaderMap,
    pub(crate) body: Bytes,
}

/// An app that runs.
pub(crate) struct App {
    pub(crate) port: u16,
    pub(crate) protocol: AppProtocol,
    pub(crate) seen: Arc<Mutex<mpsc::UnboundedReceiver<Seen>>>,
    tasks: Arc<Tasks>,
}

struct Tasks(Mutex<Vec<TaskHandle>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.get_mut().unwrap().drain(..).for_each(TaskHandle::abort);
    }
}
