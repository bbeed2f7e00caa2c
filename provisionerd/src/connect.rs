//! Reaching the queue: a gRPC channel, who we are on every request, and which
//! failures are worth another try.
//!
//! Used by the daemon and by every client command. It never retries by itself; it
//! only says whether a retry can help.

mod dial;
mod tls;

use std::path::PathBuf;

use proto::limits;
use proto::secret::Secret;
use proto::timings;
use proto::v1::fleet_client::FleetClient;
use proto::v1::management_client::ManagementClient;
use tonic::codegen::http::Uri;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::telemetry;
use dial::Dial;
pub use tls::{ClientTls, system as system_tls};

/// Where the queue is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `http://…` or `https://…`.
    pub url: String,
    /// Used when the URL is `https`.
    pub tls: ClientTls,
}

/// The target cannot be used; found before anything is sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a URL.
    #[error("`{url}` is not a URL such as http://127.0.0.1:7080")]
    Url {
        /// As given.
        url: String,
    },
    /// A scheme we do not speak.
    #[error("`{url}` must begin with http:// or https://")]
    Scheme {
        /// As given.
        url: String,
    },
    /// TLS files for a connection without TLS.
    #[error("TLS files are given but `{url}` is not https")]
    TlsWithoutHttps {
        /// As given.
        url: String,
    },
    /// A certificate without its key or a key without its certificate.
    #[error("a client certificate needs both --tls-cert-file and --tls-key-file")]
    HalfIdentity,
    /// A TLS file cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No roots to judge the server by.
    #[error("no system root certificates found; give --tls-ca-file")]
    NoRoots,
    /// The files are no usable certificates.
    #[error("TLS is not usable with these files")]
    Tls(#[source] rustls::Error),
    /// A TLS file is not what it should be.
    #[error("{path} holds no PEM {what}", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A credential or name that no header can carry.
    #[error("{what} contains characters that a header cannot carry")]
    Header {
        /// Which one.
        what: &'static str,
    },
}

impl Target {
    /// A channel that dials when first used and dials again after a loss. It is one
    /// TCP connection; clones share it.
    ///
    /// # Errors
    /// The URL or the TLS files are unusable. Nothing has been sent.
    pub fn channel(&self) -> Result<Channel, Error> {
        let (endpoint, dial) = self.endpoint()?;
        Ok(match dial {
            Some(dial) => endpoint.connect_with_connector_lazy(dial),
            None => endpoint.connect_lazy(),
        })
    }

    /// How to speak, and with TLS how to dial.
    fn endpoint(&self) -> Result<(Endpoint, Option<Dial>), Error> {
        let url = self.url.clone();
        let uri: Uri = url.parse().map_err(|_| Error::Url { url })?;
        let url = self.url.clone();
        let (endpoint, dial) = match uri.scheme_str() {
            Some("http") if self.tls == ClientTls::default() => (Endpoint::from(uri), None),
            Some("http") => return Err(Error::TlsWithoutHttps { url }),
            Some("https") => {
                // Each dial reads the files; what is wrong with them now is told now.
                self.tls.config()?;
                let dial = Dial::new(&uri, self.tls.clone(), timings::KEEPALIVE)?;
                (behind_tls(&uri)?, Some(dial))
            }
            Some(_) => return Err(Error::Scheme { url }),
            None => return Err(Error::Url { url }),
        };
        let endpoint = endpoint
            .connect_timeout(timings::CONNECT)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(timings::KEEPALIVE))
            .http2_keep_alive_interval(timings::KEEPALIVE)
            .keep_alive_timeout(timings::KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        Ok((endpoint, dial))
    }
}

/// An endpoint that leaves TLS to the dial: it must not know of it, but say so to the queue.
fn behind_tls(uri: &Uri) -> Result<Endpoint, Error> {
    let unusable = |_| Error::Url {
        url: uri.to_string(),
    };
    let plain = uri.to_string().replacen("https://", "http://", 1);
    let plain: Uri = plain.parse().map_err(unusable)?;
    Ok(Endpoint::from(plain).origin(uri.clone()))
}

/// A channel on which every request says who asks.
pub type Authenticated = InterceptedService<Channel, Credentials>;

