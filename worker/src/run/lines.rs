//! The line cursor: turns what engines print and what the worker has to say into the
//! job's log, in order. It waits for the daemon's credit, so a queue that cannot be
//! reached costs no memory: the output files are the spool. The ledger has a cursor of
//! its own (`watch`) that never waits.

use std::fs::File;
use std::time::Duration;

use proto::limits::{LOG_BACKLOG, UPDATE_FLUSH_BYTES, UPDATE_FLUSH_LINES};
use proto::v1::{Batch, FromWorker, LogLevel, LogSource, Phase, from_worker};
use tokio::sync::{mpsc, watch};

use super::backlog::Gate as Backlog;
use super::events;
use super::notices::Notices;
use super::pace::Pace;
use super::pieces::{self, Origin};
use super::tail::{Piece, Tail, Writer};
use super::window::Window;
use super::wire::Outbox;

/// Segments that wait for the line cursor: one per process and a few lines of ours.
const SEGMENTS: usize = 256;

/// Between two looks at the output at least: it goes on in batches every 250 ms.
const GAP: Duration = Duration::from_millis(40);

/// What comes next in the log.
#[derive(Debug)]
pub(super) enum Segment {
    /// A line of the worker itself.
    System {
        phase: Phase,
        level: LogLevel,
        text: String,
    },
    /// The output of one process.
    Output(Output),
}

/// The files one process writes to.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) phase: Phase,
    /// `None` where standard output is a document, not a log.
    pub(super) stdout: Option<File>,
    pub(super) stderr: File,
    /// Turns true once the process has ended.
    pub(super) ended: watch::Receiver<bool>,
}

/// Starts the line cursor. It ends, returning the last sequence, when all senders are
/// dropped and every line was handed to the daemon.
pub(super) fn start(
    daemon: Outbox<FromWorker>,
    credit: watch::Receiver<u64>,
    notices: Notices,
) -> (mpsc::Sender<Segment>, tokio::task::JoinHandle<u64>) {
    let (sender, segments) = mpsc::channel(SEGMENTS);
    let cursor = Cursor {
        segments,
        held: None,
        daemon,
        notices,
        window: Window::new(credit),
        batch: Batch::default(),
        bytes: 0,
        seq: 0,
    };
    (sender, tokio::spawn(cursor.run()))
}

struct Cursor {
    segments: mpsc::Receiver<Segment>,
    /// An output that came up while the one before it was still being read.
    held: Option<Output>,
    daemon: Outbox<FromWorker>,
    notices: Notices,
    window: Window,
    batch: Batch,
    bytes: usize,
    seq: u64,
}

/// One of the two streams of a process.
struct Stream {
    tail: Tail,
    parse: fn(&[u8]) -> events::Event,
    backlog: Backlog,
}

impl Stream {
    fn new(file: File, parse: fn(&[u8]) -> events::Event) -> Self {
        Self {
            tail: Tail::new(file),
            parse,
            backlog: Backlog::new(LOG_BACKLOG),
        }
    }
}

impl Cursor {
    async fn run(mut self) -> u64 {
        loop {
            let segment = match self.held.take() {
                Some(output) => Some(Segment::Output(output)),
                None => self.segments.recv().await,
            };
            match segment {
                Some(Segment::Output(output)) => self.follow(output).await,
                Some(system) => self.system(system).await,
                None => return self.seq,
            }
            self.flush().await;
        }
    }

    async fn system(&mut self, segment: Segment) {
        if let Segment::System { phase, level, text } = segment {
            let origin = Origin {
                time_ms: super::clock::now_ms(),
                phase,
                source: LogSource::System,
                level,
            };
            self.push(&origin, &text, false).await;
        }
    }

    /// Reads both streams until the process has ended and nothing is left. Lines of ours
    /// that come up meanwhile are put in once the output before them was read.
    async fn follow(&mut self, mut output: Output) {
        let mut streams = Vec::new();
        if let Some(stdout) = output.stdout.take() {
            streams.push(Stream::new(stdout, events::parse));
        }
        streams.push(Stream::new(output.stderr, events::parse_stderr));
        let mut pace = Pace::new(self.notices.output(), GAP);
        loop {
            let ended = *output.ended.borrow_and_update();
            let writer = if ended { Writer::Ended } else { Writer::Alive };
            let waiting = self.segments.len();
            let before = self.seq;
            for stream in &mut streams {
                self.drain(stream, output.phase, writer).await;
            }
            self.interject(waiting).await;
            self.flush().await;
            if ended {
                self.close_gaps(&mut streams, output.phase).await;
                return;
            }
            // Cancel safe: both only wait.
            tokio::select! {
                biased;
                changed = output.ended.changed() => if changed.is_err() { return },
                () = pace.next(self.seq > before) => {}
            }
        }
    }

    /// Lines left out at the very end have no next line that would bring their gap.
    async fn close_gaps(&mut self, streams: &mut [Stream], phase: Phase) {
        for stream in streams {
            if let Some(gap) = stream.backlog.take_gap() {
                let origin = Origin {
                    time_ms: super::clock::now_ms(),
                    phase,
                    source: LogSource::Gap,
                    level: LogLevel::Warn,
                };
                self.push(&origin, &gap, false).await;
            }
        }
    }

    async fn interject(&mut self, waiting: usize) {
        for _ in 0..waiting {
            if self.held.is_some() {
                return;
            }
            match self.segments.try_recv() {
                Ok(Segment::Output(output)) => self.held = Some(output),
                Ok(system) => self.system(system).await,
                Err(_) => return,
            }
        }
    }

    async fn drain(&mut self, stream: &mut Stream, phase: Phase, writer: Writer) {
        loop {
            if self.window.is_full() {
                stream.backlog.measure(&stream.tail);
            }
            let piece = match stream.tail.next(writer) {
                Ok(Some(piece)) => piece,
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "cannot read the engine's output");
                    return;
                }
            };
            let (mut event, more) = match &piece {
                Piece::Line(line) => ((stream.parse)(line), false),
                Piece::Part(part) => (events::raw(part), true),
            };
            if phase == Phase::Apply && event.kind == events::Kind::Planned {
                event.level = LogLevel::Debug;
            }
            let mut origin = Origin {
                time_ms: event.time_ms.unwrap_or_else(super::clock::now_ms),
                phase,
                source: LogSource::Engine,
                level: event.level,
            };
            if stream.backlog.drops(event.level, event.message.len()) {
                continue;
            }
            if let Some(gap) = stream.backlog.take_gap() {
                origin.source = LogSource::Gap;
                self.push(&origin, &gap, false).await;
                origin.source = LogSource::Engine;
            }
            self.push(&origin, &event.message, more).await;
        }
    }

    async fn push(&mut self, origin: &Origin, text: &str, goes_on: bool) {
        for mut line in pieces::split(origin, text, goes_on) {
            if self.window.is_full() {
                self.flush().await;
                self.window.wait().await;
            }
            self.seq += 1;
            line.seq = self.seq;
            self.bytes += line.text.len();
            self.window.sent(self.seq, line.text.len());
            self.batch.phase = line.phase;
            self.batch.lines.push(line);
            if self.bytes >= UPDATE_FLUSH_BYTES || self.batch.lines.len() >= UPDATE_FLUSH_LINES {
                self.flush().await;
            }
        }
    }

    async fn flush(&mut self) {
        if self.batch.lines.is_empty() {
            return;
        }
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        let message = Some(from_worker::Message::Batch(batch));
        self.daemon.send(FromWorker { message }).await;
    }
}

#[cfg(test)]
mod tests;
