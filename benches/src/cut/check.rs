//! What a case is judged by when it is over: its ending, its lines, its state.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::case::{Ending, Phase};
use super::lines;
use super::story::Story;

/// Resources of a real apply.
const RESOURCES: usize = 3;
/// Lines of an apply of the scripted engine.
pub(super) const APPLIED: u64 = 40;

impl Story<'_> {
    /// The job ended as the tables say.
    pub fn check_ending(&self, job: &Value) -> Result<()> {
        let attempt = job["attempt"].as_u64().unwrap_or_default();
        let succeeded = job["status"] == "succeeded";
        let lost = job["status"] == "failed" && job["error"]["code"] == "WORKER_LOST";
        let right = match self.case.ending() {
            Ending::First => succeeded && attempt == 1,
            Ending::FirstOrSecond => succeeded && attempt <= 2,
            Ending::Second => succeeded && attempt == 2,
            Ending::LostWithState | Ending::LostAndNamed | Ending::Late => lost && attempt == 1,
        };
        ensure!(right, "{:?} was due, it is: {job:#}", self.case.ending());
        Ok(())
    }

    /// Every line that was printed is there, once, in order; of an attempt that another one
    /// followed, all that it had `printed` when what was taken away came back.
    pub fn check_lines(&self, job: &Value, printed: u64) -> Result<usize> {
        let log = self.fleet.log(job["id"].as_str().context("no job")?)?;
        let mut attempts: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
        for (attempt, text) in &log {
            attempts.entry(*attempt).or_default().push(text);
        }
        let last = attempts.keys().last().copied().unwrap_or_default();
        for (attempt, texts) in &attempts {
            let whole = match self.case.ending() {
                Ending::First | Ending::FirstOrSecond | Ending::Second => *attempt == last,
                Ending::LostWithState | Ending::LostAndNamed | Ending::Late => false,
            };
            let checked = match self.case.phase {
                Phase::Init | Phase::Plan | Phase::Gate => lines::steady(texts, whole),
                Phase::Apply => lines::ticks(texts, RESOURCES, whole),
            };
            checked.with_context(|| format!("lines of attempt {attempt}: {texts:#?}"))?;
        }
        if self.case.phase == Phase::Apply {
            return Ok(log.len());
        }
        let first = attempts.get(&1).map_or(&[][..], Vec::as_slice);
        let due = format!("steady {printed}");
        ensure!(
            printed == 0 || first.contains(&due.as_str()),
            "attempt 1 had printed `{due}`: {first:#?}"
        );
        let all: Vec<&str> = log.iter().map(|(_, text)| text.as_str()).collect();
        lines::once(&all, "applied", APPLIED).context("lines of the apply")?;
        Ok(log.len())
    }

    /// What was made is in the state, or named.
    pub fn check_state(&self, job: &Value) -> Result<()> {
        let pulled = self.fleet.run(&["state", "pull", "w"])?;
        let state: Value = serde_json::from_slice(&pulled.stdout).unwrap_or_default();
        if self.case.phase != Phase::Apply {
            ensure!(state["serial"] == 7, "not the engine's state: {state:#}");
            return Ok(());
        }
        let instances: usize = list(&state["resources"])
            .iter()
            .map(|resource| list(&resource["instances"]).len())
            .sum();
        let named = list(&job["error"]["in_flight"]).len();
        let whole = match self.case.ending() {
            Ending::LostAndNamed => instances == RESOURCES || named == RESOURCES,
            Ending::First
            | Ending::FirstOrSecond
            | Ending::Second
            | Ending::LostWithState
            | Ending::Late => instances == RESOURCES,
        };
        ensure!(whole, "{instances} in the state, {named} named: {job:#}");
        Ok(())
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
