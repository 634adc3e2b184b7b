//! What happens inside when a store is closed.

use super::Local;
use crate::{
    Options,
    layer::Layer,
    stack::{Bottom, Entries, Stack},
    tests::clock,
    upcoming::Wanted,
};
use bytes::Bytes;
use outrigger_kernel::Wall;
use outrigger_keyspace::{Direction, KeyRange, ReadError, Value};
use outrigger_sim::disk::SimDisk;
use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

/// An index that takes very long to read.
struct Endless {
    begun: SyncSender<()>,
    is_left: Arc<AtomicBool>,
}

impl Bottom for Endless {
    fn get(&self, _key: &[u8]) -> Result<Option<Value>, ReadError> {
        Ok(None)
    }

    fn range<'a>(&'a self, _range: &KeyRange, _direction: Direction) -> Entries<'a> {
        Box::new(std::iter::empty())
    }

    fn expiries(
        &self,
        _range: &KeyRange,
        visit: &mut dyn FnMut(Wall, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.begun.send(()).unwrap();
        let broken_off = (0..u64::MAX).any(|n| visit(Wall(100), &n.to_be_bytes()).is_break());
        assert!(broken_off);
        self.is_left.store(true, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn nobody_looks_up_expiries_once_the_store_is_closed() {
    let disk = Arc::new(SimDisk::new(1));
    let (local, _hands) = Local::open_by_hand(disk, clock(), Options::default()).unwrap();
    let engine = &local.engine;
    let ((begun, has_begun), is_left) = (sync_channel(1), Arc::new(AtomicBool::new(false)));
    let index = Arc::new(Endless { begun, is_left: is_left.clone() });
    let stack = Stack { active: Layer::default(), sealed: None, index };
    engine.checkpointer.want(Wanted { from: (Wall(10), Bytes::from_static(b"k")), stack });
    thread::scope(|scope| {
        scope.spawn(|| engine.checkpointer.tidy(engine, &mut |_bytes| ()));
        has_begun.recv().unwrap();
        engine.checkpointer.end();
        assert!(is_left.load(Ordering::SeqCst));
    });
    assert!(!engine.checkpointer.tidy(engine, &mut |_bytes| ()), "nothing is wanted any more");
}
