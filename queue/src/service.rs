//! A running queue: made by [`start`], ended by [`Service::shutdown`].
//!
//! Everything that can fail for the person who starts it fails before anything is
//! served: directory, lock, store, TLS files, addresses.

use std::net::SocketAddr;
use std::time::Duration;

use proto::credential::{Credential, hash};
use proto::limits;
use proto::secret::Secret;
use proto::v1::fleet_server::FleetServer;
use proto::v1::management_server::ManagementServer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::DropGuard;
use tonic::transport::Server;
use tonic::transport::server::{Router, TcpIncoming};

use crate::background;
use crate::blobs::Blobs;
use crate::data_dir::DataDir;
use crate::error::Error;
use crate::fleet::FleetService;
use crate::http;
use crate::listen;
use crate::management::ManagementService;
use crate::options::Options;
use crate::shared::Shared;
use crate::store::model::{NewToken, Role};
use crate::store::sqlite::{Sqlite, TimeSource};
use crate::store::{self, Store};

/// How long calls in flight may go on once the queue stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Streams of one connection: a daemon has one per slot, and some for blobs.
const STREAMS: u32 = limits::SLOTS + 200;

/// Request headers: credentials, identity and trace context, all short.
const HEADERS: u32 = 16 * 1024;

/// A dead path is noticed after the sum of the two.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// See [`KEEPALIVE`].
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Name and owner of the first token.
const ADMIN: &str = "admin";

/// A queue that listens and works until it is shut down.
#[derive(Debug)]
pub struct Service {
    grpc_addr: SocketAddr,
    http_addr: Option<SocketAddr>,
    admin_token: Secret,
    shared: Shared<Sqlite>,
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
    let access_url = options.access_url.clone().unwrap_or_else(|| {
        let scheme = if options.tls.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{grpc_addr}")
    });
    let (directory, store, blobs) = open(&options).await?;
    let admin_token = admin_token(&directory, &store).await?;
    let events = store.subscribe();
    let shared = Shared::new(store, blobs, options.analyzer, options.timings, access_url);
    background::start(&shared, events);
    if let Some(http) = http {
        shared.spawn("http", http::serve(shared.clone(), http));
    }
    let server = serve(server, &shared, grpc);
    let stop = shared.stopping.clone().drop_guard();
    Ok(Service {
        grpc_addr,
        http_addr,
        admin_token,
        shared,
        server,
        directory,
        _stop: stop,
    })
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

    /// The admin token of this queue, as written to `admin.token`.
    #[must_use]
    pub fn admin_token(&self) -> &Secret {
        &self.admin_token
    }

    /// Stops accepting, ends acquire streams with `none` ("restarting") and all other
    /// streams as unavailable, waits a bounded time for calls in flight, and closes the
    /// store. What is answered is durable; nothing else is lost by it.
    pub async fn shutdown(self) {
        self.shared.stopping.cancel();
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

/// Opens directory, store and blobs on a thread that may block.
async fn open(options: &Options) -> Result<(DataDir, Sqlite, Blobs<Sqlite>), Error> {
    let root = options.data_dir.clone();
    let timings = options.timings.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let directory = DataDir::open(&root)?;
        let database = directory.database();
        let store = Sqlite::open(&database, timings, TimeSource::System)
            .map_err(|error| Error::store(database, error))?;
        let path = directory.blobs();
        let blobs = Blobs::open(store.clone(), path.clone())
            .map_err(|source| Error::data_dir(&path, source))?;
        Ok((directory, store, blobs))
    });
    opened.await.map_err(Error::Panicked)?
}

/// The first token: read from its file, or made. A file that the operator deleted is
/// made anew, which is how a lost admin token comes back.
async fn admin_token(directory: &DataDir, store: &Sqlite) -> Result<Secret, Error> {
    let failed = |error| Error::store(directory.database(), error);
    let written = directory.admin_token()?;
    if let Some(token) = &written
        && store
            .find_token(hash(token))
            .await
            .map_err(failed)?
            .is_some()
    {
        return Ok(token.clone());
    }
    match store.delete_token(ADMIN.to_owned()).await {
        Ok(()) | Err(store::Error::NotFound { .. }) => {}
        Err(error) => return Err(failed(error)),
    }
    let token = Credential::Token.generate();
    directory.write_admin_token(&token)?;
    let row = NewToken {
        organization: None,
        name: ADMIN.to_owned(),
        owner: ADMIN.to_owned(),
        role: Role::Admin,
        hash: hash(&token),
    };
    store.create_token(row).await.map_err(failed)?;
    Ok(token)
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

fn serve(
    server: Server,
    shared: &Shared<Sqlite>,
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
