//! The simplest servers that could answer: what the runtime is compared with, and the app behind it.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use tokio::{net::TcpListener, runtime::Builder};

/// `serve constant PORT`: every request is answered with the same 100 bytes, after its body was read. `serve nothing PORT`:
/// every request is answered with 204, after its body was read.
pub(crate) fn serve(arguments: &[String]) -> Result<()> {
    if arguments.first().is_some_and(|kind| kind == "sleepy" || kind == "relay") {
        return crate::field::listen(arguments);
    }
    let [kind, port] = arguments else { bail!("usage: serve constant|nothing PORT") };
    let quiet = match kind.as_str() {
        "constant" => false,
        "nothing" => true,
        _ => bail!("there is no server '{kind}'"),
    };
    let port: u16 = port.parse().context("not a port")?;
    Builder::new_multi_thread().enable_all().build()?.block_on(listen(port, quiet))
}

async fn listen(port: u16, quiet: bool) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(
                TokioIo::new(stream),
                service_fn(move |request| answer(request, quiet)),
            );
            // A client that goes away is no error of a benchmark server.
            drop(connection.await);
        });
    }
}

/// Reads what there is, frame by frame, and answers: the length of the body where there was one.
async fn answer(
    request: Request<Incoming>,
    quiet: bool,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let large = request.uri().path().strip_prefix("/large/").and_then(|n| n.parse::<usize>().ok());
    let mut received = 0;
    let mut body = request.into_body();
    while let Some(Ok(frame)) = body.frame().await {
        received += frame.data_ref().map_or(0, Bytes::len);
    }
    if quiet {
        let mut response = Response::new(Full::default());
        *response.status_mut() = http::StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let bytes = match (large, received) {
        (Some(length), _) => Bytes::from(vec![b'x'; length]),
        (None, 0) => Bytes::from_static(&[b'x'; 100]),
        (None, received) => Bytes::from(received.to_string()),
    };
    let mut response = Response::new(Full::new(bytes));
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    Ok(response)
}
