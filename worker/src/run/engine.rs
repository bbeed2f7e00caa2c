//! One engine process, from asking the supervisor to its exit. Its output goes to the
//! log by the line cursor and to the ledger by another one; both read files, so nothing
//! here can hold the engine up.

use std::fs::File;

use proto::v1::to_supervisor_from_worker::Message as Request;
use proto::v1::{
    EnvPair, InterruptReason, JobError, LineSource, LogLevel, MoreEnvironment, Phase, Process,
    StartProcess, ToSupervisorFromWorker, to_worker_from_supervisor,
};
use tokio::sync::{mpsc, watch};

use super::checkpoint::Checkpoints;
use super::diagnostic::Diagnostic;
use super::env;
use super::files;
use super::lines::{Output, Segment};
use super::marks::Marks;
use super::notices::Notice;
use super::room;
use super::session::{Session, Stop};
use super::stream::Open;
use super::vars::VAR_FILE;
use super::verdict;
use super::watch::{Record, Source, Told, Watched, follow};

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
    /// Why its output could not be followed.
    pub(super) unread: Option<String>,
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
        let mut error = match self.signal {
            Some(signal) => verdict::killed(self.phase, signal),
            None => verdict::failed(self.phase, &self.errors),
        };
        if let Some(reason) = &self.unread {
            error.message = format!("{}; its output is not complete: {reason}", error.message);
        }
        error
    }
}

/// A process that runs, and its number among the sources of the log.
struct Begun {
    number: u32,
    process: Process,
    source: u32,
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
        Err(Stop::Failed(room::blame(&self.dir.work(), exit.error())))
    }

    /// Runs a process to its end, however it ends; with `checkpoints` it is an apply.
    /// Once it was started nothing returns before its exit: what it makes would be lost.
    pub(super) async fn run_watched(
        &mut self,
        command: Command,
        checkpoints: Option<&mut Checkpoints>,
    ) -> Result<Exit, Stop> {
        self.go_on()?;
        let phase = self.phase();
        let (output, process) = (command.output, command.process);
        let number = self.start(command).await?;
        let (end, ended) = watch::channel(false);
        let marks = Marks::default();
        let attached = self.attach(&number, output, &ended, &marks);
        let record = match checkpoints {
            Some(_) => Record::Ledger(&self.ledger),
            None if process == Process::Plan => Record::Plan(&self.intended),
            None => Record::Nothing,
        };
        let told = Told {
            record,
            phase,
            daemon: &self.daemon,
            marks: &marks,
        };
        let watching = watch_output(attached, ended.clone(), self.notices.output(), told);
        let saving = async {
            if let Some(checkpoints) = checkpoints {
                checkpoints
                    .follow(
                        &self.ledger,
                        (ended.clone(), self.notices.state()),
                        &self.daemon,
                    )
                    .await;
            }
        };
        let exiting = wait_exit(&mut self.replies, &self.signals, number.number, end);
        let (exit, watched, ()) = tokio::join!(exiting, watching, saving);
        let Watched { errors, unread } = watched;
        if let Some(reason) = &unread {
            let text = format!("The engine's output could not be followed: {reason}");
            self.say(LogLevel::Error, text).await;
        }
        let (code, signal) = exit?;
        Ok(Exit {
            number: number.number,
            phase,
            code,
            signal,
            errors,
            unread,
        })
    }

    /// The document a process printed.
    pub(super) fn document_path(&self, exit: &Exit, process: Process) -> std::path::PathBuf {
        self.dir.stdout(exit.number, process)
    }

    async fn start(&mut self, command: Command) -> Result<Begun, Stop> {
        self.processes += 1;
        let number = self.processes;
        let process = command.process;
        // Noted before it can print: a crash in between must not hide its output.
        let source = self.spool.source(LineSource {
            phase: self.phase().into(),
            number,
            process: process.into(),
            stdout: command.output != OutputKind::Document,
            ..LineSource::default()
        });
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
        Ok(Begun {
            number,
            process,
            source,
        })
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
                    self.signals.interrupt_since(interrupted);
                }
                Some(
                    Reply::Started(_) | Reply::Refused(_) | Reply::Exited(_) | Reply::GateOpen(_),
                ) => {}
                None => return Err(Stop::SupervisorLost),
            }
        }
    }

    /// Hands the output to the line cursor and opens it once more for events.
    fn attach(
        &self,
        begun: &Begun,
        kind: OutputKind,
        ended: &watch::Receiver<bool>,
        marks: &Marks,
    ) -> Result<Option<File>, files::Error> {
        let out = self.spool.out();
        let open = |path: std::path::PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.into_owned();
            let file = files::open(out, &name)?;
            Ok::<_, files::Error>(Open { file, name })
        };
        let stdout = || open(self.dir.stdout(begun.number, begun.process));
        let (shown, events) = match kind {
            OutputKind::Events => (Some(stdout()?), Some(stdout()?.file)),
            OutputKind::Plain => (Some(stdout()?), None),
            OutputKind::Document => (None, None),
        };
        let output = Output {
            phase: self.phase(),
            source: begun.source,
            stdout: shown,
            stderr: open(self.dir.stderr(begun.number, begun.process))?,
            marks: events.is_some().then(|| marks.clone()),
            ended: ended.clone(),
        };
        let _ = self.lines.send(Segment::Output(output));
        Ok(events)
    }
}

