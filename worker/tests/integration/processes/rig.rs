//! A job directory, a scripted engine, a real supervisor, and the daemon's part played by
//! the test, without a runtime and with a bound on every wait.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use prost::Message as _;
use proto::frame::{self, Decoder};
use proto::timings::Timings;
use proto::v1::from_supervisor::Message as FromSupervisorMessage;
use proto::v1::to_supervisor::Message as ToSupervisorMessage;
use proto::v1::to_supervisor_from_worker::Message as WorkersMessage;
use proto::v1::to_worker_from_supervisor::Message as ToWorkerMessage;
use proto::v1::{
    Configure, Deadline, EnvPair, FromSupervisor, GateOpen, Interrupt, InterruptReason, Process,
    ProcessExited, StartProcess, ToSupervisor, ToSupervisorFromWorker, ToWorkerFromSupervisor,
};
use worker::job_dir::JobDir;
use worker::launch::{self, Launch, Namespace, Supervisor};

/// No wait of these tests takes longer unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Rig {
    pub jobs: tempfile::TempDir,
    pub dir: JobDir,
    pub engine: PathBuf,
    pub process: Supervisor,
    pub supervisor: Option<UnixStream>,
    decoder: Decoder,
    pub worker: Option<UnixStream>,
}

/// How a rig's supervisor is configured unless a test says otherwise.
pub fn configure(engine: &Path) -> Configure {
    Configure {
        timings: Some((&Timings::default()).into()),
        engine_path: engine.display().to_string(),
        ..Configure::default()
    }
}

impl Rig {
    /// Launches a supervisor that is not configured yet.
    pub fn launch(script: &str) -> Self {
        Self::launch_in(script, Namespace::Best)
    }

    fn launch_in(script: &str, namespace: Namespace) -> Self {
        Self::launch_at(tempfile::tempdir().expect("tempdir"), script, namespace)
    }

