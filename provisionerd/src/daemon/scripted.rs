//! A queue for tests that does what the real one cannot be made to do on demand: break
//! a transfer half way, not answer a finish, refuse for good. It remembers what it was
//! told.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::limits;
use proto::secret::Secret;
use proto::timings::Timings;
use proto::v1::fleet_server::{Fleet, FleetServer};
use proto::v1::*;
use tokio::sync::{Semaphore, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::context::{Context, Counts, Jobs};
use super::data_dir::DataDir;
use super::engines::Engines;
use super::leave::Order;
use super::tasks::Tasks;
use super::{EngineChoice, Lifetime, Options, Registry, binds, shutdown};
use crate::connect::{ClientTls, Credentials, Target};

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the queue was told and how it behaves.
#[derive(Default)]
pub struct Script {
    /// Calls that fail as unavailable before one succeeds.
    pub outages: AtomicU32,
    /// Finishes that are refused for their key before one succeeds.
    pub locked_out: AtomicU32,
    /// Finishes whose state is missing before one has it.
    pub misses: AtomicU32,
    /// Finishes are refused as invalid.
    pub refuses: AtomicBool,
    /// Updates are about a job that nobody knows.
    pub knows_nothing: AtomicBool,
    /// The one blob, and after how many bytes each transfer of it breaks.
    pub blob: Mutex<(Vec<u8>, usize)>,
    /// Offsets that were asked for.
    pub offsets: Mutex<Vec<u64>>,
    /// All of it.
    pub updates: Mutex<Vec<UpdateJobRequest>>,
    /// All of it.
    pub finishes: Mutex<Vec<FinishJobRequest>>,
    /// All of it.
    pub puts: Mutex<Vec<Vec<u8>>>,
    /// Chunks that came packed.
    pub packed: AtomicU32,
    /// Packed chunks are not understood.
    pub old: AtomicBool,
    /// Jobs to hand out, the last first.
    pub jobs: Mutex<Vec<Job>>,
    /// Acquire streams open now, and the most there ever were.
    pub streams: (AtomicU64, AtomicU64),
    /// Parts that came of a blob.
    pub parts: Mutex<Vec<u8>>,
    /// Control streams are held back.
    pub unary: AtomicBool,
    /// Short calls of control, and what they answer.
    pub polls: AtomicU32,
    pub drains: AtomicBool,
    pub cancels: Mutex<Vec<CancelJob>>,
    /// A cancel came in on an acquire stream.
    pub cancelled: CancellationToken,
}

struct Served(Arc<Script>);

impl Served {
    fn outage(&self) -> Result<(), Status> {
        let left = &self.0.outages;
        let down = left.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match down {
            Ok(_) => Err(Status::unavailable("scripted outage")),
            Err(_) => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl Fleet for Served {
    type AcquireJobStream = Replies<AcquireReply>;
    type GetBlobStream = Replies<BlobChunk>;
    type ControlStream = Replies<ControlEvent>;

    async fn acquire_job(
        &self,
        request: Request<Streaming<AcquireRequest>>,
    ) -> Result<Response<Self::AcquireJobStream>, Status> {
        self.outage()?;
        if self.0.refuses.load(Ordering::SeqCst) {
            return Err(Status::permission_denied("scripted refusal"));
        }
        let (replies, stream) = tokio::sync::mpsc::channel(2);
        let script = self.0.clone();
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            let open = script.streams.0.fetch_add(1, Ordering::SeqCst) + 1;
            script.streams.1.fetch_max(open, Ordering::SeqCst);
            let job = script.jobs.lock().expect("jobs").pop();
            let say = |message| {
                let reply = AcquireReply {
                    message: Some(message),
                };
                replies.send(Ok(reply))
            };
            if let Some(job) = job {
                let lease = job.lease.clone();
                let _ = say(acquire_reply::Message::Job(Box::new(job))).await;
                while let Ok(Some(request)) = requests.message().await {
                    if let Some(acquire_request::Message::Confirm(_)) = request.message {
                        let confirmed = Confirmed {
                            lease: lease.clone(),
                        };
                        let _ = say(acquire_reply::Message::Confirmed(confirmed)).await;
                        break;
                    }
                }
            } else {
                while let Ok(Some(request)) = requests.message().await {
                    if let Some(acquire_request::Message::Cancel(_)) = request.message {
                        script.cancelled.cancel();
                        let _ = say(acquire_reply::Message::None(None::default())).await;
                    }
                }
            }
            script.streams.0.fetch_sub(1, Ordering::SeqCst);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn update_job(
        &self,
        request: Request<UpdateJobRequest>,
    ) -> Result<Response<UpdateJobReply>, Status> {
        self.outage()?;
        self.0
            .updates
            .lock()
            .expect("updates")
            .push(request.into_inner());
        Ok(Response::new(UpdateJobReply {
            verdict: match self.0.knows_nothing.load(Ordering::SeqCst) {
                true => UpdateVerdict::UnknownJob.into(),
                false => UpdateVerdict::Accepted.into(),
            },
            ..UpdateJobReply::default()
        }))
    }

    async fn finish_job(
        &self,
        request: Request<FinishJobRequest>,
    ) -> Result<Response<FinishJobReply>, Status> {
        self.outage()?;
        let left = &self.0.locked_out;
        let locked = left.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if locked.is_ok() {
            return Err(Status::unauthenticated("scripted lockout"));
        }
        let left = &self.0.misses;
        let missing = left.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if missing.is_ok() {
            let mut status = Status::failed_precondition("scripted loss");
            let code = "BLOB_MISSING".parse().expect("metadata");
            status.metadata_mut().insert("x-error-code", code);
            return Err(status);
        }
        if self.0.refuses.load(Ordering::SeqCst) {
            return Err(Status::invalid_argument("scripted refusal"));
        }
        self.0
            .finishes
            .lock()
            .expect("finishes")
            .push(request.into_inner());
        Ok(Response::new(FinishJobReply {
            disposition: FinishDisposition::Applied.into(),
        }))
    }

    async fn get_blob(
        &self,
        request: Request<GetBlobRequest>,
    ) -> Result<Response<Self::GetBlobStream>, Status> {
        let offset = request.into_inner().offset;
        self.0.offsets.lock().expect("offsets").push(offset);
        let (blob, cut) = self.0.blob.lock().expect("blob").clone();
        let from = usize::try_from(offset).expect("small");
        let data: Vec<u8> = blob[from..].iter().copied().take(cut).collect();
        let ends_well = from + data.len() == blob.len();
        let mut chunks = vec![Ok(BlobChunk { data: data.into() })];
        if !ends_well {
            chunks.push(Err(Status::unavailable("scripted break")));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    async fn put_blob(
        &self,
        request: Request<Streaming<PutBlobRequest>>,
    ) -> Result<Response<PutBlobReply>, Status> {
        self.outage()?;
        let mut requests = request.into_inner();
        let mut bytes = Vec::new();
        while let Some(request) = requests.message().await? {
            match request.message {
                Some(put_blob_request::Message::Data(data)) => bytes.extend_from_slice(&data),
                Some(put_blob_request::Message::Zstd(_)) if self.0.old.load(Ordering::SeqCst) => {
                    return Err(Status::invalid_argument("only data may follow"));
                }
                Some(put_blob_request::Message::Zstd(frame)) => {
                    self.0.packed.fetch_add(1, Ordering::SeqCst);
                    let data = zstd::bulk::decompress(&frame, limits::BLOB_CHUNK);
                    bytes.extend_from_slice(&data.expect("a frame"));
                }
                Some(put_blob_request::Message::Header(_)) | None => {}
            }
        }
        self.0.puts.lock().expect("puts").push(bytes);
        Ok(Response::new(PutBlobReply { stored: true }))
    }

    async fn control(
        &self,
        _: Request<ControlRequest>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        if self.0.unary.load(Ordering::SeqCst) {
            // As behind a proxy that waits for the answer's end.
            return std::future::pending().await;
        }
        Ok(Response::new(Box::pin(tokio_stream::pending())))
    }

    async fn acquire_now(
        &self,
        _: Request<AcquireNowRequest>,
    ) -> Result<Response<AcquireNowReply>, Status> {
        self.outage()?;
        let job = self.0.jobs.lock().expect("jobs").last().cloned();
        let message = match job {
            Some(job) => acquire_now_reply::Message::Job(Box::new(job)),
            None => acquire_now_reply::Message::None(None::default()),
        };
        Ok(Response::new(AcquireNowReply {
            message: Some(message),
        }))
    }

    async fn confirm_job(
        &self,
        request: Request<ConfirmJobRequest>,
    ) -> Result<Response<ConfirmJobReply>, Status> {
        self.outage()?;
        let id = request.into_inner().job_id;
        let mut jobs = self.0.jobs.lock().expect("jobs");
        let job = jobs.pop_if(|job| job.id == id);
        let lease = job.and_then(|job| job.lease);
        match lease {
            Some(lease) => Ok(Response::new(ConfirmJobReply { lease: Some(lease) })),
            None => Err(Status::failed_precondition("scripted: no such offer")),
        }
    }

    async fn get_blob_part(
        &self,
        request: Request<GetBlobPartRequest>,
    ) -> Result<Response<GetBlobPartReply>, Status> {
        self.outage()?;
        let offset = request.into_inner().offset;
        self.0.offsets.lock().expect("offsets").push(offset);
        let (blob, cut) = self.0.blob.lock().expect("blob").clone();
        let from = usize::try_from(offset).expect("small");
        let data: Vec<u8> = blob[from..].iter().copied().take(cut).collect();
        Ok(Response::new(GetBlobPartReply { data: data.into() }))
    }

    async fn put_blob_part(
        &self,
        request: Request<PutBlobPartRequest>,
    ) -> Result<Response<PutBlobPartReply>, Status> {
        self.outage()?;
        let request = request.into_inner();
        let header = request.header.unwrap_or_default();
        let data = match request.part {
            Some(put_blob_part_request::Part::Data(data)) => data.to_vec(),
            Some(put_blob_part_request::Part::Zstd(frame)) => {
                self.0.packed.fetch_add(1, Ordering::SeqCst);
                zstd::bulk::decompress(&frame, limits::BLOB_PART).expect("a frame")
            }
            None => Vec::new(),
        };
        let mut parts = self.0.parts.lock().expect("parts");
        self.0.offsets.lock().expect("offsets").push(request.offset);
        if parts.len() as u64 == request.offset {
            parts.extend_from_slice(&data);
        }
        let whole = header.blob.unwrap_or_default();
        if parts.len() as u64 == whole.size {
            let bytes = std::mem::take(&mut *parts);
            if proto::ids::Digest::of(&bytes).as_bytes() != whole.sha256.as_slice() {
                let mut status = Status::invalid_argument("scripted mismatch");
                let code = "BLOB_MISMATCH".parse().expect("metadata");
                status.metadata_mut().insert("x-error-code", code);
                return Err(status);
            }
            self.0.puts.lock().expect("puts").push(bytes);
            return Ok(Response::new(PutBlobPartReply {
                received: whole.size,
            }));
        }
        Ok(Response::new(PutBlobPartReply {
            received: parts.len() as u64,
        }))
    }

    async fn control_now(
        &self,
        _: Request<ControlRequest>,
    ) -> Result<Response<ControlNowReply>, Status> {
        self.outage()?;
        self.0.polls.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(ControlNowReply {
            draining: self.0.drains.load(Ordering::SeqCst),
            cancels: self.0.cancels.lock().expect("cancels").clone(),
        }))
    }
}

/// A daemon's context on a scripted queue, in a directory of its own.
pub struct Bench {
    pub script: Arc<Script>,
    pub context: Arc<Context>,
    pub dir: tempfile::TempDir,
}

/// Serves `script` and connects a daemon to it.
pub async fn bench(slots: u32) -> Bench {
    let script = Arc::new(Script::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    let server = tonic::transport::Server::builder()
        .add_service(FleetServer::new(Served(script.clone())))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    let dir = tempfile::tempdir().expect("dir");
    let context = context(options(url, slots, dir.path()));
    Bench {
        script,
        context,
        dir,
    }
}

pub fn options(url: String, slots: u32, data_dir: &std::path::Path) -> Options {
    Options {
        target: Target {
            url,
            tls: ClientTls::default(),
        },
        key: Secret::new("key".into()),
        name: "scripted".into(),
        tags: [("region".to_owned(), "test".to_owned())].into(),
        slots,
        data_dir: data_dir.to_owned(),
        engine: EngineChoice::Auto,
        provider_mirrors: Vec::new(),
        direct: Registry::Refused,
        lifetime: Lifetime::Unlimited,
        drain_deadline: Duration::from_secs(60),
        cancel_grace: Duration::from_secs(60),
        job_memory: super::JobMemory::Unlimited,
        binds: Vec::new(),
        engine_env: Vec::new(),
        http_listen: None,
        timings: Timings::default().divided(4),
        exe: "/nowhere/provisionerd".into(),
    }
}

/// A context that can start no processes.
pub fn context(options: Options) -> Arc<Context> {
    let (trigger, _) = shutdown::channel();
    let credentials = Credentials::daemon(&options.key, &options.name, "i").expect("header");
    let client = || credentials.fleet(options.target.channel().expect("channel"));
    Arc::new(Context {
        client: client(),
        bulk: client(),
        data: DataDir::open(&options.data_dir).expect("data directory"),
        engines: Engines::none(),
        sandbox: String::new(),
        job_memory: None,
        binds: binds::Binds::default(),
        jobs: Jobs::default(),
        lately: super::lately::Lately::default(),
        slots: Arc::new(Semaphore::new(usize::try_from(options.slots).expect("few"))),
        collectors: Semaphore::new(limits::COLLECTORS),
        orders: watch::channel(Order::Work).1,
        tasks: Tasks::new(trigger.clone()),
        work: Tasks::new(trigger.clone()),
        trigger,
        seen: super::seen::Seen::default(),
        counts: Counts::default(),
        closing: CancellationToken::new(),
        revoked: AtomicBool::new(false),
        unpacks: AtomicBool::new(false),
        way: super::way::Way::new(&options.timings),
        options,
    })
}

/// A job under a lease.
pub fn job() -> Job {
    Job {
        id: proto::ids::JobId::generate().to_string(),
        lease: Some(Lease {
            id: vec![7; 16],
            attempt: 1,
            ttl_ms: 10_000,
            trusted_ms: 10_000,
        }),
        archive: Some(BlobRef::default()),
        ..Job::default()
    }
}

/// Waits for a condition, at most ten seconds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain: {what}");
}