/// Follows the events a process prints, where it prints any.
async fn watch_output(
    attached: Result<Option<File>, files::Error>,
    ended: watch::Receiver<bool>,
    notice: Option<Notice>,
    told: Told<'_>,
) -> Watched {
    match attached {
        Ok(Some(file)) => {
            let source = Source {
                file,
                ended,
                notice,
            };
            follow(source, told).await
        }
        Ok(None) => Watched::default(),
        Err(error) => Watched {
            errors: Vec::new(),
            unread: Some(JobError::from(error).message),
        },
    }
}

/// Waits for the exit of process `number`; `end` is told when it has come.
async fn wait_exit(
    replies: &mut mpsc::Receiver<Reply>,
    signals: &super::signals::Signals,
    number: u32,
    end: watch::Sender<bool>,
) -> Result<(Option<i32>, Option<i32>), Stop> {
    let result = loop {
        match replies.recv().await {
            Some(Reply::Exited(exited)) if exited.number == number => {
                break Ok((exited.code, exited.signal));
            }
            Some(Reply::Interrupted(interrupted)) => signals.interrupt_since(interrupted),
            Some(Reply::Started(_) | Reply::Refused(_) | Reply::Exited(_) | Reply::GateOpen(_)) => {
            }
            None => break Err(Stop::SupervisorLost),
        }
    };
    end.send_replace(true);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job_dir::JobDir;
    use crate::link;
    use crate::run::notices::Notices;
    use crate::run::session::Ends;
    use crate::run::signals::Signals;
    use crate::run::wire::Outbox;
    use proto::v1::{Begin, FromWorker, ProcessExited, ProcessStarted};

    fn outbox<M: prost::Message + Default + 'static>() -> Outbox<M> {
        let (ours, _) = tokio::net::UnixStream::pair().expect("pair");
        let (_, sender) = link::split::<M, M>(ours, 1 << 20);
        Outbox::start(sender).0
    }

    /// A session, its supervisor's side and what it says.
    fn session() -> (
        Session,
        mpsc::Sender<Reply>,
        mpsc::UnboundedReceiver<Segment>,
    ) {
        let jobs = tempfile::tempdir().expect("dir").keep();
        let dir = JobDir::create(&jobs, "job").expect("create");
        let (supervisor, replies) = mpsc::channel(4);
        let (_, gate) = mpsc::channel(1);
        let (lines, said) = mpsc::unbounded_channel();
        let ends = Ends {
            signals: Signals::new(),
            daemon: outbox::<FromWorker>(),
            supervisor: outbox::<ToSupervisorFromWorker>(),
            replies,
            gate,
            lines,
            spool: std::sync::Arc::new(crate::run::spool::Spool::none(&dir)),
            notices: Notices::default(),
        };
        (Session::new(dir, Begin::default(), ends), supervisor, said)
    }

    fn apply() -> Command {
        Command {
            process: Process::Apply,
            env: Vec::new(),
            plan_file: "",
            direction: Direction::Make,
            output: OutputKind::Events,
        }
    }

    fn started() -> Reply {
        // No output file: nobody made one.
        Reply::Started(ProcessStarted {
            number: 1,
            ..ProcessStarted::default()
        })
    }

    #[tokio::test]
    async fn an_engine_whose_output_cannot_be_opened_is_waited_for_all_the_same() {
        let (mut session, supervisor, mut said) = session();
        supervisor.send(started()).await.expect("reply");
        let exited = ProcessExited {
            number: 1,
            code: Some(1),
            ..ProcessExited::default()
        };
        supervisor.send(Reply::Exited(exited)).await.expect("reply");
        let exit = session.run_watched(apply(), None).await.expect("its exit");
        assert_eq!(exit.code, Some(1));
        assert!(exit.error().message.contains("cannot open"), "{exit:?}");
        assert!(matches!(said.try_recv(), Ok(Segment::System(..))));
    }

    #[tokio::test]
    async fn without_its_supervisor_a_worker_has_no_word_on_the_outcome() {
        let (mut session, supervisor, _said) = session();
        supervisor.send(started()).await.expect("reply");
        drop(supervisor);
        let lost = session.run_watched(apply(), None).await.map(|_| ());
        assert!(matches!(lost, Err(Stop::SupervisorLost)), "{lost:?}");
        assert!(session.outcome(lost).is_none());
        assert!(session.outcome(Ok(())).is_some());
    }
}
