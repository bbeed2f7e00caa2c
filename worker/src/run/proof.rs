//! Up to which ledger entry a state proves what the ledger tells. Engines print
//! `apply_complete` before the state is on disk, and a large state or a stalled disk may
//! keep it away for as long as it likes: no amount of waiting proves anything.
//!
//! ```text
//!   engine  records in memory ──▶ prints complete ──▶ writes the file (other writes may lie between)
//! ```
//!
//! *Shown.* What was made stands in the state with its id, what was deleted does not stand
//! there. Where the event names the `id`, nothing else proves a creation.
//!
//! *Younger.* Terraform holds the lock of its state while it copies and writes it, and needs
//! the same lock to record a resource, which it does before it prints. So a file that was
//! written to after the printing has what was printed (seen with fsyncs that take 4 s: what
//! completes meanwhile stands in the file before it is printed). `OpenTofu` may write, when it
//! is interrupted, a copy taken earlier; there the file must be clearly younger.
//!
//! *Quiet.* The kernel's clock for files lags, so a state written right behind the printing
//! often looks as old as it. Of an update nothing but attributes hangs on that, which the
//! next plan reads again: it counts once nothing was written for a while.
//!
//! When the engine has ended by itself its last state proves all.

use std::time::{Duration, Instant, SystemTime};

use proto::v1::{LedgerAction, LedgerEntry, LedgerEvent};

use super::ledger::Ledger;
use super::state_index::StateIndex;

/// After this an update whose state looks as old as its end is taken to be in it.
pub(super) const SETTLE: Duration = Duration::from_secs(2);

/// Times of files come from the kernel's tick and lag behind the clock that events carry.
const FILE_CLOCK: Duration = Duration::from_millis(20);

/// Entries carry whole milliseconds, cut off.
const ENTRY_CLOCK: Duration = Duration::from_millis(1);

/// The attribute by which a state's objects are known here.
const ID: &str = "id";

/// When an engine writes its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    /// After each resource (Terraform).
    EachResource,
    /// Every 20 s (OpenTofu).
    Periodic,
    /// Nobody knows when any more, of a copy that is used instead of the engine's own file:
    /// it proves what it shows.
    Unknown,
    /// For the last time, once all was printed: the engine has come to its own end. A file
    /// that is older than an entry is one that the engine could not save any more.
    AtItsEnd,
}

/// A state that was read.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) index: &'a StateIndex,
    pub(super) habit: Habit,
    /// When reading began.
    pub(super) read_at: Instant,
    /// Modification time of the file.
    pub(super) written_at: SystemTime,
}

impl Reading<'_> {
    /// Sequence of the last entry before the first that is not proved.
    pub(super) fn proved_seq(&self, ledger: &Ledger) -> u64 {
        let unproved = ledger
            .seen()
            .find(|(entry, seen)| !self.proves(entry, *seen))
            .map(|(entry, _)| entry.seq - 1);
        unproved.unwrap_or_else(|| ledger.last_seq())
    }

    fn proves(&self, entry: &LedgerEntry, seen: Instant) -> bool {
        match entry.event() {
            LedgerEvent::Complete => self.shows(entry) || self.is_younger(entry, seen),
            LedgerEvent::Errored => self.is_younger(entry, seen),
            LedgerEvent::Unspecified
            | LedgerEvent::Started
            | LedgerEvent::ProvisionStarted
            | LedgerEvent::ProvisionComplete
            | LedgerEvent::ProvisionErrored => true,
        }
    }

    fn shows(&self, entry: &LedgerEntry) -> bool {
        match entry.action() {
            LedgerAction::Create | LedgerAction::Replace => {
                has_id(entry) && self.index.holds(&entry.address, &entry.id_value)
            }
            LedgerAction::Delete => !self.index.holds(&entry.address, ""),
            LedgerAction::Update | LedgerAction::Read | LedgerAction::Unspecified => false,
        }
    }

    fn is_younger(&self, entry: &LedgerEntry, seen: Instant) -> bool {
        let made = is_creation(entry.action());
        let must_show = made && has_id(entry) && entry.event() == LedgerEvent::Complete;
        match self.habit {
            Habit::EachResource | Habit::Periodic if must_show => false,
            Habit::EachResource => {
                let quiet = self.read_at.saturating_duration_since(seen) >= SETTLE;
                let as_old = quiet && !made && self.written() + FILE_CLOCK >= printed(entry);
                self.written() >= printed(entry) + ENTRY_CLOCK || as_old
            }
            Habit::Periodic => self.written() >= printed(entry) + SETTLE,
            Habit::Unknown => false,
            Habit::AtItsEnd => self.written() + FILE_CLOCK >= printed(entry),
        }
    }

    fn written(&self) -> Duration {
        let since = self.written_at.duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default()
    }
}

