//! Which endings are right for which death. Before the gate the job runs again and
//! succeeds; after it, it is never run again. A dead queue costs nothing.

use serde_json::Value;

use super::plan::Kind;
use crate::rows::Attempt;

/// Status, code and attempt on one line.
pub fn name(job: &Value) -> String {
    let status = job["status"].as_str().unwrap_or_default();
    match job["error"]["code"].as_str() {
        Some(code) => format!("{status} {code}, attempt {}", job["attempt"]),
        None => format!("{status}, attempt {}", job["attempt"]),
    }
}

/// What is wrong with this ending; `applying`: the apply had begun when the kill came.
pub fn check(kind: Kind, applying: bool, job: &Value) -> Option<String> {
    let code = match kind {
        Kind::Worker | Kind::Supervisor => Some("WORKER_LOST"),
        Kind::Daemon | Kind::DaemonAndQueue | Kind::Tree => Some("DAEMON_RESTARTED"),
        Kind::Engine => Some("ENGINE_KILLED"),
        Kind::Queue => None,
    };
    let attempts = if applying { 1 } else { 2 };
    let attempt = job["attempt"].as_u64().unwrap_or_default();
    let right = match job["status"].as_str() {
        Some("succeeded") => (1..=attempts).contains(&attempt),
        // A gate that was asked for counts as open: such an ending is right a little before
        // the apply begins, too.
        Some("failed") => code.is_some() && job["error"]["code"].as_str() == code && attempt == 1,
        Some(_) | None => false,
    };
    (!right).then(|| format!("wrong verdict: {}", name(job)))
}

/// What of a verdict is not as it was.
pub fn changed(first: &Value, again: &Value) -> Option<String> {
    let fields = ["status", "attempt", "completed_at", "error"];
    let changed = fields
        .iter()
        .find(|field| first[**field] != again[**field])?;
    Some(format!("the verdict changed afterwards: {changed}"))
}

/// Each attempt has come to one end, and only the last one to the gate.
pub fn attempts(attempts: &[Attempt], job: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let numbers: Vec<u32> = attempts.iter().map(|attempt| attempt.number).collect();
    let last = job["attempt"]
        .as_u64()
        .and_then(|it| u32::try_from(it).ok());
    if numbers.last().copied() != last || !numbers.iter().copied().eq(1..=last.unwrap_or(0)) {
        broken.push(format!("attempts {numbers:?}, the job says {last:?}"));
    }
    for (index, attempt) in attempts.iter().enumerate() {
        let number = attempt.number;
        let is_last = index + 1 == attempts.len();
        match attempt.ending.as_deref() {
            None => broken.push(format!("attempt {number} has no verdict")),
            Some("lost" | "withdrawn" | "released") if !is_last => {}
            Some(_) if is_last => {}
            Some(ending) => broken.push(format!("attempt {number} was {ending}, another came")),
        }
        if attempt.gate_open && !is_last {
            broken.push(format!("attempt {number} changed the world, another came"));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_attempt_without_a_verdict_or_behind_the_gate_twice_is_seen() {
        let attempt = |number, ending: Option<&str>, gate_open| Attempt {
            number,
            ending: ending.map(str::to_owned),
            gate_open,
        };
        let job = |attempt: u32| json!({ "attempt": attempt });
        let good = [
            attempt(1, Some("lost"), false),
            attempt(2, Some("finished"), true),
        ];
        assert!(attempts(&good, &job(2)).is_empty());
        assert_eq!(attempts(&good, &job(1)).len(), 1);
        let open = [attempt(1, None, true)];
        assert_eq!(attempts(&open, &job(1)), ["attempt 1 has no verdict"]);
        let twice = [
            attempt(1, Some("lost"), true),
            attempt(2, Some("finished"), true),
        ];
        assert_eq!(attempts(&twice, &job(2)).len(), 1);
    }

    #[test]
    fn endings_fit_their_deaths() {
        let lost = json!({"status": "failed", "attempt": 1, "error": {"code": "WORKER_LOST"}});
        let second = json!({"status": "succeeded", "attempt": 2, "error": null});
        assert_eq!(check(Kind::Worker, true, &lost), None);
        assert!(check(Kind::Queue, true, &lost).is_some());
        assert!(check(Kind::Tree, true, &lost).is_some());
        assert_eq!(check(Kind::Tree, false, &second), None);
        assert!(check(Kind::Tree, true, &second).is_some());
        assert!(check(Kind::Worker, true, &json!({"status": "running"})).is_some());
    }

    #[test]
    fn a_verdict_that_changes_is_seen() {
        let first = json!({"status": "failed", "attempt": 1});
        assert_eq!(changed(&first, &first.clone()), None);
        let again = json!({"status": "succeeded", "attempt": 1});
        assert!(changed(&first, &again).is_some());
    }
}
