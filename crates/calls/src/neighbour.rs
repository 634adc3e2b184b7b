//! Apps that another process of this machine hosts: what travels between the two processes besides the request.
//!
//! ```text
//!   caller's process                                      owner's process
//!   Invoker -> AppChannel (a Unix socket) --request + passage--> Relay -> access list -> AppChannel -> app
//!                  ^---- answer, or why there is none ----------/
//! ```
//!
//! The owner has the last word on its app: its access list, its concurrency limit, its view of the app's health. So the
//! caller's process does not guess: it says who calls and by when, and gets an answer, or the reason why there is none
//! with the one thing that decides what happens next, whether the app can have seen anything.
//!
//! All of it travels in headers whose names begin with `outrigger-peer-`. Neither an app's request nor an app's answer
//! gets past us with such a header.

use crate::{
    Body, CallError, Caller, CanonicalPath, Directory, HeaderEdits, Invocation, Invoker, Patience,
    Target, body,
    grpc::{self, Code},
    outgoing::Outgoing,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request};
use outrigger_kernel::{Deadline, Kind, World};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use std::{fmt, io, sync::Arc, time::Duration};

const CALLEE: HeaderName = HeaderName::from_static("outrigger-peer-callee");
const CALLER: HeaderName = HeaderName::from_static("outrigger-peer-caller");
const OPERATION: HeaderName = HeaderName::from_static("outrigger-peer-operation");
const DUE: HeaderName = HeaderName::from_static("outrigger-peer-due");
const REFUSED: HeaderName = HeaderName::from_static("outrigger-peer-refused");
const REASON: HeaderName = HeaderName::from_static("outrigger-peer-reason");
static ALL: [HeaderName; 6] = [CALLEE, CALLER, OPERATION, DUE, REFUSED, REASON];

/// What is encoded in a value of ours: what cannot stand in a header, and what separates its parts.
const OUTSIDE_VALUE: &AsciiSet = &CONTROLS.add(b'%').add(b'/').add(b' ');
/// The longest reason that is passed on.
const REASON_BYTES_MAX: usize = 1024;
/// How long nothing may move on a call whose caller names no time. The caller's own process has stricter bounds, and
/// its end is the call's end; this is for one that neither ends nor reads.
const QUIET_MAX: Duration = Duration::from_secs(60 * 60);

/// An app of another process, and what to do when that process turns out to be gone.
pub struct Neighbour {
    callee: HeaderValue,
    on_gone: Box<dyn Fn() + Send + Sync>,
}

impl Neighbour {
    /// The app `app_id` of `namespace`. `on_gone` is run whenever a call finds nobody behind the socket.
    #[must_use]
    pub fn new(app_id: &str, namespace: &str, on_gone: impl Fn() + Send + Sync + 'static) -> Self {
        Self { callee: joined(&[namespace, app_id]), on_gone: Box::new(on_gone) }
    }

    /// Puts what the owner has to know into the request.
    pub(crate) fn dress(&self, outgoing: &mut Outgoing, patience: Patience, world: &dyn World) {
        let passage = outgoing.passage.clone();
        let headers = outgoing.headers_mut();
        strip(headers);
        headers.insert(CALLEE, self.callee.clone());
        let Passage { caller, operation } = passage.as_deref().unwrap_or(&Passage::NONE);
        if let Some(Caller { trust_domain, namespace, app_id }) = caller {
            headers.insert(CALLER, joined(&[trust_domain, namespace, app_id]));
        }
        if let Some(operation) = operation {
            headers.insert(OPERATION, joined(&[operation]));
        }
        if let Some(due) = patience.due() {
            let left = due.remaining(world.mono());
            headers.insert(
                DUE,
                HeaderValue::from(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            );
        }
    }

    /// An answer of the app, or what the owner says instead.
    pub(crate) fn undress(&self, mut answer: Response<Body>) -> Result<Response<Body>, CallError> {
        match refused(answer.headers()) {
            Some(error) => Err(error),
            None => {
                strip(answer.headers_mut());
                Ok(answer)
            }
        }
    }

    /// Looks whether a failure says that there is nobody any more. Answers that too, and says it in words that mean
    /// something to people.
    pub(crate) fn is_gone(&self, error: &mut CallError) -> bool {
        let CallError::Connect { source, target } = error else { return false };
        // A door that is closed, or no door at all, is proof; anything else (a full queue, no descriptors) is not.
        let gone =
            matches!(source.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound);
        if gone {
            "the runtime that hosts it, which is gone".clone_into(target);
            (self.on_gone)();
        }
        gone
    }
}

impl fmt::Debug for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Neighbour({:?})", self.callee)
    }
}

