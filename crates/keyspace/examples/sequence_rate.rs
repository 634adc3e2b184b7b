//! What do the sequencer and the watch registry cost per commit, and a watch per range?
//!
//! ```text
//! cargo run --release -p outrigger-keyspace --example sequence_rate
//! ```
//!
//! The window is kept at 500,000 writes: 100,000 commits a second for the five seconds a transaction may take. Times
//! are this thread's time on a processor, so that a busy machine tells about the same.
#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use bytes::Bytes;
use outrigger_kernel::{Mono, Wall, World};
use outrigger_keyspace::{
    CommitError, CommitId, KeyRange, ReadError, Space, Transaction, Value, Write,
    memory::Memory,
    sequencer::{Latest, Sequencer},
    watch::Registry,
};
use outrigger_sim::SimWorld;
use std::{error::Error, fs, sync::Arc, time::Duration};

const WINDOW: u64 = 500_000;
const LAP: u64 = 200_000;
/// So that the window holds [`WINDOW`] commits.
const BETWEEN: Duration = Duration::from_micros(10);

/// What is stored plays no part here.
struct Nothing;

impl Latest for Nothing {
    fn get(&self, _key: &[u8]) -> Result<Option<Value>, ReadError> {
        Ok(None)
    }
}

type Shape = fn(&SimWorld, u64) -> Transaction;

const SHAPES: [(&str, Shape); 7] = [
    ("1 put", |world, _| writing(vec![put(world, None)])),
    ("1 put, 2 keys read", |world, revision| Transaction {
        read_revision: revision.saturating_sub(100),
        read_keys: vec![key(world), key(world)],
        ..writing(vec![put(world, None)])
    }),
    ("1 put, 1 range read", |world, revision| {
        let range = KeyRange::prefix(key(world).slice(..30));
        let read_revision = revision.saturating_sub(100);
        Transaction { read_revision, read_ranges: vec![range], ..writing(vec![put(world, None)]) }
    }),
    ("1 put, named", |world, _| Transaction {
        id: Some(CommitId::random(world)),
        ..writing(vec![put(world, None)])
    }),
    ("1 put that expires", |world, revision| {
        writing(vec![put(world, Some(Wall(1_000_000 + revision)))])
    }),
    ("3 puts", |world, _| writing((0..3).map(|_| put(world, None)).collect())),
    ("1 put, 1 range delete", |world, _| {
        let range = KeyRange::prefix(key(world));
        writing(vec![Write::DeleteRange { range }, put(world, None)])
    }),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let world = SimWorld::new(1);
    println!("sequencer, ns a transaction:");
    for (name, shape) in SHAPES {
        println!("  {name:24} {:6}", sequencing(&world, shape)?);
    }
    println!("whole commit on the memory engine, ns: {}", writing_to_memory(&world).await?);
    watching(&world)?;
    Ok(())
}

fn sequencing(world: &SimWorld, shape: Shape) -> Result<u64, Box<dyn Error>> {
    let mut sequencer = Sequencer::new(0, Wall::default());
    let mut mono = Mono::default();
    let mut took = 0;
    for lap in 0..WINDOW / LAP + 3 {
        let first = sequencer.revision();
        let transactions: Vec<Transaction> = (0..LAP).map(|i| shape(world, first + i)).collect();
        let began = on_processor_ns()?;
        for transaction in transactions {
            mono = mono.plus(BETWEEN);
            match sequencer.sequence(mono, transaction, &Nothing) {
                Ok(_) | Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // Until then the window is filling.
        if lap * LAP > WINDOW {
            took = (on_processor_ns()? - began) / LAP;
        }
    }
    Ok(took)
}

async fn writing_to_memory(world: &Arc<SimWorld>) -> Result<u64, Box<dyn Error>> {
    let space = Space::new(Memory::new(world.clone()), world.clone());
    let writes: Vec<Vec<Write>> = (0..LAP).map(|_| vec![put(world, None)]).collect();
    let began = on_processor_ns()?;
    for writes in writes {
        space.write(writes).await?;
    }
    Ok((on_processor_ns()? - began) / LAP)
}

fn watching(world: &SimWorld) -> Result<(), Box<dyn Error>> {
    let registry = Registry::default();
    let before = resident_bytes()?;
    let watches: Vec<_> = (0..1_000_000_u64)
        .map(|i| registry.watch(KeyRange::prefix(format!("0123456789/{i:012}"))))
        .collect();
    let each = (resident_bytes()? - before) / 1_000_000;
    println!("a watch of a range of its own, bytes of memory: {each}");
    for (name, keys) in [
        ("nobody watches", (0..LAP).map(|_| key(world)).collect::<Vec<Bytes>>()),
        (
            "somebody watches",
            (0..LAP).map(|i| format!("0123456789/{:012}", i * 5).into()).collect(),
        ),
    ] {
        let began = on_processor_ns()?;
        for (key, revision) in keys.iter().zip(1..) {
            registry.notify([(revision, key)], []);
        }
        let each = (on_processor_ns()? - began) / LAP;
        println!("telling of a key that {name} among a million watches, ns: {each}");
    }
    let clear = KeyRange::new("0123456789/000000500000", "0123456789/000000501000");
    let began = on_processor_ns()?;
    for revision in 1..=1_000 {
        registry.notify([], [(LAP + revision, &clear)]);
    }
    let each = (on_processor_ns()? - began) / 1_000 / 1_000;
    println!("telling of a range with 1,000 of a million watches in it, ns for each: {each}");
    drop(watches);
    Ok(())
}

fn writing(writes: Vec<Write>) -> Transaction {
    Transaction { writes, ..Transaction::default() }
}

fn put(world: &SimWorld, expires_at: Option<Wall>) -> Write {
    Write::Put { key: key(world), value: Bytes::from_static(&[7; 128]), expires_at }
}

/// Long alike, then different: as the keys of one state store are.
fn key(world: &SimWorld) -> Bytes {
    format!("\u{1}orders-service\0\u{1}{:016x}", world.random()).into()
}

/// What the kernel says this thread has had of a processor.
fn on_processor_ns() -> Result<u64, Box<dyn Error>> {
    let line = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(line.split(' ').next().unwrap_or_default().parse()?)
}

fn resident_bytes() -> Result<u64, Box<dyn Error>> {
    let line = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = line.split(' ').nth(1).unwrap_or_default().parse()?;
    Ok(pages * 4_096)
}
