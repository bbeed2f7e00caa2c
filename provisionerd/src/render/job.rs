//! The job object: what `jobs show` prints and what every command that makes a job
//! prints under `job`. Its fields are a contract; one that does not apply is `null`.

use proto::v1::{JobError, JobView, PhaseTiming, StoredLine, UnconfirmedResource};
use serde_json::{Value, json};

use super::extraction::resources;
use super::time::rfc3339;
use super::words::{self, filled};

/// The whole object.
pub fn document(job: &JobView) -> Value {
    let engine = job.engine.as_ref().filter(|engine| !engine.name.is_empty());
    json!({
        "id": job.id,
        "organization": job.organization,
        "kind": words::kind(job.kind()),
        "status": words::status(job.status()),
        "transition": words::transition(job.transition()),
        "template": job.template,
        "version_id": job.version_id,
        "workspace": job.workspace,
        "owner": filled(&job.owner),
        "tags": job.tags,
        "priority": words::priority(job.priority()),
        "attempt": job.attempt,
        "created_at": rfc3339(job.created_at_ms),
        "started_at": job.started_at_ms.and_then(rfc3339),
        "completed_at": job.completed_at_ms.and_then(rfc3339),
        "queue_wait_ms": job.queue_wait_ms,
        "unreachable_since": job.unreachable_since_ms.and_then(rfc3339),
        "daemon": job.daemon,
        "sandbox": job.sandbox,
        "broker": job.broker,
        "engine": engine.map(|e| json!({ "name": e.name, "version": filled(&e.version) })),
        "phase": words::phase(job.phase()),
        "phases": job.phases.iter().map(phase).collect::<Value>(),
        "engine_processes": job.engine_processes,
        "resources": job.extraction.as_ref().map(|e| resources(&e.resources)),
        "error": error(job.error.as_ref(), &job.unconfirmed),
        "gate_open": job.gate_open,
        "cancel_requested": job.cancel_requested,
        "queue_position": job.queue_position,
        "waiting_for": job.waiting_for,
        "estimated_start": job.estimated_start_ms.and_then(rfc3339),
        "queue_deadline_at": job.queue_deadline_at_ms.and_then(rfc3339),
        "run_deadline_at": job.run_deadline_at_ms.and_then(rfc3339),
    })
}

/// One line as `jobs logs` prints it.
pub fn log_line(stored: &StoredLine) -> Value {
    let line = stored.line.clone().unwrap_or_default();
    json!({
        "seq": stored.seq,
        "time": rfc3339(line.time_ms),
        "attempt": stored.attempt,
        "phase": words::phase(line.phase()),
        "source": words::source(line.source()),
        "level": words::level(line.level()),
        "text": line.text,
    })
}

/// Resources that are made or changed but not proved, as they stand in an error.
pub fn unconfirmed(resources: &[UnconfirmedResource]) -> Value {
    resources
        .iter()
        .map(|resource| {
            json!({
                "address": resource.address,
                "action": words::action(resource.action()),
                "id": filled(&resource.id),
                "reason": filled(&resource.reason),
            })
        })
        .collect()
}

fn phase(timing: &PhaseTiming) -> Value {
    json!({
        "name": words::phase(timing.phase()),
        "started_at": rfc3339(timing.started_at_ms),
        "duration_ms": timing.duration_ms,
    })
}

/// Unconfirmed resources are shown even where no error goes with them.
fn error(error: Option<&JobError>, unproved: &[UnconfirmedResource]) -> Option<Value> {
    if error.is_none() && unproved.is_empty() {
        return None;
    }
    let in_flight: Vec<&str> = unproved.iter().map(|r| r.address.as_str()).collect();
    Some(json!({
        "code": error.and_then(|e| filled(&e.code)),
        "class": error.and_then(|e| words::class(e.class())),
        "message": error.and_then(|e| filled(&e.message)),
        "hint": error.and_then(|e| filled(&e.hint)),
        "in_flight": in_flight,
        "unconfirmed": unconfirmed(unproved),
    }))
}

#[cfg(test)]
#[path = "job/tests.rs"]
mod tests;
