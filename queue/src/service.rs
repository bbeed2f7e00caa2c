//! A running queue: made by [`start`], ended by [`Service::shutdown`].
//!
//! Everything that can fail for the person who starts it fails before anything is
//! served: directory, lock, store, TLS files, addresses.

mod open;

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use proto::limits;
use proto::secret::Secret;
use proto::v1::fleet_server::FleetServer;
use proto::v1::management_server::ManagementServer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Server;
use tonic::transport::server::{Router, TcpIncoming};

use crate::background;
use crate::blobs::Used;
use crate::data_dir::DataDir;
use crate::error::Error;
use crate::fleet::FleetService;
use crate::http;
use crate::listen;
use crate::management::ManagementService;
use crate::options::{Database, Options};
use crate::shared::Shared;
use crate::store::Store;

/// How long calls in flight may go on once the queue stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Streams of one connection: a daemon has one per slot, and some for blobs.
const STREAMS: u32 = limits::SLOTS + 200;

/// Request headers: credentials, identity and trace context, all short.
const HEADERS: u32 = 16 * 1024;

/// A dead path is noticed after the sum of the two.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// See [`KEEPALIVE`].
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A queue that listens and works until it is shut down.
#[derive(Debug)]
pub struct Service {
    grpc_addr: SocketAddr,
    http_addr: Option<SocketAddr>,
    admin_token: Option<Secret>,
    shared: Box<dyn Running>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    directory: DataDir,
    /// A service that is dropped without `shutdown` stops as well, without waiting.
    _stop: DropGuard,
}

/// Opens the store, binds the listeners and starts to serve.
///
/// # Errors
/// One clear reason: directory, lock, disk, address, TLS files.
pub async fn start(options: Options) -> Result<Service, Error> {
    listen::check_plain(&options)?;
    let server = server(&options).await?;
    let grpc = listen::bind(options.listen).await?;
    let http = match options.http_listen {
        Some(address) => Some(listen::bind(address).await?),
        None => None,
    };
    let grpc_addr = local_addr(&grpc, options.listen)?;
    let http_addr = match (&http, options.http_listen) {
        (Some(http), Some(asked)) => Some(local_addr(http, asked)?),
        (Some(_), None) | (None, _) => None,
    };
    let bound = Bound {
        server,
        grpc,
        http,
        grpc_addr,
        http_addr,
    };
    match options.database.clone() {
        Database::Embedded => {
            let (directory, store) = open::embedded(&options).await?;
            begin(options, bound, directory, store, Used::Alone).await
        }
        Database::Postgres(database) => {
            let (directory, store) = open::shared(&options, &database).await?;
            let path = open::blob_dir(&options, &directory);
            open::check_place(&store, path).await?;
            begin(options, bound, directory, store, Used::ByReplicas).await
        }
    }
}

/// What is ready to serve.
struct Bound {
    server: Server,
    grpc: TcpListener,
    http: Option<TcpListener>,
    grpc_addr: SocketAddr,
    http_addr: Option<SocketAddr>,
}

/// Starts to serve from an open store.
async fn begin<S: Store>(
    options: Options,
    bound: Bound,
    directory: DataDir,
    store: S,
    used: Used,
) -> Result<Service, Error> {
    let access_url = options.access_url.clone().unwrap_or_else(|| {
        let scheme = if options.tls.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", bound.grpc_addr)
    });
    let path = open::blob_dir(&options, &directory);
    let blobs = open::blobs(&store, path, used).await?;
    let admin_token = open::admin_token(&directory, &store, used).await?;
    let events = store.subscribe();
    let shared = Shared::new(store, blobs, options.analyzer, options.timings, access_url);
    background::start(&shared, events);
    if let Some(http) = bound.http {
        shared.spawn("http", http::serve(shared.clone(), http));
    }
    let server = serve(bound.server, &shared, bound.grpc);
    let stop = shared.stopping.clone().drop_guard();
    Ok(Service {
        grpc_addr: bound.grpc_addr,
        http_addr: bound.http_addr,
        admin_token,
        shared: Box::new(shared),
        server,
        directory,
        _stop: stop,
    })
}

/// What of [`Shared`] does not depend on its store.
trait Running: std::fmt::Debug + Send + Sync {
    fn stopping(&self) -> &CancellationToken;
    fn finished(&self, limit: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

impl<S: Store> Running for Shared<S> {
    fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    fn finished(&self, limit: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(Shared::finished(self, limit))
    }
}

impl Service {
    /// Where gRPC listens, with the port that was taken.
    #[must_use]
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc_addr
    }

    /// Where health and metrics listen.
    #[must_use]
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// The admin token of this queue, as written to `admin.token`; none on a replica
    /// whose database got its admin token from another one.
    #[must_use]
    pub fn admin_token(&self) -> Option<&Secret> {
        self.admin_token.as_ref()
    }

    /// Stops accepting, ends acquire streams with `none` ("restarting") and all other
    /// streams as unavailable, waits a bounded time for calls in flight, and closes the
    /// store. What is answered is durable; nothing else is lost by it.
    pub async fn shutdown(self) {
        self.shared.stopping().cancel();
        let mut server = self.server;
        // After `wait` has returned there is nothing left to wait for.
        if !server.is_finished() && tokio::time::timeout(DRAIN, &mut server).await.is_err() {
            server.abort();
        }
        self.shared.finished(DRAIN).await;
        drop(self.shared);
        // Last: only now may another process take the directory.
        drop(self.directory);
    }

    /// Returns when the queue has ended by itself, which is always an error.
    ///
    /// # Errors
    /// Why it ended. Cancel safe.
    pub async fn wait(&mut self) -> Result<(), Error> {
        match (&mut self.server).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::Server(error)),
            Err(join) => Err(Error::Panicked(join)),
        }
    }
}

/// The gRPC server with its limits, before it has services.
async fn server(options: &Options) -> Result<Server, Error> {
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADERS)
        .max_concurrent_streams(STREAMS);
    match &options.tls {
        Some(files) => server
            .tls_config(listen::tls(files).await?)
            .map_err(Error::Tls),
        None => Ok(server),
    }
}

fn serve<S: Store>(
    server: Server,
    shared: &Shared<S>,
    listener: TcpListener,
) -> JoinHandle<Result<(), tonic::transport::Error>> {
    let router = services(server, shared);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let stopping = shared.stopping.clone();
    tokio::spawn(async move {
        router
            .serve_with_incoming_shutdown(incoming, async move { stopping.cancelled().await })
            .await
    })
}

fn services<S: Store>(mut server: Server, shared: &Shared<S>) -> Router {
    let fleet = FleetServer::new(FleetService(shared.clone()))
        .max_decoding_message_size(limits::GRPC_MESSAGE)
        .max_encoding_message_size(limits::GRPC_MESSAGE);
    let management = ManagementServer::new(ManagementService(shared.clone()))
        .max_decoding_message_size(limits::GRPC_MESSAGE)
        .max_encoding_message_size(limits::GRPC_MESSAGE);
    server.add_service(fleet).add_service(management)
}

fn local_addr(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, Error> {
    listener
        .local_addr()
        .map_err(|source| Error::Listen { address, source })
}
