//! An empty store, a clock, and what tests do with them.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use proto::ids::{Digest, JobId, LeaseId, StateId};
use proto::v1;

use crate::forecast::{Forecast, Prospect};
use crate::matching::Tags;
use crate::store::Store;
use crate::store::clock::Manual;
use crate::store::model::{
    Acquire, Activate, Begun, BlobContent, BlobId, BuildWorkspace, Checkpoint, CreateWorkspace,
    DaemonContact, DaemonRef, Deadlines, Disposition, Finish, Finished, Forget, Gate, Holder,
    JobFilter, NewBlob, NewKey, Plan, PlanTemplate, PushTemplate, ReplicaId, SecretHash,
    Submission, Submitted, Update, VersionRow, WorkspaceName,
};
use crate::store::{BaseVersion, Error, Event, Result};
use crate::words::{Outcome, Priority, ReleaseReason, Transition};

mod words;

pub(crate) use words::{
    all_jobs, client, complete, contact, lease_of, line, lines, named, replica, started,
    submission, tags, untagged,
};

pub(crate) const ORG: &str = "default";

/// Hash of the key of every world.
pub(crate) const KEY_HASH: SecretHash = [1; 32];

/// See the module.
pub(crate) struct World<S> {
    pub store: S,
    pub clock: Manual,
    /// What was uploaded, for daemons to put again in their own name.
    uploaded: Mutex<HashMap<Digest, Vec<u8>>>,
    _keep: Box<dyn Any>,
}

/// A job in a daemon's hands.
#[derive(Clone)]
pub(crate) struct Held {
    pub daemon: DaemonRef,
    pub header: v1::Job,
    pub id: JobId,
    pub lease: LeaseId,
    pub attempt: u32,
}

impl Held {
    /// Its daemon, putting for it.
    pub fn holder(&self) -> Holder {
        lease_of(&self.daemon, self.id, self.lease)
    }

    /// An update with nothing in it.
    pub fn update(&self, counter: u64) -> Update {
        Update {
            daemon: self.daemon.clone(),
            job: self.id,
            lease: self.lease,
            counter,
            phase: None,
            lines: Vec::new(),
            ledger: Vec::new(),
            checkpoint: None,
            gate: Gate::NotAsked,
            plan: Plan::default(),
        }
    }

    /// A finish with nothing in it.
    pub fn finish(&self, outcome: Outcome) -> Finish {
        Finish {
            daemon: self.daemon.clone(),
            job: self.id,
            lease: self.lease,
            attempt: self.attempt,
            outcome,
            release: None,
            state: None,
            brings: None,
            report: Box::default(),
        }
    }

    pub fn release(&self, reason: ReleaseReason) -> Finish {
        Finish {
            release: Some(reason),
            ..self.finish(Outcome::Released)
        }
    }
}

impl<S: Store> World<S> {
    /// A store with a key, settled.
    pub async fn open<K, F>(open: impl FnOnce(Manual) -> F) -> Option<Self>
    where
        K: Any,
        F: Future<Output = Option<(S, K)>>,
    {
        let clock = Manual::at(1_700_000_000_000);
        let (store, keep) = open(clock.clone()).await?;
        let world = Self {
            store,
            clock,
            uploaded: Mutex::default(),
            _keep: Box::new(keep),
        };
        let key = NewKey {
            organization: ORG.to_owned(),
            name: "key".to_owned(),
            tags: Tags::new(),
            hash: KEY_HASH,
        };
        world.store.create_key(key).await.expect("a key");
        world.pass(21).await;
        Some(world)
    }

    /// Lets seconds go by, looking at the clock so often that it counts as unbroken.
    pub async fn pass(&self, seconds: u64) {
        let mut left = seconds;
        while left > 0 {
            let step = left.min(4);
            self.clock.advance(Duration::from_secs(step));
            // A server that is away is asked again, as the background task does.
            while let Err(error) = self.store.expire().await {
                assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
            }
            left -= step;
        }
    }

    /// Uploads as `ann`.
    pub async fn upload(&self, bytes: &[u8]) -> BlobId {
        self.put(bytes, client(ORG, "ann")).await.0
    }

