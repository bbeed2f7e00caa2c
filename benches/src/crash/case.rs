//! One kill: a first build of a workspace, the kill in it, the restart, the verdict, and
//! the next build.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::Value;

use super::aim::{Estimate, Estimates};
use super::audit::{self, Counts, Facts, Named};
use super::fleet::{Fleet, LONG, wait_for};
use super::plan::{Aim, Case};
use super::printed::{Follower, Seen};
use super::verdict;
use super::world::{Known, list, marks};

/// A kill before the apply's first output is before it, however late it was expected.
const JUST_BEFORE: f64 = -0.001;

/// Draws of the instant until one hits a process that lives.
const SHOTS: u32 = 3;
/// Supervisors of dead daemons are waited for 80 s, divided; sweeps come after.
const LEFT: Duration = Duration::from_secs(60);

/// What came of a case.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Which.
    pub case: Case,
    /// The job whose process was killed.
    pub job: String,
    /// Since the apply began to print; negative before it. Of kills before the gate it is
    /// what earlier builds let expect.
    pub from_gate: f64,
    /// Restart to verdict.
    pub to_verdict: Duration,
    /// As `jobs show` ends.
    pub verdict: String,
    /// What there is and what is known.
    pub counts: Counts,
    /// Directories kept for a person, each named in the job's error.
    pub retained: usize,
    /// Rules that were broken.
    pub violations: Vec<String>,
}

impl Outcome {
    fn new(case: &Case) -> Self {
        Self {
            case: *case,
            job: String::new(),
            from_gate: 0.0,
            to_verdict: Duration::ZERO,
            verdict: "none".to_owned(),
            counts: Counts::default(),
            retained: 0,
            violations: Vec::new(),
        }
    }

    /// A case that did not come to its end.
    pub fn broken(case: &Case, error: &anyhow::Error) -> Self {
        Self {
            violations: vec![format!("{error:#}")],
            ..Self::new(case)
        }
    }
}

/// Runs the case.
///
/// # Errors
/// A command fails or a wait is over: that breaks a rule too.
pub fn run(fleet: &mut Fleet, estimates: &Estimates, case: &Case) -> Result<Outcome> {
    let template = fleet.template(case)?;
    let estimate = estimates.of(case, || measure(fleet, case, &template))?;
    let mut aim = case.aim;
    for shot in 1..=SHOTS {
        let workspace = format!("w-{}-{shot}", case.number);
        let run = Run {
            fleet,
            case,
            workspace,
        };
        let after = estimate.instant(aim);
        if let Some(outcome) = run.shoot(estimates, estimate, &template, after)? {
            return Ok(outcome);
        }
        // The build was quicker than expected: the next one is hit earlier.
        aim = Aim::Uniform(0.8_f64.powf(f64::from(shot)) * 0.9);
    }
    anyhow::bail!("each build ended before its kill")
}

/// A build that nobody disturbs.
fn measure(fleet: &Fleet, case: &Case, template: &str) -> Result<Estimate> {
    let follower = Follower::start(&fleet.jobs());
    let start = Instant::now();
    let job = create(fleet, &format!("m-{}", case.number), template)?;
    let job = ended(fleet, &job)?;
    anyhow::ensure!(
        job["status"] == "succeeded",
        "an undisturbed build: {job:#}"
    );
    let began = follower.seen().apply_began.context("no apply was seen")?;
    Ok(Estimate {
        gate: began - start,
        end: start.elapsed(),
    })
}

fn create(fleet: &Fleet, workspace: &str, template: &str) -> Result<String> {
    let line = ["workspaces", "create", workspace, "--template", template];
    let made = fleet.json(&[&line[..], &["--no-wait"]].concat())?;
    Ok(made["job"]["id"].as_str().context("no job")?.to_owned())
}

fn is_over(job: &Value) -> bool {
    ["succeeded", "failed", "canceled"].contains(&job["status"].as_str().unwrap_or_default())
}

fn ended(fleet: &Fleet, job: &str) -> Result<Value> {
    wait_for("the job ends", LONG, || {
        let job = fleet.json(&["jobs", "show", job])?;
        std::thread::sleep(Duration::from_millis(100));
        Ok(is_over(&job).then_some(job))
    })
}

/// A case under way.
struct Run<'a> {
    fleet: &'a mut Fleet,
    case: &'a Case,
    workspace: String,
}

/// The moment of the kill.
struct Killed {
    instant: Instant,
    at: Timestamp,
}

