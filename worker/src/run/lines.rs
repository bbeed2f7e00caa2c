//! The line cursor: turns what engines print and what the worker has to say into the
//! job's log, in order. It waits for the daemon's credit, so a queue that cannot be
//! reached costs no memory: the output files are the spool, and nothing else of the
//! worker waits for it. The ledger has a cursor of its own (`watch`) that never waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::limits::{UPDATE_FLUSH_BYTES, UPDATE_FLUSH_LINES};
use proto::v1::line_record::Record;
use proto::v1::{Batch, FromWorker, LineRun, LineSource, LogLine, LogSource, Phase, from_worker};
use tokio::sync::{mpsc, watch};

use super::marks::Marks;
use super::notices::Notices;
use super::pace::{self, Pace};
use super::pieces::{self, Origin};
use super::signals::Signals;
use super::spool::{Spool, Spot, Which};
use super::stream::{Open, Shown, Stream};
use super::tail::Writer;
use super::thin;
use super::window::Window;
use super::wire::Outbox;

mod again;

/// How often a cursor that waits for credit looks at how much waits with it.
const LOOK: Duration = Duration::from_millis(250);

/// What comes next in the log.
#[derive(Debug)]
pub(super) enum Segment {
    /// A word of the worker itself, and its number among the sources.
    System(u32, LineSource),
    /// The output of one process.
    Output(Output),
}

/// The files one process writes to.
#[derive(Debug)]
pub(super) struct Output {
    /// Its number among the sources.
    pub(super) source: u32,
    pub(super) phase: Phase,
    /// `None` where standard output is a document, not a log.
    pub(super) stdout: Option<Open>,
    pub(super) stderr: Open,
    /// Where the ledger reads standard output too.
    pub(super) marks: Option<Marks>,
    /// Turns true once the process has ended.
    pub(super) ended: watch::Receiver<bool>,
}

/// What a line cursor works with.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    pub(super) daemon: Outbox<FromWorker>,
    pub(super) signals: Signals,
    pub(super) spool: Arc<Spool>,
    pub(super) notices: Notices,
    /// Output that waits for credit and stays whole, in bytes.
    pub(super) backlog: u64,
}

/// Starts the line cursor. It ends, returning the last sequence, when all senders are
/// dropped and every line was handed to the daemon.
pub(super) fn start(desk: Desk) -> (mpsc::UnboundedSender<Segment>, tokio::task::JoinHandle<u64>) {
    // Steps never wait for the log: what they say is little, and outputs are files.
    let (sender, segments) = mpsc::unbounded_channel();
    (sender, tokio::spawn(Cursor::new(desk, segments).run()))
}

/// Hands over the lines behind `after` that a dead worker left; the last sequence.
pub(super) async fn again(desk: Desk, left: Left) -> u64 {
    let (_, segments) = mpsc::unbounded_channel();
    Cursor::new(desk, segments).again(left).await
}

pub(super) use again::Left;

struct Cursor {
    segments: mpsc::UnboundedReceiver<Segment>,
    /// An output that came up while the one before it was still being read.
    held: Option<Output>,
    desk: Desk,
    window: Window,
    batch: Batch,
    /// Where the lines of the batch come from.
    runs: Vec<LineRun>,
    bytes: usize,
    seq: u64,
    /// Of the output in hand.
    streams: Vec<Stream>,
    phase: Phase,
    /// Up to which offset a stream is stored once a line is.
    handed: VecDeque<(u64, Which, u64)>,
    looked: Instant,
}

impl Cursor {
    fn new(desk: Desk, segments: mpsc::UnboundedReceiver<Segment>) -> Self {
        Self {
            segments,
            held: None,
            window: Window::new(desk.signals.credit()),
            desk,
            batch: Batch::default(),
            runs: Vec::new(),
            bytes: 0,
            seq: 0,
            streams: Vec::new(),
            phase: Phase::Unspecified,
            handed: VecDeque::new(),
            looked: Instant::now(),
        }
    }

    async fn run(mut self) -> u64 {
        loop {
            let segment = match self.held.take() {
                Some(output) => Some(Segment::Output(output)),
                None => self.segments.recv().await,
            };
            match segment {
                Some(Segment::Output(output)) => self.follow(output).await,
                Some(Segment::System(number, said)) => {
                    self.system(number, &said, Spot::default()).await;
                }
                None => return self.seq,
            }
            self.flush().await;
        }
    }

    /// A word of the worker, from one of its pieces on.
    async fn system(&mut self, number: u32, said: &LineSource, from: Spot) {
        let which = Which {
            source: number,
            stderr: false,
        };
        for (line, before, behind) in words(said).skip_while(|(_, before, _)| *before != from) {
            self.push(line, Some((which, before, behind))).await;
        }
    }

    async fn follow(&mut self, mut output: Output) {
        let which = |stderr| Which {
            source: output.source,
            stderr,
        };
        let mut streams = Vec::new();
        if let Some(stdout) = output.stdout.take() {
            let stream = Stream::new(stdout, which(false), output.phase, Spot::default());
            streams.push(match output.marks.take() {
                Some(marks) => stream.marked(marks),
                None => stream,
            });
        }
        let stderr = Stream::new(output.stderr, which(true), output.phase, Spot::default());
        streams.push(stderr);
        self.follow_streams(streams, output.phase, output.ended)
            .await;
    }

