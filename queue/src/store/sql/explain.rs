//! The last lines of the log of a build that was lost or left something in doubt: what
//! happened, what is not known and which command leads on. Whoever follows the log reads
//! it there, because no daemon may be left to say it.

use proto::account::{self, Names};
use proto::v1::{self, ErrorClass, JobError, LogLevel, LogLine, LogSource, Phase};

use super::Tx;
use super::job_row::JobRow;
use crate::lifecycle::Reason;
use crate::store::Result;
use crate::words::Kind;

impl Tx<'_> {
    /// Says it, unless the engine's own output has said all there is.
    pub(super) fn explain(
        &mut self,
        job: &mut JobRow,
        reason: Reason,
        error: Option<&JobError>,
        unconfirmed: &[v1::UnconfirmedResource],
    ) -> Result<()> {
        let ours = error.is_some_and(|error| error.class() == ErrorClass::Internal);
        let lost = match reason {
            Reason::WorkerLost
            | Reason::Abandoned
            | Reason::AttemptsExhausted
            | Reason::QueueDeadline
            | Reason::RunDeadline => true,
            Reason::Reported | Reason::Canceled => ours,
        };
        if job.kind != Kind::WorkspaceBuild || (!lost && unconfirmed.is_empty()) {
            return Ok(());
        }
        let workspace = self.workspace_of(job)?.name;
        let id = job.id.to_string();
        let names = Names {
            workspace: &workspace,
            job: Some(&id),
        };
        let mut lines = Vec::new();
        if let Some(error) = error {
            let text = format!("{} [{}]", error.message, error.code);
            lines.push((LogLevel::Error, text));
        }
        for doubt in account::doubts(unconfirmed) {
            lines.push((LogLevel::Warn, format!("unconfirmed: {doubt}")));
        }
        for step in account::steps(names, unconfirmed) {
            lines.push((LogLevel::Info, format!("next: {step}")));
        }
        let now = self.now;
        let lines = lines.into_iter().map(|(level, text)| LogLine {
            time_ms: now,
            phase: Phase::Cleanup.into(),
            source: LogSource::System.into(),
            level: level.into(),
            text,
            ..LogLine::default()
        });
        self.append_own(job, lines)
    }
}
