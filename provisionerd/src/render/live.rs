//! A running job on stderr: on a terminal one moving line with the phase, what is being
//! made and how long it takes, finished resources above it; elsewhere plain lines.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use proto::v1::{
    JobStatus, JobView, LedgerAction, LedgerEntry, LedgerEvent, LogLevel, Phase, StoredLine,
};

use super::paint::{Paint, harmless};
use super::time::elapsed;
use super::words;

/// Resources shown while they are being made.
const SHOWN_IN_FLIGHT: usize = 8;

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
            Self::of(Kind::Live(Box::new(Live::new())))
        } else {
            Self::of(Kind::Plain)
        }
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
            live.bar.finish_and_clear();
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

/// The moving line.
struct Live {
    bar: ProgressBar,
    phase: Option<(&'static str, Instant)>,
    last_line: String,
    in_flight: BTreeMap<String, Flight>,
    /// Ledger entries seen so far.
    seen: u64,
    done: usize,
    /// The job has ended, and not well.
    failed: bool,
    /// The phase has printed an error.
    troubled: bool,
}

struct Flight {
    action: LedgerAction,
    since: Instant,
}

impl Live {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        Self {
            bar,
            phase: None,
            last_line: String::new(),
            in_flight: BTreeMap::new(),
            seen: 0,
            done: 0,
            failed: false,
            troubled: false,
        }
    }

    fn print(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    fn enter(&mut self, phase: &'static str, paint: Paint) {
        self.leave(paint);
        self.phase = Some((phase, Instant::now()));
        self.last_line.clear();
        self.draw(paint);
    }

    /// One line for the phase that is over.
    fn leave(&mut self, paint: Paint) {
        if let Some((phase, since)) = self.phase.take() {
            let time = paint.dim(&elapsed(since.elapsed()));
            // A job cleans up after itself however it ends.
            let failed = self.failed && phase != "cleanup";
            let mark = match std::mem::take(&mut self.troubled) || failed {
                true => paint.red("✗"),
                false => paint.green("✓"),
            };
            self.print(&format!("{mark} {phase:<8} {time}"));
        }
    }

    fn ledger(&mut self, entries: &[LedgerEntry], paint: Paint) {
        let news: Vec<_> = entries.iter().filter(|e| e.seq > self.seen).collect();
        for entry in news {
            self.seen = entry.seq;
            match entry.event() {
                LedgerEvent::Started => {
                    let flight = Flight {
                        action: entry.action(),
                        since: Instant::now(),
                    };
                    self.in_flight.insert(entry.address.clone(), flight);
                }
                LedgerEvent::Complete => {
                    self.done += 1;
                    self.landed(entry, &paint.green("  ✓"), paint);
                }
                LedgerEvent::Errored => self.landed(entry, &paint.red("  ✗"), paint),
                LedgerEvent::Unspecified
                | LedgerEvent::ProvisionStarted
                | LedgerEvent::ProvisionComplete
                | LedgerEvent::ProvisionErrored => {}
            }
        }
    }

    fn landed(&mut self, entry: &LedgerEntry, mark: &str, paint: Paint) {
        self.in_flight.remove(&entry.address);
        let action = words::action(entry.action()).unwrap_or("change");
        let time = elapsed(Duration::from_millis(entry.elapsed_ms));
        let address = harmless(&entry.address);
        self.print(&format!(
            "{mark} {action:<8} {address} {}",
            paint.dim(&time)
        ));
    }

    fn draw(&self, paint: Paint) {
        let Some((phase, since)) = self.phase else {
            return;
        };
        let time = elapsed(since.elapsed());
        let mut text = format!(
            "{} {}",
            paint.bold(&format!("{phase:<8}")),
            paint.dim(&time)
        );
        if self.done > 0 {
            text.push_str(&format!("  {} done", self.done));
        }
        for (address, flight) in self.in_flight.iter().take(SHOWN_IN_FLIGHT) {
            let action = words::action(flight.action).unwrap_or("change");
            let time = elapsed(flight.since.elapsed());
            text.push_str(&format!("\n    {action:<8} {} {time}", harmless(address)));
        }
        if self.in_flight.len() > SHOWN_IN_FLIGHT {
            let more = self.in_flight.len() - SHOWN_IN_FLIGHT;
            text.push_str(&format!("\n    and {more} more"));
        }
        if self.in_flight.is_empty() {
            let line: String = self.last_line.chars().take(100).collect();
            text.push_str(&format!(
                "  {}",
                paint.dim(line.lines().next().unwrap_or(""))
            ));
        }
        self.bar.set_message(text);
        self.bar.tick();
    }
}
