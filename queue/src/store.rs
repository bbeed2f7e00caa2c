//! The queue's memory: a trait of *whole transitions*, each one transaction.
//!
//! A method either happens entirely and durably or not at all; it answers, and its
//! [`Event`]s go out, only after COMMIT. No caller holds a transaction, and no method
//! waits for anything but the database. Time is the store's own clock ([`clock`]).
//! Every mutating method of the fleet is idempotent under (job, attempt).
//!
//! [`sqlite`] is the embedded database, [`postgres`] the one that replicas share; the
//! transitions themselves ([`sql`]) are written once. The conformance suite runs on both.

pub mod clock;
#[cfg(test)]
pub(crate) mod conformance;
mod error;
mod event;
mod latency;
pub mod model;
pub mod postgres;
pub mod schema;
mod secrets;
pub mod sql;
pub mod sqlite;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use proto::ids::{Digest, JobId, LeaseId, StateId};
use proto::v1;
use tokio::sync::broadcast;

use crate::words::{Cancel, Kind, Status};
pub use error::Error;
pub use event::Event;
pub use latency::Latency;
use model::{
    Abandon, Acquire, Acquired, Act, Attendance, AuditEntry, AuditFilter, Begun, BlobId, BuildBase,
    BuildWorkspace, CreateWorkspace, DaemonContact, DaemonName, DaemonRef, Drain, Expired, Finish,
    Finished, HandedOut, Holder, JobFilter, KeyRow, Lane, LeaseStanding, LogPage, NewBlob, NewKey,
    NewToken, Opened, Outlook, OwnerProfile, Place, PlanTemplate, PoolDepth, Pruned, PushState,
    PushTemplate, ReplicaId, Retention, SecretHash, SetLimit, Settle, StoredBlob, Submitted,
    TokenRow, Update, VersionRow, VersionSelector, WorkspaceName,
};

/// Result of a transition.
pub type Result<T> = std::result::Result<T, Error>;

