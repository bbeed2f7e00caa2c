//! What is said to the processes of one analysis, and what they answer. Nothing that
//! comes from the worker is trusted: it is data or the end of the analysis.

use std::io;
use std::os::unix::net::UnixStream;

use proto::limits;
use proto::v1::analysis::Result as Answer;
use proto::v1::{
    Analysis, Begin, Configure, FromSupervisor, FromWorker, JobError, ParameterValue,
    TemplateFacts, ToSupervisor, ToWorker, from_supervisor, from_worker, to_supervisor, to_worker,
};
use queue::analysis::{Failure, Findings};
use worker::link::{self, Receiver};

use super::broken;

/// Says what is to be done and waits for the answer. Cancel safe in that the links are
/// closed by it, which ends both processes.
pub(super) async fn ask(supervisor: UnixStream, worker: UnixStream) -> Result<Findings, Failure> {
    let stream = |stream| tokio::net::UnixStream::from_std(stream).map_err(unusable);
    let (from_supervisor, mut to_supervisor) =
        link::split::<FromSupervisor, ToSupervisor>(stream(supervisor)?, limits::SUPERVISOR_FRAME);
    let (from_worker, mut to_worker) =
        link::split::<FromWorker, ToWorker>(stream(worker)?, limits::WORKER_FRAME);
    to_supervisor.send(&configure()).await.map_err(lost)?;
    to_worker.send(&begin()).await.map_err(lost)?;
    // Biased: when both links end, the supervisor's says why.
    let analysis = tokio::select! {
        biased;
        failure = failure(from_supervisor) => return Err(failure),
        analysis = answer(from_worker) => analysis?,
    };
    match analysis.result {
        Some(Answer::Facts(facts)) => Ok(findings(facts)),
        Some(Answer::Refused(error)) => Err(Failure::Refused(error)),
        Some(Answer::Unreadable(error)) => Err(Failure::Unreadable(error)),
        None => Err(silent("answered nothing")),
    }
}

async fn answer(mut frames: Receiver<FromWorker>) -> Result<Analysis, Failure> {
    while let Some(frame) = frames.next().await.map_err(lost)? {
        match frame.message {
            Some(from_worker::Message::Analysis(analysis)) => return Ok(analysis),
            Some(from_worker::Message::Heartbeat(_)) => {}
            Some(
                from_worker::Message::Batch(_)
                | from_worker::Message::AskGate(_)
                | from_worker::Message::Checkpoint(_)
                | from_worker::Message::MarkSensitive(_)
                | from_worker::Message::Outcome(_)
                | from_worker::Message::LinesEnd(_),
            )
            | None => return Err(silent("broke the protocol")),
        }
    }
    Err(silent("ended without an answer"))
}

/// Returns when the supervisor has no worker, or is gone.
async fn failure(mut frames: Receiver<FromSupervisor>) -> Failure {
    loop {
        let frame = match frames.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return silent("ended with its supervisor"),
            Err(error) => return lost(error),
        };
        // A worker that ended has closed its own link; other words change nothing.
        if let Some(from_supervisor::Message::Refused(refused)) = frame.message {
            let (layer, message) = (refused.layer, refused.message);
            return silent(&format!("could not be started: {message} (layer {layer})"));
        }
    }
}

fn configure() -> ToSupervisor {
    let configure = Configure {
        collector: true,
        ..Configure::default()
    };
    ToSupervisor {
        message: Some(to_supervisor::Message::Configure(configure)),
    }
}

fn begin() -> ToWorker {
    let begin = Begin {
        limits: Some(limits::for_worker()),
        analysis: true,
        ..Begin::default()
    };
    ToWorker {
        message: Some(to_worker::Message::Begin(begin)),
    }
}

fn findings(facts: TemplateFacts) -> Findings {
    let parameters = facts.start.unwrap_or_default().parameters.into_iter();
    let parameters = parameters.map(|parameter| ParameterValue {
        name: parameter.name,
        value: parameter.default_value,
    });
    Findings {
        variables: facts.variables,
        workspace_tags: facts.workspace_tags,
        parameters: parameters.collect(),
    }
}

fn silent(what: &str) -> Failure {
    Failure::Unreadable(JobError::internal(
        "ANALYSIS_FAILED",
        format!("the worker of the analysis {what}"),
    ))
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn lost(error: link::Error) -> Failure {
    broken("lost its worker", &error)
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn unusable(error: io::Error) -> Failure {
    broken("has no link", &error)
}