impl Run<'_> {
    /// One build with its kill; `None` when it ended before.
    fn shoot(
        mut self,
        estimates: &Estimates,
        estimate: Estimate,
        template: &str,
        after: Duration,
    ) -> Result<Option<Outcome>> {
        let follower = Follower::start(&self.fleet.jobs());
        let submitted = Instant::now();
        let job = create(self.fleet, &self.workspace, template)?;
        std::thread::sleep((submitted + after).saturating_duration_since(Instant::now()));
        let ended = |fleet: &Fleet| Ok(is_over(&fleet.json(&["jobs", "show", &job])?));
        let Some(instant) = self.fleet.kill(self.case.kind, ended)? else {
            return Ok(None);
        };
        let at = Timestamp::now() - instant.elapsed();
        let killed = Killed { instant, at };
        std::thread::sleep(Duration::from_millis(self.case.away_ms));
        self.fleet.revive()?;
        let mut outcome = Outcome {
            job: job.clone(),
            ..Outcome::new(self.case)
        };
        let seen = self.judge(&killed, &job, &follower, &mut outcome)?;
        outcome.from_gate = match seen.apply_began.filter(|began| *began <= killed.instant) {
            Some(began) => {
                estimates.learn(self.case, began - submitted);
                seconds_since(began, killed.instant)
            }
            None => seconds_since(submitted + estimate.gate, killed.instant).min(JUST_BEFORE),
        };
        Ok(Some(outcome))
    }

    /// From the restart to the end of the next build.
    fn judge(
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
        let file = self.fleet.marks(&self.workspace);
        let facts = Facts {
            engine: self.case.engine,
            succeeded: first["status"] == "succeeded",
            made: marks(&file),
            known: self.known()?,
            named: self.named(&first)?,
            printed: printed_before(&seen, killed.at),
        };
        outcome.counts = audit::counts(&facts);
        outcome.violations.extend(audit::lost(&facts));
        let began = seen
            .apply_began
            .is_some_and(|began| began <= killed.instant);
        outcome
            .violations
            .extend(verdict::check(self.case.kind, began, &first));
        let next = self.next_build()?;
        if next["status"] != "succeeded" {
            let verdict = verdict::name(&next);
            outcome
                .violations
                .push(format!("the next build: {verdict}"));
        }
        let later = audit::Next {
            made: marks(&file),
            known: self.known()?,
        };
        outcome.violations.extend(audit::made_twice(&facts, &later));
        outcome
            .violations
            .extend(audit::too_small(self.case.size, &later.known));
        self.leftovers(job, &next, outcome)?;
        let again = self.fleet.json(&["jobs", "show", job])?;
        outcome.violations.extend(verdict::changed(&first, &again));
        self.fleet.check_alive()?;
        Ok(seen)
    }

    /// Waits until nothing is left; directories kept for a person must be named.
    fn leftovers(&mut self, job: &str, shown: &Value, outcome: &mut Outcome) -> Result<()> {
        let mut left = Vec::new();
        let gone = wait_for("nothing is left", LEFT, || {
            left = self.fleet.left(job);
            Ok(left.is_empty().then_some(()))
        });
        if gone.is_err() {
            outcome
                .violations
                .extend(left.iter().map(|it| format!("left: {it}")));
        }
        let error = shown["error"].to_string();
        for path in self.fleet.newly_retained() {
            outcome.retained += 1;
            if !error.contains(&path) {
                outcome
                    .violations
                    .push(format!("kept and not named: {path}"));
            }
        }
        Ok(())
    }

    fn known(&self) -> Result<Known> {
        let history = self.fleet.json(&["state", "history", &self.workspace])?;
        if list(&history).is_empty() {
            return Ok(Known::default());
        }
        let state = self.fleet.run(&["state", "pull", &self.workspace])?;
        Known::of(&state.stdout).context("state pull")
    }

    /// What the job or the workspace names as unconfirmed.
    fn named(&self, job: &Value) -> Result<Vec<Named>> {
        let shown = self.fleet.json(&["workspaces", "show", &self.workspace])?;
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

    fn next_build(&self) -> Result<Value> {
        let line = ["workspaces", "start", &self.workspace, "--no-wait"];
        let started = self.fleet.json(&line)?;
        ended(self.fleet, started["job"]["id"].as_str().context("no job")?)
    }
}

/// What must be known: printed more than a second before the kill.
fn printed_before(seen: &Seen, at: Timestamp) -> Vec<super::world::Thing> {
    let limit = at - Duration::from_secs(1);
    let complete = seen.complete.iter().filter(|complete| complete.at < limit);
    complete.map(|complete| complete.thing.clone()).collect()
}

fn seconds_since(gate: Instant, killed: Instant) -> f64 {
    let after = killed.saturating_duration_since(gate).as_secs_f64();
    after - gate.saturating_duration_since(killed).as_secs_f64()
}
