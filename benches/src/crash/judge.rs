//! From the restart to the end of the next build: what is judged, and by whose rules. What
//! was made for the first time is judged by [`audit`], what was changed by [`change`].

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::audit::{self, Facts, Named};
use super::case::{Killed, Outcome, Run, ended};
use super::fleet::wait_for;
use super::plan::Change;
use super::printed::{Follower, Seen};
use super::world::{Files, Known, Thing, files, list, marks};
use super::{change, verdict};
use crate::rows::Rows;

/// Supervisors of dead daemons are waited for 80 s, divided; sweeps come after.
const LEFT: Duration = Duration::from_secs(60);

impl Run<'_> {
    /// From the restart to the end of the next build.
    pub fn judge(
        &mut self,
        killed: &Killed,
        job: &str,
        follower: &Follower,
        outcome: &mut Outcome,
    ) -> Result<Seen> {
        let revived = Instant::now();
        let first = ended(self.fleet, job)?;
        outcome.to_verdict = revived.elapsed();
        outcome.verdict = verdict::name(&first);
        self.leftovers(job, &first, outcome)?;
        let seen = follower.seen();
        let began = seen
            .apply_began
            .is_some_and(|began| began <= killed.instant);
        let kind = self.case.kind;
        outcome
            .violations
            .extend(verdict::check(kind, began, &first));
        match self.case.change {
            Change::First => self.made(killed, &seen, &first, outcome)?,
            Change::Replace | Change::Stop | Change::Delete => self.changed(&first, outcome)?,
        }
        self.leftovers(job, &first, outcome)?;
        let again = self.fleet.json(&["jobs", "show", job])?;
        outcome.violations.extend(verdict::changed(&first, &again));
        let attempts = Rows::open(&self.fleet.database())?.attempts(job)?;
        outcome
            .violations
            .extend(verdict::attempts(&attempts, &again));
        self.fleet.check_alive()?;
        Ok(seen)
    }

    /// A first build, and the one after it.
    fn made(
        &self,
        killed: &Killed,
        seen: &Seen,
        first: &Value,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let before = self.files()?;
        let facts = Facts {
            engine: self.case.engine,
            succeeded: first["status"] == "succeeded",
            made: self.all(&before),
            known: self.known()?,
            named: self.named(first)?,
            printed: printed_before(seen, killed.at),
        };
        outcome.counts = audit::counts(&facts);
        outcome.violations.extend(audit::lost(&facts));
        self.next_build("start", outcome)?;
        let after = self.files()?;
        let later = audit::Next {
            made: self.all(&after),
            known: self.known()?,
        };
        let whole = |thing: &&Thing| facts.known.things.contains(*thing);
        let twice = before.iter().filter(|(thing, _)| whole(thing));
        let twice = twice.filter(|(thing, at)| after.get(*thing) != Some(*at));
        let twice = twice.map(|(thing, _)| format!("written twice: {}", thing.address));
        outcome.violations.extend(twice);
        outcome.violations.extend(audit::made_twice(&facts, &later));
        let small = audit::too_small(self.case.size, &later.known);
        outcome.violations.extend(small);
        Ok(())
    }

    /// A build that changed or deleted, and a start after it.
    fn changed(&self, first: &Value, outcome: &mut Outcome) -> Result<()> {
        let before = self.facts(first)?;
        outcome.counts = change::counts(&before);
        let lost = change::lost(self.case.change, &before);
        outcome.violations.extend(lost);
        let transition = match self.case.change {
            Change::Delete if before.succeeded => return Ok(()),
            Change::Delete if !before.named.is_empty() => {
                let line = ["workspaces", "delete", &self.workspace, "--no-wait"];
                if self.fleet.run(&line)?.status.success() {
                    let broken = "a delete forgot what is unconfirmed".to_owned();
                    outcome.violations.push(broken);
                    return Ok(());
                }
                "start"
            }
            Change::First | Change::Stop | Change::Delete => "start",
            Change::Replace => "update",
        };
        let next = self.next_build(transition, outcome)?;
        let after = self.facts(&next)?;
        outcome.violations.extend(change::next(&before, &after));
        Ok(())
    }

    fn facts(&self, job: &Value) -> Result<change::Facts> {
        Ok(change::Facts {
            succeeded: job["status"] == "succeeded",
            files: self.files()?,
            known: self.known()?,
            named: self.named(job)?,
        })
    }

    fn files(&self) -> Result<Files> {
        files(&self.fleet.marks(&self.workspace))
    }

    /// Everything that was ever made.
    fn all(&self, files: &Files) -> Vec<Thing> {
        let mut all = marks(&self.fleet.marks(&self.workspace));
        all.extend(files.keys().cloned());
        all
    }

    /// Waits until nothing is left; directories kept for a person must be named.
    fn leftovers(&mut self, job: &str, shown: &Value, outcome: &mut Outcome) -> Result<()> {
        let mut left = Vec::new();
        let gone = wait_for("nothing is left", LEFT, || {
            left = self.fleet.left(job);
            Ok(left.is_empty().then_some(()))
        });
        if gone.is_err() {
            let left = left.iter().map(|it| format!("left: {it}"));
            outcome.violations.extend(left);
        }
        let error = shown["error"].to_string();
        for path in self.fleet.newly_retained() {
            outcome.retained += 1;
            if !error.contains(&path) {
                let broken = format!("kept and not named: {path}");
                outcome.violations.push(broken);
            }
        }
        Ok(())
    }

    fn known(&self) -> Result<Known> {
        let history = self.fleet.run(&["state", "history", &self.workspace])?;
        let history: Value = serde_json::from_slice(&history.stdout).unwrap_or_default();
        if list(&history).is_empty() {
            return Ok(Known::default());
        }
        let state = self.fleet.run(&["state", "pull", &self.workspace])?;
        Known::of(&state.stdout).context("state pull")
    }

    /// What the job or the workspace names as unconfirmed.
    fn named(&self, job: &Value) -> Result<Vec<Named>> {
        let shown = self.fleet.run(&["workspaces", "show", &self.workspace])?;
        // A workspace that is deleted has no page.
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
        let lists = [&job["error"]["unconfirmed"], &shown["unconfirmed"]];
        let entries = lists.into_iter().flat_map(list);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(entries
            .map(|entry| Named {
                address: text(&entry["address"]),
                id: text(&entry["id"]),
            })
            .collect())
    }

    fn next_build(&self, transition: &str, outcome: &mut Outcome) -> Result<Value> {
        let next = ended(self.fleet, &self.build(transition)?)?;
        if next["status"] != "succeeded" {
            let broken = format!("the next build: {}", verdict::name(&next));
            outcome.violations.push(broken);
        }
        Ok(next)
    }
}

/// What must be known: printed more than a second before the kill.
fn printed_before(seen: &Seen, at: jiff::Timestamp) -> Vec<Thing> {
    let limit = at - Duration::from_secs(1);
    let complete = seen.complete.iter().filter(|complete| complete.at < limit);
    complete.map(|complete| complete.thing.clone()).collect()
}
