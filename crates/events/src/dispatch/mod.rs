//! The dispatcher: hands the messages of one topic to the consumers of one group, and keeps what they said.
//!
//! One task per (broker, topic, group), which owns all it decides on, so nothing is locked:
//!
//! ```text
//!            watch -+                       +-> delivery task --> consumer
//!   log -- page ----+-> ledger --> table ---+-> delivery task --> consumer
//!   failed - load --+     |                 +-> ...      |
//!                         +<--------- inbox <------------+ verdicts, joins, leaves
//!                         |
//!                         +-> save: one commit at a time; what is judged meanwhile goes into the next one
//! ```
//!
//! Between two events it starts whatever can be started (a commit, a page, a load, deliveries) and then waits. Without
//! messages there is nothing to start and no timer to wait for: an idle group costs no processor time.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | the loop |
//! | `fetch.rs` | reading: the log, and failed messages whose pause is over |
//! | `judge.rs` | from messages to deliveries, and from outcomes to changes of the ledger |
//! | `table.rs`, `seat.rs` | the consumers, and whose turn it is |
//! | `delivery.rs` | one delivery |
//! | `inbox.rs` | what reaches the dispatcher |
//! | `store.rs` | what it reads and commits |

mod delivery;
mod fetch;
mod inbox;
mod judge;
mod seat;
mod store;
mod table;

pub(crate) use inbox::{Inbox, Order};
pub(crate) use seat::Seat;

use crate::{
    broker::Shared,
    error::{StoreError, SubscribeError},
    keys::{GroupKeys, TopicKeys},
    ledger::{Ledger, Letter},
    limits::IN_FLIGHT_MAX,
    member::Held,
    stats::Counters,
};
use bytes::Bytes;
use outrigger_kernel::{BoxFuture, Mono, TaskHandle, Wall};
use outrigger_keyspace::{Stamp, Watch};
use std::{
    collections::HashMap,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use store::{Claimed, Opened, Saved};
use table::{Stock, Table};
use tokio::sync::oneshot;

/// Most verdicts that may wait for their commit; beyond, nothing new is handed out.
const UNSAVED_MAX: u64 = 16_384;
/// Most changes of one commit.
const CHANGES_MAX: usize = 2_000;
/// How long after the store said that it is full it is asked again.
const ROOM_PAUSE: Duration = Duration::from_secs(1);

type Pages = Result<(Vec<(Stamp, Bytes)>, bool), StoreError>;
type Loaded = (Vec<Stamp>, Result<Vec<Option<Bytes>>, StoreError>);
type Running<T> = Option<BoxFuture<'static, T>>;

/// What a dispatcher is started with.
#[derive(Clone)]
pub(crate) struct Start {
    pub(crate) shared: Arc<Shared>,
    pub(crate) topic: Arc<str>,
    pub(crate) group: Arc<str>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) counters: Arc<Counters>,
    /// The claim of another process that may be taken over.
    pub(crate) over: Option<Held>,
}

/// Runs the dispatcher until nobody is subscribed any more.
pub(crate) async fn run(start: Start) {
    let entry = Entry(start.clone());
    let topic_keys = TopicKeys::new(&start.shared.name, &start.topic);
    let group_keys = GroupKeys::new(&start.shared.name, &start.topic, &start.group);
    // Before the first read, so that nothing published after it goes unnoticed.
    let watch = start.shared.space.watch(topic_keys.all());
    let (own, over) = (start.shared.own(), start.over.as_ref());
    match store::open(&start.shared.space, &topic_keys, &group_keys, own, over).await {
        Ok(opened) => Dispatcher::new(start, topic_keys, group_keys, watch, opened).run().await,
        Err(error) => entry.close(Some(&error)),
    }
}

/// A dispatcher's entry in the broker. However the dispatcher ends, even by a panic, the entry goes, and whoever waits
/// for an answer gets one.
struct Entry(Start);

