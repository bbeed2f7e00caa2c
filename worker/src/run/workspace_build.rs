//! Workspace build: start, stop or delete. The only kind of job that changes the world,
//! and only behind the gate. However the apply ends, its state is reported.

use proto::limits::MIB;
use proto::state_file;
use proto::v1::{Extraction, JobError, LogLevel, Phase, Process, Transition};

use super::checkpoint::{Checkpoints, STATE_FILE};
use super::engine::{Command, Direction, Exit, OutputKind};
use super::files::{self, Durability};
use super::final_state::{Base, Candidates, Final};
use super::plan::PLAN_FILE;
use super::proof::{Habit, Reading};
use super::session::{Session, Stop, blocking};
use super::state_index::StateIndex;
use super::vars;
use super::watch::lock;

/// Largest state that is read once more after a failure, when time may be short.
const SHOWN: u64 = 16 * MIB;

impl Session {
    /// All steps in order.
    pub(super) async fn workspace_build(&mut self) -> Result<(), Stop> {
        let transition = self.transition();
        let base = self.read_base().await?;
        let nothing_exists = base.as_ref().is_none_or(|base| base.header.managed == 0);
        if transition == Transition::Delete && nothing_exists {
            self.enter(Phase::Setup).await;
            self.say(
                LogLevel::Info,
                "Nothing exists, so nothing has to be deleted.",
            )
            .await;
            self.product.extraction = Some(Extraction::default());
            return Ok(());
        }
        self.unpack().await?;
        let analysis = self.analyze().await?;
        vars::check_required(&analysis.variables, &self.job.variables)?;
        self.furnish(&analysis).await?;
        self.place_state(base.is_some()).await?;
        self.env(transition)?;
        self.init().await?;
        self.enter(Phase::Plan).await;
        self.say(LogLevel::Info, "Planning…").await;
        self.plan(transition).await?;
        self.open_gate().await?;
        self.enter(Phase::Apply).await;
        self.say(LogLevel::Info, doing(transition)).await;
        self.apply(transition, base.as_ref()).await
    }

    fn transition(&self) -> Transition {
        let meta = self.job.metadata.as_ref();
        meta.map_or(Transition::Start, proto::v1::WorkspaceMetadata::transition)
    }

    /// Reads the state this build starts from, `None` when the workspace has none.
    pub(super) async fn read_base(&self) -> Result<Option<Base>, Stop> {
        if !self.begin.has_state {
            return Ok(None);
        }
        let (dir, limit) = (self.dir.clone(), self.limits.state_bytes);
        let base = blocking(move || -> Result<Base, JobError> {
            let bytes = files::read(&dir.keep(), "state", limit)?;
            let header = state_file::header(&bytes).map_err(|error| {
                JobError::internal(
                    "WORKSPACE_STATE_INVALID",
                    format!("the workspace's state: {error}"),
                )
                .hint("`provisionerd state history` lists earlier states of the workspace.")
            })?;
            let digest = proto::ids::Digest::of(&bytes).as_bytes().to_vec();
            Ok(Base { header, digest })
        })
        .await??;
        Ok(Some(base))
    }

    /// Copies the state to where the engine looks for it.
    async fn place_state(&self, exists: bool) -> Result<(), Stop> {
        if !exists {
            return Ok(());
        }
        let (dir, limit) = (self.dir.clone(), self.limits.state_bytes);
        blocking(move || {
            let bytes = files::read(&dir.keep(), "state", limit)?;
            files::write(&dir.work().join(STATE_FILE), &bytes, Durability::Volatile)
        })
        .await??;
        Ok(())
    }