/// See the module. Implementations are cheap to clone handles.
pub trait Store: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// The same store, for what somebody is about to do: a change made through it is noted
    /// in the audit log by the same transaction, or does not happen.
    #[must_use]
    fn acting(&self, act: Arc<Act>) -> Self;

    /// Notes lines of the audit log that belong to no change.
    fn note(&self, entries: Vec<AuditEntry>) -> impl Future<Output = Result<()>> + Send;

    /// A page of the audit log, newest first.
    fn audit(&self, filter: AuditFilter)
    -> impl Future<Output = Result<v1::ListAuditReply>> + Send;

    /// What changes from now on; see [`Event`] for what a lagging listener does.
    fn subscribe(&self) -> broadcast::Receiver<Event>;

    /// Name of the backend, as `GetInfo` shows it.
    fn backend(&self) -> &'static str;

    /// The store's clock, in Unix milliseconds.
    fn now_ms(&self) -> i64;

    /// Whether a transaction goes through.
    fn check(&self) -> impl Future<Output = Result<()>> + Send;

    /// How many jobs have not ended, by status and kind, over all organizations.
    fn open_jobs(&self) -> impl Future<Output = Result<BTreeMap<(Status, Kind), u64>>> + Send;

    /// The same by the tags that jobs ask for.
    fn pool_depths(&self) -> impl Future<Output = Result<Vec<PoolDepth>>> + Send;

    /// How long its transactions have taken in this process.
    fn latency(&self) -> &Latency;

    /// How many finishes are kept that belong to no known job or lease.
    fn unclaimed_finishes(&self) -> impl Future<Output = Result<u64>> + Send;

    /// Those finishes of an organization, and late ones whose workspace was deleted before
    /// their state came: the newest that fit in a page, of those with a lower id where one
    /// is given; oldest first.
    fn unclaimed(
        &self,
        organization: String,
        before: Option<u64>,
    ) -> impl Future<Output = Result<Vec<v1::UnclaimedFinish>>> + Send;

    /// One of them.
    fn unclaimed_finish(
        &self,
        organization: String,
        id: u64,
    ) -> impl Future<Output = Result<v1::UnclaimedFinish>> + Send;

    /// Forgets one that belongs to no known job or lease; its state goes with the sweep.
    fn discard_unclaimed(
        &self,
        organization: String,
        id: u64,
    ) -> impl Future<Output = Result<v1::UnclaimedFinish>> + Send;

    /// Returns once the store can do nothing any more, which it never does by itself
    /// unless it broke. Cancel safe.
    fn closed(&self) -> impl Future<Output = ()> + Send;

    // ------------------------------------------------ organizations, keys, tokens

    /// Makes an organization.
    fn create_organization(
        &self,
        name: String,
    ) -> impl Future<Output = Result<v1::Organization>> + Send;

    /// All organizations, by name; `default` is always there.
    fn list_organizations(&self) -> impl Future<Output = Result<Vec<v1::Organization>>> + Send;

    /// Makes a provisioner key.
    fn create_key(&self, key: NewKey) -> impl Future<Output = Result<v1::Key>> + Send;

    /// Keys of an organization, by name.
    fn list_keys(&self, organization: String) -> impl Future<Output = Result<Vec<v1::Key>>> + Send;

    /// The key with this hash, if it was not deleted; notes its use.
    fn find_key(&self, hash: SecretHash) -> impl Future<Output = Result<Option<KeyRow>>> + Send;

    /// Deletes a key; its daemons may claim nothing more.
    fn delete_key(
        &self,
        organization: String,
        name: String,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Makes a client token.
    fn create_token(&self, token: NewToken) -> impl Future<Output = Result<v1::Token>> + Send;

    /// All client tokens, by name; with an organization, those that may name it alone.
    fn list_tokens(
        &self,
        organization: Option<String>,
    ) -> impl Future<Output = Result<Vec<v1::Token>>> + Send;

    /// The token with this hash, if it was not deleted.
    fn find_token(&self, hash: SecretHash)
    -> impl Future<Output = Result<Option<TokenRow>>> + Send;

    /// Deletes a client token.
    fn delete_token(&self, name: String) -> impl Future<Output = Result<()>> + Send;

    /// Sets what templates may know of an owner, who is made known when new.
    fn put_owner(
        &self,
        organization: String,
        profile: OwnerProfile,
    ) -> impl Future<Output = Result<()>> + Send;

    /// All owners of an organization, by name.
    fn list_owners(
        &self,
        organization: String,
    ) -> impl Future<Output = Result<Vec<OwnerProfile>>> + Send;

    /// Sets or lifts a concurrency limit; what stands then.
    fn set_limit(&self, set: SetLimit) -> impl Future<Output = Result<v1::Limit>> + Send;

    /// All limits of an organization, with how many jobs count against each.
    fn list_limits(
        &self,
        organization: String,
    ) -> impl Future<Output = Result<Vec<v1::Limit>>> + Send;

    // ------------------------------------------------ templates

    /// Makes a version and its import job.
    fn push_template(
        &self,
        push: PushTemplate,
    ) -> impl Future<Output = Result<(VersionRow, Submitted)>> + Send;

    /// Templates of an organization, by name.
    fn list_templates(
        &self,
        organization: String,
    ) -> impl Future<Output = Result<Vec<v1::Template>>> + Send;

    /// One template.
    fn template(
        &self,
        organization: String,
        name: String,
    ) -> impl Future<Output = Result<v1::Template>> + Send;

    /// Versions of a template, newest first.
    fn template_versions(
        &self,
        organization: String,
        name: String,
    ) -> impl Future<Output = Result<Vec<v1::TemplateVersion>>> + Send;

    /// One version with its secrets, as a submit needs it; it must be imported.
    fn imported_version(
        &self,
        organization: String,
        template: String,
        version: VersionSelector,
    ) -> impl Future<Output = Result<VersionRow>> + Send;

    /// Makes an imported version the active one.
    fn promote(
        &self,
        organization: String,
        template: String,
        version: VersionSelector,
    ) -> impl Future<Output = Result<v1::Template>> + Send;

    /// Submits a dry run.
    fn plan_template(&self, plan: PlanTemplate) -> impl Future<Output = Result<Submitted>> + Send;

    // ------------------------------------------------ workspaces

    /// Makes a workspace and submits its first build.
    fn create_workspace(
        &self,
        create: CreateWorkspace,
    ) -> impl Future<Output = Result<Submitted>> + Send;

    /// What the next build starts from; `update` on the active version instead of the
    /// workspace's own.
    fn build_base(
        &self,
        workspace: WorkspaceName,
        version: BaseVersion,
    ) -> impl Future<Output = Result<BuildBase>> + Send;

    /// Submits the next build.
    fn build_workspace(
        &self,
        build: BuildWorkspace,
    ) -> impl Future<Output = Result<Submitted>> + Send;

    /// Workspaces of an organization, by owner and name; with an owner, only theirs.
    fn list_workspaces(
        &self,
        organization: String,
        owner: Option<String>,
        deleted: Deleted,
    ) -> impl Future<Output = Result<Vec<v1::Workspace>>> + Send;

    /// One workspace: the living one of that name, else the last deleted one.
    fn workspace(
        &self,
        workspace: WorkspaceName,
    ) -> impl Future<Output = Result<v1::Workspace>> + Send;

    /// Drops unconfirmed resources of these addresses knowingly; what was dropped. One
    /// that is not in doubt refuses all.
    fn forget(
        &self,
        workspace: WorkspaceName,
        addresses: Vec<String>,
    ) -> impl Future<Output = Result<Vec<v1::UnconfirmedResource>>> + Send;

    /// Drops unconfirmed resources that the current state shows.
    fn settle(&self, settle: Settle) -> impl Future<Output = Result<()>> + Send;

    // ------------------------------------------------ jobs, as clients see them

    /// One job, without what is foreseen of it.
    fn job(
        &self,
        organization: String,
        job: JobId,
    ) -> impl Future<Output = Result<v1::JobView>> + Send;

    /// Where a job stands in line; `None` unless it is pending.
    fn place(
        &self,
        organization: String,
        job: JobId,
    ) -> impl Future<Output = Result<Option<Place>>> + Send;

    /// What a forecast of an organization's pending jobs is made of. It costs as much as
    /// there are pending jobs: whoever asks often keeps it for a while.
    fn outlook(&self, organization: String) -> impl Future<Output = Result<Outlook>> + Send;

    /// Jobs, newest first.
    fn list_jobs(&self, filter: JobFilter)
    -> impl Future<Output = Result<Vec<v1::JobView>>> + Send;

    /// Asks for a cancel. A pending job ends at once; one that has ended refuses.
    fn cancel(
        &self,
        organization: String,
        job: JobId,
        kind: Cancel,
    ) -> impl Future<Output = Result<v1::JobView>> + Send;

    /// Submits an ended job again, as a new one, in the trace of this context; succeeded
    /// ones refuse.
    fn retry(
        &self,
        organization: String,
        job: JobId,
        trace_context: HashMap<String, String>,
    ) -> impl Future<Output = Result<Submitted>> + Send;

    /// Gives a running job its verdict at once, on the operator's word.
    fn abandon(
        &self,
        organization: String,
        job: JobId,
        how: Abandon,
    ) -> impl Future<Output = Result<v1::JobView>> + Send;

    /// Lines after public sequence `after`: at most `limit`, and at most a few MiB.
    fn logs_after(
        &self,
        organization: String,
        job: JobId,
        after: u64,
        limit: u32,
    ) -> impl Future<Output = Result<LogPage>> + Send;

    /// The ledger of the newest attempt that has one.
    fn ledger(
        &self,
        organization: String,
        job: JobId,
    ) -> impl Future<Output = Result<Vec<v1::LedgerEntry>>> + Send;

    // ------------------------------------------------ the fleet

    /// Notes a daemon's contact, and answers whether it drains. A second living instance
    /// of a name is refused.
    fn see_daemon(&self, contact: DaemonContact) -> impl Future<Output = Result<Drain>> + Send;

    /// The same, and from here on the daemon lives as long as this replica holds its
    /// control stream and attends; also answers which cancels its jobs carry.
    fn open_control(
        &self,
        contact: DaemonContact,
        replica: ReplicaId,
    ) -> impl Future<Output = Result<Opened>> + Send;

    /// The same for a daemon that calls by short calls alone: no replica holds it from here
    /// on, and it lives as long as it calls.
    fn poll_control(&self, contact: DaemonContact) -> impl Future<Output = Result<Opened>> + Send;

    /// Notes that a daemon's last control stream at this replica ended: unless another
    /// one holds a newer, or it has gone over to short calls, the control grace begins, and
    /// any contact of that instance ends it.
    fn control_lost(
        &self,
        daemon: DaemonRef,
        replica: ReplicaId,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Notes that this replica lives, and with it all daemons whose newest control stream
    /// it holds; answers what they may not have been told.
    fn attend(&self, replica: ReplicaId) -> impl Future<Output = Result<Attendance>> + Send;

    /// All daemons that this replica is noted to hold, with their instance.
    fn held(
        &self,
        replica: ReplicaId,
    ) -> impl Future<Output = Result<Vec<(DaemonName, String)>>> + Send;

    /// Who could take something now: one pending job of each kind of lane.
    fn lanes(&self) -> impl Future<Output = Result<Vec<Lane>>> + Send;

    /// Hashes of all keys and tokens that exist.
    fn credentials(&self) -> impl Future<Output = Result<Vec<SecretHash>>> + Send;

    /// Daemons of an organization, by name.
    fn list_daemons(
        &self,
        organization: String,
    ) -> impl Future<Output = Result<Vec<v1::Daemon>>> + Send;

    /// Sets whether a daemon takes new jobs. A new instance starts with `Drain::Off`.
    fn set_drain(
        &self,
        organization: String,
        name: String,
        drain: Drain,
    ) -> impl Future<Output = Result<v1::Daemon>> + Send;

    /// Hands out the best job this daemon may take; it must be confirmed. The job's
    /// `metadata.access_url` is left to the caller. A daemon on short calls is first given
    /// again what it was offered and has not confirmed: its answer was lost.
    fn acquire(&self, acquire: Acquire) -> impl Future<Output = Result<Acquired>> + Send {
        async move {
            let answer = self.acquire_all(vec![acquire]).await?.pop();
            // The first one is always looked at.
            answer.flatten().unwrap_or(Ok(Acquired::Nothing))
        }
    }

    /// The same for several daemons in one transaction: each gets what it would get if it
    /// asked alone behind the one before. The answers are in their order.
    ///
    /// # Errors
    /// The store's; what is the matter with one daemon is its own answer.
    fn acquire_all(&self, asks: Vec<Acquire>) -> impl Future<Output = Result<HandedOut>> + Send;

    /// The daemon has the job; the lease runs from here. Repeating it is harmless.
    fn confirm(
        &self,
        daemon: DaemonRef,
        job: JobId,
        lease: LeaseId,
    ) -> impl Future<Output = Result<Begun>> + Send;

    /// Takes an unconfirmed hand-out back at once: its stream broke, which is not held
    /// against the job.
    fn withdraw(&self, job: JobId, lease: LeaseId) -> impl Future<Output = Result<()>> + Send;

    /// Logs, phase, ledger, checkpoint, heartbeat and gate of one attempt.
    fn update(&self, update: Update) -> impl Future<Output = Result<v1::UpdateJobReply>> + Send;

    /// The ending of one attempt.
    fn finish(&self, finish: Finish) -> impl Future<Output = Result<Finished>> + Send;

    /// Withdraws unconfirmed offers and gives verdicts on lost jobs. To be called every
    /// second: a longer break, or an unreachable store, puts leases on hold until the
    /// settle time has passed again.
    fn expire(&self) -> impl Future<Output = Result<Expired>> + Send;

    // ------------------------------------------------ states

    /// The blob of a workspace's current state, or of one from its history.
    fn state(
        &self,
        workspace: WorkspaceName,
        state: Option<StateId>,
    ) -> impl Future<Output = Result<v1::StateRecord>> + Send;

    /// All states of a workspace, newest first.
    fn states(
        &self,
        workspace: WorkspaceName,
    ) -> impl Future<Output = Result<Vec<v1::StateRecord>>> + Send;

    /// Makes an uploaded state the current one; refused while a build runs.
    fn push_state(&self, push: PushState) -> impl Future<Output = Result<v1::StateRecord>> + Send;

    /// Makes a waiting state the current one; a deleted workspace lives again with it.
    fn adopt_state(
        &self,
        workspace: WorkspaceName,
        state: StateId,
    ) -> impl Future<Output = Result<v1::StateRecord>> + Send;

    /// Keeps the current state and lets a waiting one rest in the history.
    fn discard_state(
        &self,
        workspace: WorkspaceName,
        state: StateId,
    ) -> impl Future<Output = Result<v1::StateRecord>> + Send;

    // ------------------------------------------------ retention

    /// Takes away what is older than anybody asked to keep, in many small transactions; how
    /// much. Of the replicas of one database one does it at a time, the others nothing.
    fn prune(
        &self,
        keep: Retention,
        replica: ReplicaId,
    ) -> impl Future<Output = Result<Pruned>> + Send;

    // ------------------------------------------------ blobs

    /// A known blob.
    fn blob(&self, digest: Digest) -> impl Future<Output = Result<Option<StoredBlob>>> + Send;

    /// Makes a blob known and lets its holder name it; `false` when it could before,
    /// and nothing was new.
    fn insert_blob(
        &self,
        blob: NewBlob,
        holder: Holder,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Whether this holder may name a blob without putting it; then it is as young as a
    /// new one. An unknown lease without allowance for it is an error already here,
    /// before any byte was sent.
    fn hold_blob(&self, blob: BlobId, holder: Holder) -> impl Future<Output = Result<bool>> + Send;

    /// Forgets blobs that are older than `age` and that no template version, state or
    /// kept finish names; how many. Their files are the caller's. Who put a blob is
    /// forgotten at the same age.
    fn sweep_blobs(&self, age: Duration) -> impl Future<Output = Result<u64>> + Send;

    /// What a daemon may read for a lease of its own: archive and states of the job.
    fn readable_blobs(
        &self,
        daemon: DaemonRef,
        job: JobId,
        lease: LeaseId,
    ) -> impl Future<Output = Result<Vec<Digest>>> + Send;

    /// What a lease is to the queue in the hands of this daemon.
    fn lease_standing(
        &self,
        daemon: DaemonRef,
        job: JobId,
        lease: LeaseId,
    ) -> impl Future<Output = Result<LeaseStanding>> + Send;
}

/// Which version a next build uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseVersion {
    /// That of the newest build.
    Own,
    /// The template's active one.
    Active,
}

/// Whether a list shows deleted workspaces too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It leaves them out.
    Hide,
    /// It shows them.
    Show,
}
