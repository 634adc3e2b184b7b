//! Plays a script on an engine without threads: every turn is taken by hand, so the same script gives the same bytes.

use crate::{
    dice::Still,
    script::{self, Act, Change, Offer},
    story::{Clocks, Story},
};
use bytes::Bytes;
use outrigger_engine_local::{Hands, Local, OpenError, Options};
use outrigger_kernel::{Wall, disk::Disk};
use outrigger_keyspace::{
    CommitError, CommitId, Committed, Direction, Durability, Entry, KeyRange, KeySpace, Level,
    Transaction, Write, exam::Clock,
};
use outrigger_sim::disk::SimDisk;
use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Small, so that segments end, layers are sealed and files are merged within a short script; how small differs.
pub(crate) fn small(seed: u64) -> Options {
    Options {
        log_first_bytes: 8 * 1024,
        log_max_bytes: if seed.is_multiple_of(2) { 16 * 1024 } else { 64 * 1024 },
        log_bytes_kept: if seed.is_multiple_of(4) { 40 * 1024 } else { 0 },
        cache_bytes: if seed.is_multiple_of(3) { 0 } else { 64 * 1024 },
        layer_bytes_max: if seed.is_multiple_of(5) { 1 << 20 } else { 2_000 },
        layer_bytes_bound: 2 << 20,
        reserve_bytes: Some(16 * 1024),
        ..Options::default()
    }
}

/// An engine at work on a simulated disk.
pub(crate) struct Store {
    pub(crate) engine: Arc<Local>,
    pub(crate) hands: Hands,
    pub(crate) clock: Arc<Clock>,
}

impl Store {
    /// Opens what is on `disk` (or makes a store there) with clocks that have gone on by so much.
    pub(crate) fn open(disk: &SimDisk, clocks: Clocks, seed: u64) -> Result<Self, OpenError> {
        let clock = Clock::over(Arc::new(Still::new(seed)));
        // A monotonic clock begins anew with the machine; the wall clock does not.
        let wall_ms =
            i64::try_from(clocks.mono_ms).unwrap() - i64::try_from(clocks.back_ms).unwrap();
        clock.jump_wall_ms(wall_ms);
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let (engine, hands) = Local::open_by_hand(disk, clock.clone(), small(seed))?;
        Ok(Self { engine, hands, clock })
    }

    /// Takes turns until `future` is ready.
    pub(crate) fn drive<T>(&mut self, future: impl Future<Output = T>) -> Result<T, String> {
        let mut future = pin!(future);
        for _ in 0..1_000 {
            if let Poll::Ready(value) =
                future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            {
                return Ok(value);
            }
            self.hands.turn();
        }
        Err("a question was never answered".to_owned())
    }

    pub(crate) fn commit(
        &mut self,
        transaction: Transaction,
    ) -> Result<Result<Committed, CommitError>, String> {
        let engine = self.engine.clone();
        self.drive(async move { engine.commit(transaction).await })
    }

    /// Everything there is to see, asked in two ways.
    pub(crate) fn look(&mut self) -> Result<Look, String> {
        self.drive(look(self.engine.clone()))?
    }

    /// The same, if it is answered at once.
    pub(crate) fn peek(&self) -> Option<Result<Look, String>> {
        let looking = pin!(look(self.engine.clone()));
        match looking.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(look) => Some(look),
            Poll::Pending => None,
        }
    }
}

async fn look(engine: Arc<Local>) -> Result<Look, String> {
    let snapshot = engine.snapshot(Level::Linearizable).await.map_err(words)?;
    let now = engine.now();
    let mut entries: Vec<Entry> = Vec::new();
    let mut range = KeyRange::all();
    loop {
        let page = snapshot.scan(&range, 50, Direction::Forward).await.map_err(words)?;
        entries.extend(page.entries);
        match entries.last() {
            Some(last) if page.more => range = range.after(&last.key),
            _ => break,
        }
    }
    let names = (0..script::KEYS).map(script::key);
    let names: Vec<Bytes> =
        names.chain((0..script::COUNTERS).map(script::counter)).map(Bytes::from).collect();
    let found = snapshot.get_many(&names).await.map_err(words)?;
    for (name, found) in names.iter().zip(found) {
        let scanned = entries.iter().find(|entry| entry.key == name);
        if scanned.map(|entry| &entry.value) != found.as_ref() {
            return Err(format!("get and scan differ at {name:?}: {found:?}"));
        }
    }
    Ok(Look { revision: snapshot.revision(), now, entries })
}

