//! How many jobs have not ended. Counting goes through all that wait, so a count is used
//! again until twenty times as long has passed as it took: who asks for metrics all the time
//! costs a twentieth of one reader, however many jobs wait.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::store::model::PoolDepth;
use crate::store::{Result, Store};
use crate::words::{Kind, Status};

/// A count is good for so many times as long as it took.
const SHARE: u32 = 20;

/// See the module.
#[derive(Debug, Default)]
pub struct Census(Mutex<Option<Count>>);

/// One count.
#[derive(Debug, Clone)]
pub struct Count {
    /// By status and kind.
    pub open: BTreeMap<(Status, Kind), u64>,
    /// By tags.
    pub pools: Vec<PoolDepth>,
    taken: Instant,
    took: Duration,
}

impl Census {
    /// The last count, or a new one.
    ///
    /// # Errors
    /// The store's.
    pub async fn count<S: Store>(&self, store: &S) -> Result<Count> {
        // Who comes meanwhile waits for this count instead of taking one of its own.
        let mut last = self.0.lock().await;
        let good = last.as_ref().filter(|count| count.is_good(Instant::now()));
        if let Some(count) = good {
            return Ok(count.clone());
        }
        let begun = Instant::now();
        let (open, pools) = (store.open_jobs().await?, store.pool_depths().await?);
        let taken = Instant::now();
        let count = Count {
            open,
            pools,
            taken,
            took: taken - begun,
        };
        *last = Some(count.clone());
        Ok(count)
    }
}

impl Count {
    fn is_good(&self, now: Instant) -> bool {
        now - self.taken < self.took * SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_good_for_twenty_times_as_long_as_it_took() {
        let taken = Instant::now();
        let count = Count {
            open: BTreeMap::new(),
            pools: Vec::new(),
            taken,
            took: Duration::from_millis(50),
        };
        assert!(count.is_good(taken + Duration::from_millis(999)));
        assert!(!count.is_good(taken + Duration::from_millis(1_000)));
    }
}
