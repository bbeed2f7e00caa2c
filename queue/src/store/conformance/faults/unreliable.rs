//! A store that cannot be reached now and then, drawn from a seed: before a transition,
//! so that nothing of it happened, or behind its COMMIT, so that all of it did and nobody
//! was told; one that does twice what it was asked once, as a proxy does that repeats after
//! a lost answer; and one that answers late, so that calls overtake each other.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::ids::{Digest, JobId, LeaseId, StateId};
use proto::v1;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::broadcast;

use crate::store::model::{
    Abandon, Acquire, Act, Attendance, AuditEntry, AuditFilter, Begun, BlobId, BuildBase,
    BuildWorkspace, CreateWorkspace, DaemonContact, DaemonName, DaemonRef, Drain, Expired, Finish,
    Finished, HandedOut, Holder, JobFilter, KeyRow, Lane, LeaseStanding, LogPage, NewBlob, NewKey,
    NewToken, Opened, Outlook, OwnerProfile, Place, PlanTemplate, PoolDepth, Pruned, PushState,
    PushTemplate, ReplicaId, Retention, SecretHash, SetLimit, Settle, StoredBlob, Submitted,
    TokenRow, Update, VersionRow, VersionSelector, WorkspaceName,
};
use crate::store::{BaseVersion, Deleted, Error, Event, Latency, Result, Store};
use crate::words::{Cancel, Kind, Status};

/// One call in so many cannot be answered.
const ONE_IN: u32 = 4;

/// An answer is late by at most so much.
const LATE_MS: u64 = 4;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Unreliable<S> {
    store: S,
    random: Arc<Mutex<StdRng>>,
}

#[derive(Clone, Copy)]
enum Fault {
    Nothing,
    Before,
    After,
    /// Of what may be repeated; the second answer is given.
    Twice,
}

impl<S> Unreliable<S> {
    pub(super) fn new(store: S, seed: u64) -> Self {
        let random = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
        Self { store, random }
    }

    /// What happens to the next call, and how late its answer is.
    fn fault(&self) -> (Fault, Duration) {
        let mut random = self.random.lock().expect("random");
        let late = Duration::from_millis(random.random_range(0..LATE_MS));
        let fault = match random.random_range(0..ONE_IN * 2) {
            0 => Fault::Before,
            1 => Fault::After,
            2 | 3 => Fault::Twice,
            _ => Fault::Nothing,
        };
        (fault, late)
    }
}

fn unreachable() -> Error {
    Error::Backend {
        doing: "waited for its database",
        source: Box::new(io::Error::from(io::ErrorKind::ConnectionReset)),
    }
}

macro_rules! unreliable {
    (
        once { $($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)* }
        twice { $($again:ident($($given:ident: $of:ty),*) -> $reply:ty;)* }
    ) => {
        impl<S: Store> Store for Unreliable<S> {
            fn acting(&self, act: Arc<Act>) -> Self {
                Self {
                    store: self.store.acting(act),
                    random: self.random.clone(),
                }
            }

            fn subscribe(&self) -> broadcast::Receiver<Event> {
                self.store.subscribe()
            }

            fn backend(&self) -> &'static str {
                self.store.backend()
            }

            fn now_ms(&self) -> i64 {
                self.store.now_ms()
            }

            async fn closed(&self) {
                self.store.closed().await;
            }

            fn latency(&self) -> &Latency {
                self.store.latency()
            }

            $(async fn $name(&self, $($argument: $type),*) -> Result<$answer> {
                let (fault, late) = self.fault();
                if let Fault::Before = fault {
                    return Err(unreachable());
                }
                let answer = self.store.$name($($argument),*).await;
                tokio::time::sleep(late).await;
                match fault {
                    Fault::Nothing | Fault::Twice => answer,
                    Fault::Before | Fault::After => Err(unreachable()),
                }
            })*

            $(async fn $again(&self, $($given: $of),*) -> Result<$reply> {
                let (fault, late) = self.fault();
                if let Fault::Before = fault {
                    return Err(unreachable());
                }
                if let Fault::Twice = fault {
                    let _unheard = self.store.$again($(Clone::clone(&$given)),*).await;
                }
                let answer = self.store.$again($($given),*).await;
                tokio::time::sleep(late).await;
                match fault {
                    Fault::Nothing | Fault::Twice => answer,
                    Fault::Before | Fault::After => Err(unreachable()),
                }
            })*
        }
    };
}