/// Who we are, as request metadata.
#[derive(Clone, Default)]
pub struct Credentials {
    pairs: Vec<(&'static str, MetadataValue<Ascii>)>,
}

impl Credentials {
    /// A client command: a token (none on a queue without accounts) and an organization.
    ///
    /// # Errors
    /// [`Error::Header`] for text that no header can carry.
    pub fn client(token: Option<&Secret>, organization: Option<&str>) -> Result<Self, Error> {
        let mut credentials = Self::default();
        if let Some(token) = token {
            credentials.bearer(token, "the token")?;
        }
        if let Some(organization) = organization {
            credentials.pair("x-organization", organization, "the organization")?;
        }
        Ok(credentials)
    }

    /// Makes jobs part of the trace that a pipeline handed down in its `environment`
    /// (`TRACEPARENT`, `TRACESTATE`; W3C trace context).
    #[must_use]
    pub fn traced(mut self, environment: impl Fn(&str) -> Option<String>) -> Self {
        for (variable, header) in [("TRACEPARENT", "traceparent"), ("TRACESTATE", "tracestate")] {
            // What no header can carry is no trace context.
            if let Some(text) = environment(variable) {
                let _ = self.pair(header, &text, variable);
            }
        }
        self
    }

    /// A daemon: its provisioner key, its name and the id of its data directory.
    ///
    /// # Errors
    /// [`Error::Header`] for text that no header can carry.
    pub fn daemon(key: &Secret, name: &str, instance: &str) -> Result<Self, Error> {
        let mut credentials = Self::default();
        credentials.bearer(key, "the provisioner key")?;
        credentials.pair("x-daemon-name", name, "the daemon's name")?;
        credentials.pair("x-daemon-instance", instance, "the instance id")?;
        Ok(credentials)
    }

    /// A fleet client on `channel` with the message limits of both sides.
    #[must_use]
    pub fn fleet(&self, channel: Channel) -> FleetClient<Authenticated> {
        FleetClient::with_interceptor(channel, self.clone())
            .max_decoding_message_size(limits::GRPC_MESSAGE)
            .max_encoding_message_size(limits::GRPC_MESSAGE)
    }

    /// A management client on `channel` with the message limits of both sides.
    #[must_use]
    pub fn management(&self, channel: Channel) -> ManagementClient<Authenticated> {
        ManagementClient::with_interceptor(channel, self.clone())
            .max_decoding_message_size(limits::GRPC_MESSAGE)
            .max_encoding_message_size(limits::GRPC_MESSAGE)
    }

    fn bearer(&mut self, secret: &Secret, what: &'static str) -> Result<(), Error> {
        let text = zeroize::Zeroizing::new(format!("Bearer {}", secret.expose()));
        self.pair("authorization", &text, what)?;
        if let Some((_, value)) = self.pairs.last_mut() {
            value.set_sensitive(true);
        }
        Ok(())
    }

    fn pair(&mut self, name: &'static str, text: &str, what: &'static str) -> Result<(), Error> {
        let value = text.parse().map_err(|_| Error::Header { what })?;
        self.pairs.push((name, value));
        Ok(())
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (name, value) in &self.pairs {
            request.metadata_mut().insert(*name, value.clone());
        }
        telemetry::inject(request.metadata_mut());
        Ok(request)
    }
}

/// Whether the same request may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The path or the queue is down for now: try again with backoff.
    Later,
    /// The queue understood and refused: the same request will be refused again.
    Never,
}

/// Judges a failed call. A status that the queue sent is judged by its code; one that
/// was made on our side of a broken connection carries a source and may come with any
/// code (a keepalive death is `Unknown`), so its source counts and not its code.
#[must_use]
pub fn retry(status: &Status) -> Retry {
    if std::error::Error::source(status).is_some() {
        return match status.code() {
            // Too large for either side's limit stays too large.
            Code::OutOfRange | Code::Unimplemented => Retry::Never,
            _ => Retry::Later,
        };
    }
    match status.code() {
        Code::Unavailable
        | Code::Unknown
        | Code::Internal
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::ResourceExhausted => Retry::Later,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => Retry::Never,
    }
}

/// Whether the queue misses a blob that a request names: it was put back to an older
/// backup since it had it, and can be given it again.
#[must_use]
pub fn misses_blob(status: &Status) -> bool {
    let code = status.metadata().get("x-error-code");
    code.is_some_and(|code| code.as_bytes() == b"BLOB_MISSING")
}

#[cfg(test)]
mod tests;
