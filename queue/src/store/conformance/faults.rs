//! The services of daemons over a store that cannot be reached now and then: whatever
//! the seed, every job gets exactly one verdict, nothing runs twice behind its gate, no
//! line and no state is lost.

mod unreliable;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::credential::{Credential, hash};
use proto::ids::{Digest, JobId};
use proto::timings::Timings;
use proto::v1::acquire_reply::Message as Answer;
use proto::v1::acquire_request::Message as Ask;
use proto::v1::fleet_client::FleetClient;
use proto::v1::put_blob_request::Message as Put;
use proto::v1::{self, AcquireRequest, JobStatus, LogSource, PutBlobRequest, UpdateVerdict};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::transport::{Channel, Endpoint, Server};

use super::world::{ORG, World, named, tags, untagged};
use crate::blobs::{Blobs, Used};
use crate::guard;
use crate::listen::places::{Most, Places};
use crate::options::Edge;
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::NewKey;
use unreliable::Unreliable;

const SEEDS: [u64; 3] = [1, 2, 3];
const DAEMONS: [&str; 3] = ["one", "two", "three"];
const BUILDS: usize = 6;

/// Updates of one job, and lines of each.
const UPDATES: u64 = 4;
const LINES: u64 = 3;

/// The update that asks for the gate.
const GATE: u64 = 2;

/// Long enough on a machine with other things to do.
const DEADLINE: Duration = Duration::from_secs(120);

/// What daemons were told.
#[derive(Default)]
struct Told {
    /// Jobs behind their gate.
    gated: BTreeSet<String>,
    /// Jobs whose finish was taken as their verdict.
    applied: BTreeSet<String>,
    /// What must not happen.
    wrong: Vec<String>,
}

#[derive(Clone)]
struct Daemon {
    client: FleetClient<Channel>,
    name: &'static str,
    key: String,
    told: Arc<Mutex<Told>>,
}

/// The lease has gone to another one.
struct Fenced;

pub(crate) async fn services_over_an_unreliable_store_lose_nothing<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    for seed in SEEDS {
        eprintln!("seed {seed}");
        let names: Vec<String> = (0..BUILDS).map(|n| format!("ws-{seed}-{n}")).collect();
        for name in &names {
            world.create(name, &version).await;
        }
        let told = Arc::new(Mutex::new(Told::default()));
        let key = key(&world, seed).await;
        let channel = serve(Unreliable::new(world.store.clone(), seed)).await;
        let daemons = DAEMONS.map(|name| {
            let daemon = Daemon {
                client: FleetClient::new(channel.clone()),
                name,
                key: key.clone(),
                told: told.clone(),
            };
            tokio::spawn(daemon.work())
        });
        let all = tokio::time::timeout(DEADLINE, ended(&world)).await;
        for daemon in daemons {
            daemon.abort();
        }
        assert!(all.is_ok(), "seed {seed}: jobs do not end");
        let told = std::mem::take(&mut *told.lock().expect("told"));
        assert!(told.wrong.is_empty(), "seed {seed}: {:?}", told.wrong);
        assert!(
            !told.applied.is_empty(),
            "seed {seed}: nothing went through"
        );
        for name in &names {
            whole(&world, name, &told).await;
        }
    }
}

async fn key<S: Store>(world: &World<S>, seed: u64) -> String {
    let secret = Credential::Key.generate();
    let key = NewKey {
        organization: ORG.to_owned(),
        name: format!("key {seed}"),
        tags: tags(&[]),
        hash: hash(&secret),
    };
    world.store.create_key(key).await.expect("a key");
    secret.expose().to_owned()
}

