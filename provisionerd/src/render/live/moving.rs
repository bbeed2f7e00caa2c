//! The moving line of a live view: the phase, what is being made and how long it takes;
//! above it, for good, what is done.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use proto::v1::{LedgerAction, LedgerEntry, LedgerEvent};

use super::super::paint::{Paint, harmless};
use super::super::time::elapsed;
use super::super::words;

/// Resources shown while they are being made.
const SHOWN_IN_FLIGHT: usize = 8;

/// The moving line.
pub(super) struct Live {
    bar: ProgressBar,
    phase: Option<(&'static str, Instant)>,
    pub(super) last_line: String,
    in_flight: BTreeMap<String, Flight>,
    /// Ledger entries seen so far.
    seen: u64,
    done: usize,
    /// The job has ended, and not well.
    pub(super) failed: bool,
    /// The phase has printed an error.
    pub(super) troubled: bool,
}

struct Flight {
    action: LedgerAction,
    since: Instant,
}

impl Live {
    pub(super) fn on(target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
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

    /// Lines above, for good.
    pub(super) fn print(&self, text: &str) {
        self.bar.println(text);
    }

    /// Takes the moving line off the terminal.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    pub(super) fn enter(&mut self, phase: &'static str, paint: Paint) {
        self.leave(paint);
        self.phase = Some((phase, Instant::now()));
        self.last_line.clear();
        self.draw(paint);
    }

    /// One line for the phase that is over.
    pub(super) fn leave(&mut self, paint: Paint) {
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

    pub(super) fn ledger(&mut self, entries: &[LedgerEntry], paint: Paint) {
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

    pub(super) fn draw(&self, paint: Paint) {
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