    /// As `launch`, with the job's directory below `jobs`.
    pub fn launch_at(jobs: tempfile::TempDir, script: &str, namespace: Namespace) -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| launch::become_subreaper().expect("subreaper"));
        let dir = JobDir::create(jobs.path(), "job").expect("job directory");
        let engine = jobs.path().join("engine");
        fs::write(&engine, format!("#!/bin/sh\n{script}\n")).expect("engine");
        fs::set_permissions(&engine, fs::Permissions::from_mode(0o700)).expect("mode");
        let launched = launch::launch(&Launch {
            namespace,
            ..launch_of(&dir)
        });
        let launched = launched.expect("launch");
        for socket in [&launched.supervisor, &launched.worker] {
            socket.set_nonblocking(false).expect("blocking");
            socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
        }
        Self {
            jobs,
            dir,
            engine,
            process: launched.process,
            supervisor: Some(launched.supervisor),
            decoder: Decoder::new(1024 * 1024),
            worker: Some(launched.worker),
        }
    }

    /// Launches and configures; the worker is in its jail when this returns.
    pub fn new(script: &str) -> Self {
        Self::with(script, |_| {})
    }

    /// As `new`, with changes to the configuration.
    pub fn with(script: &str, change: impl FnOnce(&mut Configure)) -> Self {
        Self::with_in(script, Namespace::Best, change)
    }

    /// As `with`, with a namespace or without.
    pub fn with_in(
        script: &str,
        namespace: Namespace,
        change: impl FnOnce(&mut Configure),
    ) -> Self {
        let mut rig = Self::launch_in(script, namespace);
        let mut configure = configure(&rig.engine);
        change(&mut configure);
        rig.send(ToSupervisorMessage::Configure(configure));
        rig.expect("ready", |message| match message {
            FromSupervisorMessage::Ready(ready) => Some(ready),
            _ => None,
        });
        rig
    }

    pub fn send(&mut self, message: ToSupervisorMessage) {
        let frame = ToSupervisor {
            message: Some(message),
        };
        let mut bytes = Vec::new();
        frame::encode(&frame, &mut bytes);
        let socket = self.supervisor.as_mut().expect("link");
        socket.write_all(&bytes).expect("send");
    }

    /// The next message but heartbeats; `None` at the end.
    pub fn next(&mut self) -> Option<FromSupervisorMessage> {
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "only heartbeats{}", self.log());
            let taken = self.decoder.take::<FromSupervisor>().expect("frame");
            match taken.map(|frame| frame.message.expect("message")) {
                Some(FromSupervisorMessage::Heartbeat(_)) => continue,
                Some(message) => return Some(message),
                None => {}
            }
            let mut bytes = [0; 4096];
            match read(self.supervisor.as_mut().expect("link"), &mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.decoder.push(&bytes[..count]),
                Err(error) => panic!("the supervisor says nothing: {error}{}", self.log()),
            }
        }
    }

    /// Waits for the next heartbeat.
    pub fn heartbeat(&mut self) {
        loop {
            let taken = self.decoder.take::<FromSupervisor>().expect("frame");
            if let Some(FromSupervisorMessage::Heartbeat(_)) = taken.and_then(|frame| frame.message)
            {
                return;
            }
            let mut bytes = [0; 4096];
            let socket = self.supervisor.as_mut().expect("link");
            let count = read(socket, &mut bytes).expect("a heartbeat in time");
            assert!(count > 0, "the supervisor is gone{}", self.log());
            self.decoder.push(&bytes[..count]);
        }
    }

    /// Skips messages until `pick` takes one.
    pub fn expect<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(FromSupervisorMessage) -> Option<T>,
    ) -> T {
        let mut skipped = Vec::new();
        while let Some(message) = self.next() {
            skipped.push(format!("{message:?}"));
            if let Some(picked) = pick(message) {
                return picked;
            }
        }
        panic!("no {what} among {skipped:?}{}", self.log());
    }

    pub fn exited(&mut self) -> ProcessExited {
        self.expect("exit", |message| match message {
            FromSupervisorMessage::Exited(exited) => Some(exited),
            _ => None,
        })
    }

    /// Everything until the supervisor has ended, which must be by itself.
    pub fn drain(&mut self) -> Vec<FromSupervisorMessage> {
        let mut messages = Vec::new();
        while let Some(message) = self.next() {
            messages.push(message);
        }
        assert_eq!(
            self.ended(),
            launch::Ending::Exited(0),
            "{messages:?}{}",
            self.log()
        );
        messages
    }

    pub fn ended(&self) -> launch::Ending {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        let ended =
            runtime.block_on(async { tokio::time::timeout(PATIENCE, self.process.ended()).await });
        ended.expect("the supervisor ends").expect("wait")
    }

    /// One command to the worker, one answer.
    pub fn puppet(&mut self, command: &str) -> String {
        self.tell_puppet(command);
        let mut answer = Vec::new();
        let mut byte = [0];
        let socket = self.worker.as_mut().expect("worker");
        loop {
            assert_eq!(read(socket, &mut byte).expect("answer"), 1, "{command}");
            if byte == *b"\n" {
                return String::from_utf8(answer).expect("text");
            }
            answer.push(byte[0]);
        }
    }

    /// One command to a worker that may be dead.
    pub fn tell_puppet(&mut self, command: &str) {
        let socket = self.worker.as_mut().expect("worker");
        let _ = socket.write_all(format!("{command}\n").as_bytes());
    }

    /// The worker asks for a process; what the supervisor answers first.
    pub fn ask(&mut self, start: StartProcess) -> ToWorkerMessage {
        self.say(WorkersMessage::Start(start));
        self.hear()
    }

    /// The worker says something that has no answer.
    pub fn say(&mut self, message: WorkersMessage) {
        let frame = ToSupervisorFromWorker {
            message: Some(message),
        };
        let mut bytes = Vec::new();
        frame::encode(&frame, &mut bytes);
        assert_eq!(self.puppet(&format!("tell {}", hex(&bytes))), "ok ");
    }

    /// The next frame the worker gets.
    pub fn hear(&mut self) -> ToWorkerMessage {
        let answer = self.puppet("hear");
        let body = answer.strip_prefix("ok ").expect("a frame");
        let bytes: Vec<u8> = (0..body.len() / 2)
            .map(|index| u8::from_str_radix(&body[index * 2..index * 2 + 2], 16).expect("hex"))
            .collect();
        let frame = ToWorkerFromSupervisor::decode(bytes.as_slice()).expect("frame");
        frame.message.expect("message")
    }

    /// As `ask`, for what must start; its process id.
    pub fn start(&mut self, start: StartProcess) -> i32 {
        match self.ask(start) {
            ToWorkerMessage::Started(started) => started.pid,
            other => panic!("not started: {other:?}{}", self.log()),
        }
    }

    /// As `ask`, for what must be refused; layer and message.
    pub fn refused(&mut self, start: StartProcess) -> (String, String) {
        match self.ask(start) {
            ToWorkerMessage::Refused(refused) => (refused.layer, refused.message),
            other => panic!("not refused: {other:?}"),
        }
    }

    pub fn open_gate(&mut self, for_the_next: Duration) {
        let deadline_boottime_ns = boottime(for_the_next);
        self.send(ToSupervisorMessage::GateOpen(GateOpen {
            deadline_boottime_ns,
        }));
        let heard = self.hear();
        assert!(matches!(heard, ToWorkerMessage::GateOpen(_)), "{heard:?}");
    }

    pub fn deadline(&mut self, from_now: Duration) {
        self.send(ToSupervisorMessage::Deadline(Deadline {
            boottime_ns: boottime(from_now),
        }));
    }

    pub fn interrupt(&mut self, reason: InterruptReason, grace: Duration) {
        self.send(ToSupervisorMessage::Interrupt(Interrupt {
            reason: reason.into(),
            grace_ms: u64::try_from(grace.as_millis()).expect("small"),
        }));
    }

    pub fn stdout(&self, number: u32, process: Process) -> String {
        fs::read_to_string(self.dir.stdout(number, process)).unwrap_or_default()
    }

    pub fn worker_pid(&self) -> i32 {
        let pid = children(self.process.pid());
        let worker = pid.into_iter().find(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(b"provisionerd\0worker\0")
        });
        worker.expect("worker")
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self.dir.processes_log()).unwrap_or_default();
        format!("\nprocesses.log:\n{text}")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.process.kill();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        // A test that has waited for the end leaves nothing to wait for.
        let _ = runtime.block_on(self.process.ended());
        let swept = launch::sweep(&self.dir, PATIENCE);
        assert!(swept.is_ok() || std::thread::panicking(), "{swept:?}");
    }
}

