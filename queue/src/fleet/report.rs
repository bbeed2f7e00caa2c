//! UpdateJob and FinishJob: from the wire to the store's commands.

use proto::ids::Digest;
use proto::limits;
use proto::v1;
use proto::v1::finish_job_request::Brought;

use super::parse;
use crate::refusal::Refusal;
use crate::store::model::{
    BlobContent, Checkpoint, DaemonRef, Disposition, Finish, Gate, NewBlob, Plan, Update,
};
use crate::transfer;
use crate::words::{Outcome, Phase, ReleaseReason};

/// Checks an update.
pub fn update(daemon: DaemonRef, request: v1::UpdateJobRequest) -> Result<Update, Refusal> {
    within_limits(&request.lines)?;
    plan_within_limits(&request.intended)?;
    Ok(Update {
        daemon,
        job: parse::job(&request.job_id)?,
        lease: parse::lease(&request.lease_id)?,
        counter: request.counter,
        phase: Phase::from_wire(request.phase),
        lines: request.lines,
        ledger: request.ledger,
        checkpoint: parse::checkpoint(request.checkpoint)?,
        gate: if request.gate {
            Gate::Asked
        } else {
            Gate::NotAsked
        },
        plan: Plan {
            changes: request.intended,
            left_out: request.intended_left_out,
        },
    })
}

/// Checks a finish.
pub fn finish(daemon: DaemonRef, mut request: v1::FinishJobRequest) -> Result<Finish, Refusal> {
    within_limits(&request.lines)?;
    let outcome = Outcome::from_wire(request.outcome)
        .ok_or_else(|| Refusal::invalid("INVALID_REQUEST", "the finish names no outcome"))?;
    let release = ReleaseReason::from_wire(request.release_reason);
    if outcome == Outcome::Released && release.is_none() {
        let message = "a release names no reason";
        return Err(Refusal::invalid("INVALID_REQUEST", message));
    }
    let state = parse::checkpoint(request.state.clone())?;
    let brought = request.brought.take();
    Ok(Finish {
        daemon,
        job: parse::job(&request.job_id)?,
        lease: parse::lease(&request.lease_id)?,
        attempt: request.attempt,
        outcome,
        release,
        brings: brought
            .map(|bytes| brings(state.as_ref(), bytes))
            .transpose()?,
        state,
        // It keeps the state's name too: of an unclaimed finish nothing else is stored.
        report: Box::new(request),
    })
}

/// The state of a finish that brings its bytes; others bear no name of theirs.
fn brings(state: Option<&Checkpoint>, brought: Brought) -> Result<NewBlob, Refusal> {
    let Some(state) = state else {
        let message = "the finish brings bytes and names no state";
        return Err(Refusal::invalid("INVALID_REQUEST", message));
    };
    let (bytes, frame) = match brought {
        Brought::StateData(bytes) => (bytes, None),
        Brought::StateZstd(frame) => {
            let bytes = transfer::unpacked(&frame, limits::BLOB_INLINE)?;
            (bytes.into(), Some(frame))
        }
    };
    let limit = limits::BLOB_INLINE;
    if bytes.len() > limit {
        return Err(too_large(format!(
            "the finish brings {} bytes of state, more than the limit of {limit}: \
             put it as a blob",
            bytes.len()
        )));
    }
    let id = state.blob;
    if bytes.len() as u64 != id.size || Digest::of(&bytes) != id.digest {
        let message = "the finish brings other bytes than those of the state that it names";
        return Err(Refusal::invalid("BLOB_MISMATCH", message));
    }
    Ok(NewBlob {
        id,
        content: BlobContent::Inline(bytes),
        frame,
    })
}

/// As it travels.
pub fn disposition(disposition: Disposition) -> v1::FinishJobReply {
    let disposition = match disposition {
        Disposition::Applied => v1::FinishDisposition::Applied,
        Disposition::Late => v1::FinishDisposition::Late,
        Disposition::Unclaimed => v1::FinishDisposition::Unclaimed,
    };
    v1::FinishJobReply {
        disposition: disposition.into(),
    }
}

fn within_limits(lines: &[v1::LogLine]) -> Result<(), Refusal> {
    if lines.len() > limits::UPDATE_LINES {
        return Err(too_large(format!(
            "{} lines are more than the limit of {} in one request",
            lines.len(),
            limits::UPDATE_LINES
        )));
    }
    if let Some(line) = lines
        .iter()
        .find(|line| line.text.len() > limits::LOG_PIECE)
    {
        return Err(too_large(format!(
            "line {} has {} bytes, more than the limit of {} of one piece",
            line.seq,
            line.text.len(),
            limits::LOG_PIECE
        )));
    }
    let bytes: usize = lines.iter().map(|line| line.text.len()).sum();
    if bytes > limits::UPDATE_BYTES {
        return Err(too_large(format!(
            "{bytes} bytes of lines are more than the limit of {} in one request",
            limits::UPDATE_BYTES
        )));
    }
    Ok(())
}

fn plan_within_limits(changes: &[v1::IntendedChange]) -> Result<(), Refusal> {
    if changes.len() > limits::INTENDED_CHANGES {
        return Err(too_large(format!(
            "{} intended changes are more than the limit of {}",
            changes.len(),
            limits::INTENDED_CHANGES
        )));
    }
    let text = |change: &v1::IntendedChange| change.address.len() + change.id.len();
    let bytes: usize = changes.iter().map(text).sum();
    if bytes > limits::INTENDED_BYTES {
        return Err(too_large(format!(
            "{bytes} bytes of intended changes are more than the limit of {}",
            limits::INTENDED_BYTES
        )));
    }
    Ok(())
}

