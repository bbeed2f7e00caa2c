//! One kill: a build of a workspace, the kill in it, the restart, the verdict, and the next
//! build. [`super::judge`] holds what is judged after the restart.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::Value;

use super::aim::{Estimate, Estimates};
use super::audit::Counts;
use super::fleet::{Fleet, LONG, wait_for};
use super::plan::{Aim, Case, Change};
use super::printed::Follower;

/// A kill before the apply's first output is before it, however late it was expected.
const JUST_BEFORE: f64 = -0.001;

/// Draws of the instant until one hits a process that lives.
const SHOTS: u32 = 4;
/// Between two looks whether a build has ended before its sign.
const LOOK: Duration = Duration::from_secs(1);

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
    let mut aim = case.aim;
    for shot in 1..=SHOTS {
        let workspace = format!("w-{}-{shot}", case.number);
        let estimate = match aim {
            Aim::Uniform(_) => Some(estimates.of(case, || measure(fleet, case, &template))?),
            Aim::Planned | Aim::Asked | Aim::Applies(_) => None,
        };
        let run = Run {
            fleet,
            case,
            workspace,
        };
        run.prepare(&template)?;
        if let Some(outcome) = run.shoot(estimates, estimate, &template, aim)? {
            return Ok(outcome);
        }
        // The build was quicker than expected: the next one is hit earlier.
        let earlier = 0.5_f64.powf(f64::from(shot));
        aim = match aim {
            Aim::Uniform(_) => Aim::Uniform(earlier * 0.9),
            Aim::Applies(after) => Aim::Applies(after * earlier),
            Aim::Planned | Aim::Asked => aim,
        };
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

pub(super) fn ended(fleet: &Fleet, job: &str) -> Result<Value> {
    wait_for("the job ends", LONG, || {
        let job = fleet.json(&["jobs", "show", job])?;
        std::thread::sleep(Duration::from_millis(100));
        Ok(is_over(&job).then_some(job))
    })
}

/// A case under way.
pub(super) struct Run<'a> {
    pub fleet: &'a mut Fleet,
    pub case: &'a Case,
    pub workspace: String,
}

/// The moment of the kill.
pub(super) struct Killed {
    pub instant: Instant,
    pub at: Timestamp,
}

impl Run<'_> {
    /// What the build that is hit will change.
    fn prepare(&self, template: &str) -> Result<()> {
        if self.case.change == Change::First {
            return Ok(());
        }
        self.fleet.promote(template, 1)?;
        let job = ended(self.fleet, &create(self.fleet, &self.workspace, template)?)?;
        anyhow::ensure!(job["status"] == "succeeded", "what is to change: {job:#}");
        let id = job["id"].as_str().context("no job")?;
        // Its files would be taken for those of the build that is hit.
        wait_for("nothing of it is left", LONG, || {
            Ok(self.fleet.left(id).is_empty().then_some(()))
        })
    }

    /// Starts the build that is hit.
    fn submit(&self, template: &str) -> Result<String> {
        let words = match self.case.change {
            Change::First => return create(self.fleet, &self.workspace, template),
            Change::Replace => {
                self.fleet.promote(template, 2)?;
                "update"
            }
            Change::Stop => "stop",
            Change::Delete => "delete",
        };
        self.build(words)
    }

    /// Starts another build of the workspace.
    pub fn build(&self, transition: &str) -> Result<String> {
        let line = ["workspaces", transition, &self.workspace, "--no-wait"];
        let started = self.fleet.json(&line)?;
        Ok(started["job"]["id"].as_str().context("no job")?.to_owned())
    }

    /// One build with its kill; `None` when it ended before.
    fn shoot(
        mut self,
        estimates: &Estimates,
        estimate: Option<Estimate>,
        template: &str,
        aim: Aim,
    ) -> Result<Option<Outcome>> {
        let follower = Follower::start(&self.fleet.jobs());
        let submitted = Instant::now();
        let job = self.submit(template)?;
        let after = estimate.and_then(|estimate| estimate.instant(aim));
        let due = match after {
            Some(after) => Some(submitted + after),
            None => self.sign(&follower, &job, aim)?,
        };
        let Some(due) = due else { return Ok(None) };
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
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
            None => match estimate {
                Some(it) => seconds_since(submitted + it.gate, killed.instant).min(JUST_BEFORE),
                None => JUST_BEFORE,
            },
        };
        Ok(Some(outcome))
    }

    /// When the sign that the aim waits for was seen, and what the aim adds to it; `None`
    /// when the build has ended before.
    fn sign(&self, follower: &Follower, job: &str, aim: Aim) -> Result<Option<Instant>> {
        let mut looked = Instant::now();
        loop {
            let seen = follower.seen();
            let due = match aim {
                Aim::Planned => seen.planned.or(seen.apply_began),
                Aim::Asked => seen.gate_asked.or(seen.apply_began),
                Aim::Applies(after) => {
                    let after = Duration::from_secs_f64(after);
                    seen.apply_began.map(|began| began + after)
                }
                Aim::Uniform(_) => Some(Instant::now()),
            };
            if due.is_some() {
                return Ok(due);
            }
            if looked.elapsed() > LOOK {
                looked = Instant::now();
                if is_over(&self.fleet.json(&["jobs", "show", job])?) {
                    return Ok(None);
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn seconds_since(gate: Instant, killed: Instant) -> f64 {
    let after = killed.saturating_duration_since(gate).as_secs_f64();
    after - gate.saturating_duration_since(killed).as_secs_f64()
}
