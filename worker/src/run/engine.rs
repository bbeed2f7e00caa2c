//! One engine process, from asking the supervisor to its exit. Its output goes to the
//! log by the line cursor and to the ledger by another one; both read files, so nothing
//! here can hold the engine up.

use std::fs::File;

use proto::v1::to_supervisor_from_worker::Message as Request;
use proto::v1::{
    EnvPair, InterruptReason, JobError, MoreEnvironment, Phase, Process, StartProcess,
    ToSupervisorFromWorker, to_worker_from_supervisor,
};
use tokio::sync::{mpsc, watch};

use super::checkpoint::Checkpoints;
use super::diagnostic::Diagnostic;
use super::env;
use super::files;
use super::lines::{Output, Segment};
use super::session::{Session, Stop};
use super::vars::VAR_FILE;
use super::verdict;
use super::watch::{Record, follow};

pub(super) type Reply = to_worker_from_supervisor::Message;

/// What to run.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) process: Process,
    pub(super) env: Vec<EnvPair>,
    /// Below `work/`; empty where the process takes none.
    pub(super) plan_file: &'static str,
    pub(super) direction: Direction,
    pub(super) output: OutputKind,
}

/// Whether a plan makes or destroys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Make,
    Destroy,
}

/// What standard output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputKind {
    /// Events, one a line.
    Events,
    /// Lines for people, of engines that know no events in this place.
    Plain,
    /// One JSON document.
    Document,
}

/// How a process ended.
#[derive(Debug)]
pub(super) struct Exit {
    pub(super) number: u32,
    phase: Phase,
    pub(super) code: Option<i32>,
    pub(super) signal: Option<i32>,
    /// What its diagnostics said.
    pub(super) errors: Vec<Diagnostic>,
}

impl Exit {
    /// The engine said that all went well.
    pub(super) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// It came to its own end, so its last words and its last state are complete.
    pub(super) fn ended_by_itself(&self) -> bool {
        self.code.is_some()
    }

    /// The verdict on an exit that is no success.
    fn error(&self) -> JobError {
        match self.signal {
            Some(signal) => verdict::killed(self.phase, signal),
            None => verdict::failed(self.phase, &self.errors),
        }
    }
}

impl Session {
    /// Runs a process to its end. A failure after our token is an interruption.
    pub(super) async fn run(&mut self, command: Command) -> Result<Exit, Stop> {
        let exit = self.run_watched(command, None).await?;
        self.judge(&exit)?;
        Ok(exit)
    }

    /// Turns an exit that is no success into the reason to stop.
    pub(super) fn judge(&self, exit: &Exit) -> Result<(), Stop> {
        if exit.succeeded() {
            return Ok(());
        }
        self.go_on()?;
        Err(Stop::Failed(exit.error()))
    }

    /// Runs a process to its end, however it ends; with `checkpoints` it is an apply.
    pub(super) async fn run_watched(
        &mut self,
        command: Command,
        checkpoints: Option<&mut Checkpoints>,
    ) -> Result<Exit, Stop> {
        self.go_on()?;
        let phase = self.phase();
        let output = command.output;
        let number = self.start(command).await?;
        let (end, ended) = watch::channel(false);
        let events = self.attach(number.0, number.1, output, &ended).await?;
        let record = match checkpoints {
            Some(_) => Record::Ledger(&self.ledger),
            None => Record::Nothing,
        };
        let watching = async {
            match events {
                Some(file) => follow(file, ended.clone(), record, phase, &self.daemon).await,
                None => Vec::new(),
            }
        };
        let saving = async {
            if let Some(checkpoints) = checkpoints {
                checkpoints
                    .follow(&self.ledger, ended.clone(), &self.daemon)
                    .await;
            }
        };
        let exiting = wait_exit(&mut self.replies, &self.signals, number.0, end);
        let (exit, errors, ()) = tokio::join!(exiting, watching, saving);
        let (code, signal) = exit?;
        Ok(Exit {
            number: number.0,
            phase,
            code,
            signal,
            errors,
        })
    }

