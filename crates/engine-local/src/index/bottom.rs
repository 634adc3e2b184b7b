//! The index as what lies below the layers.

use super::IndexView;
use crate::stack::{Bottom, Entries};
use outrigger_keyspace::{Direction, KeyRange, ReadError, Value};

impl Bottom for IndexView {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, ReadError> {
        Self::get(self, key)
    }

    fn range<'a>(&'a self, range: &KeyRange, direction: Direction) -> Entries<'a> {
        Box::new(Self::range(self, range, direction))
    }
}
