//! What the machine itself can do, before the load and beside it: a bare gRPC echo and a
//! small durable write. A figure is void when something else slowed the machine down
//! meanwhile: when a probe around the measured window takes more than twice its quiet time
//! in the middle, or when processes that are not ours took much CPU within the window.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use proto::v1::fleet_client::FleetClient;
use proto::v1::fleet_server::{Fleet, FleetServer};
use proto::v1::{self, UpdateJobRequest};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::usage::Spent;
use crate::probe::fdatasync;
use crate::stats::{Series, millis};

/// Calls and writes of one probe.
const ECHOES: usize = 500;
const WRITES: usize = 200;
/// How often quiet is looked for; the middle one counts.
const TRIES: usize = 5;
/// Between two, as there is before those that are compared with it: processors that have
/// just been busy answer twice as quickly.
const PAUSE: Duration = Duration::from_millis(300);
/// Cores that others may take: the kernel's own work for our disk and sockets is in it.
const OTHERS: f64 = 0.25;

/// Both probes, once.
pub struct Pair {
    echo: Series,
    sync: Series,
}

/// See the module.
pub struct Probes {
    url: String,
    dir: PathBuf,
    quiet: Pair,
    /// Its drop ends the echo.
    _stop: oneshot::Sender<()>,
}

impl Probes {
    /// Starts the echo and looks how long both take while nothing of ours runs.
    pub async fn start(dir: &Path) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let url = serve_echo(stopped)?;
        let mut tries = Vec::with_capacity(TRIES);
        for _ in 0..TRIES {
            tokio::time::sleep(PAUSE).await;
            tries.push(probe(url.clone(), dir.to_owned()).await?);
        }
        tries.sort_by_key(Pair::middle);
        Ok(Self {
            url,
            dir: dir.to_owned(),
            quiet: tries.swap_remove(TRIES / 2),
            _stop: stop,
        })
    }

    /// Both, now: before and after a measured window, the fleet standing by.
    pub async fn probe(&self) -> Result<Pair> {
        probe(self.url.clone(), self.dir.clone()).await
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

async fn probe(url: String, dir: PathBuf) -> Result<Pair> {
    tokio::task::spawn_blocking(move || {
        let echo = runtime()?.block_on(echoes(url))?;
        let sync = fdatasync(&dir, WRITES)?;
        Ok(Pair { echo, sync })
    })
    .await?
}

/// Caller and server have a thread each, as a daemon and a queue have: among the threads of
/// the load it would be chance whether a call has to wake another one, which doubles it.
fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// Serves until the other end of `stopped` is dropped; its address.
fn serve_echo(stopped: oneshot::Receiver<()>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let url = format!("http://{}", listener.local_addr()?);
    let runtime = runtime()?;
    std::thread::Builder::new()
        .name("echo".to_owned())
        .spawn(move || {
            if let Err(error) = runtime.block_on(serve(listener, stopped)) {
                eprintln!("the bare echo ended: {error}");
            }
        })?;
    Ok(url)
}

async fn serve(listener: TcpListener, stopped: oneshot::Receiver<()>) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder().add_service(FleetServer::new(Echo));
    let end = async {
        let _dropped = stopped.await;
    };
    server.serve_with_incoming_shutdown(incoming, end).await?;
    Ok(())
}

async fn echoes(url: String) -> Result<Series> {
    let mut client = FleetClient::connect(url).await?;
    let mut echo = Series::default();
    for _ in 0..ECHOES {
        let start = Instant::now();
        client.update_job(UpdateJobRequest::default()).await?;
        echo.push(start.elapsed());
    }
    Ok(echo)
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
