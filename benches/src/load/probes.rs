//! What the machine itself can do, before the load and beside it: a bare gRPC echo and a
//! small durable write. A figure is void when something else slowed the machine down
//! meanwhile: when a probe around the measured window takes more than twice its quiet time
//! in the middle, or when processes that are not ours took much CPU within the window.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use proto::v1::fleet_client::FleetClient;
use proto::v1::fleet_server::{Fleet, FleetServer};
use proto::v1::{self, UpdateJobRequest};
use serde_json::{Value, json};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::usage::Spent;
use crate::probe::fdatasync;
use crate::stats::{Series, millis};

/// Calls and writes of one probe.
const ECHOES: usize = 500;
const WRITES: usize = 200;
/// How often quiet is looked for; the quietest counts.
const TRIES: usize = 3;
/// Cores that others may take: the kernel's own work for our disk and sockets is in it.
const OTHERS: f64 = 0.25;

/// Both probes, once.
pub struct Pair {
    echo: Series,
    sync: Series,
}

/// See the module.
pub struct Probes {
    echo: FleetClient<Channel>,
    dir: PathBuf,
    quiet: Pair,
}

impl Probes {
    /// Starts the echo and looks how long both take while nothing of ours runs.
    pub async fn start(dir: &Path) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let server = tonic::transport::Server::builder().add_service(FleetServer::new(Echo));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let mut probes = Self {
            echo: FleetClient::new(Channel::from_shared(url)?.connect().await?),
            dir: dir.to_owned(),
            quiet: Pair {
                echo: Series::default(),
                sync: Series::default(),
            },
        };
        for _ in 0..TRIES {
            let now = probes.probe().await?;
            if probes.quiet.echo.len() == 0 || now.middle() < probes.quiet.middle() {
                probes.quiet = now;
            }
        }
        Ok(probes)
    }

    /// Both, now: before and after a measured window, the fleet standing by.
    pub async fn probe(&self) -> Result<Pair> {
        let mut client = self.echo.clone();
        let mut echo = Series::default();
        for _ in 0..ECHOES {
            let start = Instant::now();
            client.update_job(UpdateJobRequest::default()).await?;
            echo.push(start.elapsed());
        }
        let sync = tokio::task::block_in_place(|| fdatasync(&self.dir, WRITES))?;
        Ok(Pair { echo, sync })
    }

    /// Why what was measured between these probes says nothing, if so.
    pub fn void(&self, around: &[Pair], spent: &Spent) -> Option<String> {
        let others = spent.cores(spent.others);
        if others > OTHERS {
            return Some(format!("others took {others:.2} of a core"));
        }
        let slow = |name: &str, now: Duration, quiet: Duration| {
            let (now, quiet) = (millis(now), millis(quiet));
            (now > quiet * 2.0).then(|| format!("{name} took {now} ms, quiet {quiet} ms"))
        };
        around.iter().find_map(|pair| {
            let quiet = &self.quiet;
            slow(
                "the echo",
                pair.echo.quantile(0.5),
                quiet.echo.quantile(0.5),
            )
            .or_else(|| {
                slow(
                    "fdatasync",
                    pair.sync.quantile(0.5),
                    quiet.sync.quantile(0.5),
                )
            })
        })
    }

    /// The quiet ones.
    pub fn json(&self) -> Value {
        self.quiet.json()
    }
}

impl Pair {
    fn middle(&self) -> Duration {
        self.echo.quantile(0.5)
    }

    /// For the document.
    pub fn json(&self) -> Value {
        json!({ "grpc_echo": self.echo.summary(), "fdatasync": self.sync.summary() })
    }
}

/// Answers an update with nothing; no other call is meant for it.
struct Echo;

type Nothing<T> = ReceiverStream<Result<T, Status>>;

fn only_updates<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("an echo of updates"))
}

#[tonic::async_trait]
impl Fleet for Echo {
    type AcquireJobStream = Nothing<v1::AcquireReply>;
    type GetBlobStream = Nothing<v1::BlobChunk>;
    type ControlStream = Nothing<v1::ControlEvent>;

    async fn acquire_job(
        &self,
        _: Request<Streaming<v1::AcquireRequest>>,
    ) -> Result<Response<Self::AcquireJobStream>, Status> {
        only_updates()
    }

    async fn update_job(
        &self,
        _: Request<UpdateJobRequest>,
    ) -> Result<Response<v1::UpdateJobReply>, Status> {
        Ok(Response::new(v1::UpdateJobReply::default()))
    }

    async fn finish_job(
        &self,
        _: Request<v1::FinishJobRequest>,
    ) -> Result<Response<v1::FinishJobReply>, Status> {
        only_updates()
    }

    async fn get_blob(
        &self,
        _: Request<v1::GetBlobRequest>,
    ) -> Result<Response<Self::GetBlobStream>, Status> {
        only_updates()
    }

    async fn put_blob(
        &self,
        _: Request<Streaming<v1::PutBlobRequest>>,
    ) -> Result<Response<v1::PutBlobReply>, Status> {
        only_updates()
    }

    async fn control(
        &self,
        _: Request<v1::ControlRequest>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        only_updates()
    }

    async fn acquire_now(
        &self,
        _: Request<v1::AcquireNowRequest>,
    ) -> Result<Response<v1::AcquireNowReply>, Status> {
        only_updates()
    }

    async fn confirm_job(
        &self,
        _: Request<v1::ConfirmJobRequest>,
    ) -> Result<Response<v1::ConfirmJobReply>, Status> {
        only_updates()
    }

    async fn get_blob_part(
        &self,
        _: Request<v1::GetBlobPartRequest>,
    ) -> Result<Response<v1::GetBlobPartReply>, Status> {
        only_updates()
    }

    async fn put_blob_part(
        &self,
        _: Request<v1::PutBlobPartRequest>,
    ) -> Result<Response<v1::PutBlobPartReply>, Status> {
        only_updates()
    }

    async fn control_now(
        &self,
        _: Request<v1::ControlRequest>,
    ) -> Result<Response<v1::ControlNowReply>, Status> {
        only_updates()
    }
}