    async fn apply(&mut self, transition: Transition, base: Option<&Base>) -> Result<(), Stop> {
        let mut checkpoints = Checkpoints::new(
            self.dir.work(),
            self.dir.keep(),
            self.limits.state_bytes,
            self.habit(),
            base,
        );
        let command = Command {
            process: Process::Apply,
            env: self.env(transition)?,
            plan_file: PLAN_FILE,
            direction: Direction::Make,
            output: OutputKind::Events,
        };
        let exit = self.run_watched(command, Some(&mut checkpoints)).await;
        self.enter(Phase::Cleanup).await;
        // What was printed and not read may have made more than the ledger tells.
        let unread = |exit: &Exit| !exit.succeeded() && exit.unread.is_some();
        self.product.incomplete |= exit.as_ref().is_ok_and(unread);
        let found = self.collect(base, &checkpoints, exit.as_ref().ok()).await?;
        if let Some(notice) = &found.notice {
            self.say(LogLevel::Warn, notice.clone()).await;
        }
        let judged = exit.and_then(|exit| self.judge(&exit));
        if let Some(error) = &found.lost {
            self.say(LogLevel::Error, error.message.clone()).await;
        }
        if let Err(stop) = judged {
            self.show_what_exists(found.bytes).await;
            return Err(stop);
        }
        let nothing_was_made = base.is_none() && lock(&self.ledger).last_seq() == 0;
        if let Some(error) = found.unusable()
            && !(nothing_was_made && found.is_missing())
        {
            return Err(error.into());
        }
        let state = found.bytes.unwrap_or_default();
        self.product.extraction = Some(match state.is_empty() {
            true => Extraction::default(),
            false => self.extract_state(state).await?,
        });
        Ok(())
    }

    /// After a failure: what the reported state holds, for whoever looks at the job. The
    /// verdict does not hang on it.
    pub(super) async fn show_what_exists(&mut self, bytes: Option<Vec<u8>>) {
        let (keep, limit) = (self.dir.keep(), SHOWN);
        let copy = self.product.state.as_ref().map(|told| told.file.clone());
        let bytes = match (bytes, copy) {
            (Some(bytes), _) => Some(bytes),
            (None, Some(copy)) => blocking(move || files::read(&keep, &copy, limit).ok())
                .await
                .ok()
                .flatten(),
            (None, None) => None,
        };
        let Some(bytes) = bytes.filter(|bytes| bytes.len() as u64 <= SHOWN) else {
            return;
        };
        if let Ok(extraction) = self.extract_state(bytes).await {
            self.product.extraction = Some(extraction);
        }
    }

    /// Finds the final state and keeps what the outcome says of it. A state of tens of
    /// mebibytes is read, parsed and synced beside the runtime, whose heartbeats go on.
    async fn collect(
        &mut self,
        base: Option<&Base>,
        checkpoints: &Checkpoints,
        exit: Option<&Exit>,
    ) -> Result<Final, Stop> {
        let (keep, limit) = (self.dir.keep(), self.limits.state_bytes);
        let candidates = Candidates {
            work: self.dir.work(),
            keep: keep.clone(),
            limit,
            base: base.cloned(),
            newest: checkpoints.newest().cloned(),
            ledger_seq: lock(&self.ledger).last_seq(),
        };
        let doubted = !exit.is_some_and(Exit::succeeded);
        let (mut found, index) = blocking(move || {
            let found = candidates.choose();
            let doubted = doubted || found.bytes.is_none();
            let index = doubted.then(|| found.index(&keep, limit)).flatten();
            (found, index)
        })
        .await?;
        if let Some(index) = index {
            let by_itself = exit.is_some_and(Exit::ended_by_itself);
            let habit = if by_itself {
                Habit::AtItsEnd
            } else {
                self.habit()
            };
            self.doubt(&mut found, &index, habit);
        }
        self.product.incomplete |= found.lost.is_some();
        self.product.state = found.report.take();
        self.product.proved_seq = found.proved_seq;
        Ok(found)
    }

    /// Without success the state proves only what it shows: a killed engine did not get
    /// to write, one that failed may have been unable to.
    /// Of an earlier copy that takes its place, what it proved when it was made stays.
    pub(super) fn doubt(&self, found: &mut Final, index: &StateIndex, habit: Habit) {
        let (habit, known) = match found.bytes {
            Some(_) => (habit, 0),
            None => (Habit::Unknown, found.proved_seq),
        };
        let reading = Reading {
            index,
            habit,
            read_at: std::time::Instant::now(),
            written_at: found.written_at,
        };
        found.proved_seq = reading.proved_seq(&lock(&self.ledger)).max(known);
        if let Some(checkpoint) = found.report.as_mut().and_then(|it| it.checkpoint.as_mut()) {
            checkpoint.ledger_seq = found.proved_seq;
        }
    }
}

fn doing(transition: Transition) -> &'static str {
    match transition {
        Transition::Unspecified | Transition::Start => "Starting the workspace…",
        Transition::Stop => "Stopping the workspace…",
        Transition::Delete => "Deleting the workspace…",
    }
}