    /// A put by this holder, and whether it brought it anything.
    pub async fn put(&self, bytes: &[u8], holder: Holder) -> (BlobId, bool) {
        let id = BlobId {
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
        };
        let content = BlobContent::Inline(bytes.to_vec());
        let new = self.store.insert_blob(NewBlob::new(id, content), holder);
        let new = new.await.expect("a blob");
        let mut uploaded = self.uploaded.lock().expect("no panic");
        uploaded.insert(id.digest, bytes.to_vec());
        (id, new)
    }

    /// Puts what a daemon is about to name for one of its leases.
    async fn ship(&self, state: Option<&Checkpoint>, holder: Holder) {
        let Some(state) = state else { return };
        let bytes = {
            let uploaded = self.uploaded.lock().expect("no panic");
            uploaded.get(&state.blob.digest).cloned()
        };
        self.put(&bytes.expect("an upload"), holder).await;
    }

    /// An uploaded state of lineage `l`.
    pub async fn state(&self, serial: u64, ledger_seq: u64) -> Checkpoint {
        let blob = self.upload(format!("state {serial}").as_bytes()).await;
        Checkpoint {
            blob,
            serial,
            lineage: "l".to_owned(),
            ledger_seq,
        }
    }

    pub async fn push(&self, template: &str) -> (VersionRow, Submitted) {
        self.push_with(template, submission("ann")).await
    }

    pub async fn push_with(&self, template: &str, of: Submission) -> (VersionRow, Submitted) {
        self.push_for(template, "", of).await
    }

    /// A dry run of this version.
    pub async fn plan(&self, version: &VersionRow, of: Submission) -> JobId {
        let plan = PlanTemplate {
            organization: ORG.to_owned(),
            version: version.id,
            parameters: Vec::new(),
            submission: of,
        };
        self.store.plan_template(plan).await.expect("a dry run").id
    }

    /// A push that names its engine.
    pub async fn push_for(
        &self,
        template: &str,
        engine: &str,
        of: Submission,
    ) -> (VersionRow, Submitted) {
        let push = PushTemplate {
            organization: ORG.to_owned(),
            template: template.to_owned(),
            archive: self.put(b"archive", client(ORG, &of.owner)).await.0,
            variables: Vec::new(),
            engine: engine.to_owned(),
            activate: Activate::OnSuccess,
            tags: of.tags.clone(),
            submission: of,
        };
        self.store.push_template(push).await.expect("a push")
    }

    /// A template whose newest version is imported and active.
    pub async fn template(&self, name: &str) -> VersionRow {
        let (version, _) = self.push(name).await;
        let held = self.take("importer").await;
        self.done(&held.finish(Outcome::Succeeded)).await;
        version
    }

    pub async fn create(&self, name: &str, version: &VersionRow) -> Submitted {
        self.try_create(name, version).await.expect("a workspace")
    }

    pub async fn try_create(&self, name: &str, version: &VersionRow) -> Result<Submitted> {
        let create = CreateWorkspace {
            workspace: named(name),
            version: version.id,
            parameters: Vec::new(),
            submission: submission("ann"),
        };
        self.store.create_workspace(create).await
    }

    pub async fn build(&self, name: &str, transition: Transition) -> Result<Submitted> {
        self.build_with(name, transition, Forget::Refuse).await
    }

    pub async fn build_with(
        &self,
        name: &str,
        transition: Transition,
        forget: Forget,
    ) -> Result<Submitted> {
        let base = self.store.build_base(named(name), BaseVersion::Own).await?;
        let build = BuildWorkspace {
            workspace: base.workspace,
            base: base.number,
            transition,
            version: base.version.id,
            parameters: base.previous,
            forget,
            submission: submission("ann"),
        };
        self.store.build_workspace(build).await
    }

