//! A log line for something that a peer can cause as often as it likes.

use std::time::{Duration, Instant};

/// Between two lines.
const PERIOD: Duration = Duration::from_secs(30);

/// Counts what is not said.
#[derive(Debug, Default)]
pub struct Seldom {
    said: Option<Instant>,
    times: u64,
}

impl Seldom {
    /// It happened again; how often since the last line, when a line is due.
    pub fn again(&mut self, now: Instant) -> Option<u64> {
        self.times += 1;
        if self.said.is_some_and(|said| now - said < PERIOD) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_line_comes_later_and_tells_how_often() {
        let mut seldom = Seldom::default();
        let now = Instant::now();
        assert_eq!(seldom.again(now), Some(1));
        assert_eq!(seldom.again(now), None);
        assert_eq!(seldom.again(now), None);
        assert_eq!(seldom.again(now + PERIOD), Some(3));
    }
}
