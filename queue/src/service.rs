//! A running queue: made by [`start`], ended by [`Service::shutdown`].
//!
//! Everything that can fail for the person who starts it fails before anything is
//! served: directory, lock, store, TLS files, addresses.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use proto::credential::{Credential, hash};
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
use crate::blobs::{Blobs, Used, place};
use crate::data_dir::DataDir;
use crate::error::Error;
use crate::fleet::FleetService;
use crate::http;
use crate::listen;
use crate::management::ManagementService;
use crate::options::{Database, Options};
use crate::shared::Shared;
use crate::store::model::{NewToken, Role};
use crate::store::postgres::{self, Postgres};
use crate::store::sqlite::{self, Sqlite};
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
            let (directory, store) = open_embedded(&options).await?;
            begin(options, bound, directory, store, Used::Alone).await
        }
        Database::Postgres(database) => {
            let (directory, store) = open_shared(&options, &database).await?;
            let path = blob_dir(&options, &directory);
            check_place(&store, path).await?;
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
    let path = blob_dir(&options, &directory);
    let blobs = open_blobs(&store, path, used).await?;
    let admin_token = admin_token(&directory, &store, used).await?;
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

/// Opens directory and store on a thread that may block.
async fn open_embedded(options: &Options) -> Result<(DataDir, Sqlite), Error> {
    let root = options.data_dir.clone();
    let timings = options.timings.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let directory = DataDir::open(&root)?;
        let database = directory.database();
        let store = Sqlite::open(&database, timings, sqlite::TimeSource::System)
            .map_err(|error| Error::store(database, error))?;
        Ok((directory, store))
    });
    opened.await.map_err(Error::Panicked)?
}

/// The directory holds only what is this replica's own.
async fn open_shared(
    options: &Options,
    database: &postgres::Options,
) -> Result<(DataDir, Postgres), Error> {
    let root = options.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || DataDir::open(&root));
    let directory = opened.await.map_err(Error::Panicked)??;
    let timings = options.timings.clone();
    let store = Postgres::open(database, timings, postgres::TimeSource::Server);
    Ok((directory, store.await.map_err(Error::Database)?))
}

fn blob_dir(options: &Options, directory: &DataDir) -> PathBuf {
    let given = options.blob_dir.clone();
    given.unwrap_or_else(|| directory.blobs())
}

/// Refuses a directory that holds the blobs of another database, or none of this one's.
async fn check_place(store: &Postgres, path: PathBuf) -> Result<(), Error> {
    let asked = path.clone();
    let found = tokio::task::spawn_blocking(move || place::id(&asked));
    let found = found.await.map_err(Error::Panicked)?;
    let own = found.map_err(|source| Error::data_dir(&path, source))?;
    let known = store.blob_place(own.clone()).await;
    let known = known.map_err(|error| Error::Database(postgres::OpenError::Store(error)))?;
    if known == own {
        Ok(())
    } else {
        Err(Error::BlobPlace { path })
    }
}

async fn open_blobs<S: Store>(store: &S, path: PathBuf, used: Used) -> Result<Blobs<S>, Error> {
    let store = store.clone();
    let opened = tokio::task::spawn_blocking(move || {
        Blobs::open(store, path.clone(), used).map_err(|source| Error::data_dir(&path, source))
    });
    opened.await.map_err(Error::Panicked)?
}

/// The first token: read from its file, or made.
async fn admin_token<S: Store>(
    directory: &DataDir,
    store: &S,
    used: Used,
) -> Result<Option<Secret>, Error> {
    let failed = |error| match used {
        Used::Alone => Error::store(directory.database(), error),
        Used::ByReplicas => Error::Database(postgres::OpenError::Store(error)),
    };
    let written = directory.admin_token()?;
    if let Some(token) = &written
        && store
            .find_token(hash(token))
            .await
            .map_err(failed)?
            .is_some()
    {
        return Ok(written);
    }
    match used {
        // A file that the operator deleted is made anew, which is how a lost admin token
        // comes back.
        Used::Alone => {
            match store.delete_token(ADMIN.to_owned()).await {
                Ok(()) | Err(store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
            let token = Credential::Token.generate();
            directory.write_admin_token(&token)?;
            store.create_token(admin(&token)).await.map_err(failed)?;
            Ok(Some(token))
        }
        // The first replica makes it, by its file if it has one, and the others leave
        // it alone.
        Used::ByReplicas => {
            let token = written.unwrap_or_else(|| Credential::Token.generate());
            directory.write_admin_token(&token)?;
            match store.create_token(admin(&token)).await {
                Ok(_) => Ok(Some(token)),
                Err(store::Error::Exists { .. }) => {
                    directory.remove_admin_token()?;
                    Ok(None)
                }
                Err(error) => Err(failed(error)),
            }
        }
    }
}

fn admin(token: &Secret) -> NewToken {
    NewToken {
        organization: None,
        name: ADMIN.to_owned(),
        owner: ADMIN.to_owned(),
        role: Role::Admin,
        hash: hash(token),
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
