//! A process that a test started: its log, its end, and that it does not outlive the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::wait::wait_for;

/// How long an ended test waits for a process to go by itself.
const LEAVE: Duration = Duration::from_secs(10);

/// The binary under test.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_provisionerd"))
}

/// A command with an environment built from nothing: a HOME of the test's and a PATH.
pub fn command(home: &Path) -> Command {
    let mut command = Command::new(binary());
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("NO_COLOR", "1")
        .current_dir(home)
        .stdin(Stdio::null());
    command
}

/// A role of the product in the background.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with everything it prints in `DIR/NAME.log`.
    pub fn start(name: &str, dir: &Path, mut command: Command) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .expect("log file");
        let child = command
            .stdout(file.try_clone().expect("log file"))
            .stderr(file)
            .spawn()
            .expect("the binary starts");
        Self {
            name: name.to_owned(),
            child,
            log,
        }
    }

    /// Its id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("invariant: a pid fits"))
    }

    /// Anonymous resident memory in KiB: what it holds that no file does.
    #[track_caller]
    pub fn anonymous_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("it runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next());
        kib.expect("memory").parse().expect("a number")
    }

    /// All it has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// What stands after `prefix` in a line of its log, once there is one.
    pub fn announced(&mut self, prefix: &str, limit: Duration) -> String {
        let what = format!("{} prints \"{prefix}\"", self.name);
        wait_for(&what, limit, || {
            if let Some(status) = self.child.try_wait().expect("wait") {
                panic!("{} ended with {status}:\n{}", self.name, self.log());
            }
            let log = self.log();
            let line = log.lines().find_map(|line| line.strip_prefix(prefix));
            line.map(|rest| rest.trim().to_owned())
        })
    }

    /// Sends a signal to this process alone.
    pub fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(self.pid(), signal).expect("the process lives");
    }

    /// How it ended.
    pub fn ended(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        wait_for(&what, limit, || self.child.try_wait().expect("wait"))
    }

    /// Whether it was waited for.
    pub fn is_gone(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL, and gone.
    pub fn kill(&mut self) -> ExitStatus {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.name, self.log());
        }
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // An orderly end keeps supervisors from outliving the test's directory.
        let _gone = nix::sys::signal::kill(self.pid(), Signal::SIGINT);
        let left = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.ended(LEAVE)));
        if left.is_err() {
            self.kill();
        }
    }
}
