//! The holder's side: an engine, offered to whoever of this user connects.
//!
//! One task per connection reads requests, has the engine answer them and writes the answers. What the engine answers at
//! once is written in the same turn; what it has to wait for (a commit, for its flush) waits beside the others without a
//! task of its own, and a lone commit's answer is written by the engine's own thread. A client that is slow to read is a client that is not read from: it costs what its bounds allow.

mod connection;
mod errand;
mod outlet;
mod reads;
mod watches;

use crate::{
    bounds::{CONNECTIONS_MAX, HELLO_PATIENCE},
    place,
    wire::{self, Answer},
};
use connection::Connection;
pub(crate) use connection::{commit, revision_of};
use outrigger_kernel::{Deadline, World, within};
use outrigger_keyspace::KeySpace;
use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::watch,
};

/// Offers an engine on a listener. Dropped, it ends its connections.
pub struct Server {
    engine: Arc<dyn KeySpace>,
    world: Arc<dyn World>,
    phase: watch::Sender<Phase>,
    /// Connections with something under way; only while it drains does anybody wait for it.
    busy: Arc<watch::Sender<usize>>,
    connections: Arc<AtomicUsize>,
    /// Counts those who have gone again.
    departures: Arc<watch::Sender<u64>>,
}

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Everything.
    Open,
    /// Answer what is under way. It stays connected: the end of the connection tells the client to look for another holder.
    Draining,
}

/// One of something that is counted, for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Tells, when dropped, that a process is gone that was served.
struct Departs(Arc<watch::Sender<u64>>);

impl Drop for Departs {
    fn drop(&mut self) {
        self.0.send_modify(|departures| *departures += 1);
    }
}

/// The same for what somebody waits to see the end of.
struct Busy(Arc<watch::Sender<usize>>);

impl Busy {
    fn new(count: &Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Server {
    /// Offers `engine`; nobody can come before [`Server::accept`] is called.
    #[must_use]
    pub fn new(engine: Arc<dyn KeySpace>, world: Arc<dyn World>) -> Self {
        Self {
            engine,
            world,
            phase: watch::channel(Phase::Open).0,
            busy: Arc::new(watch::channel(0).0),
            connections: Arc::default(),
            departures: Arc::new(watch::channel(0).0),
        }
    }

    /// Counts there whoever is gone after having been served.
    pub(crate) fn telling(self, departures: Arc<watch::Sender<u64>>) -> Self {
        Self { departures, ..self }
    }

    /// Lets in whoever comes, until this is dropped. Those who are in stay.
    pub async fn accept(&self, listener: &UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.welcome(stream),
                Err(error) => {
                    // Out of file handles, as a rule. Whoever waits in the queue is let in when there are some again.
                    tracing::warn!(%error, "a connection to the data folder was not accepted");
                    self.world.sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn welcome(&self, stream: UnixStream) {
        match place::stranger(&stream) {
            Ok(None) => {}
            Ok(Some(uid)) => {
                return tracing::warn!(uid, "another user tried to reach the data folder");
            }
            Err(error) => return tracing::debug!(%error, "a connection ended at once"),
        }
        let before = self.connections.fetch_add(1, Ordering::SeqCst);
        let counted = Counted(self.connections.clone());
        let (engine, world, phase) =
            (self.engine.clone(), self.world.clone(), self.phase.subscribe());
        let (busy, departures) = (self.busy.clone(), self.departures.clone());
        let connection = async move {
            let (_counted, _departs) = (counted, Departs(departures));
            if let Err(error) = talk(stream, engine, world, phase, busy, before).await {
                tracing::debug!(%error, "a connection to the data folder ended");
            }
        };
        drop(self.world.spawn("data folder connection", Box::pin(connection)));
    }

    /// Reads no further requests and waits until those under way are answered, at most `patience`. Whether they are.
    pub async fn drain(&self, patience: Duration) -> bool {
        self.phase.send_replace(Phase::Draining);
        let mut busy = self.busy.subscribe();
        let deadline = Deadline::after(&*self.world, patience);
        within(&*self.world, deadline, busy.wait_for(|busy| *busy == 0)).await.is_ok()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({} connections)", self.connections.load(Ordering::SeqCst))
    }
}

async fn talk(
    mut stream: UnixStream,
    engine: Arc<dyn KeySpace>,
    world: Arc<dyn World>,
    mut phase: watch::Receiver<Phase>,
    busy: Arc<watch::Sender<usize>>,
    before: usize,
) -> io::Result<()> {
    let hello = Deadline::after(&*world, HELLO_PATIENCE);
    within(&*world, hello, greet(&mut stream)).await.map_err(io::Error::other)??;
    if before >= CONNECTIONS_MAX {
        let why =
            format!("the data folder has {CONNECTIONS_MAX} connections, and more are refused");
        let mut refusal = Vec::new();
        wire::frame(&mut refusal, |out| Answer::Refused { why }.put(out));
        return stream.write_all(&refusal).await;
    }
    // Counted before it looks whether the server drains: whoever waits for that sees it, or it sees that.
    let mut connection = Connection::new(stream, engine, world, Busy::new(&busy))?;
    loop {
        let phase_now = *phase.borrow_and_update();
        if phase_now == Phase::Draining {
            connection.drain();
        }
        tokio::select! {
            biased;
            changed = phase.changed() => {
                // The server is gone, and with it whatever holds the engine.
                changed.map_err(io::Error::other)?;
            }
            ended = connection.run() => return ended,
        }
    }
}

/// Says which version is spoken here, whatever the other side says; goes on if it is the same.
async fn greet(stream: &mut UnixStream) -> io::Result<()> {
    let mut theirs = [0; wire::GREETING_BYTES];
    stream.read_exact(&mut theirs).await?;
    stream.write_all(&wire::greeting(wire::VERSION)).await?;
    match wire::greeted(theirs) {
        Ok(wire::VERSION) => Ok(()),
        Ok(version) => Err(io::Error::other(format!("it speaks version {version}"))),
        Err(malformed) => Err(io::Error::other(malformed)),
    }
}
