//! One case from its template to its last check.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Options;
use super::case::{Case, Ending, Phase, Span};
use super::check::APPLIED;
use super::fleet::{Fleet, LONG, ONE, Taken, wait_for};
use super::lines;
use crate::journal;

/// Between two lines of the scripted engine, in milliseconds.
const PACE: u32 = 250;
/// What a real apply goes on for, once everything is back.
const AFTERWARDS: Duration = Duration::from_secs(8);

/// What was measured in a case that went as it must.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// As the job ended: status, code, attempt.
    pub ending: String,
    /// From taking away to giving back.
    pub away: Duration,
    /// From giving back to the verdict; zero when that came before.
    pub to_verdict: Duration,
    /// From giving back to the state at the queue, when it came late.
    pub to_late_state: Option<Duration>,
    /// From the end of the last engine process to the verdict, when that came by the
    /// lease's end.
    pub dead_before_verdict: Option<Duration>,
    /// Lines of the log that were checked.
    pub lines: usize,
}

/// Runs it.
///
/// # Errors
/// What was not as it must be, with the logs of queue and daemon.
pub fn run(options: &Options, case: Case) -> Result<Measured> {
    let scripted = case.phase != Phase::Apply;
    let tools = tempfile::tempdir()?;
    let engine = match scripted {
        true => super::scripted_engine(&options.testdata, tools.path())?,
        false => options.engine.clone(),
    };
    let fleet = Fleet::start(options, case.what, &engine)?;
    let told = Story {
        options,
        case,
        go: fleet.dir().join("go"),
        fleet: &fleet,
    }
    .tell();
    told.with_context(|| fleet.logs())
}

pub(super) struct Story<'a> {
    options: &'a Options,
    pub case: Case,
    pub fleet: &'a Fleet,
    go: PathBuf,
}

