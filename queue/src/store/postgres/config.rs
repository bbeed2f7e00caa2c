//! From a `postgres://` URL to connections, with TLS or a reason why not.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::NoTls;
use tokio_postgres::config::{Config, Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long one connection may take to stand.
const CONNECT: Duration = Duration::from_secs(5);

/// A dead path is noticed within half a minute also where nothing is sent.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// See [`KEEPALIVE_IDLE`].
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// See [`KEEPALIVE_IDLE`].
const KEEPALIVE_RETRIES: u32 = 3;

/// Bytes sent and not acknowledged for this long end a connection.
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// How `pg_stat_activity` shows us.
const NAME: &str = "provisionerd";

/// Why a URL cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a URL of PostgreSQL. The URL holds a password and is not repeated.
    #[error("the database URL cannot be read")]
    Url(#[source] tokio_postgres::Error),
    /// Traffic and password would travel in the clear.
    #[error("the connection to the database on {host} would not be encrypted")]
    Plain {
        /// Where the server is.
        host: String,
    },
    /// TLS was asked for and nothing says whom to trust.
    #[error("the database URL asks for TLS, and no authority to trust was given")]
    NoAuthority,
    /// The authorities cannot be read.
    #[error("{path} does not hold PEM certificates that can be used")]
    Authority {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Url(_) => "write postgres://USER:PASSWORD@HOST:PORT/DATABASE",
            Self::Plain { .. } => {
                "give --database-ca-file, or add ?sslmode=disable when the network is yours alone"
            }
            Self::NoAuthority | Self::Authority { .. } => {
                "give --database-ca-file with the PEM certificate of the server's authority"
            }
        }
    }
}

/// A way to the server.
#[derive(Clone)]
pub struct Way {
    /// Where and as whom.
    pub config: Config,
    /// How.
    pub tls: Tls,
}

/// How bytes travel.
#[derive(Clone)]
pub enum Tls {
    /// As they are.
    Plain(NoTls),
    /// Encrypted, to a server whose name an authority vouches for.
    Verified(MakeRustlsConnect),
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The configuration holds a password.
        f.debug_struct("Way").finish_non_exhaustive()
    }
}

/// Reads a URL; `ca` holds the authorities that may vouch for the server.
///
/// # Errors
/// Not a URL, or it would be neither local nor encrypted.
pub fn way(url: &str, ca: Option<&Path>) -> Result<Way, Error> {
    let mut config: Config = url.parse().map_err(Error::Url)?;
    config.connect_timeout(CONNECT);
    config.keepalives_idle(KEEPALIVE_IDLE);
    config.keepalives_interval(KEEPALIVE_INTERVAL);
    config.keepalives_retries(KEEPALIVE_RETRIES);
    config.tcp_user_timeout(USER_TIMEOUT);
    if config.get_application_name().is_none() {
        config.application_name(NAME);
    }
    let tls = match (ca, config.get_ssl_mode()) {
        (Some(path), _) => {
            config.ssl_mode(SslMode::Require);
            Tls::Verified(verified(path)?)
        }
        (None, SslMode::Disable) => Tls::Plain(NoTls),
        (None, SslMode::Prefer) => {
            config.ssl_mode(SslMode::Disable);
            stays_here(&config)?;
            Tls::Plain(NoTls)
        }
        (None, _) => return Err(Error::NoAuthority),
    };
    Ok(Way { config, tls })
}

/// Refuses a server that is not on this machine.
fn stays_here(config: &Config) -> Result<(), Error> {
    for host in config.get_hosts() {
        let Host::Tcp(name) = host else { continue };
        let local = match name.parse::<std::net::IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => name == "localhost",
        };
        if !local {
            return Err(Error::Plain { host: name.clone() });
        }
    }
    Ok(())
}

fn verified(path: &Path) -> Result<MakeRustlsConnect, Error> {
    let unusable = |source| Error::Authority {
        path: path.to_owned(),
        source,
    };
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.into()))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| unusable(error.into()))?;
        roots
            .add(certificate)
            .map_err(|error| unusable(error.into()))?;
    }
    if roots.is_empty() {
        return Err(unusable("it holds none".into()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.into()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_on_this_machine_is_spoken_to_in_the_clear_unasked() {
        for url in [
            "postgres://u:p@127.0.0.1:5432/d",
            "postgres://u:p@localhost/d",
            "postgres://u@%2Fvar%2Frun%2Fpostgresql/d",
            "postgres://u:p@db.example/d?sslmode=disable",
        ] {
            assert!(way(url, None).is_ok(), "{url}");
        }
        let refused = way("postgres://u:p@db.example/d", None).expect_err("plain");
        assert!(matches!(refused, Error::Plain { host } if host == "db.example"));
        let refused = way("postgres://u:p@db.example/d?sslmode=require", None).expect_err("no CA");
        assert!(matches!(refused, Error::NoAuthority));
    }

    #[test]
    fn a_refused_url_is_not_repeated_with_its_password() {
        let refused = way("postgres://u:secret@h:not-a-port/d", None).expect_err("a port");
        let mut text = refused.to_string();
        let mut next = std::error::Error::source(&refused);
        while let Some(error) = next {
            text.push_str(&error.to_string());
            next = error.source();
        }
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let refused = way("postgres://u:p@db.example/d", Some(file.path())).expect_err("empty");
        assert!(refused.to_string().contains("does not hold"), "{refused}");
    }
}
