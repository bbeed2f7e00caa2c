//! Every database is a store: which transitions write and which only read.

use proto::ids::{Digest, JobId, LeaseId, StateId};
use proto::v1;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;

use super::blobs::Packed;
use super::contact::Contact;
use super::finish::Rows;
use super::identity::{self, NoteUse};
use super::logs::Run;
use super::states::Decision;
use super::{Again, Database, Tx, expire, prune, sweep};
use crate::lease;
use crate::store::model::{
    Abandon, Acquire, Act, Attendance, AuditEntry, AuditFilter, Begun, BlobId, BuildBase,
    BuildWorkspace, CreateWorkspace, DaemonContact, DaemonName, DaemonRef, Drain, Expired, Finish,
    Finished, HandedOut, Holder, JobFilter, KeyRow, Lane, LeaseStanding, LogPage, NewBlob, NewKey,
    NewToken, Opened, Outlook, OwnerProfile, Place, PlanTemplate, PoolDepth, Pruned, PushState,
    PushTemplate, ReplicaId, Retention, SecretHash, SetLimit, Settle, StoredBlob, Submitted,
    TokenRow, Update, VersionRow, VersionSelector, WorkspaceName,
};
use crate::store::{BaseVersion, Deleted, Event, Latency, Result, Store};
use crate::words::{Cancel, Kind, Status};

/// Text that a call brings at most to share a transaction with others: all they bring lies in
/// memory at once.
const LARGE: usize = 256 << 10;

/// Whether these lines are to be stored by a transaction of their own.
fn is_large(lines: &[v1::LogLine]) -> bool {
    let texts = lines.iter().map(|line| line.text.len());
    texts.sum::<usize>() > LARGE
}

/// A transition that somebody asked for: who it was is noted with it.
async fn noted<D, T, F>(database: &D, command: F) -> Result<T>
where
    D: Database,
    T: Send + 'static,
    F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
{
    database.write(noting(database.act(), command)).await
}