unreliable! {
    once {
        check() -> ();
        note(entries: Vec<AuditEntry>) -> ();
        audit(filter: AuditFilter) -> v1::ListAuditReply;
        open_jobs() -> BTreeMap<(Status, Kind), u64>;
        pool_depths() -> Vec<PoolDepth>;
        unclaimed_finishes() -> u64;
        unclaimed(organization: String, before: Option<u64>) -> Vec<v1::UnclaimedFinish>;
        discard_unclaimed(organization: String, id: u64) -> v1::UnclaimedFinish;
        unclaimed_finish(organization: String, id: u64) -> v1::UnclaimedFinish;
        create_organization(name: String) -> v1::Organization;
        list_organizations() -> Vec<v1::Organization>;
        create_key(key: NewKey) -> v1::Key;
        list_keys(organization: String) -> Vec<v1::Key>;
        find_key(hash: SecretHash) -> Option<KeyRow>;
        delete_key(organization: String, name: String) -> ();
        create_token(token: NewToken) -> v1::Token;
        list_tokens(organization: Option<String>) -> Vec<v1::Token>;
        find_token(hash: SecretHash) -> Option<TokenRow>;
        delete_token(name: String) -> ();
        put_owner(organization: String, profile: OwnerProfile) -> ();
        list_owners(organization: String) -> Vec<OwnerProfile>;
        set_limit(set: SetLimit) -> v1::Limit;
        list_limits(organization: String) -> Vec<v1::Limit>;
        push_template(push: PushTemplate) -> (VersionRow, Submitted);
        list_templates(organization: String) -> Vec<v1::Template>;
        template(organization: String, name: String) -> v1::Template;
        template_versions(organization: String, name: String) -> Vec<v1::TemplateVersion>;
        imported_version(organization: String, template: String, version: VersionSelector) -> VersionRow;
        promote(organization: String, template: String, version: VersionSelector) -> v1::Template;
        plan_template(plan: PlanTemplate) -> Submitted;
        create_workspace(create: CreateWorkspace) -> Submitted;
        build_base(workspace: WorkspaceName, version: BaseVersion) -> BuildBase;
        build_workspace(build: BuildWorkspace) -> Submitted;
        list_workspaces(organization: String, owner: Option<String>, deleted: Deleted) -> Vec<v1::Workspace>;
        workspace(workspace: WorkspaceName) -> v1::Workspace;
        forget(workspace: WorkspaceName, addresses: Vec<String>) -> Vec<v1::UnconfirmedResource>;
        settle(settle: Settle) -> ();
        job(organization: String, job: JobId) -> v1::JobView;
        place(organization: String, job: JobId) -> Option<Place>;
        outlook(organization: String) -> Outlook;
        list_jobs(filter: JobFilter) -> Vec<v1::JobView>;
        retry(organization: String, job: JobId, trace: HashMap<String, String>) -> Submitted;
        abandon(organization: String, job: JobId, how: Abandon) -> v1::JobView;
        logs_after(organization: String, job: JobId, after: u64, limit: u32) -> LogPage;
        ledger(organization: String, job: JobId) -> Vec<v1::LedgerEntry>;
        see_daemon(contact: DaemonContact) -> Drain;
        held(replica: ReplicaId) -> Vec<(DaemonName, String)>;
        lanes() -> Vec<Lane>;
        credentials() -> Vec<SecretHash>;
        list_daemons(organization: String) -> Vec<v1::Daemon>;
        set_drain(organization: String, name: String, drain: Drain) -> v1::Daemon;
        acquire_all(asks: Vec<Acquire>) -> HandedOut;
        state(workspace: WorkspaceName, state: Option<StateId>) -> v1::StateRecord;
        states(workspace: WorkspaceName) -> Vec<v1::StateRecord>;
        push_state(push: PushState) -> v1::StateRecord;
        adopt_state(workspace: WorkspaceName, state: StateId) -> v1::StateRecord;
        discard_state(workspace: WorkspaceName, state: StateId) -> v1::StateRecord;
        blob(digest: Digest) -> Option<StoredBlob>;
        prune(keep: Retention, replica: ReplicaId) -> Pruned;
        sweep_blobs(age: Duration) -> u64;
        readable_blobs(daemon: DaemonRef, job: JobId, lease: LeaseId) -> Vec<Digest>;
        lease_standing(daemon: DaemonRef, job: JobId, lease: LeaseId) -> LeaseStanding;
    }
    // Each is idempotent under (job, lease), or by nature.
    twice {
        cancel(organization: String, job: JobId, kind: Cancel) -> v1::JobView;
        open_control(contact: DaemonContact, replica: ReplicaId) -> Opened;
        poll_control(contact: DaemonContact) -> Opened;
        control_lost(daemon: DaemonRef, replica: ReplicaId) -> ();
        attend(replica: ReplicaId) -> Attendance;
        confirm(daemon: DaemonRef, job: JobId, lease: LeaseId) -> Begun;
        withdraw(job: JobId, lease: LeaseId) -> ();
        update(update: Update) -> v1::UpdateJobReply;
        finish(finish: Finish) -> Finished;
        expire() -> Expired;
        insert_blob(blob: NewBlob, holder: Holder) -> bool;
        hold_blob(blob: BlobId, holder: Holder) -> bool;
    }
}
