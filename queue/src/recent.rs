//! What was seen lately, in bounded memory: two generations of which the older one goes
//! when the younger one is full. What is asked for stays; of the rest at least the last
//! `capacity` entries are known.

use std::collections::HashMap;
use std::hash::Hash;

/// See the module.
#[derive(Debug)]
pub struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    capacity: usize,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// Holds at most twice `capacity` entries.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            capacity,
        }
    }

    /// The entry of `key`, made anew when it is not known.
    pub fn entry(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        if !self.young.contains_key(&key) && self.young.len() >= self.capacity {
            self.old = std::mem::take(&mut self.young);
        }
        let old = self.old.remove(&key);
        self.young
            .entry(key)
            .or_insert_with(|| old.unwrap_or_else(new))
    }

    /// The entry of `key`, if it is known.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_known_and_the_rest_is_bounded() {
        let mut recent = Recent::new(10);
        *recent.entry(0, || 0) = 7;
        for key in 1..1_000 {
            recent.entry(key, || 0);
            assert_eq!(*recent.entry(0, || 0), 7, "asked for all the time");
        }
        assert!((989..1_000).all(|key| recent.get(&key).is_some()));
        assert!(recent.get(&5).is_none());
        assert!(recent.young.len() + recent.old.len() <= 20);
    }
}
