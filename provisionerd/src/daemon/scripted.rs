//! A queue for tests that does what the real one cannot be made to do on demand: break
//! a transfer half way, not answer a finish, refuse for good. It remembers what it was
//! told.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use proto::limits;
use proto::v1::fleet_server::Fleet;
use proto::v1::*;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

mod bench;

pub use bench::{Bench, bench, context, job, options, until};

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
    /// Finishes for which there is no room before one is stored.
    pub full: AtomicU32,
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

fn blob_missing() -> Status {
    let mut status = Status::failed_precondition("scripted loss");
    let code = "BLOB_MISSING".parse().expect("metadata");
    status.metadata_mut().insert("x-error-code", code);
    status
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
            return Err(blob_missing());
        }
        if self.0.refuses.load(Ordering::SeqCst) {
            return Err(Status::invalid_argument("scripted refusal"));
        }
        let full = &self.0.full;
        let full = full.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if full.is_ok() {
            return Err(Status::resource_exhausted("scripted allowance"));
        }
        let finish = request.into_inner();
        if finish.brought.is_some() && self.0.old.load(Ordering::SeqCst) {
            // It does not see the bytes.
            return Err(blob_missing());
        }
        self.0.finishes.lock().expect("finishes").push(finish);
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