/// What the owner's access list will want to know.
#[derive(Clone, Debug)]
pub(crate) struct Passage {
    caller: Option<Caller>,
    operation: Option<String>,
}

impl Passage {
    const NONE: Self = Self { caller: None, operation: None };

    /// What `call` says; nothing where all who could take it are apps of this process.
    pub(crate) fn of(call: &Invocation<'_>) -> Option<Arc<Self>> {
        let Target::App(instances) = call.target else { return None };
        instances.has_neighbours().then(|| {
            let operation = call.operation.map(|path| path.as_str().to_owned());
            Arc::new(Self { caller: call.caller.cloned(), operation })
        })
    }
}

/// The owner's end: calls of other processes to the apps of this one.
#[derive(Debug)]
pub struct Relay {
    directory: Arc<Directory>,
    invoker: Arc<Invoker>,
}

impl Relay {
    /// To the apps that `directory` has of this process.
    #[must_use]
    pub fn new(directory: Arc<Directory>, invoker: Arc<Invoker>) -> Self {
        Self { directory, invoker }
    }

    /// Whether a request is one that came through [`Neighbour`].
    #[must_use]
    pub fn is_meant(headers: &HeaderMap) -> bool {
        headers.contains_key(CALLEE)
    }

    /// Passes a call of another process on to its app. There always is an answer; one that is not the app's says so
    /// where the caller's process looks.
    ///
    /// No policy is applied: the caller's process has applied it already.
    pub async fn answer(&self, request: Request<Body>) -> Response<Body> {
        match Box::pin(self.pass_on(request)).await {
            Ok(mut answer) => {
                strip(answer.headers_mut());
                answer
            }
            Err(error) => refusal(&error),
        }
    }

    async fn pass_on(&self, request: Request<Body>) -> Result<Response<Body>, CallError> {
        let (head, body) = request.into_parts();
        let Said { namespace, app_id, caller, operation, due } = said(&head)?;
        let target = Target::App(self.directory.hosted(&app_id, &namespace)?);
        let is_grpc = head
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        let path = match is_grpc {
            true => CanonicalPath::parse_grpc(head.uri.path())?,
            false => CanonicalPath::parse(head.uri.path())?,
        };
        let operation = operation.as_deref().map(CanonicalPath::parse).transpose()?;
        let patience = Patience::stream(QUIET_MAX);
        let patience = due.map_or(patience, |due| {
            patience.no_later_than(Deadline::after(self.invoker.world(), due))
        });
        let call = Invocation {
            target: &target,
            caller: caller.as_ref(),
            method: head.method,
            path: &path,
            operation: operation.as_ref(),
            query: head.uri.query(),
            headers: head.headers,
            edits: HeaderEdits { remove: &ALL, ..HeaderEdits::default() },
            body,
            policy: None,
            // Whoever calls waits for the app, not both.
            reconnect: None,
            patience,
            alternates: None,
        };
        if is_grpc { self.invoker.try_proxy(call).await } else { self.invoker.invoke(call).await }
    }
}

struct Said {
    namespace: String,
    app_id: String,
    caller: Option<Caller>,
    operation: Option<String>,
    due: Option<Duration>,
}

fn said(head: &request::Parts) -> Result<Said, CallError> {
    let bad = |name: &HeaderName| CallError::BadTarget {
        target: name.to_string(),
        reason: "a header between two processes of ours cannot be read",
    };
    let parts = |name: &HeaderName| match head.headers.get(name) {
        None => Ok(None),
        Some(value) => split(value).map(Some).ok_or_else(|| bad(name)),
    };
    let callee = parts(&CALLEE)?.and_then(|parts| <[String; 2]>::try_from(parts).ok());
    let [namespace, app_id] = callee.ok_or_else(|| bad(&CALLEE))?;
    let caller = match parts(&CALLER)? {
        None => None,
        Some(parts) => {
            let [trust_domain, namespace, app_id] =
                <[String; 3]>::try_from(parts).map_err(|_| bad(&CALLER))?;
            Some(Caller { app_id, namespace, trust_domain })
        }
    };
    let operation =
        head.headers.get(OPERATION).map(|value| whole(value).ok_or_else(|| bad(&OPERATION)));
    let due = head.headers.get(DUE).map(|value| {
        let millis = value.to_str().ok().and_then(|text| text.parse().ok());
        millis.map(Duration::from_millis).ok_or_else(|| bad(&DUE))
    });
    Ok(Said { namespace, app_id, caller, operation: operation.transpose()?, due: due.transpose()? })
}

