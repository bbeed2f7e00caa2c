//! Which schema a database has, and which releases may use it.
//!
//! A release knows a list of steps, and brings an older schema to its newest. Beside each
//! step the database keeps from which version on a release may use what it has made: a step
//! that only *adds* leaves that as it was, and a replica of the release before may not only
//! go on but start again, as it does in the middle of a rolling upgrade. One that *changes*
//! what was there refuses all that do not know it.
//!
//! ```text
//!  steps           1 changes   2 changes   3 adds   4 adds
//!  compatible from     1           2          2        2
//!                                  └── a release that knows 2 may use 4
//! ```

use super::Error;
use crate::options::Database;

/// A step of a schema; a published one is never altered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub sql: &'static str,
    change: Change,
}

/// What it means for releases that do not know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Every statement of theirs still does what it did.
    Adds,
    /// Not so.
    Alters,
}

/// A step that only adds: tables, indexes that are not unique, columns that may be left out;
/// or that puts such an index in another's place where no statement names it. A test holds
/// it to that.
pub(super) const fn adds(sql: &'static str) -> Step {
    Step {
        sql,
        change: Change::Adds,
    }
}

/// Any other step.
pub(super) const fn alters(sql: &'static str) -> Step {
    Step {
        sql,
        change: Change::Alters,
    }
}

#[cfg(test)]
impl Step {
    pub(super) fn only_adds(self) -> bool {
        self.change == Change::Adds
    }
}

/// From which version on a release may use the schema that `version` steps make.
pub(super) fn compatible_from(steps: &[Step], version: i64) -> i64 {
    let taken = usize::try_from(version).unwrap_or(0).min(steps.len());
    let altering = steps[..taken]
        .iter()
        .rposition(|step| step.change == Change::Alters);
    altering.map_or(0, |index| version_of(index + 1))
}

/// How many steps make a version.
pub(super) fn version_of(steps: usize) -> i64 {
    i64::try_from(steps).unwrap_or(i64::MAX)
}

/// What a database says of its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Steps it has taken; none is an empty database.
    pub version: i64,
    /// From which version on a release may use it.
    pub compatible_from: i64,
}

/// A schema and a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// The database's.
    pub found: Found,
    /// The newest one that this release knows.
    pub known: i64,
    /// From which version on a release may use that one.
    pub then_compatible_from: i64,
}

/// What becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They are of one version.
    Current,
    /// The release brings the schema to its own.
    Older,
    /// The schema is newer, and the release may use it as it is.
    Newer,
    /// The schema is newer, and the release may not.
    TooNew,
}

impl Check {
    pub(super) fn new(found: Found, steps: &[Step]) -> Self {
        let known = version_of(steps.len());
        Self {
            found,
            known,
            then_compatible_from: compatible_from(steps, known),
        }
    }

    /// What this release does.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let Found {
            version,
            compatible_from,
        } = self.found;
        if version == self.known {
            Verdict::Current
        } else if version < self.known {
            Verdict::Older
        } else if self.known >= compatible_from {
            Verdict::Newer
        } else {
            Verdict::TooNew
        }
    }

    /// Whether replicas of the release that made the schema may start again once this one
    /// has brought it to its own.
    #[must_use]
    pub fn spares_the_old(&self) -> bool {
        self.found.version >= self.then_compatible_from
    }

    /// The next step to take, if one is to be taken.
    ///
    /// # Errors
    /// The schema is too new.
    pub(super) fn next<'s>(&self, steps: &'s [Step]) -> super::Result<Option<&'s Step>> {
        match self.verdict() {
            Verdict::Current | Verdict::Newer => Ok(None),
            Verdict::Older => Ok(usize::try_from(self.found.version)
                .ok()
                .and_then(|version| steps.get(version))),
            Verdict::TooNew => Err(Error::Invalid {
                what: format!(
                    "the database has schema version {}, which releases may use that know {} or more; this release knows up to {}",
                    self.found.version, self.found.compatible_from, self.known
                ),
            }),
        }
    }
}

/// Looks at a database without changing it.
///
/// # Errors
/// It cannot be reached or read. No database yet is an empty one.
pub async fn check(
    data_dir: &std::path::Path,
    database: &Database,
) -> Result<Check, super::postgres::OpenError> {
    match database {
        Database::Embedded => {
            let path = crate::data_dir::DataDir::database_below(data_dir);
            let looked = tokio::task::spawn_blocking(move || super::sqlite::check(&path)).await;
            let looked = looked.map_err(|_| Error::Closed)?;
            Ok(looked?)
        }
        Database::Postgres(options) => super::postgres::check(options).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: &[Step] = &[alters("1"), alters("2"), adds("3"), adds("4")];

    fn check(version: i64, compatible_from: i64, known: usize) -> Check {
        let found = Found {
            version,
            compatible_from,
        };
        Check::new(found, &STEPS[..known])
    }

    #[test]
    fn steps_that_add_leave_it_to_the_last_that_altered() {
        let from: Vec<i64> = (0..=4).map(|v| compatible_from(STEPS, v)).collect();
        assert_eq!(from, [0, 1, 2, 2, 2]);
    }

    #[test]
    fn a_release_uses_a_newer_schema_that_spares_it_and_no_other() {
        assert_eq!(check(4, 2, 4).verdict(), Verdict::Current);
        assert_eq!(check(3, 2, 4).verdict(), Verdict::Older);
        assert_eq!(check(0, 0, 4).verdict(), Verdict::Older);
        assert_eq!(check(4, 2, 2).verdict(), Verdict::Newer);
        assert!(check(4, 2, 2).next(STEPS).expect("compatible").is_none());
        let refused = check(4, 2, 1);
        assert_eq!(refused.verdict(), Verdict::TooNew);
        let refused = refused.next(STEPS).expect_err("not compatible");
        let refused = refused.to_string();
        assert!(
            refused.contains("version 4") && refused.contains("know 2"),
            "{refused}"
        );
    }

    #[test]
    fn it_is_known_before_whether_old_replicas_may_start_again() {
        assert!(check(2, 2, 4).spares_the_old());
        assert!(check(3, 2, 4).spares_the_old());
        assert!(!check(1, 1, 4).spares_the_old());
    }
}
