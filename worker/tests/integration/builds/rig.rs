//! A job through the real supervisor, worker, jail and engine. The test plays the daemon:
//! it hands over a template, answers the gate, grants credit and takes what comes back.

use std::fs;
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use proto::ids::Digest;
use proto::limits::WORKER_FRAME;
use proto::timings::Timings;
use proto::v1::to_supervisor::Message as Order;
use proto::v1::{
    AskGate, Begin, BlobRef, CancelWork, Configure, Credit, End, EngineFacts, FromSupervisor,
    FromWorker, GateAnswer, GateOpen, Interrupt, InterruptReason, Job, JobKind, LedgerEntry,
    LocalCheckpoint, LogLine, MarkSensitive, Outcome, OutcomeStored, ToSupervisor, ToWorker,
    Transition, WorkOutcome, WorkspaceMetadata, from_supervisor, from_worker, to_worker,
};
use tokio::net::UnixStream;
use worker::job_dir::JobDir;
use worker::launch::{self, Launch, Supervisor};
use worker::link;

/// No wait of these tests takes longer unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A job before it is begun.
pub struct Plan {
    pub job: Job,
    pub engine: Engine,
    pub mirror: Option<String>,
    pub files: Vec<(String, Vec<u8>)>,
    pub state: Option<Vec<u8>>,
    /// Over which the engine is interrupted; 0: any.
    pub memory_limit: u64,
    /// A FIFO in the job's home, made before the worker begins.
    pub pipe: Option<&'static str>,
    /// Where the job's directory is made, instead of a place of its own.
    pub place: Option<PathBuf>,
}

impl Plan {
    /// A workspace build of one `main.tf`.
    pub fn build(transition: Transition, template: &str) -> Self {
        let metadata = WorkspaceMetadata {
            transition: transition.into(),
            access_url: "http://127.0.0.1:1".to_owned(),
            workspace_name: "w".to_owned(),
            ..WorkspaceMetadata::default()
        };
        Self {
            engine: Engine::any(),
            mirror: None,
            job: Job {
                kind: JobKind::WorkspaceBuild.into(),
                metadata: Some(metadata),
                ..Job::default()
            },
            files: vec![("main.tf".to_owned(), template.as_bytes().to_vec())],
            state: None,
            memory_limit: 0,
            pipe: None,
            place: None,
        }
    }

    pub fn kind(mut self, kind: JobKind) -> Self {
        self.job.kind = kind.into();
        self
    }

    pub fn file(mut self, name: &str, content: &str) -> Self {
        self.files
            .push((name.to_owned(), content.as_bytes().to_vec()));
        self
    }

    pub fn state(mut self, state: Vec<u8>) -> Self {
        self.state = Some(state);
        self
    }
}

/// The engine of a job.
#[derive(Clone)]
pub struct Engine {
    pub path: PathBuf,
    facts: EngineFacts,
}

impl Engine {
    /// The one that runs where a test does not care, Terraform first.
    ///
    /// # Panics
    /// When there is none: then no build can be tested.
    pub fn any() -> Self {
        let any = Self::terraform().or_else(Self::tofu);
        any.expect("no engine: put terraform or tofu on PATH or run testdata/tools")
    }

    /// Terraform: the one that the tests' environment names, else as found on PATH.
    pub fn terraform() -> Option<Self> {
        let path = found("PROVISIONERD_TEST_TERRAFORM", "terraform")?;
        Some(Self::at(path, "terraform", "1.11.4"))
    }

    /// `OpenTofu`, found likewise.
    pub fn tofu() -> Option<Self> {
        let path = found("PROVISIONERD_TEST_TOFU", "tofu")?;
        Some(Self::at(path, "tofu", "1.12.6"))
    }

    fn at(path: PathBuf, name: &str, version: &str) -> Self {
        let facts = EngineFacts {
            name: name.to_owned(),
            version: version.to_owned(),
        };
        Self { path, facts }
    }
}

fn found(variable: &str, name: &str) -> Option<PathBuf> {
    let given = std::env::var_os(variable).filter(|path| !path.is_empty());
    given.map(PathBuf::from).or_else(|| which::which(name).ok())
}

/// The mirror with the real `coder` provider, where the tests' environment names one.
pub fn mirror() -> Option<String> {
    std::env::var("PROVISIONERD_TEST_MIRROR")
        .ok()
        .filter(|path| !path.is_empty())
}

/// A job that runs.
pub struct Rig {
    pub dir: JobDir,
    _jobs: tempfile::TempDir,
    process: Supervisor,
    to_supervisor: link::Sender<ToSupervisor>,
    from_supervisor: link::Receiver<FromSupervisor>,
    to_worker: link::Sender<ToWorker>,
    from_worker: link::Receiver<FromWorker>,
    pub seen: Seen,
    /// Whether lines are stored at once.
    pub crediting: bool,
}