fn too_large(message: String) -> Refusal {
    Refusal::invalid("UPDATE_TOO_LARGE", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(bytes: usize) -> v1::LogLine {
        v1::LogLine {
            text: "x".repeat(bytes),
            ..v1::LogLine::default()
        }
    }

    #[test]
    fn each_limit_of_an_update_is_tripped() {
        assert!(within_limits(&vec![line(1); limits::UPDATE_LINES]).is_ok());
        assert!(within_limits(&vec![line(1); limits::UPDATE_LINES + 1]).is_err());
        assert!(within_limits(&[line(limits::LOG_PIECE)]).is_ok());
        assert!(within_limits(&[line(limits::LOG_PIECE + 1)]).is_err());
        let most = limits::UPDATE_BYTES / limits::LOG_PIECE;
        assert!(within_limits(&vec![line(limits::LOG_PIECE); most]).is_ok());
        assert!(within_limits(&vec![line(limits::LOG_PIECE); most + 1]).is_err());
    }

    #[test]
    fn each_limit_of_a_plan_is_tripped() {
        let change = |bytes: usize| v1::IntendedChange {
            address: "x".repeat(bytes),
            ..v1::IntendedChange::default()
        };
        let most = limits::INTENDED_CHANGES;
        assert!(plan_within_limits(&vec![change(1); most]).is_ok());
        assert!(plan_within_limits(&vec![change(1); most + 1]).is_err());
        assert!(plan_within_limits(&[change(limits::INTENDED_BYTES)]).is_ok());
        assert!(plan_within_limits(&[change(limits::INTENDED_BYTES + 1)]).is_err());
    }

    fn daemon() -> DaemonRef {
        DaemonRef {
            organization: "default".to_owned(),
            key: "key".to_owned(),
            name: "one".to_owned(),
            instance: "i".to_owned(),
        }
    }

    /// Names a state of `size` bytes with the digest of `bytes`.
    fn naming(bytes: &[u8], size: u64) -> v1::FinishJobRequest {
        let blob = v1::BlobRef {
            sha256: Digest::of(bytes).as_bytes().to_vec(),
            size,
        };
        v1::FinishJobRequest {
            job_id: proto::ids::JobId::generate().to_string(),
            lease_id: vec![1; 16],
            outcome: v1::Outcome::Succeeded.into(),
            state: Some(v1::Checkpoint {
                blob: Some(blob),
                lineage: "l".to_owned(),
                ..v1::Checkpoint::default()
            }),
            ..v1::FinishJobRequest::default()
        }
    }

    #[test]
    fn the_report_of_a_finish_keeps_its_state() {
        let request = naming(b"", 7);
        let finish = finish(daemon(), request.clone()).expect("whole");
        assert_eq!(finish.state.expect("a state").blob.size, 7);
        assert_eq!(finish.report.state, request.state);
    }

    #[test]
    fn a_finish_brings_the_bytes_of_its_state_and_no_others() {
        let packed = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).expect("a frame");
        let largest = vec![b'x'; limits::BLOB_INLINE];
        let over = vec![b'x'; limits::BLOB_INLINE + 1];
        let bring = |named: &[u8], size: usize, brought: Brought| {
            let mut request = naming(named, size as u64);
            request.brought = Some(brought);
            finish(daemon(), request)
        };
        for (bytes, brought) in [
            (b"state".to_vec(), Brought::StateData(b"state".to_vec())),
            (b"state".to_vec(), Brought::StateZstd(packed(b"state"))),
            (largest.clone(), Brought::StateData(largest.clone())),
            (largest.clone(), Brought::StateZstd(packed(&largest))),
        ] {
            let came = match &brought {
                Brought::StateZstd(frame) => Some(frame.clone()),
                Brought::StateData(_) => None,
            };
            let finish = bring(&bytes, bytes.len(), brought).expect("whole");
            let brings = finish.brings.expect("bytes");
            assert_eq!(brings.frame, came, "it is not packed anew");
            assert_eq!(brings.content, BlobContent::Inline(bytes));
            assert_eq!(finish.report.brought, None, "they are not kept twice");
        }
        for (bytes, size, brought, code) in [
            (
                &b"state"[..],
                5,
                Brought::StateData(b"stats".to_vec()),
                "BLOB_MISMATCH",
            ),
            (
                b"state",
                6,
                Brought::StateData(b"state".to_vec()),
                "BLOB_MISMATCH",
            ),
            (
                b"state",
                5,
                Brought::StateZstd(b"state".to_vec()),
                "INVALID_REQUEST",
            ),
            (
                &over,
                over.len(),
                Brought::StateData(over.clone()),
                "UPDATE_TOO_LARGE",
            ),
            (
                &over,
                over.len(),
                Brought::StateZstd(packed(&over)),
                "INVALID_REQUEST",
            ),
        ] {
            let refused = bring(bytes, size, brought).expect_err("refused");
            assert_eq!(refused.code(), code);
        }
        let mut nameless = naming(b"state", 5);
        nameless.state = None;
        nameless.brought = Some(Brought::StateData(b"state".to_vec()));
        assert!(finish(daemon(), nameless).is_err());
    }
}