    /// The document a process printed.
    pub(super) fn document_path(&self, exit: &Exit, process: Process) -> std::path::PathBuf {
        self.dir.stdout(exit.number, process)
    }

    async fn start(&mut self, command: Command) -> Result<(u32, Process), Stop> {
        self.processes += 1;
        let number = self.processes;
        let process = command.process;
        let mut parts = env::parts(command.env);
        let last = parts.pop().unwrap_or_default();
        for env in parts {
            self.ask(Request::Environment(MoreEnvironment { env }))
                .await;
        }
        let start = StartProcess {
            number,
            process: process.into(),
            env: last,
            plan_file: command.plan_file.to_owned(),
            var_file: match process {
                Process::Plan => VAR_FILE.to_owned(),
                _ => String::new(),
            },
            destroy: command.direction == Direction::Destroy,
            plain: command.output == OutputKind::Plain,
        };
        self.ask(Request::Start(start)).await;
        self.wait_started(number).await?;
        Ok((number, process))
    }

    async fn ask(&self, request: Request) {
        let message = Some(request);
        self.supervisor
            .send(ToSupervisorFromWorker { message })
            .await;
    }

    async fn wait_started(&mut self, number: u32) -> Result<(), Stop> {
        loop {
            match self.replies.recv().await {
                Some(Reply::Started(started)) if started.number == number => return Ok(()),
                Some(Reply::Refused(refused)) if refused.number == number => {
                    self.processes -= 1;
                    self.go_on()?;
                    if refused.layer == "interrupted" {
                        return Err(Stop::Interrupted(InterruptReason::Unspecified));
                    }
                    let (layer, errno) = (refused.layer.as_str(), refused.errno);
                    return Err(verdict::not_started(layer, errno, &refused.message).into());
                }
                Some(Reply::Interrupted(interrupted)) => {
                    self.signals.interrupt(interrupted.reason());
                }
                Some(
                    Reply::Started(_) | Reply::Refused(_) | Reply::Exited(_) | Reply::GateOpen(_),
                ) => {}
                None => return Err(supervisor_lost().into()),
            }
        }
    }

    /// Hands the output to the line cursor and opens it once more for events.
    async fn attach(
        &self,
        number: u32,
        process: Process,
        kind: OutputKind,
        ended: &watch::Receiver<bool>,
    ) -> Result<Option<File>, Stop> {
        let out = self.dir.out();
        let open = |path: std::path::PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            files::open(&out, &name)
        };
        let stdout = || open(self.dir.stdout(number, process));
        let (shown, events) = match kind {
            OutputKind::Events => (Some(stdout()?), Some(stdout()?)),
            OutputKind::Plain => (Some(stdout()?), None),
            OutputKind::Document => (None, None),
        };
        let output = Output {
            phase: self.phase(),
            stdout: shown,
            stderr: open(self.dir.stderr(number, process))?,
            ended: ended.clone(),
        };
        let _ = self.lines.send(Segment::Output(output)).await;
        Ok(events)
    }
}

/// Waits for the exit of process `number`; `end` is told when it has come.
async fn wait_exit(
    replies: &mut mpsc::Receiver<Reply>,
    signals: &super::signals::Signals,
    number: u32,
    end: watch::Sender<bool>,
) -> Result<(Option<i32>, Option<i32>), JobError> {
    let result = loop {
        match replies.recv().await {
            Some(Reply::Exited(exited)) if exited.number == number => {
                break Ok((exited.code, exited.signal));
            }
            Some(Reply::Interrupted(interrupted)) => signals.interrupt(interrupted.reason()),
            Some(Reply::Started(_) | Reply::Refused(_) | Reply::Exited(_) | Reply::GateOpen(_)) => {
            }
            None => break Err(supervisor_lost()),
        }
    };
    end.send_replace(true);
    result
}

pub(super) fn supervisor_lost() -> JobError {
    JobError::internal("SUPERVISOR_LOST", "the supervisor of the job is gone")
}