/// What the worker told.
#[derive(Debug, Default)]
pub struct Seen {
    pub lines: Vec<LogLine>,
    pub ledger: Vec<LedgerEntry>,
    pub checkpoints: Vec<LocalCheckpoint>,
    pub marks: Vec<MarkSensitive>,
    pub gates: usize,
    /// With what the gate was asked for.
    pub asked: Vec<AskGate>,
    pub heartbeats: usize,
    /// How many lines there were in all, once that is told.
    pub lines_end: Option<u64>,
}

impl Seen {
    /// All text, a line each.
    pub fn text(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(|line| line.text.as_str()).collect();
        lines.join("\n")
    }
}

/// The end of a job.
pub struct Done {
    pub outcome: WorkOutcome,
    pub seen: Seen,
    /// The reported state.
    pub state: Option<Vec<u8>>,
}

impl Done {
    pub fn assert_succeeded(&self) {
        let succeeded = self.outcome.outcome() == Outcome::Succeeded;
        assert!(succeeded, "{:?}\n{}", self.outcome.error, self.seen.text());
    }

    pub fn code(&self) -> &str {
        self.outcome.error.as_ref().map_or("", |error| &error.code)
    }

    pub fn message(&self) -> &str {
        self.outcome
            .error
            .as_ref()
            .map_or("", |error| &error.message)
    }

    pub fn state(&self) -> serde_json::Value {
        let state = self.state.as_deref().expect("a state");
        serde_json::from_slice(state).expect("state")
    }
}

/// Runs a job from begin to end.
pub async fn run(plan: Plan) -> Done {
    Rig::begin(plan).await.finish().await
}

