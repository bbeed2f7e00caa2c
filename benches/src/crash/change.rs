//! The rules of the count for builds that change or delete what there is. Only the resources
//! that are files count here: they are there or they are not, whatever an engine says.
//!
//! | rule                                                                              |
//! |-----------------------------------------------------------------------------------|
//! | a file that exists is in the state under its id, or named                         |
//! | what the state has and no file shows was named                                    |
//! | a success left exactly what was asked for, and doubts nothing                     |
//! | the next build writes nothing again that state and world agree on                 |
//! | after it, what exists and is in no state is still named                           |

use std::collections::BTreeSet;

use super::audit::{Counts, Named};
use super::plan::Change;
use super::world::{Files, Known, Thing};

/// Files of a workspace that is started.
const FILES: usize = 10;
/// Those that a stop keeps.
const KEPT: usize = 5;

/// The world and what is known of it.
#[derive(Debug)]
pub struct Facts {
    /// How the job ended.
    pub succeeded: bool,
    /// In the world.
    pub files: Files,
    /// In the state.
    pub known: Known,
    /// Named as unconfirmed.
    pub named: Vec<Named>,
}

impl Facts {
    fn state(&self) -> BTreeSet<&Thing> {
        let of_files = |thing: &&Thing| thing.address.starts_with("local_file.");
        self.known.things.iter().filter(of_files).collect()
    }

    fn names(&self, thing: &Thing) -> bool {
        let mut named = self.named.iter();
        named.any(|it| it.address == thing.address && (it.id.is_empty() || it.id == thing.id))
    }

    fn names_address(&self, thing: &Thing) -> bool {
        self.named.iter().any(|it| it.address == thing.address)
    }
}

/// Counts what exists.
#[must_use]
pub fn counts(facts: &Facts) -> Counts {
    let state = facts.state();
    let mut counts = Counts::default();
    for thing in facts.files.keys() {
        counts.made += 1;
        match (state.contains(thing), facts.names(thing)) {
            (true, named) => {
                counts.tracked += 1;
                counts.needless += usize::from(named);
            }
            (false, true) => counts.unconfirmed += 1,
            (false, false) => counts.lost += 1,
        }
    }
    counts
}

/// Broken rules of the build that was hit.
#[must_use]
pub fn lost(change: Change, facts: &Facts) -> Vec<String> {
    let state = facts.state();
    let mut broken = Vec::new();
    for thing in facts.files.keys() {
        if !state.contains(thing) && !facts.names(thing) {
            broken.push(format!("lost: {} ({})", thing.address, thing.id));
        }
    }
    for thing in state {
        if !facts.files.contains_key(thing) && !facts.names_address(thing) {
            broken.push(format!(
                "gone and not named: {} ({})",
                thing.address, thing.id
            ));
        }
    }
    let wanted = match change {
        Change::First | Change::Replace => FILES,
        Change::Stop => KEPT,
        Change::Delete => 0,
    };
    let (files, known, named) = (facts.files.len(), facts.state().len(), facts.named.len());
    if facts.succeeded && (files, known, named) != (wanted, wanted, 0) {
        broken.push(format!(
            "a success left {files}, knows {known}, doubts {named}"
        ));
    }
    broken
}

/// Broken rules of the start that followed.
#[must_use]
pub fn next(before: &Facts, after: &Facts) -> Vec<String> {
    let mut broken = Vec::new();
    for thing in before.state() {
        let (was, is) = (before.files.get(thing), after.files.get(thing));
        if was.is_some() && is.is_some() && was != is {
            broken.push(format!("written twice: {}", thing.address));
        }
    }
    let state = after.state();
    if state.len() != FILES {
        broken.push(format!("after the next build: {} known", state.len()));
    }
    for thing in state.iter().filter(|it| !after.files.contains_key(**it)) {
        broken.push(format!("known and not there: {}", thing.address));
    }
    for thing in after.files.keys().filter(|it| !state.contains(it)) {
        if !after.names(thing) {
            broken.push(format!("forgotten: {} ({})", thing.address, thing.id));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn thing(number: usize, generation: u32) -> Thing {
        Thing {
            address: format!("local_file.swap[{number}]"),
            id: format!("{number} of {generation}"),
        }
    }

    fn facts(files: &[Thing], known: &[Thing], named: &[Thing]) -> Facts {
        let mut known: Known = Known {
            things: known.iter().cloned().collect(),
            ..Known::default()
        };
        known.things.insert(Thing {
            address: "null_resource.plugin[0]".to_owned(),
            id: "no file".to_owned(),
        });
        let named = named.iter().map(|thing| Named {
            address: thing.address.clone(),
            id: thing.id.clone(),
        });
        Facts {
            succeeded: false,
            files: files
                .iter()
                .map(|it| (it.clone(), SystemTime::UNIX_EPOCH))
                .collect(),
            known,
            named: named.collect(),
        }
    }

    #[test]
    fn a_file_that_nobody_knows_is_lost_and_one_that_is_gone_is_named() {
        let [old, new] = [thing(0, 1), thing(0, 2)];
        let swapped = [old.clone(), new.clone()];
        let hit = facts(&swapped, std::slice::from_ref(&old), &[]);
        assert_eq!(
            lost(Change::Replace, &hit),
            ["lost: local_file.swap[0] (0 of 2)"]
        );
        assert_eq!(counts(&hit).lost, 1);
        let named = facts(&swapped, &swapped[..1], &swapped[1..]);
        assert!(lost(Change::Replace, &named).is_empty());
        assert_eq!(counts(&named).unconfirmed, 1);
        let gone = facts(&[], &swapped[..1], &[]);
        assert_eq!(lost(Change::Delete, &gone).len(), 1);
        assert!(lost(Change::Delete, &facts(&[], &swapped[..1], &swapped[..1])).is_empty());
    }

    #[test]
    fn a_success_leaves_what_was_asked_for() {
        let all: Vec<Thing> = (0..FILES).map(|number| thing(number, 1)).collect();
        let success = |count: usize| Facts {
            succeeded: true,
            ..facts(&all[..count], &all[..count], &[])
        };
        assert!(lost(Change::Replace, &success(FILES)).is_empty());
        assert!(lost(Change::Stop, &success(KEPT)).is_empty());
        assert!(lost(Change::Delete, &success(0)).is_empty());
        assert_eq!(lost(Change::Delete, &success(1)).len(), 1);
    }

    #[test]
    fn what_is_written_twice_or_forgotten_is_seen() {
        let all: Vec<Thing> = (0..FILES).map(|number| thing(number, 1)).collect();
        let before = facts(&all[..4], &all[..4], &[]);
        let mut after = facts(&all, &all, &[]);
        assert!(next(&before, &after).is_empty());
        *after.files.get_mut(&all[2]).expect("a file") += Duration::from_secs(1);
        assert_eq!(next(&before, &after), ["written twice: local_file.swap[2]"]);
        let orphan = thing(0, 0);
        let with = [&all[..], std::slice::from_ref(&orphan)].concat();
        assert_eq!(next(&before, &facts(&with, &all, &[])).len(), 1);
        assert!(next(&before, &facts(&with, &all, &[orphan])).is_empty());
    }
}
