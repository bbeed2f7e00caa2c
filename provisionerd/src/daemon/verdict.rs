//! The words for jobs that did not end by themselves, and what is known of them from
//! ledger and checkpoints alone.

use std::collections::HashSet;

use proto::unconfirmed::unconfirmed;
use proto::v1::exit_record::Record;
use proto::v1::{
    ExitRecord, FinishJobRequest, IntendedChange, JobError, LedgerEntry, LocalCheckpoint, Process,
    UnconfirmedResource,
};

/// The state and the unconfirmed resources of a job that cannot speak for itself.
#[must_use]
pub fn from_ledger(ledger: &[LedgerEntry], kept: Option<&LocalCheckpoint>) -> FinishJobRequest {
    let state = kept.and_then(|kept| kept.checkpoint.clone());
    let proved = state.as_ref().map_or(0, |state| state.ledger_seq);
    FinishJobRequest {
        unconfirmed: unconfirmed(ledger, proved),
        state,
        ..FinishJobRequest::default()
    }
}

/// The last entry of a ledger; 0 of an empty one.
pub fn end(ledger: &[LedgerEntry]) -> u64 {
    ledger.iter().map(|entry| entry.seq).max().unwrap_or(0)
}

/// What a plan was going to change and the ledger, which could not be read to its end, does
/// not name.
#[must_use]
pub fn unheard(intended: &[IntendedChange], ledger: &[LedgerEntry]) -> Vec<UnconfirmedResource> {
    let heard: HashSet<&str> = ledger.iter().map(|entry| entry.address.as_str()).collect();
    let unheard = intended
        .iter()
        .filter(|change| !heard.contains(change.address.as_str()));
    unheard
        .map(|change| UnconfirmedResource {
            address: change.address.clone(),
            action: change.action,
            id: change.id.clone(),
            reason: "it was about to be changed, and what the engine did cannot be read".to_owned(),
        })
        .collect()
}

/// Worker or supervisor died after the gate.
#[must_use]
pub fn worker_lost(why: &str) -> JobError {
    JobError::internal(
        "WORKER_LOST",
        format!("the worker was lost while it changed the world: {why}"),
    )
    .hint("the newest saved state is kept; look at the unconfirmed resources, then start again")
}

/// The daemon was told to stop while the job could not.
#[must_use]
pub fn daemon_drained() -> JobError {
    JobError::capacity(
        "DAEMON_DRAINED",
        "the daemon had to stop before the job had ended",
    )
    .hint("its state is kept; start the workspace again")
}

/// The state that belongs to an ending cannot be sent.
#[must_use]
pub fn state_unsent(why: &str) -> JobError {
    JobError::internal(
        "STATE_UNSENT",
        format!("the state of this build cannot be sent: {why}"),
    )
    .hint("the newest older state is kept; look at the unconfirmed resources")
}

/// The queue has given the job to somebody else, or has ended it.
#[must_use]
pub fn lease_lost() -> JobError {
    JobError::internal("LEASE_LOST", "the job was no longer this daemon's")
        .hint("look at the job's later attempt, or start the workspace again")
}

/// A worker that failed without a word.
#[must_use]
pub fn without_error() -> JobError {
    JobError::internal("WORKER_FAILED", "the worker failed and did not say why")
        .hint("see the job's log")
}

/// The daemon died or restarted after the gate.
#[must_use]
pub fn daemon_restarted(exits: &[ExitRecord]) -> JobError {
    JobError::internal(
        "DAEMON_RESTARTED",
        format!(
            "the daemon restarted while the job changed the world; {}",
            apply_ending(exits)
        ),
    )
    .hint("the newest saved state is kept; look at the unconfirmed resources, then start again")
}

/// How the engine's apply ended, as the supervisor recorded it.
fn apply_ending(exits: &[ExitRecord]) -> String {
    let ending = exits.iter().rev().find_map(|exit| match &exit.record {
        Some(Record::Exited(exited)) if exited.process() == Process::Apply => Some(exited),
        _ => None,
    });
    match ending.map(|exited| (exited.code, exited.signal)) {
        None => "how its engine ended is not known".to_owned(),
        Some((Some(code), _)) => format!("its engine ended with exit code {code}"),
        Some((None, signal)) => format!("signal {} ended its engine", signal.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{Checkpoint, LedgerAction, LedgerEvent, ProcessExited};

    fn entry(seq: u64, address: &str, event: LedgerEvent) -> LedgerEntry {
        LedgerEntry {
            seq,
            address: address.to_owned(),
            action: LedgerAction::Create.into(),
            event: event.into(),
            ..LedgerEntry::default()
        }
    }

    #[test]
    fn what_the_newest_state_does_not_prove_is_unconfirmed() {
        let ledger = [
            entry(1, "a", LedgerEvent::Started),
            entry(2, "a", LedgerEvent::Complete),
            entry(3, "b", LedgerEvent::Started),
            entry(4, "b", LedgerEvent::Complete),
            entry(5, "c", LedgerEvent::Started),
        ];
        let kept = LocalCheckpoint {
            file: "state-2".into(),
            checkpoint: Some(Checkpoint {
                ledger_seq: 2,
                ..Checkpoint::default()
            }),
        };
        let finish = from_ledger(&ledger, Some(&kept));
        let addresses: Vec<_> = finish.unconfirmed.iter().map(|r| &r.address).collect();
        assert_eq!(addresses, ["b", "c"]);
        assert_eq!(finish.state, kept.checkpoint);
        assert_eq!(from_ledger(&ledger, None).unconfirmed.len(), 3);
    }

    #[test]
    fn what_was_announced_and_is_not_in_an_unread_ledger_is_named() {
        let change = |address: &str| IntendedChange {
            address: address.to_owned(),
            action: LedgerAction::Create.into(),
            ..IntendedChange::default()
        };
        let ledger = [entry(1, "a", LedgerEvent::Started)];
        let unheard = unheard(&[change("a"), change("b")], &ledger);
        let [only] = unheard.as_slice() else {
            panic!("{unheard:?}");
        };
        assert_eq!(
            (only.address.as_str(), only.action()),
            ("b", LedgerAction::Create)
        );
    }

    #[test]
    fn the_verdict_names_how_the_engine_ended() {
        let exit = |process: Process, code| ExitRecord {
            record: Some(Record::Exited(ProcessExited {
                process: process.into(),
                code: Some(code),
                ..ProcessExited::default()
            })),
            time_ms: 0,
        };
        let exits = [exit(Process::Plan, 2), exit(Process::Apply, 1)];
        assert!(daemon_restarted(&exits).message.contains("exit code 1"));
        assert!(daemon_restarted(&exits[..1]).message.contains("not known"));
    }
}
