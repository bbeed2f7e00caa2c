//! A running queue: made by [`start`], ended by [`Service::shutdown`].
//!
//! Everything that can fail for the person who starts it fails before anything is
//! served: directory, lock, store, TLS files, addresses.

pub(crate) mod files;
mod open;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use proto::limits;
use proto::secret::Secret;
use proto::timings;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Server;

use crate::background;
use crate::blobs::Used;
use crate::data_dir::DataDir;
use crate::error::Error;
use crate::guard;
use crate::http;
use crate::listen;
use crate::listen::accept::{Door, accept};
use crate::listen::places::{Most, Places};
use crate::listen::tls::Certificates;
use crate::options::{Database, Options};
use crate::shared::{Shared, Told};
use crate::store::Store;

/// How long calls in flight may go on once the queue stops.
const DRAIN: Duration = Duration::from_secs(5);

/// A queue that listens and works until it is shut down.
#[derive(Debug)]
pub struct Service {
    grpc_addr: SocketAddr,
    http_addr: Option<SocketAddr>,
    admin_token: Option<Secret>,
    shared: Box<dyn Running>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    directory: DataDir,
    certificates: Option<Arc<Certificates>>,
    /// A service that is dropped without `shutdown` stops as well, without waiting.
    _stop: DropGuard,
}

/// Opens the store, binds the listeners and starts to serve.
///
/// # Errors
/// One clear reason: directory, lock, disk, address, TLS files.
pub async fn start(options: Options) -> Result<Service, Error> {
    listen::check_plain(&options)?;
    files::raise();
    let certificates = match options.tls.clone() {
        Some(files) => Some(Arc::new(Certificates::load(files).await?)),
        None => None,
    };
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
        certificates,
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
    certificates: Option<Arc<Certificates>>,
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
    let path = open::blob_dir(&options, &directory);
    let blobs = open::blobs(&store, path, used).await?;
    let blobs = blobs.with_stall(options.edge.stall);
    let admin_token = open::admin_token(&directory, &store, used).await?;
    let events = store.subscribe();
    let edge = options.edge.clone();
    let told = Told {
        access_url: access_url(&options, bound.grpc_addr),
        analyzer: options.analyzer,
        timings: options.timings,
        retention: options.retention,
        places: Places::new(Most {
            connections: files::connections(edge.connections),
            per_address: edge.connections_per_address,
            handshakes: limits::HANDSHAKES_PER_ADDRESS,
        }),
        edge: options.edge,
        stopping: CancellationToken::new(),
    };
    let shared = Shared::new(store, blobs, told);
    background::start(&shared, events);
    if let Some(http) = bound.http {
        shared.spawn("http", http::serve(shared.clone(), http));
    }
    if let Some(certificates) = bound.certificates.clone() {
        shared.spawn(
            "watch TLS files",
            certificates.watch(shared.stopping.clone()),
        );
    }
    let door = Door {
        places: shared.places.clone(),
        certificates: bound.certificates.clone(),
        handshake: edge.handshake,
        introduction: edge.introduction,
        stopping: shared.stopping.clone(),
    };
    let server = serve(&shared, bound.grpc, door);
    let stop = shared.stopping.clone().drop_guard();
    Ok(Service {
        grpc_addr: bound.grpc_addr,
        http_addr: bound.http_addr,
        admin_token,
        shared: Box::new(shared),
        server,
        directory,
        certificates: bound.certificates,
        _stop: stop,
    })
}

/// Where browsers and agents reach the queue, if nobody said otherwise: where it listens.
fn access_url(options: &Options, address: SocketAddr) -> String {
    let scheme = if options.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let given = options.access_url.clone();
    given.unwrap_or_else(|| format!("{scheme}://{address}"))
}

/// What of [`Shared`] does not depend on its store.
trait Running: std::fmt::Debug + Send + Sync {
    fn stopping(&self) -> &CancellationToken;
    /// See [`Store::closed`].
    fn store_closed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
    fn finished(&self, limit: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

impl<S: Store> Running for Shared<S> {
    fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    fn store_closed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.store.closed())
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

    /// Reads the TLS files again, which is also done when they change: from the next
    /// handshake on they count. Without TLS there is nothing to read. Cancel safe.
    ///
    /// # Errors
    /// They cannot be used; the old ones stay.
    pub async fn reload(&self) -> Result<(), Error> {
        match &self.certificates {
            Some(certificates) => Ok(certificates.reload().await?),
            None => Ok(()),
        }
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
        // Both are cancel safe.
        let ended = tokio::select! {
            ended = &mut self.server => ended,
            () = self.shared.store_closed() => return Err(Error::StoreEnded),
        };
        match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::Server(error)),
            Err(join) => Err(Error::Panicked(join)),
        }
    }
}

fn serve<S: Store>(
    shared: &Shared<S>,
    listener: TcpListener,
    door: Door,
) -> JoinHandle<Result<(), tonic::transport::Error>> {
    let router = Server::builder()
        .http2_keepalive_interval(Some(timings::KEEPALIVE))
        .http2_keepalive_timeout(Some(timings::KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(limits::HEADERS)
        .max_concurrent_streams(limits::STREAMS)
        .add_service(guard::fleet(shared))
        .add_service(guard::management(shared));
    let (incoming, accepting) = accept(listener, door);
    shared.spawn_vital("accept connections", accepting);
    let stopping = shared.stopping.clone();
    tokio::spawn(async move {
        router
            .serve_with_incoming_shutdown(incoming, async move { stopping.cancelled().await })
            .await
    })
}

fn local_addr(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, Error> {
    listener
        .local_addr()
        .map_err(|source| Error::Listen { address, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue whose store's thread has panicked.
    #[derive(Debug, Default)]
    struct Broken(CancellationToken);

    impl Running for Broken {
        fn stopping(&self) -> &CancellationToken {
            &self.0
        }

        fn store_closed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            Box::pin(std::future::ready(()))
        }

        fn finished(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            Box::pin(std::future::ready(()))
        }
    }

    #[tokio::test]
    async fn a_store_that_broke_ends_the_queue() {
        let dir = tempfile::tempdir().expect("a directory");
        let broken = Broken::default();
        let stop = broken.0.clone().drop_guard();
        let mut service = Service {
            grpc_addr: ([127, 0, 0, 1], 0).into(),
            http_addr: None,
            admin_token: None,
            shared: Box::new(broken),
            server: tokio::spawn(std::future::pending()),
            certificates: None,
            directory: DataDir::open(dir.path()).expect("a data directory"),
            _stop: stop,
        };
        let ended = service.wait().await.expect_err("nothing can be stored");
        assert!(matches!(ended, Error::StoreEnded), "{ended:?}");
    }
}
