//! Plans and what they say: plan, show, extract.

use proto::v1::{Extraction, JobError, LogLevel, Phase, Process, Transition};

use super::engine::{Command, Direction, OutputKind};
use super::files;
use super::session::{Session, Stop, blocking};
use crate::analyze;
use crate::extract::{self, LocalHint};

/// The plan file, below `work/`.
pub(super) const PLAN_FILE: &str = ".provisionerd.tfplan";

/// Where init lists the modules it installed, below `work/`.
const MODULES: &str = ".terraform/modules/modules.json";

/// Largest list of modules.
const MODULES_LIMIT: u64 = 16 * proto::limits::MIB;

impl Session {
    /// Plans one direction into the plan file.
    pub(super) async fn plan(&mut self, transition: Transition) -> Result<(), Stop> {
        self.go_on()?;
        self.enter(Phase::Plan).await;
        let direction = match transition {
            Transition::Delete => Direction::Destroy,
            Transition::Unspecified | Transition::Start | Transition::Stop => Direction::Make,
        };
        let env = self.env(transition)?;
        self.run(Command {
            process: Process::Plan,
            env,
            plan_file: PLAN_FILE,
            direction,
            output: OutputKind::Events,
        })
        .await?;
        Ok(())
    }

    /// What the plan file says in Coder's terms.
    pub(super) async fn extract_plan(&mut self) -> Result<Extraction, Stop> {
        let env = self.base_env();
        let exit = self
            .run(Command {
                process: Process::Show,
                env,
                plan_file: PLAN_FILE,
                direction: Direction::Make,
                output: OutputKind::Document,
            })
            .await?;
        let path = self.document_path(&exit, Process::Show);
        let (dir, limit) = (self.dir.clone(), self.limits.plan_json_bytes);
        let locals = self.locals().await?;
        let extraction = blocking(move || -> Result<Extraction, JobError> {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let plan = files::read(&dir.out(), &name, limit)?;
            let extraction = extract::from_plan(&plan, &locals)?;
            // A plan of hundreds of mebibytes must not fill the disk for the rest of the
            // job; where it cannot be emptied it just stays.
            let _ = files::empty(&path);
            with_modules(extraction, &dir.work())
        })
        .await??;
        self.warn_of(&extraction).await;
        Ok(extraction)
    }

    /// What a raw state says in Coder's terms.
    pub(super) async fn extract_state(&mut self, state: Vec<u8>) -> Result<Extraction, Stop> {
        let locals = self.locals().await?;
        let work = self.dir.work();
        let extraction = blocking(move || -> Result<Extraction, JobError> {
            let extraction = extract::from_state(&state, None, &locals)?;
            with_modules(extraction, &work)
        })
        .await??;
        self.warn_of(&extraction).await;
        Ok(extraction)
    }

    /// Locals of the root module and, now that init ran, of the modules it calls.
    async fn locals(&self) -> Result<Vec<LocalHint>, Stop> {
        let work = self.dir.work();
        Ok(blocking(move || analyze::directory(&work)).await??.locals)
    }

    async fn warn_of(&self, extraction: &Extraction) {
        for warning in &extraction.warnings {
            self.say(LogLevel::Warn, warning.clone()).await;
        }
    }
}

fn with_modules(
    mut extraction: Extraction,
    work: &std::path::Path,
) -> Result<Extraction, JobError> {
    match files::read(work, MODULES, MODULES_LIMIT) {
        Ok(json) => extraction.modules = extract::modules(&json)?,
        Err(error) if error.is_missing() => {}
        Err(error) => return Err(error.into()),
    }
    Ok(extraction)
}
