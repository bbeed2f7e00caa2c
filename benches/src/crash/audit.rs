//! The rules of the count.
//!
//! | rule                                                                              |
//! |-----------------------------------------------------------------------------------|
//! | what was made is in the state under its id, or named as unconfirmed               |
//! | what was printed complete over a second before the kill is in the state; with     |
//! | OpenTofu, in the state or named with its id                                       |
//! | a job that succeeded has all in its state, each made once                         |
//! | the next build makes nothing again that the state has whole, and has all at its end |
//! | what the state has and no mark shows, a resource made in part, was named          |

use std::collections::BTreeSet;

use super::plan::{Engine, Size};
use super::world::{Known, Thing};

/// Bytes of a large state at least.
const LARGE: usize = 4 << 20;

/// Resources of a build.
pub const RESOURCES: usize = 30;

/// An entry of the list of unconfirmed resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Of the resource.
    pub address: String,
    /// Empty when the provider did not tell.
    pub id: String,
}

/// After the verdict on the build that was hit.
#[derive(Debug)]
pub struct Facts {
    /// Who built.
    pub engine: Engine,
    /// How the job ended.
    pub succeeded: bool,
    /// Everything in the world.
    pub made: Vec<Thing>,
    /// Everything in the state.
    pub known: Known,
    /// Everything named as unconfirmed.
    pub named: Vec<Named>,
    /// Complete, and printed in time.
    pub printed: Vec<Thing>,
}

/// After the next build.
#[derive(Debug)]
pub struct Next {
    /// Everything that was ever made.
    pub made: Vec<Thing>,
    /// The state at its end.
    pub known: Known,
}

/// A state that was to be large and is not makes the sweep say less than it claims.
#[must_use]
pub fn too_small(size: Size, known: &Known) -> Option<String> {
    let bytes = known.bytes;
    let large = size == Size::Small || bytes >= LARGE;
    (!large).then(|| format!("a state of {bytes} bytes was to have {LARGE}"))
}

/// What became of what was made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Things in the world.
    pub made: usize,
    /// Of these, in the state under their id.
    pub tracked: usize,
    /// Of the rest, named.
    pub unconfirmed: usize,
    /// Of the rest: nobody knows of them.
    pub lost: usize,
    /// Named although the state has them.
    pub needless: usize,
}

impl Counts {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            made: self.made + other.made,
            tracked: self.tracked + other.tracked,
            unconfirmed: self.unconfirmed + other.unconfirmed,
            lost: self.lost + other.lost,
            needless: self.needless + other.needless,
        }
    }
}

impl Facts {
    fn tracks(&self, thing: &Thing) -> bool {
        self.known.things.contains(thing)
    }

    fn names(&self, thing: &Thing) -> bool {
        let same = |named: &&Named| named.address == thing.address;
        self.named
            .iter()
            .filter(same)
            .any(|named| named.id.is_empty() || named.id == thing.id)
    }

    fn names_with_id(&self, thing: &Thing) -> bool {
        let mut named = self.named.iter();
        named.any(|named| named.address == thing.address && named.id == thing.id)
    }
}

/// Counts what was made.
#[must_use]
pub fn counts(facts: &Facts) -> Counts {
    let mut counts = Counts::default();
    for thing in &facts.made {
        counts.made += 1;
        match (facts.tracks(thing), facts.names(thing)) {
            (true, _) => counts.tracked += 1,
            (false, true) => counts.unconfirmed += 1,
            (false, false) => counts.lost += 1,
        }
    }
    let whole = |thing: &&Thing| !facts.known.tainted.contains(thing);
    let whole = facts.known.things.iter().filter(whole);
    counts.needless = whole.filter(|thing| facts.names(thing)).count();
    counts
}

/// Broken rules of the build that was hit.
#[must_use]
pub fn lost(facts: &Facts) -> Vec<String> {
    let mut broken = Vec::new();
    let lost = |thing: &&Thing| !facts.tracks(thing) && !facts.names(thing);
    for thing in facts.made.iter().filter(lost) {
        broken.push(format!("lost: {} ({})", thing.address, thing.id));
    }
    for thing in &facts.printed {
        let kept = match facts.engine {
            Engine::Terraform => facts.tracks(thing),
            Engine::Tofu => facts.tracks(thing) || facts.names_with_id(thing),
        };
        if !kept {
            let (address, id) = (&thing.address, &thing.id);
            broken.push(format!("printed in time and not kept: {address} ({id})"));
        }
    }
    if facts.succeeded {
        let (made, known) = (facts.made.len(), facts.known.things.len());
        if (made, known) != (RESOURCES, RESOURCES) || !facts.named.is_empty() {
            let named = facts.named.len();
            broken.push(format!(
                "a success made {made}, knows {known}, doubts {named}"
            ));
        }
    }
    broken
}

