//! How often a file at rest is looked at: quickly while it moves, seldom while it does
//! not, never so seldom that a person would notice.

use std::time::Duration;

/// Right after something moved.
const SHORTEST: Duration = Duration::from_millis(2);

/// After a long rest: at 50 looks a second a slot costs well under a thousandth of a core.
pub(super) const LONGEST: Duration = Duration::from_millis(20);

/// Doubles its pause until something moves.
#[derive(Debug)]
pub(super) struct Pace(Duration);

impl Pace {
    pub(super) fn new() -> Self {
        Self(SHORTEST)
    }

    /// Tells whether the last look found something.
    pub(super) fn moved(&mut self, moved: bool) {
        self.0 = if moved {
            SHORTEST
        } else {
            (self.0 * 2).min(LONGEST)
        };
    }

    /// Until the next look.
    pub(super) fn pause(&self) -> Duration {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_at_rest_is_looked_at_less_and_less_until_it_moves() {
        let mut pace = Pace::new();
        for _ in 0..10 {
            pace.moved(false);
        }
        assert_eq!(pace.pause(), LONGEST);
        pace.moved(true);
        assert_eq!(pace.pause(), SHORTEST);
    }
}
