//! Reading: pages of the log, and failed messages whose pause is over.

use super::{Dispatcher, Loaded, Pages, store};
use crate::limits::WINDOW_MAX;
use std::time::Duration;

/// Most failed messages loaded at once.
const LOAD_MAX: usize = 256;
/// How long to wait after a failed read.
const READ_PAUSE: Duration = Duration::from_millis(500);

impl Dispatcher {
    pub(super) fn start_page(&mut self) {
        let now = self.start.shared.space.world().mono();
        self.read_again = self.read_again.filter(|at| *at > now);
        let settings = &self.start.shared.settings;
        let (messages, bytes) = self.ledger.read_ahead();
        let batch = self.table.largest_batch();
        let window = settings.window_messages.clamp(batch * 2, WINDOW_MAX);
        let wanted = self.reading.is_none()
            && !self.caught_up
            && self.read_again.is_none()
            && self.table.is_served()
            && messages <= (window / 2).max(batch)
            && bytes <= settings.window_bytes
            && self.ledger.parked() < settings.parked_max;
        if !wanted {
            return;
        }
        // Before the read, so that what is published during it is told by the watch and read again.
        self.caught_up = true;
        let (after, before) = self.ledger.unread();
        let range = self.topic_keys.between(after, before);
        let space = self.start.shared.space.clone();
        let room = window.saturating_sub(messages).max(1);
        self.reading = Some(Box::pin(store::page(space, range, room, self.seen)));
    }

    pub(super) fn on_page(&mut self, page: Pages) {
        let now = self.start.shared.space.world().mono();
        match page {
            Ok((letters, more)) => {
                if self.ledger.read(letters, more, now) {
                    self.caught_up = false;
                }
            }
            Err(error) => {
                tracing::warn!(topic = %self.start.topic, %error, "messages could not be read");
                self.caught_up = false;
                self.read_again = Some(now.plus(READ_PAUSE));
            }
        }
    }

    pub(super) fn may_load(&self) -> bool {
        let (messages, bytes) = self.ledger.due();
        self.loading.is_none()
            && messages < LOAD_MAX
            && bytes < self.start.shared.settings.window_bytes
            && self.table.is_served()
    }

    pub(super) fn start_load(&mut self) {
        if !self.may_load() {
            return;
        }
        let now = self.start.shared.space.world().mono();
        let room = self.start.shared.settings.window_bytes - self.ledger.due().1;
        let stamps = self.ledger.wake(now, LOAD_MAX, room);
        if !stamps.is_empty() {
            let (space, prefix) = (self.start.shared.space.clone(), self.group_keys.parked.clone());
            self.loading = Some(Box::pin(store::load(space, prefix, stamps, self.seen)));
        }
    }

    pub(super) fn on_loaded(&mut self, (stamps, values): Loaded) {
        let now = self.start.shared.space.world().mono();
        match values {
            Ok(values) => {
                for (&stamp, value) in stamps.iter().zip(values) {
                    self.ledger.load(stamp, value, now);
                }
            }
            Err(error) => {
                tracing::warn!(topic = %self.start.topic, %error, "messages could not be read");
                for &stamp in &stamps {
                    self.ledger.sleep(stamp, now.plus(READ_PAUSE));
                }
            }
        }
    }
}
