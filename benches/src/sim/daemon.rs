//! One daemon that does nothing with its jobs.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use proto::v1::acquire_reply::Message as Reply;
use proto::v1::acquire_request::Message as Request;
use proto::v1::fleet_client::FleetClient;
use proto::v1::{
    Acquire, AcquireReply, AcquireRequest, Confirm, ControlEvent, ControlRequest, Job, LogLevel,
    LogLine, LogSource, Phase, UpdateJobRequest, UpdateVerdict,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::{Headers, Named};

/// See the module; clones share its connection.
#[derive(Clone)]
pub struct SimDaemon {
    /// The generated client.
    pub fleet: FleetClient<Named>,
    tags: Vec<(String, String)>,
}

/// A job handed out and not yet confirmed.
pub struct HandOut {
    /// When it arrived.
    pub at: Instant,
    /// What arrived.
    pub job: Job,
    requests: mpsc::Sender<AcquireRequest>,
    replies: Streaming<AcquireReply>,
}

/// An acquire stream that waits for its answer.
pub struct Waiting {
    requests: mpsc::Sender<AcquireRequest>,
    replies: Streaming<AcquireReply>,
}

/// What an acquire stream brought.
pub enum Answer {
    /// A job, to be confirmed.
    Job(Box<HandOut>),
    /// Nothing; the next stream may bring one.
    None,
}

impl SimDaemon {
    /// On this connection, with a provisioner key.
    pub fn over(channel: Channel, key: &str, name: &str) -> Result<Self> {
        let headers = Headers(vec![
            ("authorization", format!("Bearer {key}").parse()?),
            ("x-daemon-name", name.parse()?),
            ("x-daemon-instance", format!("instance-{name}").parse()?),
        ]);
        Ok(Self {
            fleet: FleetClient::with_interceptor(channel, headers)
                .max_decoding_message_size(proto::limits::GRPC_MESSAGE),
            tags: Vec::new(),
        })
    }

    /// The same with tags.
    pub fn tagged(mut self, tags: &[(String, String)]) -> Self {
        self.tags = tags.to_vec();
        self
    }

    /// Opens the control stream.
    pub async fn control(&mut self) -> Result<Streaming<ControlEvent>, Status> {
        let request = ControlRequest {
            slots: 1,
            version: "bench".to_owned(),
            tags: self.tags.iter().cloned().collect(),
            ..ControlRequest::default()
        };
        Ok(self.fleet.control(request).await?.into_inner())
    }

    /// Opens an acquire stream.
    pub async fn acquire(&mut self) -> Result<Waiting, Status> {
        let (requests, receiver) = mpsc::channel(4);
        let acquire = Acquire {
            slots: 1,
            version: "bench".to_owned(),
            tags: self.tags.iter().cloned().collect(),
            ..Acquire::default()
        };
        // It has room for four.
        let _fits = requests.try_send(message(Request::Acquire(acquire)));
        let opened = self.fleet.acquire_job(ReceiverStream::new(receiver));
        let replies = opened.await?.into_inner();
        Ok(Waiting { requests, replies })
    }

    /// Takes a job, as a daemon does that goes on to run it.
    pub async fn hold(&mut self) -> Result<Held> {
        let control = self.control().await?;
        let job = self.acquire().await?.job().await?.confirm().await?;
        Ok(Held {
            job,
            counter: 0,
            _control: control,
        })
    }
}

/// A job in the hands of a simulated daemon, before its gate.
pub struct Held {
    job: Job,
    counter: u64,
    /// Open for as long as the daemon lives.
    _control: Streaming<ControlEvent>,
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
    /// Waits for the answer.
    pub async fn answer(mut self) -> Result<Answer, Status> {
        let reply = self.replies.message().await?;
        match reply.and_then(|reply| reply.message) {
            Some(Reply::Job(job)) => Ok(Answer::Job(Box::new(HandOut {
                at: Instant::now(),
                job: *job,
                requests: self.requests,
                replies: self.replies,
            }))),
            Some(Reply::None(_) | Reply::Confirmed(_)) => Ok(Answer::None),
            None => Err(Status::unavailable("the stream ended without an answer")),
        }
    }

    /// Waits for a job.
    pub async fn job(self) -> Result<HandOut> {
        match self.answer().await? {
            Answer::Job(hand_out) => Ok(*hand_out),
            Answer::None => bail!("expected a job, got none"),
        }
    }
}

impl HandOut {
    /// Takes it.
    pub async fn confirm(mut self) -> Result<Job> {
        let lease = self.job.lease.as_ref().context("job without lease")?;
        let confirm = Confirm {
            job_id: self.job.id.clone(),
            lease_id: lease.id.clone(),
        };
        self.requests
            .send(message(Request::Confirm(confirm)))
            .await?;
        let reply = self.replies.message().await?;
        match reply.and_then(|reply| reply.message) {
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

/// A line such as engines print, of about 75 bytes.
pub fn line(seq: u64) -> LogLine {
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
