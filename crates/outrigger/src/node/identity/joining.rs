//! Asking an authority on another host: the first time with a token, later with the certificate that it gave.

use http::{Method, Request, Uri};
use outrigger_calls::{AppChannel, ClientTls, PeerPlace, body};
use outrigger_identity::{
    AUTHORITY_NAME, Credentials, ENROL_PATH, EnrolAnswer, EnrolRequest, JoinToken, KeyRequest,
    MESSAGE_BYTES_MAX, Refused, Workload, joining,
};
use outrigger_kernel::{Deadline, World, within};
use prost::Message;
use rustls::ClientConfig;
use std::{sync::Arc, time::Duration};

/// How long an authority may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why there is no certificate.
#[derive(Debug)]
pub(crate) enum NotJoined {
    /// Asking again leads to the same.
    Refused(String),
    /// The authority did not answer.
    Away(String),
}

impl std::fmt::Display for NotJoined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(reason) => f.write_str(reason),
            Self::Away(reason) => write!(f, "the authority does not answer: {reason}"),
        }
    }
}

impl From<Refused> for NotJoined {
    fn from(refused: Refused) -> Self {
        Self::Refused(format!("{refused} ({}); {}", refused.code(), refused.remedy()))
    }
}

/// Where the authority is.
pub(crate) type At = (String, u16);

/// An authority's place in the store.
pub(crate) fn address((host, port): &At) -> String {
    format!("{host}:{port}")
}

/// Joins with a token. Asked again with the same `key` while the token's time lasts, an authority answers again: an
/// answer that was lost costs nothing.
pub(crate) async fn join(
    at: &At,
    token: &str,
    key: KeyRequest,
    app: (&str, &str),
    world: &Arc<dyn World>,
) -> Result<Credentials, NotJoined> {
    let token = JoinToken::parse(token)?;
    let tls = joining(&token, Arc::clone(world))?;
    ask(at, tls, (token.secret().to_vec(), key), app, world).await
}

/// Renews what `workload` has.
pub(crate) async fn renew(
    at: &At,
    workload: &Arc<Workload>,
    world: &Arc<dyn World>,
) -> Result<Credentials, NotJoined> {
    let identity = workload.identity();
    let app = (identity.namespace(), identity.app_id());
    ask(at, workload.renewing()?, (Vec::new(), KeyRequest::new(None)?), app, world).await
}

async fn ask(
    (host, port): &At,
    tls: ClientConfig,
    (secret, key): (Vec<u8>, KeyRequest),
    (namespace, app_id): (&str, &str),
    world: &Arc<dyn World>,
) -> Result<Credentials, NotJoined> {
    let away = |error: &dyn std::fmt::Display| NotJoined::Away(error.to_string());
    let tls = ClientTls::mutual(tls, AUTHORITY_NAME).map_err(|error| away(&error))?;
    let place = PeerPlace { host: host.clone(), port: *port };
    let channel = AppChannel::secured(place, tls, Arc::clone(world));
    let asked = EnrolRequest {
        secret,
        key_request: key.request().to_vec(),
        namespace: namespace.to_owned(),
        app_id: app_id.to_owned(),
    };
    let mut request = Request::new(body::full(asked.encode_to_vec()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(ENROL_PATH);
    let deadline = Deadline::after(&**world, ANSWER_WITHIN);
    let answer = channel.send(request, deadline).await.map_err(|error| {
        let told = error.to_string();
        // Somebody answers, and is not the authority.
        if told.contains("ERR_IDENTITY_") { NotJoined::Refused(told) } else { away(&error) }
    })?;
    let read = body::collect(answer.into_body(), MESSAGE_BYTES_MAX);
    let read = within(&**world, deadline, read).await;
    let read = read.map_err(|_| away(&"it took too long"))?.map_err(|error| away(&error))?;
    let answer = EnrolAnswer::decode(read);
    let answer = answer.map_err(|_| away(&"what it says is not an answer"))?;
    match answer.code.as_str() {
        "" => Ok(key.answered(answer, namespace, app_id)?),
        "ERR_IDENTITY_UNAVAILABLE" => Err(away(&answer.message)),
        code => Err(NotJoined::Refused(format!("{} ({code})", answer.message))),
    }
}