/// What a reader sees.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) revision: u64,
    pub(crate) now: Wall,
    pub(crate) entries: Vec<Entry>,
}

fn words(error: impl ToString) -> String {
    error.to_string()
}

type Answer = Pin<Box<dyn Future<Output = Result<Committed, CommitError>>>>;

/// A script in the middle of being played.
pub(crate) struct Run {
    pub(crate) disk: SimDisk,
    pub(crate) store: Store,
    pub(crate) story: Story,
    flying: Vec<(Transaction, Answer)>,
    clocks: Clocks,
    sent: u64,
    last_named: Option<Transaction>,
    seed: u64,
    /// Whether a commit may be answered with something else than yes or a conflict.
    pub(crate) troubled: bool,
    /// How many commits found the disk full.
    pub(crate) full: usize,
}

impl Run {
    /// Makes a store on an empty disk.
    pub(crate) fn start(disk: SimDisk, seed: u64) -> Result<Self, OpenError> {
        let store = Store::open(&disk, Clocks::default(), seed)?;
        Ok(Self {
            disk,
            store,
            story: Story::default(),
            flying: Vec::new(),
            clocks: Clocks::default(),
            sent: 0,
            last_named: None,
            seed,
            troubled: false,
            full: 0,
        })
    }

    /// Plays `acts` to their end, or to the first broken promise.
    pub(crate) fn play(&mut self, acts: &[Act]) -> Result<(), String> {
        for act in acts {
            self.act(act)?;
        }
        while self.store.hands.turn() {
            self.gather()?;
        }
        self.gather()
    }

    /// Plays `acts` on a fresh disk where nothing goes wrong.
    pub(crate) fn whole(acts: &[Act], seed: u64) -> Result<Self, String> {
        let mut run = Self::start(SimDisk::new(seed), seed).map_err(words)?;
        run.play(acts)?;
        Ok(run)
    }

    pub(crate) fn act(&mut self, act: &Act) -> Result<(), String> {
        match act {
            Act::Send(offer) => self.send(offer)?,
            Act::SendAgain => {
                if let Some(transaction) = self.last_named.clone() {
                    self.launch(transaction);
                }
            }
            Act::Turn => {
                self.store.hands.turn();
            }
            Act::Overlap => self.overlap()?,
            Act::Look => self.look()?,
            Act::Wait(ms) => {
                self.clocks.mono_ms += ms;
                self.store.clock.advance_ms(*ms);
            }
            Act::Back(ms) => {
                self.clocks.back_ms += ms;
                self.store.clock.jump_wall_ms(-i64::try_from(*ms).unwrap());
            }
            // Orders are carried out with the next batch, whatever else is in it.
            Act::Seal => self.store.hands.seal(),
            Act::Checkpoint => {
                self.store.hands.checkpoint();
            }
            Act::Tidy => {
                self.store.hands.tidy();
            }
            Act::Rest => self.store.hands.rest(),
            Act::Reopen => {
                self.store.hands.close();
                self.gather()?;
                self.again()?;
            }
            Act::Kill => self.again()?,
        }
        self.story.tick(self.disk.steps(), self.clocks);
        self.gather()
    }

    /// Two batches under way at once: the second is decided before the first is on the disk.
    fn overlap(&mut self) -> Result<(), String> {
        let first = self.store.hands.sequence();
        let second = self.store.hands.sequence();
        self.look()?;
        for mut batch in [first, second].into_iter().flatten() {
            batch.write();
            self.look()?;
            batch.publish();
        }
        Ok(())
    }

    /// Takes down what a reader sees now, if it is answered without anybody taking a turn.
    fn look(&mut self) -> Result<(), String> {
        let step = self.disk.steps();
        match self.store.peek() {
            Some(Ok(look)) => self.story.saw(step, look),
            Some(Err(error)) if !self.troubled => return Err(error),
            _ => {}
        }
        Ok(())
    }

