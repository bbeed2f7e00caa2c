//! Up to which ledger entry a state proves what the ledger tells. Engines print
//! `apply_complete` before the state is on disk, so an entry counts as proved when the
//! state visibly shows it, or when the state is so much younger than the entry that it
//! must contain it. When the engine has ended by itself its last state proves all.

use std::time::{Duration, Instant, SystemTime};

use proto::v1::{LedgerAction, LedgerEntry, LedgerEvent};

use super::ledger::Ledger;
use super::state_index::StateIndex;

/// Longer than an engine needs from the message to the written file, large states on a
/// busy host included.
pub(super) const SETTLE: Duration = Duration::from_secs(2);

/// Times of files come from the kernel's tick and lag behind the clock that events carry.
const FILE_CLOCK: Duration = Duration::from_millis(20);

/// When an engine writes its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    /// After each resource (Terraform): what was printed long ago is in the file.
    EachResource,
    /// Every 20 s (OpenTofu): only what was printed long before the write is in it.
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
                self.index.holds(&entry.address, &entry.id_value)
            }
            LedgerAction::Delete => !self.index.holds(&entry.address, ""),
            LedgerAction::Update | LedgerAction::Read | LedgerAction::Unspecified => false,
        }
    }

    fn is_younger(&self, entry: &LedgerEntry, seen: Instant) -> bool {
        match self.habit {
            Habit::EachResource => self.read_at.saturating_duration_since(seen) >= SETTLE,
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
        format!(
            r#"{{"@message":"m","@timestamp":"1970-01-01T00:01:00Z","type":"{kind}","hook":{{"resource":{{"addr":"a.b"}},"action":"{action}","id_value":"{id}"}}}}"#
        )
    }

    fn proved(state: &str, habit: Habit, age: Duration, ledger: &Ledger) -> u64 {
        let index = StateIndex::of(state.as_bytes()).expect("state");
        let reading = Reading {
            index: &index,
            habit,
            read_at: Instant::now() + age,
            written_at: SystemTime::UNIX_EPOCH + Duration::from_secs(60) + age,
        };
        reading.proved_seq(ledger)
    }

    const HOLDS: &str = r#"{"resources":[{"mode":"managed","type":"a","name":"b","instances":[{"attributes":{"id":"i"}}]}]}"#;
    const EMPTY: &str = r#"{"resources":[]}"#;

    #[test]
    fn a_created_resource_is_proved_by_its_id_in_the_state() {
        let ledger = ledger(&[
            &hook("apply_start", "create", ""),
            &hook("apply_complete", "create", "i"),
        ]);
        assert_eq!(
            proved(HOLDS, Habit::EachResource, Duration::ZERO, &ledger),
            2
        );
        assert_eq!(
            proved(EMPTY, Habit::EachResource, Duration::ZERO, &ledger),
            1
        );
    }

    #[test]
    fn a_deleted_resource_is_proved_by_its_absence() {
        let ledger = ledger(&[
            &hook("apply_start", "delete", "i"),
            &hook("apply_complete", "delete", ""),
        ]);
        assert_eq!(
            proved(EMPTY, Habit::EachResource, Duration::ZERO, &ledger),
            2
        );
        assert_eq!(
            proved(HOLDS, Habit::EachResource, Duration::ZERO, &ledger),
            1
        );
    }

    #[test]
    fn an_update_is_proved_by_a_state_that_is_clearly_younger() {
        let ledger = ledger(&[
            &hook("apply_start", "update", "i"),
            &hook("apply_complete", "update", "i"),
        ]);
        for habit in [Habit::EachResource, Habit::Periodic] {
            assert_eq!(proved(HOLDS, habit, Duration::ZERO, &ledger), 1);
            assert_eq!(proved(HOLDS, habit, SETTLE, &ledger), 2);
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
                read_at: Instant::now() + SETTLE,
                written_at: SystemTime::UNIX_EPOCH + Duration::from_secs(59),
            };
            assert_eq!(older.proved_seq(&ledger), 1, "{kind} {action}");
            let saved = proved(HOLDS, Habit::AtItsEnd, Duration::ZERO, &ledger);
            assert_eq!(saved, 2, "{kind} {action}");
        }
    }
}
