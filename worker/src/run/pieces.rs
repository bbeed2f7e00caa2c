//! Text to log lines: one per line feed, and pieces of at most [`LOG_PIECE`] bytes,
//! cut between characters, where a line is longer.

use proto::limits::LOG_PIECE;
use proto::v1::{LogLevel, LogLine, LogSource, Phase};

/// What all lines of one text share.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) time_ms: i64,
    pub(super) phase: Phase,
    pub(super) source: LogSource,
    pub(super) level: LogLevel,
}

impl Origin {
    /// A line of its own, short enough for one piece.
    pub(super) fn line(&self, text: &str) -> LogLine {
        LogLine {
            seq: 0,
            time_ms: self.time_ms,
            phase: self.phase.into(),
            source: self.source.into(),
            level: self.level.into(),
            text: text.to_owned(),
            more: false,
        }
    }
}

/// The lines of `text`, without sequence numbers. `goes_on`: the last one continues in
/// the next text.
pub(super) fn split<'a>(
    origin: &'a Origin,
    text: &'a str,
    goes_on: bool,
) -> impl Iterator<Item = LogLine> + 'a {
    let mut lines = text.split('\n').peekable();
    std::iter::from_fn(move || {
        let line = lines.next()?;
        Some((line, goes_on && lines.peek().is_none()))
    })
    .flat_map(move |(line, last_goes_on)| pieces(origin, line, last_goes_on))
}

fn pieces<'a>(
    origin: &'a Origin,
    line: &'a str,
    goes_on: bool,
) -> impl Iterator<Item = LogLine> + 'a {
    let mut rest = Some(line.strip_suffix('\r').unwrap_or(line));
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let cut = text.floor_char_boundary(LOG_PIECE);
        let more = cut < text.len();
        if more {
            rest = Some(&text[cut..]);
        }
        Some(LogLine {
            seq: 0,
            time_ms: origin.time_ms,
            phase: origin.phase.into(),
            source: origin.source.into(),
            level: origin.level.into(),
            text: text[..cut].to_owned(),
            more: more || goes_on,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(String, bool)> {
        let origin = Origin {
            time_ms: 1,
            phase: Phase::Plan,
            source: LogSource::Engine,
            level: LogLevel::Info,
        };
        split(&origin, text, false)
            .map(|line| (line.text, line.more))
            .collect()
    }

    #[test]
    fn each_line_feed_makes_a_line() {
        let expected = [("a", false), ("", false), ("b", false)];
        assert_eq!(texts("a\n\nb"), expected.map(|(t, m)| (t.to_owned(), m)));
        assert_eq!(texts(""), [(String::new(), false)]);
    }

    #[test]
    fn a_long_line_is_cut_between_characters_and_joins_to_itself() {
        let long = "aé".repeat(LOG_PIECE);
        let pieces = texts(&long);
        assert!(pieces.iter().all(|(text, _)| text.len() <= LOG_PIECE));
        let joined: String = pieces.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(joined, long);
        let (last, before) = pieces.split_last().expect("pieces");
        assert!(!last.1 && before.iter().all(|(_, more)| *more));
    }

    #[test]
    fn a_line_of_exactly_one_piece_does_not_go_on() {
        assert_eq!(texts(&"x".repeat(LOG_PIECE)).len(), 1);
    }
}