    /// Opens the store again. What was not even sequenced never happened.
    fn again(&mut self) -> Result<(), String> {
        self.gather()?;
        self.flying.clear();
        self.seed += 1;
        let gone = Store::open(&SimDisk::new(0), Clocks::default(), 0).map_err(words)?;
        drop(std::mem::replace(&mut self.store, gone));
        let opened = Store::open(&self.disk, self.clocks, self.seed);
        self.store = opened.map_err(|error| format!("cannot open again: {error}"))?;
        Ok(())
    }

    fn send(&mut self, offer: &Offer) -> Result<(), String> {
        let now = self.store.engine.now();
        let mut transaction = Transaction {
            writes: offer.changes.iter().map(|change| write(change, now)).collect(),
            durability: if offer.relaxed { Durability::Relaxed } else { Durability::Flush },
            ..Transaction::default()
        };
        if let Some(read) = offer.reads {
            let engine = self.store.engine.clone();
            let snapshot =
                self.store.drive(async move { engine.snapshot(Level::Linearizable).await })?;
            transaction.read_revision = match snapshot {
                Ok(snapshot) => snapshot.revision(),
                Err(_) if self.troubled => return Ok(()),
                Err(error) => return Err(error.to_string()),
            };
            transaction.read_keys = vec![script::key(read).into()];
        }
        self.sent += 1;
        if offer.named {
            let number = (u128::from(self.seed) << 64) | u128::from(self.sent);
            transaction.id = Some(CommitId(number.to_be_bytes()));
            self.last_named = Some(transaction.clone());
        }
        self.launch(transaction);
        self.gather()
    }

    fn launch(&mut self, transaction: Transaction) {
        let engine = self.store.engine.clone();
        let offered = transaction.clone();
        let answer = Box::pin(async move { engine.commit(offered).await });
        self.flying.push((transaction, answer));
    }

    /// Asks every commit under way whether it has its answer.
    pub(crate) fn gather(&mut self) -> Result<(), String> {
        let step = self.disk.steps();
        let mut flying = Vec::new();
        for (offered, mut answer) in std::mem::take(&mut self.flying) {
            match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => flying.push((offered, answer)),
                Poll::Ready(Ok(committed)) => {
                    self.story.accept(committed, offered, step)?;
                }
                // An engine that was opened since does not know what has changed since the read.
                Poll::Ready(Err(CommitError::Conflict | CommitError::TooOld { .. })) => {}
                Poll::Ready(Err(CommitError::Unknown(_))) if self.troubled => {
                    self.story.unknown.push(offered);
                }
                Poll::Ready(Err(CommitError::Unavailable(_))) if self.troubled => {}
                Poll::Ready(Err(CommitError::Full(_))) if self.troubled => self.full += 1,
                Poll::Ready(Err(error)) => {
                    return Err(format!("a commit was refused for no reason: {error}"));
                }
            }
        }
        self.flying = flying;
        Ok(())
    }

    /// The process ends here: what has no answer never gets one.
    pub(crate) fn end(mut self) -> (SimDisk, Story) {
        let lost = std::mem::take(&mut self.flying).into_iter().map(|(offered, _)| offered);
        self.story.unknown.extend(lost);
        (self.disk, self.story)
    }

    pub(crate) fn clocks(&self) -> Clocks {
        self.clocks
    }
}

/// What a change is in a commit of `now`.
pub(crate) fn write(change: &Change, now: Wall) -> Write {
    let until = |ttl_ms: &Option<u64>| ttl_ms.map(|ms| now.plus(Duration::from_millis(ms)));
    match change {
        Change::Put { key, bytes, fill, ttl_ms } => Write::Put {
            key: script::key(*key).into(),
            value: vec![*fill; *bytes].into(),
            expires_at: until(ttl_ms),
        },
        Change::Delete { key } => Write::Delete { key: script::key(*key).into() },
        Change::Clear { from, to } => {
            Write::DeleteRange { range: KeyRange::new(script::key(*from), script::key(*to)) }
        }
        Change::Add { key, delta } => {
            Write::Add { key: script::counter(*key).into(), delta: *delta }
        }
        Change::Stamped { fill, ttl_ms } => Write::PutStamped {
            prefix: Bytes::from_static(b"q/"),
            suffix: Bytes::new(),
            value: Bytes::copy_from_slice(&[*fill]),
            expires_at: until(ttl_ms),
        },
        Change::ClearStamped => {
            Write::DeleteRange { range: KeyRange::prefix(Bytes::from_static(b"q/")) }
        }
    }
}