impl Entry {
    fn close(&self, error: Option<&StoreError>) {
        let Start { shared, topic, group, inbox, .. } = &self.0;
        while !shared.retire(topic, group, inbox) {
            for order in inbox.take().orders {
                if let (Order::Join { reply, .. }, Some(error)) = (order, error) {
                    // Who gave up waiting needs no answer.
                    drop(reply.send(Err(SubscribeError::Store(error.clone()))));
                }
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.close(None);
    }
}

/// Messages that a consumer holds.
struct Out {
    seat: Arc<Seat>,
    letters: Vec<Letter>,
    /// Gone once it was stopped.
    task: Option<TaskHandle>,
}

struct Dispatcher {
    start: Start,
    topic_keys: TopicKeys,
    group_keys: GroupKeys,
    claimed: Claimed,
    ledger: Ledger,
    table: Table,
    out: HashMap<u64, Out>,
    /// How many messages and bytes are in there.
    out_size: (usize, usize),
    deliveries: u64,
    watch: Watch,
    /// Reads have to see at least this revision.
    seen: u64,
    /// Whether the log was read to its end, as far as we were told.
    caught_up: bool,
    reading: Running<Pages>,
    loading: Running<Loaded>,
    saving: Running<Saved>,
    /// What the commit under way makes durable: the floor, and verdicts up to this one.
    promise: (Stamp, u64),
    saved: u64,
    /// The floor that the sweeper was last told of.
    swept: Stamp,
    failing: Arc<AtomicBool>,
    /// While the store is full: when to try again what needs room.
    room_again: Option<Mono>,
    /// How many changes go into a commit: one, after several were too large together.
    changes_max: usize,
    /// After a failed read: when to try again.
    read_again: Option<Mono>,
    timer: Option<(Mono, BoxFuture<'static, ()>)>,
    /// Dropped with the dispatcher, which is the answer.
    closing: Vec<oneshot::Sender<()>>,
    superseded: bool,
}

/// What ended a wait.
enum Event {
    Post,
    Saved(Saved),
    Page(Pages),
    Loaded(Loaded),
    Changed(u64),
    Timer,
}

impl Dispatcher {
    fn new(
        start: Start,
        topic_keys: TopicKeys,
        group_keys: GroupKeys,
        watch: Watch,
        opened: Opened,
    ) -> Self {
        let mut ledger = Ledger::new(group_keys.clone(), &opened.cursor, opened.spans);
        let world = start.shared.space.world();
        let (mono, wall) = (world.mono(), world.wall());
        for (stamp, attempts) in &opened.parked {
            let left = Wall(attempts.not_before_ms).since(wall);
            let pause = left.min(Duration::from_millis(attempts.pause_ms));
            ledger.restore(*stamp, attempts, mono.plus(pause));
        }
        Self {
            start,
            topic_keys,
            group_keys,
            seen: opened.claimed.revision,
            claimed: opened.claimed,
            ledger,
            table: Table::default(),
            out: HashMap::new(),
            out_size: (0, 0),
            deliveries: 0,
            watch,
            caught_up: false,
            reading: None,
            loading: None,
            saving: None,
            promise: (Stamp::default(), 0),
            saved: 0,
            swept: Stamp::default(),
            failing: Arc::default(),
            room_again: None,
            changes_max: CHANGES_MAX,
            read_again: None,
            timer: None,
            closing: Vec::new(),
            superseded: false,
        }
    }

    async fn run(mut self) {
        loop {
            self.read_post();
            self.start_load();
            self.hand_out();
            self.start_page();
            self.start_save();
            self.table.dismiss(self.saved);
            self.report();
            if self.superseded {
                let (topic, group) = (&self.start.topic, &self.start.group);
                tracing::warn!(%topic, %group, "another dispatcher took this group over, or it was forgotten");
                break;
            }
            if self.is_done() {
                break;
            }
            match self.wait().await {
                Event::Post => {}
                Event::Saved(saved) => self.on_saved(saved),
                Event::Page(page) => self.on_page(page),
                Event::Loaded(loaded) => self.on_loaded(loaded),
                Event::Changed(revision) => {
                    self.seen = self.seen.max(revision);
                    self.caught_up = false;
                }
                Event::Timer => self.timer = None,
            }
        }
    }

    /// Whether nobody is here and nothing is left to do; from then on this dispatcher takes no orders.
    fn is_done(&self) -> bool {
        self.table.len() == 0
            && self.out.is_empty()
            && self.saving.is_none()
            && !self.ledger.is_dirty(true)
            && self.start.shared.retire(&self.start.topic, &self.start.group, &self.start.inbox)
    }

    /// Waits for the next event. What is under way comes first: it always ends, while post may never stop coming; and
    /// the post is read before every wait anyway.
    async fn wait(&mut self) -> Event {
        self.set_timer();
        tokio::select! {
            biased;
            saved = finished(&mut self.saving) => Event::Saved(saved),
            page = finished(&mut self.reading) => Event::Page(page),
            loaded = finished(&mut self.loading) => Event::Loaded(loaded),
            () = self.start.inbox.rung() => Event::Post,
            revision = self.watch.changed(), if self.caught_up => Event::Changed(revision),
            () = rung(&mut self.timer) => Event::Timer,
        }
    }

    fn set_timer(&mut self) {
        let due = self.next_timer();
        if self.timer.as_ref().map(|(at, _)| *at) == due {
            return;
        }
        let world = self.start.shared.space.world();
        self.timer = due.map(|at| (at, world.sleep(at.since(world.mono()))));
    }

    /// When something can be started that cannot be started now.
    fn next_timer(&self) -> Option<Mono> {
        let load = self.ledger.next_due().filter(|_| self.may_load());
        let batch = if self.is_blocked() { None } else { self.table.batch_due(self.stock()) };
        let room = self.room_again.filter(|_| self.saving.is_none());
        [load, batch, self.read_again, room].into_iter().flatten().min()
    }

    fn stock(&self) -> Stock {
        Stock { messages: self.ledger.waiting(), since: self.ledger.waiting_since() }
    }

    /// Whether handing out more would only add to what cannot be committed.
    fn is_blocked(&self) -> bool {
        let settings = &self.start.shared.settings;
        let (changes, bytes) = self.ledger.backlog();
        let (messages_out, bytes_out) = self.out_size;
        self.failing.load(Ordering::Relaxed)
            || changes > settings.window_messages
            || bytes > settings.window_bytes
            || messages_out >= IN_FLIGHT_MAX
            || (messages_out > 0 && bytes_out >= settings.in_flight_bytes)
            || self.ledger.noted() - self.saved > UNSAVED_MAX
    }

    fn start_save(&mut self) {
        let now = self.start.shared.space.world().mono();
        self.room_again = self.room_again.filter(|at| *at > now);
        let room = self.room_again.is_none();
        if self.saving.is_some() || !self.ledger.is_dirty(room) {
            return;
        }
        let plan = self.ledger.plan(room, self.changes_max);
        self.promise = (plan.floor, plan.covers);
        let (space, claimed) = (self.start.shared.space.clone(), self.claimed.clone());
        let failing = Arc::clone(&self.failing);
        self.saving = Some(Box::pin(store::save(space, claimed, plan, failing)));
    }

    fn on_saved(&mut self, saved: Saved) {
        let now = self.start.shared.space.world().mono();
        match saved {
            Saved::At(revision) => {
                let (floor, covers) = self.promise;
                self.seen = self.seen.max(revision);
                self.saved = covers;
                self.changes_max = CHANGES_MAX;
                self.ledger.saved();
                if floor > self.swept {
                    self.swept = floor;
                    self.start.shared.sweep.request(&self.start.topic);
                }
            }
            Saved::Superseded => self.superseded = true,
            Saved::NoRoom => {
                let (topic, group) = (&self.start.topic, &self.start.group);
                tracing::warn!(%topic, %group, "the store is full: failed messages are kept in memory only");
                self.refused(true);
                self.room_again = Some(now.plus(ROOM_PAUSE));
            }
            Saved::TooLarge => {
                self.refused(false);
                self.changes_max = 1;
            }
        }
    }

    /// The failures in the last plan are void: those messages are not settled, and nobody has to wait for them.
    fn refused(&mut self, all: bool) {
        self.ledger.refused(all);
        if !self.ledger.is_dirty(true) {
            self.saved = self.ledger.noted();
        }
    }

    fn report(&self) {
        let counters = &self.start.counters;
        counters.consumers.store(self.table.len(), Ordering::Relaxed);
        counters.waiting.store(self.ledger.waiting(), Ordering::Relaxed);
        counters.in_flight.store(self.out_size.0, Ordering::Relaxed);
        counters.parked.store(self.ledger.parked(), Ordering::Relaxed);
        counters.settled.store(self.ledger.settled_count(), Ordering::Relaxed);
    }
}

impl Drop for Dispatcher {
    /// However it ends: what is being handled is taken back, and consumers are told that nothing more will come.
    fn drop(&mut self) {
        for task in self.out.drain().filter_map(|(_, out)| out.task) {
            task.abort();
        }
        self.table.end();
    }
}

/// The answer of what is running in `slot`, which is empty then; never, when nothing runs.
async fn finished<T>(slot: &mut Running<T>) -> T {
    let Some(work) = slot else { return pending().await };
    let answer = work.await;
    *slot = None;
    answer
}

async fn rung(timer: &mut Option<(Mono, BoxFuture<'static, ()>)>) {
    match timer {
        Some((_, sleep)) => sleep.await,
        None => pending().await,
    }
}
