//! What is left out of the log when far more is printed than can be stored: past the
//! limit debug lines go first, past twice the limit everything below a warning. What
//! went is counted, and a gap line stands for it.

use proto::v1::LogLevel;

use super::tail::Tail;

/// Decides line by line for one stream.
#[derive(Debug)]
pub(super) struct Gate {
    limit: u64,
    /// Lines up to this level go; `None` keeps all.
    dropping: Option<LogLevel>,
    decisions: u32,
    lines: u64,
    bytes: u64,
}

/// Decisions after which a stream that drops is measured again.
const REMEASURE: u32 = 256;

impl Gate {
    /// Nothing goes while at most `limit` bytes wait.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            dropping: None,
            decisions: 0,
            lines: 0,
            bytes: 0,
        }
    }

    /// Looks at how much of the file waits. Called when no line may go out; while lines
    /// are dropped only every so often, since it costs a system call.
    pub(super) fn measure(&mut self, tail: &Tail) {
        self.decisions += 1;
        if self.dropping.is_some() && !self.decisions.is_multiple_of(REMEASURE) {
            return;
        }
        self.judge(tail.backlog().unwrap_or(0));
    }

    /// Whether the line goes.
    pub(super) fn drops(&mut self, level: LogLevel, bytes: usize) -> bool {
        let drops = self.dropping.is_some_and(|highest| level <= highest);
        if drops {
            self.lines += 1;
            self.bytes += bytes as u64;
        }
        drops
    }

    /// The text of the gap line for what went since the last one.
    pub(super) fn take_gap(&mut self) -> Option<String> {
        if self.lines == 0 {
            return None;
        }
        let (lines, bytes) = (self.lines, self.bytes);
        (self.lines, self.bytes) = (0, 0);
        Some(format!(
            "{lines} lines ({bytes} bytes) were left out: more than {} bytes of output \
             were waiting to be stored",
            self.limit
        ))
    }

    fn judge(&mut self, waiting: u64) {
        self.dropping = if waiting > self.limit.saturating_mul(2) {
            Some(LogLevel::Info)
        } else if waiting > self.limit {
            Some(LogLevel::Debug)
        } else {
            None
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_lines_go_first_and_are_counted() {
        let mut gate = Gate::new(100);
        gate.judge(100);
        assert!(!gate.drops(LogLevel::Debug, 5));
        gate.judge(101);
        assert!(gate.drops(LogLevel::Debug, 5) && gate.drops(LogLevel::Trace, 6));
        assert!(!gate.drops(LogLevel::Info, 7));
        let gap = gate.take_gap().expect("gap");
        assert!(gap.starts_with("2 lines (11 bytes)"), "{gap}");
        assert!(gap.contains("more than 100 bytes"), "{gap}");
        assert_eq!(gate.take_gap(), None);
    }

    #[test]
    fn warnings_and_errors_never_go() {
        let mut gate = Gate::new(100);
        gate.judge(1_000);
        assert!(gate.drops(LogLevel::Info, 1));
        assert!(!gate.drops(LogLevel::Warn, 1) && !gate.drops(LogLevel::Error, 1));
    }

    #[test]
    fn a_stream_that_caught_up_keeps_all_again() {
        let mut gate = Gate::new(100);
        gate.judge(1_000);
        gate.judge(3);
        assert!(!gate.drops(LogLevel::Debug, 1));
    }
}