/// The fleet's service over `store`; its own waits are short, the store's clock is not
/// its own.
async fn serve<S: Store>(store: S) -> Channel {
    let directory = tempfile::tempdir().expect("a directory").keep();
    let blobs = Blobs::open(store.clone(), directory, Used::Alone).expect("blobs");
    let timings = Timings {
        confirm: Duration::from_millis(500),
        acquire_min: Duration::from_millis(100),
        acquire_max: Duration::from_millis(200),
        ..Timings::default()
    };
    let edge = Edge::default();
    let told = crate::shared::Told {
        analyzer: None,
        retention: crate::store::model::Retention::default(),
        timings,
        access_url: "http://queue".to_owned(),
        places: Places::new(Most {
            connections: edge.connections,
            per_address: edge.connections_per_address,
            handshakes: 1,
        }),
        edge,
        stopping: CancellationToken::new(),
    };
    let shared = Shared::new(store, blobs, told);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let server = Server::builder()
        .add_service(guard::fleet(&shared))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    Endpoint::from_shared(url).expect("a url").connect_lazy()
}

/// Lets the store's time go by until every job has ended.
async fn ended<S: Store>(world: &World<S>) {
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        world.clock.advance(Duration::from_millis(200));
        world.store.expire().await.expect("a look");
        let open = world.store.open_jobs().await.expect("open jobs");
        if open.values().sum::<u64>() == 0 {
            return;
        }
    }
}

/// One verdict; the lines of each attempt from the first on; the state.
async fn whole<S: Store>(world: &World<S>, workspace: &str, told: &Told) {
    let build = world
        .workspace(workspace)
        .await
        .latest_build
        .expect("a build");
    let id: JobId = build.job_id.parse().expect("an id");
    let job = world.job(id).await;
    let page = world.store.logs_after(ORG.to_owned(), id, 0, 1_000).await;
    let page = page.expect("a page");
    for attempt in 1..=job.attempt {
        let of_attempt = page.lines.iter().filter(|line| line.attempt == attempt);
        // The queue's own words on a failed job are no daemon's.
        let lines = of_attempt.filter_map(|line| line.line.as_ref());
        let lines = lines.filter(|line| line.source() != LogSource::System);
        let seqs: Vec<u64> = lines.map(|line| line.seq).collect();
        let whole = if job.status() == JobStatus::Succeeded && attempt == job.attempt {
            UPDATES * LINES
        } else {
            seqs.len() as u64
        };
        assert_eq!(
            seqs,
            (1..=whole).collect::<Vec<_>>(),
            "attempt {attempt} of {id}"
        );
    }
    let gated = told.gated.contains(&build.job_id);
    match job.status() {
        JobStatus::Succeeded => {
            let state = world.store.state(named(workspace), None).await;
            let blob = state.expect("a state").blob.expect("a blob");
            let digest = Digest::of(build.job_id.as_bytes());
            assert_eq!(blob.sha256, digest.as_bytes(), "the state of {workspace}");
        }
        JobStatus::Failed => {
            let code = job.error.map(|error| error.code);
            assert_eq!(code.as_deref(), Some("ATTEMPTS_EXHAUSTED"), "{id}");
            assert!(!gated, "{id} was behind its gate");
        }
        other => panic!("{id} is {other:?}"),
    }
}

impl Daemon {
    async fn work(mut self) {
        loop {
            let Some(job) = self.acquired().await else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            // Another one has it, and this one is done with it.
            let _fenced = self.run(&job).await;
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let mut put = |key: &'static str, value: &str| {
            let value = value.parse().expect("metadata");
            request.metadata_mut().insert(key, value);
        };
        put("authorization", &format!("Bearer {}", self.key));
        put("x-daemon-name", self.name);
        put("x-daemon-instance", self.name);
        request
    }

    /// A job whose confirm was answered.
    async fn acquired(&mut self) -> Option<v1::Job> {
        let (requests, stream) = mpsc::channel(2);
        let ask = |message| AcquireRequest {
            message: Some(message),
        };
        let acquire = v1::Acquire {
            tags: untagged().into_iter().collect(),
            slots: 1,
            version: "1.0".to_owned(),
            ..v1::Acquire::default()
        };
        requests.send(ask(Ask::Acquire(acquire))).await.ok()?;
        let request = self.request(ReceiverStream::new(stream));
        let replies = self.client.acquire_job(request).await.ok()?;
        let mut replies = replies.into_inner();
        let Some(Answer::Job(job)) = replies.message().await.ok()??.message else {
            return None;
        };
        let confirm = v1::Confirm {
            job_id: job.id.clone(),
            lease_id: lease(&job),
        };
        requests.send(ask(Ask::Confirm(confirm))).await.ok()?;
        match replies.message().await.ok()??.message {
            Some(Answer::Confirmed(_)) => Some(*job),
            Some(Answer::Job(_) | Answer::None(_)) | None => None,
        }
    }

