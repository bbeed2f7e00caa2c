//! The steps all kinds of jobs begin with: unpack, look at the template, write what the
//! engine is to find, init.

use proto::limits::MIB;
use proto::v1::{EnvPair, FromWorker, JobError, LogLevel, Phase, Process, Transition, from_worker};

use super::backend;
use super::checkpoint::STATE_FILE;
use super::engine::{Command, Direction, OutputKind};
use super::env;
use super::files::{self, Durability};
use super::providers::{self, CLI_CONFIG, LOCK_FILE};
use super::session::{Session, Stop, blocking};
use super::vars::{self, VAR_FILE};
use crate::analyze::{self, Analysis};
use crate::archive;

/// What a template may bring of earlier runs on its author's machine: state is the
/// queue's business, and an engine must not find another one.
const LEFTOVERS: [&str; 4] = [
    STATE_FILE,
    "terraform.tfstate.backup",
    "errored.tfstate",
    ".terraform.tfstate.lock.info",
];

/// Largest dependency lock file.
const LOCK_FILE_LIMIT: u64 = 16 * MIB;

impl Session {
    /// Unpacks the archive into `work/`.
    pub(super) async fn unpack(&mut self) -> Result<(), Stop> {
        self.go_on()?;
        self.enter(Phase::Setup).await;
        self.say(LogLevel::Info, "Unpacking the template…").await;
        let (dir, limits) = (self.dir.clone(), self.limits);
        let summary = blocking(move || -> Result<archive::Summary, JobError> {
            let archive = files::open(&dir.keep(), "archive")?;
            Ok(archive::unpack(archive, &dir.work(), &limits)?)
        })
        .await??;
        for notice in summary.notices {
            self.say(LogLevel::Warn, notice).await;
        }
        for leftover in LEFTOVERS {
            files::remove(&self.dir.work().join(leftover))?;
        }
        Ok(())
    }

    /// What the template's own files say. The daemon learns what is secret of it before
    /// the first line that could quote it.
    pub(super) async fn analyze(&mut self) -> Result<Analysis, Stop> {
        self.go_on()?;
        let work = self.dir.work();
        let analysis = blocking(move || analyze::directory(&work)).await??;
        let mark = vars::sensitive(&analysis.variables, &self.job.variables);
        let message = Some(from_worker::Message::MarkSensitive(mark));
        self.daemon.send(FromWorker { message }).await;
        for warning in &analysis.warnings {
            self.say(LogLevel::Warn, warning.clone()).await;
        }
        Ok(analysis)
    }

    /// Writes override, variables, lock file and the engine's own configuration.
    pub(super) async fn furnish(&mut self, analysis: &Analysis) -> Result<(), Stop> {
        let file = vars::var_file(&analysis.variables, &self.job.variables)?;
        if !file.undeclared.is_empty() {
            let names = file.undeclared.join(", ");
            let text = format!("The template declares no variable for: {names}.");
            self.say(LogLevel::Warn, text).await;
        }
        let work = self.dir.work();
        files::write(&work.join(VAR_FILE), &file.content, Durability::Volatile)?;
        backend::write_override(&work)?;
        let config = providers::cli_config(&self.begin);
        let path = self.dir.home().join(CLI_CONFIG);
        files::write(&path, config.as_bytes(), Durability::Volatile)?;
        self.restore_lock_file()
    }

    /// The environment of a process that plans or applies in this direction, checked.
    pub(super) fn env(&self, transition: Transition) -> Result<Vec<EnvPair>, JobError> {
        let mut env = self.base_env();
        env.extend(env::coder(&self.job, transition));
        env::check(&self.job, &env)?;
        Ok(env)
    }

    /// The environment of a process that only reads.
    pub(super) fn base_env(&self) -> Vec<EnvPair> {
        let home = self.dir.home();
        env::base(&home, &self.dir.tmp(), &home.join(CLI_CONFIG))
    }

    /// Installs modules and providers and checks where the state will be.
    pub(super) async fn init(&mut self) -> Result<(), Stop> {
        self.go_on()?;
        self.enter(Phase::Init).await;
        let engine = self.engine();
        let (name, version) = (&engine.name, &engine.version);
        self.say(
            LogLevel::Info,
            format!("Preparing modules and providers with {name} {version}…"),
        )
        .await;
        let output = if knows_init_events(version) {
            OutputKind::Events
        } else {
            OutputKind::Plain
        };
        self.run(Command {
            process: Process::Init,
            env: self.base_env(),
            plan_file: "",
            direction: Direction::Make,
            output,
        })
        .await?;
        backend::check(&self.dir.work())?;
        Ok(())
    }

    /// The lock file as init left it, empty when there is none.
    pub(super) fn lock_file(&self) -> Result<Vec<u8>, JobError> {
        match files::read(&self.dir.work(), LOCK_FILE, LOCK_FILE_LIMIT) {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.is_missing() => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// The author's lock file wins over the one kept from the import.
    fn restore_lock_file(&self) -> Result<(), Stop> {
        let path = self.dir.work().join(LOCK_FILE);
        if self.job.lock_file.is_empty() || path.symlink_metadata().is_ok() {
            return Ok(());
        }
        Ok(files::write(
            &path,
            &self.job.lock_file,
            Durability::Volatile,
        )?)
    }
}

/// Terraform and `OpenTofu` print events in init since 1.9.
fn knows_init_events(version: &str) -> bool {
    let mut parts = version.trim_start_matches('v').split('.');
    let mut next = || parts.next().and_then(|part| part.parse::<u32>().ok());
    match (next(), next()) {
        (Some(major), Some(minor)) => (major, minor) >= (1, 9),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_in_init_are_asked_of_engines_that_know_them() {
        for (version, knows) in [
            ("1.8.5", false),
            ("1.9.0", true),
            ("1.11.4", true),
            ("2.0.0-beta1", true),
            ("", true),
        ] {
            assert_eq!(knows_init_events(version), knows, "{version}");
        }
    }
}