fn joined(parts: &[&str]) -> HeaderValue {
    let encoded = parts.iter().map(|part| utf8_percent_encode(part, OUTSIDE_VALUE).to_string());
    HeaderValue::try_from(encoded.collect::<Vec<_>>().join("/"))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn split(value: &HeaderValue) -> Option<Vec<String>> {
    let text = value.to_str().ok()?;
    text.split('/')
        .map(|part| Some(percent_decode_str(part).decode_utf8().ok()?.into_owned()))
        .collect()
}

fn whole(value: &HeaderValue) -> Option<String> {
    Some(percent_decode_str(value.to_str().ok()?).decode_utf8().ok()?.into_owned())
}

/// Takes away what two processes tell each other.
pub(crate) fn strip(headers: &mut HeaderMap) {
    for name in &ALL {
        headers.remove(name);
    }
}

/// The kinds as they travel; a name is never used for another kind.
const KINDS: [(Kind, &str); 10] = [
    (Kind::Invalid, "invalid"),
    (Kind::NotFound, "not-found"),
    (Kind::Conflict, "conflict"),
    (Kind::Forbidden, "forbidden"),
    (Kind::NotConfigured, "not-configured"),
    (Kind::Unsupported, "unsupported"),
    (Kind::Exhausted, "exhausted"),
    (Kind::Timeout, "timeout"),
    (Kind::Unavailable, "unavailable"),
    (Kind::Internal, "internal"),
];

/// The owner's answer for a call that got none: kind, gRPC code, and whether the app can have seen anything.
fn refusal(error: &CallError) -> Response<Body> {
    let kind = error.kind();
    let name = KINDS.iter().find(|(known, _)| *known == kind).map_or("internal", |(_, name)| name);
    let seen = if error.nothing_sent() { "unseen" } else { "seen" };
    let verdict = format!("{name};{};{seen}", grpc::code(error).number());
    let reason = error.to_string();
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    let mut answer = Response::new(body::empty());
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    if let Ok(verdict) = HeaderValue::try_from(verdict) {
        answer.headers_mut().insert(REFUSED, verdict);
    }
    answer.headers_mut().insert(REASON, joined(&[reason]));
    answer
}

/// The error that a [`refusal`] stands for.
fn refused(headers: &HeaderMap) -> Option<CallError> {
    let verdict = headers.get(REFUSED)?.to_str().unwrap_or_default();
    let mut parts = verdict.split(';');
    let kind = parts.next().and_then(|name| KINDS.iter().find(|(_, known)| *known == name));
    let code = parts.next().and_then(|number| number.parse().ok()).and_then(Code::from_number);
    let nothing_sent = parts.next() == Some("unseen");
    let reason = headers.get(REASON).and_then(whole);
    Some(CallError::Relayed {
        kind: kind.map_or(Kind::Internal, |(kind, _)| *kind),
        code: code.unwrap_or(Code::Unknown),
        nothing_sent,
        reason: reason.unwrap_or_else(|| "the other process gave no reason".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::{CALLEE, joined, refusal, refused, split};
    use crate::{CallError, Phase, grpc::Code};
    use outrigger_kernel::Kind;

    #[test]
    fn names_survive_the_way() {
        for parts in [["", "shop"], ["a/b", "c%2Fd"], ["prod", "caf\u{e9} 1"]] {
            assert_eq!(split(&joined(&parts)).unwrap(), parts);
        }
        assert_eq!(CALLEE.as_str(), "outrigger-peer-callee");
    }

    #[test]
    fn a_refusal_is_the_error_that_it_stands_for() {
        let errors = [
            CallError::Unhealthy { app: "shop".to_owned() },
            CallError::NoEndpoint { app: "shop".to_owned() },
            CallError::Overloaded { target: "shop".to_owned(), limit: 1, waiting: 2 },
            CallError::Timeout { target: "shop".to_owned(), waiting_for: Phase::Answer },
            CallError::Broken { target: "x".to_owned(), nothing_sent: false, source: "y".into() },
        ];
        for error in errors {
            let told = refused(refusal(&error).headers()).unwrap();
            assert_eq!(told.kind(), error.kind());
            assert_eq!(told.nothing_sent(), error.nothing_sent());
            assert_eq!(crate::grpc::code(&told), crate::grpc::code(&error));
            assert_eq!(told.to_string(), error.to_string());
        }
        let odd = http::HeaderMap::from_iter([(
            super::REFUSED,
            http::HeaderValue::from_static("who;knows"),
        )]);
        let told = refused(&odd).unwrap();
        assert_eq!((told.kind(), told.nothing_sent()), (Kind::Internal, false));
        assert_eq!(crate::grpc::code(&told), Code::Unknown);
    }
}
