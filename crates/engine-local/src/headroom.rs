//! How much room is left on the file system, asked rarely.
//!
//! A log that meets a full disk in the middle of a write ends the engine. So writes are refused earlier, while there is
//! still room for deletes and for the index that makes deletes count. What is kept is given out in two parts:
//!
//! | room left | is taken by |
//! |---|---|
//! | more than the reserve | every commit |
//! | more than half of it | commits that make room or lead to it ([`Transaction::makes_room`]): else nobody could drain a full store |
//! | less | nothing but deletes |
//!
//! Others may fill the disk to the last byte. Then it is the log that knows what can still be written ([`Rations`]): what it
//! has of segments is on the disk already, and half of one is kept for what makes room.
//!
//! The store makes room itself where it can: whoever finds that there is none gives up what is kept of the log to look back
//! ([`Headroom::release_kept`]) and sends what is in memory into the index, which lets go of the log that held it.
//!
//! [`Transaction::makes_room`]: outrigger_keyspace::Transaction::makes_room

use crate::log::Rations;
use outrigger_kernel::{Mono, disk::Disk};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// Others fill the disk too, so the answer grows old even when nothing is written here.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

pub(crate) struct Headroom {
    disk: Arc<dyn Disk>,
    /// How the folder is called in messages.
    place: PathBuf,
    reserve_bytes: Option<u64>,
    rations: Arc<Rations>,
    /// What may still be written before asking again.
    credit_bytes: u64,
    asked: Option<Mono>,
}

/// A checkpoint writes new pages before it lets go of old ones: the more there is, the more room it needs.
fn usual_reserve(total_bytes: u64) -> u64 {
    const MIB: u64 = 1024 * 1024;
    (total_bytes / 20).clamp(64 * MIB, 1024 * MIB)
}

impl Headroom {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        place: PathBuf,
        reserve_bytes: Option<u64>,
        rations: Arc<Rations>,
    ) -> Self {
        Self { disk, place, reserve_bytes, rations, credit_bytes: 0, asked: None }
    }

    /// Says why nothing of `bytes` should be decided on, beside what is on its way to the log, if that has no room for it.
    pub(crate) fn log_refuses(&self, bytes: usize, makes_room: bool) -> Option<String> {
        self.rations.are_short(bytes, makes_room).then(|| {
            format!(
                "there is no room for more of the log on the file system of {}, {}; free some space",
                self.place.display(),
                if makes_room { "not even for deletes" } else { "but for deletes" }
            )
        })
    }

    /// The same for a step of time, which nobody asks for and everybody waits for.
    pub(crate) fn log_refuses_step(&self, bytes: usize) -> Option<String> {
        self.rations.are_short(bytes, true).then(|| {
            format!(
                "keys that have expired cannot be removed: there is no room for more of the log on the file system of {}; \
                 free some space",
                self.place.display()
            )
        })
    }

    /// Gives up what the log keeps to look back.
    pub(crate) fn release_kept(&self) {
        self.rations.release_kept();
    }

    /// A frame of `bytes` is on its way to the log.
    pub(crate) fn promise(&self, bytes: usize) {
        self.rations.promise(bytes);
    }

    /// Takes note of `bytes` about to be written. Says why that should not be, if they would touch the reserve, or the
    /// inner half of it when they make room.
    pub(crate) fn refuses(&mut self, bytes: usize, makes_room: bool, now: Mono) -> Option<String> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let fresh = self.asked.is_some_and(|asked| now.since(asked) < ASK_AGAIN_AFTER);
        if fresh && bytes <= self.credit_bytes {
            self.credit_bytes -= bytes;
            return None;
        }
        // When the system does not say, the write itself will tell.
        let room = self.disk.room().ok()?;
        let free_bytes = room.free_bytes;
        let reserve_bytes = self.reserve_bytes.unwrap_or_else(|| usual_reserve(room.total_bytes));
        self.asked = Some(now);
        if free_bytes < reserve_bytes.saturating_add(bytes) {
            self.credit_bytes = 0;
            if makes_room && free_bytes >= (reserve_bytes / 2).saturating_add(bytes) {
                return None;
            }
            return Some(format!(
                "the file system of {} has {free_bytes} bytes left, of which {reserve_bytes} are kept for \
                 deletes; free some space",
                self.place.display()
            ));
        }
        // What is written is written again into the index: a quarter of the room is spent before asking again.
        self.credit_bytes = (free_bytes - reserve_bytes) / 4;
        None
    }
}
