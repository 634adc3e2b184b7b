//! The index as what lies below the layers.

use super::IndexView;
use crate::stack::{Bottom, Entries};
use outrigger_kernel::Wall;
use outrigger_keyspace::{Direction, KeyRange, ReadError, Value};
use std::ops::ControlFlow;

impl Bottom for IndexView {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, ReadError> {
        Self::get(self, key)
    }

    fn expiry(&self, key: &[u8]) -> Result<Option<Wall>, ReadError> {
        Self::expiry(self, key)
    }

    fn range<'a>(&'a self, range: &KeyRange, direction: Direction) -> Entries<'a> {
        Box::new(Self::range(self, range, direction))
    }

    fn expiries(
        &self,
        range: &KeyRange,
        visit: &mut dyn FnMut(Wall, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        Self::expiries(self, range, visit)
    }
}
