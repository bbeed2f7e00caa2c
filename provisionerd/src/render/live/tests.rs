//! What a terminal shows of a job.

use proto::v1::{LedgerAction, LedgerEvent, LogLine};

use super::*;
use crate::render::screen::Screen;

struct Watched {
    view: View,
    screen: Screen,
}

impl Watched {
    fn new() -> Self {
        let screen = Screen::default();
        let view = View::on(screen.target());
        Self { view, screen }
    }

    fn phase(&mut self, phase: Phase, status: JobStatus) {
        self.view.job(&JobView {
            phase: phase.into(),
            status: status.into(),
            daemon: Some("one".to_owned()),
            ..JobView::default()
        });
    }

    fn line(&mut self, level: LogLevel, text: &str) {
        let line = LogLine {
            level: level.into(),
            text: text.to_owned(),
            ..LogLine::default()
        };
        self.view.line(&StoredLine {
            line: Some(line),
            ..StoredLine::default()
        });
    }

    /// What stands there now, after a frame.
    fn shows(&mut self) -> String {
        self.view.frame();
        self.screen.last()
    }
}

fn entry(seq: u64, address: &str, event: LedgerEvent) -> LedgerEntry {
    LedgerEntry {
        seq,
        address: address.to_owned(),
        action: LedgerAction::Create.into(),
        event: event.into(),
        elapsed_ms: 1_500,
        ..LedgerEntry::default()
    }
}

#[test]
fn a_phase_shows_its_last_line_and_leaves_one_of_its_own() {
    let mut watched = Watched::new();
    watched.phase(Phase::Init, JobStatus::Running);
    watched.line(LogLevel::Info, "Initializing provider plugins...");
    let shown = watched.shows();
    assert!(shown.contains("init     "), "{shown:?}");
    assert!(
        shown.contains("Initializing provider plugins..."),
        "{shown:?}"
    );
    watched.phase(Phase::Plan, JobStatus::Running);
    let all = watched.screen.all();
    assert!(all.contains("✓ init     "), "{all:?}");
    let shown = watched.shows();
    assert!(shown.contains("plan     "), "{shown:?}");
    assert!(!shown.contains("Initializing"), "{shown:?}");
}

#[test]
fn resources_are_shown_while_they_are_made_and_once_when_they_are_there() {
    let mut watched = Watched::new();
    watched.phase(Phase::Apply, JobStatus::Running);
    let started = [
        entry(1, "disk.a", LedgerEvent::Started),
        entry(2, "disk.b", LedgerEvent::Started),
    ];
    watched.view.ledger(&started);
    let shown = watched.shows();
    assert!(shown.contains("create   disk.a"), "{shown:?}");
    assert!(shown.contains("create   disk.b"), "{shown:?}");

    let mut all = started.to_vec();
    all.push(entry(3, "disk.a", LedgerEvent::Complete));
    all.push(entry(4, "disk.b", LedgerEvent::Errored));
    watched.view.ledger(&all);
    // The ledger always comes whole; what was shown is not shown again.
    watched.view.ledger(&all);
    let shown = watched.shows();
    assert!(shown.contains("1 done"), "{shown:?}");
    assert!(!shown.contains("disk.a"), "{shown:?}");
    let printed = watched.screen.all();
    assert_eq!(
        printed.matches("✓ create   disk.a 1.5 s").count(),
        1,
        "{printed:?}"
    );
    assert_eq!(
        printed.matches("✗ create   disk.b 1.5 s").count(),
        1,
        "{printed:?}"
    );
}

#[test]
fn many_resources_at_once_are_counted_beyond_the_first_ones() {
    let mut watched = Watched::new();
    watched.phase(Phase::Apply, JobStatus::Running);
    let many: Vec<_> = (1..=11)
        .map(|n| entry(n, &format!("disk.d{n:02}"), LedgerEvent::Started))
        .collect();
    watched.view.ledger(&many);
    let shown = watched.shows();
    assert!(
        shown.contains("disk.d08") && shown.contains("and 3 more"),
        "{shown:?}"
    );
    assert!(!shown.contains("disk.d09"), "{shown:?}");
}

#[test]
fn an_error_stays_on_the_screen_and_marks_its_phase() {
    let mut watched = Watched::new();
    watched.phase(Phase::Plan, JobStatus::Running);
    watched.line(LogLevel::Error, "Error: no such image");
    watched.phase(Phase::Cleanup, JobStatus::Failed);
    watched.view.close();
    let all = watched.screen.all();
    assert!(all.contains("Error: no such image"), "{all:?}");
    assert!(all.contains("✗ plan     "), "{all:?}");
    assert!(
        all.contains("✓ cleanup  "),
        "a failed job cleans up too: {all:?}"
    );
    assert_eq!(watched.screen.last(), "", "nothing moves on");
}

#[test]
fn what_a_template_prints_cannot_steer_the_terminal() {
    let mut watched = Watched::new();
    watched.phase(Phase::Plan, JobStatus::Running);
    watched.line(LogLevel::Error, "\u{1b}]0;title\u{7}\u{1b}[2J");
    let all = watched.screen.all();
    assert!(!all.contains('\u{1b}') && !all.contains('\u{7}'), "{all:?}");
}

#[test]
fn a_wait_is_explained_once_it_is_no_longer_short() {
    let mut watched = Watched::new();
    let job = JobView {
        waiting_for: Some("no daemon has the tag region=eu".to_owned()),
        ..JobView::default()
    };
    watched.view.job(&job);
    watched.view.frame();
    assert!(!watched.screen.all().contains("waiting:"));
    watched.view.waiting_since = Instant::now().checked_sub(SHORT_WAIT * 2);
    watched.view.frame();
    watched.view.frame();
    let all = watched.screen.all();
    assert_eq!(
        all.matches("waiting: no daemon has the tag").count(),
        1,
        "{all:?}"
    );
}

#[test]
fn a_lost_queue_is_said_once_until_it_is_back() {
    let mut watched = Watched::new();
    watched.phase(Phase::Plan, JobStatus::Running);
    watched.view.lost();
    watched.view.lost();
    assert_eq!(watched.screen.all().matches("cannot be reached").count(), 1);
    watched.phase(Phase::Plan, JobStatus::Running);
    watched.view.lost();
    assert_eq!(watched.screen.all().matches("cannot be reached").count(), 2);
}
