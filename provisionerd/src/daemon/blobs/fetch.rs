//! A blob on its way from the queue to the disk.

use std::path::Path;

use proto::ids::Digest;
use proto::limits;
use proto::transport::Transport;
use proto::v1::{BlobRef, GetBlobPartRequest, GetBlobRequest};
use sha2::Digest as _;
use tokio::io::AsyncWriteExt as _;
use tonic::Status;

use super::parts::elsewhere;
use super::{Client, Error, Lease, in_time};

/// A blob on its way to the disk. Kept between tries, so that a broken transfer goes
/// on where it stopped.
pub struct Fetch {
    blob: BlobRef,
    digest: Digest,
    hasher: sha2::Sha256,
    received: u64,
    file: tokio::fs::File,
    fresh: std::path::PathBuf,
    target: std::path::PathBuf,
}

impl Fetch {
    /// Begins to fetch `blob` to `target`, under a temporary name beside it.
    ///
    /// # Errors
    /// The reference is over the limit, or the disk refuses.
    pub async fn begin(blob: &BlobRef, target: &Path) -> Result<Self, Error> {
        let digest = Digest::try_from(blob.sha256.as_ref()).map_err(|_| Error::Name)?;
        if blob.size > limits::BLOB {
            return Err(Error::TooLarge {
                size: blob.size,
                limit: limits::BLOB,
            });
        }
        let fresh = target.with_extension("part");
        let file = tokio::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)
            .await?;
        Ok(Self {
            blob: blob.clone(),
            digest,
            hasher: sha2::Sha256::new(),
            received: 0,
            file,
            fresh,
            target: target.to_owned(),
        })
    }

    /// Takes what is missing. After an error worth a retry it may be called again, by
    /// another transport too.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn go_on(
        &mut self,
        client: &Client,
        lease: &Lease,
        by: Transport,
    ) -> Result<(), Error> {
        match by {
            Transport::Streams => self.stream(client, lease).await?,
            Transport::Unary => self.take_parts(client, lease).await?,
        }
        if self.received < self.blob.size {
            return Err(Status::unavailable("the transfer ended early").into());
        }
        self.complete().await
    }

    async fn stream(&mut self, client: &Client, lease: &Lease) -> Result<(), Error> {
        let request = GetBlobRequest {
            sha256: self.blob.sha256.clone(),
            offset: self.received,
            job_id: lease.job_id.clone(),
            lease_id: lease.lease_id.clone(),
        };
        let mut chunks = client.clone().get_blob(request).await?.into_inner();
        // A stream that is held back for ever is tried again by what works then.
        while let Some(chunk) = in_time(chunks.message()).await? {
            self.take(&chunk.data).await?;
        }
        Ok(())
    }

    async fn take(&mut self, data: &[u8]) -> Result<(), Error> {
        self.received += u64::try_from(data.len()).unwrap_or(u64::MAX);
        if self.received > self.blob.size {
            return Err(self.damaged());
        }
        self.hasher.update(data);
        self.file.write_all(data).await?;
        Ok(())
    }

    async fn complete(&mut self) -> Result<(), Error> {
        self.file.flush().await?;
        let arrived = Digest::from_array(self.hasher.clone().finalize().into());
        if arrived != self.digest {
            return Err(self.damaged());
        }
        tokio::fs::rename(&self.fresh, &self.target).await?;
        Ok(())
    }

    fn damaged(&self) -> Error {
        Error::Damaged {
            digest: self.digest.to_string(),
        }
    }

    /// Part by part, until nothing more comes.
    async fn take_parts(&mut self, client: &Client, lease: &Lease) -> Result<(), Error> {
        let mut client = client.clone();
        while self.received < self.blob.size {
            let request = GetBlobPartRequest {
                sha256: self.blob.sha256.clone(),
                offset: self.received,
                job_id: lease.job_id.clone(),
                lease_id: lease.lease_id.clone(),
            };
            let answered = in_time(client.get_blob_part(request)).await;
            let part = answered.map_err(elsewhere)?.into_inner();
            if part.data.is_empty() {
                return Ok(());
            }
            self.take(&part.data).await?;
        }
        Ok(())
    }
}
