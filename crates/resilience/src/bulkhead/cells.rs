//! Bulkheads in cells, a few for each tenant: whoever fills its own cells leaves everybody else some.
//!
//! A tenant is seated in the emptiest of its cells; when none has a seat it waits at the emptiest. See [`crate::ShuffleShard`]
//! for how rarely two tenants have all cells in common.

use super::{Bulkhead, BulkheadSettings, Entrant, Entry, Refused, Seats};
use crate::{Hand, ShuffleShard};
use outrigger_kernel::Mono;

/// Most cells.
const CELLS_MAX: u32 = 1_024;

/// How many cells there are, and how each behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CellBulkheadSettings {
    /// How many cells there are; held within 1 and 1024.
    pub cells: u32,
    /// How many of them a tenant has; held within 1 and [`crate::HAND_MAX`].
    pub hand: usize,
    /// Each cell. [`Default`] gives each ten seats: cells fill one by one only if they have a size.
    pub cell: BulkheadSettings,
    /// What the draw depends on; nodes that must agree use the same.
    pub seed: u64,
}

impl Default for CellBulkheadSettings {
    /// 16 cells of ten seats, four for each tenant.
    fn default() -> Self {
        let cell = BulkheadSettings { seats: Seats::Fixed(10), ..BulkheadSettings::default() };
        Self { cells: 16, hand: 4, cell, seed: 0 }
    }
}

/// Bulkheads in cells.
///
/// ```
/// use outrigger_kernel::Mono;
/// use outrigger_resilience::{CellBulkhead, CellBulkheadSettings, Entrant};
/// let cells = CellBulkhead::new(CellBulkheadSettings::default());
/// // However much the noisy one asks for, it gets forty seats and a queue.
/// let noisy: Vec<_> = (0..10_000).filter_map(|_| cells.enter(b"noisy", &Entrant::default(), Mono(0)).ok()).collect();
/// assert!(noisy.len() <= 40 + 4 * 100);
/// assert!(cells.enter(b"quiet", &Entrant::default(), Mono(0)).is_ok());
/// ```
#[derive(Debug)]
pub struct CellBulkhead {
    cells: Box<[Bulkhead]>,
    shard: ShuffleShard,
}

impl CellBulkhead {
    /// Empty cells.
    #[must_use]
    pub fn new(settings: CellBulkheadSettings) -> Self {
        let cells = (0..settings.cells.clamp(1, CELLS_MAX)).map(|_| Bulkhead::new(settings.cell));
        Self { cells: cells.collect(), shard: ShuffleShard::new(settings.hand, settings.seed) }
    }

    /// The cells of a tenant.
    #[must_use]
    pub fn hand(&self, tenant: &[u8]) -> Hand {
        self.shard.deal(tenant, u32::try_from(self.cells.len()).unwrap_or(CELLS_MAX))
    }

    /// The bulkhead of one cell.
    #[must_use]
    pub fn cell(&self, cell: u32) -> Option<&Bulkhead> {
        self.cells.get(usize::try_from(cell).ok()?)
    }

    /// Asks for a seat in one of the tenant's cells.
    ///
    /// # Errors
    /// [`Refused`] when none of them has one, nor room to wait.
    pub fn enter(&self, tenant: &[u8], entrant: &Entrant, now: Mono) -> Result<Entry, Refused> {
        self.enter_hand(&self.hand(tenant), entrant, now)
    }

    /// The same for a caller that keeps the tenant's hand.
    ///
    /// # Errors
    /// As [`CellBulkhead::enter`].
    pub fn enter_hand(&self, hand: &Hand, entrant: &Entrant, now: Mono) -> Result<Entry, Refused> {
        let load = |cell: &&Bulkhead| {
            let status = cell.status(now);
            // Seats are what counts; of full cells the one with the shorter queue.
            (u64::from(status.seated) + u64::from(status.waiting)) * 1_000
                / u64::from(status.seats.max(1))
        };
        let own = || hand.as_slice().iter().filter_map(|cell| self.cell(*cell));
        // `new` makes at least one cell and a hand has at least one.
        let emptiest = own().min_by_key(load).or(self.cells.first());
        let Some(emptiest) = emptiest else {
            return Err(Refused { why: super::Why::Full, retry_after: super::RETRY_AFTER_MIN });
        };
        emptiest.enter(entrant, now)
    }
}