    /// Reads both streams until the process has ended and nothing is left. Lines of ours
    /// that come up meanwhile are put in once the output before them was read.
    async fn follow_streams(
        &mut self,
        streams: Vec<Stream>,
        phase: Phase,
        mut ended: watch::Receiver<bool>,
    ) {
        self.streams = streams;
        self.phase = phase;
        let mut pace = Pace::new(self.desk.notices.output(), pace::GAP);
        loop {
            let over = *ended.borrow_and_update();
            let writer = if over { Writer::Ended } else { Writer::Alive };
            let waiting = self.segments.len();
            let before = self.seq;
            for stream in 0..self.streams.len() {
                self.drain(stream, writer).await;
            }
            self.interject(waiting).await;
            self.flush().await;
            if over {
                return;
            }
            // Cancel safe: both only wait.
            tokio::select! {
                biased;
                changed = ended.changed() => if changed.is_err() { return },
                () = pace.next(self.seq > before) => {}
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
                Ok(Segment::System(number, said)) => {
                    self.system(number, &said, Spot::default()).await;
                }
                Err(_) => return,
            }
        }
    }

    async fn drain(&mut self, stream: usize, writer: Writer) {
        let which = self.streams[stream].which;
        loop {
            match self.streams[stream].next(writer) {
                Ok(Some(shown)) => self.show(which, &shown).await,
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "cannot read the engine's output");
                    return;
                }
            }
        }
    }

    async fn show(&mut self, which: Which, shown: &Shown) {
        for (line, before, behind) in shown.lines() {
            self.push(line, Some((which, before, behind))).await;
        }
    }

    /// Gives a line its number. Without a place the index knows it already.
    async fn push(&mut self, mut line: LogLine, place: Option<(Which, Spot, Spot)>) {
        while self.window.is_full() {
            self.flush().await;
            self.thin().await;
            // Cancel safe: both only wait.
            let _ = tokio::time::timeout(LOOK, self.window.wait()).await;
            self.forget();
        }
        self.seq += 1;
        line.seq = self.seq;
        if let Some((which, before, behind)) = place {
            self.note(which, before, behind);
        }
        self.bytes += line.text.len();
        self.window.sent(self.seq, line.text.len());
        self.batch.phase = line.phase;
        self.batch.lines.push(line);
        if self.bytes >= UPDATE_FLUSH_BYTES || self.batch.lines.len() >= UPDATE_FLUSH_LINES {
            self.flush().await;
        }
    }

    fn note(&mut self, which: Which, before: Spot, behind: Spot) {
        if let Some(run) = self.runs.last_mut()
            && (run.source, run.stderr) == (which.source, which.stderr)
            && (run.end_offset, run.end_piece) == (before.offset, before.piece)
        {
            run.count += 1;
            (run.end_offset, run.end_piece) = (behind.offset, behind.piece);
            return;
        }
        self.runs.push(LineRun {
            seq: self.seq,
            count: 1,
            source: which.source,
            stderr: which.stderr,
            offset: before.offset,
            piece: before.piece,
            end_offset: behind.offset,
            end_piece: behind.piece,
        });
    }

    async fn flush(&mut self) {
        if self.batch.lines.is_empty() {
            return;
        }
        self.bytes = 0;
        let runs = std::mem::take(&mut self.runs);
        self.handed.extend(runs.iter().map(|run| {
            let which = Which {
                source: run.source,
                stderr: run.stderr,
            };
            (run.seq + run.count - 1, which, run.end_offset)
        }));
        // Before anybody can have them.
        self.desk.spool.note(runs.into_iter().map(Record::Run));
        let batch = std::mem::take(&mut self.batch);
        let message = Some(from_worker::Message::Batch(batch));
        self.desk.daemon.send(FromWorker { message }).await;
        self.forget();
    }

    /// Gives back what is stored. Credit without end stores nothing.
    fn forget(&mut self) {
        let stored = self.window.stored();
        if stored == u64::MAX {
            return self.handed.clear();
        }
        while let Some((_, which, offset)) = self.handed.pop_front_if(|(seq, ..)| *seq <= stored) {
            if let Some(stream) = self.streams.iter_mut().find(|it| it.which == which) {
                stream.stored(offset);
            }
        }
        for stream in &mut self.streams {
            stream.punch(&self.desk.spool, self.desk.signals.journalled());
        }
    }

    /// Leaves out of what waits what is too much.
    async fn thin(&mut self) {
        if self.looked.elapsed() < LOOK {
            return;
        }
        let Desk {
            signals,
            spool,
            backlog,
            ..
        } = &self.desk;
        for stream in &mut self.streams {
            thin::step(stream, self.phase, spool, *backlog, signals.journalled()).await;
        }
        self.looked = Instant::now();
    }
}

/// The lines of a word of the worker, each with the spots before and behind it.
fn words(said: &LineSource) -> impl Iterator<Item = (LogLine, Spot, Spot)> {
    let origin = Origin {
        time_ms: said.time_ms,
        phase: said.phase(),
        source: LogSource::System,
        level: said.level(),
    };
    let lines: Vec<LogLine> = pieces::split(&origin, &said.text, false).collect();
    let count = lines.len() as u64;
    lines.into_iter().zip(0..).map(move |(line, piece)| {
        let spot = |piece| Spot { offset: 0, piece };
        let behind = match piece + 1 == count {
            true => Spot {
                offset: 1,
                piece: 0,
            },
            false => spot(piece + 1),
        };
        (line, spot(piece), behind)
    })
}

#[cfg(test)]
mod tests;
