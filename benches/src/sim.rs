//! A queue in this process and simulated daemons that speak the real protocol to it over
//! loopback, without supervisors, workers or engines.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use proto::ids::Digest;
use proto::v1::acquire_reply::Message as Reply;
use proto::v1::acquire_request::Message as Request;
use proto::v1::fleet_client::FleetClient;
use proto::v1::management_client::ManagementClient;
use proto::v1::{
    Acquire, AcquireRequest, BlobRef, Confirm, ControlEvent, ControlRequest, CreateKeyRequest,
    FinishJobRequest, Job, JobKind, LogLevel, LogLine, LogSource, Outcome, Phase,
    PushTemplateRequest, PutBlobHeader, PutBlobRequest, TemplateFacts, UpdateJobRequest,
    UpdateVerdict, put_blob_request,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// Adds the credential and identity to each call.
#[derive(Clone)]
pub struct Headers(Vec<(&'static str, tonic::metadata::AsciiMetadataValue)>);

impl Interceptor for Headers {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        for (name, value) in &self.0 {
            request.metadata_mut().insert(*name, value.clone());
        }
        Ok(request)
    }
}

/// A management client of the queue under test.
#[derive(Clone)]
pub struct Client {
    /// The generated client.
    pub management: ManagementClient<InterceptedService<Channel, Headers>>,
}

/// A queue on SQLite in a temporary directory.
pub struct Queue {
    service: queue::Service,
    /// Where its data lies.
    pub dir: tempfile::TempDir,
    url: String,
}

impl Queue {
    /// Starts it on a free loopback port.
    pub async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let options = queue::Options::new(dir.path().to_owned(), "127.0.0.1:0".parse()?);
        let service = queue::start(options).await?;
        let url = format!("http://{}", service.grpc_addr());
        Ok(Self { service, dir, url })
    }

    /// A management client with the admin token.
    pub async fn client(&self) -> Result<Client> {
        let token = self.service.admin_token().context("an admin token")?;
        Client::connect(&self.url, token.expose()).await
    }

    /// A provisioner key that carries `tags`.
    pub async fn key(&self, client: &mut Client, tags: BTreeMap<String, String>) -> Result<String> {
        let request = CreateKeyRequest {
            name: "bench".to_owned(),
            tags: tags.into_iter().collect(),
        };
        Ok(client
            .management
            .create_key(request)
            .await?
            .into_inner()
            .key)
    }

    /// A simulated daemon of this name, on a connection of its own.
    pub async fn daemon(&self, key: &str, name: &str) -> Result<SimDaemon> {
        let channel = Channel::from_shared(self.url.clone())?.connect().await?;
        let headers = Headers(vec![
            ("authorization", format!("Bearer {key}").parse()?),
            ("x-daemon-name", name.parse()?),
            ("x-daemon-instance", format!("instance-{name}").parse()?),
        ]);
        Ok(SimDaemon {
            fleet: FleetClient::with_interceptor(channel, headers),
        })
    }

    /// Ends it.
    pub async fn stop(self) {
        self.service.shutdown().await;
    }
}

impl Client {
    /// A management client of a queue elsewhere, on a connection of its own.
    pub async fn connect(url: &str, token: &str) -> Result<Self> {
        let channel = Channel::from_shared(url.to_owned())?.connect().await?;
        let headers = Headers(vec![("authorization", format!("Bearer {token}").parse()?)]);
        Ok(Self {
            management: ManagementClient::with_interceptor(channel, headers)
                .max_decoding_message_size(proto::limits::GRPC_MESSAGE),
        })
    }

    /// Uploads an archive that nobody will unpack.
    pub async fn upload(&mut self, bytes: &[u8]) -> Result<BlobRef> {
        let blob = BlobRef {
            sha256: Digest::of(bytes).as_bytes().to_vec(),
            size: bytes.len() as u64,
        };
        let header = PutBlobRequest {
            message: Some(put_blob_request::Message::Header(PutBlobHeader {
                blob: Some(blob.clone()),
                ..PutBlobHeader::default()
            })),
        };
        let data = PutBlobRequest {
            message: Some(put_blob_request::Message::Data(bytes.to_vec().into())),
        };
        self.management
            .upload(tokio_stream::iter([header, data]))
            .await?;
        Ok(blob)
    }

    /// Submits one import job; the reply comes after COMMIT.
    pub async fn submit(&mut self, archive: &BlobRef) -> Result<()> {
        let request = PushTemplateRequest {
            name: "bench".to_owned(),
            archive: Some(archive.clone()),
            ..PushTemplateRequest::default()
        };
        self.management.push_template(request).await?;
        Ok(())
    }
}

/// One daemon that does nothing with its jobs.
pub struct SimDaemon {
    fleet: FleetClient<InterceptedService<Channel, Headers>>,
}

/// A job handed out and not yet confirmed.
pub struct HandOut {
    /// When it arrived.
    pub at: Instant,
    /// What arrived.
    pub job: Job,
    requests: mpsc::Sender<AcquireRequest>,
    replies: Streaming<proto::v1::AcquireReply>,
}

/// An acquire stream that waits for its answer.
pub struct Waiting {
    requests: mpsc::Sender<AcquireRequest>,
    replies: Streaming<proto::v1::AcquireReply>,
}

impl SimDaemon {
    /// Opens an acquire stream.
    pub async fn acquire(&mut self) -> Result<Waiting> {
        let (requests, receiver) = mpsc::channel(4);
        requests
            .send(message(Request::Acquire(Acquire {
                slots: 1,
                kinds: vec![JobKind::TemplateImport.into()],
                version: "bench".to_owned(),
                ..Acquire::default()
            })))
            .await?;
        let replies = self
            .fleet
            .acquire_job(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        Ok(Waiting { requests, replies })
    }

    /// Confirms, sends `lines` log lines in one update and finishes.
    pub async fn complete(&mut self, hand_out: HandOut, lines: u64) -> Result<()> {
        let job = hand_out.confirm().await?;
        let lease_id = job.lease.as_ref().context("job without lease")?.id.clone();
        self.fleet
            .update_job(UpdateJobRequest {
                job_id: job.id.clone(),
                lease_id: lease_id.clone(),
                counter: 1,
                phase: Phase::Plan.into(),
                lines: (1..=lines).map(line).collect(),
                ..UpdateJobRequest::default()
            })
            .await?;
        self.fleet
            .finish_job(FinishJobRequest {
                job_id: job.id,
                lease_id,
                attempt: 1,
                outcome: Outcome::Succeeded.into(),
                facts: Some(TemplateFacts::default()),
                last_seq: lines,
                ..FinishJobRequest::default()
            })
            .await?;
        Ok(())
    }
}

/// A job in the hands of a simulated daemon, before its gate.
pub struct Held {
    job: Job,
    counter: u64,
    /// Open for as long as the daemon lives.
    _control: Streaming<ControlEvent>,
}

impl SimDaemon {
    /// Takes a job, as a daemon does that goes on to run it.
    pub async fn hold(&mut self) -> Result<Held> {
        let request = ControlRequest {
            slots: 1,
            version: "bench".to_owned(),
            ..ControlRequest::default()
        };
        let control = self.fleet.control(request).await?.into_inner();
        let job = self.acquire().await?.job().await?.confirm().await?;
        Ok(Held {
            job,
            counter: 0,
            _control: control,
        })
    }
}

impl Held {
    /// Renews the lease.
    pub async fn beat(&mut self, daemon: &mut SimDaemon) -> Result<()> {
        self.counter += 1;
        let lease = self.job.lease.as_ref().context("job without lease")?;
        let update = UpdateJobRequest {
            job_id: self.job.id.clone(),
            lease_id: lease.id.clone(),
            counter: self.counter,
            ..UpdateJobRequest::default()
        };
        let reply = daemon.fleet.update_job(update).await?.into_inner();
        match reply.verdict() {
            UpdateVerdict::Accepted => Ok(()),
            verdict => bail!("a heartbeat was answered with {verdict:?}"),
        }
    }
}

impl Waiting {
    /// Waits for a job.
    pub async fn job(mut self) -> Result<HandOut> {
        match self
            .replies
            .message()
            .await?
            .and_then(|reply| reply.message)
        {
            Some(Reply::Job(job)) => Ok(HandOut {
                at: Instant::now(),
                job: *job,
                requests: self.requests,
                replies: self.replies,
            }),
            other => bail!("expected a job, got {other:?}"),
        }
    }
}

impl HandOut {
    /// Takes it.
    pub async fn confirm(mut self) -> Result<Job> {
        let lease_id = self
            .job
            .lease
            .as_ref()
            .context("job without lease")?
            .id
            .clone();
        self.requests
            .send(message(Request::Confirm(Confirm {
                job_id: self.job.id.clone(),
                lease_id,
            })))
            .await?;
        match self
            .replies
            .message()
            .await?
            .and_then(|reply| reply.message)
        {
            Some(Reply::Confirmed(_)) => Ok(self.job),
            other => bail!("expected a confirmation, got {other:?}"),
        }
    }
}

fn message(message: Request) -> AcquireRequest {
    AcquireRequest {
        message: Some(message),
    }
}

fn line(seq: u64) -> LogLine {
    LogLine {
        seq,
        time_ms: 1_700_000_000_000,
        phase: Phase::Plan.into(),
        source: LogSource::Engine.into(),
        level: LogLevel::Info.into(),
        text: format!("terraform_data.machine[{seq}]: Refreshing state... [id=0b3c-{seq}]"),
        more: false,
    }
}
