//! The connections to one address, and one exchange on one of them.
//!
//! What may be sent a second time without anybody asking, because the first time did not count:
//!
//! | what happened | sent again |
//! |---|---|
//! | a connection from the shelf turned out closed before anything was written | yes, whatever the method |
//! | the same, after something was written, and no byte came back | if the method may be repeated (RFC 9110 9.2.2) |
//! | HTTP/2 said that it did not look at the stream (refused, or after a GOAWAY) | yes |
//! | a new connection failed | no: that is an error to report |

use super::{
    dial::{Address, Dialed, Dialer, Protocol},
    line::{Answered, Line, LineBody, NoAnswer, UploadBody},
    session::{self, Session},
    silence::{Over, Silence, unless_over},
    tls::Security,
};
use crate::{
    Body, CallError, Patience, Phase, body,
    gate::{Turn, patience_ends},
    headers::correct_length,
    outgoing::{Outgoing, Upload},
};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, Uri, Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HOST},
    uri::{Authority, PathAndQuery, Scheme},
};
use outrigger_kernel::{Mono, World, within};
use std::{
    collections::VecDeque,
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How connections are kept.
#[derive(Clone, Debug)]
pub(crate) struct PoolSettings {
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_for: Duration,
}

/// How many unused HTTP/1.1 connections are kept.
const IDLE_LINES_MAX: usize = 256;
/// How many HTTP/2 connections there are at most; more streams wait on the ones there are.
const SESSIONS_MAX: usize = 16;
/// A connection unused for longer than this is asked whether it is still there. On a busy one that would cost a system
/// call per request for nothing.
const ASK_AFTER: Duration = Duration::from_millis(2);

/// The connections to one address.
pub(crate) struct Pool {
    dialer: Dialer,
    name: Arc<str>,
    authority: HeaderValue,
    protocol: Protocol,
    idle_for: Duration,
    /// Unused lines, the one used last at the end.
    lines: Mutex<VecDeque<Box<Line>>>,
    sessions: Mutex<Vec<Session>>,
    /// Held while an HTTP/2 connection is made, so that a burst of calls makes one and not one each.
    dialing: tokio::sync::Mutex<()>,
    speaks_http1: AtomicBool,
    sweeping: AtomicBool,
    world: Arc<dyn World>,
    me: Weak<Pool>,
}

/// How to go on after an exchange without an answer.
enum Next {
    /// Once more, on a new connection.
    Again,
    Fail(CallError),
}

impl Pool {
    pub(crate) fn new(
        address: Address,
        protocol: Protocol,
        security: Security,
        settings: PoolSettings,
        world: Arc<dyn World>,
    ) -> Arc<Self> {
        let dialer = Dialer::new(address, protocol, security, settings.connect_timeout);
        Arc::new_cyclic(|me| Self {
            name: dialer.name().into(),
            authority: dialer.authority(),
            dialer,
            protocol,
            idle_for: settings.idle_for,
            lines: Mutex::default(),
            sessions: Mutex::default(),
            dialing: tokio::sync::Mutex::default(),
            speaks_http1: AtomicBool::new(protocol == Protocol::Http1),
            sweeping: AtomicBool::new(false),
            world,
            me: me.clone(),
        })
    }

    /// The address as errors and logs show it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn world(&self) -> &Arc<dyn World> {
        &self.world
    }

    /// Whether somebody listens.
    pub(crate) async fn knock(&self) -> io::Result<()> {
        self.dialer.knock(&*self.world).await
    }

    /// Sends a request and waits for the headers of its answer. What was not sent stays in `outgoing`.
    pub(crate) async fn exchange(
        &self,
        outgoing: &mut Outgoing,
        patience: Patience,
        turn: Option<Turn>,
    ) -> Result<Response<Body>, CallError> {
        outgoing.tell_budget(&*self.world);
        let mut turn = turn;
        let mut fresh = false;
        loop {
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

    // === connections ===

    async fn connection(&self, fresh: bool, patience: Patience) -> Result<Connection, CallError> {
        if !fresh && let Some(connection) = self.unused() {
            return Ok(connection);
        }
        let connecting = self.connect(fresh);
        match patience_ends(&*self.world, patience) {
            None => connecting.await,
            Some(deadline) => {
                let connected = within(&*self.world, deadline, connecting).await;
                connected.unwrap_or_else(|_| Err(self.out_of_time(Phase::Connection)))
            }
        }
    }

    fn unused(&self) -> Option<Connection> {
        if self.protocol != Protocol::Http2 {
            let line = lock(&self.lines).pop_back();
            if let Some(line) = line {
                let unused = self.world.mono().since(line.used);
                if unused < self.idle_for {
                    if unused > ASK_AFTER {
                        line.meter.ask_if_alive();
                    }
                    return Some(Connection::Line(line, true));
                }
                // The one used last is too old, so all are.
                lock(&self.lines).clear();
            }
        }
        if self.protocol == Protocol::Http1 {
            None
        } else {
            self.session().map(Connection::Session)
        }
    }

    /// The first session with room, or, when there can be no more of them, the least busy one.
    fn session(&self) -> Option<Session> {
        let mut sessions = lock(&self.sessions);
        sessions.retain(|session| !session.is_gone());
        let roomy = sessions.iter().find(|session| session.has_room());
        let crowded = || {
            let full = sessions.len() >= SESSIONS_MAX;
            sessions.iter().min_by_key(|session| session.streams()).filter(|_| full)
        };
        roomy.or_else(crowded).cloned()
    }

    fn is_full(&self) -> bool {
        lock(&self.sessions).len() >= SESSIONS_MAX
    }

    async fn connect(&self, fresh: bool) -> Result<Connection, CallError> {
        if self.speaks_http1.load(Ordering::Relaxed) {
            return self.open(self.dialer.dial(&*self.world).await?).await;
        }
        let before = self.world.mono();
        let _dialing = self.dialing.lock().await;
        // Somebody else may have made one while this call waited to.
        let young = |session: &Session| !fresh || session.opened() >= before;
        let made = self.session().filter(|session| young(session) || self.is_full());
        match made {
            Some(session) => Ok(Connection::Session(session)),
            None => self.open(self.dialer.dial(&*self.world).await?).await,
        }
    }

    async fn open(&self, dialed: Dialed) -> Result<Connection, CallError> {
        let broken = |source| CallError::Broken {
            target: self.name.to_string(),
            nothing_sent: true,
            source,
        };
        if dialed.http2 {
            let session = Session::open(dialed.io, &*self.world).await;
            let session = session.map_err(|error| broken(error.into()))?;
            lock(&self.sessions).push(session.clone());
            self.sweep_later();
            return Ok(Connection::Session(session));
        }
        self.speaks_http1.store(true, Ordering::Relaxed);
        let line = Line::open(dialed.io, self.world.mono()).await;
        Ok(Connection::Line(line.map_err(|error| broken(error.into()))?, false))
    }

    /// Puts a line aside for the next exchange, if there can be one.
    pub(super) fn take_back(&self, line: Option<Box<Line>>) {
        let Some(mut line) = line.and_then(Line::settle) else { return };
        line.used = self.world.mono();
        let mut lines = lock(&self.lines);
        if lines.len() < IDLE_LINES_MAX {
            lines.push_back(line);
        }
        drop(lines);
        self.sweep_later();
    }

    /// Sees to it that unused connections are closed in time, with one task while there are any.
    fn sweep_later(&self) {
        if self.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let (me, world, pause) = (Weak::clone(&self.me), Arc::clone(&self.world), self.idle_for);
        let sweep = async move {
            loop {
                world.sleep(pause).await;
                let Some(pool) = me.upgrade() else { return };
                if pool.sweep() {
                    return;
                }
            }
        };
        drop(self.world.spawn("calls: unused connections", Box::pin(sweep)));
    }

    /// Closes what was unused for too long; true when nothing is left to look after.
    fn sweep(&self) -> bool {
        let now = self.world.mono();
        let stale = |used: Mono| now.since(used) >= self.idle_for;
        let mut lines = lock(&self.lines);
        lines.retain(|line| !stale(line.used));
        let mut sessions = lock(&self.sessions);
        sessions.retain(|s| !s.is_gone() && (s.streams() > 0 || !stale(s.used())));
        let empty = lines.is_empty() && sessions.is_empty();
        if empty {
            self.sweeping.store(false, Ordering::Release);
        }
        empty
    }

    // === one exchange ===

    async fn exchange_on_line(
        &self,
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
            unless_over(&*self.world, waiting, || meter.beat(), line.exchange(request)).await;
        let failed = match exchanged {
            Err(_over) => return Err(Next::Fail(self.out_of_time(Phase::Answer))),
            Ok(Ok((answer, line))) => {
                let done = upload.is_none_or(|upload| upload.ended());
                let (mut head, incoming) = answer.into_parts();
                head.version = Version::HTTP_11;
                let patience = patience_for(&head.headers, patience);
                let Some(me) = self.me.upgrade() else {
                    return Err(Next::Fail(self.out_of_time(Phase::Connection)));
                };
                let turn = turn.take();
                let body = match LineBody::begin(incoming, line, done, patience, &me, meter, turn) {
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
        Err(Next::Fail(self.no_answer(error, nothing_sent)))
    }

    fn request_for_line(&self, outgoing: &mut Outgoing) -> Request<UploadBody> {
        let upload = std::mem::replace(&mut outgoing.upload, Upload::Gone);
        let mut request = Request::new(UploadBody::new(upload));
        *request.method_mut() = outgoing.head.method.clone();
        *request.uri_mut() = origin_form(&outgoing.head.uri);
        *request.headers_mut() = std::mem::take(&mut outgoing.head.headers);
        let length = request.body().upload.length();
        let headers = request.headers_mut();
        headers.insert(HOST, self.authority.clone());
        correct_length(headers, length);
        request
    }

    fn no_answer(&self, error: hyper::Error, nothing_sent: bool) -> CallError {
        let target = self.name.to_string();
        CallError::Broken { target, nothing_sent, source: error.into() }
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
        let began = session.begin(head, &mut outgoing.upload, self.world.mono()).await;
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
        let answered = unless_over(&*self.world, waiting, || meter.beat(), exchange.answer()).await;
        let answer = match answered {
            Err(Over::Silent(_) | Over::Deadline) => {
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
                let target = self.name.to_string();
                let source = error.into();
                return Err(Next::Fail(CallError::Broken { target, nothing_sent: false, source }));
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
        let body = exchange.body(recv, length, patience, &self.name, &self.world, turn);
        Ok(Response::from_parts(head, Body::new(body)))
    }

    fn request_for_session(&self, outgoing: &mut Outgoing) -> Result<Request<()>, CallError> {
        let mut request = Request::new(());
        *request.version_mut() = Version::HTTP_2;
        *request.method_mut() = outgoing.head.method.clone();
        let mut parts = origin_form(&outgoing.head.uri).into_parts();
        parts.scheme = Some(if self.dialer.secure() { Scheme::HTTPS } else { Scheme::HTTP });
        let bad = |_| CallError::BadTarget {
            target: self.name.to_string(),
            reason: "its host cannot stand in a request",
        };
        parts.authority = Some(Authority::try_from(self.authority.as_bytes()).map_err(bad)?);
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| CallError::BadTarget {
            target: self.name.to_string(),
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
        let target = self.name.to_string();
        Next::Fail(CallError::Broken { target, nothing_sent: true, source: error.into() })
    }

    fn out_of_time(&self, waiting_for: Phase) -> CallError {
        CallError::Timeout { target: self.name.to_string(), waiting_for }
    }
}

enum Connection {
    Line(Box<Line>, bool),
    Session(Session),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Streams of messages are silent when there is no message; that says nothing about whether they are alive.
fn patience_for(headers: &HeaderMap, patience: Patience) -> Patience {
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let quiet_by_nature =
        kind.starts_with(b"application/grpc") || kind.starts_with(b"text/event-stream");
    if quiet_by_nature { Patience { stall: None, ..patience } } else { patience }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({})", self.name)
    }
}
