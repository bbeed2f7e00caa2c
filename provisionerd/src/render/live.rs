//! A running job on stderr: on a terminal one moving line with the phase, what is being
//! made and how long it takes, finished resources above it; elsewhere plain lines.

mod moving;

use std::time::{Duration, Instant};

use indicatif::ProgressDrawTarget;
use proto::v1::{JobStatus, JobView, LedgerEntry, LogLevel, Phase, StoredLine};

use self::moving::Live;
use super::paint::{Paint, harmless};
use super::words;

/// A wait that nobody needs an explanation for.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// How a job is shown.
pub struct View {
    kind: Kind,
    paint: Paint,
    phase: Phase,
    waiting_for: String,
    /// Until it was said what the job waits for.
    waiting_since: Option<Instant>,
    daemon: Option<String>,
    lost: bool,
}

enum Kind {
    Silent,
    Plain,
    Live(Box<Live>),
}

impl View {
    /// Shows nothing.
    pub fn silent() -> Self {
        Self::of(Kind::Silent)
    }

    /// What suits stderr.
    pub fn for_stderr() -> Self {
        use std::io::IsTerminal;
        if std::io::stderr().is_terminal() {
            Self::on(ProgressDrawTarget::stderr())
        } else {
            Self::of(Kind::Plain)
        }
    }

    /// A live view on this terminal.
    fn on(target: ProgressDrawTarget) -> Self {
        Self::of(Kind::Live(Box::new(Live::on(target))))
    }

    fn of(kind: Kind) -> Self {
        Self {
            kind,
            paint: Paint::stderr(),
            phase: Phase::Unspecified,
            waiting_for: String::new(),
            waiting_since: None,
            daemon: None,
            lost: false,
        }
    }

    /// Whether this view shows single resources.
    pub fn wants_ledger(&self) -> bool {
        match self.kind {
            Kind::Live(_) => true,
            Kind::Silent | Kind::Plain => false,
        }
    }

    /// The job has changed.
    pub fn job(&mut self, job: &JobView) {
        self.lost = false;
        let waiting = harmless(job.waiting_for.as_deref().unwrap_or(""));
        if waiting != self.waiting_for {
            self.waiting_since = (!waiting.is_empty()).then(Instant::now);
            self.waiting_for = waiting;
        }
        let starts = self.daemon.is_none();
        self.daemon = job.daemon.as_deref().map(harmless);
        if let (true, Some(name), Kind::Plain) = (starts, &self.daemon, &self.kind) {
            eprintln!("runs on {name}");
        }
        if let Kind::Live(live) = &mut self.kind {
            live.failed = matches!(job.status(), JobStatus::Failed | JobStatus::Canceled);
        }
        let phase = job.phase();
        if let (true, Kind::Live(live)) = (phase != self.phase, &mut self.kind) {
            self.phase = phase;
            live.enter(words::phase(phase).unwrap_or("queue"), self.paint);
        }
    }

    /// The next log line.
    pub fn line(&mut self, stored: &StoredLine) {
        let Some(line) = &stored.line else { return };
        let quiet = matches!(line.level(), LogLevel::Trace | LogLevel::Debug);
        let text = harmless(&line.text);
        let paint = self.paint;
        match &mut self.kind {
            Kind::Silent => {}
            Kind::Plain if quiet => {}
            Kind::Plain => {
                // Lines and job come by two streams: a heading from the job could stand
                // above lines of the phase before it.
                if line.phase() != self.phase {
                    self.phase = line.phase();
                    eprintln!("== {}", words::phase(self.phase).unwrap_or("queue"));
                }
                eprintln!("{text}");
            }
            Kind::Live(live) => match line.level() {
                LogLevel::Warn => live.print(&paint.yellow(&text)),
                LogLevel::Error => {
                    live.troubled = true;
                    live.print(&paint.red(&text));
                }
                LogLevel::Unspecified | LogLevel::Info | LogLevel::Trace | LogLevel::Debug => {
                    live.last_line = text;
                }
            },
        }
    }

    /// What has happened to resources so far.
    pub fn ledger(&mut self, entries: &[LedgerEntry]) {
        if let Kind::Live(live) = &mut self.kind {
            live.ledger(entries, self.paint);
        }
    }

    /// The queue cannot be reached for now.
    pub fn lost(&mut self) {
        if !self.lost {
            self.lost = true;
            self.print("the queue cannot be reached; trying again");
        }
    }

    /// Time has passed.
    pub fn frame(&mut self) {
        if self
            .waiting_since
            .is_some_and(|at| at.elapsed() > SHORT_WAIT)
        {
            self.waiting_since = None;
            self.print(&format!("waiting: {}", self.waiting_for));
        }
        if let Kind::Live(live) = &mut self.kind {
            live.draw(self.paint);
        }
    }

    /// Leaves the terminal as it was, with what was printed above.
    pub fn close(&mut self) {
        if let Kind::Live(live) = &mut self.kind {
            live.leave(self.paint);
            live.clear();
        }
    }

    fn print(&mut self, text: &str) {
        match &mut self.kind {
            Kind::Silent => {}
            Kind::Plain => eprintln!("{text}"),
            Kind::Live(live) => live.print(text),
        }
    }
}

#[cfg(test)]
mod tests;
