//! What a plan is going to change, from its own events: told before the gate, so that a
//! build of which nothing more is ever heard has named what it may have made.
//!
//! Creations come first. Of what is changed or deleted the workspace's state tells; of what
//! would have been created, nothing else in the world does.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use proto::limits::{INTENDED_BYTES, INTENDED_CHANGES};
use proto::v1::{AskGate, IntendedChange, LedgerAction};

use super::events::{Event, Kind};

/// As the plan's watcher and the gate share it.
pub(super) type SharedIntended = Mutex<Intended>;

/// The changes of one plan.
#[derive(Debug, Default)]
pub(super) struct Intended {
    /// Of what exists, by address, as the plan's refresh names it.
    ids: HashMap<String, String>,
    creations: Bounded,
    others: Bounded,
}

/// As many changes as one message takes.
#[derive(Debug, Default)]
struct Bounded {
    changes: Vec<IntendedChange>,
    bytes: usize,
    left_out: u64,
}

impl Bounded {
    fn add(&mut self, change: IntendedChange) {
        let bytes = self.bytes + size(&change);
        if self.changes.len() == INTENDED_CHANGES || bytes > INTENDED_BYTES {
            self.left_out += 1;
            return;
        }
        self.bytes = bytes;
        self.changes.push(change);
    }
}

/// Its text.
fn size(change: &IntendedChange) -> usize {
    change.address.len() + change.id.len()
}

impl Intended {
    /// Takes what `event` says about the plan.
    pub(super) fn record(&mut self, event: Event) {
        match event.kind {
            Kind::Existing(hook) if !hook.id_value.is_empty() => {
                self.ids.insert(hook.address, hook.id_value);
            }
            Kind::Planned(Some(change)) => self.plan(change.address, change.action),
            Kind::Existing(_)
            | Kind::Planned(None)
            | Kind::Message
            | Kind::Diagnostic(_)
            | Kind::Hook(..) => {}
        }
    }

    fn plan(&mut self, address: String, action: LedgerAction) {
        let (list, id) = match action {
            LedgerAction::Create => (&mut self.creations, String::new()),
            // Both: the old one has an id, the new one is not known to anybody.
            LedgerAction::Replace => (&mut self.creations, id(&self.ids, &address)),
            LedgerAction::Update | LedgerAction::Delete => {
                (&mut self.others, id(&self.ids, &address))
            }
            LedgerAction::Read | LedgerAction::Unspecified => return,
        };
        list.add(IntendedChange {
            address,
            action: action.into(),
            id,
        });
    }

    /// The question to the gate.
    pub(super) fn ask(&mut self) -> AskGate {
        let Self {
            creations, others, ..
        } = std::mem::take(self);
        let (mut all, further) = (creations, others);
        all.left_out += further.left_out;
        for change in further.changes {
            all.add(change);
        }
        AskGate {
            intended: all.changes,
            intended_left_out: all.left_out,
        }
    }
}

fn id(ids: &HashMap<String, String>, address: &str) -> String {
    ids.get(address).cloned().unwrap_or_default()
}

/// Locks it; a panic elsewhere does not make its changes less true.
pub(super) fn lock(intended: &SharedIntended) -> std::sync::MutexGuard<'_, Intended> {
    intended.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::events;

    fn take(intended: &mut Intended, line: &str) {
        intended.record(events::parse(line.as_bytes()));
    }

    fn planned(address: &str, action: &str) -> String {
        format!(
            r#"{{"@message":"m","type":"planned_change","change":{{"resource":{{"addr":"{address}"}},"action":"{action}"}}}}"#
        )
    }

    fn exists(address: &str, id: &str) -> String {
        format!(
            r#"{{"@message":"m","type":"refresh_start","hook":{{"resource":{{"addr":"{address}"}},"id_key":"id","id_value":"{id}"}}}}"#
        )
    }

    #[test]
    fn a_plan_names_what_it_changes_with_the_id_of_what_exists_and_creations_first() {
        let mut intended = Intended::default();
        for address in ["a.kept", "a.gone", "a.other"] {
            take(&mut intended, &exists(address, &format!("id of {address}")));
        }
        for (address, action) in [
            ("a.kept", "update"),
            ("a.gone", "delete"),
            ("a.new", "create"),
            ("a.other", "replace"),
            ("data.a.read", "read"),
            ("a.same", "noop"),
            ("a.let_go", "remove"),
        ] {
            take(&mut intended, &planned(address, action));
        }
        let asked = intended.ask();
        let told: Vec<_> = asked
            .intended
            .iter()
            .map(|it| (it.action(), it.address.as_str(), it.id.as_str()))
            .collect();
        let wanted = [
            (LedgerAction::Create, "a.new", ""),
            (LedgerAction::Replace, "a.other", "id of a.other"),
            (LedgerAction::Update, "a.kept", "id of a.kept"),
            (LedgerAction::Delete, "a.gone", "id of a.gone"),
        ];
        assert_eq!(told, wanted);
        assert_eq!(asked.intended_left_out, 0);
    }

    #[test]
    fn what_is_too_much_is_counted_and_no_creation_gives_way_to_a_change() {
        let mut intended = Intended::default();
        for n in 0..INTENDED_CHANGES {
            take(&mut intended, &planned(&format!("a.u[{n}]"), "update"));
        }
        take(&mut intended, &planned("a.new", "create"));
        let asked = intended.ask();
        assert_eq!(asked.intended.len(), INTENDED_CHANGES);
        assert_eq!(asked.intended[0].address, "a.new");
        assert_eq!(asked.intended_left_out, 1);
        let long = "x".repeat(INTENDED_BYTES / 2);
        for name in ["one", "two", "three"] {
            take(&mut intended, &planned(&format!("{long}{name}"), "create"));
        }
        take(&mut intended, &planned("a.short", "create"));
        let asked = intended.ask();
        let names: Vec<&str> = asked
            .intended
            .iter()
            .map(|it| it.address.as_str())
            .collect();
        assert_eq!(names, [format!("{long}one").as_str(), "a.short"]);
        assert_eq!(asked.intended_left_out, 2);
    }
}
