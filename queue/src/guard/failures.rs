//! How often an address may try a wrong credential.
//!
//! Each address has a bucket of tries, refilled over a minute; a wrong credential takes one.
//! With an empty bucket the store is not asked any more, except for credentials that were
//! good before: those who share the address of someone who guesses (a NAT, a balancer) go
//! on. A credential that is gone since is still asked about, and refused there.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto::limits;

use crate::recent::Recent;

/// An empty bucket is full again after this time.
const REFILL: Duration = Duration::from_secs(60);

/// Too many wrong credentials came from one address; the message names the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "more than {most} wrong credentials a minute came from this address, which is the limit (--wrong-credentials)"
)]
pub struct TooMany {
    most: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Failures {
    most: u32,
    buckets: Mutex<Recent<IpAddr, Bucket>>,
    /// Keyed hashes of good credentials: they decide only whether the store may be asked.
    good: Mutex<Recent<u64, ()>>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Bucket {
    /// Tries that are left.
    left: f64,
    seen: Instant,
}

impl Failures {
    /// At most so many wrong credentials from one address in a minute.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self {
            most,
            buckets: Mutex::new(Recent::new(limits::REMEMBERED)),
            good: Mutex::new(Recent::new(limits::REMEMBERED)),
            hasher: RandomState::new(),
        }
    }

    /// Whether a credential from `address` may be looked up.
    ///
    /// # Errors
    /// Too many were wrong, and this one has not been good before.
    pub fn may_try(&self, address: IpAddr, credential: &[u8], now: Instant) -> Result<(), TooMany> {
        if self.is_empty(address, now) && !self.was_good(credential) {
            return Err(TooMany { most: self.most });
        }
        Ok(())
    }

    /// A credential from `address` was wrong.
    pub fn wrong(&self, address: IpAddr, now: Instant) {
        let full = f64::from(self.most);
        let mut buckets = locked(&self.buckets);
        let bucket = buckets.entry(address, || Bucket {
            left: full,
            seen: now,
        });
        bucket.left = (bucket.at(now, full) - 1.0).max(0.0);
        bucket.seen = now;
    }

    /// A credential was good.
    pub fn good(&self, credential: &[u8]) {
        let hash = self.hasher.hash_one(credential);
        locked(&self.good).entry(hash, || ());
    }

    fn is_empty(&self, address: IpAddr, now: Instant) -> bool {
        let full = f64::from(self.most);
        let buckets = locked(&self.buckets);
        let bucket = buckets.get(&address);
        bucket.is_some_and(|bucket| bucket.at(now, full) < 1.0)
    }

    fn was_good(&self, credential: &[u8]) -> bool {
        let hash = self.hasher.hash_one(credential);
        locked(&self.good).get(&hash).is_some()
    }
}

impl Bucket {
    fn at(&self, now: Instant, full: f64) -> f64 {
        let waited = now.saturating_duration_since(self.seen);
        (self.left + full * waited.as_secs_f64() / REFILL.as_secs_f64()).min(full)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn who_guesses_has_to_wait_and_nobody_else() {
        let failures = Failures::new(3);
        let now = Instant::now();
        failures.good(b"neighbour");
        for _ in 0..3 {
            assert_eq!(failures.may_try(ONE, b"guess", now), Ok(()));
            failures.wrong(ONE, now);
        }
        let refused = failures.may_try(ONE, b"guess", now).expect_err("spent");
        assert!(refused.to_string().contains("more than 3 "), "{refused}");
        assert_eq!(failures.may_try(ONE, b"neighbour", now), Ok(()));
        assert_eq!(failures.may_try(OTHER, b"guess", now), Ok(()));
        let later = now + REFILL / 3;
        assert_eq!(failures.may_try(ONE, b"guess", later), Ok(()));
        failures.wrong(ONE, later);
        assert!(
            failures.may_try(ONE, b"guess", later).is_err(),
            "one came back"
        );
        let much_later = later + REFILL * 10;
        for _ in 0..3 {
            failures.wrong(ONE, much_later);
        }
        assert!(failures.may_try(ONE, b"guess", much_later).is_err());
    }
}
