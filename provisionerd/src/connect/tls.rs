//! The client's side of TLS: whom it trusts and who it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tonic::transport::{Certificate, ClientTlsConfig};

use super::Error;

/// Where distributions keep their root certificates, in the order they are tried
/// after `SSL_CERT_FILE`.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Files that make a TLS client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Roots to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Client certificate chain, for mTLS.
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
}

impl ClientTls {
    /// Reads the files. Blocks on the disk.
    ///
    /// # Errors
    /// One cannot be read, is no PEM, or half an identity is given.
    pub(super) fn config(&self) -> Result<ClientConfig, Error> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(Error::Tls)?;
                }
            }
            // Distributions ship roots that not every library takes.
            None => {
                let bytes = system_roots()?;
                let system = CertificateDer::pem_slice_iter(&bytes).flatten();
                roots.add_parsable_certificates(system.collect::<Vec<_>>());
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_root_certificates(roots);
        let mut config = match (&self.cert_file, &self.key_file) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => builder
                .with_client_auth_cert(certificates(cert)?, private_key(key)?)
                .map_err(Error::Tls)?,
            (Some(_), None) | (None, Some(_)) => return Err(Error::HalfIdentity),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// The system's roots, for other services than the queue.
///
/// # Errors
/// There are none.
pub fn system() -> Result<ClientTlsConfig, Error> {
    let roots = Certificate::from_pem(system_roots()?);
    Ok(ClientTlsConfig::new().ca_certificate(roots))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    found
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| Error::Pem {
            path: path.to_owned(),
            what: "certificate",
        })
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let bytes = zeroize::Zeroizing::new(read(path)?);
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| Error::Pem {
        path: path.to_owned(),
        what: "private key",
    })
}

fn system_roots() -> Result<Vec<u8>, Error> {
    if let Some(path) = std::env::var_os("SSL_CERT_FILE") {
        return read(Path::new(&path));
    }
    SYSTEM_ROOTS
        .iter()
        .find_map(|path| std::fs::read(path).ok())
        .ok_or(Error::NoRoots)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}
