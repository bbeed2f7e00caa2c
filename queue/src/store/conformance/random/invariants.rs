//! What may never happen, whatever the model thinks: held against the store's answers
//! alone.

use std::collections::{HashMap, HashSet};

use proto::v1::{JobStatus, JobView};

use super::Difference;
use super::plain::Plain;

/// What was seen so far.
#[derive(Default)]
pub(super) struct History {
    ended: HashMap<String, (JobStatus, String)>,
    gated: HashSet<String>,
    given: HashSet<(String, u32)>,
}

impl History {
    /// A job was handed out: never after its gate or its end, never an attempt twice.
    pub(super) fn handed_out(&mut self, plain: &Plain, job: usize) -> Result<(), Difference> {
        let job = &plain.jobs[job];
        let id = job.id.to_string();
        if self.ended.contains_key(&id) {
            return Err(format!("{id} was handed out after its end"));
        }
        if self.gated.contains(&id) {
            return Err(format!("{id} was handed out again behind its gate"));
        }
        if !self.given.insert((id.clone(), job.attempt)) {
            return Err(format!(
                "attempt {} of {id} was handed out twice",
                job.attempt
            ));
        }
        Ok(())
    }

    /// A verdict is the last word; one open build per workspace; three attempts that
    /// count and twenty others at most.
    pub(super) fn look(&mut self, jobs: &[JobView]) -> Result<(), Difference> {
        let mut open = HashSet::new();
        for job in jobs {
            let code = job
                .error
                .as_ref()
                .map_or("", |error| &error.code)
                .to_owned();
            let verdict = (job.status(), code);
            let ended = match job.status() {
                JobStatus::Succeeded | JobStatus::Canceled | JobStatus::Failed => true,
                JobStatus::Unspecified
                | JobStatus::Pending
                | JobStatus::Running
                | JobStatus::Canceling => false,
            };
            match self.ended.get(&job.id) {
                Some(before) if *before != verdict => {
                    return Err(format!("{} was {before:?} and is {verdict:?}", job.id));
                }
                Some(_) => {}
                None if ended => drop(self.ended.insert(job.id.clone(), verdict)),
                None => {
                    let workspace = job.workspace.as_ref();
                    if workspace.is_some_and(|name| !open.insert(name.clone())) {
                        return Err(format!("two open builds of {workspace:?}"));
                    }
                }
            }
            if job.gate_open {
                self.gated.insert(job.id.clone());
            }
            if job.attempt > 22 {
                return Err(format!("{} is at attempt {}", job.id, job.attempt));
            }
        }
        Ok(())
    }
}
