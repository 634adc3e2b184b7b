//! The connections to one address: those in use, those put aside, and when a new one is made.

use super::{
    dial::{Address, Dialed, Dialer, Protocol},
    line::Line,
    pulse::PulseSettings,
    session::{Lease, Session},
    tls::Security,
};
use crate::{
    CallError, Patience, Phase,
    gate::{Gate, Turn},
};
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
    /// How many exchanges may be under way on HTTP/1.1 connections, and so how many of these there are; `None` where
    /// something else bounds the calls.
    pub(crate) lines_max: Option<u32>,
    /// How many streams a HTTP/2 connection has before another one is made.
    pub(crate) streams_max: usize,
    /// For how long a connection is used, give or take a fifth by chance; `None` for as long as it lasts. A new one finds
    /// its way to servers that came later, and to where the name leads by now.
    pub(crate) age_max: Option<Duration>,
    /// How many exchanges a connection is good for, give or take a fifth by chance.
    pub(crate) exchanges_max: Option<u64>,
    /// How many connections are made in a second, after as many at once.
    pub(crate) connects_per_second: Option<u32>,
    /// How it is noticed that the other side of a HTTP/2 connection has vanished.
    pub(crate) pulse: Option<PulseSettings>,
}

impl PoolSettings {
    /// For an app beside us: the kernel tells when it is gone, and its channel bounds the calls.
    pub(crate) fn near(connect_timeout: Duration, idle_for: Duration) -> Self {
        Self {
            connect_timeout,
            idle_for,
            lines_max: None,
            streams_max: usize::MAX,
            age_max: None,
            exchanges_max: None,
            connects_per_second: None,
            pulse: None,
        }
    }

    /// For runtimes of other hosts.
    pub(crate) fn peer(connect_timeout: Duration, idle_for: Duration) -> Self {
        Self {
            age_max: Some(Duration::from_secs(30 * 60)),
            connects_per_second: Some(100),
            pulse: Some(PulseSettings::PEER),
            ..Self::near(connect_timeout, idle_for)
        }
    }

    /// For services outside.
    pub(crate) fn outside(connect_timeout: Duration, idle_for: Duration) -> Self {
        Self {
            lines_max: Some(1_024),
            streams_max: 1_000,
            age_max: Some(Duration::from_secs(10 * 60)),
            connects_per_second: Some(500),
            pulse: Some(PulseSettings::OUTSIDE),
            ..Self::near(connect_timeout, idle_for)
        }
    }
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

/// How many calls may wait for an HTTP/1.1 connection where their number is bounded.
const WAITING_MAX: u32 = 4_096;

/// The connections to one address.
pub(crate) struct Pool {
    dialer: Dialer,
    name: Arc<str>,
    authority: HeaderValue,
    protocol: Protocol,
    settings: PoolSettings,
    seats: Option<Gate>,
    /// When the next connection may be made at the agreed rate; what is past is credit.
    next_connect: Mutex<Mono>,
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
            seats: settings.lines_max.map(|limit| Gate::new(limit, WAITING_MAX)),
            next_connect: Mutex::new(Mono(0)),
            settings,
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
        self.dialer.knock(&self.world).await
    }