/// Broken rules of the next build.
#[must_use]
pub fn made_twice(facts: &Facts, next: &Next) -> Vec<String> {
    let mut broken = Vec::new();
    let before: BTreeSet<&Thing> = facts.made.iter().collect();
    let fresh = next.made.iter().filter(|thing| !before.contains(thing));
    let whole = facts.known.things.difference(&facts.known.tainted);
    let whole: BTreeSet<&str> = whole.map(|thing| thing.address.as_str()).collect();
    for thing in fresh.filter(|thing| whole.contains(thing.address.as_str())) {
        broken.push(format!("made twice: {} ({})", thing.address, thing.id));
    }
    if next.known.things.len() != RESOURCES || !next.known.tainted.is_empty() {
        let (all, tainted) = (next.known.things.len(), next.known.tainted.len());
        broken.push(format!(
            "after the next build: {all} known, {tainted} tainted"
        ));
    }
    let made: BTreeSet<Thing> = next.made.iter().cloned().collect();
    // An engine writes a resource down before its provisioner has run, and no later build
    // runs it again: such a one must have been named.
    let half = next.known.things.difference(&made);
    for thing in half.filter(|thing| !facts.names(thing)) {
        broken.push(format!("half made and not named: {}", thing.address));
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(number: usize, id: &str) -> Thing {
        Thing {
            address: format!("a.b[{number}]"),
            id: id.to_owned(),
        }
    }

    fn all() -> Vec<Thing> {
        (0..RESOURCES)
            .map(|number| thing(number, "first"))
            .collect()
    }

    fn known(things: &[Thing]) -> Known {
        Known {
            things: things.iter().cloned().collect(),
            ..Known::default()
        }
    }

    fn facts(made: &[Thing], things: &[Thing], named: &[(usize, &str)]) -> Facts {
        let named = named.iter().map(|(number, id)| Named {
            address: format!("a.b[{number}]"),
            id: (*id).to_owned(),
        });
        Facts {
            engine: Engine::Terraform,
            succeeded: false,
            made: made.to_vec(),
            known: known(things),
            named: named.collect(),
            printed: Vec::new(),
        }
    }

    #[test]
    fn what_is_neither_known_nor_named_is_lost() {
        let made = all();
        let facts = facts(&made[..4], &made[..2], &[(2, "")]);
        let counts = counts(&facts);
        assert_eq!((counts.made, counts.tracked), (4, 2));
        assert_eq!((counts.unconfirmed, counts.lost), (1, 1));
        assert_eq!(lost(&facts), ["lost: a.b[3] (first)"]);
    }

    #[test]
    fn a_name_with_another_id_is_no_name() {
        let facts = facts(&[thing(0, "first")], &[], &[(0, "second")]);
        assert_eq!(counts(&facts).lost, 1);
    }

    #[test]
    fn what_was_printed_in_time_is_in_the_state_or_named_by_opentofu_with_its_id() {
        let printed = thing(0, "first");
        for (engine, id, broken) in [
            (Engine::Terraform, "first", 1),
            (Engine::Tofu, "first", 0),
            (Engine::Tofu, "", 1),
        ] {
            let facts = Facts {
                engine,
                printed: vec![printed.clone()],
                ..facts(&[], &[], &[(0, id)])
            };
            assert_eq!(lost(&facts).len(), broken, "{engine:?} {id:?}");
        }
    }

    #[test]
    fn a_success_made_all_once_and_doubts_nothing() {
        let made = all();
        let success = |made: &[Thing], known: &[Thing], named| Facts {
            succeeded: true,
            ..facts(made, known, named)
        };
        assert!(lost(&success(&made, &made, &[])).is_empty());
        assert_eq!(lost(&success(&made, &made, &[(0, "")])).len(), 1);
        let twice = [&made[..], &[thing(0, "second")]].concat();
        assert_eq!(lost(&success(&twice, &made, &[])).len(), 2);
    }

    #[test]
    fn the_next_build_makes_only_what_is_missing_or_tainted() {
        let made = all();
        let mut hit = facts(&made[..10], &made[..10], &[]);
        hit.known.tainted.insert(made[9].clone());
        let mut now = made.clone();
        now[9] = thing(9, "second");
        let ever = [&made[..], &now[9..10]].concat();
        let next = |made: &[Thing], things: &[Thing]| Next {
            made: made.to_vec(),
            known: known(things),
        };
        assert!(made_twice(&hit, &next(&ever, &now)).is_empty());
        now[0] = thing(0, "second");
        let ever = [&ever[..], &now[..1]].concat();
        let broken = made_twice(&hit, &next(&ever, &now));
        assert_eq!(broken, ["made twice: a.b[0] (second)"]);
        assert_eq!(made_twice(&hit, &next(&ever, &now[..29])).len(), 2);
    }

    #[test]
    fn what_was_made_in_part_and_will_not_be_made_again_is_named() {
        let made = all();
        let next = Next {
            made: made[1..].to_vec(),
            known: known(&made),
        };
        let named = facts(&made[1..9], &made[..9], &[(0, "")]);
        assert!(made_twice(&named, &next).is_empty());
        let unnamed = facts(&made[1..9], &made[..9], &[]);
        let broken = made_twice(&unnamed, &next);
        assert_eq!(broken, ["half made and not named: a.b[0]"]);
    }
}
