//! Blobs in short calls, each of which brings or takes one part. The queue keeps what it
//! was given, so a broken transfer goes on where it stopped.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use proto::limits;
use proto::v1::put_blob_part_request::Part;
use proto::v1::{BlobRef, PutBlobHeader, PutBlobPartRequest};
use tonic::{Code, Status};

use super::{Client, Encoding, Error, Lease, in_time};

/// How often in a row the queue may say the same of what it has.
const STANDS_STILL: u32 = 3;

/// A replica of an older release does not know parts; the next try may meet another.
pub(super) fn elsewhere(status: Status) -> Status {
    match status.code() {
        Code::Unimplemented => Status::unavailable("this replica knows no parts of blobs"),
        _ => status,
    }
}

/// Sends a file of which the queue may have a part. Idempotent.
///
/// # Errors
/// See [`Error`].
pub async fn put(
    client: &Client,
    lease: &Lease,
    blob: &BlobRef,
    (file, encoding): (File, Encoding),
) -> Result<(), Error> {
    let header = PutBlobHeader {
        blob: Some(blob.clone()),
        job_id: lease.job_id.clone(),
        lease_id: lease.lease_id.clone(),
    };
    let parts = Parts {
        client,
        header,
        size: blob.size,
        file: Arc::new(file),
        encoding,
    };
    match parts.send().await {
        // What it had of it was torn, by a power cut for example, and is gone now.
        Err(Error::Queue(status)) if is_mismatch(&status) => parts.send().await,
        ended => ended,
    }
}

struct Parts<'c> {
    client: &'c Client,
    header: PutBlobHeader,
    size: u64,
    file: Arc<File>,
    encoding: Encoding,
}

impl Parts<'_> {
    async fn send(&self) -> Result<(), Error> {
        // What comes in more than one part may be there in part: asked first.
        let mut at = match self.size > limits::BLOB_PART as u64 {
            true => self.part(0, None).await?,
            false => 0,
        };
        let mut still = 0;
        while at < self.size {
            let part = self.read(at).await?;
            let has = self.part(at, Some(part)).await?;
            still = if has == at { still + 1 } else { 0 };
            if still >= STANDS_STILL {
                return Err(Status::unavailable("the queue takes no more of it").into());
            }
            at = has;
        }
        Ok(())
    }

    /// Sends one; how many bytes the queue has then.
    async fn part(&self, offset: u64, part: Option<Part>) -> Result<u64, Error> {
        let request = PutBlobPartRequest {
            header: Some(self.header.clone()),
            offset,
            part,
        };
        let mut client = self.client.clone();
        let reply = in_time(client.put_blob_part(request)).await?;
        Ok(reply.into_inner().received)
    }

    async fn read(&self, at: u64) -> Result<Part, Error> {
        let left = usize::try_from(self.size - at).unwrap_or(usize::MAX);
        let (file, encoding) = (Arc::clone(&self.file), self.encoding);
        let reading = tokio::task::spawn_blocking(move || {
            let mut data = vec![0; left.min(limits::BLOB_PART)];
            file.read_exact_at(&mut data, at)?;
            let packed = encoding.packer()?.map(|mut packer| packer.compress(&data));
            Ok::<_, io::Error>(match packed.transpose()? {
                Some(frame) if frame.len() < data.len() => Part::Zstd(frame.into()),
                Some(_) | None => Part::Data(data.into()),
            })
        });
        Ok(reading.await.map_err(io::Error::other)??)
    }
}

fn is_mismatch(status: &Status) -> bool {
    let code = status.metadata().get("x-error-code");
    code.is_some_and(|code| code.as_bytes() == b"BLOB_MISMATCH")
}