    /// One that can take an exchange, a new one if need be or if `fresh`.
    pub(super) async fn connection(
        self: &Arc<Self>,
        fresh: bool,
        patience: Patience,
    ) -> Result<Connection, CallError> {
        if !fresh && let Some(session) = self.shared() {
            return Ok(Connection::Session(session));
        }
        let seat = self.seat(patience).await?;
        if !fresh && let Some(mut line) = self.unused() {
            line.seat = seat;
            return Ok(Connection::Line(line, true));
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
        let mut connected = connected?;
        if let Connection::Line(line, _) = &mut connected {
            line.seat = seat;
        }
        Ok(connected)
    }

    /// A seat on an HTTP/1.1 connection, where their number is bounded and it is known that these are spoken.
    async fn seat(&self, patience: Patience) -> Result<Option<Turn>, CallError> {
        match &self.seats {
            Some(seats) if self.speaks_http1.load(Ordering::Relaxed) => {
                seats.enter(&*self.world, patience, &self.name).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// What a connection that is made now is good for.
    fn lease(&self) -> Lease {
        let now = self.world.mono();
        // A fifth more or less, so that those made together do not end together.
        let share = (self.world.random() >> 32) as f64 / f64::from(u32::MAX);
        let factor = 0.8 + 0.4 * share;
        let age = self.settings.age_max.map(|age| now.plus(age.mul_f64(factor)));
        let exchanges = self.settings.exchanges_max.map(|count| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "about so many"
            )]
            let about = (count as f64 * factor) as u64;
            about.max(1)
        });
        Lease { spent_at: age.unwrap_or(Mono(u64::MAX)), exchanges: exchanges.unwrap_or(u64::MAX) }
    }

    /// Waits until another connection may be made. Those that wait are let through one by one.
    async fn pace(&self) {
        let Some(rate) = self.settings.connects_per_second.filter(|rate| *rate > 0) else { return };
        let interval = Duration::from_secs(1) / rate;
        let wait = {
            let mut next = lock(&self.next_connect);
            let now = self.world.mono();
            // A second's worth of credit at most.
            let floor = Mono(now.0.saturating_sub(1_000_000_000));
            *next = Mono(next.0.max(floor.0)).plus(interval);
            next.since(now)
        };
        if !wait.is_zero() {
            self.world.sleep(wait).await;
        }
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

    fn shared(&self) -> Option<Session> {
        if self.speaks_http1.load(Ordering::Relaxed) { None } else { self.session() }
    }

    fn unused(&self) -> Option<Box<Line>> {
        if self.protocol == Protocol::Http2 {
            return None;
        }
        loop {
            let line = lock(&self.lines).pop_back()?;
            let now = self.world.mono();
            let unused = now.since(line.used);
            if unused >= self.settings.idle_for {
                // The one used last is too old, so all are.
                lock(&self.lines).clear();
                return None;
            }
            if line.is_spent(now) {
                continue;
            }
            if unused > ASK_AFTER {
                line.meter.ask_if_alive();
            }
            return Some(line);
        }
    }

    /// The first session with room, or, when there can be no more of them, the least busy one.
    fn session(&self) -> Option<Session> {
        let mut sessions = lock(&self.sessions);
        let now = self.settings.age_max.map_or(Mono(0), |_| self.world.mono());
        // What a session has under way that is taken out of the list goes on.
        sessions.retain(|session| !session.is_gone() && !session.is_spent(now));
        let streams_max = self.settings.streams_max;
        let roomy = sessions.iter().find(|session| session.has_room(streams_max));
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
            self.pace().await;
            return self.open(self.dialer.dial(&self.world).await?).await;
        }
        let before = self.world.mono();
        let _dialing = self.dialing.lock().await;
        // Somebody else may have made one while this call waited to.
        let young = |session: &Session| !fresh || session.opened() >= before;
        let made = self.session().filter(|session| young(session) || self.is_full());
        match made {
            Some(session) => Ok(Connection::Session(session)),
            None => {
                self.pace().await;
                self.open(self.dialer.dial(&self.world).await?).await
            }
        }
    }

    async fn open(self: &Arc<Self>, dialed: Dialed) -> Result<Connection, CallError> {
        let broken = |source| CallError::Broken {
            target: self.name.to_string(),
            nothing_sent: true,
            source,
        };
        if dialed.http2 {
            let (lease, pulse) = (self.lease(), self.settings.pulse);
            let session = Session::open(dialed.io, lease, pulse, &self.world).await;
            let session = session.map_err(|error| broken(error.into()))?;
            lock(&self.sessions).push(session.clone());
            self.sweep_later();
            return Ok(Connection::Session(session));
        }
        self.speaks_http1.store(true, Ordering::Relaxed);
        let line = Line::open(dialed.io, self.lease(), self.world.mono()).await;
        Ok(Connection::Line(line.map_err(|error| broken(error.into()))?, false))
    }

    /// Puts a line aside for the next exchange, if there can be one.
    pub(super) fn take_back(self: &Arc<Self>, line: Option<Box<Line>>) {
        let Some(mut line) = line.and_then(Line::settle) else { return };
        line.used = self.world.mono();
        line.count();
        if line.is_spent(line.used) {
            return;
        }
        let seat = line.seat.take();
        let mut lines = lock(&self.lines);
        if lines.len() < IDLE_LINES_MAX {
            lines.push_back(line);
        }
        drop(lines);
        // Whoever gets the seat is to find the line.
        drop(seat);
        self.sweep_later();
    }

    /// Sees to it that unused connections are closed in time, with one task while there are any.
    fn sweep_later(self: &Arc<Self>) {
        if self.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let (me, world, pause) =
            (Arc::downgrade(self), Arc::clone(&self.world), self.settings.idle_for);
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
        let stale = |used: Mono| now.since(used) >= self.settings.idle_for;
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