fn is_creation(action: LedgerAction) -> bool {
    matches!(action, LedgerAction::Create | LedgerAction::Replace)
}

/// Whether the state can be asked for the very object that the entry is about: the same
/// address may still hold the one that is to be replaced.
fn has_id(entry: &LedgerEntry) -> bool {
    entry.id_key == ID && !entry.id_value.is_empty()
}

fn printed(entry: &LedgerEntry) -> Duration {
    Duration::from_millis(u64::try_from(entry.time_ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::events;

    fn ledger(lines: &[&str]) -> Ledger {
        let mut ledger = Ledger::default();
        for line in lines {
            ledger.record(&events::parse(line.as_bytes()), 0);
        }
        ledger
    }

    fn hook(kind: &str, action: &str, id: &str) -> String {
        named(kind, action, "id", id)
    }

    fn named(kind: &str, action: &str, key: &str, id: &str) -> String {
        format!(
            r#"{{"@message":"m","@timestamp":"1970-01-01T00:01:00Z","type":"{kind}","hook":{{"resource":{{"addr":"a.b"}},"action":"{action}","id_key":"{key}","id_value":"{id}"}}}}"#
        )
    }

    fn proved(state: &str, habit: Habit, age: Duration, ledger: &Ledger) -> u64 {
        looked(state, habit, (age, age), ledger)
    }

    /// `written`: how long after the printing; `read`: how long after the last was heard.
    fn looked(
        state: &str,
        habit: Habit,
        (written, read): (Duration, Duration),
        ledger: &Ledger,
    ) -> u64 {
        let index = StateIndex::of(state.as_bytes()).expect("state");
        let reading = Reading {
            index: &index,
            habit,
            read_at: heard(ledger) + read,
            written_at: SystemTime::UNIX_EPOCH + Duration::from_secs(60) + written,
        };
        reading.proved_seq(ledger)
    }

    fn heard(ledger: &Ledger) -> Instant {
        ledger.seen().last().expect("an entry").1
    }

    const RUNNING: [Habit; 2] = [Habit::EachResource, Habit::Periodic];
    const LONG: Duration = Duration::from_secs(600);
    const HOLDS: &str = r#"{"resources":[{"mode":"managed","type":"a","name":"b","instances":[{"attributes":{"id":"i"}}]}]}"#;
    const EMPTY: &str = r#"{"resources":[]}"#;

    #[test]
    fn a_created_resource_is_proved_by_its_id_in_the_state() {
        let ledger = ledger(&[
            &hook("apply_start", "create", ""),
            &hook("apply_complete", "create", "i"),
        ]);
        for habit in RUNNING {
            assert_eq!(proved(HOLDS, habit, Duration::ZERO, &ledger), 2);
        }
    }

    #[test]
    fn no_time_proves_a_created_resource_that_the_state_does_not_show() {
        let ledger = ledger(&[
            &hook("apply_start", "create", ""),
            &hook("apply_complete", "create", "i"),
        ]);
        let other = HOLDS.replace(r#""i""#, r#""to be replaced""#);
        for habit in RUNNING {
            for state in [EMPTY, &other] {
                assert_eq!(proved(state, habit, LONG, &ledger), 1, "{habit:?} {state}");
            }
        }
    }

    #[test]
    fn a_creation_without_an_id_is_proved_by_a_younger_file_and_not_by_its_address() {
        let ledger = ledger(&[
            &hook("apply_start", "create", ""),
            &named("apply_complete", "create", "name", "n"),
        ]);
        for habit in RUNNING {
            // The address may hold what is to be replaced, and standing still says nothing.
            let still = (Duration::ZERO, LONG);
            assert_eq!(looked(HOLDS, habit, still, &ledger), 1, "{habit:?}");
            assert_eq!(proved(HOLDS, habit, LONG, &ledger), 2, "{habit:?}");
        }
    }

    #[test]
    fn what_is_left_of_a_failed_creation_is_proved_by_a_younger_file_only() {
        let ledger = ledger(&[
            &hook("apply_start", "create", ""),
            &hook("apply_errored", "create", ""),
        ]);
        for habit in RUNNING {
            let still = (Duration::ZERO, LONG);
            assert_eq!(looked(HOLDS, habit, still, &ledger), 1, "{habit:?}");
            assert_eq!(proved(HOLDS, habit, LONG, &ledger), 2, "{habit:?}");
        }
        let behind = (ENTRY_CLOCK, Duration::ZERO);
        assert_eq!(looked(HOLDS, Habit::EachResource, behind, &ledger), 2);
        assert_eq!(looked(HOLDS, Habit::Periodic, behind, &ledger), 1);
    }

    #[test]
    fn a_deleted_resource_is_proved_by_its_absence() {
        let ledger = ledger(&[
            &hook("apply_start", "delete", "i"),
            &hook("apply_complete", "delete", ""),
        ]);
        for habit in RUNNING {
            assert_eq!(proved(EMPTY, habit, Duration::ZERO, &ledger), 2);
            assert_eq!(proved(HOLDS, habit, Duration::ZERO, &ledger), 1);
        }
    }

    #[test]
    fn an_update_is_proved_by_a_younger_state_or_by_one_as_old_that_stands_still() {
        let ledger = ledger(&[
            &hook("apply_start", "update", "i"),
            &hook("apply_complete", "update", "i"),
        ]);
        for habit in RUNNING {
            assert_eq!(proved(HOLDS, habit, Duration::ZERO, &ledger), 1);
            assert_eq!(proved(HOLDS, habit, SETTLE, &ledger), 2);
        }
        let still = (Duration::ZERO, SETTLE);
        assert_eq!(looked(HOLDS, Habit::EachResource, still, &ledger), 2);
        assert_eq!(looked(HOLDS, Habit::Periodic, still, &ledger), 1);
    }

    #[test]
    fn a_file_that_is_older_than_an_update_does_not_prove_it_however_long_it_stands() {
        let ledger = ledger(&[
            &hook("apply_start", "update", "i"),
            &hook("apply_complete", "update", "i"),
        ]);
        for habit in RUNNING {
            let index = StateIndex::of(HOLDS.as_bytes()).expect("state");
            let older = Reading {
                index: &index,
                habit,
                read_at: heard(&ledger) + LONG,
                written_at: SystemTime::UNIX_EPOCH + Duration::from_secs(59),
            };
            assert_eq!(older.proved_seq(&ledger), 1, "{habit:?}");
        }
    }

    #[test]
    fn an_engine_that_ended_and_could_not_save_proves_only_what_its_file_shows() {
        for (kind, action, id) in [
            ("apply_complete", "create", "other"),
            ("apply_complete", "update", ""),
            ("apply_errored", "create", ""),
        ] {
            let ledger = ledger(&[&hook("apply_start", action, ""), &hook(kind, action, id)]);
            let older = Reading {
                index: &StateIndex::of(HOLDS.as_bytes()).expect("state"),
                habit: Habit::AtItsEnd,
                read_at: heard(&ledger) + SETTLE,
                written_at: SystemTime::UNIX_EPOCH + Duration::from_secs(59),
            };
            assert_eq!(older.proved_seq(&ledger), 1, "{kind} {action}");
            let saved = proved(HOLDS, Habit::AtItsEnd, Duration::ZERO, &ledger);
            assert_eq!(saved, 2, "{kind} {action}");
        }
    }
}