    async fn run(&mut self, job: &v1::Job) -> Result<(), Fenced> {
        let mut stored = 0;
        for counter in 1..=UPDATES {
            let lines = (stored + 1..=counter * LINES).map(|seq| v1::LogLine {
                seq,
                text: format!("line {seq}"),
                ..v1::LogLine::default()
            });
            let update = v1::UpdateJobRequest {
                job_id: job.id.clone(),
                lease_id: lease(job),
                counter,
                lines: lines.collect(),
                gate: counter >= GATE,
                ..v1::UpdateJobRequest::default()
            };
            let reply = self.updated(update).await?;
            stored = reply.stored_seq;
            self.check_gate(job, counter, &reply);
        }
        self.finish(job).await;
        Ok(())
    }

    fn check_gate(&self, job: &v1::Job, counter: u64, reply: &v1::UpdateJobReply) {
        let mut told = self.told.lock().expect("told");
        if counter == GATE && !told.gated.insert(job.id.clone()) {
            told.wrong
                .push(format!("the gate of {} opened twice", job.id));
        }
        if counter >= GATE && !reply.gate_open {
            told.wrong.push(format!("the gate of {} is shut", job.id));
        }
    }

    /// Repeated until it is answered.
    async fn updated(
        &mut self,
        update: v1::UpdateJobRequest,
    ) -> Result<v1::UpdateJobReply, Fenced> {
        loop {
            let request = self.request(update.clone());
            if let Ok(reply) = self.client.update_job(request).await {
                let reply = reply.into_inner();
                return match reply.verdict() {
                    UpdateVerdict::Accepted => Ok(reply),
                    UpdateVerdict::Fenced
                    | UpdateVerdict::UnknownJob
                    | UpdateVerdict::Unspecified => Err(Fenced),
                };
            }
        }
    }

    async fn finish(&mut self, job: &v1::Job) {
        let bytes = job.id.as_bytes().to_vec();
        let blob = v1::BlobRef {
            sha256: Digest::of(&bytes).as_bytes().to_vec(),
            size: bytes.len() as u64,
        };
        let header = v1::PutBlobHeader {
            blob: Some(blob.clone()),
            job_id: job.id.clone(),
            lease_id: lease(job),
        };
        let messages =
            [Put::Header(header), Put::Data(bytes.into())].map(|message| PutBlobRequest {
                message: Some(message),
            });
        loop {
            let request = self.request(tokio_stream::iter(messages.clone()));
            if self.client.put_blob(request).await.is_ok() {
                break;
            }
        }
        let mut finish = v1::FinishJobRequest {
            job_id: job.id.clone(),
            lease_id: lease(job),
            attempt: job.lease.as_ref().map_or(0, |lease| lease.attempt),
            state: Some(v1::Checkpoint {
                blob: Some(blob),
                serial: 1,
                lineage: "life".to_owned(),
                ..v1::Checkpoint::default()
            }),
            ..v1::FinishJobRequest::default()
        };
        finish.set_outcome(v1::Outcome::Succeeded);
        loop {
            let request = self.request(finish.clone());
            let Ok(reply) = self.client.finish_job(request).await else {
                continue;
            };
            let mut told = self.told.lock().expect("told");
            match reply.into_inner().disposition() {
                v1::FinishDisposition::Applied => drop(told.applied.insert(job.id.clone())),
                other => told
                    .wrong
                    .push(format!("the finish of {}: {other:?}", job.id)),
            }
            return;
        }
    }
}

fn lease(job: &v1::Job) -> Vec<u8> {
    job.lease.as_ref().expect("a lease").id.clone()
}
