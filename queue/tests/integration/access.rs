//! Every call × every credential that is real but not entitled to what it asks for:
//! nothing is read, nothing changes, and the answer is the same as for a thing that does
//! not exist. The calls are read from the .proto files: a new one without a row fails.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{Buf, BufMut};
use prost::Message;
use proto::ids::{JobId, LeaseId, StateId};
use proto::timings::Timings;
use proto::v1;
use proto::v1::acquire_request::Message as Ask;
use tokio_stream::StreamExt;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status};

use crate::credentials::{FLEET, MANAGEMENT, calls};
use crate::harness::*;
use crate::on_postgres;

const LOG: &str = "a line that only its owner may read";
const STATE: &str =
    r#"{"version":4,"serial":1,"lineage":"private-lineage","outputs":{},"resources":[]}"#;

/// Things that an intruder asks for: those of the victim, or none that exist.
#[derive(Clone)]
pub struct Things {
    job: String,
    lease: Vec<u8>,
    pending: String,
    state_id: String,
    archive: v1::BlobRef,
    state: v1::BlobRef,
    workspace: &'static str,
    template: &'static str,
    version: String,
    key: &'static str,
    token: &'static str,
    daemon: &'static str,
    organization: &'static str,
}

impl Things {
    /// Nothing that exists, of the same sizes.
    fn absent(like: &Self) -> Self {
        let unknown = |like: &v1::BlobRef| v1::BlobRef {
            size: like.size,
            ..blob_ref(LeaseId::generate().as_bytes())
        };
        Self {
            job: JobId::generate().to_string(),
            lease: LeaseId::generate().as_bytes().to_vec(),
            pending: JobId::generate().to_string(),
            state_id: StateId::generate().to_string(),
            archive: unknown(&like.archive),
            state: unknown(&like.state),
            workspace: "absent-ws",
            template: "absent-t",
            version: JobId::generate().to_string(),
            key: "absent-key",
            token: "absent-token",
            daemon: "absent-daemon",
            organization: "absent-org",
        }
    }

    /// An answer without the names that the question brought along.
    fn anonymous(&self, text: &str) -> String {
        let hex = |blob: &v1::BlobRef| {
            let digits = blob.sha256.iter().map(|byte| format!("{byte:02x}"));
            digits.collect::<String>()
        };
        let names = [
            self.job.clone(),
            self.pending.clone(),
            self.state_id.clone(),
            self.version.clone(),
            hex(&self.archive),
            hex(&self.state),
            self.workspace.to_owned(),
            self.template.to_owned(),
            self.key.to_owned(),
            self.token.to_owned(),
            self.daemon.to_owned(),
            self.organization.to_owned(),
        ];
        let named = |text: String, name: &String| text.replace(name, "NAME");
        names.iter().fold(text.to_owned(), named)
    }
}

