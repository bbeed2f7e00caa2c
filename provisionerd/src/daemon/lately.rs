//! What the jobs of this daemon had to do with lately, told with each question for work.
//!
//! The daemon keeps no archive and no provider beyond its job. What one job has read is in
//! the host's page cache for the next: the pages of provider packages in a mirror on this
//! disk above all. Where several daemons wait, one that ran the version is as good as any
//! and may be quicker.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use proto::v1::Job;
use proto::{affinity, limits};

/// Names of versions and providers, the newest first.
#[derive(Debug, Default)]
pub struct Lately(Mutex<VecDeque<String>>);

impl Lately {
    /// A job begins here.
    pub fn begins(&self, job: &Job) {
        let version = Some(job.template_version_id.clone()).filter(|id| !id.is_empty());
        let names = affinity::providers(&job.lock_file)
            .into_iter()
            .chain(version);
        // Every change is complete before the guard goes, also in a panic.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            known.retain(|it| *it != name);
            known.push_front(name);
        }
        known.truncate(limits::HOLDS);
    }

    /// All that is known.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(version: &str, lock_file: &str) -> Job {
        Job {
            template_version_id: version.to_owned(),
            lock_file: lock_file.as_bytes().to_vec(),
            ..Job::default()
        }
    }

    #[test]
    fn versions_and_providers_are_told_once_and_the_newest_first() {
        let lately = Lately::default();
        assert!(lately.names().is_empty());
        lately.begins(&job("a", ""));
        lately.begins(&job("b", "abc"));
        lately.begins(&job("a", ""));
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(lately.names(), ["a", "b", abc]);
    }

    #[test]
    fn no_more_is_told_than_the_queue_reads() {
        let lately = Lately::default();
        for number in 0..100 {
            lately.begins(&job(&number.to_string(), ""));
        }
        let names = lately.names();
        assert_eq!((names.len(), names[0].as_str()), (32, "99"));
    }
}