impl Rig {
    pub async fn begin(plan: Plan) -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| launch::become_subreaper().expect("subreaper"));
        let jobs = tempfile::tempdir().expect("jobs");
        let place = plan.place.as_deref().unwrap_or(jobs.path());
        let dir = JobDir::create(place, "build").expect("job directory");
        fs::write(dir.archive(), archive(&plan.files)).expect("archive");
        if let Some(name) = plan.pipe {
            let mode = nix::sys::stat::Mode::S_IRWXU;
            nix::unistd::mkfifo(&dir.home().join(name), mode).expect("pipe");
        }
        let mut job = plan.job;
        if let Some(state) = &plan.state {
            fs::write(dir.state(), state).expect("state");
            job.state = Some(BlobRef {
                sha256: Digest::of(state).as_bytes().to_vec(),
                size: state.len() as u64,
            });
        }
        let launched = launch::launch(&Launch {
            exe: env!("CARGO_BIN_EXE_job-processes").into(),
            job_dir: dir.clone(),
            job_id: "build".to_owned(),
            namespace: launch::Namespace::Best,
        })
        .expect("launch");
        let stream = |socket| UnixStream::from_std(socket).expect("socket");
        let (from_supervisor, to_supervisor) = link::split(stream(launched.supervisor), 1 << 20);
        let (from_worker, to_worker) = link::split(stream(launched.worker), WORKER_FRAME);
        let mut rig = Self {
            dir,
            _jobs: jobs,
            process: launched.process,
            to_supervisor,
            from_supervisor,
            to_worker,
            from_worker,
            seen: Seen::default(),
            crediting: true,
        };
        let mirrors: Vec<String> = plan.mirror.into_iter().collect();
        rig.configure(plan.engine.path.clone(), &mirrors, plan.memory_limit)
            .await;
        rig.hand_over(job, plan.state.is_some(), plan.engine, mirrors)
            .await;
        rig
    }

    async fn configure(&mut self, engine: PathBuf, mirrors: &[String], memory_limit: u64) {
        self.order(Order::Configure(Configure {
            timings: Some((&Timings::default()).into()),
            engine_path: engine.display().to_string(),
            read_paths: mirrors.to_vec(),
            nofile: 4096,
            memory_limit_bytes: memory_limit,
            ..Configure::default()
        }))
        .await;
    }

    async fn hand_over(&mut self, job: Job, has_state: bool, engine: Engine, mirrors: Vec<String>) {
        let timings = Some((&Timings::default()).into());
        self.tell(to_worker::Message::Begin(Begin {
            job: Some(job),
            timings,
            engine: Some(engine.facts),
            provider_mirrors: mirrors,
            limits: Some(proto::limits::for_worker()),
            has_state,
            ..Begin::default()
        }))
        .await;
    }

    pub async fn order(&mut self, message: Order) {
        let message = Some(message);
        self.to_supervisor
            .send(&ToSupervisor { message })
            .await
            .expect("order");
    }

    pub async fn tell(&mut self, message: to_worker::Message) {
        let message = Some(message);
        self.to_worker
            .send(&ToWorker { message })
            .await
            .expect("tell");
    }

    /// As a user's cancel reaches both.
    pub async fn cancel(&mut self) {
        let reason = InterruptReason::Cancel.into();
        self.order(Order::Interrupt(Interrupt {
            reason,
            grace_ms: 0,
        }))
        .await;
        self.tell(to_worker::Message::Cancel(CancelWork { reason }))
            .await;
    }

    /// Takes messages until `found`, or the outcome, which ends the wait too.
    pub async fn until(&mut self, mut found: impl FnMut(&Seen) -> bool) -> Option<WorkOutcome> {
        while !found(&self.seen) {
            let frame = tokio::time::timeout(PATIENCE, self.from_worker.next()).await;
            let Ok(frame) = frame else {
                panic!(
                    "the worker says nothing; so far: {}\n{}",
                    self.seen.text(),
                    self.log()
                );
            };
            match frame.expect("frame") {
                Some(frame) => {
                    if let Some(outcome) = self.take(frame).await {
                        return Some(outcome);
                    }
                }
                None => panic!(
                    "the worker is gone; so far: {}\n{}",
                    self.seen.text(),
                    self.log()
                ),
            }
        }
        None
    }

    async fn take(&mut self, frame: FromWorker) -> Option<WorkOutcome> {
        match frame.message.expect("message") {
            from_worker::Message::Heartbeat(_) => self.seen.heartbeats += 1,
            from_worker::Message::MarkSensitive(mark) => self.seen.marks.push(mark),
            from_worker::Message::Batch(batch) => {
                self.seen.lines.extend(batch.lines);
                self.seen.ledger.extend(batch.ledger);
                if self.crediting {
                    self.credit().await;
                }
            }
            from_worker::Message::AskGate(asked) => {
                self.seen.asked.push(asked);
                self.seen.gates += 1;
                let deadline = deadline(PATIENCE);
                self.order(Order::GateOpen(GateOpen {
                    deadline_boottime_ns: deadline,
                }))
                .await;
                self.tell(to_worker::Message::Gate(GateAnswer { open: true }))
                    .await;
            }
            from_worker::Message::Checkpoint(checkpoint) => self.seen.checkpoints.push(checkpoint),
            from_worker::Message::Outcome(outcome) => return Some(outcome),
            from_worker::Message::LinesEnd(end) => self.seen.lines_end = Some(end.last_seq),
            from_worker::Message::Analysis(_) => panic!("a job is no analysis"),
        }
        None
    }

    pub async fn credit(&mut self) {
        let line_seq = self.seen.lines.last().map_or(0, |line| line.seq);
        let credit = Credit {
            line_seq,
            ledger_seq: 0,
        };
        self.tell(to_worker::Message::Credit(credit)).await;
    }

    /// Takes everything to the outcome and lets all processes end.
    pub async fn finish(mut self) -> Done {
        let outcome = self.until(|_| false).await.expect("an outcome");
        self.finish_after(outcome).await
    }

    /// Takes the rest of the lines and lets all processes end.
    pub async fn finish_after(mut self, outcome: WorkOutcome) -> Done {
        self.until(|seen| seen.lines_end.is_some()).await;
        let state = outcome
            .state
            .as_ref()
            .map(|state| fs::read(self.dir.keep().join(&state.file)).expect("the reported state"));
        self.tell(to_worker::Message::Stored(OutcomeStored {}))
            .await;
        // A supervisor whose worker has ended already may be gone.
        let message = Some(Order::End(End {}));
        let _ = self.to_supervisor.send(&ToSupervisor { message }).await;
        self.ended().await;
        Done {
            outcome,
            seen: self.seen,
            state,
        }
    }

    async fn ended(&mut self) {
        let end = async {
            while let Ok(Some(frame)) = self.from_supervisor.next().await {
                if let Some(from_supervisor::Message::Ended(_)) = frame.message {
                    break;
                }
            }
            self.process.ended().await.expect("ended")
        };
        tokio::time::timeout(PATIENCE, end)
            .await
            .expect("the supervisor ends");
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.processes_log()).unwrap_or_default()
    }
}

/// On the clock of leases, this far from now.
fn deadline(from_now: Duration) -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanos = i64::try_from(from_now.as_nanos()).expect("small");
    now.tv_sec * 1_000_000_000 + now.tv_nsec + nanos
}

/// A plain tar of these files.
fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        // As it is, also where the library would refuse it.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, content.as_slice()).expect("entry");
    }
    builder.into_inner().expect("tar")
}
