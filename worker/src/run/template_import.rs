//! Template import: what the template is, and what it would make when started and when
//! stopped. Nothing in the world is changed.

use proto::v1::{LogLevel, Phase, TemplateFacts, Transition};

use super::session::{Session, Stop};
use super::vars;

impl Session {
    /// All steps in order; the facts are the product.
    pub(super) async fn template_import(&mut self) -> Result<(), Stop> {
        self.unpack().await?;
        self.say(LogLevel::Info, "Reading the template…").await;
        let analysis = self.analyze().await?;
        vars::check_required(&analysis.variables, &self.job.variables)?;
        self.furnish(&analysis).await?;
        self.init().await?;
        let lock_file = self.lock_file()?;
        self.enter(Phase::Plan).await;
        self.say(LogLevel::Info, "Planning a start…").await;
        self.plan(Transition::Start).await?;
        let start = self.extract_plan().await?;
        self.say(
            LogLevel::Info,
            "Planning a stop, to see what a stopped workspace keeps…",
        )
        .await;
        self.plan(Transition::Stop).await?;
        let stop = self.extract_plan().await?;
        self.product.facts = Some(TemplateFacts {
            variables: analysis.variables,
            workspace_tags: analysis.workspace_tags,
            readme: analysis.readme,
            start: Some(start),
            stop: Some(stop),
            lock_file,
        });
        Ok(())
    }

    /// Dry run: what a start with these parameters would make.
    pub(super) async fn dry_run(&mut self) -> Result<(), Stop> {
        self.unpack().await?;
        let analysis = self.analyze().await?;
        vars::check_required(&analysis.variables, &self.job.variables)?;
        self.furnish(&analysis).await?;
        self.init().await?;
        self.enter(Phase::Plan).await;
        self.say(LogLevel::Info, "Planning a start…").await;
        self.plan(Transition::Start).await?;
        self.product.extraction = Some(self.extract_plan().await?);
        Ok(())
    }
}
