//! Concurrency limits: how many jobs of an owner or of a template may be in daemons' hands
//! at once. Pure.
//!
//! Every kind of job counts, for the owner whose it is and for its template, from its
//! hand-out until it has ended or gone back. A limit keeps jobs from being handed out; it
//! never ends one that runs.

use std::fmt;

use crate::words::LimitOf;

/// A limit, and how much of it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// What it limits.
    pub of: LimitOf,
    /// The owner's name, or the template's.
    pub name: String,
    /// Jobs in daemons' hands.
    pub running: u32,
    /// Jobs that may be.
    pub most: u32,
}

impl Limit {
    /// Whether no more jobs may be handed out.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.running >= self.most
    }

    /// Whether a job counts against it; `subject` is the owner's name or the template's id.
    #[must_use]
    pub fn counts(&self, subject: &str, owner: &str, template: &str) -> bool {
        match self.of {
            LimitOf::Owner => subject == owner,
            LimitOf::Template => subject == template,
        }
    }
}

/// What it says of a job that waits for it.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            of,
            name,
            running,
            most,
        } = self;
        let jobs = if *most == 1 { "job" } else { "jobs" };
        write!(f, "{of} `{name}` runs {running} of at most {most} {jobs}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_full_at_its_number_and_beyond() {
        let limit = |running, most| Limit {
            of: LimitOf::Owner,
            name: "ann".to_owned(),
            running,
            most,
        };
        assert_eq!(
            [(3, 4), (4, 4), (5, 4), (0, 0)].map(|(r, m)| limit(r, m).is_full()),
            [false, true, true, true]
        );
        assert_eq!(
            limit(4, 4).to_string(),
            "owner `ann` runs 4 of at most 4 jobs"
        );
        assert_eq!(
            limit(1, 1).to_string(),
            "owner `ann` runs 1 of at most 1 job"
        );
    }
}
