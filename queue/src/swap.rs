//! Which state becomes a workspace's current one. Pure.
//!
//! A build's state replaces only the one the build started from, and only if it continues
//! it: same lineage, no lower serial. Anything else that
//! brings a state is kept aside and waits for a person, but for one case: a late finish
//! of the very attempt that was given up, while nothing else has touched the state since.

use proto::ids::Digest;

/// The header of a stored state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its bytes.
    pub digest: Digest,
    /// Grows with each change.
    pub serial: u64,
    /// Same for all states of one workspace's life.
    pub lineage: String,
}

/// What to do with a state that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// It is the current one already.
    Same,
    /// It becomes the current one.
    Replace,
    /// It is kept and waits for a decision.
    Aside,
}

/// A state that came with a finish (or as the newest checkpoint of a lost build), given
/// the current one and the one its build started from.
#[must_use]
pub fn on_finish(current: Option<&Header>, base: Option<&Header>, new: &Header) -> Swap {
    if current.is_some_and(|current| current.digest == new.digest) {
        return Swap::Same;
    }
    let digest = |header: Option<&Header>| header.map(|header| header.digest);
    let follows = base.is_none_or(|b| b.lineage == new.lineage && b.serial <= new.serial);
    if digest(current) == digest(base) && follows {
        Swap::Replace
    } else {
        Swap::Aside
    }
}

/// Whose the current state is, seen from a late finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CurrentIs {
    /// The one recovered from that very attempt, or still the one its build started
    /// from because there was nothing to recover.
    OfThisAttempt,
    /// Another one's.
    Foreign,
}

/// A state that came with a finish after another verdict stood.
#[must_use]
pub fn on_late(current: Option<&Header>, whose: CurrentIs, new: &Header) -> Swap {
    let Some(current) = current else {
        return match whose {
            CurrentIs::OfThisAttempt => Swap::Replace,
            CurrentIs::Foreign => Swap::Aside,
        };
    };
    if current.digest == new.digest {
        return Swap::Same;
    }
    let follows = current.lineage == new.lineage && current.serial < new.serial;
    match whose {
        CurrentIs::OfThisAttempt if follows => Swap::Replace,
        CurrentIs::OfThisAttempt | CurrentIs::Foreign => Swap::Aside,
    }
}

/// Why a pushed state does not continue the current one; `None` when it does.
#[must_use]
pub fn push_conflict(current: Option<&Header>, new: &Header) -> Option<String> {
    let current = current?;
    if current.lineage != new.lineage {
        return Some(format!(
            "its lineage is `{}`, the current one's is `{}`",
            new.lineage, current.lineage
        ));
    }
    if new.serial < current.serial || (new.serial == current.serial && new.digest != current.digest)
    {
        return Some(format!(
            "its serial is {}, the current one's is {}",
            new.serial, current.serial
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(content: &str, serial: u64, lineage: &str) -> Header {
        Header {
            digest: Digest::of(content.as_bytes()),
            serial,
            lineage: lineage.to_owned(),
        }
    }

    #[test]
    fn a_finish_replaces_only_what_its_build_started_from() {
        let base = header("base", 1, "l");
        let new = header("new", 2, "l");
        assert_eq!(on_finish(Some(&base), Some(&base), &new), Swap::Replace);
        assert_eq!(on_finish(None, None, &new), Swap::Replace);
        let pushed = header("pushed", 9, "l");
        assert_eq!(on_finish(Some(&pushed), Some(&base), &new), Swap::Aside);
        assert_eq!(on_finish(Some(&pushed), None, &new), Swap::Aside);
        assert_eq!(on_finish(Some(&new), Some(&base), &new), Swap::Same);
    }

    #[test]
    fn a_finish_of_other_lineage_or_lower_serial_waits() {
        let base = header("base", 4, "l");
        for new in [header("x", 3, "l"), header("x", 5, "m")] {
            assert_eq!(on_finish(Some(&base), Some(&base), &new), Swap::Aside);
        }
        let same_serial = header("x", 4, "l");
        assert_eq!(
            on_finish(Some(&base), Some(&base), &same_serial),
            Swap::Replace
        );
    }

    #[test]
    fn a_late_state_follows_only_its_own_attempts_recovery() {
        use CurrentIs::{Foreign, OfThisAttempt};
        let recovered = header("recovered", 4, "l");
        let later = header("later", 5, "l");
        assert_eq!(
            on_late(Some(&recovered), OfThisAttempt, &later),
            Swap::Replace
        );
        assert_eq!(on_late(Some(&recovered), Foreign, &later), Swap::Aside);
        assert_eq!(on_late(None, OfThisAttempt, &later), Swap::Replace);
        assert_eq!(on_late(None, Foreign, &later), Swap::Aside);
    }

    #[test]
    fn a_late_state_of_other_lineage_or_lower_serial_waits() {
        let recovered = header("recovered", 4, "l");
        for late in [
            header("x", 4, "l"),
            header("x", 3, "l"),
            header("x", 5, "m"),
        ] {
            let swap = on_late(Some(&recovered), CurrentIs::OfThisAttempt, &late);
            assert_eq!(swap, Swap::Aside);
        }
        assert_eq!(
            on_late(Some(&recovered), CurrentIs::Foreign, &recovered),
            Swap::Same
        );
    }

    #[test]
    fn a_push_must_continue_lineage_and_serial() {
        let current = header("current", 4, "l");
        assert_eq!(push_conflict(None, &header("x", 1, "m")), None);
        assert_eq!(push_conflict(Some(&current), &header("x", 5, "l")), None);
        assert_eq!(push_conflict(Some(&current), &current), None);
        let lineage = push_conflict(Some(&current), &header("x", 5, "m"));
        assert!(lineage.is_some_and(|why| why.contains("lineage")));
        let serial = push_conflict(Some(&current), &header("x", 4, "l"));
        assert!(serial.is_some_and(|why| why.contains("serial")));
    }
}
