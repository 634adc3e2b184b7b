//! What clients do to a store: acts in an order, recorded by hand or drawn by a seed.

use crate::dice::Dice;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A client sends a commit and waits for its answer in the background.
    Send(Offer),
    /// A client sends the same commit as the last one with an id again, as after a lost answer.
    SendAgain,
    /// The engine does one batch: sequence, write, sync, publish, answer.
    Turn,
    /// The engine sequences two batches before it writes the first.
    Overlap,
    /// A reader looks at everything.
    Look,
    /// Time goes on.
    Wait(u64),
    /// The wall clock goes back.
    Back(u64),
    /// The active layer is sealed.
    Seal,
    /// A sealed layer is written into the index.
    Checkpoint,
    /// The index merges what it has.
    Tidy,
    /// Nothing happens for so long that the engine tidies up.
    Rest,
    /// The store is closed and opened again.
    Reopen,
    /// The process is killed and the store opened again; what is under way is lost or not.
    Kill,
}

/// What a client wants committed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offer {
    /// Reads this key first, and rests the commit on what it finds.
    pub(crate) reads: Option<usize>,
    pub(crate) changes: Vec<Change>,
    pub(crate) relaxed: bool,
    pub(crate) named: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Put { key: usize, bytes: usize, fill: u8, ttl_ms: Option<u64> },
    Delete { key: usize },
    Clear { from: usize, to: usize },
    Add { key: usize, delta: i64 },
    Stamped { fill: u8, ttl_ms: Option<u64> },
    ClearStamped,
}

/// How many plain keys there are, and how many counters; few, so that everything collides.
pub(crate) const KEYS: usize = 12;
pub(crate) const COUNTERS: usize = 3;

/// The name of a plain key.
pub(crate) fn key(number: usize) -> String {
    // Some are prefixes of others and some hold bytes that trip up byte orders.
    const SHAPES: [&str; 4] = ["k", "k\0", "ka", "\u{7f}\u{7f}"];
    format!("{}{:02}", SHAPES[number % SHAPES.len()], number / SHAPES.len())
}

/// The name of a counter.
pub(crate) fn counter(number: usize) -> String {
    format!("n{number}")
}

/// Many acts by a seed. What is frequent differs from seed to seed, so that rare mixtures come up too.
pub(crate) fn by_seed(seed: u64, acts: usize) -> Vec<Act> {
    let mut dice = Dice(seed);
    let weights: Vec<usize> = [30, 3, 20, 4, 8, 1, 4, 6, 4, 3, 1, 2, 4]
        .into_iter()
        .map(|usual| if dice.chance(25) { dice.below(3) } else { usual })
        .collect();
    let large = if dice.chance(50) { 40_000 } else { 300 };
    (0..acts).map(|_| act(&mut dice, &weights, large)).collect()
}

fn act(dice: &mut Dice, weights: &[usize], large: usize) -> Act {
    let total: usize = weights.iter().sum();
    let mut ticket = dice.below(total.max(1));
    let choice = weights.iter().position(|weight| {
        let hit = ticket < *weight;
        ticket = ticket.wrapping_sub(*weight);
        hit
    });
    match choice.unwrap_or(2) {
        0 => Act::Send(offer(dice, large)),
        1 => Act::SendAgain,
        2 => Act::Turn,
        3 => Act::Overlap,
        4 => Act::Wait(dice.draw() % 30),
        5 => Act::Back(dice.draw() % 20),
        6 => Act::Seal,
        7 => Act::Checkpoint,
        8 => Act::Tidy,
        9 => Act::Rest,
        10 => Act::Reopen,
        11 => Act::Kill,
        _ => Act::Look,
    }
}

pub(crate) fn offer(dice: &mut Dice, large: usize) -> Offer {
    let changes = (0..1 + dice.below(4)).map(|_| change(dice, large)).collect();
    Offer {
        reads: dice.chance(25).then(|| dice.below(KEYS)),
        changes,
        relaxed: dice.chance(15),
        named: dice.chance(40),
    }
}

