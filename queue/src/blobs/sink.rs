//! Takes the bytes of one put: small ones in memory, where the row will have them, others
//! into their file. Bytes reach the disk in large pieces, however small they come.

use bytes::Bytes;
use proto::ids::Digest;
use proto::limits;

use super::places::{Caller, Place};
use super::write::{self, Incoming};
use super::{Blobs, Error, Put};
use crate::store::Store;
use crate::store::model::{BlobContent, BlobId, Holder, NewBlob};

/// See the module.
pub struct Sink<S> {
    blobs: Blobs<S>,
    id: BlobId,
    target: Target,
}

/// Whether a sink wants more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It does.
    Taken,
    /// It has failed; `finish` says why.
    Refused,
}

enum Target {
    Small(Vec<u8>),
    File(Box<Writing>),
    Failed(Error),
}

struct Writing {
    incoming: Incoming,
    /// Not on the disk yet.
    waiting: Vec<u8>,
    _place: Place,
}

impl<S: Store> Sink<S> {
    pub(super) async fn begin(blobs: Blobs<S>, id: BlobId, caller: Caller) -> Result<Self, Error> {
        let target = if id.size <= limits::BLOB_INLINE as u64 {
            Target::Small(Vec::new())
        } else {
            let place = blobs.places.take(caller).await;
            let directory = blobs.directory.clone();
            let creating = blobs
                .places
                .on_disk(move || Incoming::create(&directory, id));
            Target::File(Box::new(Writing {
                incoming: creating.await?,
                waiting: Vec::new(),
                _place: place,
            }))
        };
        Ok(Self { blobs, id, target })
    }

    /// Takes the next bytes; an error is told by [`Sink::finish`]. Not cancel safe.
    pub async fn push(&mut self, bytes: Bytes) -> Pushed {
        match &mut self.target {
            Target::Small(held) => {
                let received = held.len() as u64 + bytes.len() as u64;
                match write::fits(self.id, received) {
                    Ok(()) => held.extend_from_slice(&bytes),
                    Err(error) => self.target = Target::Failed(error),
                }
            }
            Target::File(writing) => {
                writing.waiting.extend_from_slice(&bytes);
                if writing.waiting.len() >= limits::BLOB_CHUNK {
                    self.flush().await;
                }
            }
            Target::Failed(_) => {}
        }
        match &self.target {
            Target::Small(_) | Target::File(_) => Pushed::Taken,
            Target::Failed(_) => Pushed::Refused,
        }
    }

    /// Checks size and digest, makes the bytes durable and then known.
    ///
    /// # Errors
    /// Not the announced bytes, no room, disk or store trouble; nothing is stored then.
    pub async fn finish(mut self, holder: Holder) -> Result<Put, Error> {
        self.flush().await;
        match self.target {
            Target::Failed(error) => Err(error),
            Target::Small(bytes) => {
                write::check(self.id, bytes.len() as u64, Digest::of(&bytes))?;
                let content = BlobContent::Inline(bytes);
                insert(&self.blobs, self.id, content, holder).await
            }
            Target::File(writing) => {
                // Until the row is there, so that no sweep takes the file.
                let seal = self.blobs.sealing.begin().await;
                let _seal = seal.map_err(Error::io("write"))?;
                let places = &self.blobs.places;
                places.on_disk(move || writing.incoming.seal()).await?;
                insert(&self.blobs, self.id, BlobContent::File, holder).await
            }
        }
    }

    /// Brings what waits to the disk.
    async fn flush(&mut self) {
        let taken = std::mem::replace(&mut self.target, Target::Small(Vec::new()));
        let Target::File(mut writing) = taken else {
            self.target = taken;
            return;
        };
        let written = self.blobs.places.on_disk(move || {
            writing.incoming.write(&writing.waiting)?;
            writing.waiting.clear();
            Ok(writing)
        });
        self.target = match written.await {
            Ok(writing) => Target::File(writing),
            Err(error) => Target::Failed(error),
        };
    }
}

pub(super) async fn insert<S: Store>(
    blobs: &Blobs<S>,
    id: BlobId,
    content: BlobContent,
    holder: Holder,
) -> Result<Put, Error> {
    let blob = NewBlob::new(id, content);
    let new = blobs.store.insert_blob(blob, holder).await;
    Ok(if new.map_err(Error::Store)? {
        Put::Stored
    } else {
        Put::Known
    })
}
