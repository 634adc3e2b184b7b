//! Which of the pending changes a power cut leaves.

use super::{PAGE_BYTES, SECTOR_BYTES, draw};

/// Which pending changes last. Changes are numbered from 0 in the order they were made, names and files together;
/// [`super::Moment::pending`] says how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// Only what was synced.
    Nothing,
    /// Everything, as if it had been synced.
    Everything,
    /// The changes before this one.
    Before(usize),
    /// All but this one.
    Without(usize),
    /// Only this one.
    Only(usize),
    /// The changes before this one, and of this one some sectors.
    Torn {
        /// Which change.
        change: usize,
        /// Which sectors.
        seed: u64,
    },
    /// All changes, but of this one only some sectors.
    Holed {
        /// Which change.
        change: usize,
        /// Which sectors.
        seed: u64,
    },
    /// Each change, and each sector of it, for itself; by pages or by sectors, many or few, as the seed says.
    Random {
        /// The seed.
        seed: u64,
    },
}

/// The survivors at work on one state.
pub(super) struct Fate {
    survivors: Survivors,
    stream: u64,
    /// Of 256 tosses, how many are won.
    luck: u64,
    pub(super) block_bytes: usize,
}

impl Fate {
    pub(super) fn new(survivors: Survivors) -> Self {
        let mut stream = match survivors {
            Survivors::Torn { seed, .. }
            | Survivors::Holed { seed, .. }
            | Survivors::Random { seed } => seed,
            _ => 0,
        };
        let by_pages = draw(&mut stream).is_multiple_of(2);
        let luck = match survivors {
            Survivors::Random { .. } => 16 + draw(&mut stream) % 225,
            _ => 128,
        };
        let block_bytes = if by_pages { PAGE_BYTES } else { SECTOR_BYTES };
        Self { survivors, stream, luck, block_bytes }
    }

    /// Whether this part (one block, the length, a name) of the change lasts. Asked in a fixed order.
    pub(super) fn lasts(&mut self, change: usize) -> bool {
        match self.survivors {
            Survivors::Nothing => false,
            Survivors::Everything => true,
            Survivors::Before(limit) => change < limit,
            Survivors::Without(lost) => change != lost,
            Survivors::Only(kept) => change == kept,
            Survivors::Torn { change: torn, .. } => change < torn || change == torn && self.toss(),
            Survivors::Holed { change: holed, .. } => change != holed || self.toss(),
            Survivors::Random { .. } => self.toss(),
        }
    }

    fn toss(&mut self) -> bool {
        draw(&mut self.stream) % 256 < self.luck
    }
}
