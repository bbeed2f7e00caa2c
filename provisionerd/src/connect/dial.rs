//! Dials over TLS. The certificate files are read at each dial, so that a renewed
//! certificate or a new authority counts from the next connection on, without a restart.
//! Files that are not usable at that moment fail the one dial; the next one reads them again.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::http::Uri;
use tonic::codegen::{BoxFuture, Service, StdError};

use super::{ClientTls, Error};

/// One queue, reached over TLS.
#[derive(Debug, Clone)]
pub struct Dial {
    tls: ClientTls,
    host: String,
    port: u16,
    name: ServerName<'static>,
    keepalive: Duration,
}

impl Dial {
    /// The host of `uri` and its port, 443 by default.
    ///
    /// # Errors
    /// It names no host that a certificate could be for.
    pub fn new(uri: &Uri, tls: ClientTls, keepalive: Duration) -> Result<Self, Error> {
        let url = || Error::Url {
            url: uri.to_string(),
        };
        let host = uri.host().ok_or_else(url)?;
        // RFC 3986 writes IPv6 in brackets, nobody else does.
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| url())?;
        Ok(Self {
            tls,
            host,
            port: uri.port_u16().unwrap_or(443),
            name,
            keepalive,
        })
    }

    async fn dial(self) -> Result<TlsStream<TcpStream>, StdError> {
        let tls = self.tls;
        let config = tokio::task::spawn_blocking(move || tls.config()).await??;
        let stream = TcpStream::connect((&*self.host, self.port)).await?;
        stream.set_nodelay(true)?;
        set_socket_keepalive(&stream, true)?;
        set_tcp_keepidle(&stream, self.keepalive)?;
        let connector = TlsConnector::from(Arc::new(config));
        Ok(connector.connect(self.name, stream).await?)
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = StdError;
    type Future = BoxFuture<Self::Response, StdError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move { Ok(TokioIo::new(dial.dial().await?)) })
    }
}
