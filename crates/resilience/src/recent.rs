//! Things by name, of which there may be as many as somebody outside has names for, so their number is bounded.
//!
//! Past the bound those used longest ago are forgotten: a sixteenth at a time, so that a flood of new names costs a few
//! looks each and not a walk over all of them.

use std::collections::HashMap;

/// A bounded map that forgets what was used longest ago.
#[derive(Debug)]
pub(crate) struct Recent<V> {
    capacity: usize,
    by_name: HashMap<Box<str>, Slot<V>>,
    uses: u64,
}

#[derive(Debug)]
struct Slot<V> {
    value: V,
    used: u64,
}

/// Which part of those known is forgotten at a time.
const FORGOTTEN: usize = 16;

impl<V> Recent<V> {
    /// At most `capacity` things, at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), by_name: HashMap::new(), uses: 0 }
    }

    /// What is called so; it counts as used.
    pub(crate) fn find(&mut self, name: &str) -> Option<&mut V> {
        self.uses += 1;
        let slot = self.by_name.get_mut(name)?;
        slot.used = self.uses;
        Some(&mut slot.value)
    }

    /// Keeps a new thing, and makes room for it if need be.
    pub(crate) fn keep(&mut self, name: &str, value: V) {
        if self.by_name.len() >= self.capacity {
            self.forget_oldest();
        }
        self.uses += 1;
        self.by_name.insert(name.into(), Slot { value, used: self.uses });
    }

    fn forget_oldest(&mut self) {
        let mut used: Vec<u64> = self.by_name.values().map(|slot| slot.used).collect();
        // Somebody is known, or there would be room.
        let last = used.len() / FORGOTTEN;
        let last = *used.select_nth_unstable(last).1;
        self.by_name.retain(|_, slot| slot.used > last);
    }

    /// What is called so; it does not count as used.
    pub(crate) fn peek(&self, name: &str) -> Option<&V> {
        self.by_name.get(name).map(|slot| &slot.value)
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.by_name.iter().map(|(name, slot)| (&**name, &slot.value))
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Recent;

    #[test]
    fn a_flood_of_names_does_not_push_out_what_is_used() {
        let mut recent = Recent::new(100);
        for name in 0..10_000_u32 {
            if recent.find(&name.to_string()).is_none() {
                recent.keep(&name.to_string(), name);
            }
            assert!(recent.len() <= 100);
            assert!(name == 0 || recent.find("0").is_some(), "used all the time");
        }
        let kept = (9_900..10_000).filter(|name| recent.peek(&name.to_string()).is_some()).count();
        assert!(kept >= 90, "{kept} of the last hundred");
        assert_eq!((recent.peek("17"), recent.capacity()), (None, 100));
    }

    #[test]
    fn of_one_there_is_always_the_last() {
        let mut recent = Recent::new(0);
        for name in ["a", "b", "c"] {
            recent.keep(name, ());
            assert_eq!(recent.iter().map(|(name, ())| name).collect::<Vec<_>>(), [name]);
        }
    }
}