    pub async fn offered(&self, contact: DaemonContact) -> Option<Held> {
        let daemon = contact.daemon.clone();
        let kinds = Vec::new();
        let job = self.store.acquire(Acquire { contact, kinds }).await;
        let header = job.expect("acquire").job()?;
        let lease = header.lease.clone().expect("a lease");
        Some(Held {
            daemon,
            id: header.id.parse().expect("an id"),
            lease: LeaseId::try_from(lease.id.as_slice()).expect("a lease id"),
            attempt: lease.attempt,
            header,
        })
    }

    /// The next job, confirmed.
    pub async fn take(&self, daemon: &str) -> Held {
        let held = self.offered(contact(daemon)).await.expect("a job");
        self.confirm(&held).await.expect("confirmed");
        held
    }

    pub async fn confirm(&self, held: &Held) -> Result<v1::Lease> {
        Ok(self.begin(held).await?.lease)
    }

    pub async fn begin(&self, held: &Held) -> Result<Begun> {
        self.store
            .confirm(held.daemon.clone(), held.id, held.lease)
            .await
    }

    /// Tries a job again, in the trace of this parent.
    pub async fn retry(&self, job: JobId, parent: &str) -> Result<Submitted> {
        let context = HashMap::from([("traceparent".to_owned(), parent.to_owned())]);
        self.store.retry(ORG.to_owned(), job, context).await
    }

    /// An update, its checkpoint put before.
    pub async fn tell(&self, update: Update) -> v1::UpdateJobReply {
        let holder = lease_of(&update.daemon, update.job, update.lease);
        self.ship(update.checkpoint.as_ref(), holder).await;
        self.store.update(update).await.expect("an update")
    }

    /// Opens the gate with this update counter.
    pub async fn open_gate(&self, held: &Held, counter: u64) {
        let update = Update {
            gate: Gate::Asked,
            ..held.update(counter)
        };
        assert!(self.tell(update).await.gate_open);
    }

    /// A finish, its state put before.
    pub async fn done(&self, finish: &Finish) -> Disposition {
        self.finished(finish).await.disposition
    }

    /// The same; all that it came to.
    pub async fn finished(&self, finish: &Finish) -> Finished {
        let holder = lease_of(&finish.daemon, finish.job, finish.lease);
        self.ship(finish.state.as_ref(), holder).await;
        self.store.finish(finish.clone()).await.expect("a finish")
    }

    pub async fn job(&self, id: JobId) -> v1::JobView {
        self.store.job(ORG.to_owned(), id).await.expect("a job")
    }

    /// What is foreseen of a pending job.
    pub async fn prospect(&self, id: JobId) -> Prospect {
        let place = self.store.place(ORG.to_owned(), id).await.expect("a place");
        let outlook = self.store.outlook(ORG.to_owned()).await;
        Forecast::new(outlook.expect("an outlook")).of(&place.expect("pending"))
    }

    pub async fn status(&self, id: JobId) -> v1::JobStatus {
        self.job(id).await.status()
    }

    pub async fn workspace(&self, name: &str) -> v1::Workspace {
        self.store.workspace(named(name)).await.expect("workspace")
    }

    /// Serial of the current state.
    pub async fn serial(&self, name: &str) -> Option<u64> {
        self.store
            .state(named(name), None)
            .await
            .ok()
            .map(|record| record.serial)
    }

    /// The state of a workspace that waits for a decision.
    pub async fn waiting(&self, name: &str) -> StateId {
        let states = self.store.states(named(name)).await.expect("states");
        let waiting = states.into_iter().find(|state| state.waiting);
        let id = waiting.expect("one waits").id;
        id.parse().expect("an id")
    }

    /// A workspace in whose first build a daemon has opened the gate.
    pub async fn behind_the_gate(&self, name: &str) -> Held {
        let version = self.template("template").await;
        self.create(name, &version).await;
        let held = self.take("worker").await;
        self.open_gate(&held, 1).await;
        held
    }
}

/// The next event that says what happened. A store may also say at any time that hints were
/// missed.
pub(crate) async fn told(events: &mut tokio::sync::broadcast::Receiver<Event>) -> Event {
    loop {
        match events.recv().await.expect("an event") {
            Event::Missed => {}
            event => return event,
        }
    }
}
