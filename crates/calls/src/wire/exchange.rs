//! One exchange on one connection.
//!
//! What may be sent a second time without anybody asking, because the first time did not count:
//!
//! | what happened | sent again |
//! |---|---|
//! | a connection from the shelf turned out closed before anything was written | yes, whatever the method |
//! | the same, after something was written, and no byte came back | if the method may be repeated (RFC 9110 9.2.2) |
//! | HTTP/2 said that it did not look at the stream (refused, or after a GOAWAY) | yes |
//! | a new connection failed | no: that is an error to report |
//!
//! All of it only if the body is still there, and only once.

use super::{
    line::{Answered, Line, LineBody, NoAnswer, UploadBody},
    pool::{Connection, Pool},
    session::{self, Session},
    silence::{Silence, unless_over},
};
use crate::{
    Body, BoxError, CallError, Patience, Phase, body,
    gate::Turn,
    headers::correct_length,
    outgoing::{Outgoing, Upload},
};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HOST},
    uri::{Authority, PathAndQuery, Scheme},
};
use std::sync::Arc;

/// How to go on after an exchange without an answer.
enum Next {
    /// Once more, on a new connection.
    Again,
    Fail(CallError),
}

impl Pool {
    /// Sends a request and waits for the headers of its answer. What was not sent stays in `outgoing`.
    pub(crate) async fn exchange(
        self: &Arc<Self>,
        outgoing: &mut Outgoing,
        patience: Patience,
        turn: Option<Turn>,
    ) -> Result<Response<Body>, CallError> {
        outgoing.tell_budget(&**self.world());
        let mut turn = turn;
        let mut fresh = false;
        let due = patience.due();
        loop {
            if due.is_some_and(|due| due.expired(self.world().mono())) {
                return Err(self.out_of_time(Phase::Turn));
            }
            let connection = self.connection(fresh, patience).await?;
            let again = match connection {
                Connection::Line(line, reused) => {
                    self.exchange_on_line(line, reused, outgoing, patience, &mut turn).await
                }
                Connection::Session(session) => {
                    self.exchange_on_session(&session, fresh, outgoing, patience, &mut turn).await
                }
            };
            match again {
                Ok(answer) => return Ok(answer),
                Err(Next::Fail(error)) => return Err(error),
                Err(Next::Again) => fresh = true,
            }
        }
    }