/// The request of a call that asks for these things, encoded.
pub fn row(call: &str, of: &Things) -> Vec<u8> {
    let blob = |blob: &v1::BlobRef| Some(blob.clone());
    let job = || v1::GetJobRequest { id: of.job.clone() }.encode_to_vec();
    let resolve = || v1::ResolveStateRequest {
        workspace: of.workspace.into(),
        state_id: of.state_id.clone(),
        ..Default::default()
    };
    let put = |lease: bool| v1::PutBlobHeader {
        blob: blob(&of.state),
        job_id: if lease { of.job.clone() } else { String::new() },
        lease_id: if lease { of.lease.clone() } else { Vec::new() },
    };
    let header = |lease: bool| v1::PutBlobRequest {
        message: Some(v1::put_blob_request::Message::Header(put(lease))),
    };
    let acquire = || v1::Acquire {
        tags: map(&[("region", "eu")]),
        slots: 1,
        ..Default::default()
    };
    match call {
        "AcquireJob" => ask(Ask::Acquire(acquire())).encode_to_vec(),
        "AcquireNow" => v1::AcquireNowRequest {
            acquire: Some(acquire()),
            wait_ms: 0,
        }
        .encode_to_vec(),
        "ConfirmJob" => v1::ConfirmJobRequest {
            job_id: of.job.clone(),
            lease_id: of.lease.clone(),
            ..Default::default()
        }
        .encode_to_vec(),
        "GetBlobPart" => v1::GetBlobPartRequest {
            sha256: of.archive.sha256.clone(),
            offset: 0,
            job_id: of.job.clone(),
            lease_id: of.lease.clone(),
        }
        .encode_to_vec(),
        "PutBlobPart" => v1::PutBlobPartRequest {
            header: Some(put(true)),
            ..Default::default()
        }
        .encode_to_vec(),
        "UpdateJob" => v1::UpdateJobRequest {
            job_id: of.job.clone(),
            lease_id: of.lease.clone(),
            counter: 99,
            lines: lines(9, &["intruded"]),
            checkpoint: Some(v1::Checkpoint {
                blob: blob(&of.state),
                serial: 99,
                lineage: "intruded".into(),
                ..Default::default()
            }),
            gate: true,
            ..Default::default()
        }
        .encode_to_vec(),
        "FinishJob" => v1::FinishJobRequest {
            job_id: of.job.clone(),
            lease_id: of.lease.clone(),
            attempt: 1,
            outcome: v1::Outcome::Failed.into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "GetBlob" => v1::GetBlobRequest {
            sha256: of.archive.sha256.clone(),
            offset: 0,
            job_id: of.job.clone(),
            lease_id: of.lease.clone(),
        }
        .encode_to_vec(),
        "PutBlob" => header(true).encode_to_vec(),
        "Upload" => header(false).encode_to_vec(),
        "Control" | "ControlNow" => v1::ControlRequest {
            running: vec![v1::RunningJob {
                job_id: of.job.clone(),
                lease_id: of.lease.clone(),
            }],
            slots: 1,
            ..Default::default()
        }
        .encode_to_vec(),
        // Asks for nothing by name.
        "GetInfo" | "ListOrganizations" | "ListKeys" | "ListTokens" | "ListTemplates"
        | "ListWorkspaces" | "ListJobs" | "ListDaemons" | "ListOwners" | "ListUnclaimed"
        | "ListLimits" | "ListAudit" => Vec::new(),
        "PutOwner" => v1::Owner {
            name: "ann".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "SetLimit" => v1::SetLimitRequest {
            of: v1::LimitOf::Template.into(),
            name: of.template.into(),
            most: Some(0),
        }
        .encode_to_vec(),
        "CreateOrganization" => v1::CreateOrganizationRequest {
            name: of.organization.into(),
        }
        .encode_to_vec(),
        "CreateKey" => v1::CreateKeyRequest {
            name: of.key.into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "DeleteKey" => v1::DeleteKeyRequest {
            name: of.key.into(),
        }
        .encode_to_vec(),
        // A name that is taken in the whole queue is refused to everybody who may make
        // tokens, so this one asks for a new one.
        "CreateToken" => v1::CreateTokenRequest {
            name: format!("new-{}", of.job),
            owner: "ann".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "DeleteToken" => v1::DeleteTokenRequest {
            name: of.token.into(),
        }
        .encode_to_vec(),
        "PushTemplate" => v1::PushTemplateRequest {
            name: of.template.into(),
            archive: blob(&of.archive),
            ..Default::default()
        }
        .encode_to_vec(),
        "GetTemplate" => v1::GetTemplateRequest {
            name: of.template.into(),
        }
        .encode_to_vec(),
        "ListTemplateVersions" => v1::ListTemplateVersionsRequest {
            name: of.template.into(),
        }
        .encode_to_vec(),
        "PromoteTemplateVersion" => v1::PromoteTemplateVersionRequest {
            name: of.template.into(),
            version: of.version.clone(),
        }
        .encode_to_vec(),
        "PlanTemplate" => v1::PlanTemplateRequest {
            name: of.template.into(),
            version: of.version.clone(),
            owner: "ann".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "CreateWorkspace" => v1::CreateWorkspaceRequest {
            name: of.workspace.into(),
            template: of.template.into(),
            owner: "ann".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "BuildWorkspace" => v1::BuildWorkspaceRequest {
            name: of.workspace.into(),
            transition: v1::Transition::Delete.into(),
            forget: true,
            ..Default::default()
        }
        .encode_to_vec(),
        "GetWorkspace" => v1::GetWorkspaceRequest {
            name: of.workspace.into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "ForgetResources" => v1::ForgetResourcesRequest {
            name: of.workspace.into(),
            addresses: vec!["a.b".into()],
            ..Default::default()
        }
        .encode_to_vec(),
        // One that nobody has: what it does not discard in another organization the store's
        // tests show.
        "DiscardUnclaimed" => v1::DiscardUnclaimedRequest { id: 1_000_000 }.encode_to_vec(),
        // The first one that was kept, whosever it is.
        "PullUnclaimed" => v1::PullUnclaimedRequest { id: 1 }.encode_to_vec(),
        "GetJob" | "WatchJob" | "RetryJob" | "GetLedger" => job(),
        "CancelJob" => v1::CancelJobRequest {
            id: of.pending.clone(),
            force: true,
        }
        .encode_to_vec(),
        "AbandonJob" => v1::AbandonJobRequest {
            id: of.job.clone(),
            force: true,
        }
        .encode_to_vec(),
        "StreamLogs" => v1::StreamLogsRequest {
            job_id: of.job.clone(),
            ..Default::default()
        }
        .encode_to_vec(),
        "DrainDaemon" => v1::DrainDaemonRequest {
            name: of.daemon.into(),
        }
        .encode_to_vec(),
        "UndrainDaemon" => v1::UndrainDaemonRequest {
            name: of.daemon.into(),
        }
        .encode_to_vec(),
        "PullState" => v1::PullStateRequest {
            workspace: of.workspace.into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "PushState" => v1::PushStateRequest {
            workspace: of.workspace.into(),
            state: blob(&of.state),
            force: true,
            ..Default::default()
        }
        .encode_to_vec(),
        "StateHistory" => v1::StateHistoryRequest {
            workspace: of.workspace.into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "AdoptState" | "DiscardState" => resolve().encode_to_vec(),
        other => panic!("`{other}` has no row: say what an intruder would ask of it"),
    }
}

/// Messages as bytes.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}

/// One intruder: a real credential, and what it tells of its bearer.
pub struct Intruder {
    who: &'static str,
    service: &'static str,
    metadata: Vec<(&'static str, String)>,
}

/// What a call brought: the first messages of its answer, or a refusal.
pub type Answer = Result<Vec<u8>, Status>;

pub async fn call(queue: &Queue, intruder: &Intruder, call: &str, request: Vec<u8>) -> Answer {
    let mut grpc = Grpc::new(queue.channel.clone());
    grpc.ready().await.expect("connected");
    let path = format!("/provisionerd.v1.{}/{call}", intruder.service);
    let path: PathAndQuery = path.parse().expect("path");
    let once = tokio_stream::once(request);
    // An acquire waits for as long as its stream is open.
    let requests: std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Vec<u8>> + Send>> =
        if call == "AcquireJob" {
            Box::pin(once.chain(tokio_stream::pending()))
        } else {
            Box::pin(once)
        };
    let mut request = Request::new(requests);
    for (key, value) in &intruder.metadata {
        let value = value.parse().expect("ascii");
        request.metadata_mut().insert(*key, value);
    }
    let mut replies = grpc.streaming(request, path, Raw).await?.into_inner();
    let mut all = Vec::new();
    // A control stream goes on for ever; everything else is read whole.
    while let Some(message) = soon(replies.message()).await? {
        all.extend_from_slice(&message);
        if call == "Control" {
            break;
        }
    }
    Ok(all)
}

/// What an answer tells apart from the names in the question.
fn shape(intruder: &Intruder, of: &Things, answer: &Answer) -> String {
    let told = ["x-daemon-name", "x-organization"];
    let own = intruder.metadata.iter().filter(|it| told.contains(&it.0));
    let own = |text: String| own.fold(text, |text, (_, name)| text.replace(name, "NAME"));
    match answer {
        Ok(bytes) if intruder.service == "Fleet" => format!("{bytes:?}"),
        // Own things have times and ids; that they are not the victim's is asked apart.
        Ok(_) => "answered".to_owned(),
        Err(status) => of.anonymous(&own(format!(
            "{:?} {} {}",
            status.code(),
            code(status),
            status.message()
        ))),
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|part| part == needle)
}

/// A running build with a line and a checkpoint, a finished one with a state, and a
/// pending import, all of `ann` in the default organization.
pub async fn victim(queue: &Queue) -> (Things, Daemon, String) {
    let key = queue.key("victim-key", &[("region", "eu")]).await;
    let mut daemon = queue.daemon_with("victim-daemon", "instance-1", &key, &[("region", "eu")]);
    queue.member("ann").await;
    queue.push("victim-t", &[("region", "eu")]).await;
    let import = daemon.take().await;
    let ended = finish(&import, v1::Outcome::Succeeded);
    daemon.fleet.finish_job(ended).await.expect("imported");
    let create = v1::CreateWorkspaceRequest {
        name: "victim-ws".into(),
        template: "victim-t".into(),
        owner: "ann".into(),
        ..v1::CreateWorkspaceRequest::default()
    };
    queue.admin().create_workspace(create).await.expect("made");
    let first = daemon.take().await;
    let state = ship(&mut daemon, &first, STATE.as_bytes()).await;
    let gate = v1::UpdateJobRequest {
        gate: true,
        ..update(&first, 1)
    };
    daemon.fleet.update_job(gate).await.expect("gate");
    let ended = v1::FinishJobRequest {
        state: Some(state.clone()),
        ..finish(&first, v1::Outcome::Succeeded)
    };
    daemon.fleet.finish_job(ended).await.expect("built");
    let build = v1::BuildWorkspaceRequest {
        name: "victim-ws".into(),
        owner: "ann".into(),
        transition: v1::Transition::Start.into(),
        ..v1::BuildWorkspaceRequest::default()
    };
    queue.admin().build_workspace(build).await.expect("again");
    let job = daemon.take().await;
    let told = v1::UpdateJobRequest {
        lines: lines(1, &[LOG]),
        gate: true,
        ..update(&job, 1)
    };
    daemon.fleet.update_job(told).await.expect("update");
    let pending = queue.push("victim-pending", &[("region", "eu")]).await;
    let history = v1::StateHistoryRequest {
        workspace: "victim-ws".into(),
        owner: "ann".into(),
    };
    let history = queue.admin().state_history(history).await.expect("states");
    let things = Things {
        lease: lease_id(&job),
        pending: pending.id,
        state_id: history.into_inner().states[0].id.clone(),
        archive: job.archive.clone().expect("archive"),
        state: state.blob.expect("blob"),
        workspace: "victim-ws",
        template: "victim-t",
        version: job.template_version_id.clone(),
        key: "victim-key",
        token: "ann-token",
        daemon: "victim-daemon",
        organization: "default",
        job: job.id,
    };
    (things, daemon, key)
}

async fn ship(daemon: &mut Daemon, job: &v1::Job, bytes: &[u8]) -> v1::Checkpoint {
    let blob = blob_ref(bytes);
    let requests = tokio_stream::iter(put_requests(&blob, Some(job), bytes));
    daemon.fleet.put_blob(requests).await.expect("put");
    v1::Checkpoint {
        blob: Some(blob),
        serial: 1,
        lineage: "private-lineage".into(),
        ledger_seq: 0,
    }
}

/// All that an intruder could have changed, as the admin of the victim sees it.
#[derive(Debug, PartialEq)]
struct Seen {
    jobs: [v1::JobView; 2],
    workspace: v1::Workspace,
    states: Vec<v1::StateRecord>,
    logs: Vec<v1::LogBatch>,
    versions: Vec<v1::TemplateVersion>,
    keys: Vec<v1::Key>,
    tokens: Vec<v1::Token>,
    limits: Vec<v1::Limit>,
    daemon: Option<v1::Daemon>,
}

async fn fingerprint(queue: &Queue, of: &Things) -> Seen {
    let mut admin = queue.admin();
    let job = queue.job(&of.job).await;
    let mut pending = queue.job(&of.pending).await;
    let find = v1::GetWorkspaceRequest {
        name: of.workspace.into(),
        owner: "ann".into(),
    };
    let workspace = admin.get_workspace(find).await.expect("workspace");
    let history = v1::StateHistoryRequest {
        workspace: of.workspace.into(),
        owner: "ann".into(),
    };
    let states = admin.state_history(history).await.expect("states");
    let logs = v1::StreamLogsRequest {
        job_id: of.job.clone(),
        ..v1::StreamLogsRequest::default()
    };
    let logs = admin.stream_logs(logs).await.expect("logs").into_inner();
    let logs: Vec<_> = logs.map(|batch| batch.expect("lines")).collect().await;
    let template = v1::ListTemplateVersionsRequest {
        name: of.template.into(),
    };
    let versions = admin.list_template_versions(template).await;
    let keys = admin.list_keys(v1::ListKeysRequest {}).await.expect("keys");
    let mut keys = keys.into_inner().keys;
    keys.iter_mut().for_each(|key| key.last_used_at_ms = None);
    let tokens = admin.list_tokens(v1::ListTokensRequest {}).await;
    let limits = admin.list_limits(v1::ListLimitsRequest {}).await;
    let daemons = admin.list_daemons(v1::ListDaemonsRequest {}).await;
    let daemons = daemons.expect("daemons").into_inner().daemons;
    let mut daemon = daemons.into_iter().find(|daemon| daemon.name == of.daemon);
    if let Some(daemon) = &mut daemon {
        daemon.last_seen_at_ms = 0;
    }
    // Others may wait as well.
    (pending.queue_position, pending.waiting_for) = (None, None);
    pending.estimated_start_ms = None;
    Seen {
        jobs: [job, pending],
        workspace: workspace.into_inner(),
        states: states.into_inner().states,
        logs,
        versions: versions.expect("versions").into_inner().versions,
        keys,
        tokens: tokens.expect("tokens").into_inner().tokens,
        limits: limits.expect("limits").into_inner().limits,
        daemon,
    }
}

/// The admin, acting in an organization.
fn admin_of(queue: &Queue, organization: &str) -> Client {
    let bearer = format!(
        "Bearer {}",
        queue
            .service
            .admin_token()
            .expect("a new store has one")
            .expose()
    );
    let identity = Identity::new(&[("authorization", &bearer), ("x-organization", organization)]);
    v1::management_client::ManagementClient::with_interceptor(queue.channel.clone(), identity)
}

async fn token(queue: &Queue, organization: &str, name: &str, role: &str) -> String {
    let request = v1::CreateTokenRequest {
        name: name.into(),
        owner: name.into(),
        role: role.into(),
    };
    let made = admin_of(queue, organization).create_token(request).await;
    made.expect("token").into_inner().token
}

fn bearer(secret: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {secret}"))
}

pub fn client(who: &'static str, secret: &str, organization: &str) -> Intruder {
    Intruder {
        who,
        service: "Management",
        metadata: vec![bearer(secret), ("x-organization", organization.to_owned())],
    }
}

fn daemon(who: &'static str, key: &str, name: &str, instance: &str) -> Intruder {
    Intruder {
        who,
        service: "Fleet",
        metadata: vec![
            bearer(key),
            ("x-daemon-name", name.to_owned()),
            ("x-daemon-instance", instance.to_owned()),
        ],
    }
}

async fn intruders(queue: &Queue, victim_key: &str) -> Vec<Intruder> {
    let create = v1::CreateOrganizationRequest {
        name: "other".into(),
    };
    let made = queue.admin().create_organization(create).await;
    made.expect("organization");
    let request = v1::CreateKeyRequest {
        name: "other-key".into(),
        tags: map(&[("region", "*")]),
    };
    let foreign = admin_of(queue, "other").create_key(request).await;
    let foreign = foreign.expect("key").into_inner().key;
    let pool = queue.key("other-pool", &[("region", "us")]).await;
    let bob = token(queue, "default", "bob", "member").await;
    let eve = token(queue, "other", "eve", "member").await;
    vec![
        client("a member, of another's things", &bob, "default"),
        client("a member of another organization", &eve, "other"),
        client(
            "a token where another organization's belongs",
            &eve,
            "default",
        ),
        daemon("a key of another organization", &foreign, "far", "i"),
        daemon(
            "a daemon of another organization with the victim's name",
            &foreign,
            "victim-daemon",
            "instance-1",
        ),
        daemon("a key whose tags do not cover the job", &pool, "blue", "i"),
        daemon("another daemon with the lease", &pool, "thief", "i"),
        daemon(
            "a second living instance",
            victim_key,
            "victim-daemon",
            "instance-2",
        ),
    ]
}

/// Whether an answer may differ from that for an absent thing, and why.
fn may_differ(intruder: &Intruder, call: &str) -> bool {
    let own_organization = !intruder.who.contains("organization");
    match call {
        // A daemon of the same organization that names a job with a lease which is not
        // its own is told to stop, and one that names no job to go on: that is how a
        // queue restored from a backup keeps two engines from running.
        "UpdateJob" => own_organization,
        // Templates are everybody's in their organization.
        "GetTemplate" | "ListTemplateVersions" | "PlanTemplate" | "CreateWorkspace" => {
            own_organization
        }
        _ => false,
    }
}

#[tokio::test]
async fn a_real_credential_reads_and_changes_nothing_that_is_not_its_own() {
    let queue = Queue::start_with(quiet()).await;
    Box::pin(every_call_of_every_intruder(&queue)).await;
}

#[tokio::test]
async fn it_does_not_on_postgres_either() {
    let Some((queue, _database)) = on_postgres::start(quiet()).await else {
        return;
    };
    Box::pin(every_call_of_every_intruder(&queue)).await;
}

pub fn quiet() -> Timings {
    let mut timings = timings();
    timings.acquire_min = Duration::from_millis(100);
    timings.acquire_max = Duration::from_millis(150);
    // The victim stays alive without telling anything.
    timings.unreachable = Duration::from_secs(600);
    timings.lease = Duration::from_secs(1_200);
    timings
}

async fn every_call_of_every_intruder(queue: &Queue) {
    let (victim, mut holder, key) = victim(queue).await;
    let mut control = holder.control(Vec::new()).await;
    soon(control.message()).await.expect("alive");
    let intruders = intruders(queue, &key).await;
    let before = fingerprint(queue, &victim).await;
    let private: [&[u8]; 5] = [
        victim.job.as_bytes(),
        LOG.as_bytes(),
        b"private-lineage",
        b"victim-ws",
        &victim.state.sha256,
    ];
    let mut tried = BTreeSet::new();
    for (file, service) in [(FLEET, "Fleet"), (MANAGEMENT, "Management")] {
        for name in calls(file) {
            for intruder in intruders.iter().filter(|one| one.service == service) {
                let absent = Things::absent(&victim);
                let real = call(queue, intruder, &name, row(&name, &victim)).await;
                let none = call(queue, intruder, &name, row(&name, &absent)).await;
                let what = format!("{name} by {}: {real:?}", intruder.who);
                if !may_differ(intruder, &name) {
                    let (real, none) = (
                        shape(intruder, &victim, &real),
                        shape(intruder, &absent, &none),
                    );
                    assert_eq!(real, none, "{what}");
                }
                if let Ok(answer) = &real {
                    // Daemons of the intruder's own organization have named the job in
                    // endings that are listed there as unclaimed.
                    let told = name == "ListUnclaimed";
                    let kept = private.iter().skip(usize::from(told));
                    for secret in kept {
                        assert!(!contains(answer, secret), "{what}");
                    }
                }
                assert_eq!(fingerprint(queue, &victim).await, before, "{what}");
                tried.insert(name.clone());
            }
        }
    }
    assert_eq!(tried.len(), calls(FLEET).len() + calls(MANAGEMENT).len());
}
