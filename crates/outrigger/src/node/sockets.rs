//! Everything one app's side listens on.

use crate::{
    failure::{Exit, Failure},
    node::Ports,
    ports::{Bound, Ours, WhenTaken, bind},
    settings::app::{AppSettings, Port},
};
use outrigger_api::Listener;
use std::{net::TcpListener, os::unix::fs::PermissionsExt, path::Path};

/// Everything an app listens on, bound before anything is served, so that a taken port stops the start cleanly.
pub(super) struct Sockets {
    pub(super) http: Vec<Listener>,
    pub(super) grpc: Vec<Listener>,
    pub(super) public: Option<Vec<Listener>>,
    pub(super) metrics: Option<Bound>,
    http_port: u16,
    grpc_port: u16,
    moved: Vec<String>,
}

impl Sockets {
    pub(super) fn open(
        settings: &AppSettings,
        when_taken: WhenTaken,
        ours: &Ours,
    ) -> Result<Self, Failure> {
        let ports = &settings.ports;
        let mut moved = Vec::new();
        let metrics = match &ports.metrics {
            Some(port) => Some(note(
                bind(&[ports.metrics_address], port, when_taken, ours)?,
                port,
                &mut moved,
            )),
            None => None,
        };
        let public = match &ports.public {
            Some(port) => {
                Some(listeners(bind(&[ports.public_address], port, when_taken, ours)?.sockets)?)
            }
            None => None,
        };
        if let Some(folder) = &ports.sockets {
            let http = unix(folder, &format!("dapr-{}-http.socket", settings.id))?;
            let grpc = unix(folder, &format!("dapr-{}-grpc.socket", settings.id))?;
            let (http, grpc) = (vec![http], vec![grpc]);
            return Ok(Self { http, grpc, public, metrics, http_port: 0, grpc_port: 0, moved });
        }
        let http =
            note(bind(&ports.addresses, &ports.http, when_taken, ours)?, &ports.http, &mut moved);
        let grpc =
            note(bind(&ports.addresses, &ports.grpc, when_taken, ours)?, &ports.grpc, &mut moved);
        Ok(Self {
            http_port: http.port,
            grpc_port: grpc.port,
            http: listeners(http.sockets)?,
            grpc: listeners(grpc.sockets)?,
            public,
            metrics,
            moved,
        })
    }

    pub(super) fn ports(&self) -> Ports {
        Ports {
            http: self.http_port,
            grpc: self.grpc_port,
            metrics: self.metrics.as_ref().map(|bound| bound.port),
            moved: self.moved.clone(),
        }
    }
}

fn note(bound: Bound, port: &Port, moved: &mut Vec<String>) -> Bound {
    if let Some((from, holder)) = &bound.moved_from {
        let who = holder.as_ref().map_or_else(|| "another process".to_owned(), ToString::to_string);
        moved.push(format!(
            "port {from} is held by {who}; using {} instead (--{} chooses)",
            bound.port, port.flag
        ));
    }
    bound
}

fn listeners(sockets: Vec<TcpListener>) -> Result<Vec<Listener>, Failure> {
    sockets.into_iter().map(|socket| to_tokio(socket).map(Listener::Tcp)).collect()
}

pub(super) fn to_tokio(socket: TcpListener) -> Result<tokio::net::TcpListener, Failure> {
    tokio::net::TcpListener::from_std(socket).map_err(|error| {
        Failure::new("OUTR-0005", Exit::Failed, "a port cannot be listened on").why(error)
    })
}

fn unix(folder: &Path, name: &str) -> Result<Listener, Failure> {
    let path = folder.join(name);
    let failed = |error: std::io::Error| {
        Failure::new("OUTR-0005", Exit::Failed, format!("cannot listen on {}", path.display()))
            .at("--unix-domain-socket")
            .why(error)
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    // A socket file left by a runtime that was killed answers nobody; one that answers belongs to somebody.
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(failed(std::io::Error::from(std::io::ErrorKind::AddrInUse)));
        }
        std::fs::remove_file(&path).map_err(failed)?;
    }
    let listener = tokio::net::UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(Listener::Unix(listener))
}