    async fn exchange_on_line(
        self: &Arc<Self>,
        line: Box<Line>,
        reused: bool,
        outgoing: &mut Outgoing,
        patience: Patience,
        turn: &mut Option<Turn>,
    ) -> Result<Response<Body>, Next> {
        let spare = if reused { outgoing.replay() } else { None };
        let meter = Arc::clone(&line.meter);
        let (read, written) = (meter.read(), meter.written());
        let request = self.request_for_line(outgoing);
        let upload = request.body().progress();
        let method = request.method().clone();
        let waiting = Silence::before_answer(patience);
        let exchanged =
            unless_over(&**self.world(), waiting, || meter.written(), line.exchange(request)).await;
        let failed = match exchanged {
            Err(_over) => return Err(Next::Fail(self.out_of_time(Phase::Answer))),
            Ok(Ok((answer, _))) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                return Err(Next::Fail(self.broken("it switched protocols unasked", false)));
            }
            Ok(Ok((answer, line))) => {
                let done = upload.is_none_or(|upload| upload.ended());
                let (mut head, incoming) = answer.into_parts();
                head.version = Version::HTTP_11;
                let patience = patience_for(&head.headers, patience);
                let turn = turn.take();
                let body = match LineBody::begin(incoming, line, done, patience, self, meter, turn)
                {
                    Answered::Whole(None) => body::empty(),
                    Answered::Whole(Some(content)) => body::full(content),
                    Answered::Streaming(rest) => Body::new(*rest),
                };
                return Ok(Response::from_parts(head, body));
            }
            Ok(Err(failed)) => failed,
        };
        if let Some(fault) = upload.and_then(|upload| upload.take_fault()) {
            return Err(Next::Fail(CallError::RequestBody(fault)));
        }
        let NoAnswer { error, request } = failed;
        let nothing_sent = request.is_some() || meter.written() == written;
        let repeatable = nothing_sent || (is_idempotent(&method) && meter.read() == read);
        let restored = match (request, spare) {
            (Some(request), _) => {
                let (head, body) = request.into_parts();
                outgoing.head = head;
                outgoing.upload = body.upload;
                true
            }
            (None, Some(spare)) if repeatable => {
                *outgoing = spare;
                true
            }
            _ => false,
        };
        if reused && restored {
            return Err(Next::Again);
        }
        Err(Next::Fail(self.broken(error, nothing_sent)))
    }

    fn request_for_line(&self, outgoing: &mut Outgoing) -> Request<UploadBody> {
        let upload = std::mem::replace(&mut outgoing.upload, Upload::Gone);
        let mut request = Request::new(UploadBody::new(upload));
        *request.method_mut() = outgoing.head.method.clone();
        *request.uri_mut() = origin_form(&outgoing.head.uri);
        *request.headers_mut() = std::mem::take(&mut outgoing.head.headers);
        let length = request.body().upload.length();
        let headers = request.headers_mut();
        headers.insert(HOST, self.authority().clone());
        correct_length(headers, length);
        request
    }

    fn broken(&self, error: impl Into<BoxError>, nothing_sent: bool) -> CallError {
        CallError::Broken { target: self.name().to_owned(), nothing_sent, source: error.into() }
    }

    async fn exchange_on_session(
        &self,
        session: &Session,
        fresh: bool,
        outgoing: &mut Outgoing,
        patience: Patience,
        turn: &mut Option<Turn>,
    ) -> Result<Response<Body>, Next> {
        let spare = (!fresh).then(|| (outgoing.head.headers.clone(), outgoing.upload.replay()));
        let head = self.request_for_session(outgoing).map_err(Next::Fail)?;
        let bodiless = *head.method() == Method::HEAD;
        let heard = session.heard();
        let began = session.begin(head, &mut outgoing.upload, self.world().mono()).await;
        let mut exchange = match began {
            Ok(exchange) => exchange,
            Err(error) => {
                // The connection takes no more streams; nothing of this one was sent.
                session.retire();
                return Err(self.after_refusal(error, spare, outgoing));
            }
        };
        let meter = Arc::clone(&exchange.meter);
        let waiting = Silence::before_answer(patience);
        let answered =
            unless_over(&**self.world(), waiting, || meter.written(), exchange.answer()).await;
        let answer = match answered {
            Err(_over) => {
                // If nothing at all was heard on this connection, the next call is better off on another.
                if session.heard() == heard {
                    session.retire();
                }
                return Err(Next::Fail(self.out_of_time(Phase::Answer)));
            }
            Ok(Err(session::NoAnswer::Upload(error))) => {
                return Err(Next::Fail(CallError::RequestBody(error)));
            }
            Ok(Err(session::NoAnswer::Stream(error))) if was_not_looked_at(&error) => {
                if error.is_go_away() {
                    session.retire();
                }
                if let Some(upload) = exchange.take_back_untouched() {
                    outgoing.upload = upload;
                }
                return Err(self.after_refusal(error, spare, outgoing));
            }
            Ok(Err(session::NoAnswer::Stream(error))) => {
                return Err(Next::Fail(self.broken(error, false)));
            }
            Ok(Ok(answer)) => answer,
        };
        let (mut head, recv) = answer.into_parts();
        // The version is the connection's, not the answer's, and would confuse whoever passes it on.
        head.version = Version::HTTP_11;
        let patience = patience_for(&head.headers, patience);
        let length = head.headers.get(CONTENT_LENGTH).filter(|_| !bodiless);
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        let turn = turn.take();
        let body = exchange.body(recv, length, patience, self.shared_name(), self.world(), turn);
        Ok(Response::from_parts(head, Body::new(body)))
    }

    fn request_for_session(&self, outgoing: &mut Outgoing) -> Result<Request<()>, CallError> {
        let mut request = Request::new(());
        *request.version_mut() = Version::HTTP_2;
        *request.method_mut() = outgoing.head.method.clone();
        let mut parts = origin_form(&outgoing.head.uri).into_parts();
        parts.scheme = Some(if self.is_secure() { Scheme::HTTPS } else { Scheme::HTTP });
        let bad = |_| CallError::BadTarget {
            target: self.name().to_owned(),
            reason: "its host cannot stand in a request",
        };
        parts.authority = Some(Authority::try_from(self.authority().as_bytes()).map_err(bad)?);
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| CallError::BadTarget {
            target: self.name().to_owned(),
            reason: "the path cannot stand in a request",
        })?;
        *request.headers_mut() = std::mem::take(&mut outgoing.head.headers);
        let headers = request.headers_mut();
        headers.remove(HOST);
        correct_length(headers, outgoing.upload.length());
        Ok(request)
    }

    /// A stream that the other side certainly did not look at: tried once more if its body is still there.
    fn after_refusal(
        &self,
        error: h2::Error,
        spare: Option<(HeaderMap, Option<Upload>)>,
        outgoing: &mut Outgoing,
    ) -> Next {
        if let Some((headers, upload)) = spare {
            outgoing.head.headers = headers;
            outgoing.upload =
                upload.unwrap_or(std::mem::replace(&mut outgoing.upload, Upload::Gone));
            if !matches!(outgoing.upload, Upload::Gone) {
                return Next::Again;
            }
        }
        Next::Fail(self.broken(error, true))
    }
}

fn origin_form(uri: &Uri) -> Uri {
    let root = || PathAndQuery::from_static("/");
    Uri::from(uri.path_and_query().cloned().unwrap_or_else(root))
}

/// Methods that mean the same done twice as done once.
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE]
        .contains(method)
}

/// The other side says that it did not process the stream.
fn was_not_looked_at(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (refused || error.is_go_away())
}

/// Streams of messages are silent when there is no message, which says little about whether they are alive.
fn patience_for(headers: &HeaderMap, patience: Patience) -> Patience {
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let quiet_by_nature =
        kind.starts_with(b"application/grpc") || kind.starts_with(b"text/event-stream");
    if quiet_by_nature { Patience { stall: patience.quiet, ..patience } } else { patience }
}