/// A read with a timeout is never restarted after a signal, and children end all the time.
fn read(socket: &mut UnixStream, bytes: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match socket.read(bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

pub fn launch_of(dir: &JobDir) -> Launch {
    Launch {
        exe: env!("CARGO_BIN_EXE_job-processes").into(),
        job_dir: dir.clone(),
        job_id: "0195-test".to_owned(),
        namespace: Namespace::Best,
    }
}

pub fn request(number: u32, process: Process) -> StartProcess {
    let plan_file = match process {
        Process::Plan | Process::Apply => "plan",
        Process::Unspecified | Process::Version | Process::Init | Process::Show => "",
    };
    StartProcess {
        number,
        process: process.into(),
        plan_file: plan_file.to_owned(),
        ..StartProcess::default()
    }
}

pub fn pair(name: &str, value: impl Into<String>) -> EnvPair {
    EnvPair {
        name: name.to_owned(),
        value: value.into(),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits until `found` finds something.
#[expect(
    clippy::disallowed_methods,
    reason = "between two looks at a condition, with a deadline"
)]
pub fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < end, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn boottime(from_now: Duration) -> i64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).expect("clock");
    now.tv_sec() * 1_000_000_000
        + now.tv_nsec()
        + i64::try_from(from_now.as_nanos()).expect("small")
}

/// Living, not a zombie.
pub fn lives(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

pub fn children(of: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    text.split_whitespace()
        .map(|pid| pid.parse().expect("pid"))
        .collect()
}

/// A process whose id an engine wrote below `work/`, as this test's `/proc` calls it; one
/// that nobody is when it has ended.
pub fn pid_in(rig: &Rig, file: &str) -> i32 {
    const NOBODY: i32 = i32::MAX;
    let path = rig.dir.work().join(file);
    let written: i32 = until("a process id in a file", || {
        let text = fs::read_to_string(&path).ok()?;
        text.strip_suffix('\n')?.parse().ok()
    });
    let job = namespace_of(rig.process.pid());
    if job.is_none() || job == namespace_of(std::process::id().cast_signed()) {
        return written;
    }
    let entries = fs::read_dir("/proc").expect("proc").flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let found = pids.find(|pid| namespace_of(*pid) == job && inner(*pid) == Some(written));
    found.unwrap_or(NOBODY)
}

/// What a process is called by itself.
pub fn inner(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

fn namespace_of(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}
