//! Random sequences of everything, against the naive model. What fails is shrunk to the shortest sequence that fails.

use super::{
    Examiner,
    model::{Model, changes_something},
    room::Room,
};
use crate::{
    CommitError, CommitId, Committed, Direction, Durability, Entry, KeyRange, Level, Snapshot,
    Transaction, Write,
    limits::{COMMIT_ID_AGE_MAX, TRANSACTION_AGE_MAX},
};
use bytes::Bytes;
use outrigger_kernel::{Mono, Wall, World};
use proptest::{
    bool::weighted,
    collection::vec,
    option,
    prelude::{Just, Strategy, any},
    prop_oneof,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use std::{sync::Arc, time::Duration};

/// Few keys, so that sequences collide; with the shapes that trip up byte orders.
const KEYS: &[&[u8]] = &[b"a", b"a\0", b"a\xff", b"aa", b"b", b"b\xff\xff", b"c", b"n1", b"n2"];

/// One thing that happens. Keys and held snapshots are named by number; numbers wrap around.
#[derive(Clone, Debug)]
enum Step {
    Advance {
        ms: u64,
    },
    JumpBack {
        ms: i64,
    },
    Hold,
    Commit {
        read: Read,
        writes: Vec<Change>,
        named: bool,
        relaxed: bool,
    },
    /// A named commit that was accepted is sent once more.
    Repeat {
        which: usize,
    },
}

/// What a commit was decided on.
#[derive(Clone, Debug)]
struct Read {
    at: usize,
    keys: Vec<usize>,
    ranges: Vec<(usize, usize)>,
}

#[derive(Clone, Debug)]
enum Change {
    Put { key: usize, value: u8, ttl_ms: Option<i64> },
    Delete { key: usize },
    DeleteRange { from: usize, to: usize },
    Add { key: usize, delta: i64 },
    Stamped { value: u8, ttl_ms: Option<i64> },
}

fn change() -> impl Strategy<Value = Change> {
    let key = 0..KEYS.len();
    let ttl = option::weighted(0.3, -2..60_i64);
    prop_oneof![
        4 => (key.clone(), any::<u8>(), ttl.clone())
            .prop_map(|(key, value, ttl_ms)| Change::Put { key, value, ttl_ms }),
        2 => key.clone().prop_map(|key| Change::Delete { key }),
        1 => (key.clone(), key).prop_map(|(from, to)| Change::DeleteRange { from, to }),
        2 => (KEYS.len() - 3..KEYS.len(), any::<i64>())
            .prop_map(|(key, delta)| Change::Add { key, delta }),
        1 => (any::<u8>(), ttl).prop_map(|(value, ttl_ms)| Change::Stamped { value, ttl_ms }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS.len();
    let read = (any::<usize>(), vec(key.clone(), 0..3), vec((key.clone(), key), 0..2))
        .prop_map(|(at, keys, ranges)| Read { at, keys, ranges });
    let commit = (read, vec(change(), 0..4), weighted(0.3), weighted(0.3))
        .prop_map(|(read, writes, named, relaxed)| Step::Commit { read, writes, named, relaxed });
    prop_oneof![
        2 => (0..40_u64).prop_map(|ms| Step::Advance { ms }),
        1 => (2_000..4_000_u64).prop_map(|ms| Step::Advance { ms }),
        1 => (1..100_i64).prop_map(|ms| Step::JumpBack { ms }),
        2 => Just(Step::Hold),
        8 => commit,
        2 => any::<usize>().prop_map(|which| Step::Repeat { which }),
    ]
}

impl Examiner {
    /// Plays `cases` random sequences on fresh engines and on the model.
    ///
    /// # Panics
    /// With the shortest failing sequence found, when engine and model differ.
    pub async fn property(&self, cases: u32) {
        let mut seed = [0; 32];
        for chunk in seed.chunks_mut(8) {
            chunk.copy_from_slice(&self.random().to_le_bytes());
        }
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        for _ in 0..cases {
            let Ok(mut tree) = vec(step(), 1..40).new_tree(&mut runner) else { continue };
            if let Err(first) = self.play(&tree.current()).await {
                let (steps, difference) = self.shrink(&mut tree, first).await;
                panic!("engine and model differ: {difference}\nafter {steps:#?}");
            }
        }
    }

    async fn shrink(
        &self,
        tree: &mut impl ValueTree<Value = Vec<Step>>,
        mut difference: String,
    ) -> (Vec<Step>, String) {
        let mut worst = tree.current();
        let mut moved = tree.simplify();
        for _ in 0..2_000 {
            if !moved {
                break;
            }
            let steps = tree.current();
            moved = match self.play(&steps).await {
                Err(found) => {
                    (worst, difference) = (steps, found);
                    tree.simplify()
                }
                Ok(()) => tree.complicate(),
            };
        }
        (worst, difference)
    }

    async fn play(&self, steps: &[Step]) -> Result<(), String> {
        let mut game = Game {
            room: self.room("property").await,
            model: Model::default(),
            held: Vec::new(),
            accepted: Vec::new(),
            last_revision: 0,
            latest_time: Wall::default(),
        };
        game.hold().await?;
        for step in steps {
            match step {
                Step::Advance { ms } => game.room.clock.advance_ms(*ms),
                Step::JumpBack { ms } => game.room.clock.jump_wall_ms(-ms),
                Step::Hold => {}
                Step::Commit { read, writes, named, relaxed } => {
                    game.commit(read, writes, *named, *relaxed).await?;
                }
                Step::Repeat { which } => game.repeat(*which).await?,
            }
            game.hold().await?;
        }
        for held in &game.held {
            held.compare().await?;
        }
        Ok(())
    }
}

/// A snapshot and what it must hold, for as long as it is held.
struct Held {
    snapshot: Arc<dyn Snapshot>,
    model: Model,
    taken: Mono,
}

struct Game {
    room: Room,
    model: Model,
    held: Vec<Held>,
    /// Named commits, how they were answered and when.
    accepted: Vec<(Transaction, Committed, Mono)>,
    last_revision: u64,
    /// The latest time the engine was asked at; a read need not move its time, but may.
    latest_time: Wall,
}

impl Game {
    async fn hold(&mut self) -> Result<(), String> {
        let snapshot = self.room.engine.snapshot(Level::Linearizable).await;
        let snapshot = snapshot.map_err(|error| error.to_string())?;
        self.advance();
        if snapshot.revision() < self.last_revision {
            return Err("a snapshot misses a commit that was answered".to_owned());
        }
        let taken = self.room.clock.mono();
        let held = Held { snapshot, model: self.model.clone(), taken };
        held.compare().await?;
        self.held.push(held);
        Ok(())
    }

    async fn commit(
        &mut self,
        read: &Read,
        writes: &[Change],
        named: bool,
        relaxed: bool,
    ) -> Result<(), String> {
        let now = self.advance();
        let held = &self.held[read.at % self.held.len()];
        let writes: Vec<Write> = writes.iter().map(|change| self.write(change)).collect();
        let ranges = read.ranges.iter().map(|(a, b)| KeyRange::new(name(*a), name(*b)));
        let transaction = Transaction {
            read_revision: held.snapshot.revision(),
            read_keys: read.keys.iter().map(|key| name(*key)).collect(),
            read_ranges: ranges.collect(),
            writes: writes.clone(),
            id: named.then(|| CommitId::random(&*self.room.clock)),
            durability: if relaxed { Durability::Relaxed } else { Durability::Flush },
            ..Transaction::default()
        };
        let reasons = self.model.reasons_against(&transaction, held.model.moment);
        let aged = self.room.clock.mono().since(held.taken) > TRANSACTION_AGE_MAX;
        match self.room.engine.commit(transaction.clone()).await {
            Err(CommitError::TooOld { .. }) if aged => Ok(()),
            Err(error) if reasons.contains(&error) => Ok(()),
            Err(error) => Err(format!("refused with {error:?}, reasons would be {reasons:?}")),
            Ok(_) if !reasons.is_empty() => Err(format!("accepted in spite of {reasons:?}")),
            Ok(committed) if !writes.iter().any(changes_something) => {
                let known = committed.revision >= self.last_revision;
                known.then_some(()).ok_or_else(|| "an old revision was answered".to_owned())
            }
            Ok(committed) if committed.revision <= self.last_revision => {
                Err(format!("revision {} after {}", committed.revision, self.last_revision))
            }
            Ok(committed)
                if committed.time < now.max(self.model.time)
                    || committed.time > self.latest_time =>
            {
                Err(format!("time {:?} at {now:?}, before {:?}", committed.time, self.model.time))
            }
            Ok(committed) => {
                self.last_revision = committed.revision;
                self.model.time = committed.time;
                if named {
                    self.accepted.push((transaction, committed, self.room.clock.mono()));
                }
                let applied = self.model.apply(&writes, committed.revision);
                applied.map_err(|error| error.to_string())
            }
        }
    }

    /// What was accepted is answered again as it was then; that it changes nothing shows in the next snapshot.
    async fn repeat(&mut self, which: usize) -> Result<(), String> {
        self.advance();
        let Some((transaction, committed, at)) =
            self.accepted.get(which.checked_rem(self.accepted.len()).unwrap_or(0))
        else {
            return Ok(());
        };
        if self.room.clock.mono().since(*at) > COMMIT_ID_AGE_MAX {
            return Ok(());
        }
        match self.room.engine.commit(transaction.clone()).await {
            Ok(again) if again == *committed => Ok(()),
            other => Err(format!("a repeat of {committed:?} was answered {other:?}")),
        }
    }

    fn advance(&mut self) -> Wall {
        let now = self.room.clock.wall();
        self.latest_time = self.latest_time.max(now);
        self.model.advance(now);
        now
    }

    fn write(&self, change: &Change) -> Write {
        let expiry = |ttl_ms: &Option<i64>| {
            let now = self.room.clock.wall();
            ttl_ms.map(|ms| match u64::try_from(ms) {
                Ok(ms) => now.plus(Duration::from_millis(ms)),
                Err(_) => Wall(now.0.saturating_sub(ms.unsigned_abs())),
            })
        };
        match change {
            Change::Put { key, value, ttl_ms } => Write::Put {
                key: name(*key),
                value: Bytes::copy_from_slice(&[*value]),
                expires_at: expiry(ttl_ms),
            },
            Change::Delete { key } => Write::Delete { key: name(*key) },
            Change::DeleteRange { from, to } => {
                Write::DeleteRange { range: KeyRange::new(name(*from), name(*to)) }
            }
            Change::Add { key, delta } => Write::Add { key: name(*key), delta: *delta },
            Change::Stamped { value, ttl_ms } => Write::PutStamped {
                prefix: Bytes::from_static(b"s"),
                suffix: Bytes::new(),
                value: Bytes::copy_from_slice(&[*value]),
                expires_at: expiry(ttl_ms),
            },
        }
    }
}

impl Held {
    /// Whether the snapshot, asked in every way there is, holds what the model held.
    async fn compare(&self) -> Result<(), String> {
        let expected: Vec<Entry> = self
            .model
            .map
            .iter()
            .map(|(key, value)| Entry { key: key.clone(), value: value.clone() })
            .collect();
        let found = self.paged(Direction::Forward).await?;
        if found != expected {
            return Err(format!("a scan found {found:?}, expected {expected:?}"));
        }
        let mut found = self.paged(Direction::Backward).await?;
        found.reverse();
        if found != expected {
            return Err(format!("a backward scan found {found:?}, expected {expected:?}"));
        }
        let names: Vec<Bytes> = (0..KEYS.len()).map(name).collect();
        let found = self.snapshot.get_many(&names).await.map_err(|error| error.to_string())?;
        let expected: Vec<_> = names.iter().map(|key| self.model.map.get(key).cloned()).collect();
        if found != expected {
            return Err(format!("get_many found {found:?}, expected {expected:?}"));
        }
        Ok(())
    }

    async fn paged(&self, direction: Direction) -> Result<Vec<Entry>, String> {
        let mut rest = KeyRange::all();
        let mut found = Vec::new();
        loop {
            let page = self.snapshot.scan(&rest, 3, direction).await;
            let page = page.map_err(|error| error.to_string())?;
            let Some(last) = page.entries.last() else {
                return if page.more { Err("more of nothing".to_owned()) } else { Ok(found) };
            };
            match direction {
                Direction::Forward => rest = rest.after(&last.key),
                Direction::Backward => rest.end = Some(last.key.clone()),
            }
            let more = page.more;
            found.extend(page.entries);
            if !more {
                return Ok(found);
            }
        }
    }
}

fn name(number: usize) -> Bytes {
    Bytes::from_static(KEYS[number % KEYS.len()])
}