fn change(dice: &mut Dice, large: usize) -> Change {
    let ttl_ms = dice.chance(25).then(|| dice.draw() % 60);
    let fill = dice.draw().to_le_bytes()[0];
    match dice.below(12) {
        0..=4 => {
            let limit = if dice.chance(15) { large } else { 200 };
            Change::Put { key: dice.below(KEYS), bytes: dice.below(limit), fill, ttl_ms }
        }
        5 => Change::Delete { key: dice.below(KEYS) },
        6 => Change::Clear { from: dice.below(KEYS), to: dice.below(KEYS) },
        7..=8 => {
            let delta = i64::try_from(dice.below(9)).unwrap() - 3;
            Change::Add { key: dice.below(COUNTERS), delta }
        }
        9 => Change::ClearStamped,
        _ => Change::Stamped { fill, ttl_ms },
    }
}

/// Every kind of act at least once, in an order that brings log, layers, index and restarts into contact.
pub(crate) fn recorded() -> Vec<Act> {
    let mut acts = Vec::new();
    for round in 0..4_usize {
        acts.extend(round_of(round));
        match round {
            0 => acts.extend([Act::Seal, Act::Turn, Act::Checkpoint, Act::Turn]),
            // Sealed when nothing is new, behind a mark that is not synced.
            1 => acts.extend([
                Act::Rest,
                Act::Turn,
                Act::Seal,
                Act::Turn,
                Act::Checkpoint,
                Act::Turn,
            ]),
            2 => acts.extend([Act::Checkpoint, Act::Tidy, Act::Turn, Act::Reopen]),
            _ => acts.push(Act::Kill),
        }
    }
    acts.extend(round_of(4));
    acts.extend([
        Act::Seal,
        Act::Turn,
        Act::Checkpoint,
        Act::Tidy,
        Act::Turn,
        Act::Rest,
        Act::Turn,
    ]);
    acts
}

/// Commits of one size and a checkpoint, again and again: segments of the log are used again and again.
#[cfg(feature = "planted")]
pub(crate) fn in_circles() -> Vec<Act> {
    let mut acts = Vec::new();
    for round in 0..6_u8 {
        for key in 0..14 {
            let put = Change::Put { key: key % 5, bytes: 900, fill: round, ttl_ms: None };
            acts.extend([Act::Send(Offer { changes: vec![put], ..Offer::default() }), Act::Turn]);
        }
        acts.extend([Act::Seal, Act::Turn, Act::Checkpoint, Act::Turn]);
    }
    acts
}

fn round_of(round: usize) -> Vec<Act> {
    let fill = u8::try_from(round).unwrap();
    let send = |changes, relaxed, named| Act::Send(Offer { reads: None, changes, relaxed, named });
    let put = |key, bytes, ttl_ms| Change::Put { key, bytes, fill, ttl_ms };
    vec![
        send(vec![put(round, 40, None), Change::Add { key: 0, delta: 1 }], false, true),
        Act::Turn,
        send(vec![put(5, 900, Some(25)), Change::Stamped { fill, ttl_ms: None }], false, false),
        send(vec![put(6, 2_500, None), Change::Stamped { fill, ttl_ms: Some(40) }], false, true),
        Act::Send(Offer {
            reads: Some(6),
            changes: vec![put(6, 10, None)],
            relaxed: false,
            named: false,
        }),
        Act::Turn,
        Act::SendAgain,
        Act::Turn,
        Act::Wait(15),
        send(vec![Change::Clear { from: 3, to: 7 }, put(4, 20, None)], false, false),
        send(vec![put(8, 20_000, None)], true, true),
        Act::Overlap,
        Act::Wait(15),
        send(vec![Change::Delete { key: round }, Change::Add { key: 1, delta: -2 }], true, false),
        Act::Turn,
        send(vec![put(9, 60, Some(500)), Change::Add { key: 0, delta: 3 }], false, true),
        Act::Turn,
    ]
}
