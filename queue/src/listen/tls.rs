//! The certificates of the gRPC port, which may change while it is served.
//!
//! The files are read at the start, whenever their bytes have changed, and on request. Files
//! that make no TLS server change nothing: what was in use stays in use, since a replaced
//! chain is there before its key. Connections that stand keep what they were made with.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use proto::ids::Digest;
use proto::timings;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::options::TlsFiles;
use crate::refusal::chain;

/// Why the files make no TLS server.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// One cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// One is not what it should be.
    #[error("{path} holds no PEM {what}")]
    Pem {
        /// Which.
        path: PathBuf,
        /// Certificate or private key.
        what: &'static str,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// Chain and key do not belong together, or cannot be used.
    #[error("certificate and private key cannot be used together")]
    Identity(#[source] rustls::Error),
    /// The CA of the clients cannot be used.
    #[error("no client can be verified by {path}")]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: VerifierBuilderError,
    },
}

/// Whether a look at the files brought something new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// The same bytes as before.
    Same,
    /// Other bytes, in use from the next handshake on.
    New,
}

/// The files and what they say. Shared by the listener and whoever asks for a reload.
#[derive(Debug)]
pub struct Certificates {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
    /// Of the bytes that were judged last, so that bad ones are told about once.
    judged: Mutex<Digest>,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// They make no TLS server.
    pub async fn load(files: TlsFiles) -> Result<Self, Problem> {
        let bytes = Bytes::read(&files).await?;
        let config = bytes.config(&files)?;
        Ok(Self {
            current: RwLock::new(Arc::new(config)),
            judged: Mutex::new(bytes.digest()),
            files,
        })
    }

    /// For the next handshake.
    pub fn current(&self) -> Arc<ServerConfig> {
        let current = self.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again. Cancel safe.
    ///
    /// # Errors
    /// Bytes that were not judged before and make no TLS server; nothing has changed.
    pub async fn look(&self) -> Result<Look, Problem> {
        let bytes = Bytes::read(&self.files).await?;
        let digest = bytes.digest();
        let before = {
            let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *judged, digest)
        };
        if before == digest {
            return Ok(Look::Same);
        }
        self.replace(bytes.config(&self.files)?);
        Ok(Look::New)
    }

    /// Reads the files again and judges them, whatever was thought of them before. Cancel
    /// safe.
    ///
    /// # Errors
    /// They make no TLS server; nothing has changed.
    pub async fn reload(&self) -> Result<(), Problem> {
        let bytes = Bytes::read(&self.files).await?;
        self.replace(bytes.config(&self.files)?);
        *self.judged.lock().unwrap_or_else(PoisonError::into_inner) = bytes.digest();
        Ok(())
    }

    fn replace(&self, config: ServerConfig) {
        let current = self.current.write();
        *current.unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// Looks at the files until the queue stops.
    pub async fn watch(self: Arc<Self>, stopping: CancellationToken) {
        let mut missing = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(timings::TLS_FILES) => {}
                () = stopping.cancelled() => return,
            }
            match self.look().await {
                Ok(Look::Same) => missing = false,
                Ok(Look::New) => {
                    missing = false;
                    tracing::info!("the TLS files have changed and are in use");
                }
                // A file that is away stays away for many looks.
                Err(Problem::Read { .. }) if missing => {}
                Err(problem) => {
                    missing = matches!(problem, Problem::Read { .. });
                    tracing::warn!(
                        error = %chain(&problem),
                        "the TLS files have changed and cannot be used; the old ones stay"
                    );
                }
            }
        }
    }
}

/// What the files held at one time.
struct Bytes {
    cert: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

impl Bytes {
    async fn read(files: &TlsFiles) -> Result<Self, Problem> {
        Ok(Self {
            cert: read(&files.cert).await?,
            key: read(&files.key).await?.into(),
            client_ca: match &files.client_ca {
                Some(path) => Some(read(path).await?),
                None => None,
            },
        })
    }

    fn digest(&self) -> Digest {
        let parts = [
            Digest::of(&self.cert),
            Digest::of(&self.key),
            Digest::of(self.client_ca.as_deref().unwrap_or_default()),
        ];
        let joined: Vec<u8> = parts.iter().flat_map(|part| *part.as_bytes()).collect();
        Digest::of(&joined)
    }

    fn config(&self, files: &TlsFiles) -> Result<ServerConfig, Problem> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(Problem::Identity)?;
        let builder = match (&self.client_ca, &files.client_ca) {
            (Some(bytes), Some(path)) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(bytes, path)? {
                    roots.add(certificate).map_err(Problem::Identity)?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|source| Problem::ClientCa {
                            path: path.clone(),
                            source,
                        })?;
                builder.with_client_cert_verifier(verifier)
            }
            (_, None) | (None, Some(_)) => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|source| Problem::Pem {
            path: files.key.clone(),
            what: "private key",
            source,
        })?;
        let mut config = builder
            .with_single_cert(certificates(&self.cert, &files.cert)?, key)
            .map_err(Problem::Identity)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn certificates(bytes: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let problem = |source| Problem::Pem {
        path: path.to_owned(),
        what: "certificate",
        source,
    };
    match found {
        Ok(found) if found.is_empty() => Err(problem(pem::Error::NoItemsFound)),
        found => found.map_err(problem),
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    tokio::fs::read(path).await.map_err(|source| Problem::Read {
        path: path.to_owned(),
        source,
    })
}
