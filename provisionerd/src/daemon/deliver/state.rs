//! The state of a finish on its way: sent as a blob, replaced by an older copy when it
//! cannot be, never a reason to hold up the ending.

use std::sync::atomic::Ordering;

use proto::limits;
use proto::v1::finish_job_request::Brought;
use proto::v1::{LocalCheckpoint, Outcome};
use tonic::Code;
use worker::job_dir::JobDir;

use super::super::backoff::Backoff;
use super::super::journal::{Journal, Past};
use super::super::{blobs, job, keep_lease, retained, verdict};
use super::{Parcel, Refused, locked_out};
use crate::connect::Retry;

impl Parcel {
    /// The bytes of a small state, for a queue that takes them with the finish. What cannot
    /// be read is told where the state is sent by itself.
    pub(super) async fn brought(&self) -> Option<Brought> {
        if !self.context.takes_states.load(Ordering::Relaxed) {
            return None;
        }
        let kept = self.kept.as_ref()?;
        let blob = kept.checkpoint.as_ref()?.blob.clone()?;
        if blob.size > limits::BLOB_INLINE as u64 {
            return None;
        }
        let (dir, file) = (self.dir.clone(), kept.file.clone());
        let encoding = self.context.encoding();
        let read = tokio::task::spawn_blocking(move || {
            let file = blobs::open_kept(&dir, &file, &blob)?;
            blobs::brought(file, &blob, encoding)
        });
        read.await.ok()?.ok()
    }

    /// The state is at the queue after this, or an older one takes its place.
    ///
    /// # Errors
    /// The key was revoked: then nothing can be sent, and nothing is given up.
    pub(super) async fn put_state(&mut self) -> Result<(), Refused> {
        while let Some(kept) = self.kept.clone() {
            let (context, lease) = (self.context.clone(), self.lease.clone());
            let mut counter = self.heartbeat;
            let put = keep_lease::during(&context, &lease, &mut counter, self.put(&kept)).await;
            self.heartbeat = counter;
            match put {
                Ok(()) => return Ok(()),
                Err(blobs::Error::Queue(status)) if locked_out(&status) => {
                    return Err(Refused::Key);
                }
                Err(error) => self.fall_back(&kept, &error).await,
            }
        }
        Ok(())
    }

    /// A state that cannot be sent never holds up the ending: the newest older copy that
    /// is whole takes its place, or none.
    async fn fall_back(&mut self, lost: &LocalCheckpoint, error: &blobs::Error) {
        let why = job::chain(error);
        tracing::error!(
            job.id = self.lease.job_id,
            file = lost.file,
            error = why,
            "a state cannot be sent; an older copy takes its place"
        );
        let (dir, lost) = (self.dir.clone(), lost.clone());
        let found = tokio::task::spawn_blocking(move || older(&dir, &lost)).await;
        let (past, older) = found.unwrap_or_default();
        let told = verdict::from_ledger(&past.ledger, older.as_ref());
        let finish = &mut self.finish;
        finish.state = told.state;
        finish.unconfirmed = told.unconfirmed;
        finish.extraction = None;
        if finish.outcome() == Outcome::Succeeded || finish.error.is_none() {
            finish.error = Some(verdict::state_unsent(&why));
        }
        if finish.outcome() == Outcome::Succeeded {
            finish.set_outcome(Outcome::Failed);
        }
        retained::mark(&self.dir, &self.lease, &self.fate, finish);
        self.kept = older;
    }

    async fn put(&self, kept: &LocalCheckpoint) -> Result<(), blobs::Error> {
        let mut backoff = Backoff::new(&self.context.options.timings);
        let mut told = false;
        loop {
            let kept = (kept, self.context.how());
            match blobs::ship(&self.context.bulk, &self.lease, &self.dir, kept).await {
                Err(error) if error.retry() == Retry::Later => {
                    if no_room(&error) && !std::mem::replace(&mut told, true) {
                        tracing::warn!(job.id = self.lease.job_id, error = %error,
                            "the queue has no room for this state; it stays on disk and is sent again");
                    }
                    tracing::debug!(error = %error, "the state's transfer is tried again");
                    tokio::time::sleep(backoff.step()).await;
                }
                Err(blobs::Error::Queue(status))
                    if locked_out(&status) && !self.context.is_revoked() =>
                {
                    tokio::time::sleep(self.context.options.timings.reconnect_max).await;
                }
                ended => return ended,
            }
        }
    }
}

/// Whether somebody has to make room at the queue.
fn no_room(error: &blobs::Error) -> bool {
    matches!(error, blobs::Error::Queue(status) if status.code() == Code::ResourceExhausted)
}

/// What the journal says, and the newest whole copy in it that was told before `lost`.
fn older(dir: &JobDir, lost: &LocalCheckpoint) -> (Past, Option<LocalCheckpoint>) {
    let past = Journal::read(&dir.journal()).unwrap_or_default();
    // The state of the ending is told a second time, as its last record.
    let end = past.checkpoints.iter().position(|kept| kept == lost);
    let before = &past.checkpoints[..end.unwrap_or(past.checkpoints.len())];
    let whole = |kept: &&LocalCheckpoint| blobs::check_kept(dir, kept).is_ok();
    let older = before.iter().rev().find(whole).cloned();
    (past, older)
}
