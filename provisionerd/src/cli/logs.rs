//! `jobs logs`: every line once and in order, whatever happens to the connection.

use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use proto::v1::{LogBatch, StoredLine, StreamLogsRequest};
use tonic::Status;

use super::Context;
use crate::client::{Client, is_lost};
use crate::failure::{Exit, Failure};
use crate::render::paint::harmless;
use crate::render::{job, time, words};

/// How long an unreachable queue is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries to reach it.
const RETRY: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The job's id.
    id: String,
    /// Until the job has ended and its last line is printed.
    #[arg(long, short)]
    follow: bool,
    /// Only lines after this sequence number.
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: u64,
}

pub async fn run(context: &Context, client: &mut Client, args: Args) -> Result<Exit, Failure> {
    let mut printer = Printer {
        json: context.is_json(),
        joiner: Joiner::default(),
        seen: args.after,
    };
    let mut lost_since: Option<Instant> = None;
    loop {
        let request = StreamLogsRequest {
            job_id: args.id.clone(),
            after: printer.seen,
            follow: args.follow,
        };
        let before = printer.seen;
        let status = match printer.stream(client, request).await? {
            Ok(Progress::All) => break,
            Ok(Progress::ReaderGone) => return Ok(Exit::Done),
            Err(status) => status,
        };
        if printer.seen > before {
            lost_since = None;
        }
        let since = *lost_since.get_or_insert_with(Instant::now);
        if !is_lost(&status) || since.elapsed() > PATIENCE {
            return Err(client.failure(&status));
        }
        tokio::time::sleep(RETRY).await;
    }
    if let Some(rest) = printer.joiner.rest() {
        printer.print(&[rest])?;
    }
    Ok(Exit::Done)
}

struct Printer {
    json: bool,
    joiner: Joiner,
    /// Public sequence of the last piece that has come.
    seen: u64,
}

enum Progress {
    /// Every line was printed.
    All,
    /// Nobody reads what we print (`jobs logs | head`).
    ReaderGone,
}

impl Printer {
    /// Prints until the stream ends or breaks.
    async fn stream(
        &mut self,
        client: &mut Client,
        request: StreamLogsRequest,
    ) -> Result<Result<Progress, Status>, Failure> {
        let mut stream = match client.stream_logs(request).await {
            Ok(stream) => stream,
            Err(status) => return Ok(Err(status)),
        };
        loop {
            match stream.message().await {
                Ok(Some(batch)) => {
                    let lines = self.take(batch);
                    if let Progress::ReaderGone = self.print(&lines)? {
                        return Ok(Ok(Progress::ReaderGone));
                    }
                }
                Ok(None) => return Ok(Ok(Progress::All)),
                Err(status) => return Ok(Err(status)),
            }
        }
    }

    fn take(&mut self, batch: LogBatch) -> Vec<StoredLine> {
        let mut whole = Vec::with_capacity(batch.lines.len());
        for piece in batch.lines {
            if piece.seq > self.seen {
                self.seen = piece.seq;
                self.joiner.push(piece, &mut whole);
            }
        }
        whole
    }

    fn print(&self, lines: &[StoredLine]) -> Result<Progress, Failure> {
        let mut out = BufWriter::new(std::io::stdout().lock());
        let written = lines
            .iter()
            .try_for_each(|line| match self.json {
                true => writeln!(out, "{}", job::log_line(line)),
                false => writeln!(out, "{}", readable(line)),
            })
            .and_then(|()| out.flush());
        match written {
            Ok(()) => Ok(Progress::All),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                Ok(Progress::ReaderGone)
            }
            Err(error) => {
                let stdout = std::path::Path::new("standard output");
                Err(Failure::file("write to", stdout, &error))
            }
        }
    }
}

fn readable(stored: &StoredLine) -> String {
    let line = stored.line.clone().unwrap_or_default();
    let phase = words::phase(line.phase()).unwrap_or("-");
    let time = time::short(line.time_ms);
    format!("{time} {phase:<7} {}", harmless(&line.text))
}

/// Puts the pieces of a long line together again. The whole line carries the sequence
/// of its last piece, so that `--after` goes on behind it.
#[derive(Default)]
struct Joiner {
    open: Option<StoredLine>,
}

impl Joiner {
    fn push(&mut self, piece: StoredLine, whole: &mut Vec<StoredLine>) {
        // A lost attempt may leave a line without its end.
        let torn = self.open.take_if(|open| open.attempt != piece.attempt);
        whole.extend(torn);
        let joined = match self.open.take() {
            Some(open) => join(open, piece),
            None => piece,
        };
        if joined.line.as_ref().is_some_and(|line| line.more) {
            self.open = Some(joined);
        } else {
            whole.push(joined);
        }
    }

    fn rest(&mut self) -> Option<StoredLine> {
        self.open.take()
    }
}

fn join(mut open: StoredLine, piece: StoredLine) -> StoredLine {
    let next = piece.line.unwrap_or_default();
    open.seq = piece.seq;
    if let Some(line) = &mut open.line {
        line.text.push_str(&next.text);
        line.more = next.more;
    }
    open
}

#[cfg(test)]
mod tests {
    use proto::v1::LogLine;

    use super::*;

    fn piece(seq: u64, attempt: u32, text: &str, more: bool) -> StoredLine {
        StoredLine {
            seq,
            attempt,
            line: Some(LogLine {
                text: text.to_owned(),
                more,
                ..LogLine::default()
            }),
        }
    }

    fn joined(pieces: Vec<StoredLine>) -> Vec<(u64, String)> {
        let mut joiner = Joiner::default();
        let mut whole = Vec::new();
        for piece in pieces {
            joiner.push(piece, &mut whole);
        }
        whole.extend(joiner.rest());
        let text = |line: StoredLine| (line.seq, line.line.unwrap_or_default().text);
        whole.into_iter().map(text).collect()
    }

    #[test]
    fn pieces_of_a_long_line_become_one() {
        let pieces = vec![
            piece(1, 1, "a", false),
            piece(2, 1, "b", true),
            piece(3, 1, "c", true),
            piece(4, 1, "d", false),
            piece(5, 1, "e", false),
        ];
        let expected = [(1, "a"), (4, "bcd"), (5, "e")];
        assert_eq!(
            joined(pieces),
            expected.map(|(seq, text)| (seq, text.to_owned()))
        );
    }

    #[test]
    fn a_line_torn_by_a_lost_attempt_is_printed_as_far_as_it_came() {
        let pieces = vec![piece(1, 1, "half", true), piece(2, 2, "new", false)];
        let expected = [(1, "half"), (2, "new")];
        assert_eq!(
            joined(pieces),
            expected.map(|(seq, text)| (seq, text.to_owned()))
        );
    }

    #[test]
    fn a_line_that_comes_twice_is_printed_once() {
        let mut printer = Printer {
            json: true,
            joiner: Joiner::default(),
            seen: 0,
        };
        let batch = LogBatch {
            lines: vec![piece(1, 1, "a", false), piece(2, 1, "b", false)],
        };
        assert_eq!(printer.take(batch.clone()).len(), 2);
        assert_eq!(printer.take(batch).len(), 0);
    }
}
