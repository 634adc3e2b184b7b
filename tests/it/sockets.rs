//! Unix domain sockets in place of ports: `curl` over one, a gRPC client over the other.

use crate::curl::curl;
use anyhow::{Context, Result, ensure};
use dapr::dapr::proto::runtime::v1::{
    GetMetadataRequest, GetStateRequest, dapr_client::DaprClient,
};
use nix::sys::signal::Signal;
use outrigger_tests::{Answer, App, Folder, Start, eventually};
use std::{net::TcpStream, os::unix::fs::PermissionsExt, path::Path};
use tonic::transport::Endpoint;

/// Reads a key and asks for the app's id, over gRPC.
async fn over_grpc(socket: &Path) -> Result<(Vec<u8>, String)> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
    let mut client = DaprClient::new(endpoint.connect().await?);
    let (store_name, key) = ("statestore".to_owned(), "k".to_owned());
    let request = GetStateRequest { store_name, key, ..GetStateRequest::default() };
    let value = client.get_state(request).await?.into_inner().data;
    let metadata = client.get_metadata(GetMetadataRequest {}).await?.into_inner();
    Ok((value, metadata.id))
}

#[test]
fn http_and_grpc_over_unix_sockets() -> Result<()> {
    let app = App::start(|incoming| Answer::status(200).body(format!("saw {}", incoming.path)))?;
    let folder = Folder::new("sockets")?;
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path that is text");
    let sockets = text(folder.path())?;
    let start = |data: &Path| {
        Start::sidecar("local")
            .app_port(app.port)
            .components()
            .data(data)
            .flag("--unix-domain-socket", &sockets)
            .launch()
    };
    let data = Folder::new("sockets-data")?;
    let mut node = start(data.path())?;
    let http = folder.join("dapr-local-http.socket");
    let over_http = |arguments: &[&str], path: &str| {
        let socket = text(&http)?;
        let url = format!("http://localhost{path}");
        curl(&[&["--unix-socket", &socket], arguments, &[&url]].concat())
    };
    let status = ["--output", "/dev/null", "--write-out", "%{http_code}"];
    let ready = || over_http(&status, "/v1.0/healthz").ok().filter(|status| status == "204");
    eventually("the API on its socket", ready);
    let saving = [&status[..], &["-d", r#"[{"key":"k","value":"v"}]"#]].concat();
    let saved = over_http(&saving, "/v1.0/state/statestore")?;
    ensure!(saved == "204", "saving answered {saved}");
    let called = over_http(&[], "/v1.0/invoke/local/method/hello")?;
    ensure!(called == "saw /hello", "called {called}");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let read = || runtime.block_on(over_grpc(&folder.join("dapr-local-grpc.socket")));
    ensure!(read()? == (br#""v""#.to_vec(), "local".to_owned()), "over gRPC {:?}", read());

    // Others of this machine have no business there, and there is no port beside.
    let mode = std::fs::metadata(&http)?.permissions().mode();
    ensure!(mode & 0o007 == 0, "the socket is open to everybody: {mode:o}");
    for port in [node.ports.http, node.ports.grpc] {
        ensure!(TcpStream::connect(("127.0.0.1", port)).is_err(), "port {port} is open as well");
    }

    // A socket file that a killed runtime has left does not keep the next one from starting.
    node.signal(Signal::SIGKILL)?;
    node.wait(outrigger_tests::patience::SOON)?;
    ensure!(http.exists(), "SIGKILL cleans nothing up");
    let node = start(data.path())?;
    eventually("the API on its socket again", ready);
    ensure!(over_http(&[], "/v1.0/state/statestore/k")? == r#""v""#, "the state is gone");
    ensure!(read()?.0 == br#""v""#, "over gRPC the state is gone");
    node.assert_calm();
    Ok(())
}
