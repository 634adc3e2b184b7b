//! What is retained of the log, for backups, point in time and verification.

use super::{
    LogError, Position,
    frame::{self, Kind},
    segment,
    supply::Supply,
    walk::Walker,
};
use outrigger_keyspace::sequencer::Plan;
use std::{collections::VecDeque, sync::Arc};

/// The log as others than its writer see it. Calls may come from any thread.
#[derive(Debug)]
pub(crate) struct History {
    pub(super) supply: Arc<Supply>,
}

impl History {
    /// What tells the store of this log from all others.
    pub(crate) fn store_id(&self) -> [u8; 16] {
        self.supply.store_id
    }

    /// Gives up the segments before that of `before`, but for the newest of them that fit in `keep_bytes`. What `before`
    /// was must be on disk in the index by then.
    pub(crate) fn release(&self, before: &Position, keep_bytes: u64) {
        self.supply.release(before.segment, keep_bytes);
    }

    /// Reads the plans from `from` to `to`, both positions where a frame ended or the log began.
    ///
    /// # Errors
    /// When the segment of `from` is not retained or cannot be read.
    pub(crate) fn read(&self, from: Position, to: Position) -> Result<Reader, LogError> {
        let pin = Pin::new(&self.supply, from.segment)?;
        let walker = Walker::new(Arc::clone(&self.supply.disk), self.supply.store_id, from)?;
        Ok(Reader { walker, to, plans: VecDeque::new(), _pin: pin })
    }
}

/// Reads plans. While it lives, no segment from its start on is used again.
#[derive(Debug)]
pub(crate) struct Reader {
    walker: Walker,
    to: Position,
    plans: VecDeque<Plan>,
    _pin: Pin,
}

impl Reader {
    /// The next plan; `None` at the end.
    ///
    /// # Errors
    /// When a frame before the end is damaged or cannot be read. Nothing can be read after that.
    pub(crate) fn next(&mut self) -> Result<Option<Plan>, LogError> {
        while self.plans.is_empty() && self.walker.at != self.to {
            self.read_frame()?;
        }
        Ok(self.plans.pop_front())
    }

    /// Where the frame ends whose plans were read last: with no plan of it left, where to go on another time.
    #[cfg(test)]
    pub(crate) fn position(&self) -> Position {
        self.walker.at
    }

    fn read_frame(&mut self) -> Result<(), LogError> {
        let at = self.walker.at;
        if (at.segment, at.offset) >= (self.to.segment, self.to.offset) {
            let what = "the end that was asked for is not between two frames";
            return Err(LogError::damaged(&self.walker.segment.name, at.offset, what));
        }
        let Some(header) = self.walker.look()? else {
            let what = "the frame here is not the one that was written";
            return Err(LogError::damaged(&self.walker.segment.name, at.offset, what));
        };
        if header.kind == Kind::Plans {
            let name = self.walker.segment.name.clone();
            let plans = &mut self.plans;
            let payload = self.walker.payload(&header)?;
            let read = frame::decode_plans(payload, header.revision, &mut |plan| {
                plans.push_back(plan);
                Ok(())
            });
            read.map_err(|malformed| LogError::malformed(name, at.offset, malformed))?;
        }
        self.walker.pass(&header);
        if header.kind == Kind::Turn { self.walker.turn() } else { Ok(()) }
    }
}

#[derive(Debug)]
struct Pin {
    supply: Arc<Supply>,
    number: u64,
}

impl Pin {
    fn new(supply: &Arc<Supply>, number: u64) -> Result<Self, LogError> {
        if supply.pin(number) {
            Ok(Self { supply: Arc::clone(supply), number })
        } else {
            Err(LogError::Missing { file: segment::name(number) })
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.supply.unpin(self.number);
    }
}

/// What tests look at beside.
#[cfg(test)]
mod looking {
    use super::{
        super::{segment::FRAMES_START, walk::frame_at},
        History, LogError, Pin, Position, segment,
    };

    /// A segment that can be read.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Segment {
        /// Its number.
        pub(crate) number: u64,
        /// Its file.
        pub(crate) name: String,
        /// The size of that file.
        pub(crate) bytes: u64,
    }

    impl History {
        /// The segments that can be read, oldest first.
        pub(crate) fn segments(&self) -> Vec<Segment> {
            let readable = self.supply.readable().into_iter();
            readable
                .map(|(number, bytes)| Segment { number, name: segment::name(number), bytes })
                .collect()
        }

        /// The oldest position that plans can be read from; `None` when nothing was written yet.
        ///
        /// # Errors
        /// When the oldest segment cannot be read.
        pub(crate) fn start(&self) -> Result<Option<Position>, LogError> {
            let readable = self.supply.readable();
            let Some((number, _)) = readable.first().copied() else { return Ok(None) };
            let _pin = Pin::new(&self.supply, number)?;
            let (disk, store_id) = (&*self.supply.disk, self.supply.store_id);
            let mut segment = segment::SegmentReader::open(disk, store_id, number)?;
            match frame_at(&mut segment, FRAMES_START)? {
                Some(first) => {
                    let chain = first.previous;
                    Ok(Some(Position { segment: number, offset: FRAMES_START, chain }))
                }
                None if readable.len() == 1 => Ok(None),
                None => {
                    let what = "the segment should begin with a frame";
                    Err(LogError::damaged(segment.name, FRAMES_START, what))
                }
            }
        }
    }
}