fn noting<T>(
    act: Option<Arc<Act>>,
    mut command: impl FnMut(&mut Tx<'_>) -> Result<T>,
) -> impl FnMut(&mut Tx<'_>) -> Result<T> {
    move |tx| {
        tx.act.clone_from(&act);
        let answer = command(tx)?;
        tx.note_act()?;
        Ok(answer)
    }
}

impl<D: Database> Store for D {
    fn acting(&self, act: Arc<Act>) -> Self {
        Database::acting(self, act)
    }

    async fn note(&self, entries: Vec<AuditEntry>) -> Result<()> {
        self.write(move |tx| entries.iter().try_for_each(|entry| tx.note(entry)))
            .await
    }

    async fn audit(&self, filter: AuditFilter) -> Result<v1::ListAuditReply> {
        self.read(move |view| view.audit(&filter)).await
    }

    fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events().subscribe()
    }

    fn backend(&self) -> &'static str {
        D::NAME
    }

    fn now_ms(&self) -> i64 {
        Database::now_ms(self)
    }

    async fn check(&self) -> Result<()> {
        self.write_now(|_| Ok(())).await
    }

    async fn open_jobs(&self) -> Result<BTreeMap<(Status, Kind), u64>> {
        // A method's path is not general enough over lifetimes.
        #[allow(clippy::redundant_closure_for_method_calls)]
        self.read(|view| view.open_jobs()).await
    }

    async fn pool_depths(&self) -> Result<Vec<PoolDepth>> {
        #[allow(clippy::redundant_closure_for_method_calls)]
        self.read(|view| view.pool_depths()).await
    }

    fn latency(&self) -> &Latency {
        Database::latency(self)
    }

    async fn unclaimed_finishes(&self) -> Result<u64> {
        #[allow(clippy::redundant_closure_for_method_calls)]
        self.read(|view| view.unclaimed_finishes()).await
    }

    async fn unclaimed(
        &self,
        organization: String,
        before: Option<u64>,
    ) -> Result<Vec<v1::UnclaimedFinish>> {
        self.read(move |view| view.unclaimed(&organization, before))
            .await
    }

    async fn discard_unclaimed(
        &self,
        organization: String,
        id: u64,
    ) -> Result<v1::UnclaimedFinish> {
        noted(self, move |tx| tx.discard_unclaimed(&organization, id)).await
    }

    async fn unclaimed_finish(&self, organization: String, id: u64) -> Result<v1::UnclaimedFinish> {
        self.read(move |view| view.unclaimed_finish(&organization, id))
            .await
    }

    async fn closed(&self) {
        Database::closed(self).await;
    }

    async fn create_organization(&self, name: String) -> Result<v1::Organization> {
        noted(self, move |tx| tx.create_organization(&name)).await
    }

    async fn list_organizations(&self) -> Result<Vec<v1::Organization>> {
        self.glance(identity::organizations).await
    }

    async fn create_key(&self, key: NewKey) -> Result<v1::Key> {
        noted(self, move |tx| tx.create_key(&key)).await
    }

    async fn list_keys(&self, organization: String) -> Result<Vec<v1::Key>> {
        self.read(move |view| view.list_keys(&organization)).await
    }

    async fn find_key(&self, hash: SecretHash) -> Result<Option<KeyRow>> {
        match self.glance(move |view| view.find_key(hash)).await? {
            None => Ok(None),
            Some((key, NoteUse::Recent)) => Ok(Some(key)),
            Some((key, NoteUse::Due)) => {
                self.write_again(move |tx| tx.note_key_use(hash)).await?;
                Ok(Some(key))
            }
        }
    }

    async fn delete_key(&self, organization: String, name: String) -> Result<()> {
        noted(self, move |tx| tx.delete_key(&organization, &name)).await
    }

    async fn create_token(&self, token: NewToken) -> Result<v1::Token> {
        noted(self, move |tx| tx.create_token(&token)).await
    }

    async fn list_tokens(&self, organization: Option<String>) -> Result<Vec<v1::Token>> {
        self.read(move |view| view.list_tokens(organization.as_deref()))
            .await
    }

    async fn find_token(&self, hash: SecretHash) -> Result<Option<TokenRow>> {
        self.glance(move |view| view.find_token(hash)).await
    }

    async fn delete_token(&self, name: String) -> Result<()> {
        noted(self, move |tx| tx.delete_token(&name)).await
    }

    async fn put_owner(&self, organization: String, profile: OwnerProfile) -> Result<()> {
        noted(self, move |tx| tx.put_owner(&organization, &profile)).await
    }

    async fn list_owners(&self, organization: String) -> Result<Vec<OwnerProfile>> {
        self.read(move |view| view.list_owners(&organization)).await
    }

    async fn set_limit(&self, set: SetLimit) -> Result<v1::Limit> {
        noted(self, move |tx| tx.set_limit(&set)).await
    }

    async fn list_limits(&self, organization: String) -> Result<Vec<v1::Limit>> {
        self.read(move |view| view.list_limits(&organization)).await
    }

    async fn push_template(&self, push: PushTemplate) -> Result<(VersionRow, Submitted)> {
        noted(self, move |tx| {
            let (version, job) = tx.push_template(&push)?;
            Ok((version, tx.submitted(job)?))
        })
        .await
    }

    async fn list_templates(&self, organization: String) -> Result<Vec<v1::Template>> {
        self.read(move |view| view.list_templates(&organization))
            .await
    }

    async fn template(&self, organization: String, name: String) -> Result<v1::Template> {
        self.read(move |view| view.template(&organization, &name))
            .await
    }

    async fn template_versions(
        &self,
        organization: String,
        name: String,
    ) -> Result<Vec<v1::TemplateVersion>> {
        self.read(move |view| view.template_versions(&organization, &name))
            .await
    }

    async fn imported_version(
        &self,
        organization: String,
        template: String,
        version: VersionSelector,
    ) -> Result<VersionRow> {
        self.read(move |view| view.imported_version(&organization, &template, &version))
            .await
    }

    async fn promote(
        &self,
        organization: String,
        template: String,
        version: VersionSelector,
    ) -> Result<v1::Template> {
        noted(self, move |tx| {
            tx.promote(&organization, &template, &version)?;
            tx.template(&organization, &template)
        })
        .await
    }

    async fn plan_template(&self, plan: PlanTemplate) -> Result<Submitted> {
        noted(self, move |tx| {
            let job = tx.plan_template(&plan)?;
            tx.submitted(job)
        })
        .await
    }

    async fn create_workspace(&self, create: CreateWorkspace) -> Result<Submitted> {
        noted(self, move |tx| {
            let job = tx.create_workspace(&create)?;
            tx.submitted(job)
        })
        .await
    }

    async fn build_base(
        &self,
        workspace: WorkspaceName,
        version: BaseVersion,
    ) -> Result<BuildBase> {
        self.peek(move |view| view.build_base(&workspace, version))
            .await
    }

    async fn build_workspace(&self, build: BuildWorkspace) -> Result<Submitted> {
        let build = noting(self.act(), move |tx| {
            let job = tx.build_workspace(&build)?;
            tx.submitted(job)
        });
        self.write_together(Again::Harmful, build).await
    }

    async fn list_workspaces(
        &self,
        organization: String,
        owner: Option<String>,
        deleted: Deleted,
    ) -> Result<Vec<v1::Workspace>> {
        self.read(move |view| view.list_workspaces(&organization, owner.as_deref(), deleted))
            .await
    }

    async fn forget(
        &self,
        workspace: WorkspaceName,
        addresses: Vec<String>,
    ) -> Result<Vec<v1::UnconfirmedResource>> {
        noted(self, move |tx| tx.forget(&workspace, &addresses)).await
    }

    async fn settle(&self, settle: Settle) -> Result<()> {
        self.write_again(move |tx| tx.settle_shown(&settle)).await
    }

    async fn workspace(&self, workspace: WorkspaceName) -> Result<v1::Workspace> {
        self.read(move |view| view.workspace_view(&workspace)).await
    }

    async fn job(&self, organization: String, job: JobId) -> Result<v1::JobView> {
        self.read(move |view| view.job_view(&organization, job))
            .await
    }

    async fn place(&self, organization: String, job: JobId) -> Result<Option<Place>> {
        self.read(move |view| view.place(&organization, job)).await
    }

    async fn outlook(&self, organization: String) -> Result<Outlook> {
        self.read(move |view| view.outlook(&organization)).await
    }

    async fn list_jobs(&self, filter: JobFilter) -> Result<Vec<v1::JobView>> {
        self.read(move |view| view.list_jobs(&filter)).await
    }

    async fn cancel(&self, organization: String, job: JobId, kind: Cancel) -> Result<v1::JobView> {
        noted(self, move |tx| {
            tx.cancel(&organization, job, kind)?;
            tx.job_view(&organization, job)
        })
        .await
    }

    async fn retry(
        &self,
        organization: String,
        job: JobId,
        trace_context: HashMap<String, String>,
    ) -> Result<Submitted> {
        noted(self, move |tx| {
            let job = tx.retry(&organization, job, &trace_context)?;
            tx.submitted(job)
        })
        .await
    }

    async fn abandon(&self, organization: String, job: JobId, how: Abandon) -> Result<v1::JobView> {
        noted(self, move |tx| {
            tx.abandon(&organization, job, how)?;
            tx.job_view(&organization, job)
        })
        .await
    }

    async fn logs_after(
        &self,
        organization: String,
        job: JobId,
        after: u64,
        limit: u32,
    ) -> Result<LogPage> {
        self.read(move |view| {
            let job = view.job_of(&organization, job)?;
            view.logs_after(&job, after, limit)
        })
        .await
    }

    async fn ledger(&self, organization: String, job: JobId) -> Result<Vec<v1::LedgerEntry>> {
        self.read(move |view| view.newest_ledger(&view.job_of(&organization, job)?))
            .await
    }

    async fn see_daemon(&self, contact: DaemonContact) -> Result<Drain> {
        self.write_again(move |tx| tx.see_daemon(&contact, Contact::Call))
            .await
    }

    async fn open_control(&self, contact: DaemonContact, replica: ReplicaId) -> Result<Opened> {
        self.write_again(move |tx| tx.open_control(&contact, &replica))
            .await
    }

    async fn poll_control(&self, contact: DaemonContact) -> Result<Opened> {
        self.write_again(move |tx| tx.poll_control(&contact)).await
    }

    async fn control_lost(&self, daemon: DaemonRef, replica: ReplicaId) -> Result<()> {
        self.write(move |tx| tx.control_lost(&daemon, &replica))
            .await
    }

    async fn attend(&self, replica: ReplicaId) -> Result<Attendance> {
        self.write_again(move |tx| tx.attend(&replica)).await
    }

    async fn held(&self, replica: ReplicaId) -> Result<Vec<(DaemonName, String)>> {
        self.glance(move |view| view.held(&replica)).await
    }

    async fn lanes(&self) -> Result<Vec<Lane>> {
        #[allow(clippy::redundant_closure_for_method_calls)]
        self.glance(|view| view.waiting()).await
    }

    async fn credentials(&self) -> Result<Vec<SecretHash>> {
        #[allow(clippy::redundant_closure_for_method_calls)]
        self.glance(|view| view.credentials()).await
    }

    async fn list_daemons(&self, organization: String) -> Result<Vec<v1::Daemon>> {
        self.read(move |view| {
            let rows = view.daemons(&organization)?;
            Ok(rows.into_iter().map(|row| row.view).collect())
        })
        .await
    }

    async fn set_drain(
        &self,
        organization: String,
        name: String,
        drain: Drain,
    ) -> Result<v1::Daemon> {
        noted(self, move |tx| {
            tx.set_drain(&organization, &name, drain)?;
            tx.daemon(&organization, &name)
        })
        .await
    }

    async fn acquire_all(&self, asks: Vec<Acquire>) -> Result<HandedOut> {
        self.write(move |tx| tx.acquire_all(&asks)).await
    }

    async fn confirm(&self, daemon: DaemonRef, job: JobId, lease: LeaseId) -> Result<Begun> {
        self.write_together(Again::Harmless, move |tx| tx.confirm(&daemon, job, lease))
            .await
    }

    async fn withdraw(&self, job: JobId, lease: LeaseId) -> Result<()> {
        self.write_again(move |tx| tx.withdraw(job, lease)).await
    }

    async fn update(&self, update: Update) -> Result<v1::UpdateJobReply> {
        // Packed here, where nobody waits for it.
        let whole = Run::of_batch(&update.lines)?;
        let large = is_large(&update.lines);
        let update = move |tx: &mut Tx<'_>| tx.update(&update, whole.as_ref());
        match large {
            true => self.write_again(update).await,
            false => self.write_together(Again::Harmless, update).await,
        }
    }

    async fn finish(&self, mut finish: Finish) -> Result<Finished> {
        let act = self.act();
        let rows = Rows::of(&mut finish)?;
        let large = is_large(&finish.report.lines);
        let finish = move |tx: &mut Tx<'_>| {
            tx.act.clone_from(&act);
            tx.finish(&finish, &rows)
        };
        match large {
            true => self.write_again(finish).await,
            false => self.write_together(Again::Harmless, finish).await,
        }
    }

    async fn expire(&self) -> Result<Expired> {
        let store = self.clone();
        let look = move |tx: &mut Tx<'_>| {
            // Judged by the time of the very transaction that decides: whatever held it up
            // held up the updates behind it too, and is a break.
            if settle_of(&store).look(tx.now, tx.timings) {
                return expire::run(tx);
            }
            Ok(Expired::default())
        };
        let expired = self.write_now(look).await;
        expired.inspect_err(|_| settle_of(self).broken())
    }

    async fn state(
        &self,
        workspace: WorkspaceName,
        state: Option<StateId>,
    ) -> Result<v1::StateRecord> {
        self.read(move |view| view.state(&workspace, state)).await
    }

    async fn states(&self, workspace: WorkspaceName) -> Result<Vec<v1::StateRecord>> {
        self.read(move |view| view.states(&workspace)).await
    }

    async fn push_state(&self, push: PushState) -> Result<v1::StateRecord> {
        noted(self, move |tx| tx.push_state(&push)).await
    }

    async fn adopt_state(
        &self,
        workspace: WorkspaceName,
        state: StateId,
    ) -> Result<v1::StateRecord> {
        noted(self, move |tx| {
            tx.resolve_state(&workspace, state, Decision::Adopt)
        })
        .await
    }

    async fn discard_state(
        &self,
        workspace: WorkspaceName,
        state: StateId,
    ) -> Result<v1::StateRecord> {
        noted(self, move |tx| {
            tx.resolve_state(&workspace, state, Decision::Discard)
        })
        .await
    }

    async fn prune(&self, keep: Retention, replica: ReplicaId) -> Result<Pruned> {
        prune::pass(self, keep, replica).await
    }

    async fn blob(&self, digest: Digest) -> Result<Option<StoredBlob>> {
        self.read(move |view| view.blob(digest)).await
    }

    async fn insert_blob(&self, blob: NewBlob, holder: Holder) -> Result<bool> {
        let packed = Packed::of(blob)?;
        self.write_again(move |tx| tx.insert_blob(&packed, &holder))
            .await
    }

    async fn hold_blob(&self, blob: BlobId, holder: Holder) -> Result<bool> {
        let asked = holder.clone();
        let held = self.read(move |view| view.holds(blob, &asked)).await?;
        if !held {
            return Ok(false);
        }
        self.write_again(move |tx| tx.hold(blob, &holder)).await
    }

    async fn sweep_blobs(&self, age: Duration) -> Result<u64> {
        let stale = self.read(move |view| view.stale_blobs(age)).await?;
        let mut forgotten = 0;
        for batch in stale.chunks(sweep::BATCH as usize) {
            let batch = batch.to_vec();
            forgotten += self
                .write_again(move |tx| tx.forget_blobs(&batch, age))
                .await?;
        }
        while self.write_again(move |tx| tx.forget_claims(age)).await? == u64::from(sweep::BATCH) {}
        Ok(forgotten)
    }

    async fn readable_blobs(
        &self,
        daemon: DaemonRef,
        job: JobId,
        lease: LeaseId,
    ) -> Result<Vec<Digest>> {
        self.read(move |view| view.readable_blobs(&daemon, job, lease))
            .await
    }

    async fn lease_standing(
        &self,
        daemon: DaemonRef,
        job: JobId,
        lease: LeaseId,
    ) -> Result<LeaseStanding> {
        self.read(move |view| view.lease_standing(&daemon, job, lease))
            .await
    }
}

fn settle_of<D: Database>(database: &D) -> MutexGuard<'_, lease::Settle> {
    // A count of looks is right after any panic: the next look mends it.
    database
        .settle()
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}
