//! The connections to one address: those in use, those put aside, and when a new one is made.

use super::{
    dial::{Address, Dialed, Dialer, Protocol},
    line::Line,
    session::Session,
    tls::Security,
};
use crate::{CallError, Patience, Phase};
use http::HeaderValue;
use outrigger_kernel::{Deadline, Mono, World, within};
use std::{
    collections::VecDeque,
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
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

/// For how long others are preferred after a connection that did not come up: at first, and after many.
const AWAY_MIN: Duration = Duration::from_secs(1);
const AWAY_MAX: Duration = Duration::from_secs(15);

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
    /// Until when it counts as away, and how often in a row no connection came up.
    away_until: AtomicU64,
    failures: AtomicU32,
    sweeping: AtomicBool,
    world: Arc<dyn World>,
}

/// A connection for one exchange.
pub(super) enum Connection {
    /// An HTTP/1.1 connection, and whether it was used before.
    Line(Box<Line>, bool),
    Session(Session),
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
        Arc::new(Self {
            name: dialer.name().into(),
            authority: dialer.authority(),
            dialer,
            protocol,
            idle_for: settings.idle_for,
            lines: Mutex::default(),
            sessions: Mutex::default(),
            dialing: tokio::sync::Mutex::default(),
            speaks_http1: AtomicBool::new(protocol == Protocol::Http1),
            away_until: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            sweeping: AtomicBool::new(false),
            world,
        })
    }

    /// The address as errors and logs show it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    pub(super) fn is_secure(&self) -> bool {
        self.dialer.secure()
    }

    pub(super) fn world(&self) -> &Arc<dyn World> {
        &self.world
    }

    /// Whether somebody listens.
    pub(crate) async fn knock(&self) -> io::Result<()> {
        self.dialer.knock(&*self.world).await
    }

    /// One that can take an exchange, a new one if need be or if `fresh`.
    pub(super) async fn connection(
        self: &Arc<Self>,
        fresh: bool,
        patience: Patience,
    ) -> Result<Connection, CallError> {
        if !fresh && let Some(connection) = self.unused() {
            return Ok(connection);
        }
        // On the heap: a TLS handshake is large, rare, and would otherwise make every call's future as large.
        let connecting = Box::pin(self.connect(fresh));
        let quickly = patience.connect.map(|most| Deadline::after(&*self.world, most));
        let connected = match patience.ends(&*self.world).into_iter().chain(quickly).min() {
            None => connecting.await,
            Some(deadline) => {
                let connected = within(&*self.world, deadline, connecting).await;
                connected.unwrap_or_else(|_| Err(self.out_of_time(Phase::Connection)))
            }
        };
        match &connected {
            Ok(_) => self.failures.store(0, Ordering::Relaxed),
            Err(_) => self.went_away(),
        }
        connected
    }

    fn went_away(&self) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).min(16);
        let pause = AWAY_MIN.saturating_mul(1 << failures).min(AWAY_MAX);
        self.away_until.store(self.world.mono().plus(pause).0, Ordering::Relaxed);
    }

    /// Whether no connection came up lately.
    pub(crate) fn is_away(&self) -> bool {
        self.failures.load(Ordering::Relaxed) > 0
            && self.world.mono().0 < self.away_until.load(Ordering::Relaxed)
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

    async fn connect(self: &Arc<Self>, fresh: bool) -> Result<Connection, CallError> {
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

    async fn open(self: &Arc<Self>, dialed: Dialed) -> Result<Connection, CallError> {
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
    pub(super) fn take_back(self: &Arc<Self>, line: Option<Box<Line>>) {
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
    fn sweep_later(self: &Arc<Self>) {
        if self.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let (me, world, pause) = (Arc::downgrade(self), Arc::clone(&self.world), self.idle_for);
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

    pub(super) fn out_of_time(&self, waiting_for: Phase) -> CallError {
        CallError::Timeout { target: self.name.to_string(), waiting_for }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({})", self.name)
    }
}