impl Story<'_> {
    fn tell(&self) -> Result<Measured> {
        let job = self.begin()?;
        let taken = self.fleet.take(self.case.what)?;
        let since = Instant::now();
        let mut measured = Measured::default();
        let printed = self.printed();
        self.wait_out(&job, since, &mut measured)?;
        // What an attempt has printed so far must be kept, also when another one follows.
        let printed = printed.max(self.printed());
        let late = self.case.ending() == Ending::Late;
        let verdict = late.then(|| self.fleet.job(&job)).transpose()?;
        self.give(&taken)?;
        measured.away = since.elapsed();
        let back = Instant::now();
        let ended = self.ended(&job)?;
        measured.to_verdict = match late {
            true => Duration::ZERO,
            false => back.elapsed(),
        };
        measured.ending = name(&ended);
        self.check_ending(&ended)?;
        if let Some(verdict) = verdict {
            measured.to_late_state = Some(self.late(&job, &verdict, back)?);
        }
        measured.lines = self.check_lines(&ended, printed)?;
        self.check_state(&ended)?;
        self.fleet.nothing_left()?;
        Ok(measured)
    }

    /// A build in the phase of the case, talking.
    fn begin(&self) -> Result<String> {
        let template = self.template()?;
        let template = template.to_str().context("path is not UTF-8")?;
        let seconds = format!("seconds={}", self.seconds().as_secs());
        let push = ["templates", "push", "t", "-d", template];
        match self.case.phase {
            Phase::Init | Phase::Plan | Phase::Gate => {
                std::fs::write(&self.go, "")?;
                self.fleet.json(&push)?;
                std::fs::remove_file(&self.go)?;
            }
            Phase::Apply => {
                let more = ["--variable", seconds.as_str()];
                self.fleet.json(&[&push[..], &more].concat())?;
            }
        }
        let create = ["workspaces", "create", "w", "--template", "t", "--no-wait"];
        let made = self.fleet.json(&create)?;
        let job = made["job"]["id"].as_str().context("no job")?.to_owned();
        let signs: &[&str] = match self.case.phase {
            Phase::Init | Phase::Plan | Phase::Gate => &["steady 4"],
            // Each of the resources is under way.
            Phase::Apply => &[
                "slow 0: tick 2 of",
                "slow 1: tick 2 of",
                "slow 2: tick 2 of",
            ],
        };
        wait_for("the engine talks", LONG, || {
            let log = self.fleet.log(&job)?;
            let said = |sign: &&str| log.iter().any(|(_, text)| text.contains(sign));
            Ok(signs.iter().all(said).then_some(()))
        })?;
        if self.case.phase == Phase::Gate {
            self.until_asked()?;
        }
        Ok(job)
    }

    /// Lets the plan end, and waits for the daemon to ask for the gate.
    fn until_asked(&self) -> Result<()> {
        std::fs::write(&self.go, "")?;
        let start = Instant::now();
        // Closer than the other waits: what is cut is the request or its answer.
        while !entries(&self.jobs()).any(|job| journal::asks(&job.join("journal"))) {
            ensure!(start.elapsed() < LONG, "the gate is not asked for");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn jobs(&self) -> PathBuf {
        self.fleet.dir().join(format!("d/daemon-{ONE}/jobs"))
    }

    /// How many lines the engine of a scripted phase has printed; none when its attempt is
    /// cleared away.
    fn printed(&self) -> u64 {
        let outputs = entries(&self.jobs()).flat_map(|job| entries(&job.join("out")));
        let numbers = outputs.map(|path| lines::printed(&std::fs::read(path).unwrap_or_default()));
        numbers.max().unwrap_or_default()
    }

    fn template(&self) -> Result<PathBuf> {
        let phase = match self.case.phase {
            Phase::Init => "init",
            Phase::Plan | Phase::Gate => "plan",
            Phase::Apply => return Ok(self.options.testdata.join("templates/slow")),
        };
        let template = self.fleet.dir().join("scripted");
        std::fs::create_dir(&template)?;
        std::fs::write(template.join("main.tf"), "")?;
        let go = self.go.display();
        let apply = format!("[apply]\nmade a.one first\nlines {APPLIED} applied\nstate 7\n");
        let script = format!("[{phase}]\nuntil {go} {PACE} steady\n{apply}");
        std::fs::write(template.join("engine.script"), script)?;
        Ok(template)
    }

    /// How long each resource of a real apply takes.
    fn seconds(&self) -> Duration {
        let length = self.case.span.length(self.options.divisor);
        match (self.case.span, length) {
            (Span::SixtyAndDone | Span::MinutesAndDone, Some(length)) => length / 3,
            (_, Some(length)) => length + AFTERWARDS,
            // It must be the lease that ends it.
            (_, None) => Duration::from_hours(1),
        }
    }

    /// Waits for as long as the case says, and looks whether the engine is dead before
    /// anybody else may take its place.
    fn wait_out(&self, job: &str, since: Instant, measured: &mut Measured) -> Result<()> {
        let away = self.case.span.length(self.options.divisor);
        let before_gate = self.case.phase != Phase::Apply;
        if away.is_some() || before_gate || self.case.ending() != Ending::Late {
            // Beyond everything that any table waits for.
            let beyond = Duration::from_secs(120) / self.options.divisor;
            let away = away.unwrap_or(beyond);
            return wait_for("the span", away * 2, || {
                Ok((since.elapsed() >= away).then_some(()))
            });
        }
        let mut dead: Option<Instant> = None;
        let lease = self
            .options
            .lease
            .unwrap_or(Duration::from_secs(600) / self.options.divisor);
        let verdict = wait_for("the lease ends", lease * 2, || {
            if dead.is_none() && !self.fleet.engine_lives()? {
                dead = Some(Instant::now());
            }
            Ok(is_over(&self.fleet.job(job)?).then(Instant::now))
        })?;
        let dead = dead.context("the lease ended and the engine lived")?;
        measured.dead_before_verdict = Some(verdict.duration_since(dead));
        Ok(())
    }

    fn give(&self, taken: &Taken) -> Result<()> {
        self.fleet.give(taken)?;
        let talks = matches!(self.case.phase, Phase::Init | Phase::Plan);
        if talks && self.case.ending() == Ending::FirstOrSecond {
            // The job may be on its way to its second attempt: it is let go when it runs.
            wait_for("the job runs", LONG, || {
                let below = self.fleet.engine_lives()?;
                Ok(below.then_some(()))
            })?;
        }
        Ok(())
    }

    fn ended(&self, job: &str) -> Result<Value> {
        let again = self.case.ending() == Ending::Second;
        if matches!(self.case.phase, Phase::Init | Phase::Plan) {
            wait_for("the job runs, in its attempt", LONG, || {
                let job = self.fleet.job(job)?;
                let attempt = if again { 2 } else { 1 };
                let runs = job["status"] == "running" && job["attempt"].as_u64() >= Some(attempt);
                Ok(runs.then_some(()))
            })?;
            std::fs::write(&self.go, "")?;
        }
        wait_for("the job ends", LONG, || {
            let job = self.fleet.job(job)?;
            Ok(is_over(&job).then_some(job))
        })
    }

    /// The state of a job whose verdict was given without it.
    fn late(&self, job: &str, verdict: &Value, back: Instant) -> Result<Duration> {
        let took = wait_for("the state arrives late", LONG, || {
            let history = self.fleet.json(&["state", "history", "w"])?;
            let late = history.to_string().contains("\"late\"");
            Ok(late.then(|| back.elapsed()))
        })?;
        let now = self.fleet.job(job)?;
        for field in ["status", "attempt", "completed_at"] {
            ensure!(
                now[field] == verdict[field],
                "the late state changed {field}: {now:#}"
            );
        }
        ensure!(now["error"]["code"] == verdict["error"]["code"], "{now:#}");
        Ok(took)
    }
}

fn entries(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

fn is_over(job: &Value) -> bool {
    let status = job["status"].as_str().unwrap_or_default();
    ["succeeded", "failed", "canceled"].contains(&status)
}

fn name(job: &Value) -> String {
    let status = job["status"].as_str().unwrap_or_default();
    match job["error"]["code"].as_str() {
        Some(code) => format!("{status} {code}, attempt {}", job["attempt"]),
        None => format!("{status}, attempt {}", job["attempt"]),
    }
}
