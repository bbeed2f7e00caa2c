//! Whether the queue's own work goes on: what `/healthz` says. A process that fails here
//! does not recover by itself. A store that cannot be reached is not its matter: no restart
//! of the queue brings that back.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The look at the leases waits for its database at most half as long.
const SILENT: Duration = Duration::from_secs(120);

/// See the module.
#[derive(Debug, Default)]
pub struct Pulse {
    ended: OnceLock<&'static str>,
    beat: Mutex<Option<Instant>>,
}

/// Why the queue is not healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Sick {
    /// A task that lives as long as the queue has ended.
    #[error("the task `{0}` has ended")]
    Ended(&'static str),
    /// Leases are not looked at any more.
    #[error("leases were not looked at for {} s", SILENT.as_secs())]
    Silent,
}

impl Pulse {
    /// The look at the leases begins another round.
    pub fn beat(&self, now: Instant) {
        *self.beat.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// A task has ended that should not have.
    pub fn ended(&self, name: &'static str) {
        let _the_first_counts = self.ended.set(name);
    }

    /// # Errors
    /// What is wrong.
    pub fn check(&self, now: Instant) -> Result<(), Sick> {
        if let Some(name) = self.ended.get() {
            return Err(Sick::Ended(name));
        }
        let beat = *self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        match beat {
            Some(beat) if now.saturating_duration_since(beat) > SILENT => Err(Sick::Silent),
            // Before the first round the queue has only begun.
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_a_lost_task_are_noticed() {
        let pulse = Pulse::default();
        let now = Instant::now();
        assert_eq!(pulse.check(now), Ok(()));
        pulse.beat(now);
        assert_eq!(pulse.check(now + SILENT), Ok(()));
        let late = now + SILENT + Duration::from_secs(1);
        assert_eq!(pulse.check(late), Err(Sick::Silent));
        pulse.beat(late);
        assert_eq!(pulse.check(late), Ok(()));
        pulse.ended("expire leases");
        let sick = pulse.check(late).expect_err("ended");
        assert!(sick.to_string().contains("expire leases"));
    }
}
