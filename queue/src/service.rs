//! A running queue: made by [`start`], ended by [`Service::shutdown`].

use std::net::SocketAddr;

use proto::secret::Secret;

use crate::error::Error;
use crate::options::Options;

/// A queue that listens and works until it is shut down.
#[derive(Debug)]
pub struct Service {
    grpc_addr: SocketAddr,
    http_addr: Option<SocketAddr>,
    admin_token: Secret,
}

/// Opens the store, binds the listeners and starts to serve.
///
/// # Errors
/// One clear reason: directory, lock, disk, address, TLS files.
#[allow(clippy::unused_async)]
pub async fn start(_options: Options) -> Result<Service, Error> {
    unimplemented!()
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

    /// Stops accepting, ends acquire streams with `none` ("restarting"), waits a
    /// bounded time for calls in flight, commits and closes the store.
    #[allow(clippy::unused_async)]
    pub async fn shutdown(self) {
        unimplemented!()
    }

    /// Returns when the queue has ended by itself, which is always an error.
    ///
    /// # Errors
    /// Why it ended. Cancel safe.
    #[allow(clippy::unused_async)]
    pub async fn wait(&mut self) -> Result<(), Error> {
        unimplemented!()
    }
}
